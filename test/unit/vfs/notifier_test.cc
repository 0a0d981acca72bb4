// Notifications wait for locks of the kernel; who waits for one lock holds up nobody who needs another.
#include "vfs/notifier.h"

#include <boost/test/unit_test.hpp>
#include <set>
#include <thread>

#include "vfs/limits.h"

using namespace efs;

namespace {

// A kernel whose locks the test holds.
struct Kernel : KernelCache {
  std::mutex mutex;
  std::condition_variable changed;
  std::set<uint64_t> locked;  // directories, for their names
  std::vector<std::string> told;

  void tell(bool waits, uint64_t lock_of, std::string what) {
    std::unique_lock lock(mutex);
    if (waits) changed.wait(lock, [&] { return !locked.contains(lock_of); });
    told.push_back(std::move(what));
    changed.notify_all();
  }
  void forget_inode(uint64_t node, bool) override { tell(false, node, "inode " + std::to_string(node)); }
  void forget_entry(uint64_t parent, const std::string& name) override { tell(true, parent, name); }
  bool wait_for(size_t count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(10), [&] { return told.size() >= count; });
  }
  void unlock(uint64_t directory) {
    std::lock_guard lock(mutex);
    locked.erase(directory);
    changed.notify_all();
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(notifier)

BOOST_AUTO_TEST_CASE(news_of_one_directory_goes_in_order) {
  Kernel kernel;
  Notifier notifier(kernel);
  for (int i = 0; i < 100; ++i) notifier.entry(1, std::to_string(i), [] {});
  BOOST_REQUIRE(kernel.wait_for(100));
  for (size_t i = 0; i < 100; ++i) BOOST_TEST(kernel.told[i] == std::to_string(i));
}

// Two mounts that wait for each other's acknowledgements in one place would else hang over another.
BOOST_AUTO_TEST_CASE(news_that_waits_for_a_lock_holds_up_no_other) {
  Kernel kernel;
  Notifier notifier(kernel);
  constexpr uint64_t kLocked = 20;
  for (uint64_t directory = 1; directory <= kLocked; ++directory) kernel.locked.insert(directory);
  std::atomic<int> forgotten{0};
  for (uint64_t directory = 1; directory <= kLocked; ++directory) {
    notifier.entry(directory, "locked", [&] { ++forgotten; });
    notifier.entry(directory, "locked too");
    notifier.entry(100 + directory, "free");
    notifier.inode(directory, true);
  }
  BOOST_REQUIRE(kernel.wait_for(2 * kLocked));
  BOOST_TEST(forgotten == 0);
  for (uint64_t directory = 1; directory <= kLocked; ++directory) kernel.unlock(directory);
  BOOST_REQUIRE(kernel.wait_for(4 * kLocked));
  notifier.stop();
  BOOST_TEST(forgotten == int(kLocked));
}

BOOST_AUTO_TEST_CASE(an_inode_has_news_until_it_is_told) {
  Kernel kernel;
  Notifier notifier(kernel);
  std::mutex hold;
  hold.lock();
  BOOST_TEST(!notifier.pending(7));
  notifier.inode(7, true, [&] { std::lock_guard wait(hold); });
  BOOST_TEST(notifier.pending(7));
  BOOST_TEST(!notifier.pending(8));
  hold.unlock();
  for (int i = 0; notifier.pending(7) && i < 10'000; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  BOOST_TEST(!notifier.pending(7));
}

BOOST_AUTO_TEST_CASE(who_waits_is_answered_when_it_stops_and_when_it_is_full) {
  Kernel kernel;
  Notifier notifier(kernel);
  kernel.locked.insert(1);
  std::atomic<size_t> answered{0};
  for (size_t i = 0; i < kNotifications + 10; ++i) notifier.entry(1, "name", [&] { ++answered; });
  BOOST_TEST(answered >= 10u);
  BOOST_TEST(notifier.overflows() >= 10u);
  kernel.unlock(1);
  notifier.stop();
  BOOST_TEST(answered == kNotifications + 10);
  notifier.inode(2, false, [&] { ++answered; });
  BOOST_TEST(answered == kNotifications + 11);
}

BOOST_AUTO_TEST_SUITE_END()
