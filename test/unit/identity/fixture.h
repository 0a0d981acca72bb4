// What the tests of identity share: randomness from a seed.
#pragma once

#include <random>

#include "peer/identity/keys.h"

namespace efs {

class SeededRandom : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  void fill(std::span<uint8_t> out) override {
    for (uint8_t& byte : out) byte = uint8_t(engine_());
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace efs
