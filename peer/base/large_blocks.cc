#include "peer/base/large_blocks.h"

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

namespace efs {

namespace {
constexpr size_t kPage = 4096;
}

void* LargeBlocks::take(size_t size) {
  const size_t steps = (size + kStep - 1) / kStep;
  if (steps >= kSizes) return std::aligned_alloc(kPage, (size + kPage - 1) / kPage * kPage);
  {
    std::lock_guard lock(mutex_);
    Size& same = sizes_[steps];
    if (Free* const block = same.first) {
      same.first = block->next;
      same.least = std::min(same.least, --same.count);
      kept_bytes_.fetch_sub(steps * kStep, std::memory_order_relaxed);
      return block;
    }
  }
  return std::aligned_alloc(kPage, steps * kStep);
}

void LargeBlocks::give(void* block) {
  const size_t steps = malloc_usable_size(block) / kStep;  // 0 of nullptr
  if (steps > 0 && steps < kSizes && reinterpret_cast<uintptr_t>(block) % kPage == 0) {
    std::lock_guard lock(mutex_);
    if (kept_bytes() + steps * kStep <= kMostKept) {
      Size& same = sizes_[steps];
      same.first = new (block) Free{same.first};
      ++same.count;
      kept_bytes_.fetch_add(steps * kStep, std::memory_order_relaxed);
      return;
    }
  }
  std::free(block);
}

size_t LargeBlocks::tidy() {
  Free* unwanted = nullptr;
  size_t bytes = 0;
  {
    std::lock_guard lock(mutex_);
    for (size_t steps = 0; steps < kSizes; ++steps) {
      Size& same = sizes_[steps];
      for (; same.least > 0; --same.least, --same.count) {
        Free* const block = same.first;
        same.first = block->next;
        unwanted = new (block) Free{unwanted};
        bytes += steps * kStep;
      }
      same.least = same.count;
    }
    kept_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  while (unwanted != nullptr) std::free(std::exchange(unwanted, unwanted->next));
  return bytes;
}

}  // namespace efs
