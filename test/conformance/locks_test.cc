// flock(2) and fcntl(2) locks, POSIX and open file description; between two mounts where there are two.
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

struct flock region(short type, off_t start = 0, off_t length = 0) {
  struct flock out {};
  out.l_type = type;
  out.l_whence = SEEK_SET;
  out.l_start = start;
  out.l_len = length;
  return out;
}
int lock(int fd, int command, short type, off_t start = 0, off_t length = 0) {
  struct flock wanted = region(type, start, length);
  return fcntl(fd, command, &wanted);
}

TEST(flock, shared_and_exclusive) {
  make_file("f");
  Fd a(OK(open("f", O_RDWR))), b(OK(open(seen("f").c_str(), O_RDWR))),
      c(OK(open(seen("f").c_str(), O_RDONLY)));
  OK(flock(a, LOCK_SH));
  OK(flock(b, LOCK_SH | LOCK_NB));
  FAILS(EWOULDBLOCK, flock(c, LOCK_EX | LOCK_NB));
  OK(flock(b, LOCK_UN));
  OK(flock(a, LOCK_EX | LOCK_NB));
  FAILS(EWOULDBLOCK, flock(b, LOCK_SH | LOCK_NB));
  FAILS(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
  OK(flock(a, LOCK_SH));  // to a weaker one
  OK(flock(c, LOCK_SH | LOCK_NB));
  OK(flock(c, LOCK_UN));
  a.close();
  OK(flock(b, LOCK_EX | LOCK_NB));
  FAILS(EINVAL, flock(b, 0x40));
  FAILS(EBADF, flock(99, LOCK_SH));
}

TEST(flock, waits_and_is_interrupted) {
  make_file("f");
  Fd a(OK(open("f", O_RDWR))), b(OK(open(seen("f").c_str(), O_RDWR)));
  OK(flock(a, LOCK_EX));
  const pid_t holder = fork();
  if (holder == 0) {
    usleep(300'000);
    flock(a, LOCK_UN);  // the description is shared with the parent
    _exit(0);
  }
  const int64_t start = now_ns();
  OK(flock(b, LOCK_EX));
  TRUE(now_ns() - start > 200'000'000);
  TRUE(now_ns() - start < 3'000'000'000);
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);  // without SA_RESTART
  alarm(1);
  FAILS(EINTR, flock(a, LOCK_EX));
}

TEST(flock, goes_with_the_last_descriptor) {
  make_file("f");
  Fd a(OK(open("f", O_RDWR))), b(OK(open(seen("f").c_str(), O_RDWR)));
  OK(flock(a, LOCK_EX));
  Fd copy(OK(dup(a)));
  a.close();
  FAILS(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
  copy.close();
  OK(flock(b, LOCK_EX | LOCK_NB));
}

TEST(fcntl, locks_of_two_processes) {
  make_file("f", std::string(100, 'x'));
  Fd fd(OK(open("f", O_RDWR)));
  OK(lock(fd, F_SETLK, F_WRLCK, 10, 10));
  OK(lock(fd, F_SETLK, F_RDLCK, 50, 10));
  const pid_t owner = getpid();
  apart([&] {
    Fd other(OK(open(seen("f").c_str(), O_RDWR)));
    FAILS(EAGAIN, lock(other, F_SETLK, F_RDLCK, 15, 1));
    FAILS(EAGAIN, lock(other, F_SETLK, F_WRLCK, 0, 0));
    FAILS(EAGAIN, lock(other, F_SETLK, F_WRLCK, 50, 1));
    OK(lock(other, F_SETLK, F_RDLCK, 50, 1));
    OK(lock(other, F_SETLK, F_WRLCK, 0, 10));
    OK(lock(other, F_SETLK, F_WRLCK, 20, 30));
    struct flock found = region(F_WRLCK, 0, 0);
    OK(fcntl(other, F_GETLK, &found));
    EQ(found.l_type, short(F_WRLCK));
    EQ(found.l_start, 10);
    EQ(found.l_len, 10);
    if (!two_mounts()) EQ(found.l_pid, owner);
    found = region(F_WRLCK, 30, 5);
    OK(fcntl(other, F_GETLK, &found));
    EQ(found.l_type, short(F_UNLCK));
  });
  OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));  // the other's are gone with it
}

TEST(fcntl, locks_merge_split_and_go) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  OK(lock(fd, F_SETLK, F_WRLCK, 0, 100));
  OK(lock(fd, F_SETLK, F_UNLCK, 40, 20));
  OK(lock(fd, F_SETLK, F_RDLCK, 80, 40));
  apart([&] {
    Fd other(OK(open(seen("f").c_str(), O_RDWR)));
    OK(lock(other, F_SETLK, F_WRLCK, 40, 20));
    OK(lock(other, F_SETLK, F_RDLCK, 80, 40));
    FAILS(EAGAIN, lock(other, F_SETLK, F_WRLCK, 39, 1));
    FAILS(EAGAIN, lock(other, F_SETLK, F_RDLCK, 60, 1));
    FAILS(EAGAIN, lock(other, F_SETLK, F_WRLCK, 119, 1));
    OK(lock(other, F_SETLK, F_WRLCK, 120, 0));
  });
  {
    Fd second(OK(open("f", O_RDONLY)));  // closing any descriptor drops the process's locks
  }
  apart([&] {
    Fd other(OK(open(seen("f").c_str(), O_RDWR)));
    OK(lock(other, F_SETLK, F_WRLCK, 0, 0));
  });
}

TEST(fcntl, waiting_lock) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  int ready[2];
  OK(pipe(ready));
  const pid_t holder = fork();
  if (holder == 0) {
    Fd own(open(seen("f").c_str(), O_RDWR));
    lock(own, F_SETLK, F_WRLCK);
    [[maybe_unused]] const ssize_t told = write(ready[1], "x", 1);
    usleep(400'000);
    _exit(0);
  }
  char byte;
  OK(read(ready[0], &byte, 1));
  FAILS(EAGAIN, lock(fd, F_SETLK, F_WRLCK));
  const int64_t start = now_ns();
  OK(lock(fd, F_SETLKW, F_WRLCK));  // its holder is gone
  TRUE(now_ns() - start > 100'000'000);
  TRUE(now_ns() - start < 3'000'000'000);
}

TEST(fcntl, waiting_lock_is_interrupted) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  OK(lock(fd, F_SETLK, F_WRLCK));
  apart([&] {
    Fd other(OK(open(seen("f").c_str(), O_RDWR)));
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    alarm(1);
    FAILS(EINTR, lock(other, F_SETLKW, F_WRLCK));
  });
}

TEST(fcntl, errors) {
  make_file("f");
  Fd reader(OK(open("f", O_RDONLY))), writer(OK(open("f", O_WRONLY)));
  FAILS(EBADF, lock(reader, F_SETLK, F_WRLCK));
  FAILS(EBADF, lock(writer, F_SETLK, F_RDLCK));
  FAILS(EINVAL, lock(reader, F_SETLK, 99));
  FAILS(EINVAL, lock(reader, F_SETLK, F_RDLCK, -1));
  FAILS(EBADF, lock(99, F_SETLK, F_RDLCK));
}

TEST(fcntl, locks_of_open_file_descriptions) {
  make_file("f");
  Fd a(OK(open("f", O_RDWR))), b(OK(open(seen("f").c_str(), O_RDWR)));
  OK(lock(a, F_OFD_SETLK, F_WRLCK, 0, 10));
  FAILS(EAGAIN, lock(b, F_OFD_SETLK, F_WRLCK, 5, 1));
  OK(lock(b, F_OFD_SETLK, F_WRLCK, 10, 1));
  struct flock found = region(F_WRLCK, 0, 5);
  OK(fcntl(b, F_OFD_GETLK, &found));
  EQ(found.l_type, short(F_WRLCK));
  EQ(found.l_pid, -1);
  { Fd third(OK(open("f", O_RDONLY))); }  // closing another descriptor drops nothing
  FAILS(EAGAIN, lock(b, F_OFD_SETLK, F_WRLCK, 5, 1));
  a.close();
  OK(lock(b, F_OFD_SETLK, F_WRLCK, 5, 1));
}

}  // namespace
}  // namespace conformance
