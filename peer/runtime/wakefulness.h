// Whether a thread that waits for work should look for it rather than sleep.
//
// To be woken costs more than most of what a thread is woken for, most of all on a virtual machine, so for
// `patience` after there was something a thread looks again and again, leaving its processor in between to
// whoever wants it. When it slept after that and was woken soon, within four times as long, it looks for that
// long from then on, until it has slept for longer: what it waits for (a disk, another peer, a slow
// processor) takes about so long. On a machine where more wants to run than there are processors that would
// be worse than sleeping (who sleeps is given a processor as soon as there is work, who has looked has used
// up his turn), so it sleeps there. One thread's.
#pragma once

#include <functional>

#include "peer/runtime/clock.h"

namespace efs {

class Wakefulness {
 public:
  using IsCrowded = std::function<bool(int64_t now_ns)>;
  Wakefulness(const Clock& clock, int64_t patience_ns);
  Wakefulness(const Clock& clock, int64_t patience_ns, IsCrowded is_crowded)
      : clock_(clock), patience_ns_(patience_ns), is_crowded_(std::move(is_crowded)) {}

  // Before each look: whether to look, or to sleep until there is something.
  bool awake() const { return until_ns_ != 0; }
  void found();
  void found_nothing();

 private:
  const Clock& clock_;
  const int64_t patience_ns_;
  const IsCrowded is_crowded_;
  int64_t found_ns_ = 0;  // when there was something last
  int64_t look_ns_ = 0;   // how long it looks at present
  int64_t until_ns_ = 0;  // 0: asleep
};

}  // namespace efs
