#include <grp.h>
#include <time.h>

#include "test/conformance/conformance.h"

namespace conformance {

std::string error_name(int number) {
  const char* name = strerrorname_np(number);
  return name ? name : std::to_string(number);
}

void make_file(const std::string& path, const std::string& content, mode_t mode) {
  Fd fd(OK(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600)));
  if (!content.empty()) EQ(OK(write(fd, content.data(), content.size())), ssize_t(content.size()));
  OK(fchmod(fd, mode));
}

std::string read_at(int fd, size_t length, off_t offset) {
  std::string out(length, '\0');
  size_t got = 0;
  while (got < length) {
    const ssize_t now = OK(pread(fd, out.data() + got, length - got, offset + off_t(got)));
    if (now == 0) break;
    got += size_t(now);
  }
  out.resize(got);
  return out;
}

std::string contents(const std::string& path) {
  Fd fd(OK(open(path.c_str(), O_RDONLY)));
  return read_at(fd, size_t(info_of(fd).st_size) + 1, 0);
}

struct stat info(const std::string& path) {
  struct stat out {};
  OK(lstat(path.c_str(), &out));
  return out;
}
struct stat info_of(int fd) {
  struct stat out {};
  OK(fstat(fd, &out));
  return out;
}
mode_t mode_of(const std::string& path) {
  return info(path).st_mode & 07777;
}
bool exists(const std::string& path) {
  struct stat out {};
  return lstat(path.c_str(), &out) == 0;
}

std::set<std::string> names_in(const std::string& directory) {
  std::set<std::string> names;
  DIR* stream = opendir(directory.c_str());
  if (stream == nullptr) {
    OK(-1);
  }
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (!names.insert(name).second) note_failure(__FILE__, __LINE__, "twice in a listing: " + name);
  }
  closedir(stream);
  return names;
}

int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  return ns(time);
}

// ext4 stamps with the clock of the last scheduler tick: at most 10 ms behind.
void tick() {
  usleep(15'000);
}

void as(uid_t uid, gid_t gid, const std::vector<gid_t>& groups, const std::function<void()>& body) {
  apart([&] {
    OK(setgroups(groups.size(), groups.data()));
    OK(setresgid(gid, gid, gid));
    OK(setresuid(uid, uid, uid));
    body();
  });
}

std::string risen(const struct stat& before, const struct stat& after) {
  std::string out;
  if (ns(after.st_atim) > ns(before.st_atim)) out += "a";
  if (ns(after.st_mtim) > ns(before.st_mtim)) out += "m";
  if (ns(after.st_ctim) > ns(before.st_ctim)) out += "c";
  return out;
}

std::string times_risen(const std::string& path, const std::function<void()>& action) {
  const struct stat before = info(seen(path));
  tick();
  action();
  return risen(before, info(seen(path)));
}

}  // namespace conformance
