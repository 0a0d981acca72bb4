#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include <sstream>

#include "test/model/model.h"

namespace model {

namespace {

constexpr const char* kNames[] = {
    "open",  "close",  "write",     "read",      "ftruncate",    "truncate",  "fallocate",
    "copy",  "seek",   "map_write", "fsync",     "fstat",        "stat",      "mkdir",
    "rmdir", "unlink", "rename",    "link",      "symlink",      "readlink",  "mkfifo",
    "chmod", "list",   "set_xattr", "get_xattr", "remove_xattr", "list_xattr"};
static_assert(std::size(kNames) == size_t(Kind::count));

std::string draw_path(Random& random) {
  static constexpr const char* kParts[] = {"a", "b", "c", "d"};
  std::string path = kParts[random.below(4)];
  for (unsigned depth = random.below(6); depth >= 4; --depth)
    path += std::string("/") + kParts[random.below(4)];
  return path;
}

// Often at a border: of a page, of small content, of bytes that travel in an operation.
uint32_t draw_offset(Random& random) {
  static constexpr uint32_t kBorders[] = {0,    1,    2047,  2048,  2049,   4095,
                                          4096, 8192, 65535, 65536, 131072, 262144};
  if (random.below(2) == 0) return kBorders[random.below(std::size(kBorders))];
  return random.below(random.below(4) == 0 ? kMaxFile : 10'000);
}

uint32_t draw_flags(Kind kind, Random& random) {
  static constexpr uint32_t kAllocate[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                           FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
  static constexpr uint32_t kRename[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
  static constexpr uint32_t kXattr[] = {0, XATTR_CREATE, XATTR_REPLACE};
  switch (kind) {
    case Kind::open:
      return (random.below(4) != 0 ? O_CREAT : 0) | (random.below(8) == 0 ? O_EXCL | O_CREAT : 0) |
             (random.below(5) == 0 ? O_TRUNC : 0) | (random.below(4) == 0 ? O_APPEND : 0);
    case Kind::fallocate:
      return kAllocate[random.below(std::size(kAllocate))];
    case Kind::rename:
      return kRename[random.below(std::size(kRename))];
    case Kind::set_xattr:
      return kXattr[random.below(std::size(kXattr))];
    default:
      return random.next();
  }
}

}  // namespace

std::string bytes_of(uint32_t seed, uint32_t length) {
  std::string out(length, '\0');
  Random random(seed);
  for (size_t at = 0; at < out.size(); at += 64) out[at] = char(random.next() | 1);
  for (size_t at = 0; at < out.size(); ++at) {
    if (at % 64 != 0) out[at] = char(out[at - at % 64] + char(at));
  }
  return out;
}

std::string describe(const std::string& bytes) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (char byte : bytes) hash = (hash ^ uint8_t(byte)) * 1099511628211u;
  std::ostringstream out;
  out << bytes.size() << ":" << std::hex << hash;
  return out.str();
}

Operation draw(Random& random, unsigned mounts) {
  // Bytes more often than names, closing less often than opening.
  static constexpr Kind kOften[] = {Kind::open, Kind::open,      Kind::write,  Kind::write, Kind::write,
                                    Kind::read, Kind::ftruncate, Kind::stat,   Kind::list,  Kind::rename,
                                    Kind::copy, Kind::fallocate, Kind::unlink, Kind::mkdir};
  Operation out;
  out.kind = random.below(2) == 0 ? kOften[random.below(std::size(kOften))]
                                  : Kind(random.below(uint32_t(Kind::count)));
  out.mount = uint8_t(random.below(mounts));
  out.path = draw_path(random);
  out.other = draw_path(random);
  out.slot = uint8_t(random.below(kSlots));
  out.slot2 = uint8_t(random.below(kSlots));
  out.offset = draw_offset(random);
  out.offset2 = draw_offset(random);
  out.length = 1 + draw_offset(random) % 100'000;
  out.flags = draw_flags(out.kind, random);
  out.seed = random.next();
  return out;
}

std::string to_text(const Operation& operation) {
  std::ostringstream out;
  out << kNames[size_t(operation.kind)] << " mount=" << int(operation.mount) << " path=" << operation.path
      << " other=" << operation.other << " slot=" << int(operation.slot) << "," << int(operation.slot2)
      << " offset=" << operation.offset << "," << operation.offset2 << " length=" << operation.length
      << " flags=0x" << std::hex << operation.flags << " seed=0x" << operation.seed;
  return out.str();
}

}  // namespace model
