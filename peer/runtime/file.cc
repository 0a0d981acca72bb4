#include "peer/runtime/file.h"

#include <fmt/format.h>

namespace efs {

namespace {
constexpr size_t kReadStep = 4096;

std::string directory_of(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status write_whole(FileSystem& files, const std::string& path, ByteView bytes) {
  EFS_ASSIGN(auto file, files.open(path, OpenMode::create));
  EFS_TRY(file->truncate(0));  // what a crash may have left there
  EFS_TRY(file->write(0, bytes));
  return file->sync();
}

// Files of /proc have a content and the size 0.
Result<Bytes> read_unsized(File& file, const std::string& path, size_t limit_bytes) {
  Bytes bytes;
  for (size_t length = 0;;) {
    bytes.resize(length + kReadStep);
    EFS_ASSIGN(const size_t got, file.read(length, std::span(bytes).subspan(length)));
    length += got;
    bytes.resize(length);
    if (got == 0) return bytes;
    if (length > limit_bytes)
      return fail(Code::too_large, fmt::format("{} has more than {} bytes", path, limit_bytes));
  }
}
}  // namespace

Result<ByteView> File::read_directly(uint64_t offset, size_t length) const {
  thread_local Bytes bytes;
  if (bytes.size() < length) bytes.resize(length);
  EFS_ASSIGN(const size_t got, read(offset, std::span(bytes).first(length)));
  return ByteView(bytes).first(got);
}

Result<size_t> File::read_directly(uint64_t offset, std::span<uint8_t> front, std::span<uint8_t> out) const {
  EFS_ASSIGN(const size_t got, read(offset, front));
  if (got < front.size()) return got;
  EFS_ASSIGN(const size_t rest, read(offset + got, out));
  return got + rest;
}

Result<Bytes> FileSystem::read_file(const std::string& path, size_t limit_bytes) {
  EFS_ASSIGN(auto file, open(path, OpenMode::read));
  EFS_ASSIGN(uint64_t size, file->size());
  if (size > limit_bytes) {
    return fail(Code::too_large,
                fmt::format("{} has {} bytes; at most {} are expected there", path, size, limit_bytes));
  }
  if (size == 0) return read_unsized(*file, path, limit_bytes);
  Bytes bytes(size);
  EFS_ASSIGN(size_t length, file->read(0, bytes));
  bytes.resize(length);
  return bytes;
}

Status FileSystem::replace_file(const std::string& path, ByteView bytes) {
  std::string fresh = path + ".new";
  Status written = write_whole(*this, fresh, bytes);
  if (written) written = rename(fresh, path);
  if (!written) {
    (void)remove(fresh);
    return written;
  }
  return sync_directory(directory_of(path));
}

}  // namespace efs
