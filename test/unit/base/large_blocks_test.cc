// Large blocks that are kept for the next that wants one.
#include "peer/base/large_blocks.h"

#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace efs {
namespace {

constexpr size_t kPiece = 1 << 20;

bool begins_a_page(const void* block) {
  return reinterpret_cast<uintptr_t>(block) % 4096 == 0;
}

BOOST_AUTO_TEST_SUITE(large_blocks)

BOOST_AUTO_TEST_CASE(who_takes_gets_what_was_given_last) {
  LargeBlocks blocks;
  void* const one = blocks.take(kPiece);
  void* const two = blocks.take(kPiece);
  BOOST_REQUIRE(one != nullptr && two != nullptr && one != two);
  BOOST_TEST(begins_a_page(one));
  BOOST_TEST(begins_a_page(two));
  blocks.give(one);
  blocks.give(two);
  BOOST_TEST(blocks.kept_bytes() == 2 * kPiece);
  void* const half = blocks.take(kPiece / 2);  // another size
  BOOST_TEST((half != one && half != two));
  BOOST_TEST(blocks.take(kPiece - 1) == two);
  BOOST_TEST(blocks.take(kPiece) == one);
  BOOST_TEST(blocks.kept_bytes() == 0u);
  for (void* block : {one, two, half}) blocks.give(block);
  blocks.tidy();
  BOOST_TEST(blocks.tidy() == 2 * kPiece + kPiece / 2);
}

BOOST_AUTO_TEST_CASE(what_nobody_wanted_is_given_back) {
  LargeBlocks blocks;
  std::vector<void*> taken;
  for (int i = 0; i < 4; ++i) taken.push_back(blocks.take(kPiece));
  for (void* block : taken) blocks.give(block);
  BOOST_TEST(blocks.tidy() == 0u);  // they came since
  taken = {blocks.take(kPiece), blocks.take(kPiece), blocks.take(kPiece)};
  for (void* block : taken) blocks.give(block);
  BOOST_TEST(blocks.tidy() == kPiece);
  BOOST_TEST(blocks.kept_bytes() == 3 * kPiece);
  BOOST_TEST(blocks.tidy() == 3 * kPiece);
  BOOST_TEST(blocks.tidy() == 0u);
}

BOOST_AUTO_TEST_CASE(small_huge_and_too_many_are_not_kept) {
  LargeBlocks blocks;
  blocks.give(nullptr);
  blocks.give(std::malloc(100));
  void* const huge = blocks.take(LargeBlocks::kLargest + LargeBlocks::kSmallest);
  BOOST_REQUIRE(huge != nullptr);
  BOOST_TEST(begins_a_page(huge));
  blocks.give(huge);
  BOOST_TEST(blocks.kept_bytes() == 0u);
  std::vector<void*> taken;
  for (size_t bytes = 0; bytes < LargeBlocks::kMostKept + 4 * kPiece; bytes += kPiece)
    taken.push_back(blocks.take(kPiece));
  for (void* block : taken) blocks.give(block);
  BOOST_TEST(blocks.kept_bytes() == LargeBlocks::kMostKept);
  blocks.tidy();
  BOOST_TEST(blocks.tidy() == LargeBlocks::kMostKept);
}

BOOST_AUTO_TEST_CASE(threads_do_not_get_the_same) {
  LargeBlocks blocks;
  std::atomic<int> wrong{0};
  auto work = [&](unsigned number) {
    std::mt19937 random(number);
    std::vector<std::pair<void*, size_t>> mine;
    for (int i = 0; i < 20000; ++i) {
      if (mine.size() < 8 && random() % 2 == 0) {
        const size_t size =
            LargeBlocks::kSmallest + random() % (LargeBlocks::kLargest - LargeBlocks::kSmallest);
        mine.emplace_back(blocks.take(size), size);
        std::memset(mine.back().first, int(number), 64);
        static_cast<uint8_t*>(mine.back().first)[size - 1] = uint8_t(number);
      } else if (!mine.empty()) {
        const auto [block, size] = mine.back();
        const auto* bytes = static_cast<const uint8_t*>(block);
        wrong += bytes[0] != number || bytes[63] != number || bytes[size - 1] != number;
        blocks.give(block);
        mine.pop_back();
      }
      if (random() % 1000 == 0) blocks.tidy();
    }
    for (const auto& one : mine) blocks.give(one.first);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i <= 4; ++i) threads.emplace_back(work, i);
  for (auto& thread : threads) thread.join();
  BOOST_TEST(wrong == 0);
  blocks.tidy();
  blocks.tidy();
  BOOST_TEST(blocks.kept_bytes() == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
