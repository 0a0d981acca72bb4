// Requests of the kernel that libfuse 3.14 does not know, made into ones that it does (linux/fuse.h).
//
// FUSE_TMPFILE (7.37) is FUSE_CREATE with the name "/", which no other file has. FUSE_STATX (7.39) begins as
// FUSE_GETATTR and wants another answer: whoever serves the request finds out by is_statx(). The kernel sends
// both whatever version was agreed on, and asks again without them where they are refused.
//
// Private to vfs/: includes libfuse.
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#endif
#include <fuse_lowlevel.h>

#include <cstdint>

namespace efs {

inline constexpr const char* kNameOfUnnamed = "/";

// On the thread that serves `buffer`, before libfuse looks at it.
void translate_request(fuse_buf& buffer);
// The request that this thread serves came as FUSE_STATX.
bool is_statx();
// As fuse_reply_attr, with the time of birth.
int reply_statx(fuse_req_t request, const struct stat& attributes, int64_t birth_ns, double timeout_seconds);

}  // namespace efs
