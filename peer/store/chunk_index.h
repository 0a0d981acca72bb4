// The rows of a chunk store's index, and what they mean. Values only, and transactions of the caller.
#pragma once

#include <map>

#include "peer/store/chunk_store.h"

namespace efs {

inline constexpr Table kChunksTable = 0;    // volume, chunk -> Location
inline constexpr Table kSegmentsTable = 1;  // store, segment -> SegmentRow
inline constexpr Table kStoresTable = 2;    // store -> directory
inline constexpr Table kVolumesTable = 3;   // volume -> VolumeStored

// How a chunk's bytes are stored.
struct StoredShape {
  uint32_t length = 0;  // of the chunk
  uint32_t stored = 0;  // of the bytes as stored, without the table of checksums
  Compression form = Compression::none;
  auto operator<=>(const StoredShape&) const = default;
};
// Of bytes as they are.
inline StoredShape plain(uint32_t length) {
  return {length, length, Compression::none};
}

struct Location {
  uint16_t store = 0;
  uint64_t segment = 0;
  uint64_t offset = 0;
  StoredShape shape;
  auto operator<=>(const Location&) const = default;
};

struct SegmentRow {
  uint64_t indexed_end = 0;
  uint64_t live_bytes = 0;
  uint64_t live_chunks = 0;
  uint64_t hole_bytes = 0;
  bool removing = false;  // nothing refers to it; its file goes
};

struct SegmentName {
  uint16_t store = 0;
  uint64_t number = 0;
  auto operator<=>(const SegmentName&) const = default;
};

std::string chunk_row_key(const ChunkKey& key);
ChunkKey parse_chunk_row_key(std::string_view key);
std::string encode(const Location& location);
Result<Location> parse_location(std::string_view value);

std::string segment_row_key(const SegmentName& name);
std::string encode(const SegmentRow& row);
Result<std::map<SegmentName, SegmentRow>> read_segment_rows(const ReadRows& rows);

std::string volume_row_key(uint32_t volume);
std::string encode(const VolumeStored& row);
Result<std::map<uint32_t, VolumeStored>> read_volume_rows(const ReadRows& rows);

std::string store_row_key(uint16_t store);
Result<std::map<uint16_t, std::string>> read_store_rows(const ReadRows& rows);

}  // namespace efs
