#include "peer/store/log_format.h"

#include <fmt/format.h>

#include <algorithm>

#include "peer/base/hash.h"

namespace efs::log_format {
namespace {

constexpr std::string_view kMagic = "efs log\n";
constexpr size_t kFileChecksum = 12;
constexpr size_t kRecordChecksum = 8;

// Of `bytes` with the four at `at` taken as zeros.
uint32_t checksum_without(ByteView bytes, size_t at) {
  static constexpr uint8_t kZeros[4] = {};
  uint32_t sum = crc32c(bytes.first(at));
  sum = crc32c(kZeros, sum);
  return crc32c(bytes.subspan(at + 4), sum);
}

}  // namespace

ByteArray<kFileHeaderBytes> encode(const FileHeader& header) {
  ByteArray<kFileHeaderBytes> bytes{};
  std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
  put_le(&bytes[8], kFileFormat);
  put_le(&bytes[16], header.sequence);
  put_le(&bytes[24], header.mark.sequence);
  put_le(&bytes[32], header.mark.offset);
  put_le(&bytes[40], header.use);
  bytes[48] = header.empty ? 1 : 0;
  put_le(&bytes[kFileChecksum], checksum_without(bytes, kFileChecksum));
  return bytes;
}

Result<FileHeader> decode_file_header(ByteView bytes) {
  FileHeader newest;
  bool damaged = false;
  for (uint64_t at = 0; at + kFileHeaderBytes <= std::min(bytes.size(), kFileHeadersBytes); at += 512) {
    ByteView one = bytes.subspan(at, kFileHeaderBytes);
    if (std::all_of(one.begin(), one.end(), [](uint8_t byte) { return byte == 0; })) continue;
    if (text(one.first(kMagic.size())) != kMagic ||
        get_le<uint32_t>(&one[kFileChecksum]) != checksum_without(one, kFileChecksum)) {
      damaged = true;
      continue;
    }
    if (auto format = get_le<uint32_t>(&one[8]); format != kFileFormat)
      return fail(Code::version,
                  fmt::format("it has format {}, this program knows {}: start it with the version of "
                              "efs-peer that wrote it, or a newer one",
                              format, kFileFormat));
    FileHeader header;
    header.sequence = get_le<uint64_t>(&one[16]);
    header.mark = {get_le<uint64_t>(&one[24]), get_le<uint64_t>(&one[32])};
    header.use = get_le<uint64_t>(&one[40]);
    header.empty = one[48] != 0;
    if (header.use > newest.use) newest = header;
  }
  // Records without a header are a header that the disk has lost.
  if (damaged && newest.use == 0 && parse(bytes, kFirstRecord, 0))
    return fail(Code::corrupt, "its headers are damaged");
  return newest;
}

ByteArray<kHeaderBytes> encode(const RecordHeader& header, ByteView payload) {
  ByteArray<kHeaderBytes> bytes{};
  bytes[0] = kRecordFormat;
  bytes[1] = uint8_t(header.kind);
  put_le(&bytes[4], uint32_t(payload.size()));
  put_le(&bytes[12], header.group);
  put_le(&bytes[16], header.sequence);
  put_le(&bytes[24], header.term);
  put_le(&bytes[32], header.index);
  put_le(&bytes[40], header.mark.sequence);
  put_le(&bytes[48], header.mark.offset);
  put_le(&bytes[kRecordChecksum], crc32c(payload, crc32c(bytes)));  // its own field is still zero
  return bytes;
}

std::optional<Parsed> parse(ByteView file, uint64_t offset, uint64_t sequence) {
  if (offset + kHeaderBytes > file.size()) return std::nullopt;
  ByteView bytes = file.subspan(offset, kHeaderBytes);
  Parsed found;
  RecordHeader& header = found.header;
  header.kind = Kind(bytes[1]);
  header.length = get_le<uint32_t>(&bytes[4]);
  header.sequence = get_le<uint64_t>(&bytes[16]);
  bool plausible = bytes[0] == kRecordFormat && bytes[1] >= uint8_t(Kind::record) &&
                   bytes[1] <= uint8_t(Kind::start) && (sequence == 0 || header.sequence == sequence) &&
                   header.length <= kMaxPayload && header.length <= file.size() - offset - kHeaderBytes;
  if (!plausible) return std::nullopt;
  found.payload = file.subspan(offset + kHeaderBytes, header.length);
  uint32_t sum = crc32c(found.payload, checksum_without(bytes, kRecordChecksum));
  if (sum != get_le<uint32_t>(&bytes[kRecordChecksum])) return std::nullopt;
  header.group = get_le<uint32_t>(&bytes[12]);
  header.term = get_le<uint64_t>(&bytes[24]);
  header.index = get_le<uint64_t>(&bytes[32]);
  header.mark = {get_le<uint64_t>(&bytes[40]), get_le<uint64_t>(&bytes[48])};
  return found;
}

}  // namespace efs::log_format
