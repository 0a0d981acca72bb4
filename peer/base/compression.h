// The compressors that stored bytes may go through: LZ4 blocks (lz4_Block_format.md) and Zstandard frames
// (RFC 8878), by liblz4 and libzstd. Numbers are stored on disks and in logs: never reuse one.
//
// Pure functions: any thread; each thread keeps its own contexts. Bytes to expand may be anybody's: what
// does not come out as exactly the length that the caller knows is refused, and nothing is written beyond it.
#pragma once

#include "peer/base/bytes.h"

namespace efs {

enum class Compression : uint8_t { none = 0, lz4 = 1, zstd = 2 };

// "none", "lz4", "zstd"; empty for a number that is none of these.
std::string_view name_of(Compression compression);
std::optional<Compression> compression_named(std::string_view name);

// Writes `bytes` compressed to the front of `out` and returns how long that is; 0 when it does not fit there,
// or for Compression::none. `bytes` has at most 1 MiB.
size_t compress(Compression compression, ByteView bytes, std::span<uint8_t> out);

// True when `bytes` expand to exactly out.size(). What is in `out` after false is not to be used.
bool expand(Compression compression, ByteView bytes, std::span<uint8_t> out);

}  // namespace efs
