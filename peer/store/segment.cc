#include "peer/store/segment.h"

#include <fmt/format.h>

#include <algorithm>

namespace efs {
namespace {

constexpr std::string_view kMagic = "efs seg\n";
constexpr uint32_t kFileFormat = 2;
constexpr size_t kFileHeader = 64;
constexpr uint32_t kRecordMagic = 0x43534645;  // "EFSC"
constexpr uint8_t kRecordFormat = 1;
constexpr size_t kPieceRow = 8;                        // stored length, checksum
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

// A packed piece means nothing without its form, so that is covered too.
uint32_t packed_seed(const ChunkKey& key, Compression form) {
  const uint8_t number[] = {uint8_t(form)};
  return crc32c(number, key_sum(key));
}

Bytes plain_table(const ChunkKey& key, ByteView bytes) {
  Bytes table(table_bytes(plain(uint32_t(bytes.size()))));
  uint32_t seed = key_sum(key);
  for (uint32_t block = 0; size_t(block) * kBlock < bytes.size(); ++block) {
    ByteView piece = bytes.subspan(size_t(block) * kBlock);
    put_le(&table[size_t(block) * 4],
           block_sum(seed, block, piece.first(std::min<size_t>(piece.size(), kBlock))));
  }
  return table;
}

Bytes packed_table(const ChunkKey& key, const PackedBytes& packed) {
  Bytes table(packed.lengths.size() * kPieceRow);
  const uint32_t seed = packed_seed(key, packed.form);
  size_t at = 0;
  for (uint32_t piece = 0; piece < packed.lengths.size(); ++piece) {
    const uint32_t length = packed.lengths[piece];
    put_le(&table[piece * kPieceRow], length);
    put_le(&table[piece * kPieceRow + 4], block_sum(seed, piece, ByteView(packed.bytes).subspan(at, length)));
    at += length;
  }
  return table;
}

// Where the pieces of a packed record are, as its table has it: checked, since it came from a disk.
class Pieces {
 public:
  // `table` begins with the first piece; its rows are those of the first pieces.
  Pieces(const ChunkKey& key, const StoredShape& shape, ByteView table)
      : shape_(shape), table_(table), seed_(packed_seed(key, shape.form)) {}

  // Bytes that the pieces before this one take; nothing when the table is damaged.
  std::optional<uint32_t> start_of(uint32_t piece) const {
    uint64_t at = 0;
    for (uint32_t before = 0; before < piece; ++before) {
      const uint32_t length = stored_length(before);
      if (length == 0 || length > piece_length(shape_.length, before)) return std::nullopt;
      at += length;
    }
    if (at > shape_.stored) return std::nullopt;
    return uint32_t(at);
  }
  uint32_t stored_length(uint32_t piece) const { return get_le<uint32_t>(&table_[piece * kPieceRow]); }
  bool is_whole(uint32_t piece, ByteView stored) const {
    return block_sum(seed_, piece, stored) == get_le<uint32_t>(&table_[piece * kPieceRow + 4]);
  }

 private:
  const StoredShape& shape_;
  const ByteView table_;
  const uint32_t seed_;
};

ByteArray<kRecordHeader> encode(const Segment& segment, const SegmentRecord& record) {
  ByteArray<kRecordHeader> bytes{};
  put_le(&bytes[0], kRecordMagic);
  bytes[4] = kRecordFormat;
  bytes[5] = uint8_t(record.kind);
  bytes[6] = uint8_t(record.shape.form);
  put_le(&bytes[12], record.table_sum);
  put_le(&bytes[16], segment.number);
  put_le(&bytes[24], uint32_t(segment.store));
  put_le(&bytes[28], record.key.volume);
  put_le(&bytes[32], record.shape.length);
  put_le(&bytes[36], record.shape.stored);
  put_le(&bytes[40], record.footprint);
  std::copy(record.key.chunk.begin(), record.key.chunk.end(), &bytes[48]);
  std::copy(record.sha256.begin(), record.sha256.end(), &bytes[80]);
  put_le(&bytes[kRecordSum], sum_without(bytes, kRecordSum));
  return bytes;
}

// What is read past the system's cache may be put there by the disk.
bool goes_straight(std::span<const uint8_t> out, size_t length) {
  return out.size() == length && length % File::kDirectAlign == 0 &&
         reinterpret_cast<uintptr_t>(out.data()) % File::kDirectAlign == 0;
}
}  // namespace

uint64_t table_bytes(const StoredShape& shape) {
  if (shape.form != Compression::none) return pieces_of(shape.length) * kPieceRow;
  return uint64_t(shape.length + kBlock - 1) / kBlock * 4;
}

RecordBytes record_bytes(const ChunkKey& key, const ChunkContent& content) {
  const uint32_t length = uint32_t(content.content.size());
  if (content.packed == nullptr) return {plain(length), plain_table(key, content.content), content.content};
  const PackedBytes& packed = *content.packed;
  return {{length, uint32_t(packed.bytes.size()), packed.form}, packed_table(key, packed), packed.bytes};
}

Result<Bytes> content_of(const SegmentRecord& record, const RecordBytes& stored, bool check_sha) {
  const StoredShape& shape = record.shape;
  Bytes content = shape.form == Compression::none ? to_bytes(stored.bytes) : Bytes(shape.length);
  if (shape.form != Compression::none) {
    const Pieces pieces(record.key, shape, stored.table);
    ByteView left = stored.bytes;
    for (uint32_t piece = 0; piece < pieces_of(shape.length); ++piece) {
      const auto to = std::span(content).subspan(size_t(piece) * kPieceBytes);
      EFS_TRY(unpack_piece(shape.form, left.first(pieces.stored_length(piece)),
                           to.first(piece_length(shape.length, piece))));
      left = left.subspan(pieces.stored_length(piece));
    }
  }
  if (check_sha && sha256(content) != record.sha256) return fail(Code::corrupt);
  return content;
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
                            "of efs-peer that wrote it{}",
                            path, format, kFileFormat, format > kFileFormat ? ", or a newer one" : ""));
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

Status Segment::write_record_bytes(uint64_t offset, const StoredShape& shape, ByteView bytes) {
  static constexpr ByteArray<kRecordAlign> kPadding{};
  const uint64_t front = front_bytes(shape);
  if (is_aligned(shape)) return file->write_directly(offset + front, bytes);
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
  if (bytes[4] != kRecordFormat || name_of(Compression(bytes[6])).empty())
    return fail(Code::version, fmt::format("segment {} has a record of a newer format at {}", path, offset));
  SegmentRecord record;
  record.kind = RecordKind(bytes[5]);
  record.table_sum = get_le<uint32_t>(&bytes[12]);
  record.key.volume = get_le<uint32_t>(&bytes[28]);
  record.shape = {get_le<uint32_t>(&bytes[32]), get_le<uint32_t>(&bytes[36]), Compression(bytes[6])};
  record.footprint = get_le<uint64_t>(&bytes[40]);
  std::copy_n(&bytes[48], 32, record.key.chunk.begin());
  std::copy_n(&bytes[80], 32, record.sha256.begin());
  bool right = get_le<uint64_t>(&bytes[16]) == number && get_le<uint32_t>(&bytes[24]) == store &&
               record.footprint >= kRecordAlign && record.footprint % kRecordAlign == 0 &&
               record.footprint <= kMaxFootprint;
  const StoredShape& shape = record.shape;
  if (record.kind == RecordKind::chunk)
    right = right && shape.length > 0 && shape.length <= kMaxChunkBytes && shape.stored <= shape.length &&
            (shape.form != Compression::none || shape.stored == shape.length) &&
            record.footprint == footprint_of(shape);
  if (!right) return std::nullopt;
  return record;
}

Result<size_t> Segment::read_file(uint64_t at, std::span<uint8_t> out, ReadBy by) const {
  return by == ReadBy::cache ? file->read_cached(at, out) : file->read(at, out);
}

Result<Bytes> Segment::read_table(uint64_t record, const StoredShape& shape, ReadBy by) const {
  Bytes table(table_bytes(shape));
  EFS_ASSIGN(const size_t got, read_file(record + kRecordHeader, table, by));
  if (got < table.size()) return fail(Code::corrupt);
  return table;
}

Status Segment::read_chunk(const ChunkKey& key, uint64_t record, const StoredShape& shape, ByteView table,
                           uint32_t offset, std::span<uint8_t> out, ReadBy by) const {
  if (out.empty()) return {};
  if (shape.form == Compression::none) return read_plain(key, record, shape, table, offset, out, by);
  return read_packed(key, record, shape, offset, out, by);
}

Status Segment::read_plain(const ChunkKey& key, uint64_t record, const StoredShape& shape, ByteView known,
                           uint32_t offset, std::span<uint8_t> out, ReadBy by) const {
  const uint32_t first = offset / kBlock;
  const uint32_t last = uint32_t((offset + out.size() - 1) / kBlock);
  const uint32_t from = first * kBlock;
  const uint32_t to = uint32_t(std::min<uint64_t>(shape.length, uint64_t(last + 1) * kBlock));

  ByteArray<kMaxChunkBytes / kBlock * 4> sums;
  const std::span<uint8_t> own_table(sums.data(), size_t(last - first + 1) * 4);
  ByteView table = own_table, blocks;
  const uint64_t table_at = kRecordHeader + size_t(first) * 4;
  if (known.empty() && by == ReadBy::disk && from == 0) {  // with the table, which is in the block before
    const uint64_t front = front_bytes(shape);
    if (goes_straight(out, to) && front == kBlock) {
      alignas(File::kDirectAlign) ByteArray<kBlock> before;
      EFS_ASSIGN(const size_t got, file->read_directly(record, before, out));
      if (got < front + to) return fail(Code::corrupt);
      std::copy_n(before.begin() + table_at, own_table.size(), own_table.begin());
      blocks = out;
    } else {
      EFS_ASSIGN(const ByteView all, file->read_directly(record, front + to));
      if (all.size() < front + to) return fail(Code::corrupt);
      table = all.subspan(table_at, table.size());
      blocks = all.subspan(front);
    }
  } else {
    if (!known.empty()) {
      table = known.subspan(size_t(first) * 4, table.size());
    } else {
      EFS_ASSIGN(const size_t got, read_file(record + table_at, own_table, by));
      if (got < table.size()) return fail(Code::corrupt);
    }
    EFS_ASSIGN(blocks, read_blocks(record + front_bytes(shape) + from, to - from, out, by));
    if (blocks.size() < to - from) return fail(Code::corrupt);
  }
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

// Whole blocks, straight to the caller when they are just what he wants: a checksum covers all of a block.
Result<ByteView> Segment::read_blocks(uint64_t at, size_t length, std::span<uint8_t> out, ReadBy by) const {
  if (by == ReadBy::disk) {
    if (!goes_straight(out, length)) return file->read_directly(at, length);
    EFS_ASSIGN(const size_t got, file->read_directly(at, {}, out));
    return ByteView(out).first(got);
  }
  thread_local Bytes buffer;
  if (out.size() != length) {
    if (buffer.size() < length) buffer.resize(length);
    out = std::span(buffer).first(length);
  }
  EFS_ASSIGN(const size_t got, read_file(at, out, by));
  return ByteView(out).first(got);
}

Status Segment::read_packed(const ChunkKey& key, uint64_t record, const StoredShape& shape, uint32_t offset,
                            std::span<uint8_t> out, ReadBy by) const {
  const uint32_t first = offset / kPieceBytes;
  const uint32_t last = uint32_t((offset + out.size() - 1) / kPieceBytes);
  const uint64_t table_at = record + kRecordHeader, bytes_at = record + front_bytes(shape);
  ByteArray<kMaxChunkBytes / kPieceBytes * kPieceRow> rows;
  const auto table = std::span(rows).first((last + 1) * kPieceRow);
  EFS_ASSIGN(size_t got, read_file(table_at, table, by));
  if (got < table.size()) return fail(Code::corrupt);
  const Pieces pieces(key, shape, table);
  const auto from = pieces.start_of(first), to = pieces.start_of(last);
  const uint32_t last_length = pieces.stored_length(last);
  if (!from || !to || last_length > shape.stored - *to) return fail(Code::corrupt);

  thread_local Bytes buffer;
  const size_t wanted = *to + last_length - *from;
  if (buffer.size() < wanted) buffer.resize(wanted);
  EFS_ASSIGN(got, read_file(bytes_at + *from, std::span(buffer).first(wanted), by));
  if (got < wanted) return fail(Code::corrupt);
  ByteView left = ByteView(buffer).first(wanted);
  ByteArray<kPieceBytes> partly;
  for (uint32_t piece = first; piece <= last; ++piece) {
    const ByteView stored = left.first(pieces.stored_length(piece));
    left = left.subspan(stored.size());
    if (!pieces.is_whole(piece, stored)) return fail(Code::corrupt);
    // Whole pieces are expanded where they belong; of others the caller gets a part.
    const uint32_t start = piece * kPieceBytes, length = piece_length(shape.length, piece);
    const uint32_t begin = std::max(start, offset);
    const uint32_t until = uint32_t(std::min<uint64_t>(start + length, offset + out.size()));
    const auto part = out.subspan(begin - offset, until - begin);
    if (part.size() == length) {
      EFS_TRY(unpack_piece(shape.form, stored, part));
    } else {
      EFS_TRY(unpack_piece(shape.form, stored, std::span(partly).first(length)));
      std::copy_n(partly.begin() + (begin - start), part.size(), part.begin());
    }
  }
  return {};
}

Result<RecordBytes> Segment::read_stored(uint64_t offset, const SegmentRecord& record, Bytes& bytes) const {
  const StoredShape& shape = record.shape;
  EFS_ASSIGN(Bytes table, read_table(offset, shape, ReadBy::cache_or_disk));
  RecordBytes out{shape, std::move(table), {}};
  if (crc32c(out.table) != record.table_sum) return fail(Code::corrupt);
  bytes.resize(shape.stored);
  if (shape.form == Compression::none) {
    EFS_TRY(read_plain(record.key, offset, shape, out.table, 0, bytes,
                       is_aligned(shape) ? ReadBy::disk : ReadBy::cache_or_disk));
  } else {
    EFS_ASSIGN(const size_t got, file->read(offset + front_bytes(shape), bytes));
    const Pieces pieces(record.key, shape, out.table);
    if (got < bytes.size() || pieces.start_of(pieces_of(shape.length)) != shape.stored)
      return fail(Code::corrupt);
    ByteView left = bytes;
    for (uint32_t piece = 0; piece < pieces_of(shape.length); ++piece) {
      if (!pieces.is_whole(piece, left.first(pieces.stored_length(piece)))) return fail(Code::corrupt);
      left = left.subspan(pieces.stored_length(piece));
    }
  }
  out.bytes = bytes;
  return out;
}

Result<Bytes> Segment::read_whole(uint64_t offset, const SegmentRecord& record, bool check_sha) const {
  Bytes bytes;
  EFS_ASSIGN(const RecordBytes stored, read_stored(offset, record, bytes));
  return content_of(record, stored, check_sha);
}

}  // namespace efs
