// What the fuzz targets share. Each enters where production does: bytes as they come from a peer, a disk or
// a person. The preset `fuzz` builds them; `test/run fuzz` runs each for a while.
#pragma once

#include <cstdlib>
#include <random>

#include "peer/base/encoding.h"
#include "peer/runtime/clock.h"

namespace efs {

// What decoded once must say the same when it is encoded and decoded again.
template <typename T>
void round_trip(ByteView bytes, const DecodeLimits& limits = {}) {
  auto value = decode<T>(bytes, limits);
  if (!value) return;
  auto again = decode<T>(encode(*value), limits);
  if (!again || !(*again == *value)) std::abort();
}

class FixedRandom : public Random {
 public:
  void fill(std::span<uint8_t> out) override {
    for (uint8_t& byte : out) byte = uint8_t(engine_());
  }

 private:
  std::mt19937_64 engine_{1};
};

// Changes a file as the input says: a u16 place, a u8 length, so many bytes, and so on.
inline void patch(Bytes& file, ByteView input) {
  while (input.size() > 3) {
    size_t place = get_le<uint16_t>(input.data());
    size_t length = input[2];
    input = input.subspan(3);
    length = std::min({length, input.size(), file.size() - std::min(place, file.size())});
    std::copy_n(input.begin(), length, file.begin() + ptrdiff_t(place));
    input = input.subspan(std::min(input.size(), std::max<size_t>(length, 1)));
  }
}

}  // namespace efs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
