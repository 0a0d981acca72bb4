// Large blocks of memory, kept for whoever wants one next: the pieces of what is written and read are 1 MiB
// each, and come and go. The kernel clears each page that it gives, which costs more than to fill it again
// (on a virtual machine 2 us for 4 KiB); malloc gives many back, and keeps those of each thread apart. Who
// takes gets the block that was given last, which the processor still has at hand.
//
// Blocks begin at pages: files are written from such past the system's cache (File::write_directly) without
// another copy. Bounds: kMostKept bytes; what nobody wanted between two calls of tidy() is given back.
// Any thread. Made without a constructor that runs, so that operator new may use it (peer/memory.cc).
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>

namespace efs {

class LargeBlocks {
 public:
  static constexpr size_t kSmallest = 256 << 10, kLargest = 2 << 20;  // of what is kept
  static constexpr size_t kMostKept = 64 << 20;

  constexpr LargeBlocks() = default;
  LargeBlocks(const LargeBlocks&) = delete;
  LargeBlocks& operator=(const LargeBlocks&) = delete;

  // At least `size` bytes, which is kSmallest or more; nullptr: there is no memory.
  void* take(size_t size);
  // Any block of malloc's, also of others: free() with a memory.
  void give(void* block);
  // To be called now and then. How many bytes it gave back to malloc.
  size_t tidy();
  size_t kept_bytes() const { return kept_bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kStep = kSmallest, kSizes = kLargest / kStep + 1;
  struct Free {
    Free* next;
  };
  struct Size {
    Free* first = nullptr;
    size_t count = 0, least = 0;  // least: since tidy()
  };
  std::mutex mutex_;
  Size sizes_[kSizes];  // mutex_; by steps
  std::atomic<size_t> kept_bytes_{0};
};

}  // namespace efs
