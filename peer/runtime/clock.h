// Time and randomness, as everything else receives them: by constructor.
//
// Monotonic time is for durations, deadlines and leases; wall time only for people, stamps and expiries.
// Real: CLOCK_BOOTTIME and CLOCK_REALTIME. Simulated: virtual time, with drift and jumps a host.
// Thread-safe.
#pragma once

#include <cstdint>
#include <span>

namespace efs {

inline constexpr int64_t kNanosecond = 1;
inline constexpr int64_t kMicrosecond = 1000;
inline constexpr int64_t kMillisecond = 1000 * kMicrosecond;
inline constexpr int64_t kSecond = 1000 * kMillisecond;
inline constexpr int64_t kMinute = 60 * kSecond;
inline constexpr int64_t kHour = 60 * kMinute;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now_ns() const = 0;   // monotonic, runs through suspend
  virtual int64_t wall_ns() const = 0;  // since 1970-01-01 UTC, may jump
};

class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(std::span<uint8_t> out) = 0;  // fit for keys in the real implementation
  uint64_t u64() {
    uint64_t value = 0;
    fill({reinterpret_cast<uint8_t*>(&value), sizeof value});
    return value;
  }
  uint64_t below(uint64_t bound) { return bound == 0 ? 0 : u64() % bound; }
};

}  // namespace efs
