// Keeps the thread that serves a program on the program's processor, as long as that program alone asks.
//
// A program that waits for its answer leaves its processor to whoever answers, so two that take turns lose
// nothing by sharing one; and to wake somebody on the same processor is a few microseconds, on another one
// (idle by then) several times that, most of all on a virtual machine (docs/decisions/0009). The scheduler
// sees two busy threads and spreads them. One thread's; the object costs a descriptor while it follows
// somebody. Where that one runs another thread finds out, one for all objects: to ask the kernel waits while
// a program is being executed there, and that waits for our answer when it closes files of ours.
#pragma once

#include <sys/types.h>

#include <memory>

namespace efs {

class BesideCaller {
 public:
  // `enabled`: false does nothing, ever.
  explicit BesideCaller(bool enabled);
  ~BesideCaller() { apart(); }
  BesideCaller(const BesideCaller&) = delete;
  BesideCaller& operator=(const BesideCaller&) = delete;

  // A request came of this thread (as gettid(2) counts; 0: of nobody that is known).
  void asked_by(pid_t thread);
  // To be called before what others should not wait for on that processor: the scheduler chooses again.
  void apart();

 private:
  struct Sight;  // where a caller was seen
  class Lookout;
  void follow(pid_t thread);
  void look();
  void seen_on(int processor);

  const bool enabled_;
  pid_t caller_ = 0;
  std::shared_ptr<Sight> sight_;  // of it, once it was asked for
  unsigned in_a_row_ = 0;         // requests of this caller alone, since it was followed or left
  unsigned moves_ = 0;            // looks in a row at which it ran somewhere else again, then: to rest
  int processor_ = -1;            // that this thread is kept on
};

}  // namespace efs
