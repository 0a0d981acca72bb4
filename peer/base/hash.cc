#include "peer/base/hash.h"

#include <isa-l/crc.h>
#include <openssl/sha.h>
#include <sodium.h>

#include <cassert>

namespace efs {

uint32_t crc32c(ByteView bytes, uint32_t seed) {
  // ISA-L takes an int length and neither inverts the seed nor the result.
  uint32_t crc = ~seed;
  while (!bytes.empty()) {
    size_t part = std::min<size_t>(bytes.size(), 1u << 30);
    crc = crc32_iscsi(const_cast<uint8_t*>(bytes.data()), int(part), crc);
    bytes = bytes.subspan(part);
  }
  return ~crc;
}

Id sha256(ByteView bytes) {
  Id out;
  SHA256(bytes.data(), bytes.size(), out.data());
  return out;
}

Id blake2b(ByteView bytes, ByteView key) {
  Id out;
  [[maybe_unused]] int failed =
      crypto_generichash(out.data(), out.size(), bytes.data(), bytes.size(), key.data(), key.size());
  assert(failed == 0);
  return out;
}

}  // namespace efs
