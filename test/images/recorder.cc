#undef _FILE_OFFSET_BITS  // both names of each call are defined here: pwrite and pwrite64, ...
#include "test/images/recorder.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>

namespace efs::test {
namespace {

constexpr unsigned kSyncTime_us = 100;

struct Recorder {
  std::mutex mutex;
  bool on = false;
  std::string root;  // ends with a slash
  Trace trace;
  std::map<std::string, uint32_t> files;  // by path
  uint32_t next_file = 1;
  struct Opened {
    uint32_t file = 0;
    std::string directory;  // of a directory
    bool is_directory = false, durable = false;
  };
  std::map<int, Opened> opened;

  // Relative to the root; nothing for what is elsewhere.
  std::optional<std::string> inside(const char* path) const {
    std::string full = path;
    if (full + "/" == root) return "";
    if (!on || !full.starts_with(root)) return std::nullopt;
    full.erase(0, root.size());
    for (size_t at; (at = full.find("//")) != std::string::npos;) full.erase(at, 1);
    while (full.ends_with('/')) full.pop_back();
    return full;
  }
  TraceEvent& add(TraceEvent::Kind kind) {
    trace.push_back({});
    trace.back().kind = kind;
    return trace.back();
  }
  uint32_t file_of(const std::string& path) {
    auto [at, fresh] = files.try_emplace(path, next_file);
    next_file += fresh;
    return at->second;
  }
  Opened* find(int fd) {
    if (!on) return nullptr;
    auto at = opened.find(fd);
    return at == opened.end() ? nullptr : &at->second;
  }
};
Recorder& recorder() {
  static auto* one = new Recorder;  // threads of libraries may outlive main
  return *one;
}

// Numbers as the disk at the start has them, in the order of the paths.
std::map<std::string, uint32_t> number(const Disk& disk) {
  std::map<std::string, uint32_t> files;
  for (const auto& [path, node] : disk.nodes) files.emplace(path, uint32_t(files.size() + 1));
  return files;
}

}  // namespace

void start_recording(const std::string& directory) {
  const auto files = number(read_disk(directory));
  auto& to = recorder();
  std::lock_guard lock(to.mutex);
  to.root = directory + "/";
  to.files = files;
  to.next_file = uint32_t(files.size() + 1);
  to.trace.clear();
  to.opened.clear();
  to.on = true;
}
Trace stop_recording() {
  auto& from = recorder();
  std::lock_guard lock(from.mutex);
  from.on = false;
  return std::move(from.trace);
}
void record_promise(uint32_t volume, uint64_t index) {
  auto& to = recorder();
  std::lock_guard lock(to.mutex);
  if (!to.on) return;
  auto& event = to.add(TraceEvent::promise);
  event.file = volume;
  event.begun = index;
}

// ---- the calls ----

namespace {

int do_open(int at, const char* path, int flags, mode_t mode) {
  auto& to = recorder();
  std::lock_guard lock(to.mutex);
  const auto inside = at == AT_FDCWD ? to.inside(path) : std::nullopt;
  const bool known = inside && to.files.contains(*inside);
  const int fd = int(syscall(SYS_openat, at, path, flags, mode));
  if (fd < 0 || !inside) return fd;
  Recorder::Opened opened;
  opened.durable = (flags & (O_DSYNC | O_SYNC)) != 0;
  opened.is_directory = (flags & O_DIRECTORY) != 0;
  opened.directory = *inside;
  if (!opened.is_directory) {
    opened.file = to.file_of(*inside);
    if (!known) {
      auto& event = to.add(TraceEvent::create);
      event.file = opened.file;
      event.path = *inside;
    } else if ((flags & O_TRUNC) != 0) {
      to.add(TraceEvent::truncate).file = opened.file;
    }
  }
  to.opened[fd] = opened;
  return fd;
}

int do_close(int fd) {
  auto& to = recorder();
  std::lock_guard lock(to.mutex);
  to.opened.erase(fd);
  return int(syscall(SYS_close, fd));
}

ssize_t do_write(int fd, const iovec* pieces, int count, int64_t offset) {
  auto& to = recorder();
  std::unique_lock lock(to.mutex);
  auto* opened = to.find(fd);
  const bool here = offset < 0;
  if (here && opened != nullptr) offset = syscall(SYS_lseek, fd, 0, SEEK_CUR);
  if (opened == nullptr) lock.unlock();
  const ssize_t written = here ? syscall(SYS_writev, fd, pieces, count)
                               : syscall(SYS_pwritev, fd, pieces, count, offset, int64_t(0));
  if (opened == nullptr || written <= 0) return written;
  auto& event = to.add(TraceEvent::write);
  event.file = opened->file;
  event.offset = uint64_t(offset);
  event.durable = opened->durable;
  for (int i = 0; i < count; ++i) {
    const auto* from = static_cast<const uint8_t*>(pieces[i].iov_base);
    event.bytes.insert(event.bytes.end(), from, from + pieces[i].iov_len);
  }
  event.bytes.resize(size_t(written));
  event.length = uint64_t(written);
  return written;
}

int do_size(int fd, TraceEvent::Kind kind, int mode, int64_t offset, int64_t length) {
  auto& to = recorder();
  std::lock_guard lock(to.mutex);
  const long done = kind == TraceEvent::truncate ? syscall(SYS_ftruncate, fd, length)
                                                 : syscall(SYS_fallocate, fd, mode, offset, length);
  if (auto* opened = to.find(fd); opened != nullptr && done == 0) {
    auto& event = to.add(kind);
    event.file = opened->file;
    event.offset = uint64_t(offset);
    event.length = uint64_t(length);
  }
  return int(done);
}

// Nothing goes to the device: what counts is the trace. Long enough that others write meanwhile.
int do_sync(int fd) {
  auto& to = recorder();
  size_t begun = 0;
  {
    std::lock_guard lock(to.mutex);
    begun = to.trace.size();
  }
  usleep(kSyncTime_us);
  std::lock_guard lock(to.mutex);
  if (auto* opened = to.find(fd); opened != nullptr) {
    auto& event = to.add(TraceEvent::sync);
    event.file = opened->file;  // 0: the names of a directory
    event.path = opened->directory;
    event.begun = begun;
  }
  return 0;
}

int do_name(TraceEvent::Kind kind, const char* path, const char* target, long call, mode_t mode) {
  auto& to = recorder();
  std::lock_guard lock(to.mutex);
  const long done = target != nullptr ? syscall(call, path, target) : syscall(call, path, mode);
  const auto inside = to.inside(path);
  if (done != 0 || !inside) return int(done);
  auto& event = to.add(kind);
  event.path = *inside;
  if (kind == TraceEvent::make_directory) {
    event.file = to.file_of(*inside);
    return 0;
  }
  auto moved = to.files.extract(*inside);
  if (kind == TraceEvent::rename) {
    event.to = to.inside(target).value_or("");
    to.files.erase(event.to);
    moved.key() = event.to;
    to.files.insert(std::move(moved));
  }
  return 0;
}

mode_t mode_of(int flags, va_list rest) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode_t(va_arg(rest, int)) : 0;
}

}  // namespace

// ---- disks ----

// Reading is not recorded, and writing is not while the recorder is off.
Disk read_disk(const std::string& directory) {
  namespace fs = std::filesystem;
  Disk disk;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    Disk::Node node;
    node.directory = entry.is_directory();
    if (!node.directory) {
      std::ifstream file(entry.path(), std::ios::binary);
      node.bytes =
          std::make_shared<Bytes>(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    disk.nodes[fs::relative(entry.path(), directory)] = std::move(node);
  }
  return disk;
}
void write_disk(const Disk& disk, const std::string& directory) {
  std::filesystem::create_directories(directory);
  for (const auto& [path, node] : disk.nodes) {
    if (node.directory) {
      std::filesystem::create_directory(directory + "/" + path);
      continue;
    }
    std::ofstream file(directory + "/" + path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(node.bytes->data()), std::streamsize(node.bytes->size()));
  }
}

namespace {

constexpr uint64_t kPage = 4096, kSector = 512;

std::string parent_of(const std::string& path) {
  auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

class Medium {
 public:
  Medium(const Disk& start, const Trace& trace) : trace_(trace) {
    const auto files = number(start);
    for (const auto& [path, node] : start.nodes) {
      names_[path] = files.at(path);
      directories_[files.at(path)] = node.directory;
      bytes_[files.at(path)] = *node.bytes;
    }
  }

  void pass(size_t at) {
    const TraceEvent& event = trace_[at];
    switch (event.kind) {
      case TraceEvent::promise:
        return;
      case TraceEvent::sync:
        if (event.file == 0) return sync_names(event.path, event.begun);
        return sync_bytes(event.file, event.begun);
      case TraceEvent::create:
      case TraceEvent::make_directory:
        directories_[event.file] = event.kind == TraceEvent::make_directory;
        [[fallthrough]];
      case TraceEvent::remove:
      case TraceEvent::rename:
        unsynced_names_.push_back(at);
        return;
      default:
        unsynced_[event.file].push_back(at);
    }
  }

  Disk power_loss(size_t cut, const Coins* coins) {
    for (size_t at : unsynced_names_) {
      if (kept(coins)) change_names(trace_[at]);
    }
    for (auto& [file, events] : unsynced_) {
      for (size_t at : events) lose_some(bytes_[file], trace_[at], cut, at, coins);
    }
    Disk disk;
    for (const auto& [path, file] : names_) {  // in order: directories before what is in them
      const std::string parent = parent_of(path);
      if (!parent.empty() && !disk.nodes.contains(parent)) continue;
      disk.nodes[path] = {directories_[file], std::make_shared<Bytes>(std::move(bytes_[file]))};
    }
    return disk;
  }

 private:
  static bool kept(const Coins* coins) {
    return coins == nullptr || coins->random() % 100 < coins->keep_percent;
  }

  void sync_names(const std::string& directory, size_t before) {
    std::erase_if(unsynced_names_, [&](size_t at) {
      if (at >= before || parent_of(trace_[at].path) != directory) return false;
      change_names(trace_[at]);
      return true;
    });
  }
  void sync_bytes(uint32_t file, size_t before) {
    std::erase_if(unsynced_[file], [&](size_t at) {
      if (at >= before) return false;
      change_bytes(bytes_[file], trace_[at]);
      return true;
    });
  }
  void change_names(const TraceEvent& event) {
    if (event.kind == TraceEvent::create || event.kind == TraceEvent::make_directory) {
      names_[event.path] = event.file;
    } else if (event.kind == TraceEvent::remove) {
      names_.erase(event.path);
    } else if (auto moved = names_.extract(event.path)) {
      names_.erase(event.to);
      moved.key() = event.to;
      names_.insert(std::move(moved));
    }
  }
  static void change_bytes(Bytes& bytes, const TraceEvent& event) { put_part(bytes, event, 0, event.length); }
  // The part of the change that lies in [from, to) of its range.
  static void put_part(Bytes& bytes, const TraceEvent& event, uint64_t from, uint64_t to) {
    const uint64_t start = event.offset + from, end = event.offset + to;
    switch (event.kind) {
      case TraceEvent::truncate:
        bytes.resize(event.length);
        return;
      case TraceEvent::allocate:
        if (bytes.size() < end) bytes.resize(end);
        return;
      case TraceEvent::punch:
        for (uint64_t at = start; at < std::min<uint64_t>(end, bytes.size()); ++at) bytes[at] = 0;
        return;
      default:
        if (bytes.size() < end) bytes.resize(end);
        std::copy(event.bytes.begin() + ptrdiff_t(from), event.bytes.begin() + ptrdiff_t(to),
                  bytes.begin() + ptrdiff_t(start));
    }
  }
  static void lose_some(Bytes& bytes, const TraceEvent& event, size_t cut, size_t at, const Coins* coins) {
    const bool in_flight = at + 1 == cut;
    if (coins == nullptr || (event.durable && !in_flight)) return change_bytes(bytes, event);
    const bool sized = event.kind == TraceEvent::truncate || event.kind == TraceEvent::allocate;
    const uint64_t how = coins->random() % 3;
    if (sized || how == 0) {
      if (kept(coins)) change_bytes(bytes, event);
      return;
    }
    const uint64_t unit = how == 1 ? kPage : kSector;
    for (uint64_t from = 0; from < event.length;) {
      const uint64_t to = std::min(event.length, ((event.offset + from) / unit + 1) * unit - event.offset);
      if (kept(coins)) put_part(bytes, event, from, to);
      from = to;
    }
  }

  const Trace& trace_;
  std::map<std::string, uint32_t> names_;
  std::map<uint32_t, bool> directories_;
  std::map<uint32_t, Bytes> bytes_;
  std::vector<size_t> unsynced_names_;
  std::map<uint32_t, std::vector<size_t>> unsynced_;
};

}  // namespace

Disk image(const Disk& start, const Trace& trace, size_t cut, const Coins* coins) {
  Medium medium(start, trace);
  for (size_t at = 0; at < cut; ++at) medium.pass(at);
  return medium.power_loss(cut, coins);
}

}  // namespace efs::test

// Every name under which the C library has them.
using efs::test::TraceEvent;
extern "C" {
int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = efs::test::mode_of(flags, rest);
  va_end(rest);
  return efs::test::do_open(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = efs::test::mode_of(flags, rest);
  va_end(rest);
  return efs::test::do_open(AT_FDCWD, path, flags, mode);
}
int close(int fd) {
  return efs::test::do_close(fd);
}
ssize_t write(int fd, const void* bytes, size_t length) {
  const iovec piece{const_cast<void*>(bytes), length};
  return efs::test::do_write(fd, &piece, 1, -1);
}
ssize_t writev(int fd, const iovec* pieces, int count) {
  return efs::test::do_write(fd, pieces, count, -1);
}
ssize_t pwrite(int fd, const void* bytes, size_t length, off_t offset) {
  const iovec piece{const_cast<void*>(bytes), length};
  return efs::test::do_write(fd, &piece, 1, offset);
}
ssize_t pwrite64(int fd, const void* bytes, size_t length, off64_t offset) {
  return pwrite(fd, bytes, length, offset);
}
ssize_t pwritev(int fd, const iovec* pieces, int count, off_t offset) {
  return efs::test::do_write(fd, pieces, count, offset);
}
ssize_t pwritev64(int fd, const iovec* pieces, int count, off64_t offset) {
  return efs::test::do_write(fd, pieces, count, offset);
}
int ftruncate(int fd, off_t size) noexcept {
  return efs::test::do_size(fd, TraceEvent::truncate, 0, 0, size);
}
int ftruncate64(int fd, off64_t size) noexcept {
  return ftruncate(fd, size);
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
  const bool punches = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  return efs::test::do_size(fd, punches ? TraceEvent::punch : TraceEvent::allocate, mode, offset, length);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  return fallocate(fd, mode, offset, length);
}
int posix_fallocate(int fd, off_t offset, off_t length) {
  return fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
  return posix_fallocate(fd, offset, length);
}
int fsync(int fd) {
  return efs::test::do_sync(fd);
}
int fdatasync(int fd) {
  return efs::test::do_sync(fd);
}
int mkdir(const char* path, mode_t mode) noexcept {
  return efs::test::do_name(TraceEvent::make_directory, path, nullptr, SYS_mkdir, mode);
}
int unlink(const char* path) noexcept {
  return efs::test::do_name(TraceEvent::remove, path, nullptr, SYS_unlink, 0);
}
int rmdir(const char* path) noexcept {
  return efs::test::do_name(TraceEvent::remove, path, nullptr, SYS_rmdir, 0);
}
int rename(const char* from, const char* to) noexcept {
  return efs::test::do_name(TraceEvent::rename, from, to, SYS_rename, 0);
}
}
