// A segment file of a chunk store (docs/on-disk-format.md): records behind each other, append-only.
//
// A record is a header of 128 bytes, a table of checksums, and the bytes; it starts at a multiple of 128, so
// that no header lies in two sectors. Large chunks of whole blocks that are stored as they are lie at
// multiples of a block, so that they can be written past the system's cache and one block of them is one of
// the disk's; a hole before such a record fills the gap. The table has a CRC32C for each 4 KiB of bytes that
// are stored as they are, and the stored length and a CRC32C for each piece of packed ones. Headers are
// written in the order of the records, one at a time, so that they form a chain that can be walked after any
// kill; the bytes may come later, and a record whose bytes did not is dead space. A `hole` is what remains of
// dead records whose space was given back.
#pragma once

#include <memory>
#include <mutex>
#include <set>

#include "peer/store/chunk_index.h"

namespace efs {

inline constexpr uint64_t kFirstRecord = 4096;
inline constexpr uint64_t kRecordAlign = 128;
inline constexpr size_t kRecordHeader = 128;
inline constexpr uint32_t kBlock = 4096;

enum class RecordKind : uint8_t { chunk = 1, hole = 2 };

struct SegmentRecord {
  RecordKind kind = RecordKind::chunk;
  StoredShape shape;
  uint64_t footprint = 0;  // to the next record
  uint32_t table_sum = 0;  // CRC32C of the table
  ChunkKey key;
  Id sha256{};
};

inline constexpr uint32_t kAlignedAtLeast = 64 << 10;

uint64_t table_bytes(const StoredShape& shape);
inline bool is_aligned(const StoredShape& shape) {
  return shape.form == Compression::none && shape.length >= kAlignedAtLeast && shape.length % kBlock == 0;
}
// From a record's start to its bytes.
inline uint64_t front_bytes(const StoredShape& shape) {
  return is_aligned(shape) ? kBlock : kRecordHeader + table_bytes(shape);
}
inline uint64_t footprint_of(const StoredShape& shape) {
  return (front_bytes(shape) + shape.stored + kRecordAlign - 1) / kRecordAlign * kRecordAlign;
}
// What is missing at `offset` to the place where such a record may start: less than a block.
inline uint64_t gap_before(const StoredShape& shape, uint64_t offset) {
  return is_aligned(shape) ? (kBlock - offset % kBlock) % kBlock : 0;
}

// What a record holds behind its header. The checksums cover the key, their number and what is stored.
struct RecordBytes {
  StoredShape shape;
  Bytes table;
  ByteView bytes;
};
RecordBytes record_bytes(const ChunkKey& key, const ChunkContent& content);
// Back to the content, checked against the SHA-256 when asked. `stored` is as read_stored() gave it.
Result<Bytes> content_of(const SegmentRecord& record, const RecordBytes& stored, bool check_sha);

struct Segment {
  uint16_t store = 0;
  uint64_t number = 0;
  std::string path;
  std::unique_ptr<File> file;

  // Under the chunk store's mutex.
  uint64_t end = kFirstRecord;                 // where the next record goes
  uint64_t indexed_end = kFirstRecord;         // the index knows of everything before it
  uint64_t live_bytes = 0, live_chunks = 0;    // footprints that the index refers to
  uint64_t fresh_bytes = 0, fresh_chunks = 0;  // and those that it will
  uint64_t hole_bytes = 0;
  uint64_t walked_dead_bytes = 0;  // at the last look for holes
  bool sealed = false;
  bool damaged = false;                            // collect() leaves it alone
  std::set<uint64_t> in_flight;                    // offsets of records whose bytes are being written
  uint64_t writes = 0, must_sync = 0, synced = 0;  // numbers of finished writes

  std::mutex sync_mutex;
  bool sync_failed = false;

  uint64_t chunks() const { return live_chunks + fresh_chunks; }
  uint64_t dead_bytes() const { return end - kFirstRecord - live_bytes - fresh_bytes - hole_bytes; }

  Status write_file_header();
  Status check_file_header() const;
  // `bytes` may come later, by write_record_bytes.
  Status write_record_header(uint64_t offset, const SegmentRecord& record, ByteView table, ByteView bytes);
  Status write_record_bytes(uint64_t offset, const StoredShape& shape, ByteView bytes);
  // Nothing when there is no whole header.
  Result<std::optional<SegmentRecord>> read_record(uint64_t offset) const;
  // Unchecked. Code::corrupt, io, uncached (by cache).
  Result<Bytes> read_table(uint64_t record, const StoredShape& shape, ReadBy by) const;
  // Part of a chunk's content, checked. Code::corrupt, io, uncached (by cache). `table`: of one that is
  // stored as it is, if it is known.
  Status read_chunk(const ChunkKey& key, uint64_t record, const StoredShape& shape, ByteView table,
                    uint32_t offset, std::span<uint8_t> out, ReadBy by) const;
  // Table and bytes of a record as they are stored, in `bytes`, with all their checks.
  Result<RecordBytes> read_stored(uint64_t offset, const SegmentRecord& record, Bytes& bytes) const;
  // Its content.
  Result<Bytes> read_whole(uint64_t offset, const SegmentRecord& record, bool check_sha) const;

 private:
  // Through the cache, by disk too.
  Result<size_t> read_file(uint64_t at, std::span<uint8_t> out, ReadBy by) const;
  Status read_plain(const ChunkKey& key, uint64_t record, const StoredShape& shape, ByteView known,
                    uint32_t offset, std::span<uint8_t> out, ReadBy by) const;
  Result<ByteView> read_blocks(uint64_t at, size_t length, std::span<uint8_t> out, ReadBy by) const;
  Status read_packed(const ChunkKey& key, uint64_t record, const StoredShape& shape, uint32_t offset,
                     std::span<uint8_t> out, ReadBy by) const;
};
using SegmentPointer = std::shared_ptr<Segment>;

}  // namespace efs
