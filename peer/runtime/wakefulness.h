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

// Whether more threads want to run than there are processors: on average over the last counts, some 16 ms of
// them, since any one count also meets what runs for a moment only.
class Crowd {
 public:
  Crowd();
  Crowd(unsigned processors, std::function<double()> count)
      : processors_(processors), count_(std::move(count)) {}
  bool is_there(int64_t now_ns);

 private:
  unsigned processors_;
  std::function<double()> count_;
  int64_t counted_ns_ = 0;
  double running_ = 0;
};

class Wakefulness {
 public:
  Wakefulness(const Clock& clock, int64_t patience_ns);
  Wakefulness(const Clock& clock, int64_t patience_ns, Crowd crowd)
      : clock_(clock), patience_ns_(patience_ns), crowd_(std::move(crowd)) {}

  // Before each look: whether to look, or to sleep until there is something.
  bool awake() const { return until_ns_ != 0; }
  void found();
  void found_nothing();

 private:
  const Clock& clock_;
  const int64_t patience_ns_;
  Crowd crowd_;
  int64_t found_ns_ = 0;  // when there was something last
  int64_t look_ns_ = 0;   // how long it looks at present
  int64_t until_ns_ = 0;  // 0: asleep
};

}  // namespace efs
