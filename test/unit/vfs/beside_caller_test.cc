// Which processor a thread that serves runs on: its caller's, while that one alone asks.
#include "vfs/beside_caller.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <thread>
#include <vector>

namespace efs {
namespace {

std::vector<int> allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> all;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (CPU_ISSET(processor, &set)) all.push_back(processor);
  }
  return all;
}

// A program that stays on one processor.
class Caller {
 public:
  explicit Caller(int processor) {
    thread_ = std::thread([this, processor] {
      cpu_set_t only;
      CPU_ZERO(&only);
      CPU_SET(processor, &only);
      sched_setaffinity(0, sizeof only, &only);
      id_ = gettid();
      while (!end_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    while (id_ == 0) std::this_thread::yield();
  }
  ~Caller() {
    end_ = true;
    thread_.join();
  }
  pid_t id() const { return id_; }

 private:
  std::atomic<pid_t> id_{0};
  std::atomic<bool> end_{false};
  std::thread thread_;
};

// Where the caller runs another thread finds out, a moment after it was asked to.
void asks(BesideCaller& beside, const Caller& caller, size_t processors) {
  for (int i = 0; i < 2000; ++i) {
    beside.asked_by(caller.id());
    if (i % 3 == 0) beside.asked_by(0);  // what nobody asked for changes nothing
    if (i > 100 && allowed_processors().size() == processors) break;
    if (i > 100) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

BOOST_AUTO_TEST_CASE(who_serves_one_program_runs_beside_it) {
  const auto processors = allowed_processors();
  if (processors.size() < 2) return;  // there is nothing to choose
  for (const int processor : {processors[0], processors[1]}) {
    Caller caller(processor);
    BesideCaller beside(true);
    asks(beside, caller, 1);
    BOOST_TEST(allowed_processors() == std::vector{processor}, boost::test_tools::per_element());
    beside.apart();
    BOOST_TEST(allowed_processors() == processors, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(who_serves_several_runs_where_it_likes) {
  const auto processors = allowed_processors();
  if (processors.size() < 2) return;
  Caller one(processors[0]), other(processors[1]);
  BesideCaller beside(true), off(false);
  for (int i = 0; i < 100; ++i) {
    beside.asked_by(i % 2 == 0 ? one.id() : other.id());
    off.asked_by(one.id());
    BOOST_TEST(allowed_processors() == processors, boost::test_tools::per_element());
  }
  asks(beside, one, 1);
  BOOST_TEST(allowed_processors().size() == 1u);
  std::vector<int> of_a_child;  // a thread that is begun meanwhile is not kept there
  std::thread([&] { of_a_child = allowed_processors(); }).join();
  BOOST_TEST(of_a_child == processors, boost::test_tools::per_element());
  beside.asked_by(other.id());
  BOOST_TEST(allowed_processors() == processors, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_caller_that_is_gone_is_not_followed) {
  const auto processors = allowed_processors();
  pid_t gone = 0;
  {
    Caller caller(processors.front());
    gone = caller.id();
  }
  BesideCaller beside(true);
  for (int i = 0; i < 100; ++i) {
    beside.asked_by(gone);
    if (i % 10 == 9) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  BOOST_TEST(allowed_processors() == processors, boost::test_tools::per_element());
}

}  // namespace
}  // namespace efs
