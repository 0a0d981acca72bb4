#include "vfs/mount_point.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

namespace efs {

namespace {

constexpr int kStackedMounts = 16;  // stale ones, one above the other

struct MountLine {
  std::string device, type;
};

// proc(5), mountinfo: spaces and such are octal escapes.
std::string unescape(const std::string& field) {
  std::string text;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      text.push_back(char(std::stoi(field.substr(i + 1, 3), nullptr, 8)));
      i += 3;
    } else {
      text.push_back(field[i]);
    }
  }
  return text;
}

// What is mounted on top at `directory` (the last line that names it).
std::optional<MountLine> mounted_at(const std::string& directory) {
  std::ifstream lines("/proc/self/mountinfo");
  std::optional<MountLine> found;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string id, parent, device, root, point, word;
    in >> id >> parent >> device >> root >> point;
    if (unescape(point) != directory) continue;
    while (in >> word && word != "-") continue;
    std::string type;
    in >> type;
    found = MountLine{device, type};
  }
  return found;
}

bool is_efs(const std::optional<MountLine>& line) {
  return line && line->type == "fuse.efs";
}

// The path without links in its parents, not touching its last component: that may be a dead mount.
Result<std::string> absolute(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path path = fs::absolute(directory, error).lexically_normal();
  if (error || directory.empty())
    return fail(Code::invalid_argument, fmt::format("mount point '{}' is not a path", directory));
  if (!path.has_filename()) path = path.parent_path();
  if (path == path.root_path()) return fail(Code::invalid_argument, "the mount point cannot be / itself");
  const fs::path parent = fs::canonical(path.parent_path(), error);
  if (error)
    return fail(Code::not_found, fmt::format("mount point {} does not exist: create it with 'mkdir -p {}'",
                                             path.string(), path.string()));
  path = parent / path.filename();
  char target[1];
  if (readlink(path.c_str(), target, sizeof target) < 0) return path.string();
  path = fs::canonical(path, error);
  if (error) return fail(from_errno(error.value(), "mount point " + directory));
  return path.string();
}

Status check_empty(const std::string& path) {
  std::error_code error;
  std::filesystem::directory_iterator entries(path, error);
  if (error) return fail(from_errno(error.value(), "mount point " + path));
  if (entries != std::filesystem::directory_iterator())
    return fail(
        Code::not_empty,
        fmt::format("mount point {} is not empty: its files would be hidden; name an empty directory", path));
  return {};
}

}  // namespace

bool is_efs_mount(const std::string& directory) {
  return is_efs(mounted_at(directory));
}

std::string device_of_mount(const std::string& directory) {
  auto line = mounted_at(directory);
  return is_efs(line) ? line->device : "";
}

bool detach_mount(const std::string& directory) {
  if (geteuid() == 0) return umount2(directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0;
  const pid_t child = fork();
  if (child == 0) {
    const int null = open("/dev/null", O_RDWR);
    dup2(null, STDERR_FILENO);
    execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", directory.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Result<std::string> prepare_mount_point(const std::string& directory) {
  EFS_ASSIGN(const std::string path, absolute(directory));
  struct stat info {};
  for (int round = 0; round < kStackedMounts; ++round) {
    const auto mounted = mounted_at(path);
    if (!mounted) break;
    if (!is_efs(mounted))
      return fail(Code::busy,
                  fmt::format("mount point {} is in use: a filesystem of type {} is mounted there; "
                              "unmount it or name another directory",
                              path, mounted->type));
    // Not stat(2): the kernel may still answer that itself. Opening a directory asks the peer, if it is
    // there.
    const int opened = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened >= 0) {
      close(opened);
      return fail(Code::busy, fmt::format("mount point {} is in use: another peer that runs has its tree "
                                          "mounted there; stop it or name another directory",
                                          path));
    }
    if (errno != ENOTCONN && errno != ECONNABORTED) return fail(from_errno(errno, "mount point " + path));
    if (!detach_mount(path))
      return fail(Code::busy, fmt::format("cannot detach the stale mount at {}: {}; try 'umount -l {}'", path,
                                          std::strerror(errno), path));
  }
  if (stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return fail(from_errno(errno, "mount point " + path));
    if (geteuid() != 0 || mkdir(path.c_str(), 0755) != 0)
      return fail(Code::not_found,
                  fmt::format("mount point {} does not exist: create it with 'mkdir -p {}'", path, path));
    return path;
  }
  if (!S_ISDIR(info.st_mode))
    return fail(Code::not_directory, fmt::format("mount point {} is not a directory", path));
  EFS_TRY(check_empty(path));
  return path;
}

Result<int> mount_as_root(const std::string& directory, const MountPointOptions& options) {
  const int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (device < 0) {
    const int number = errno;
    return fail(from_errno(
        number, number == ENOENT ? "open /dev/fuse (load it with 'modprobe fuse')" : "open /dev/fuse"));
  }
  const std::string data = fmt::format("fd={},rootmode=40000,user_id={},group_id={},default_permissions{}",
                                       device, getuid(), getgid(), options.allow_other ? ",allow_other" : "");
  unsigned long flags = options.suid_and_devices ? 0 : MS_NOSUID | MS_NODEV;
  if (options.read_only) flags |= MS_RDONLY;
  if (mount("efs", directory.c_str(), "fuse.efs", flags, data.c_str()) != 0) {
    const int number = errno;
    close(device);
    return fail(from_errno(number, "mount " + directory));
  }
  return device;
}

}  // namespace efs
