// The queue of timers and events, against a model.
#include "peer/runtime/event_queue.h"

#include <boost/test/unit_test.hpp>
#include <map>
#include <random>

namespace efs {
namespace {

BOOST_AUTO_TEST_CASE(queue_follows_a_model) {
  std::mt19937_64 random(7);
  EventQueue<int> queue;
  std::map<std::pair<int64_t, int>, uint64_t> model;  // (time, order of adding or moving) -> id
  std::map<uint64_t, std::pair<std::pair<int64_t, int>, int>> by_id;
  std::vector<uint64_t> gone;
  int order = 0;
  for (int step = 0; step < 200000; ++step) {
    uint64_t choice = random() % 10;
    if (choice < 5) {
      int64_t time = int64_t(random() % 1000);
      uint64_t id = queue.add(time, order);
      BOOST_REQUIRE(id != 0);
      BOOST_REQUIRE(!by_id.count(id));
      by_id[id] = {{time, order}, order};
      model[{time, order++}] = id;
    } else if (choice < 7 && !by_id.empty()) {
      auto victim = by_id.lower_bound(random());
      if (victim == by_id.end()) victim = by_id.begin();
      auto removed = queue.remove(victim->first);
      BOOST_REQUIRE(removed);
      BOOST_REQUIRE_EQUAL(*removed, victim->second.second);
      model.erase(victim->second.first);
      gone.push_back(victim->first);
      by_id.erase(victim);
    } else if (choice < 8 && !by_id.empty()) {
      auto moved = by_id.begin();
      int64_t time = int64_t(random() % 1000);
      BOOST_REQUIRE(queue.move(moved->first, time));
      model.erase(moved->second.first);
      moved->second.first = {time, order++};
      model[moved->second.first] = moved->first;
    } else if (!model.empty()) {
      auto first = model.begin();
      BOOST_REQUIRE_EQUAL(queue.next_time(), first->first.first);
      BOOST_REQUIRE_EQUAL(queue.next_id(), first->second);
      BOOST_REQUIRE_EQUAL(queue.pop(), by_id[first->second].second);
      gone.push_back(first->second);
      by_id.erase(first->second);
      model.erase(first);
    }
    BOOST_REQUIRE_EQUAL(queue.size(), model.size());
    if (!gone.empty()) {
      uint64_t id = gone[random() % gone.size()];
      BOOST_REQUIRE(!queue.remove(id));
      BOOST_REQUIRE(!queue.move(id, 0));
    }
  }
  BOOST_CHECK(!queue.remove(0));
  BOOST_CHECK_EQUAL(queue.take_all().size(), model.size());
  BOOST_CHECK(queue.empty());
}

}  // namespace
}  // namespace efs
