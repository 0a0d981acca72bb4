#include "peer/base/secret.h"

#include <sodium.h>

#include <cstring>
#include <new>

namespace efs {

namespace {
bool sodium_ready() {
  static const bool ready = sodium_init() >= 0;
  return ready;
}
}  // namespace

void Secret::Free::operator()(uint8_t* memory) const {
  sodium_free(memory);
}

Secret::Secret(size_t length_bytes) : length_(length_bytes) {
  if (length_bytes == 0) return;
  if (!sodium_ready()) throw std::bad_alloc();
  auto* memory = static_cast<uint8_t*>(sodium_malloc(length_bytes));
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, length_bytes);
  data_.reset(memory);
}

Secret Secret::copy_of(ByteView bytes) {
  Secret secret(bytes.size());
  if (!bytes.empty()) std::memcpy(secret.data_.get(), bytes.data(), bytes.size());
  return secret;
}

bool Secret::equals(ByteView other) const {
  return other.size() == length_ && (length_ == 0 || sodium_memcmp(data_.get(), other.data(), length_) == 0);
}

void wipe(std::span<uint8_t> bytes) {
  sodium_memzero(bytes.data(), bytes.size());
}

}  // namespace efs
