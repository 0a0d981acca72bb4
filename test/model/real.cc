// The calls themselves.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "test/model/model.h"

namespace model {

namespace {

std::string outcome(long result) {
  return result == 0 ? "ok" : strerrorname_np(errno);
}
std::string failed() {
  return strerrorname_np(errno);
}

char letter_of(mode_t mode) {
  return S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISFIFO(mode) ? 'p' : 'f';
}
std::string status(const struct stat& info) {
  std::string out(1, letter_of(info.st_mode));
  out += " " + std::to_string(info.st_mode & 07777) + " links " + std::to_string(info.st_nlink);
  if (!S_ISDIR(info.st_mode)) out += " size " + std::to_string(info.st_size);
  return out;
}

// Names with the letters of their types, sorted.
std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  DIR* stream = opendir(path.c_str());
  while (const dirent* entry = stream ? readdir(stream) : nullptr) {
    if (entry->d_name[0] != '.')
      names.push_back(entry->d_name + std::string(1, letter_of(DTTOIF(entry->d_type))));
  }
  if (stream) closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_all(int fd, uint64_t offset, size_t length) {
  std::string out(length, '\0');
  size_t got = 0;
  while (got < length) {
    const ssize_t now = pread(fd, out.data() + got, length - got, off_t(offset + got));
    if (now <= 0) break;
    got += size_t(now);
  }
  out.resize(got);
  return out;
}

class Real final : public Runner {
 public:
  explicit Real(std::vector<std::string> directories) : directories_(std::move(directories)) {}
  ~Real() override {
    for (Slot& slot : slots_) shut(slot);
  }
  std::string run(const Operation& operation) override;
  std::string dump() override {
    std::string out;
    dump(directories_.back(), "", out);
    return out;
  }

 private:
  struct Slot {
    int fd = -1;
    uint8_t mount = 0;
  };
  static void shut(Slot& slot) {
    if (slot.fd >= 0) ::close(slot.fd);
    slot.fd = -1;
  }
  std::string at(const Operation& operation, const std::string& path) const {
    return directories_[operation.mount % directories_.size()] + "/" + path;
  }
  static void dump(const std::string& directory, const std::string& prefix, std::string& out);
  std::string open(const Operation& operation);
  std::string on_slot(const Operation& operation);
  std::string on_path(const Operation& operation);
  std::string xattr(const Operation& operation);
  std::string copy(const Operation& operation, int from);
  static std::string seek(const Operation& operation, int fd);
  static std::string map_write(const Operation& operation, int fd);

  const std::vector<std::string> directories_;
  std::array<Slot, kSlots> slots_;
};

std::string xattrs_of(const std::string& path, bool values) {
  std::string names(65536, '\0'), out;
  const ssize_t length = llistxattr(path.c_str(), names.data(), names.size());
  if (length < 0) return failed();
  std::vector<std::string> sorted;
  for (ssize_t at = 0; at < length; at += ssize_t(strlen(&names[size_t(at)])) + 1) {
    if (strncmp(&names[size_t(at)], "user.", 5) == 0) sorted.push_back(&names[size_t(at)]);
  }
  std::sort(sorted.begin(), sorted.end());
  for (const std::string& name : sorted) {
    char value[100] = {};
    if (values) lgetxattr(path.c_str(), name.c_str(), value, sizeof value - 1);
    out += values ? " " + name + "=" + value : name + " ";
  }
  return out;
}

void Real::dump(const std::string& directory, const std::string& prefix, std::string& out) {
  for (const std::string& entry : names_in(directory)) {
    const std::string name = entry.substr(0, entry.size() - 1), path = directory + "/" + name;
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0) {
      out += prefix + name + " " + failed() + "\n";
      continue;
    }
    out += prefix + name + " " + status(info);
    if (S_ISREG(info.st_mode)) {
      const int fd = ::open(path.c_str(), O_RDONLY);
      out += " " + describe(read_all(fd, 0, size_t(info.st_size) + 1));
      ::close(fd);
    } else if (S_ISLNK(info.st_mode)) {
      char target[4096] = {};
      const ssize_t length = readlink(path.c_str(), target, sizeof target);
      out += " " + describe(std::string(target, size_t(std::max<ssize_t>(length, 0))));
    }
    if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) out += xattrs_of(path, true);
    out += "\n";
    if (S_ISDIR(info.st_mode)) dump(path, prefix + name + "/", out);
  }
}

std::string Real::open(const Operation& operation) {
  Slot& slot = slots_[operation.slot];
  shut(slot);
  const std::string path = at(operation, operation.path);
  struct stat info {};
  const bool exclusive = (operation.flags & O_EXCL) != 0;
  if (!exclusive && stat(path.c_str(), &info) == 0 && S_ISFIFO(info.st_mode)) return "fifo";
  slot.fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | int(operation.flags), 0644);
  slot.mount = operation.mount;
  return slot.fd < 0 ? failed() : "ok";
}

std::string Real::copy(const Operation& operation, int from) {
  const Slot& to = slots_[operation.slot2];
  if (to.fd < 0) return "closed";
  off64_t in = operation.offset, out = operation.offset2;
  struct stat info {};
  if (fstat(from, &info) != 0) return failed();
  size_t length = operation.length;  // of what is there now: copied within a file, it may grow meanwhile
  if (in < info.st_size) length = std::min(length, size_t(info.st_size - in));
  // One file through two mounts is two files to the kernel: it cannot see that they overlap.
  struct stat target {};
  if (slots_[operation.slot].mount != to.mount && in < info.st_size && fstat(to.fd, &target) == 0 &&
      (fcntl(to.fd, F_GETFL) & O_APPEND) == 0 && target.st_ino == info.st_ino && out + off64_t(length) > in &&
      out < in + off64_t(length)) {
    errno = EINVAL;
    return failed();
  }
  size_t done = 0;
  while (done < length) {
    const ssize_t now = copy_file_range(from, &in, to.fd, &out, length - done, 0);
    if (now < 0 && done == 0) return failed();
    if (now <= 0) break;
    done += size_t(now);
  }
  return std::to_string(done);
}

// Where data and holes are is the filesystem's to say; but a hole is zeros.
std::string Real::seek(const Operation& operation, int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return failed();
  const off_t data = lseek(fd, operation.offset, SEEK_DATA);
  const bool beyond = operation.offset >= info.st_size;
  if (data < 0 && errno != ENXIO) return failed();
  if (data >= 0 && (beyond || data < off_t(operation.offset) || data >= info.st_size))
    return "data at a wrong place";
  if (beyond) return "ok";
  const off_t end = data < 0 ? info.st_size : data;
  const std::string bytes = read_all(fd, operation.offset, size_t(end - off_t(operation.offset)));
  if (bytes.find_first_not_of('\0') != bytes.npos) return "a hole that holds bytes";
  const off_t hole = lseek(fd, operation.offset, SEEK_HOLE);
  return hole >= off_t(operation.offset) && hole <= info.st_size ? "ok" : "a hole at a wrong place";
}

std::string Real::map_write(const Operation& operation, int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return failed();
  if (operation.offset >= info.st_size) return "beyond";
  const size_t length = size_t(info.st_size);
  auto* bytes = static_cast<char*>(mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  if (bytes == MAP_FAILED) return failed();
  bytes[operation.offset] = char(operation.seed);
  const int synced = msync(bytes, length, MS_SYNC);
  munmap(bytes, length);
  return outcome(synced);
}

std::string Real::on_slot(const Operation& operation) {
  Slot& slot = slots_[operation.slot];
  const int fd = slot.fd;
  if (fd < 0) return "closed";
  switch (operation.kind) {
    case Kind::close:
      shut(slot);
      return "ok";
    case Kind::write: {
      const std::string bytes = bytes_of(operation.seed, operation.length);
      const ssize_t written = pwrite(fd, bytes.data(), bytes.size(), operation.offset);
      return written < 0 ? failed() : std::to_string(written);
    }
    case Kind::read:
      return describe(read_all(fd, operation.offset, operation.length));
    case Kind::ftruncate:
      return outcome(::ftruncate(fd, operation.offset));
    case Kind::fallocate:
      return outcome(::fallocate(fd, int(operation.flags), operation.offset, operation.length));
    case Kind::copy:
      return copy(operation, fd);
    case Kind::seek:
      return seek(operation, fd);
    case Kind::map_write:
      return map_write(operation, fd);
    case Kind::fstat: {
      struct stat info {};
      return ::fstat(fd, &info) == 0 ? status(info) : failed();
    }
    default:
      return outcome(::fsync(fd));
  }
}

std::string Real::xattr(const Operation& operation) {
  const std::string path = at(operation, operation.path), name = "user." + operation.other.substr(0, 1);
  const std::string value = std::to_string(operation.seed);
  switch (operation.kind) {
    case Kind::set_xattr:
      return outcome(setxattr(path.c_str(), name.c_str(), value.data(), value.size(), int(operation.flags)));
    case Kind::get_xattr: {
      char buffer[100] = {};
      return getxattr(path.c_str(), name.c_str(), buffer, sizeof buffer - 1) < 0 ? failed()
                                                                                 : std::string(buffer);
    }
    case Kind::remove_xattr:
      return outcome(removexattr(path.c_str(), name.c_str()));
    default: {
      std::string real(4096, '\0');
      struct stat info {};
      if (::stat(path.c_str(), &info) != 0) return failed();
      return realpath(path.c_str(), real.data()) ? xattrs_of(real.c_str(), false) : failed();
    }
  }
}

std::string Real::on_path(const Operation& operation) {
  const std::string path = at(operation, operation.path), other = at(operation, operation.other);
  struct stat info {};
  switch (operation.kind) {
    case Kind::stat:
      if (((operation.flags & 1) ? ::stat(path.c_str(), &info) : lstat(path.c_str(), &info)) != 0)
        return failed();
      return status(info);
    case Kind::chmod:
      return outcome(::chmod(path.c_str(), operation.flags & 0777));
    case Kind::mkdir:
      return outcome(::mkdir(path.c_str(), 0755));
    case Kind::mkfifo:
      return outcome(::mkfifo(path.c_str(), 0644));
    case Kind::symlink:
      return outcome(::symlink(operation.other.c_str(), path.c_str()));
    case Kind::link:
      return outcome(::link(path.c_str(), other.c_str()));
    case Kind::rename:
      // Where another mount moved a directory to, Linux learns by a lookup; within a rename to another
      // directory it cannot take it in (ESTALE, __d_unalias() in fs/dcache.c) while files below it are open
      // here.
      if (directories_.size() > 1) (void)(lstat(path.c_str(), &info) + lstat(other.c_str(), &info));
      return outcome(renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, other.c_str(), operation.flags));
    case Kind::unlink:
      return outcome(::unlink(path.c_str()));
    case Kind::rmdir:
      return outcome(::rmdir(path.c_str()));
    case Kind::truncate:
      return outcome(::truncate(path.c_str(), operation.offset));
    case Kind::readlink: {
      char target[4096] = {};
      return ::readlink(path.c_str(), target, sizeof target - 1) < 0 ? failed() : std::string(target);
    }
    default: {  // list
      if (::stat(path.c_str(), &info) != 0) return failed();
      if (!S_ISDIR(info.st_mode)) return strerrorname_np(ENOTDIR);
      std::string out;
      for (const std::string& name : names_in(path)) out += name + " ";
      return out;
    }
  }
}

std::string Real::run(const Operation& operation) {
  if (operation.kind == Kind::open) return open(operation);
  if (operation.kind >= Kind::set_xattr) return xattr(operation);
  if (operation.kind <= Kind::fstat) return on_slot(operation);
  return on_path(operation);
}

}  // namespace

std::unique_ptr<Runner> make_real(std::vector<std::string> directories) {
  return std::make_unique<Real>(std::move(directories));
}

}  // namespace model
