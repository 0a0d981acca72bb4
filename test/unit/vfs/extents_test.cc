// Extents against a plain vector of bytes: random writes and cuts.
#include "vfs/extents.h"

#include <boost/test/unit_test.hpp>
#include <optional>
#include <random>

#include "vfs/limits.h"

using namespace efs;

namespace {

struct Model {
  std::vector<std::optional<uint8_t>> bytes = std::vector<std::optional<uint8_t>>(2 * kPieceBytes);
  void check(const Extents& extents) const {
    uint64_t count = 0;
    for (const auto& byte : bytes) count += byte.has_value();
    BOOST_TEST(extents.bytes() == count);
    uint64_t behind = 0;
    for (const auto& [offset, data] : extents.map()) {
      BOOST_TEST(!data.empty());
      BOOST_TEST(offset >= behind);
      BOOST_TEST(offset / kPieceBytes == (offset + data.size() - 1) / kPieceBytes);
      behind = offset + data.size();
      for (size_t i = 0; i < data.size(); ++i) {
        if (bytes[offset + i] != data[i]) BOOST_FAIL("byte " << offset + i << " differs");
      }
    }
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(extents)

BOOST_AUTO_TEST_CASE(behaves_as_a_vector_of_bytes) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 12; ++round) {
    Extents extents;
    Model model;
    const uint64_t base = kPieceBytes - 3000;  // around a border of pieces
    for (int step = 0; step < 120; ++step) {
      const uint64_t offset = base + random() % 6000;
      const uint64_t length = 1 + random() % 700;
      Bytes data(length, uint8_t(random()));
      switch (random() % 4) {
        case 0:
          extents.cut(offset, length);
          for (uint64_t i = 0; i < length; ++i) model.bytes[offset + i].reset();
          break;
        default:
          extents.write(offset, data);
          for (uint64_t i = 0; i < length; ++i) model.bytes[offset + i] = data[i];
      }
      bool any = false;
      for (uint64_t i = 0; i < length; ++i) any |= model.bytes[offset + i].has_value();
      BOOST_TEST(extents.overlaps(offset, length) == any);
    }
    model.check(extents);
    Bytes out(6000, 0xee);
    extents.overlay(base, out);
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i] != model.bytes[base + i].value_or(0xee)) BOOST_FAIL("overlay differs at " << i);
    }
    extents.cut(base + 1000, UINT64_MAX);
    BOOST_TEST(extents.end() <= base + 1000);
  }
}

BOOST_AUTO_TEST_CASE(a_whole_piece_is_found) {
  Extents extents;
  extents.write(kPieceBytes, Bytes(kPieceBytes - 1, 1));
  BOOST_TEST((extents.whole_piece(kPieceBytes + 5) == extents.last_end()));
  extents.write(2 * kPieceBytes - 1, Bytes(2, 2));
  BOOST_TEST((extents.whole_piece(kPieceBytes + 5) != extents.last_end()));
  BOOST_TEST(extents.map().size() == 2u);
}

BOOST_AUTO_TEST_SUITE_END()
