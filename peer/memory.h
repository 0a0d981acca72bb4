// The memory of efs-peer: large blocks are kept for the next that wants one, for a while. memory.cc replaces
// operator new and delete of the whole program.
#pragma once

#include "peer/runtime/loop.h"

namespace efs {

// Gives back to the kernel what nobody wants any more. Made and destroyed on the loop's thread.
class MemoryUpkeep {
 public:
  explicit MemoryUpkeep(Loop& loop) : loop_(loop), timer_(loop) { start(); }

 private:
  void start();
  Loop& loop_;
  Timer timer_;
};

// First of all, before there are threads.
void set_up_memory();

}  // namespace efs
