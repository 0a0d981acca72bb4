// What a volume is made of, as everyone names it: inodes, attributes, entries, credentials.
// Plain values: any thread. Times are nanoseconds since 1970 UTC; sizes are bytes.
#pragma once

#include <string>
#include <vector>

#include "peer/base/compression.h"
#include "peer/base/encoding.h"
#include "peer/runtime/clock.h"

namespace efs {

using VolumeId = Id;              // random, for life
using VolumeNumber = uint32_t;    // 20 bits, given by the register, never reused; 0 is the root volume
using InodeNumber = uint64_t;     // within a volume: 44 bits, never reused; 1 is its root
using SessionId = ByteArray<16>;  // a mount's (or client's) dealings with one volume

inline constexpr VolumeNumber kRootVolume = 0;
inline constexpr InodeNumber kRootInode = 1;
inline constexpr unsigned kInodeBits = 44;
inline constexpr uint32_t kMaxVolumes = 1u << 20;
inline constexpr size_t kMaxName = 255;
inline constexpr size_t kMaxSymlink = 4095;
inline constexpr uint32_t kMaxLinks = 65000;  // as ext4; subdirectories are not limited by it
inline constexpr size_t kMaxXattrName = 255;
inline constexpr size_t kMaxXattrValue = 65536;
inline constexpr size_t kMaxXattrs = 65536;  // bytes of all names of an inode (listxattr's limit)
inline constexpr uint64_t kMaxFileSize = INT64_MAX;
inline constexpr uint64_t kBlockBytes = 4096;  // st_blksize; st_blocks, holes and fallocate(2) count in these
constexpr uint64_t block_start(uint64_t at) {
  return at / kBlockBytes * kBlockBytes;
}
constexpr uint64_t block_end(uint64_t at) {  // of at most kMaxFileSize
  return block_start(at + kBlockBytes - 1);
}
// A time that is later than this from now was set by somebody; one that is less, perhaps by a clock
// elsewhere.
inline constexpr int64_t kClocksApart = 10 * kSecond;
inline constexpr size_t kMaxGroups = 1024;
inline constexpr uint32_t kMaxWrite = 1 << 20;  // bytes of one Write or Read
inline constexpr uint32_t kInlineBytes = 2048;  // a file up to this size lives in its inode

// The inode number that people see (st_ino): the same on every mount.
inline uint64_t global_inode(VolumeNumber volume, InodeNumber inode) {
  return uint64_t(volume) << kInodeBits | inode;
}
inline VolumeNumber volume_of(uint64_t global) {
  return VolumeNumber(global >> kInodeBits);
}
inline InodeNumber inode_of(uint64_t global) {
  return global & ((uint64_t(1) << kInodeBits) - 1);
}

struct Credentials {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups;  // supplementary
  // Some callers learn the supplementary groups only at a price. They leave them out at first and repeat
  // the request with them when the answer is Code::access_denied or not_permitted.
  bool groups_known = false;
  static constexpr auto fields() {
    return std::tuple{field("u", &Credentials::uid), field("g", &Credentials::gid),
                      field("s", &Credentials::groups), field("k", &Credentials::groups_known)};
  }
};

// Of st_mode.
inline constexpr uint32_t kTypeBits = 0170000, kSetUid = 04000, kSetGid = 02000, kGroupExecute = 010;

struct Attributes {
  InodeNumber inode = 0;
  uint64_t generation = 0;
  uint32_t mode = 0;  // type and permission bits, as st_mode
  uint32_t uid = 0, gid = 0;
  uint32_t nlink = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;  // of 512 bytes: what its extents cover
  uint32_t rdev = 0;
  int64_t atime_ns = 0, mtime_ns = 0, ctime_ns = 0, btime_ns = 0;
  uint64_t change = 0;       // rises with every change of the inode, its content or its entries
  uint32_t xattr_bytes = 0;  // of all names of extended attributes, each with its NUL
  // An EntryList holds them in this order and of these sizes: new ones come at the end, and none ever goes.
  static constexpr auto fields() {
    return std::tuple{field("i", &Attributes::inode),      field("v", &Attributes::generation),
                      field("m", &Attributes::mode),       field("u", &Attributes::uid),
                      field("g", &Attributes::gid),        field("n", &Attributes::nlink),
                      field("s", &Attributes::size),       field("b", &Attributes::blocks),
                      field("r", &Attributes::rdev),       field("ta", &Attributes::atime_ns),
                      field("tm", &Attributes::mtime_ns),  field("tc", &Attributes::ctime_ns),
                      field("tb", &Attributes::btime_ns),  field("c", &Attributes::change),
                      field("x", &Attributes::xattr_bytes)};
  }
};

// relatime: whether reading this marks it.
inline bool marks_access(const Attributes& of, int64_t now_ns) {
  constexpr int64_t kDay = int64_t(24) * 3600 * 1000 * 1000 * 1000;
  return of.atime_ns <= of.mtime_ns || of.atime_ns <= of.ctime_ns || now_ns - of.atime_ns >= kDay;
}

// A directory entry that leads to another volume.
struct Junction {
  VolumeId volume{};
  VolumeNumber number = 0;
  static constexpr auto fields() {
    return std::tuple{field("id", &Junction::volume), field("n", &Junction::number)};
  }
};

// What a volume does with what is written to it. A change concerns what is written from then on.
struct VolumePolicy {
  Compression compression = Compression::none;  // of chunks, where it helps
  static constexpr auto fields() { return std::tuple{field("c", &VolumePolicy::compression)}; }
};

struct VolumeUsage {
  uint64_t files = 0;         // inodes in use
  uint64_t bytes = 0;         // what the extents and inline contents of all inodes cover
  uint64_t stored_bytes = 0;  // what its chunks take, equal ones once
  static constexpr auto fields() {
    return std::tuple{field("f", &VolumeUsage::files), field("b", &VolumeUsage::bytes),
                      field("s", &VolumeUsage::stored_bytes)};
  }
};

}  // namespace efs
