#include "peer/store/segment.h"

#include <fmt/format.h>

#include <algorithm>

namespace efs {
namespace {

constexpr std::string_view kMagic = "efs seg\n";
constexpr uint32_t kFileFormat = 1;
constexpr size_t kFileHeader = 64;
constexpr uint32_t kRecordMagic = 0x43534645;  // "EFSC"
constexpr uint8_t kRecordFormat = 1;
constexpr uint64_t kMaxFootprint = uint64_t(1) << 40;  // beyond any segment: no offset wraps around
constexpr size_t kFileSum = 12, kRecordSum = 8;

uint32_t sum_without(ByteView bytes, size_t at) {
  static constexpr uint8_t kZeros[4] = {};
  return crc32c(bytes.subspan(at + 4), crc32c(kZeros, crc32c(bytes.first(at))));
}

uint32_t key_sum(const ChunkKey& key) {
  uint8_t volume[4];
  put_le(volume, key.volume);
  return crc32c(key.chunk, crc32c(volume));
}

uint32_t block_sum(uint32_t seed, uint32_t block, ByteView bytes) {
  uint8_t number[4];
  put_le(number, block);
  return crc32c(bytes, crc32c(number, seed));
}

ByteArray<kRecordHeader> encode(const Segment& segment, const SegmentRecord& record) {
  ByteArray<kRecordHeader> bytes{};
  put_le(&bytes[0], kRecordMagic);
  bytes[4] = kRecordFormat;
  bytes[5] = uint8_t(record.kind);
  bytes[6] = record.form;
  put_le(&bytes[12], record.table_sum);
  put_le(&bytes[16], segment.number);
  put_le(&bytes[24], uint32_t(segment.store));
  put_le(&bytes[28], record.key.volume);
  put_le(&bytes[32], record.length);
  put_le(&bytes[36], record.length);  // as stored
  put_le(&bytes[40], record.footprint);
  std::copy(record.key.chunk.begin(), record.key.chunk.end(), &bytes[48]);
  std::copy(record.sha256.begin(), record.sha256.end(), &bytes[80]);
  put_le(&bytes[kRecordSum], sum_without(bytes, kRecordSum));
  return bytes;
}

}  // namespace

Bytes checksum_table(const ChunkKey& key, ByteView bytes) {
  Bytes table(table_bytes(uint32_t(bytes.size())));
  uint32_t seed = key_sum(key);
  for (uint32_t block = 0; size_t(block) * kBlock < bytes.size(); ++block) {
    ByteView piece = bytes.subspan(size_t(block) * kBlock);
    put_le(&table[size_t(block) * 4],
           block_sum(seed, block, piece.first(std::min<size_t>(piece.size(), kBlock))));
  }
  return table;
}

Status Segment::write_file_header() {
  ByteArray<kFirstRecord> bytes{};
  std::copy(kMagic.begin(), kMagic.end(), bytes.begin());
  put_le(&bytes[8], kFileFormat);
  put_le(&bytes[16], number);
  put_le(&bytes[24], uint32_t(store));
  put_le(&bytes[kFileSum], sum_without(ByteView(bytes).first(kFileHeader), kFileSum));
  EFS_TRY(file->write(0, bytes));
  return file->sync();
}

Status Segment::check_file_header() const {
  ByteArray<kFileHeader> bytes{};
  EFS_ASSIGN(size_t got, file->read(0, bytes));
  bool whole = got == kFileHeader && text(ByteView(bytes).first(kMagic.size())) == kMagic &&
               get_le<uint32_t>(&bytes[kFileSum]) == sum_without(bytes, kFileSum);
  if (!whole) return fail(Code::corrupt, fmt::format("segment {}: its header is damaged", path));
  if (auto format = get_le<uint32_t>(&bytes[8]); format != kFileFormat)
    return fail(Code::version,
                fmt::format("segment {} has format {}, this program knows {}: start it with the version "
                            "of efs-peer that wrote it, or a newer one",
                            path, format, kFileFormat));
  if (get_le<uint64_t>(&bytes[16]) != number || get_le<uint32_t>(&bytes[24]) != store)
    return fail(Code::corrupt, fmt::format("segment {} belongs elsewhere: was it renamed or copied?", path));
  return {};
}

Status Segment::write_record_header(uint64_t offset, const SegmentRecord& record, ByteView table,
                                    ByteView bytes) {
  static constexpr ByteArray<kRecordAlign> kPadding{};
  auto header = encode(*this, record);
  uint64_t used = kRecordHeader + table.size() + bytes.size();
  ByteView padding;
  if (!bytes.empty()) padding = ByteView(kPadding).first((kRecordAlign - used % kRecordAlign) % kRecordAlign);
  const ByteView pieces[] = {header, table, bytes, padding};
  return file->write_vector(offset, pieces);
}

Status Segment::write_record_bytes(uint64_t offset, ByteView bytes) {
  static constexpr ByteArray<kRecordAlign> kPadding{};
  uint64_t front = kRecordHeader + table_bytes(uint32_t(bytes.size()));
  const ByteView pieces[] = {
      bytes, ByteView(kPadding).first((kRecordAlign - (front + bytes.size()) % kRecordAlign) % kRecordAlign)};
  return file->write_vector(offset + front, pieces);
}

Result<std::optional<SegmentRecord>> Segment::read_record(uint64_t offset) const {
  ByteArray<kRecordHeader> bytes{};
  EFS_ASSIGN(size_t got, file->read(offset, bytes));
  if (got < kRecordHeader || get_le<uint32_t>(&bytes[0]) != kRecordMagic ||
      get_le<uint32_t>(&bytes[kRecordSum]) != sum_without(bytes, kRecordSum))
    return std::nullopt;
  if (bytes[4] != kRecordFormat || bytes[6] != 0)
    return fail(Code::version, fmt::format("segment {} has a record of a newer format at {}", path, offset));
  SegmentRecord record;
  record.kind = RecordKind(bytes[5]);
  record.table_sum = get_le<uint32_t>(&bytes[12]);
  record.key.volume = get_le<uint32_t>(&bytes[28]);
  record.length = get_le<uint32_t>(&bytes[32]);
  record.footprint = get_le<uint64_t>(&bytes[40]);
  std::copy_n(&bytes[48], 32, record.key.chunk.begin());
  std::copy_n(&bytes[80], 32, record.sha256.begin());
  bool right = get_le<uint64_t>(&bytes[16]) == number && get_le<uint32_t>(&bytes[24]) == store &&
               record.footprint >= kRecordAlign && record.footprint % kRecordAlign == 0 &&
               record.footprint <= kMaxFootprint;
  if (record.kind == RecordKind::chunk)
    right = right && record.length > 0 && record.length <= kMaxChunkBytes &&
            record.footprint == footprint_of(record.length);
  if (!right) return std::nullopt;
  return record;
}

Status Segment::read_chunk(const ChunkKey& key, uint64_t record, uint32_t length, uint32_t offset,
                           std::span<uint8_t> out) const {
  if (out.empty()) return {};
  const uint32_t first = offset / kBlock;
  const uint32_t last = uint32_t((offset + out.size() - 1) / kBlock);
  const uint32_t from = first * kBlock;
  const uint32_t to = uint32_t(std::min<uint64_t>(length, uint64_t(last + 1) * kBlock));

  ByteArray<kMaxChunkBytes / kBlock * 4> sums;
  std::span<uint8_t> table(sums.data(), size_t(last - first + 1) * 4);
  EFS_ASSIGN(size_t got, file->read(record + kRecordHeader + size_t(first) * 4, table));
  if (got < table.size()) return fail(Code::corrupt);

  // Whole blocks go straight to the caller; others through a buffer, since their checksum covers all.
  thread_local Bytes buffer;
  std::span<uint8_t> blocks = out;
  if (from != offset || to != offset + out.size()) {
    if (buffer.size() < to - from) buffer.resize(to - from);
    blocks = std::span(buffer).first(to - from);
  }
  EFS_ASSIGN(got, file->read(record + kRecordHeader + table_bytes(length) + from, blocks));
  if (got < blocks.size()) return fail(Code::corrupt);
  const uint32_t seed = key_sum(key);
  for (uint32_t block = first; block <= last; ++block) {
    ByteView piece = blocks.subspan(size_t(block - first) * kBlock);
    piece = piece.first(std::min<size_t>(piece.size(), kBlock));
    if (block_sum(seed, block, piece) != get_le<uint32_t>(&table[size_t(block - first) * 4]))
      return fail(Code::corrupt);
  }
  if (blocks.data() != out.data()) std::copy_n(blocks.begin() + (offset - from), out.size(), out.begin());
  return {};
}

Result<Bytes> Segment::read_whole(uint64_t offset, const SegmentRecord& record, bool check_sha) const {
  Bytes table(table_bytes(record.length));
  EFS_ASSIGN(size_t got, file->read(offset + kRecordHeader, table));
  if (got < table.size() || crc32c(table) != record.table_sum) return fail(Code::corrupt);
  Bytes bytes(record.length);
  EFS_TRY(read_chunk(record.key, offset, record.length, 0, bytes));
  if (check_sha && efs::sha256(bytes) != record.sha256) return fail(Code::corrupt);
  return bytes;
}

}  // namespace efs
