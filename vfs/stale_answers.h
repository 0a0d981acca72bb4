// Which threads of programs were just told ESTALE.
//
// Between the kernel's lookup of a path and the call itself another mount may remove what it leads to. The
// kernel answers ESTALE by looking the path up anew, once (retry_estale() in fs/namei.c), which finds what
// took its place. Told so again in the same call, it hands the program an error that no local filesystem has:
// then ENOENT is the truth, as the name was gone in between. So it is where the call is by the descriptor of
// a removed directory.
//
// What such a thread looks up is held for it (told()), so that a file which others replace again and again is
// there when the call itself comes: it never had no name. A lookup may be all that the call asks, so an
// ESTALE that comes later than kSameCall after it is of another call.
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

inline constexpr int64_t kStaleMemory = 10 * kSecond;  // a machine may be slow
inline constexpr int64_t kSameCall = 20 * kMillisecond;

class StaleAnswers {
 public:
  // About to be told ESTALE. True: it was just told, in the same call.
  bool again(pid_t thread, int64_t now_ns) {
    std::atomic<uint64_t>& slot = slots_[size_t(thread) % kSlots];
    const uint64_t before = slot.load(std::memory_order_relaxed);
    const bool same = is_within((before & kHeld) != 0 ? kSameCall : kStaleMemory, thread, before, now_ns);
    slot.store(same ? 0 : value(thread, now_ns), std::memory_order_relaxed);
    return same;
  }
  // Its call is being repeated.
  bool told(pid_t thread, int64_t now_ns) const {
    return is_within(kStaleMemory, thread, slots_[size_t(thread) % kSlots].load(std::memory_order_relaxed),
                     now_ns);
  }
  // What its repeated call looked up is held from now on.
  void held(pid_t thread, int64_t now_ns) {
    std::atomic<uint64_t>& slot = slots_[size_t(thread) % kSlots];
    if (is_of(thread, slot.load(std::memory_order_relaxed)))
      slot.store(value(thread, now_ns) | kHeld, std::memory_order_relaxed);
  }
  void went_well(pid_t thread) {
    std::atomic<uint64_t>& slot = slots_[size_t(thread) % kSlots];
    if (is_of(thread, slot.load(std::memory_order_relaxed))) slot.store(0, std::memory_order_relaxed);
  }

 private:
  static constexpr size_t kSlots = 256;
  static constexpr uint64_t kHeld = uint64_t(1) << 63;  // threads are numbered below 1 << 22
  static bool is_of(pid_t thread, uint64_t slot) {
    return (slot & ~kHeld) >> 32 == uint64_t(uint32_t(thread));
  }
  static bool is_within(int64_t time_ns, pid_t thread, uint64_t slot, int64_t now_ns) {
    return is_of(thread, slot) && uint32_t(value(thread, now_ns) - slot) <= uint32_t(time_ns / kMillisecond);
  }
  static uint64_t value(pid_t thread, int64_t now_ns) {
    return uint64_t(uint32_t(thread)) << 32 | uint32_t(now_ns / kMillisecond);
  }
  std::array<std::atomic<uint64_t>, kSlots> slots_{};  // thread, when (ms)
};

}  // namespace efs
