// Whether a thread that waits for work should look for it rather than sleep.
//
// To be woken costs more than most of what a thread is woken for, most of all on a virtual machine, so for
// `patience` after there was something a thread looks again and again, leaving its processor in between to
// whoever wants it. Where that is somebody who keeps it, looking is worse than sleeping (who sleeps is given
// a processor as soon as there is work): then it sleeps for a while, for longer each time. One thread's.
#pragma once

#include <sched.h>

#include <algorithm>
#include <thread>

#include "peer/runtime/clock.h"

namespace efs {

class Wakefulness {
 public:
  Wakefulness(const Clock& clock, int64_t patience_ns)
      : clock_(clock), patience_ns_(std::thread::hardware_concurrency() > 1 ? patience_ns : 0) {}

  // Before each look: whether to look, or to sleep until there is something.
  bool awake() const { return until_ns_ != 0; }
  void found() {
    if (until_ns_ != 0 && ++in_a_row_ >= kInARow) asleep_ns_ = kAsleepLeast;
    const int64_t now_ns = clock_.now_ns();
    until_ns_ = patience_ns_ != 0 && now_ns >= asleep_until_ns_ ? now_ns + patience_ns_ : 0;
  }
  void found_nothing() {
    const int64_t before_ns = clock_.now_ns();
    if (before_ns >= until_ns_) {
      until_ns_ = 0;
      return;
    }
    sched_yield();
    const int64_t now_ns = clock_.now_ns();
    if (now_ns - before_ns < kKept) return;
    asleep_until_ns_ = now_ns + asleep_ns_;
    asleep_ns_ = std::min(asleep_ns_ * 2, kAsleepMost);
    until_ns_ = 0;
    in_a_row_ = 0;
  }

 private:
  static constexpr int64_t kKept = 100 * kMicrosecond;  // longer than who answers, or asks the next, needs it
  static constexpr int64_t kAsleepLeast = 2 * kMillisecond, kAsleepMost = 512 * kMillisecond;
  static constexpr unsigned kInARow = 64;
  const Clock& clock_;
  const int64_t patience_ns_;
  int64_t until_ns_ = 0;  // 0: asleep
  int64_t asleep_until_ns_ = 0;
  int64_t asleep_ns_ = kAsleepLeast;  // the next time
  unsigned in_a_row_ = 0;             // looks that found something
};

}  // namespace efs
