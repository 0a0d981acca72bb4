// Whether the loop tries short reads itself (Replica::read_cached) before the pool gets them.
//
// A try that took long has waited for rows that were not in memory. What is asked for next is likely to be as
// cold, and the pool waits for several at once, where the loop would hold up everybody: so for a while the
// pool gets all of it. Pure; one thread's.
#pragma once

#include <cstdint>

namespace efs {

class InlineReads {
 public:
  static constexpr uint32_t kMostBytes = 64 << 10;  // longer ones would hold up the loop
  static constexpr int64_t kLong = 300'000;         // ns: several times what one in memory takes
  static constexpr unsigned kLeftToPool = 64;

  bool may_try(uint32_t bytes) {
    if (bytes > kMostBytes) return false;
    if (left_to_pool_ == 0) return true;
    --left_to_pool_;
    return false;
  }
  void tried(int64_t took_ns) {
    if (took_ns > kLong) left_to_pool_ = kLeftToPool;
  }

 private:
  unsigned left_to_pool_ = 0;
};

}  // namespace efs
