// Files by system calls: whatever the kernel does in part or interrupts is gone on with here.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <optional>

#include "peer/base/descriptor.h"
#include "peer/runtime/real.h"

namespace efs {

namespace {

constexpr mode_t kFileMode = 0600;  // keys, chunks and logs are for the user that runs the peer
constexpr size_t kPiecesAtOnce = 64;
// A disk that takes direct writes more slowly than this (bytes a second) is better served by the system's
// cache, which gathers and sorts; it is tried again after so many bytes.
constexpr uint64_t kDirectPace = 200 << 20;
constexpr uint64_t kDirectRest = 1 << 30;
constexpr uint64_t kDirectTrial = 16 << 20;  // bytes that the pace is taken over

template <typename Call>
auto retry(Call call) {
  while (true) {
    auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

tl::unexpected<Error> failed(std::string_view call, const std::string& path) {
  int number = errno;
  return fail(from_errno(number, fmt::format("{} {}", call, path)));
}

// Direct reads and writes want aligned memory: other bytes are copied through this.
class AlignedBuffer {
 public:
  // `size` is a multiple of kDirectAlign.
  uint8_t* room(size_t size) {
    if (size_ < size) {
      bytes_.reset(static_cast<uint8_t*>(std::aligned_alloc(File::kDirectAlign, size)));
      if (!bytes_) throw std::bad_alloc();
      size_ = size;
    }
    return bytes_.get();
  }
  ByteView hold(ByteView bytes) {
    std::memcpy(room(bytes.size()), bytes.data(), bytes.size());
    return {bytes_.get(), bytes.size()};
  }

 private:
  struct Free {
    void operator()(uint8_t* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<uint8_t, Free> bytes_;
  size_t size_ = 0;
};

AlignedBuffer& aligned_buffer() {
  thread_local AlignedBuffer buffer;
  return buffer;
}
bool is_aligned(uint64_t offset, size_t size) {
  return offset % File::kDirectAlign == 0 && size % File::kDirectAlign == 0;
}
bool is_aligned(const uint8_t* at) {
  return reinterpret_cast<uintptr_t>(at) % File::kDirectAlign == 0;
}

// Whether a file's disk takes direct reads and writes, and at what pace. Any thread.
class DirectPace {
 public:
  bool may_go() const {
    std::lock_guard lock(mutex_);
    return !refused_ && rest_ == 0;
  }
  void refuse() {
    std::lock_guard lock(mutex_);
    refused_ = true;
  }
  void wrote(size_t bytes, int64_t took_ns) {
    std::lock_guard lock(mutex_);
    bytes_ += bytes;
    took_ns_ += took_ns;
    if (bytes_ < kDirectTrial) return;
    if (double(bytes_) * 1e9 < double(kDirectPace) * double(took_ns_)) rest_ = kDirectRest;
    bytes_ = 0;
    took_ns_ = 0;
  }
  void wrote_through_cache(size_t bytes) {
    std::lock_guard lock(mutex_);
    rest_ -= std::min<uint64_t>(rest_, bytes);
  }

 private:
  mutable std::mutex mutex_;
  bool refused_ = false;
  uint64_t rest_ = 0;  // bytes to be written through the cache before the next trial
  uint64_t bytes_ = 0;
  int64_t took_ns_ = 0;
};

class RealFile final : public File {
 public:
  RealFile(Descriptor fd, std::string path, int access)
      : fd_(std::move(fd)), path_(std::move(path)), access_(access) {}

  Result<size_t> read(uint64_t offset, std::span<uint8_t> out) const override {
    return read_all(offset, out, 0);
  }

  Result<size_t> read_cached(uint64_t offset, std::span<uint8_t> out) const override {
    return read_all(offset, out, RWF_NOWAIT);
  }

  Status write(uint64_t offset, ByteView bytes) override {
    while (!bytes.empty()) {
      ssize_t put = retry([&] { return ::pwrite(fd_.get(), bytes.data(), bytes.size(), off_t(offset)); });
      if (put < 0) return failed("write", path_);
      offset += uint64_t(put);
      bytes = bytes.subspan(size_t(put));
    }
    return {};
  }

  Status write_vector(uint64_t offset, std::span<const ByteView> pieces) override {
    size_t skip = 0;  // bytes of pieces[0] that are written
    while (!pieces.empty()) {
      std::array<iovec, kPiecesAtOnce> vectors;
      size_t count = std::min(pieces.size(), vectors.size()), bytes = 0;
      for (size_t i = 0; i < count; ++i) {
        ByteView rest = i == 0 ? pieces[0].subspan(skip) : pieces[i];
        vectors[i] = {const_cast<uint8_t*>(rest.data()), rest.size()};
        bytes += rest.size();
      }
      ssize_t put =
          bytes == 0 ? 0
                     : retry([&] { return ::pwritev(fd_.get(), vectors.data(), int(count), off_t(offset)); });
      if (put < 0) return failed("write", path_);
      offset += uint64_t(put);
      size_t left = size_t(put), whole = 0;
      while (whole < count && left >= vectors[whole].iov_len) left -= vectors[whole++].iov_len;
      skip = whole == 0 ? skip + left : left;
      pieces = pieces.subspan(whole);
    }
    return {};
  }

  Status write_directly(uint64_t offset, ByteView bytes) override {
    if (is_aligned(offset, bytes.size()) && pace_.may_go() && open_direct()) {
      const ByteView from = is_aligned(bytes.data()) ? bytes : aligned_buffer().hold(bytes);
      const auto start = std::chrono::steady_clock::now();
      const ssize_t put =
          retry([&] { return ::pwrite(direct_->get(), from.data(), from.size(), off_t(offset)); });
      if (put == ssize_t(from.size())) {
        pace_.wrote(from.size(), (std::chrono::steady_clock::now() - start) / std::chrono::nanoseconds(1));
        return {};
      }
      // A part of it, or this disk wants it otherwise, or a real error, which the cache's write meets too.
      if (put < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) pace_.refuse();
    }
    pace_.wrote_through_cache(bytes.size());
    return write(offset, bytes);
  }

  Result<ByteView> read_directly(uint64_t offset, size_t length) const override {
    const size_t room = (length + kDirectAlign - 1) / kDirectAlign * kDirectAlign;
    const std::span<uint8_t> out(aligned_buffer().room(room), length);
    // To ask the cache first (RWF_NOWAIT) would have the system read ahead into it.
    if (is_aligned(offset, length) && pace_.may_go() && open_direct()) {
      const ssize_t got = retry([&] { return ::pread(direct_->get(), out.data(), length, off_t(offset)); });
      if (got == ssize_t(length)) return ByteView(out);
    }
    EFS_ASSIGN(const size_t whole, read(offset, out));
    return ByteView(out).first(whole);
  }

  Result<size_t> read_directly(uint64_t offset, std::span<uint8_t> front,
                               std::span<uint8_t> out) const override {
    const bool fits = is_aligned(offset, front.size()) && is_aligned(offset, out.size()) &&
                      is_aligned(front.data()) && is_aligned(out.data());
    if (fits && pace_.may_go() && open_direct()) {
      const std::array<iovec, 2> parts{{{front.data(), front.size()}, {out.data(), out.size()}}};
      const ssize_t got =
          retry([&] { return ::preadv(direct_->get(), parts.data(), int(parts.size()), off_t(offset)); });
      if (got == ssize_t(front.size() + out.size())) return size_t(got);
    }
    return File::read_directly(offset, front, out);
  }

  Status sync() override {
    if (retry([&] { return ::fdatasync(fd_.get()); }) < 0) return failed("sync", path_);
    return {};
  }

  Status truncate(uint64_t size) override {
    if (retry([&] { return ::ftruncate(fd_.get(), off_t(size)); }) < 0) return failed("truncate", path_);
    return {};
  }

  // posix_fallocate writes zeros itself where the filesystem has no fallocate.
  Status allocate(uint64_t offset, uint64_t length) override {
    int error;
    do {
      error = ::posix_fallocate(fd_.get(), off_t(offset), off_t(length));
    } while (error == EINTR);
    if (error) return fail(from_errno(error, "allocate " + path_));
    return {};
  }

  Status punch(uint64_t offset, uint64_t length) override {
    int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (retry([&] { return ::fallocate(fd_.get(), how, off_t(offset), off_t(length)); }) < 0)
      return failed("punch", path_);
    return {};
  }

  Result<uint64_t> size() const override {
    struct stat about;
    if (::fstat(fd_.get(), &about) < 0) return failed("stat", path_);
    return uint64_t(about.st_size);
  }

  Result<uint64_t> allocated_bytes() const override {
    struct stat about;
    if (::fstat(fd_.get(), &about) < 0) return failed("stat", path_);
    return uint64_t(about.st_blocks) * 512;  // stat(2): in units of 512, whatever the block size
  }

 private:
  Result<size_t> read_all(uint64_t offset, std::span<uint8_t> out, int flags) const {
    size_t done = 0;
    while (done < out.size()) {
      const iovec rest{out.data() + done, out.size() - done};
      const ssize_t got = retry([&] { return ::preadv2(fd_.get(), &rest, 1, off_t(offset + done), flags); });
      if (got < 0 && flags != 0 && (errno == EAGAIN || errno == EOPNOTSUPP)) return fail(Code::uncached);
      if (got < 0) return failed("read", path_);
      if (got == 0) break;
      done += size_t(got);
    }
    return done;
  }

  // A second description of the same file: O_DIRECT is a flag of the description.
  bool open_direct() const {
    std::call_once(direct_opened_, [&] {
      const std::string same = fmt::format("/proc/self/fd/{}", fd_.get());
      direct_.emplace(retry([&] { return ::open(same.c_str(), access_ | O_DIRECT | O_CLOEXEC); }));
    });
    return direct_->valid();
  }

  const Descriptor fd_;
  const std::string path_;
  const int access_;  // O_RDONLY or O_RDWR
  mutable std::once_flag direct_opened_;
  mutable std::optional<Descriptor> direct_;
  DirectPace pace_;
};

int open_flags(OpenMode mode) {
  switch (mode) {
    case OpenMode::read:
      return O_RDONLY;
    case OpenMode::read_write:
      return O_RDWR;
    case OpenMode::create:
      return O_RDWR | O_CREAT;
    case OpenMode::create_new:
      return O_RDWR | O_CREAT | O_EXCL;
  }
  return O_RDONLY;
}

Descriptor open_descriptor(const std::string& path, int flags) {
  return Descriptor(retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, kFileMode); }));
}

class RealFiles final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    Descriptor fd = open_descriptor(path, open_flags(mode));
    if (!fd.valid()) return failed(mode == OpenMode::create_new ? "create" : "open", path);
    return std::make_unique<RealFile>(std::move(fd), path, open_flags(mode) & O_ACCMODE);
  }

  Status remove(const std::string& path) override {
    if (::unlink(path.c_str()) == 0) return {};
    if (errno == EISDIR && ::rmdir(path.c_str()) == 0) return {};
    return failed("remove", path);
  }

  Status rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) < 0) return failed("rename", fmt::format("{} to {}", from, to));
    return {};
  }

  Status make_directories(const std::string& path, unsigned mode) override {
    for (size_t end = 0; end != std::string::npos;) {
      end = path.find('/', end + 1);
      std::string part = path.substr(0, end);
      if (::mkdir(part.c_str(), mode) == 0) continue;
      int number = errno;
      struct stat about;
      if (::stat(part.c_str(), &about) == 0 && S_ISDIR(about.st_mode)) continue;
      if (number == EEXIST) number = ENOTDIR;
      return fail(from_errno(number, "make directory " + part));
    }
    return {};
  }

  Result<std::vector<std::string>> list(const std::string& path) override {
    std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
    if (!directory) return failed("list", path);
    std::vector<std::string> names;
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(directory.get());
      if (!entry) break;
      std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return failed("list", path);
    std::sort(names.begin(), names.end());
    return names;
  }

  bool exists(const std::string& path) override {
    struct stat about;
    return ::lstat(path.c_str(), &about) == 0 || (errno != ENOENT && errno != ENOTDIR);
  }

  Status sync_directory(const std::string& path) override {
    Descriptor fd = open_descriptor(path, O_RDONLY | O_DIRECTORY);
    if (!fd.valid()) return failed("open directory", path);
    if (retry([&] { return ::fsync(fd.get()); }) < 0) return failed("sync directory", path);
    return {};
  }

  Result<DiskSpace> space(const std::string& path) override {
    struct statvfs about;
    if (retry([&] { return ::statvfs(path.c_str(), &about); }) < 0) return failed("statvfs", path);
    // Without what the filesystem keeps back for root, for a peer that runs as root too.
    return DiskSpace{.total_bytes = uint64_t(about.f_blocks) * about.f_frsize,
                     .free_bytes = uint64_t(about.f_bavail) * about.f_frsize};
  }

  Result<std::shared_ptr<void>> lock(const std::string& path) override {
    auto fd = std::make_shared<Descriptor>(open_descriptor(path, O_RDWR | O_CREAT));
    if (!fd->valid()) return failed("open", path);
    if (retry([&] { return ::flock(fd->get(), LOCK_EX | LOCK_NB); }) == 0) return std::shared_ptr<void>(fd);
    if (errno == EWOULDBLOCK) return fail(Code::busy, path + " is locked by another process");
    return failed("lock", path);
  }
};

}  // namespace

FileSystem& real_files() {
  static RealFiles files;
  return files;
}

}  // namespace efs
