#include "peer/store/chunk_index.h"

namespace efs {
namespace {

constexpr size_t kLocationBytes = 2 + 8 + 8 + 4 + 1;
constexpr size_t kPackedLocationBytes = kLocationBytes + 4;
constexpr size_t kVolumeRowBytes = 8 * 3;
constexpr size_t kSegmentRowBytes = 8 * 4 + 1;
constexpr size_t kChunkKeyBytes = 4 + 32;

tl::unexpected<Error> damaged() {
  return fail(Code::corrupt, "a row of the chunk index is damaged; 'efs-peer check --repair' rebuilds it");
}

}  // namespace

std::string chunk_row_key(const ChunkKey& key) {
  std::string row;
  row.reserve(kChunkKeyBytes);
  put_be(row, key.volume);
  row.append(text(key.chunk));
  return row;
}

ChunkKey parse_chunk_row_key(std::string_view key) {
  ChunkKey parsed;
  if (key.size() != kChunkKeyBytes) return parsed;
  parsed.volume = get_be<uint32_t>(key.data());
  std::memcpy(parsed.chunk.data(), key.data() + 4, 32);
  return parsed;
}

std::string encode(const Location& location) {
  std::string value;
  value.reserve(kPackedLocationBytes);
  put_be(value, location.store);
  put_be(value, location.segment);
  put_be(value, location.offset);
  put_be(value, location.shape.length);
  value.push_back(char(location.shape.form));
  if (location.shape.form != Compression::none) put_be(value, location.shape.stored);
  return value;
}

Result<Location> parse_location(std::string_view value) {
  if (value.size() != kLocationBytes && value.size() != kPackedLocationBytes) return damaged();
  Location location{get_be<uint16_t>(&value[0]), get_be<uint64_t>(&value[2]), get_be<uint64_t>(&value[10]),
                    plain(get_be<uint32_t>(&value[18]))};
  StoredShape& shape = location.shape;
  shape.form = Compression(value[22]);
  const bool packed = value.size() == kPackedLocationBytes;
  if (name_of(shape.form).empty() || packed != (shape.form != Compression::none)) return damaged();
  if (packed) shape.stored = get_be<uint32_t>(&value[23]);
  if (shape.length > kMaxChunkBytes || shape.stored > shape.length) return damaged();
  return location;
}

std::string segment_row_key(const SegmentName& name) {
  std::string key;
  put_be(key, name.store);
  put_be(key, name.number);
  return key;
}

std::string encode(const SegmentRow& row) {
  std::string value;
  for (uint64_t number : {row.indexed_end, row.live_bytes, row.live_chunks, row.hole_bytes})
    put_be(value, number);
  value.push_back(char(row.removing));
  return value;
}

Result<std::map<SegmentName, SegmentRow>> read_segment_rows(const ReadRows& rows) {
  std::map<SegmentName, SegmentRow> found;
  bool whole = true;
  EFS_TRY(rows.scan(kSegmentsTable, "", [&](std::string_view key, std::string_view value) {
    whole = key.size() == 10 && value.size() == kSegmentRowBytes;
    if (!whole) return false;
    SegmentName name{get_be<uint16_t>(&key[0]), get_be<uint64_t>(&key[2])};
    found[name] = {get_be<uint64_t>(&value[0]), get_be<uint64_t>(&value[8]), get_be<uint64_t>(&value[16]),
                   get_be<uint64_t>(&value[24]), value[32] != 0};
    return true;
  }));
  if (!whole) return damaged();
  return found;
}

std::string volume_row_key(uint32_t volume) {
  std::string key;
  put_be(key, volume);
  return key;
}

std::string encode(const VolumeStored& row) {
  std::string value;
  for (uint64_t number : {row.chunks, row.content_bytes, row.stored_bytes}) put_be(value, number);
  return value;
}

Result<std::map<uint32_t, VolumeStored>> read_volume_rows(const ReadRows& rows) {
  std::map<uint32_t, VolumeStored> found;
  bool whole = true;
  EFS_TRY(rows.scan(kVolumesTable, "", [&](std::string_view key, std::string_view value) {
    whole = key.size() == 4 && value.size() == kVolumeRowBytes;
    if (whole)
      found[get_be<uint32_t>(key.data())] = {get_be<uint64_t>(&value[0]), get_be<uint64_t>(&value[8]),
                                             get_be<uint64_t>(&value[16])};
    return whole;
  }));
  if (!whole) return damaged();
  return found;
}

std::string store_row_key(uint16_t store) {
  std::string key;
  put_be(key, store);
  return key;
}

Result<std::map<uint16_t, std::string>> read_store_rows(const ReadRows& rows) {
  std::map<uint16_t, std::string> found;
  bool whole = true;
  EFS_TRY(rows.scan(kStoresTable, "", [&](std::string_view key, std::string_view value) {
    whole = key.size() == 2;
    if (whole) found[get_be<uint16_t>(key.data())] = value;
    return whole;
  }));
  if (!whole) return damaged();
  return found;
}

MetaOptions chunk_index_options() {
  return {{"chunks", "segments", "stores", "volumes"}, uint64_t(1) << 38};
}

}  // namespace efs
