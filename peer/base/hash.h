// Checksums and hashes. Pure functions: any thread.
#pragma once

#include "peer/base/bytes.h"

namespace efs {

// CRC-32C (Castagnoli, RFC 3720 appendix B.4), with ISA-L. `seed` continues an earlier result, so that
// crc32c(b, crc32c(a)) == crc32c(a followed by b).
uint32_t crc32c(ByteView bytes, uint32_t seed = 0);

// SHA-256 (FIPS 180-4), by libcrypto: content hashes.
Id sha256(ByteView bytes);

// BLAKE2b-256 (RFC 7693), by libsodium: ids of keys and records. `key` is empty or 16..64 bytes.
Id blake2b(ByteView bytes, ByteView key = {});

struct IdHash {  // ids are uniformly random already
  size_t operator()(const Id& id) const { return get_le<size_t>(id.data()); }
};

}  // namespace efs
