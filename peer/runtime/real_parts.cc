// The clocks of Linux and the randomness of libsodium.
#include <sodium.h>
#include <time.h>

#include <cassert>

#include "peer/runtime/real.h"

namespace efs {

namespace {

int64_t read_clock(clockid_t id) {
  timespec now{};
  clock_gettime(id, &now);
  return int64_t(now.tv_sec) * kSecond + now.tv_nsec;
}

class RealClock final : public Clock {
 public:
  int64_t now_ns() const override { return read_clock(CLOCK_BOOTTIME); }
  int64_t wall_ns() const override { return read_clock(CLOCK_REALTIME); }
};

class RealRandom final : public Random {
 public:
  RealRandom() {
    [[maybe_unused]] int failed = sodium_init();
    assert(failed >= 0);
  }
  void fill(std::span<uint8_t> out) override { randombytes_buf(out.data(), out.size()); }
};

}  // namespace

const Clock& real_clock() {
  static RealClock clock;
  return clock;
}

Random& real_random() {
  static RealRandom random;
  return random;
}

}  // namespace efs
