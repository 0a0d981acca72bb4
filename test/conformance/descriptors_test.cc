// Descriptors: their flags after open (F_SETFL), calls with flags of their own (preadv2), and what each call
// answers to a descriptor or a buffer that is not fit for it.
#include <dirent.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <algorithm>
#include <memory>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

constexpr size_t kPage = 4096;

void switch_on(int fd, int flag) {
  OK(fcntl(fd, F_SETFL, OK(fcntl(fd, F_GETFL)) | flag));
}
void switch_off(int fd, int flag) {
  OK(fcntl(fd, F_SETFL, OK(fcntl(fd, F_GETFL)) & ~flag));
}
int flags_of(int fd) {
  return OK(fcntl(fd, F_GETFL));
}
void write_all(int fd, const std::string& bytes) {
  EQ(OK(write(fd, bytes.data(), bytes.size())), ssize_t(bytes.size()));
}

// ---- flags ----

TEST(setfl, append_on_and_off) {
  for (int mode : {O_WRONLY, O_RDWR}) {
    make_file("f", "start");
    Fd fd(OK(open("f", mode))), other(OK(open(seen("f").c_str(), O_WRONLY | O_APPEND)));
    write_all(fd, "S");
    switch_on(fd, O_APPEND);
    write_all(other, "-other");
    write_all(fd, "-mine");  // its position was 1
    write_all(other, "-again");
    EQ(pwrite(fd, "-end", 4, 0), 4);  // to the end all the same, as with open's O_APPEND
    if (mode == O_RDWR) EQ(read_at(fd, 100, 0), "Start-other-mine-again-end");
    EQ(contents(seen("f")), "Start-other-mine-again-end");
    switch_off(fd, O_APPEND);
    write_all(other, "!");
    EQ(pwrite(fd, "s", 1, 0), 1);
    OK(lseek(fd, 6, SEEK_SET));
    write_all(fd, "OTHER");
    EQ(lseek(fd, 0, SEEK_CUR), 11);
    EQ(contents(seen("f")), "start-OTHER-mine-again-end!");
    EQ(contents("f"), "start-OTHER-mine-again-end!");
  }
}

TEST(setfl, append_of_open_taken_away) {
  for (int mode : {O_WRONLY, O_RDWR}) {
    make_file("f", "0123456789");
    Fd fd(OK(open("f", mode | O_APPEND))), other(OK(open(seen("f").c_str(), O_WRONLY)));
    switch_off(fd, O_APPEND);
    write_all(fd, "ab");  // from the start
    EQ(pwrite(other, "XY", 2, 1), 2);
    EQ(pwrite(fd, "c", 1, 5), 1);
    EQ(contents(seen("f")), "aXY34c6789");
    switch_on(fd, O_APPEND);
    write_all(fd, "+");
    EQ(contents(seen("f")), "aXY34c6789+");
  }
}

TEST(setfl, append_of_many_pages) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR))), other(OK(open(seen("f").c_str(), O_WRONLY | O_APPEND)));
  switch_on(fd, O_APPEND);
  std::string wanted;
  for (char letter = 'a'; letter < 'g'; ++letter) {
    const std::string mine(10'000, letter), theirs(3'000, char(letter - 32));
    write_all(fd, mine);
    write_all(other, theirs);
    wanted += mine + theirs;
  }
  TRUE(read_at(fd, 100'000, 0) == wanted);
  TRUE(contents(seen("f")) == wanted);
}

TEST(setfl, direct_on_and_off) {
  std::unique_ptr<char, decltype(&free)> room(static_cast<char*>(aligned_alloc(kPage, kPage)), free);
  make_file("f", std::string(3 * kPage, 'o'));
  Fd fd(OK(open("f", O_RDWR))), other(OK(open(seen("f").c_str(), O_RDWR)));
  EQ(pwrite(fd, "buffered", 8, 0), 8);
  switch_on(fd, O_DIRECT);
  TRUE(flags_of(fd) & O_DIRECT);
  EQ(pread(fd, room.get(), kPage, 0), ssize_t(kPage));
  EQ(std::string(room.get(), 9), "bufferedo");
  memset(room.get(), 'D', kPage);
  EQ(pwrite(fd, room.get(), kPage, kPage), ssize_t(kPage));
  TRUE(contents(seen("f")) ==
       "buffered" + std::string(kPage - 8, 'o') + std::string(kPage, 'D') + std::string(kPage, 'o'));
  EQ(pwrite(other, "other", 5, kPage), 5);
  EQ(pread(fd, room.get(), kPage, kPage), ssize_t(kPage));
  EQ(std::string(room.get(), 6), "otherD");
  switch_off(fd, O_DIRECT);
  EQ(flags_of(fd) & O_DIRECT, 0);
  EQ(pwrite(fd, "odd", 3, kPage + 1), 3);  // unaligned, and seen beside the direct one
  EQ(read_at(fd, 7, kPage), "ooddrDD");
  EQ(contents(seen("f")).substr(kPage, 7), "ooddrDD");
}

TEST(setfl, answers) {
  make_file("f", "content", 0666);
  Fd reader(OK(open("f", O_RDONLY))), writer(OK(open("f", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600))),
      both(OK(open("f", O_RDWR | O_DSYNC))), path(OK(open("f", O_PATH)));
  EQ(flags_of(reader) & (O_ACCMODE | O_APPEND | O_DIRECT | O_NONBLOCK), O_RDONLY);
  EQ(flags_of(writer) & (O_ACCMODE | O_APPEND | O_CREAT | O_EXCL | O_TRUNC), O_WRONLY | O_APPEND);
  EQ(flags_of(both) & (O_ACCMODE | O_SYNC), O_RDWR | O_DSYNC);
  TRUE(flags_of(path) & O_PATH);
  FAILS(EBADF, fcntl(path, F_SETFL, O_APPEND));
  FAILS(EBADF, fcntl(99, F_GETFL));
  OK(fcntl(reader, F_SETFL, O_RDWR | O_TRUNC | O_SYNC | O_NONBLOCK));  // of these, only the last
  EQ(flags_of(reader) & (O_ACCMODE | O_TRUNC | O_SYNC | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
  FAILS(EBADF, write(reader, "x", 1));
  EQ(read_at(reader, 10, 0), "content");
  Fd copy(OK(dup(writer)));
  switch_off(copy, O_APPEND);  // one description
  EQ(flags_of(writer) & O_APPEND, 0);
  EQ(contents(seen("f")), "content");
}

TEST(setfl, noatime_is_for_the_owner) {
  make_file("f", "content");
  as_user([] {
    Fd fd(OK(open("f", O_RDONLY)));
    FAILS(EPERM, fcntl(fd, F_SETFL, O_NOATIME));
  });
  Fd fd(OK(open("f", O_RDONLY)));
  switch_on(fd, O_NOATIME);
  TRUE(flags_of(fd) & O_NOATIME);
}

// ---- calls with flags ----

TEST(pwritev2, position) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  char a[] = "one", b[] = "two", left[4] = {}, right[4] = {};
  const iovec parts[2] = {{a, 3}, {b, 3}}, into[2] = {{left, 3}, {right, 3}};
  EQ(pwritev2(fd, parts, 2, -1, 0), 6);
  EQ(lseek(fd, 0, SEEK_CUR), 6);
  EQ(pwritev2(fd, parts, 1, 10, 0), 3);
  EQ(lseek(fd, 0, SEEK_CUR), 6);
  OK(lseek(fd, 2, SEEK_SET));
  EQ(preadv2(fd, into, 2, -1, 0), 6);
  EQ(std::string(left) + right, std::string("etwo"));  // to the gap's first zero
  EQ(lseek(fd, 0, SEEK_CUR), 8);
  EQ(preadv2(fd, into, 2, 10, 0), 3);
  EQ(std::string(left), "one");
  EQ(lseek(fd, 0, SEEK_CUR), 8);
  FAILS(EINVAL, preadv2(fd, into, 2, -2, 0));
  FAILS(EINVAL, pwritev2(fd, parts, 2, -2, 0));
  EQ(contents(seen("f")), std::string("onetwo\0\0\0\0one", 13));
}

TEST(pwritev2, append) {
  make_file("f", "start");
  Fd fd(OK(open("f", O_RDWR))), other(OK(open(seen("f").c_str(), O_WRONLY | O_APPEND)));
  char a[] = "-mine";
  const iovec part{a, 5};
  EQ(pwritev2(fd, &part, 1, 0, RWF_APPEND), 5);
  EQ(lseek(fd, 0, SEEK_CUR), 0);  // an offset was given
  write_all(other, "-other");
  EQ(info_of(fd).st_size, 16);
  EQ(pwritev2(fd, &part, 1, -1, RWF_APPEND), 5);
  EQ(lseek(fd, 0, SEEK_CUR), 21);
  EQ(pwritev2(fd, &part, 1, 0, 0), 5);  // for one call only
  EQ(contents(seen("f")), "-mine-mine-other-mine");
}

TEST(pwritev2, flags) {
  make_file("f", "0123456789");
  Fd fd(OK(open("f", O_RDWR)));
  char byte = 'x';
  const iovec part{&byte, 1};
  EQ(pwritev2(fd, &part, 1, 0, RWF_DSYNC), 1);
  EQ(pwritev2(fd, &part, 1, 2, RWF_SYNC), 1);
  EQ(pwritev2(fd, &part, 1, 4, RWF_DSYNC | RWF_SYNC | RWF_HIPRI), 1);
  EQ(preadv2(fd, &part, 1, 9, RWF_HIPRI), 1);
  EQ(byte, '9');
  constexpr int kUnknown = 0x40000000;
  FAILS(EOPNOTSUPP, pwritev2(fd, &part, 1, 0, kUnknown));
  FAILS(EOPNOTSUPP, preadv2(fd, &part, 1, 0, kUnknown));
  EQ(contents(seen("f")), "x1x3x56789");
}

// ---- what is refused ----

struct Call {
  const char* name;
  std::function<long(int)> call;  // of a descriptor: -1 and errno
};
long by_answer(int error) {  // of calls that return it
  errno = error;
  return error == 0 ? 0 : -1;
}
void each_fails(int wanted, const std::vector<Call>& calls, int fd, const std::string& what) {
  for (const auto& [name, call] : calls) {
    errno = 0;
    const long result = call(fd);
    EQ(std::string(name) + " " + what + ": " + (result == -1 ? error_name(errno) : "succeeded"),
       std::string(name) + " " + what + ": " + error_name(wanted));
  }
}

char some_bytes[64];
const iovec some_room{some_bytes, sizeof some_bytes};

std::vector<Call> calls_for_an_open_file() {
  static struct flock whole {};
  whole.l_type = F_RDLCK;
  static int pipes[2];
  OK(pipe(pipes));
  return {
      {"read", [](int fd) { return read(fd, some_bytes, 1); }},
      {"write", [](int fd) { return write(fd, some_bytes, 1); }},
      {"pread", [](int fd) { return pread(fd, some_bytes, 1, 0); }},
      {"pwrite", [](int fd) { return pwrite(fd, some_bytes, 1, 0); }},
      {"readv", [](int fd) { return readv(fd, &some_room, 1); }},
      {"writev", [](int fd) { return writev(fd, &some_room, 1); }},
      {"preadv2", [](int fd) { return preadv2(fd, &some_room, 1, 0, 0); }},
      {"pwritev2", [](int fd) { return pwritev2(fd, &some_room, 1, 0, 0); }},
      {"lseek", [](int fd) { return lseek(fd, 0, SEEK_SET); }},
      {"ftruncate", [](int fd) { return ftruncate(fd, 0); }},
      {"fallocate", [](int fd) { return fallocate(fd, 0, 0, 1); }},
      {"posix_fallocate", [](int fd) { return by_answer(posix_fallocate(fd, 0, 1)); }},
      {"posix_fadvise", [](int fd) { return by_answer(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL)); }},
      {"readahead", [](int fd) { return readahead(fd, 0, 1); }},
      {"fsync", [](int fd) { return fsync(fd); }},
      {"fdatasync", [](int fd) { return fdatasync(fd); }},
      {"syncfs", [](int fd) { return syncfs(fd); }},
      {"sync_file_range", [](int fd) { return sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); }},
      {"fchmod", [](int fd) { return fchmod(fd, 0600); }},
      {"fchown", [](int fd) { return fchown(fd, 1, 1); }},
      {"futimens", [](int fd) { return futimens(fd, nullptr); }},
      {"fgetxattr", [](int fd) { return fgetxattr(fd, "user.a", some_bytes, 1); }},
      {"fsetxattr", [](int fd) { return fsetxattr(fd, "user.a", "1", 1, 0); }},
      {"flistxattr", [](int fd) { return flistxattr(fd, some_bytes, 1); }},
      {"fremovexattr", [](int fd) { return fremovexattr(fd, "user.a"); }},
      {"flock", [](int fd) { return flock(fd, LOCK_SH | LOCK_NB); }},
      {"F_SETLK", [](int fd) { return fcntl(fd, F_SETLK, &whole); }},
      {"F_GETLK", [](int fd) { return fcntl(fd, F_GETLK, &whole); }},
      {"F_OFD_SETLK", [](int fd) { return fcntl(fd, F_OFD_SETLK, &whole); }},
      {"ioctl", [](int fd) { return ioctl(fd, FIONREAD, some_bytes); }},
      {"getdents64", [](int fd) { return syscall(SYS_getdents64, fd, some_bytes, sizeof some_bytes); }},
      {"mmap", [](int fd) { return long(mmap(nullptr, 1, PROT_READ, MAP_SHARED, fd, 0)); }},
      {"sendfile", [](int fd) { return sendfile(pipes[1], fd, nullptr, 1); }},
      {"splice", [](int fd) { return splice(fd, nullptr, pipes[1], nullptr, 1, 0); }},
      {"copy_file_range", [](int fd) { return copy_file_range(fd, nullptr, fd, nullptr, 1, 0); }},
  };
}

TEST(descriptor, closed_or_a_path_alone) {
  make_file("f", "content");
  Fd fd(OK(open("f", O_RDWR))), path(OK(open("f", O_PATH)));
  const int closed = OK(dup(fd));
  OK(close(closed));
  Fd pin(OK(fcntl(fd, F_DUPFD, closed + 10)));  // the pipe's descriptors must not become `closed`
  const std::vector<Call> calls = [&] {
    Fd taken(OK(dup(fd)));
    return calls_for_an_open_file();
  }();
  const struct stat before = info(seen("f"));
  each_fails(EBADF, calls, closed, "of a closed descriptor");
  each_fails(EBADF, calls, path, "of a path");
  struct stat out {};
  struct statfs space {};
  FAILS(EBADF, fstat(closed, &out));
  FAILS(EBADF, fstatfs(closed, &space));
  FAILS(EBADF, fchdir(closed));
  FAILS(EBADF, dup(closed));
  OK(fstat(path, &out));  // these a path is enough for
  OK(fstatfs(path, &space));
  FAILS(ENOTDIR, fchdir(path));
  EQ(contents(seen("f")), "content");
  EQ(risen(before, info(seen("f"))).find('c'), std::string::npos);
}

TEST(descriptor, that_has_no_position) {
  OK(mkfifo("p", 0644));
  Fd fifo(OK(open("p", O_RDWR | O_NONBLOCK)));
  int pipes[2];
  OK(pipe(pipes));
  Fd from(pipes[0]), to(pipes[1]);
  const std::vector<Call> calls = {
      {"lseek", [](int fd) { return lseek(fd, 0, SEEK_CUR); }},
      {"lseek to data", [](int fd) { return lseek(fd, 0, SEEK_DATA); }},
      {"posix_fadvise", [](int fd) { return by_answer(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED)); }},
      {"sync_file_range", [](int fd) { return sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); }},
  };
  const std::vector<Call> reading = {
      {"pread", [](int fd) { return pread(fd, some_bytes, 1, 0); }},
      {"preadv", [](int fd) { return preadv(fd, &some_room, 1, 0); }},
  };
  const std::vector<Call> writing = {
      {"pwrite", [](int fd) { return pwrite(fd, some_bytes, 1, 0); }},
      {"pwritev", [](int fd) { return pwritev(fd, &some_room, 1, 0); }},
      {"fallocate", [](int fd) { return fallocate(fd, 0, 0, 10); }},
      {"posix_fallocate", [](int fd) { return by_answer(posix_fallocate(fd, 0, 10)); }},
  };
  for (int fd : {int(fifo), int(from)}) {
    each_fails(ESPIPE, calls, fd, "of a pipe");
    each_fails(ESPIPE, reading, fd, "of a pipe");
    FAILS(EINVAL, readahead(fd, 0, 1));
    FAILS(EINVAL, fsync(fd));
    FAILS(ENODEV, long(mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, fd, 0)));
  }
  for (int fd : {int(fifo), int(to)}) {
    each_fails(ESPIPE, writing, fd, "of a pipe");
    FAILS(EINVAL, ftruncate(fd, 0));
  }
}

TEST(descriptor, of_a_directory) {
  OK(mkdir("d", 0755));
  make_file("f");
  Fd dir(OK(open("d", O_RDONLY))), file(OK(open("f", O_RDWR)));
  FAILS(EISDIR, read(dir, some_bytes, 1));
  FAILS(EISDIR, pread(dir, some_bytes, 1, 0));
  FAILS(EISDIR, readv(dir, &some_room, 1));
  FAILS(EBADF, write(dir, some_bytes, 1));
  FAILS(EBADF, fallocate(dir, 0, 0, 10));
  EQ(posix_fallocate(dir, 0, 10), EBADF);
  FAILS(EINVAL, ftruncate(dir, 0));
  FAILS(EINVAL, readahead(dir, 0, 1));
  FAILS(EINVAL, lseek(dir, -1, SEEK_SET));
  FAILS(EINVAL, splice(dir, nullptr, file, nullptr, 1, 0));
  FAILS(ENODEV, long(mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, dir, 0)));
  EQ(lseek(dir, 0, SEEK_SET), 0);
  EQ(posix_fadvise(dir, 0, 0, POSIX_FADV_NORMAL), 0);
  FAILS(ENOTDIR, syscall(SYS_getdents64, int(file), some_bytes, sizeof some_bytes));
  FAILS(ENOTDIR, fchdir(file));
  FAILS(ENOTDIR, openat(file, "x", O_RDONLY));
}

TEST(descriptor, advice) {
  make_file("f", "content");
  Fd reader(OK(open("f", O_RDONLY))), writer(OK(open("f", O_WRONLY)));
  for (int advice : {POSIX_FADV_NORMAL, POSIX_FADV_RANDOM, POSIX_FADV_SEQUENTIAL, POSIX_FADV_WILLNEED,
                     POSIX_FADV_NOREUSE, POSIX_FADV_DONTNEED})
    EQ(posix_fadvise(reader, 0, 1 << 20, advice), 0);
  EQ(posix_fadvise(reader, 0, 0, 77), EINVAL);
  EQ(posix_fadvise(reader, 0, -1, POSIX_FADV_NORMAL), EINVAL);
  OK(readahead(reader, 0, 1 << 20));
  FAILS(EBADF, readahead(writer, 0, 1));
  EQ(posix_fallocate(reader, 0, 100), EBADF);
  EQ(contents(seen("f")), "content");
}

// ---- buffers ----

// Two pages, of which the second is not there.
class HalfMapped {
 public:
  HalfMapped() {
    void* at = mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRUE(at != MAP_FAILED);
    start_ = static_cast<char*>(at);
    memset(start_, 'm', 2 * kPage);
    OK(munmap(gap(), kPage));
  }
  HalfMapped(const HalfMapped&) = delete;
  HalfMapped& operator=(const HalfMapped&) = delete;
  ~HalfMapped() { munmap(start_, kPage); }
  char* start() { return start_; }
  char* gap() { return start_ + kPage; }

 private:
  char* start_;
};

TEST(buffer, that_is_not_there) {
  make_file("f", "content");
  OK(symlink("f", "s"));
  OK(setxattr("f", "user.a", "value", 5, 0));
  Fd fd(OK(open("f", O_RDWR))), dir(OK(open(".", O_RDONLY)));
  HalfMapped room;
  void* volatile bad = room.gap();
  const iovec part{bad, 4};
  FAILS(EFAULT, read(fd, bad, 4));
  FAILS(EFAULT, pread(fd, bad, 4, 0));
  FAILS(EFAULT, readv(fd, &part, 1));
  FAILS(EFAULT, readv(fd, static_cast<iovec*>(bad), 1));
  FAILS(EFAULT, write(fd, bad, 4));
  FAILS(EFAULT, pwrite(fd, bad, 4, 2));
  FAILS(EFAULT, writev(fd, &part, 1));
  FAILS(EFAULT, writev(fd, static_cast<iovec*>(bad), 1));
  EQ(lseek(fd, 0, SEEK_CUR), 0);
  FAILS(EFAULT, fgetxattr(fd, "user.a", bad, 5));
  FAILS(EFAULT, fsetxattr(fd, "user.b", bad, 5, 0));
  FAILS(EFAULT, flistxattr(fd, static_cast<char*>(bad), 100));
  FAILS(EFAULT, fstatfs(fd, static_cast<struct statfs*>(bad)));
  FAILS(EFAULT, readlink("s", static_cast<char*>(bad), 10));
  FAILS(EFAULT, fcntl(fd, F_GETLK, static_cast<struct flock*>(bad)));
  FAILS(EFAULT, syscall(SYS_getdents64, int(dir), bad, 1000));
  FAILS(EFAULT, syscall(SYS_newfstatat, int(fd), "", bad, AT_EMPTY_PATH));
  FAILS(EFAULT, syscall(SYS_statx, int(fd), "", AT_EMPTY_PATH, STATX_ALL, bad));
  FAILS(EFAULT, open(static_cast<char*>(bad), O_RDONLY));
  EQ(names_in(".").size(), 2u);  // what getdents could not give is given the next time
  EQ(contents(seen("f")), "content");
}

TEST(buffer, of_which_a_part_is_there) {
  const std::string bytes = std::string(kPage, 'a') + std::string(kPage, 'b') + std::string(kPage, 'c');
  HalfMapped room;
  for (off_t offset : {off_t(0), off_t(kPage)}) {
    make_file("f", bytes);
    Fd fd(OK(open("f", O_RDWR)));
    OK(lseek(fd, offset, SEEK_SET));
    EQ(read(fd, room.start(), 2 * kPage), ssize_t(kPage));
    EQ(lseek(fd, 0, SEEK_CUR), offset + off_t(kPage));
    TRUE(std::string(room.start(), kPage) == bytes.substr(size_t(offset), kPage));
    memset(room.start(), 'm', kPage);
    OK(lseek(fd, offset, SEEK_SET));
    EQ(write(fd, room.start(), 2 * kPage), ssize_t(kPage));
    EQ(lseek(fd, 0, SEEK_CUR), offset + off_t(kPage));
    TRUE(contents(seen("f")) == std::string(bytes).replace(size_t(offset), kPage, std::string(kPage, 'm')));
  }
}

TEST(buffer, count_is_what_was_written) {  // where the part that is there ends within a page of the file
  HalfMapped room;
  for (off_t offset : {off_t(100), off_t(kPage - 50)}) {
    const std::string bytes(3 * kPage, 'o');
    make_file("f", bytes);
    Fd fd(OK(open("f", O_RDWR)));
    const ssize_t count = pwrite(fd, room.gap() - 100, 300, offset);
    if (count < 0) EQ(errno, EFAULT);
    TRUE(count <= 100);
    const size_t written = size_t(std::max<ssize_t>(count, 0));
    const std::string wanted = std::string(bytes).replace(size_t(offset), written, std::string(written, 'm'));
    TRUE(read_at(fd, 4 * kPage, 0) == wanted);
    TRUE(contents(seen("f")) == wanted);
    OK(ftruncate(fd, 0));
    const ssize_t made = pwrite(fd, room.gap() - 100, 300, 0);
    EQ(info(seen("f")).st_size, std::max<ssize_t>(made, 0));
    EQ(contents(seen("f")), std::string(size_t(std::max<ssize_t>(made, 0)), 'm'));
  }
}

TEST(buffer, second_of_a_vector_is_not_there) {
  make_file("f", "0123456789");
  Fd fd(OK(open("f", O_RDWR))), append(OK(open("f", O_WRONLY | O_APPEND)));
  HalfMapped room;
  char first[4] = "xyz";
  const iovec parts[2] = {{first, 3}, {room.gap(), 100}};
  EQ(writev(fd, parts, 2), 3);
  EQ(lseek(fd, 0, SEEK_CUR), 3);
  EQ(contents(seen("f")), "xyz3456789");
  EQ(readv(fd, parts, 2), 3);
  EQ(std::string(first), "345");
  EQ(lseek(fd, 0, SEEK_CUR), 6);
  EQ(writev(append, parts, 2), 3);
  EQ(contents(seen("f")), "xyz3456789345");
}

}  // namespace
}  // namespace conformance
