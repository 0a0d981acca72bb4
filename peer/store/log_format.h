// The bytes of a log file (docs/on-disk-format.md): its header and its records. Pure functions.
#pragma once

#include <optional>

#include "peer/base/bytes.h"
#include "peer/base/error.h"

namespace efs::log_format {

inline constexpr uint32_t kFileFormat = 1;
inline constexpr uint8_t kRecordFormat = 1;
inline constexpr size_t kFileHeaderBytes = 64;
inline constexpr size_t kFileHeadersBytes = 1024;  // two places, 512 bytes apart, written in turn
inline constexpr uint64_t kFirstRecord = 4096;
inline constexpr size_t kHeaderBytes = 56;
inline constexpr size_t kMaxPayload = 8 << 20;

// Up to where the log was known to be on the disk.
struct Mark {
  uint64_t sequence = 0;
  uint64_t offset = 0;
  auto operator<=>(const Mark&) const = default;
};

struct FileHeader {
  uint64_t use = 0;       // counts the headers of this file: the highest that is whole counts
  uint64_t sequence = 0;  // of the records in it; never used again, by any file
  bool empty = true;      // whatever records follow do not count
  Mark mark;
};
ByteArray<kFileHeaderBytes> encode(const FileHeader& header);
inline uint64_t header_offset(uint64_t use) {
  return use % 2 * 512;
}
// From the beginning of a file. A write that was cut leaves the header before it; where there was none, the
// file is new (use 0). Code::corrupt, Code::version.
Result<FileHeader> decode_file_header(ByteView bytes);

enum class Kind : uint8_t {
  record = 1,
  end = 2,        // of this file: the log goes on in the one with the next higher sequence
  clean_end = 3,  // of the log: closed in order
  start = 4,      // of the log after an open: until a clean_end follows, the close was not in order
};

struct RecordHeader {
  Kind kind = Kind::record;
  uint32_t length = 0;
  uint32_t group = 0;
  uint64_t sequence = 0;
  uint64_t term = 0;
  uint64_t index = 0;
  Mark mark;  // known when this was written
};
// `payload` goes into the checksum.
ByteArray<kHeaderBytes> encode(const RecordHeader& header, ByteView payload);

inline uint64_t record_bytes(uint64_t payload) {
  return (kHeaderBytes + payload + 7) / 8 * 8;
}

struct Parsed {
  RecordHeader header;
  ByteView payload;
};
// The record at `offset` of a file's contents, when a whole one of that sequence (0: any) is there.
std::optional<Parsed> parse(ByteView file, uint64_t offset, uint64_t sequence);

}  // namespace efs::log_format
