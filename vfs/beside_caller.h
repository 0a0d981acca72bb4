// Keeps the thread that serves a program on the program's processor, as long as that program alone asks.
//
// A program that waits for its answer leaves its processor to whoever answers, so two that take turns lose
// nothing by sharing one; and to wake somebody on the same processor is a few microseconds, on another one
// (idle by then) several times that, most of all on a virtual machine (docs/decisions/0009). The scheduler
// sees two busy threads and spreads them. One thread's; the object costs a descriptor while it follows
// somebody.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "peer/base/descriptor.h"

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
  void follow(pid_t thread);
  void look();

  const bool enabled_;
  pid_t caller_ = 0;
  std::optional<Descriptor> about_caller_;  // /proc/<thread>/stat
  unsigned in_a_row_ = 0;                   // requests of this caller alone, since it was followed or left
  unsigned moves_ = 0;  // looks in a row at which it ran somewhere else again, then: to rest
  int processor_ = -1;  // that this thread is kept on
};

}  // namespace efs
