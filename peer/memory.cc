#include "peer/memory.h"

#include <malloc.h>

#include <cstdlib>
#include <new>

#include "peer/base/large_blocks.h"

namespace efs {

namespace {
constexpr int64_t kEvery = 5 * kSecond;
constexpr size_t kMuch = 4 << 20;
constinit LargeBlocks large_blocks;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kKeep = false;  // what is used after it was given back is to be seen
#else
constexpr bool kKeep = true;
#endif

void* take(std::size_t size) {
  return size < LargeBlocks::kSmallest ? std::malloc(size == 0 ? 1 : size) : large_blocks.take(size);
}
void give(void* at) {
  if (kKeep) {
    large_blocks.give(at);
  } else {
    std::free(at);
  }
}
}  // namespace

void MemoryUpkeep::start() {
  timer_.start(kEvery, [this] {
    if (large_blocks.kept_bytes() > 0) {
      loop_.work(
          [] {
            // malloc_trim() keeps all who want memory waiting: only when there was work and is none.
            if (large_blocks.tidy() >= kMuch && large_blocks.kept_bytes() < kMuch) malloc_trim(0);
          },
          {});
    }
    start();
  });
}

void set_up_memory() {
  // Fixed: by itself malloc raises both with every larger block that is freed.
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

}  // namespace efs

// Not inlined into this file's own uses: g++ takes what they call for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  while (true) {
    if (void* const at = efs::take(size)) return at;
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}
[[gnu::noinline]] void operator delete(void* at) noexcept {
  efs::give(at);
}
[[gnu::noinline]] void operator delete(void* at, std::size_t size) noexcept {
  if (size < efs::LargeBlocks::kSmallest) {
    std::free(at);
  } else {
    efs::give(at);
  }
}
