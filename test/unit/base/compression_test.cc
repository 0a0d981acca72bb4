// Every compressor: what goes in comes out, what does not fit is refused, and hostile bytes write nothing
// beyond what was asked for.
#include "peer/base/compression.h"

#include <boost/test/unit_test.hpp>
#include <random>

namespace efs {
namespace {

constexpr Compression kBoth[] = {Compression::lz4, Compression::zstd};

Bytes words(size_t size) {
  std::mt19937 random(7);
  Bytes out;
  while (out.size() < size) append(out, view("word" + std::to_string(random() % 50) + " "));
  out.resize(size);
  return out;
}

BOOST_AUTO_TEST_SUITE(compression)

BOOST_AUTO_TEST_CASE(names_are_what_commands_and_disks_say) {
  BOOST_TEST((compression_named("none") == Compression::none));
  BOOST_TEST((compression_named("lz4") == Compression::lz4));
  BOOST_TEST((compression_named("zstd") == Compression::zstd));
  BOOST_TEST(!compression_named("gzip"));
  BOOST_TEST(!compression_named(""));
  BOOST_TEST(int(Compression::lz4) == 1);
  BOOST_TEST(int(Compression::zstd) == 2);
  BOOST_TEST(name_of(Compression(3)).empty());
}

BOOST_AUTO_TEST_CASE(what_goes_in_comes_out) {
  for (const Compression one : kBoth) {
    for (const size_t size : {size_t(300), size_t(4096), size_t(32768), size_t(1) << 20}) {
      const Bytes bytes = words(size);
      Bytes small(size), back(size);
      const size_t length = compress(one, bytes, small);
      BOOST_TEST(length > 0u);
      BOOST_TEST(length < size);
      BOOST_REQUIRE(expand(one, ByteView(small).first(length), back));
      BOOST_TEST((back == bytes));
      // Anything but the right length is refused.
      Bytes shorter(size - 1), longer(size + 1);
      BOOST_TEST(!expand(one, ByteView(small).first(length), shorter));
      BOOST_TEST(!expand(one, ByteView(small).first(length), longer));
      BOOST_TEST(!expand(one, ByteView(small).first(length - 1), back));
      BOOST_TEST(compress(one, bytes, std::span(small).first(length - 1)) == 0u);
    }
  }
}

BOOST_AUTO_TEST_CASE(nothing_comes_of_nothing) {
  Bytes bytes = words(100), out(200);
  for (const Compression one : kBoth) {
    BOOST_TEST(compress(one, {}, out) == 0u);
    BOOST_TEST(compress(one, bytes, {}) == 0u);
    BOOST_TEST(!expand(one, {}, out));
  }
  BOOST_TEST(compress(Compression::none, bytes, out) == 0u);
  BOOST_TEST(!expand(Compression::none, bytes, out));
  BOOST_TEST(!expand(Compression(9), bytes, out));
}

BOOST_AUTO_TEST_CASE(hostile_bytes_write_nothing_beyond) {
  std::mt19937 random(11);
  const Bytes bytes = words(5000);
  for (const Compression one : kBoth) {
    Bytes small(bytes.size());
    small.resize(compress(one, bytes, small));
    for (int round = 0; round < 3000; ++round) {
      Bytes changed = small;
      for (unsigned hits = 1 + random() % 4; hits > 0; --hits)
        changed[random() % changed.size()] = uint8_t(random());
      if (round % 3 == 0) changed.resize(1 + random() % changed.size());
      Bytes out(bytes.size() + 64, 0xa5);
      (void)expand(one, changed, std::span(out).first(bytes.size()));
      BOOST_REQUIRE((std::all_of(out.end() - 64, out.end(), [](uint8_t byte) { return byte == 0xa5; })));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
