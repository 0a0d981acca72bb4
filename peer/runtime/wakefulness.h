// Whether a thread that waits for work should look for it rather than sleep.
//
// To be woken costs more than most of what a thread is woken for, most of all on a virtual machine, so for
// `patience` after there was something a thread looks again and again. Where others want the processor that
// is worse than sleeping: who looks has spent his turn when the work comes, who sleeps gets one at once. That
// shows in the time between two looks; then a thread sleeps for a while, for longer each time. One thread's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>

#include "peer/runtime/clock.h"

namespace efs {

class Wakefulness {
 public:
  explicit Wakefulness(int64_t patience_ns)
      : patience_ns_(std::thread::hardware_concurrency() > 1 ? patience_ns : 0) {}

  // There was something: the next may come soon.
  void found(int64_t now_ns) {
    if (looked_ns_ != 0 && ++in_a_row_ >= kInARow) asleep_ns_ = kAsleepLeast;
    looked_ns_ = 0;
    until_ns_ = now_ns < asleep_until_ns_ ? 0 : now_ns + patience_ns_;
  }
  // Before each look: whether to look, or to sleep.
  bool awake(int64_t now_ns) {
    if (looked_ns_ != 0 && now_ns - looked_ns_ > kTaken) {
      asleep_until_ns_ = now_ns + asleep_ns_;
      asleep_ns_ = std::min(asleep_ns_ * 2, kAsleepMost);
      until_ns_ = looked_ns_ = 0;
      in_a_row_ = 0;
    }
    if (now_ns >= until_ns_) {
      looked_ns_ = 0;
      return false;
    }
    looked_ns_ = now_ns;
    return true;
  }

 private:
  static constexpr int64_t kTaken =
      100 * kMicrosecond;  // longer than the turn of who answers, and asks again
  static constexpr int64_t kAsleepLeast = 2 * kMillisecond, kAsleepMost = 512 * kMillisecond;
  static constexpr unsigned kInARow = 64;
  const int64_t patience_ns_;
  int64_t until_ns_ = 0;
  int64_t looked_ns_ = 0;  // 0: it did not look since there was something
  int64_t asleep_until_ns_ = 0;
  int64_t asleep_ns_ = kAsleepLeast;  // the next time
  unsigned in_a_row_ = 0;             // looks that found something
};

}  // namespace efs
