// What sequential reading fetches before it is asked for, and that other reading fetches nothing.
#include "vfs/read_ahead.h"

#include <boost/test/unit_test.hpp>
#include <random>
#include <set>

#include "vfs/limits.h"

namespace efs {
namespace {

constexpr uint64_t kSize = 256 * kPieceBytes;
constexpr uint64_t kPage = 4096;

struct Fixture {
  std::atomic<uint64_t> budget{0};
  ReadAhead reading{budget};
  std::vector<ReadAhead::PiecePtr> held;  // as one that reads holds what it waits for
  std::set<uint64_t> fetched;             // pieces

  // Whether it was left to be read as it is.
  bool read(uint64_t offset, uint64_t length, uint64_t size = kSize) {
    auto plan = reading.on_read(offset, length, size);
    for (const auto& piece : plan.fetches) {
      BOOST_TEST(piece->offset % kPieceBytes == 0u);
      BOOST_TEST(fetched.insert(piece->offset / kPieceBytes).second);
    }
    if (!plan.direct) {
      BOOST_REQUIRE(!plan.needed.empty());
      BOOST_TEST(plan.needed.front()->offset <= offset);
      BOOST_TEST(plan.needed.back()->offset + kPieceBytes >= std::min(offset + length, size));
    }
    held = plan.needed;
    return plan.direct;
  }
};

BOOST_AUTO_TEST_SUITE(read_ahead)

BOOST_FIXTURE_TEST_CASE(reads_in_order_fetch_each_piece_once_and_ahead, Fixture) {
  BOOST_TEST(read(0, kPieceBytes / 8));
  for (uint64_t at = kPieceBytes / 8; at < kSize; at += kPieceBytes / 8) {
    BOOST_TEST(!read(at, kPieceBytes / 8));
    BOOST_TEST(fetched.contains(at / kPieceBytes));
  }
  BOOST_TEST(fetched.size() == kSize / kPieceBytes);
}

BOOST_FIXTURE_TEST_CASE(the_window_stays_small_while_pieces_come_in_time, Fixture) {
  read(0, kPieceBytes);
  for (uint64_t at = kPieceBytes; at < 32 * kPieceBytes; at += kPieceBytes) {
    auto plan = reading.on_read(at, kPieceBytes, kSize);
    for (const auto& piece : plan.fetches) piece->ready = true;
    BOOST_TEST(plan.fetches.size() <= 2u);
  }
}

BOOST_FIXTURE_TEST_CASE(the_window_grows_to_its_bound_while_reads_wait, Fixture) {
  uint64_t most = 0;
  read(0, kPieceBytes);
  for (uint64_t at = kPieceBytes; at < 32 * kPieceBytes; at += kPieceBytes) {
    read(at, kPieceBytes);
    most = std::max(most, *fetched.rbegin() - at / kPieceBytes);
  }
  BOOST_TEST(most == kReadAheadPieces);
}

BOOST_FIXTURE_TEST_CASE(large_reads_may_come_out_of_order, Fixture) {
  read(0, kPieceBytes);
  for (uint64_t at = kPieceBytes; at < 32 * kPieceBytes; at += 2 * kPieceBytes) {
    BOOST_TEST(!read(at + kPieceBytes, kPieceBytes));
    BOOST_TEST(!read(at, kPieceBytes));
  }
}

BOOST_FIXTURE_TEST_CASE(the_kernels_first_small_reads_of_a_file_are_in_order, Fixture) {
  BOOST_TEST(read(0, 4 * kPage));
  uint64_t at = 4 * kPage;
  for (uint64_t length = 8 * kPage; at < 4 * kPieceBytes; length = std::min(2 * length, kPieceBytes)) {
    BOOST_TEST(!read(at, length));
    at += length;
  }
}

BOOST_FIXTURE_TEST_CASE(small_reads_here_and_there_fetch_nothing, Fixture) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 4000; ++i) read(random() % (kSize / kPage) * kPage, kPage);
  BOOST_TEST(fetched.size() <= 8u);  // where two fell beside each other
}

BOOST_FIXTURE_TEST_CASE(small_reads_within_one_piece_fetch_nothing, Fixture) {
  for (int i = 0; i < 100; ++i) BOOST_TEST(read(kPieceBytes + uint64_t(i * 37 % 256) * kPage, kPage));
}

BOOST_FIXTURE_TEST_CASE(nothing_is_fetched_behind_the_end, Fixture) {
  constexpr uint64_t kShort = 3 * kPieceBytes + 10;
  for (uint64_t at = 0; at < kShort; at += kPieceBytes) read(at, kPieceBytes, kShort);
  BOOST_TEST(fetched == (std::set<uint64_t>{1, 2, 3}), boost::test_tools::per_element());
  BOOST_TEST(read(kShort, kPage, kShort));
}

BOOST_FIXTURE_TEST_CASE(what_was_read_ahead_is_dropped_at_once, Fixture) {
  for (uint64_t at = 0; at < 8 * kPieceBytes; at += kPieceBytes) read(at, kPieceBytes);
  BOOST_TEST(budget > kPieceBytes);
  held.clear();
  reading.reset();
  BOOST_TEST(budget == 0u);
  BOOST_TEST(read(8 * kPieceBytes, kPieceBytes));  // it begins anew
}

BOOST_FIXTURE_TEST_CASE(a_mount_without_room_fetches_only_what_is_needed, Fixture) {
  budget = kReadAheadMountBytes;
  read(0, kPieceBytes);
  for (uint64_t at = kPieceBytes; at < 8 * kPieceBytes; at += kPieceBytes) {
    BOOST_TEST(!read(at, kPieceBytes));
    BOOST_TEST(*fetched.rbegin() == at / kPieceBytes);
  }
  held.clear();
  reading.reset();
  BOOST_TEST(budget == kReadAheadMountBytes);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
