// A seeded generator for simulations: splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, 2014). The same on every platform; nothing to keep a secret with. One thread.
#pragma once

#include <algorithm>
#include <cstring>

#include "peer/runtime/clock.h"

namespace efs {

inline uint64_t mix64(uint64_t value) {
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
  value = (value ^ value >> 27) * 0x94d049bb133111eb;
  return value ^ value >> 31;
}

class SimulatedRandom final : public Random {
 public:
  explicit SimulatedRandom(uint64_t seed) : state_(mix64(seed + kStep)) {}
  uint64_t next() { return mix64(state_ += kStep); }
  void fill(std::span<uint8_t> out) override {
    while (!out.empty()) {
      uint64_t value = next();
      size_t length = std::min(out.size(), sizeof value);
      std::memcpy(out.data(), &value, length);
      out = out.subspan(length);
    }
  }
  int64_t between(int64_t least, int64_t most) {
    return most <= least ? least : least + int64_t(next() % uint64_t(most - least + 1));
  }
  bool chance(double probability) { return probability > 0 && double(next() >> 11) * 0x1p-53 < probability; }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
  uint64_t state_;
};

}  // namespace efs
