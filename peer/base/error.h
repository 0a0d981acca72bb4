// What can go wrong, as callers can react to it.
//
// Result<T> is returned by everything that can fail; absence that is expected is a std::optional instead.
// A code exists for each thing that a caller could react to, and no more. One function (to_errno) maps
// codes to errno, at the FUSE edge. The message is for people: what failed, on what, why, what to try;
// it stays empty on hot paths, where the code says it all, so that an error costs no allocation there.
// Thread-safe: values only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace efs {

// Stable numbers: they travel in replies and are stored in session results. Never reuse one.
enum class Code : uint16_t {
  ok = 0,
  // What a filesystem call can answer.
  not_found = 1,         // ENOENT
  exists = 2,            // EEXIST
  not_directory = 3,     // ENOTDIR
  is_directory = 4,      // EISDIR
  not_empty = 5,         // ENOTEMPTY
  not_permitted = 6,     // EPERM: not the owner, or a thing nobody may do
  access_denied = 7,     // EACCES: mode bits say no
  name_too_long = 8,     // ENAMETOOLONG
  invalid_argument = 9,  // EINVAL
  no_space = 10,         // ENOSPC
  over_quota = 11,       // EDQUOT
  read_only = 12,        // EROFS
  busy = 13,             // EBUSY
  cross_volume = 14,     // EXDEV
  too_many_links = 15,   // EMLINK
  too_large = 16,        // EFBIG; of a message or record: over its limit
  no_attribute = 17,     // ENODATA
  range = 18,            // ERANGE: the caller's buffer is too small
  stale = 19,            // ESTALE: the inode is gone
  unsupported = 20,      // ENOTSUP
  io = 21,               // EIO: the disk said so
  corrupt = 22,          // EIO: a checksum said so
  loop = 23,             // ELOOP
  interrupted = 24,      // EINTR
  bad_handle = 25,       // EBADF
  no_device = 26,        // ENXIO
  // What a peer can answer.
  unreachable = 40,   // no owner, no quorum, no peer answers
  timed_out = 41,     // an answer was due and did not come
  not_owner = 42,     // ask another peer; the locator was stale
  unauthorized = 43,  // the peer, key, signature or invite does not carry this right
  expired = 44,       // an invite, record or session that has ended
  conflict = 45,      // somebody else was first
  protocol = 46,      // bytes that do not follow the format
  version = 47,       // a format or feature that this program does not know
  closed = 48,        // the connection, loop or object is gone
  cancelled = 49,     // the caller gave up
  overloaded = 50,    // a bound was reached; try again later
  recalled = 51,      // a lease was recalled meanwhile; ask again
  uncached = 52,      // not in memory: ask where a disk may be waited for
};

struct Error {
  Code code = Code::ok;
  std::string message;  // for people; may be empty
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

[[nodiscard]] inline tl::unexpected<Error> fail(Code code) {
  return tl::unexpected<Error>(Error{code, {}});
}
[[nodiscard]] inline tl::unexpected<Error> fail(Code code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}
[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

// "not found", "exists", ...: for messages and logs.
std::string_view name_of(Code code);
// The message, or the code's name where there is none.
std::string to_text(const Error& error);
// From an errno of a system call; `what` says which call on what: "open /x: Permission denied".
Error from_errno(int number, std::string_view what);
// The errno for a code (0 for ok). Used at the FUSE edge only.
int to_errno(Code code);

// Returns the error of a Result from the enclosing function, else goes on.
#define EFS_TRY(expression)                                                     \
  do {                                                                          \
    auto efs_try_result = (expression);                                         \
    if (!efs_try_result) return ::efs::fail(std::move(efs_try_result.error())); \
  } while (false)
// Assigns the value of a Result: EFS_ASSIGN(auto file, open(path)).
#define EFS_ASSIGN_JOIN2(a, b) a##b
#define EFS_ASSIGN_JOIN(a, b) EFS_ASSIGN_JOIN2(a, b)
#define EFS_ASSIGN(target, expression) \
  EFS_ASSIGN_IN(EFS_ASSIGN_JOIN(efs_result_, __LINE__), target, expression)
#define EFS_ASSIGN_IN(name, target, expression)           \
  auto name = (expression);                               \
  if (!name) return ::efs::fail(std::move(name.error())); \
  target = std::move(*name)

}  // namespace efs
