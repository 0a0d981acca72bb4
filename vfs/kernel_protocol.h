// Requests of the kernel that libfuse 3.14 does not know, made into ones that it does (linux/fuse.h).
//
// FUSE_TMPFILE (7.37) is FUSE_CREATE with the name "/", which no other file has. FUSE_STATX (7.39) begins as
// FUSE_GETATTR and wants another answer: whoever serves the request finds out by is_statx(). The kernel sends
// both whatever version was agreed on, and asks again without them where they are refused.
//
// FUSE_HANDLE_KILLPRIV_V2 (7.33): whoever serves a write clears setuid and setgid when kills_suid() says so,
// and the kernel no longer asks for security.capability before each. Agreed on in the answer to FUSE_INIT, by
// protocol_io(); without it (a mount by fusermount3) the kernel clears them by a SETATTR before the write.
// Private to vfs/.
#pragma once

#include <cstdint>

struct fuse_buf;
struct fuse_custom_io;
struct fuse_req;
struct stat;

namespace efs {

// What a request asks for, of those that are looked at before libfuse does.
namespace opcode {
inline constexpr uint32_t kGetattr = 3, kRead = 15, kWrite = 16, kFsync = 20, kFlush = 25, kInit = 26,
                          kCreate = 35, kFallocate = 43, kTmpfile = 51, kStatx = 52;
}

inline constexpr const char* kNameOfUnnamed = "/";

// On the thread that serves `buffer`, before libfuse looks at it.
void translate_request(fuse_buf& buffer);
// The request that this thread serves came as FUSE_STATX.
bool is_statx();
// The write that this thread serves takes setuid and setgid away.
bool kills_suid();
// Of the request that this thread serves, greater than that of any that the kernel has queued before.
uint64_t request_number();
// How a session of libfuse reads and writes /dev/fuse.
const fuse_custom_io& protocol_io();
// As fuse_reply_attr, with the time of birth.
int reply_statx(fuse_req* request, const struct stat& attributes, int64_t birth_ns, double timeout_seconds);

}  // namespace efs
