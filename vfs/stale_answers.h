// Which threads of programs were just told ESTALE.
//
// Between the kernel's lookup of a path and the call itself another mount may remove what it leads to. The
// kernel answers ESTALE by looking the path up anew, once (retry_estale() in fs/namei.c), which finds what
// took its place. Told so again in the same call, it hands the program an error that no local filesystem has:
// then ENOENT is the truth, as the name was gone in between. So it is where the call is by the descriptor of
// a removed directory.
//
// A thread whose call went on well meanwhile is told anew; what a path's lookup asks does not count.
// Thread-safe; a collision of two threads, or forgetting after kStaleMemory, costs one ESTALE.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "peer/runtime/clock.h"

namespace efs {

inline constexpr int64_t kStaleMemory = kSecond;

class StaleAnswers {
 public:
  // About to be told ESTALE. True: it was just told.
  bool again(pid_t thread, int64_t now_ns) {
    std::atomic<uint64_t>& slot = slots_[size_t(thread) % kSlots];
    const uint64_t mine = value(thread, now_ns), before = slot.load(std::memory_order_relaxed);
    const bool told =
        before >> 32 == mine >> 32 && uint32_t(mine - before) <= uint32_t(kStaleMemory / kMillisecond);
    slot.store(told ? 0 : mine, std::memory_order_relaxed);
    return told;
  }
  void went_well(pid_t thread) {
    std::atomic<uint64_t>& slot = slots_[size_t(thread) % kSlots];
    if (slot.load(std::memory_order_relaxed) >> 32 == uint64_t(uint32_t(thread)))
      slot.store(0, std::memory_order_relaxed);
  }

 private:
  static constexpr size_t kSlots = 256;
  static uint64_t value(pid_t thread, int64_t now_ns) {
    return uint64_t(uint32_t(thread)) << 32 | uint32_t(now_ns / kMillisecond);
  }
  std::array<std::atomic<uint64_t>, kSlots> slots_{};  // thread, when (ms)
};

}  // namespace efs
