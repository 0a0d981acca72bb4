// The second ESTALE of one call is ENOENT.
#include "vfs/stale_answers.h"

#include <boost/test/unit_test.hpp>

namespace efs {
namespace {

BOOST_AUTO_TEST_SUITE(stale_answers)

BOOST_AUTO_TEST_CASE(twice_in_one_call) {
  StaleAnswers answers;
  int64_t now = 5 * kSecond;
  BOOST_TEST(!answers.told(77, now));
  BOOST_TEST(!answers.again(77, now));
  BOOST_TEST(answers.told(77, now));
  BOOST_TEST(!answers.told(78, now));
  BOOST_TEST(!answers.again(78, now));  // another thread
  BOOST_TEST(answers.again(77, now + kMillisecond));
  BOOST_TEST(!answers.again(77, now + 2 * kMillisecond));  // the next call is told anew
  answers.went_well(77);
  BOOST_TEST(!answers.again(77, now + 3 * kMillisecond));
  answers.went_well(79);
  BOOST_TEST(answers.again(77, now + 4 * kMillisecond));
  BOOST_TEST(!answers.again(77, now + 5 * kMillisecond));
  BOOST_TEST(!answers.again(77, now + 5 * kMillisecond + 2 * kStaleMemory));  // too long ago
}

// A program that only looks at a file which others replace: each of its calls is told ESTALE once, and finds
// it.
BOOST_AUTO_TEST_CASE(a_call_that_found_what_is_held_is_over) {
  StaleAnswers answers;
  int64_t now = 5 * kSecond;
  for (int call = 0; call < 3; ++call) {
    BOOST_TEST(!answers.again(77, now));
    for (int lookup = 0; lookup < 2; ++lookup) {
      BOOST_TEST(answers.told(77, now));
      answers.held(77, now);
    }
    now += kSameCall + kMillisecond;
  }
  BOOST_TEST(!answers.again(77, now));
  answers.held(77 + 256, now);  // another thread's
  BOOST_TEST(answers.again(77, now));
  BOOST_TEST(!answers.again(77, now));
  answers.held(77, now);
  BOOST_TEST(answers.again(77, now + kMillisecond));  // another part of the same path
}

BOOST_AUTO_TEST_CASE(the_clock_of_milliseconds_wraps) {
  StaleAnswers answers;
  const int64_t late = ((int64_t(1) << 32) - 1) * kMillisecond;
  BOOST_TEST(!answers.again(77, late));
  BOOST_TEST(answers.again(77, late + 2 * kMillisecond));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
