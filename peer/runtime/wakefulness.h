// Whether a thread that waits for work should look for it rather than sleep.
//
// To be woken costs more than most of what a thread is woken for, most of all on a virtual machine, so for
// `patience` after there was something a thread looks again and again, leaving its processor in between to
// whoever wants it. On a machine where more wants to run than there are processors that would be worse than
// sleeping (who sleeps is given a processor as soon as there is work, who has looked has used up his turn),
// so it sleeps there. One thread's.
#pragma once

#include "peer/runtime/clock.h"

namespace efs {

class Wakefulness {
 public:
  Wakefulness(const Clock& clock, int64_t patience_ns);
  ~Wakefulness();
  Wakefulness(const Wakefulness&) = delete;
  Wakefulness& operator=(const Wakefulness&) = delete;

  // Before each look: whether to look, or to sleep until there is something.
  bool awake() const { return until_ns_ != 0; }
  void found();
  void found_nothing();

 private:
  bool is_crowded(int64_t now_ns);

  const Clock& clock_;
  int64_t patience_ns_;
  int running_file_ = -1;  // /proc/loadavg
  unsigned processors_ = 1;
  int64_t until_ns_ = 0;    // 0: asleep
  int64_t counted_ns_ = 0;  // when those that want to run were last counted
  bool crowded_ = false;
};

}  // namespace efs
