// Bytes that must not leak: private keys, the mesh secret, passphrases' keys.
//
// Locked in memory, guarded and wiped (libsodium's sodium_malloc, sodium_free); moved, never copied or
// printed; compared in constant time. One owner, any thread.
#pragma once

#include <memory>

#include "peer/base/bytes.h"

namespace efs {

class Secret {
 public:
  Secret() = default;
  explicit Secret(size_t length_bytes);   // zeroed
  static Secret copy_of(ByteView bytes);  // the caller wipes its own copy
  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret&&) noexcept = default;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  // A second locked copy: said aloud, so that copies can be counted by reading.
  Secret clone() const { return copy_of(reveal()); }
  ByteView reveal() const { return {data_.get(), length_}; }
  std::span<uint8_t> writable() { return {data_.get(), length_}; }
  size_t size() const { return length_; }
  bool empty() const { return length_ == 0; }
  bool equals(ByteView other) const;

 private:
  struct Free {
    void operator()(uint8_t* memory) const;
  };
  std::unique_ptr<uint8_t[], Free> data_;
  size_t length_ = 0;
};

// Wipes bytes that held a secret in passing.
void wipe(std::span<uint8_t> bytes);

}  // namespace efs
