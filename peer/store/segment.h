// A segment file of a chunk store (docs/on-disk-format.md): records behind each other, append-only.
//
// A record is a header of 128 bytes, a CRC32C for each 4 KiB of its bytes, and the bytes; it starts at a
// multiple of 128, so that no header lies in two sectors. Headers are written in the order of the records,
// one at a time, so that they form a chain that can be walked after any kill; the bytes may come later, and
// a record whose bytes did not is dead space. A `hole` is what remains of dead records whose space was
// given back.
#pragma once

#include <memory>
#include <mutex>
#include <set>

#include "peer/store/chunk_store.h"

namespace efs {

inline constexpr uint64_t kFirstRecord = 4096;
inline constexpr uint64_t kRecordAlign = 128;
inline constexpr size_t kRecordHeader = 128;
inline constexpr uint32_t kBlock = 4096;

enum class RecordKind : uint8_t { chunk = 1, hole = 2 };

struct SegmentRecord {
  RecordKind kind = RecordKind::chunk;
  uint8_t form = 0;        // how the bytes are stored: 0, as they are
  uint64_t footprint = 0;  // to the next record
  uint32_t length = 0;     // of the chunk
  uint32_t table_sum = 0;  // CRC32C of the table
  ChunkKey key;
  Id sha256{};
};

inline uint64_t table_bytes(uint32_t length) {
  return uint64_t(length + kBlock - 1) / kBlock * 4;
}
inline uint64_t footprint_of(uint32_t length) {
  return (kRecordHeader + table_bytes(length) + length + kRecordAlign - 1) / kRecordAlign * kRecordAlign;
}
// The checksums of all blocks of a chunk; each also covers the key and the block's number.
Bytes checksum_table(const ChunkKey& key, ByteView bytes);

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

  uint64_t dead_bytes() const { return end - kFirstRecord - live_bytes - fresh_bytes - hole_bytes; }

  Status write_file_header();
  Status check_file_header() const;
  Status write_record_header(uint64_t offset, const SegmentRecord& record, ByteView table, ByteView bytes);
  Status write_record_bytes(uint64_t offset, ByteView bytes);
  // Nothing when there is no whole header.
  Result<std::optional<SegmentRecord>> read_record(uint64_t offset) const;
  // Part of a chunk's bytes, checked. Code::corrupt, Code::io.
  Status read_chunk(const ChunkKey& key, uint64_t record, uint32_t length, uint32_t offset,
                    std::span<uint8_t> out) const;
  // All of a record's bytes, with the checks of the table and, when asked, the SHA-256.
  Result<Bytes> read_whole(uint64_t offset, const SegmentRecord& record, bool check_sha) const;
};
using SegmentPointer = std::shared_ptr<Segment>;

}  // namespace efs
