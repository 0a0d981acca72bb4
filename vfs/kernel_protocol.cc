#include "vfs/kernel_protocol.h"

#include <sys/stat.h>

#include <cstring>

#include "peer/runtime/clock.h"

namespace efs {

namespace {

constexpr uint32_t kGetattr = 3, kCreate = 35, kTmpfile = 51, kStatx = 52;
constexpr size_t kHeaderBytes = 40;  // struct fuse_in_header; the opcode is at 4

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

StatxTime to_time(const timespec& time) {
  return {time.tv_sec, uint32_t(time.tv_nsec), 0};
}

}  // namespace

void translate_request(fuse_buf& buffer) {
  serves_statx = false;
  if (buffer.size < kHeaderBytes || (buffer.flags & FUSE_BUF_IS_FD) != 0) return;
  char* const at = static_cast<char*>(buffer.mem) + 4;
  uint32_t opcode = 0;
  std::memcpy(&opcode, at, sizeof opcode);
  if (opcode != kTmpfile && opcode != kStatx) return;
  serves_statx = opcode == kStatx;
  opcode = serves_statx ? kGetattr : kCreate;
  std::memcpy(at, &opcode, sizeof opcode);
}

bool is_statx() {
  return serves_statx;
}

int reply_statx(fuse_req_t request, const struct stat& attributes, int64_t birth_ns, double timeout_seconds) {
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
