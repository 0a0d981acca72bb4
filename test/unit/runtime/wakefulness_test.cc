// How long who waits looks before it sleeps.
#include "peer/runtime/wakefulness.h"

#include <boost/test/unit_test.hpp>

#include "test/unit/manual_clock.h"

namespace efs {
namespace {

using test::ManualClock;

struct Fixture {
  ManualClock clock;
  double running = 1;
  Wakefulness wakefulness{clock, 50 * kMicrosecond, Crowd(2, [this] { return running; })};

  // Looks every microsecond, in vain, until it sleeps: how long that took.
  int64_t looks_for() {
    const int64_t since_ns = clock.now;
    while (wakefulness.awake()) {
      clock.now += kMicrosecond;
      wakefulness.found_nothing();
    }
    return clock.now - since_ns;
  }
  int64_t found_after(int64_t slept_ns) {
    clock.now += slept_ns;
    wakefulness.found();
    return looks_for();
  }
};

BOOST_FIXTURE_TEST_CASE(it_sleeps_after_its_patience, Fixture) {
  BOOST_TEST(!wakefulness.awake());
  BOOST_TEST(found_after(kSecond) == 50 * kMicrosecond);
  BOOST_TEST(found_after(kSecond) == 50 * kMicrosecond);
}

BOOST_FIXTURE_TEST_CASE(what_comes_keeps_it_awake, Fixture) {
  wakefulness.found();
  for (int i = 0; i < 100; ++i) {
    clock.now += 49 * kMicrosecond;
    wakefulness.found_nothing();
    BOOST_TEST(wakefulness.awake());
    wakefulness.found();
  }
  BOOST_TEST(looks_for() == 50 * kMicrosecond);
}

BOOST_FIXTURE_TEST_CASE(who_slept_for_a_moment_looks_for_longer, Fixture) {
  BOOST_TEST(found_after(kSecond) == 50 * kMicrosecond);
  BOOST_TEST(found_after(151 * kMicrosecond) == 50 * kMicrosecond);  // 201 after the last
  BOOST_TEST(found_after(150 * kMicrosecond) == 200 * kMicrosecond);
  for (int i = 0; i < 3; ++i) {  // and goes on so, as long as it need not sleep
    wakefulness.found();
    clock.now += 190 * kMicrosecond;
    wakefulness.found_nothing();
    BOOST_TEST(wakefulness.awake());
  }
  wakefulness.found();
  BOOST_TEST(looks_for() == 200 * kMicrosecond);
  BOOST_TEST(found_after(kMicrosecond) == 50 * kMicrosecond);  // it came later than that
}

BOOST_FIXTURE_TEST_CASE(in_a_crowd_it_sleeps_at_once, Fixture) {
  running = 8;
  BOOST_TEST(found_after(kSecond) == 0);
  running = 1;
  BOOST_TEST(found_after(2 * kMillisecond) == 0);  // on average it is still full
  BOOST_TEST(found_after(kSecond) == 50 * kMicrosecond);
}

BOOST_FIXTURE_TEST_CASE(what_runs_for_a_moment_is_no_crowd, Fixture) {
  running = 2;
  BOOST_TEST(found_after(kSecond) == 50 * kMicrosecond);
  for (int i = 0; i < 100; ++i) {
    running = i % 10 == 0 ? 6 : 2;
    BOOST_TEST(found_after(2 * kMillisecond) == 50 * kMicrosecond);
  }
  running = 8;
  int counts = 0;
  while (found_after(2 * kMillisecond) != 0) BOOST_REQUIRE(++counts < 8);
}

BOOST_AUTO_TEST_CASE(without_patience_it_sleeps) {
  ManualClock clock;
  Wakefulness wakefulness(clock, 0);
  wakefulness.found();
  BOOST_TEST(!wakefulness.awake());
}

}  // namespace
}  // namespace efs
