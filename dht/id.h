// The XOR metric over 256-bit ids (Kademlia, section 2.1). Pure functions: any thread.
#pragma once

#include <bit>

#include "peer/base/bytes.h"
#include "peer/runtime/clock.h"

namespace efs::dht {

inline constexpr int kIdBits = 256;

inline uint64_t id_word(const Id& id, size_t index) {
  uint64_t word = 0;
  std::memcpy(&word, id.data() + 8 * index, 8);
  return std::endian::native == std::endian::little ? __builtin_bswap64(word) : word;
}

// How many leading bits two ids share: 256 when they are equal. The bucket of b in a's table.
inline int common_prefix_bits(const Id& a, const Id& b) {
  for (size_t i = 0; i < 4; ++i) {
    const uint64_t difference = id_word(a, i) ^ id_word(b, i);
    if (difference != 0) return int(i) * 64 + std::countl_zero(difference);
  }
  return kIdBits;
}

// Is `a` strictly closer to `target` than `b` is? No two different ids are equally far.
inline bool closer(const Id& target, const Id& a, const Id& b) {
  for (size_t i = 0; i < 4; ++i) {
    const uint64_t t = id_word(target, i);
    const uint64_t to_a = id_word(a, i) ^ t, to_b = id_word(b, i) ^ t;
    if (to_a != to_b) return to_a < to_b;
  }
  return false;
}

// The distance as a part of the whole id space, in [0, 1).
inline double distance_fraction(const Id& a, const Id& b) {
  return double(id_word(a, 0) ^ id_word(b, 0)) * 0x1p-64;
}

// A random id that shares exactly `bits` leading bits with `id`: it falls into that bucket. bits < 256.
inline Id random_id_at(const Id& id, int bits, Random& random) {
  Id result;
  random.fill(result);
  for (int bit = 0; bit <= bits; ++bit) {
    const auto mask = uint8_t(0x80 >> (bit % 8));
    const bool wanted = bool(id[size_t(bit) / 8] & mask) != (bit == bits);
    auto& byte = result[size_t(bit) / 8];
    byte = wanted ? uint8_t(byte | mask) : uint8_t(byte & ~mask);
  }
  return result;
}

}  // namespace efs::dht
