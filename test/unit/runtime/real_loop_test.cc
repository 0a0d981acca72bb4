// The real loop: posting, timers, pool work, signals, and what is dropped when it closes.
#include <signal.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <thread>

#include "peer/runtime/real.h"

namespace efs {
namespace {

struct Fixture {
  RealRuntime real{RealOptions{.log_level = LogLevel::error}};
  Loop& loop = real.runtime().loop;
  const Clock& clock = loop.clock();
};

BOOST_FIXTURE_TEST_CASE(what_is_watched_is_looked_at_until_the_loop_sleeps, Fixture) {
  struct Other : Watched {
    bool look() override {
      ++looks;
      if (looks == 1) its_loop->post([this] { posted = true; });
      return looks == 1;
    }
    void leave() override { ++left; }
    Loop* its_loop = nullptr;
    int looks = 0, left = 0;
    bool posted = false;
  };
  auto other = std::make_shared<Other>();
  other->its_loop = &loop;
  loop.post([&] {
    loop.watch(other);
    loop.watch(other);
    loop.after(20 * kMillisecond, [&] { real.stop(); });
  });
  real.run();
  BOOST_TEST(other->looks >= 1);
  BOOST_TEST(other->posted);
  BOOST_TEST(other->left == 1);
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
