// The real loop: posting, timers, pool work, signals, and what is dropped when it closes.
#include <signal.h>
#include <sys/eventfd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <thread>

#include "peer/base/descriptor.h"
#include "peer/runtime/real.h"

namespace efs {
namespace {

struct Fixture {
  RealRuntime real{RealOptions{.log_level = LogLevel::error}};
  Loop& loop = real.runtime().loop;
  const Clock& clock = loop.clock();
};

struct Counter : Watched {
  explicit Counter(Loop& its_loop) : loop(its_loop) { BOOST_REQUIRE(counter.valid()); }
  // From any thread: only one may report to the test. looked_at tells what came.
  void add() { static_cast<void>(eventfd_write(counter.get(), 1)); }
  int descriptor() const override { return counter.get(); }
  void look() override {
    eventfd_t added = 0;
    BOOST_TEST(eventfd_read(counter.get(), &added) == 0);
    looked_at += int(added);
    if (enough == 0 || looked_at < enough) return;
    loop.unwatch(*this);
    if (then) then();
  }
  void before_sleep() override { ++slept; }
  void leave() override {
    ++left;
    loop.unwatch(*this);
  }
  Loop& loop;
  Descriptor counter{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  int enough = 0, looked_at = 0, slept = 0, left = 0;
  std::function<void()> then;
};

BOOST_FIXTURE_TEST_CASE(what_is_watched_wakes_the_loop_that_sleeps, Fixture) {
  auto counter = std::make_shared<Counter>(loop);
  loop.post([&] { loop.watch(counter); });
  std::thread adder([&] {
    for (int i = 0; i < 3; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the loop sleeps by then
      counter->add();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    real.stop();
  });
  real.run();
  adder.join();
  BOOST_TEST(counter->looked_at == 3);
  BOOST_TEST(counter->slept >= 1);
  BOOST_TEST(counter->left == 1);
}

BOOST_FIXTURE_TEST_CASE(what_is_watched_no_more_is_left_alone_until_it_is_again, Fixture) {
  auto counter = std::make_shared<Counter>(loop);
  counter->enough = 1;
  int before = 0;
  loop.post([&] {
    loop.watch(counter);
    counter->add();
  });
  loop.after(20 * kMillisecond, [&] { counter->add(); });
  loop.after(40 * kMillisecond, [&] {
    before = counter->looked_at;
    counter->then = [&] { real.stop(); };
    loop.watch(counter);
  });
  real.run();
  BOOST_TEST(before == 1);
  BOOST_TEST(counter->looked_at == 2);
  BOOST_TEST(counter->left == 0);
}

BOOST_FIXTURE_TEST_CASE(posts_of_many_threads_keep_their_order, Fixture) {
  constexpr int kThreads = 8, kPosts = 20000;
  std::vector<int> last(kThreads, -1);
  int total = 0;
  bool ordered = true, on_loop = true;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kPosts; ++i) {
        loop.post([&, thread, i] {
          ordered = ordered && last[thread] == i - 1;
          on_loop = on_loop && loop.on_thread();
          last[thread] = i;
          if (++total == kThreads * kPosts) real.stop();
        });
      }
    });
  }
  real.run();
  for (auto& thread : threads) thread.join();
  BOOST_CHECK(ordered);
  BOOST_CHECK(on_loop);
  BOOST_CHECK_EQUAL(total, kThreads * kPosts);
}

BOOST_FIXTURE_TEST_CASE(a_task_never_runs_inside_post, Fixture) {
  std::vector<int> order;
  loop.post([&] {
    loop.post([&] {
      order.push_back(2);
      real.stop();
    });
    order.push_back(1);
  });
  real.run();
  BOOST_CHECK((order == std::vector{1, 2}));
  loop.post([&] { order.push_back(3); });
  real.stop();
  real.run();  // goes on where it stopped
  BOOST_CHECK((order == std::vector{1, 2, 3}));
}

BOOST_FIXTURE_TEST_CASE(timers_run_in_order_and_never_early, Fixture) {
  std::vector<int> order;
  bool early = false;
  auto timer = [&](int64_t delay_ns, int name) {
    int64_t due = clock.now_ns() + delay_ns;
    return loop.after(delay_ns, [&, name, due] {
      early = early || clock.now_ns() < due;
      order.push_back(name);
    });
  };
  timer(30 * kMillisecond, 3);
  timer(10 * kMillisecond, 1);
  TimerId cancelled = timer(15 * kMillisecond, 9);
  timer(20 * kMillisecond, 2);
  timer(-5, 0);
  TimerId cancelled_late = timer(25 * kMillisecond, 8);
  loop.after(18 * kMillisecond, [&] { loop.cancel(cancelled_late); });
  loop.cancel(cancelled);
  loop.cancel(cancelled);
  loop.cancel(0);
  loop.after(40 * kMillisecond, [&] { real.stop(); });
  loop.after(kHour, [&] { order.push_back(7); });
  real.run();
  BOOST_CHECK((order == std::vector{0, 1, 2, 3}));
  BOOST_CHECK(!early);
}

BOOST_FIXTURE_TEST_CASE(a_timer_goes_with_its_owner, Fixture) {
  int ran = 0;
  auto owned = std::make_unique<Timer>(loop);
  owned->start(kMillisecond, [&] { ran += 1; });
  owned.reset();
  Timer restarted(loop);
  restarted.start(kMillisecond, [&] { ran += 10; });
  restarted.start(2 * kMillisecond, [&] {
    ran += 100;
    BOOST_CHECK(!restarted.running());
    restarted.start(kMillisecond, [&] { real.stop(); });
  });
  real.run();
  BOOST_CHECK_EQUAL(ran, 100);
}

BOOST_FIXTURE_TEST_CASE(work_runs_on_the_pool_then_on_the_loop, Fixture) {
  std::atomic<int> jobs = 0;
  int done = 0;
  std::atomic<bool> job_on_loop = false;
  for (int i = 0; i < 100; ++i) {
    loop.work(
        [&] {
          if (loop.on_thread()) job_on_loop = true;
          ++jobs;
        },
        [&] {
          BOOST_CHECK(loop.on_thread());
          if (++done == 100) real.stop();
        });
  }
  real.run();
  BOOST_CHECK_EQUAL(jobs.load(), 100);
  BOOST_CHECK_EQUAL(done, 100);
  BOOST_CHECK(!job_on_loop);
}

BOOST_AUTO_TEST_CASE(closing_drops_tasks_and_runs_jobs) {
  std::atomic<int> jobs = 0;
  int dropped = 0;
  struct Witness {
    int& count;
    Loop& loop;
    ~Witness() {
      ++count;
      loop.post([] { BOOST_ERROR("a closed loop ran a task"); });
    }
  };
  {
    RealRuntime real(RealOptions{});
    Loop& loop = real.runtime().loop;
    auto witness = [&] { return std::make_shared<Witness>(dropped, loop); };
    loop.post([&, w = witness()] { BOOST_ERROR("ran"); });
    loop.after(0, [&, w = witness()] { BOOST_ERROR("ran"); });
    loop.work([&] { ++jobs; }, [&, w = witness()] { BOOST_ERROR("ran"); });
  }
  BOOST_CHECK_EQUAL(jobs.load(), 1);
  BOOST_CHECK_EQUAL(dropped, 3);
}

BOOST_FIXTURE_TEST_CASE(signals_reach_the_loop, Fixture) {
  std::vector<int> seen;
  real.on_signal([&](int number) {
    seen.push_back(number);
    BOOST_CHECK(loop.on_thread());
    if (seen.size() == 1) raise(SIGTERM);
    if (seen.size() == 2) real.stop();
  });
  loop.post([] { raise(SIGHUP); });
  real.run();
  BOOST_CHECK((seen == std::vector{SIGHUP, SIGTERM}));
}

BOOST_AUTO_TEST_CASE(clocks_and_randomness) {
  const Clock& clock = real_clock();
  int64_t first = clock.now_ns();
  BOOST_CHECK(clock.now_ns() >= first);
  BOOST_CHECK(clock.wall_ns() > 1'600'000'000 * kSecond);
  BOOST_CHECK(real_random().u64() != real_random().u64());
  BOOST_CHECK(real_random().below(10) < 10);
}

BOOST_AUTO_TEST_CASE(log_levels) {
  BOOST_CHECK(parse_log_level("warning") == LogLevel::warning);
  BOOST_CHECK(!parse_log_level("loud"));
  auto logger = make_stderr_logger(LogLevel::warning);
  BOOST_CHECK(!logger->enabled(LogLevel::info));
  BOOST_CHECK(logger->enabled(LogLevel::error));
}

}  // namespace
}  // namespace efs
