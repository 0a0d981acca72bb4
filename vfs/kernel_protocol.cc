#include "vfs/kernel_protocol.h"

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#endif
#include <fuse_lowlevel.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "peer/runtime/clock.h"

namespace efs {

namespace {

constexpr uint32_t kHandleKillpriv2 = 1u << 28;  // of struct fuse_init_in and fuse_init_out: flags, at 12
constexpr size_t kInitFlagsAt = 12;
constexpr uint32_t kWriteKillsSuid = 1u << 2;  // of struct fuse_write_in: write_flags, at 20
constexpr size_t kWriteFlagsAt = 20;
constexpr size_t kLeastBody = 16;    // of all of these
constexpr size_t kHeaderBytes = 40;  // struct fuse_in_header; the opcode is at 4
constexpr size_t kUniqueAt = 8;

struct StatxTime {  // struct fuse_sx_time
  int64_t seconds = 0;
  uint32_t ns = 0;
  int32_t reserved = 0;
};
struct StatxAnswer {  // struct fuse_statx_out
  uint64_t valid_seconds = 0;
  uint32_t valid_ns = 0, flags = 0;
  uint64_t spare[2] = {};
  // struct fuse_statx
  uint32_t mask = 0, block_bytes = 0;
  uint64_t attributes = 0;
  uint32_t nlink = 0, uid = 0, gid = 0;
  uint16_t mode = 0, spare0 = 0;
  uint64_t inode = 0, size = 0, blocks = 0, attributes_mask = 0;
  StatxTime atime, btime, ctime, mtime;
  uint32_t rdev_major = 0, rdev_minor = 0, dev_major = 0, dev_minor = 0;
  uint64_t spare2[14] = {};
};
static_assert(sizeof(StatxAnswer) == 288);

thread_local bool serves_statx = false;
thread_local bool serves_init = false;  // of a kernel that knows kHandleKillpriv2
thread_local bool serves_killing_write = false;
thread_local uint64_t serves_number = 0;

uint32_t get(const char* at) {
  uint32_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return value;
}

ssize_t read_device(int fd, void* to, size_t size, void*) {
  return read(fd, to, size);
}

// The answer to FUSE_INIT: struct fuse_out_header, then struct fuse_init_out.
ssize_t write_device(int fd, iovec* parts, int count, void*) {
  if (std::exchange(serves_init, false) && count == 2 &&
      parts[1].iov_len >= kInitFlagsAt + sizeof(uint32_t)) {
    char* const at = static_cast<char*>(parts[1].iov_base) + kInitFlagsAt;
    const uint32_t flags = get(at) | kHandleKillpriv2;
    std::memcpy(at, &flags, sizeof flags);
  }
  return writev(fd, parts, count);
}

StatxTime to_time(const timespec& time) {
  return {time.tv_sec, uint32_t(time.tv_nsec), 0};
}

}  // namespace

void translate_request(fuse_buf& buffer) {
  serves_statx = serves_init = serves_killing_write = false;
  if (buffer.size < kHeaderBytes + kLeastBody || (buffer.flags & FUSE_BUF_IS_FD) != 0) return;
  char* const opcode_at = static_cast<char*>(buffer.mem) + 4;
  const char* const body = static_cast<const char*>(buffer.mem) + kHeaderBytes;
  std::memcpy(&serves_number, static_cast<const char*>(buffer.mem) + kUniqueAt, sizeof serves_number);
  uint32_t asked = get(opcode_at);
  if (asked == opcode::kWrite && buffer.size >= kHeaderBytes + kWriteFlagsAt + sizeof(uint32_t))
    serves_killing_write = (get(body + kWriteFlagsAt) & kWriteKillsSuid) != 0;
  if (asked == opcode::kInit) serves_init = (get(body + kInitFlagsAt) & kHandleKillpriv2) != 0;
  if (asked != opcode::kTmpfile && asked != opcode::kStatx) return;
  serves_statx = asked == opcode::kStatx;
  asked = serves_statx ? opcode::kGetattr : opcode::kCreate;
  std::memcpy(opcode_at, &asked, sizeof asked);
}

bool kills_suid() {
  return serves_killing_write;
}

uint64_t request_number() {
  return serves_number;
}

const fuse_custom_io& protocol_io() {
  static const fuse_custom_io io = [] {
    fuse_custom_io made{};
    made.read = read_device;
    made.writev = write_device;
    return made;
  }();
  return io;
}

bool is_statx() {
  return serves_statx;
}

int reply_statx(fuse_req* request, const struct stat& attributes, int64_t birth_ns, double timeout_seconds) {
  StatxAnswer out;
  out.valid_seconds = uint64_t(timeout_seconds);
  out.valid_ns = uint32_t((timeout_seconds - double(out.valid_seconds)) * double(kSecond));
  out.mask = STATX_BASIC_STATS | STATX_BTIME;
  out.block_bytes = uint32_t(attributes.st_blksize);
  out.nlink = uint32_t(attributes.st_nlink);
  out.uid = attributes.st_uid;
  out.gid = attributes.st_gid;
  out.mode = uint16_t(attributes.st_mode);
  out.inode = attributes.st_ino;
  out.size = uint64_t(attributes.st_size);
  out.blocks = uint64_t(attributes.st_blocks);
  out.atime = to_time(attributes.st_atim);
  out.ctime = to_time(attributes.st_ctim);
  out.mtime = to_time(attributes.st_mtim);
  out.btime.seconds = birth_ns / kSecond;
  out.btime.ns = uint32_t(birth_ns % kSecond);
  const auto device = uint32_t(attributes.st_rdev);  // as the kernel writes it: new_encode_dev()
  out.rdev_major = (device & 0xfff00) >> 8;
  out.rdev_minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  return fuse_reply_buf(request, reinterpret_cast<const char*>(&out), sizeof out);
}

}  // namespace efs
