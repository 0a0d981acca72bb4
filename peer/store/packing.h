// A chunk's bytes as they are stored compressed: pieces of kPieceBytes, each compressed alone or left as it
// is, one behind the other. So a small read expands one piece, not the chunk.
//
// Whether it helps is decided for each chunk: first by a sample (what is compressed already costs next to
// nothing), then by what came out, which must be an eighth smaller. Pure functions: any thread, no lock
// should be held. Expanding takes any bytes: Code::corrupt, never more than the caller asked for.
#pragma once

#include "peer/base/compression.h"
#include "peer/base/error.h"

namespace efs {

// Pieces of 64 KiB take 5% less, and cost a small read twice as much (docs/decisions/0007-compression.md).
inline constexpr uint32_t kPieceBytes = 32 << 10;
// Chunks up to this size are stored as they are: small synced writes pay nothing.
inline constexpr uint32_t kLargestUnpacked = 4096;

struct PackedBytes {
  Compression form = Compression::none;  // none: it does not help, and there is nothing in here
  std::vector<uint32_t> lengths;         // of each piece as stored; one that equals its content's is as it is
  Bytes bytes;
};

inline uint32_t pieces_of(uint32_t length) {
  return (length + kPieceBytes - 1) / kPieceBytes;
}
// How many of a chunk's `length` bytes are in that piece.
inline uint32_t piece_length(uint32_t length, uint32_t piece) {
  return std::min(kPieceBytes, length - piece * kPieceBytes);
}

// `content` has at most kMaxChunkBytes.
PackedBytes pack(Compression wanted, ByteView content);

// One piece; `content` has its length. Code::corrupt.
Status unpack_piece(Compression form, ByteView stored, std::span<uint8_t> content);

}  // namespace efs
