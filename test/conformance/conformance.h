// Tests of what the standard and Linux's man pages say of filesystem calls: one test a behaviour.
//
// A test runs in a process of its own, as root, in an empty directory of its own (the working directory), so
// that it may change its umask, user or mounts. What it does goes through that directory; what came of it is
// looked at through seen(), the same directory on another mount when the program was given two. The same
// tests pass on ext4: that proves them.
//
// EQ, TRUE and FAILS note a failure and go on; OK ends the test, since what follows would mean nothing.
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace conformance {

struct Test {
  std::string name;  // "call.what_it_does"
  std::function<void()> body;
};
std::vector<Test>& tests();
struct Registration {
  Registration(std::string name, std::function<void()> body) {
    tests().push_back({std::move(name), std::move(body)});
  }
};

struct Failed {};  // thrown by OK

void note_failure(const char* file, int line, const std::string& what);
std::string error_name(int number);  // "ENOENT"

template <typename T>
  requires requires(std::ostream& out, const T& value) { out << value; }
std::string shown(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

inline std::string shown(const std::string& text) {
  return '"' + (text.size() > 80 ? text.substr(0, 80) + "..." : text) + '"';
}
template <typename Names>
  requires requires(const Names& names) { typename Names::key_compare; }
std::string shown(const Names& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : " ") + name;
  return "{" + out + "}";
}

template <typename T>
T must(T result, const char* call, const char* file, int line) {
  if (result != T(-1)) return result;
  note_failure(file, line, std::string(call) + " failed: " + error_name(errno));
  throw Failed{};
}
template <typename T>
void must_fail(T result, int wanted, const char* call, const char* file, int line) {
  const int got = errno;
  if (result != T(-1)) {
    note_failure(file, line, std::string(call) + " succeeded; wanted " + error_name(wanted));
  } else if (got != wanted) {
    note_failure(file, line, std::string(call) + ": " + error_name(got) + "; wanted " + error_name(wanted));
  }
}
template <typename A, typename B>
void must_equal(const A& got, const B& wanted, const char* what, const char* file, int line) {
  if (!(got == wanted))
    note_failure(file, line, std::string(what) + ": " + shown(got) + "; wanted " + shown(wanted));
}

#define TEST(call, what)                                                                               \
  static void test_##call##_##what();                                                                  \
  static const ::conformance::Registration add_##call##_##what{#call "." #what, test_##call##_##what}; \
  static void test_##call##_##what()
#define OK(call) ::conformance::must((errno = 0, (call)), #call, __FILE__, __LINE__)
#define FAILS(wanted, call) ::conformance::must_fail((errno = 0, (call)), wanted, #call, __FILE__, __LINE__)
#define EQ(got, wanted) ::conformance::must_equal(got, wanted, #got, __FILE__, __LINE__)
#define TRUE(condition) \
  ((condition) ? void() : ::conformance::note_failure(__FILE__, __LINE__, "not so: " #condition))

// ---- where ----
const std::string& here();             // this test's directory, absolute, on the mount that acts
std::string seen(const std::string&);  // a path in it, absolute, on the mount that looks on
bool two_mounts();
bool is_ext4();  // has limits that efs has not
uint64_t max_file_size();

// ---- what ----
void make_file(const std::string& path, const std::string& content = "", mode_t mode = 0644);
std::string contents(const std::string& path);
std::string read_at(int fd, size_t length, off_t offset);
struct stat info(const std::string& path);                     // lstat
struct stat info_of(int fd);                                   // fstat
mode_t mode_of(const std::string& path);                       // permission bits
bool exists(const std::string& path);                          // lstat
std::set<std::string> names_in(const std::string& directory);  // without "." and ".."
constexpr int64_t ns(const timespec& time) {
  return int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}
int64_t now_ns();
void tick();  // the clock of the filesystem moves on

// A descriptor that is closed at the end.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { close(); }
  operator int() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

// ---- who ----
inline constexpr uid_t kUser = 65533, kOther = 65532;
inline constexpr gid_t kGroup = 65531, kOtherGroup = 65530;
// Runs `body` in a child process as this user; its failures are this test's.
void as(uid_t uid, gid_t gid, const std::vector<gid_t>& groups, const std::function<void()>& body);
inline void as_user(const std::function<void()>& body) {
  as(kUser, kGroup, {}, body);
}
// In a child process, as root: for what changes the process (mounts, limits).
void apart(const std::function<void()>& body);

// What changed of an inode between two looks: "a", "m", "c" for each time that rose, in that order.
std::string risen(const struct stat& before, const struct stat& after);
// The times of `path` that `action` makes rise.
std::string times_risen(const std::string& path, const std::function<void()>& action);

}  // namespace conformance
