// How efs-peer takes memory. Large blocks, which are what is written and read, begin at pages: files are
// written from such past the system's cache (File::write_directly) without another copy.
#include <cstdlib>
#include <new>

namespace {
constexpr std::size_t kPage = 4096, kLarge = 256 << 10;

void* take(std::size_t size) {
  if (size < kLarge) return std::malloc(size == 0 ? 1 : size);
  return std::aligned_alloc(kPage, (size + kPage - 1) / kPage * kPage);
}
}  // namespace

void* operator new(std::size_t size) {
  while (true) {
    if (void* const at = take(size)) return at;
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}
void operator delete(void* at) noexcept {
  std::free(at);
}
void operator delete(void* at, std::size_t) noexcept {
  std::free(at);
}
