// A clock that stands still until the test moves it. Thread-safe.
#pragma once

#include <atomic>

#include "peer/runtime/clock.h"

namespace efs::test {

class ManualClock final : public Clock {
 public:
  int64_t now_ns() const override { return now; }
  int64_t wall_ns() const override { return now + 1'700'000'000 * kSecond; }
  std::atomic<int64_t> now = kSecond;
};

}  // namespace efs::test
