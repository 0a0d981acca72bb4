// Files, as the store uses them: synchronous calls over a seam. The loop posts such work to the pool, FUSE
// threads call it, and the simulator runs the same code on disks that lose what was not synced.
//
// A File may be used by several threads at once; so may a FileSystem. Offsets and lengths are bytes.
// What survives power loss: the bytes and size of a file at its last sync(); a name's creation, rename or
// removal at the last sync_directory() of its directory. What survives a kill of the process: everything.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "peer/base/bytes.h"
#include "peer/base/error.h"

namespace efs {

// Which way a reader of chunks takes: see File.
enum class ReadBy : uint8_t { cache_or_disk, disk, cache };

class File {
 public:
  static constexpr uint64_t kDirectAlign = 4096;
  virtual ~File() = default;
  // Fewer bytes than asked only at the end of the file.
  virtual Result<size_t> read(uint64_t offset, std::span<uint8_t> out) const = 0;
  // The same, of many bytes that are not in the system's cache, and not asked for again soon: past it
  // (O_DIRECT), where both numbers are multiples of kDirectAlign and the disk is fast enough for that. What
  // is given is there until this thread's next such call.
  virtual Result<ByteView> read_directly(uint64_t offset, size_t length) const;
  // The same, to where the caller wants it: first `front`, then `out`. Past the cache where these begin at
  // such addresses, too.
  virtual Result<size_t> read_directly(uint64_t offset, std::span<uint8_t> front,
                                       std::span<uint8_t> out) const;
  // The same as read(), without waiting for a disk: Code::uncached for what is not in the system's cache,
  // and is on its way there then.
  virtual Result<size_t> read_cached(uint64_t offset, std::span<uint8_t> out) const {
    return read(offset, out);
  }
  // All or an error; what part of a failed write is there is undefined.
  virtual Status write(uint64_t offset, ByteView bytes) = 0;
  virtual Status write_vector(uint64_t offset, std::span<const ByteView> pieces) = 0;
  // The same, of many bytes: past the system's cache, where the disk is fast enough for that.
  virtual Status write_directly(uint64_t offset, ByteView bytes) { return write(offset, bytes); }
  virtual Status sync() = 0;  // fdatasync(2): data and size
  virtual Status truncate(uint64_t size) = 0;
  virtual Status allocate(uint64_t offset, uint64_t length) = 0;  // fallocate(2), grows the file
  virtual Status punch(uint64_t offset, uint64_t length) = 0;     // a hole; the size stays
  virtual Result<uint64_t> size() const = 0;
  virtual Result<uint64_t> allocated_bytes() const = 0;
};

struct DiskSpace {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // what this process may still fill
};

enum class OpenMode { read, read_write, create, create_new };

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  virtual Status remove(const std::string& path) = 0;  // a file, or an empty directory
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status make_directories(const std::string& path, unsigned mode) = 0;
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;  // names, sorted
  // False only when it is certainly not there: what cannot be looked at fails where it is opened, and is not
  // taken for something new.
  virtual bool exists(const std::string& path) = 0;
  virtual Status sync_directory(const std::string& path) = 0;
  virtual Result<DiskSpace> space(const std::string& path) = 0;
  // Held until the token dies or the process ends; Code::busy when another holds it.
  virtual Result<std::shared_ptr<void>> lock(const std::string& path) = 0;

  // Whole small files: read, and replaced so that a crash leaves the old or the new (write path + ".new",
  // sync, rename, sync the directory); one call a path at a time.
  Result<Bytes> read_file(const std::string& path, size_t limit_bytes = 16 << 20);
  Status replace_file(const std::string& path, ByteView bytes);
};

}  // namespace efs
