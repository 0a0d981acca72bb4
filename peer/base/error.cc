#include "peer/base/error.h"

#include <cerrno>
#include <cstring>

namespace efs {

namespace {
struct Row {
  Code code;
  int number;
  std::string_view name;
};
// The first row with an errno is what from_errno answers for it.
constexpr Row kRows[] = {
    {Code::ok, 0, "ok"},
    {Code::not_found, ENOENT, "not found"},
    {Code::exists, EEXIST, "exists already"},
    {Code::not_directory, ENOTDIR, "not a directory"},
    {Code::is_directory, EISDIR, "is a directory"},
    {Code::not_empty, ENOTEMPTY, "directory not empty"},
    {Code::not_permitted, EPERM, "not permitted"},
    {Code::access_denied, EACCES, "permission denied"},
    {Code::name_too_long, ENAMETOOLONG, "name too long"},
    {Code::invalid_argument, EINVAL, "invalid argument"},
    {Code::no_space, ENOSPC, "no space left"},
    {Code::over_quota, EDQUOT, "over quota"},
    {Code::read_only, EROFS, "read-only"},
    {Code::busy, EBUSY, "busy"},
    {Code::cross_volume, EXDEV, "on another volume"},
    {Code::too_many_links, EMLINK, "too many links"},
    {Code::too_large, EFBIG, "too large"},
    {Code::no_attribute, ENODATA, "no such attribute"},
    {Code::range, ERANGE, "out of range"},
    {Code::stale, ESTALE, "stale handle"},
    {Code::unsupported, EOPNOTSUPP, "not supported"},
    {Code::io, EIO, "input/output error"},
    {Code::corrupt, EIO, "corrupt data"},
    {Code::loop, ELOOP, "too many symbolic links"},
    {Code::interrupted, EINTR, "interrupted"},
    {Code::bad_handle, EBADF, "bad file handle"},
    {Code::no_device, ENXIO, "no such device"},
    {Code::unreachable, EHOSTUNREACH, "cannot be reached"},
    {Code::timed_out, ETIMEDOUT, "timed out"},
    {Code::not_owner, EREMCHG, "not the owner"},
    {Code::unauthorized, EACCES, "not authorized"},
    {Code::expired, ETIMEDOUT, "expired"},
    {Code::conflict, EAGAIN, "conflict"},
    {Code::protocol, EPROTO, "protocol error"},
    {Code::version, EPROTONOSUPPORT, "unknown version"},
    {Code::closed, ECONNRESET, "closed"},
    {Code::cancelled, EINTR, "cancelled"},
    {Code::overloaded, EAGAIN, "overloaded"},
    {Code::recalled, EAGAIN, "recalled"},
    {Code::uncached, EAGAIN, "not in memory"},
};
}  // namespace

std::string_view name_of(Code code) {
  for (const Row& row : kRows) {
    if (row.code == code) return row.name;
  }
  return "unknown error";
}

std::string to_text(const Error& error) {
  return error.message.empty() ? std::string(name_of(error.code)) : error.message;
}

Error from_errno(int number, std::string_view what) {
  Code code = Code::io;
  for (const Row& row : kRows) {
    if (row.number == number && number != 0) {
      code = row.code;
      break;
    }
  }
  if (number == ENOMEM || number == EMFILE || number == ENFILE) code = Code::overloaded;
  if (number == ECONNREFUSED || number == ENETUNREACH) code = Code::unreachable;
  return Error{code, std::string(what) + ": " + std::strerror(number)};
}

int to_errno(Code code) {
  for (const Row& row : kRows) {
    if (row.code == code) return row.number;
  }
  return EIO;
}

}  // namespace efs
