// What the tests of this layer share.
#pragma once

#include <ostream>

#include "peer/base/error.h"
#include "peer/identity/keys.h"
#include "peer/net/rpc.h"

namespace efs {
inline std::ostream& operator<<(std::ostream& out, Code code) {
  return out << name_of(code);
}

// Deterministic: the same seed gives the same keys.
class TestRandom : public Random {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed * 2 + 1) {}
  void fill(std::span<uint8_t> out) override {
    for (auto& byte : out) {
      state_ ^= state_ << 13;
      state_ ^= state_ >> 7;
      state_ ^= state_ << 17;
      byte = uint8_t(state_ >> 32);
    }
  }

 private:
  uint64_t state_;
};

inline Bytes random_bytes(Random& random, size_t length) {
  Bytes out(length);
  random.fill(out);
  return out;
}
inline Id id_of_byte(uint8_t byte) {
  Id id{};
  id.fill(byte);
  return id;
}
inline Secret secret_of_byte(uint8_t byte) {
  Secret secret(32);
  for (auto& b : secret.writable()) b = byte;
  return secret;
}
}  // namespace efs
