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

std::string text(const struct flock& found) {  // "read 0,10"
  const char* kind = found.l_type == F_RDLCK ? "read" : found.l_type == F_WRLCK ? "write" : "none";
  return kind + (" " + std::to_string(found.l_start)) + "," + std::to_string(found.l_len);
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

TEST(fcntl, the_lowest_conflicting_lock_is_named) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  OK(lock(fd, F_SETLK, F_WRLCK, 10, 5));
  OK(lock(fd, F_SETLK, F_RDLCK, 1, 5));
  apart([] {
    for (const std::string& path : {std::string("f"), seen("f")}) {
      Fd other(OK(open(path.c_str(), O_RDWR)));
      const auto asked = [&](short type, off_t start) {
        struct flock found = region(type, start, 0);
        OK(fcntl(other, F_GETLK, &found));
        return text(found);
      };
      EQ(asked(F_WRLCK, 0), "read 1,5");
      EQ(asked(F_WRLCK, 5), "read 1,5");
      EQ(asked(F_WRLCK, 6), "write 10,5");
      EQ(asked(F_RDLCK, 0), "write 10,5");
      EQ(asked(F_WRLCK, 15), "none 15,0");
    }
  });
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

TEST(fcntl, own_locks_of_an_open_file_description_are_named) {  // F_UNLCK asks for them, since Linux 6.6
  make_file("f");
  Fd a(OK(open("f", O_RDWR))), b(OK(open(seen("f").c_str(), O_RDWR)));
  OK(lock(a, F_OFD_SETLK, F_WRLCK, 20, 5));
  OK(lock(a, F_OFD_SETLK, F_RDLCK, 0, 10));
  OK(lock(b, F_OFD_SETLK, F_RDLCK, 5, 10));
  OK(lock(b, F_SETLK, F_WRLCK, 40, 10));
  const auto asked = [](int fd, off_t start, off_t length) {
    struct flock found = region(F_UNLCK, start, length);
    OK(fcntl(fd, F_OFD_GETLK, &found));
    EQ(found.l_whence, short(SEEK_SET));
    EQ(found.l_pid, found.l_type == F_UNLCK ? 0 : -1);
    return text(found);
  };
  EQ(asked(a, 0, 0), "read 0,10");
  EQ(asked(a, 9, 1), "read 0,10");
  EQ(asked(a, 10, 10), "none 10,10");
  EQ(asked(a, 10, 0), "write 20,5");
  EQ(asked(a, 25, 0), "none 25,0");
  EQ(asked(b, 0, 0), "read 5,10");
  EQ(asked(b, 15, 0), "none 15,0");
  OK(lock(a, F_OFD_SETLK, F_UNLCK, 0, 10));
  EQ(asked(a, 0, 0), "write 20,5");
  FAILS(EINVAL, lock(a, F_GETLK, F_UNLCK));
}

// As "10-19" (to the end of the file: "10-"), what keeps a write lock of these bytes from another process; ""
// nothing.
std::string kept(off_t start, off_t length) {
  int answer[2];
  OK(pipe(answer));
  apart([&] {
    Fd other(OK(open(seen("f").c_str(), O_RDWR)));
    struct flock found = region(F_WRLCK, start, length);
    OK(fcntl(other, F_GETLK, &found));
    if (found.l_type == F_UNLCK) return;
    EQ(found.l_whence, short(SEEK_SET));
    std::string range = std::to_string(found.l_start) + "-";
    if (found.l_len != 0) range += std::to_string(found.l_start + found.l_len - 1);
    OK(write(answer[1], range.data(), range.size()));
  });
  close(answer[1]);
  char range[64];
  const ssize_t got = OK(read(answer[0], range, sizeof range));
  close(answer[0]);
  return {range, size_t(got)};
}
struct flock from(short whence, off_t start, off_t length, short type = F_WRLCK) {
  struct flock out = region(type, start, length);
  out.l_whence = whence;
  return out;
}
int set(int fd, struct flock wanted, int command = F_SETLK) {
  return fcntl(fd, command, &wanted);
}

TEST(fcntl, regions_from_the_position_and_the_end) {
  make_file("f", std::string(100, 'x'));
  Fd fd(OK(open("f", O_RDWR)));
  OK(lseek(fd, 40, SEEK_SET));
  OK(set(fd, from(SEEK_CUR, -10, 5)));
  EQ(kept(0, 0), "30-34");
  OK(lseek(fd, 0, SEEK_SET));  // a lock stays where it was taken
  EQ(kept(0, 0), "30-34");
  OK(set(fd, from(SEEK_CUR, 30, 5, F_UNLCK)));
  EQ(kept(0, 0), "");
  OK(set(fd, from(SEEK_END, -20, 10)));
  EQ(kept(0, 0), "80-89");
  OK(set(fd, from(SEEK_END, 5, 0)));
  EQ(kept(90, 0), "105-");
  OK(set(fd, from(SEEK_END, -100, 0, F_UNLCK)));
  EQ(kept(0, 0), "");
  OK(set(fd, from(SEEK_END, -20, 10), F_OFD_SETLK));
  EQ(kept(0, 0), "80-89");
}

TEST(fcntl, the_end_is_where_others_have_moved_it) {
  make_file("f", std::string(100, 'x'));
  Fd fd(OK(open("f", O_RDWR))), other(OK(open(seen("f").c_str(), O_RDWR)));
  EQ(pwrite(other, "more", 4, 196), 4);
  EQ(info_of(fd).st_size, 200);
  OK(set(fd, from(SEEK_END, -20, 10)));
  EQ(kept(0, 0), "180-189");
  OK(ftruncate(other, 50));
  EQ(info_of(fd).st_size, 50);
  OK(set(fd, from(SEEK_END, 0, -50)));
  EQ(kept(0, 100), "0-49");
}

TEST(fcntl, regions_of_negative_length) {
  make_file("f", std::string(100, 'x'));
  Fd fd(OK(open("f", O_RDWR)));
  OK(set(fd, from(SEEK_SET, 60, -10)));
  EQ(kept(0, 0), "50-59");
  EQ(kept(60, 0), "");
  EQ(kept(0, 50), "");
  OK(set(fd, from(SEEK_END, 0, -50, F_UNLCK)));
  EQ(kept(0, 0), "");
  OK(set(fd, from(SEEK_SET, 10, -10)));
  EQ(kept(0, 0), "0-9");
  FAILS(EINVAL, set(fd, from(SEEK_SET, 10, -11)));
  FAILS(EINVAL, set(fd, from(SEEK_SET, 0, -1)));
  EQ(kept(0, 0), "0-9");
}

TEST(fcntl, regions_that_are_none) {
  make_file("f", std::string(100, 'x'));
  Fd fd(OK(open("f", O_RDWR)));
  OK(lseek(fd, 40, SEEK_SET));
  for (int command : {F_SETLK, F_GETLK, F_OFD_SETLK, F_OFD_GETLK}) {
    FAILS(EINVAL, set(fd, from(SEEK_CUR, -41, 5), command));
    FAILS(EINVAL, set(fd, from(SEEK_END, -101, 5), command));
    FAILS(EINVAL, set(fd, from(99, 0, 5), command));
    FAILS(EOVERFLOW, set(fd, from(SEEK_SET, INT64_MAX - 5, 7), command));
    FAILS(EOVERFLOW, set(fd, from(SEEK_SET, 2, INT64_MAX), command));
    FAILS(EOVERFLOW, set(fd, from(SEEK_CUR, INT64_MAX - 39, 1), command));
    FAILS(EOVERFLOW, set(fd, from(SEEK_END, INT64_MAX - 99, 1), command));
  }
  EQ(kept(0, 0), "");
}

TEST(fcntl, regions_up_to_the_largest_offset) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  OK(set(fd, from(SEEK_SET, INT64_MAX - 5, 6)));
  EQ(kept(0, 0), std::to_string(INT64_MAX - 5) + "-");
  EQ(kept(INT64_MAX, 1), std::to_string(INT64_MAX - 5) + "-");
  EQ(kept(0, INT64_MAX - 5), "");
  OK(set(fd, from(SEEK_SET, INT64_MAX, 1, F_UNLCK)));
  EQ(kept(0, 0), std::to_string(INT64_MAX - 5) + "-" + std::to_string(INT64_MAX - 1));
  EQ(kept(INT64_MAX, 0), "");
  OK(set(fd, from(SEEK_SET, 0, 0)));
  OK(set(fd, from(SEEK_SET, INT64_MAX - 1, -10, F_UNLCK)));
  EQ(kept(INT64_MAX - 20, 0), "0-" + std::to_string(INT64_MAX - 12));
  EQ(kept(INT64_MAX - 11, 10), "");
  EQ(kept(INT64_MAX - 1, 1), std::to_string(INT64_MAX - 1) + "-");
}

TEST(fcntl, open_file_descriptions_have_no_pid) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  struct flock wanted = region(F_WRLCK);
  wanted.l_pid = getpid();
  for (int command : {F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK}) FAILS(EINVAL, fcntl(fd, command, &wanted));
  EQ(kept(0, 0), "");
  OK(fcntl(fd, F_SETLK, &wanted));  // these do not look at it
  EQ(kept(0, 0), "0-");
}

TEST(fcntl, a_child_inherits_no_lock) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
  const pid_t owner = getpid();
  apart([&] {
    FAILS(EAGAIN, lock(fd, F_SETLK, F_RDLCK, 0, 1));
    struct flock found = region(F_WRLCK);
    OK(fcntl(fd, F_GETLK, &found));
    EQ(found.l_pid, owner);
    OK(lock(fd, F_SETLK, F_UNLCK));  // it has none
    OK(lock(fd, F_SETLK, F_WRLCK, 20, 10));
    fd.close();  // takes the child's, not the parent's
    EQ(kept(0, 0), "0-9");
  });
  EQ(kept(0, 0), "0-9");
}

TEST(fcntl, a_child_shares_locks_of_open_file_descriptions) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  OK(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 20));
  apart([&] {
    OK(lock(fd, F_OFD_SETLK, F_RDLCK, 0, 5));
    OK(lock(fd, F_OFD_SETLK, F_UNLCK, 10, 10));
  });
  EQ(kept(5, 0), "5-9");  // a child's end takes none
  EQ(kept(0, 5), "0-4");
  int ready[2], end[2];
  OK(pipe(ready));
  OK(pipe(end));
  const pid_t child = OK(fork());
  if (child == 0) {
    close(end[1]);
    char byte;
    [[maybe_unused]] const ssize_t told = write(ready[1], "x", 1), ended = read(end[0], &byte, 1);
    _exit(0);
  }
  char byte;
  OK(read(ready[0], &byte, 1));
  fd.close();
  EQ(kept(5, 0), "5-9");  // the child has it open
  close(end[1]);
  waitpid(child, nullptr, 0);
  Fd other(OK(open(seen("f").c_str(), O_RDWR)));
  OK(lock(other, F_OFD_SETLKW, F_WRLCK));
}

TEST(flock, a_child_shares_it) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR))), other(OK(open(seen("f").c_str(), O_RDWR)));
  OK(flock(fd, LOCK_EX));
  apart([&] {
    OK(flock(fd, LOCK_EX | LOCK_NB));
    Fd own(OK(open("f", O_RDWR)));
    FAILS(EWOULDBLOCK, flock(own, LOCK_SH | LOCK_NB));  // another description
  });
  FAILS(EWOULDBLOCK, flock(other, LOCK_SH | LOCK_NB));  // a child's end takes none
  apart([&] { OK(flock(fd, LOCK_SH)); });
  OK(flock(other, LOCK_SH | LOCK_NB));
  FAILS(EWOULDBLOCK, flock(other, LOCK_EX | LOCK_NB));
  apart([&] { OK(flock(fd, LOCK_UN)); });
  OK(flock(other, LOCK_EX | LOCK_NB));
}

TEST(flock, is_free_once_closed) {
  make_file("f");
  int refused = 0, refused_another = 0;
  for (int i = 0; i < 500; ++i) {
    {
      Fd fd(OK(open("f", O_RDWR)));
      refused += flock(fd, LOCK_EX | LOCK_NB) != 0;
    }
    Fd fd(OK(open("f", O_RDWR)));
    refused += flock(fd, LOCK_EX | LOCK_NB) != 0;
  }
  for (int i = 0; i < 500; ++i) {
    {
      Fd fd(OK(open("f", O_RDWR)));
      OK(flock(fd, LOCK_EX));
    }
    const pid_t child = OK(fork());
    if (child == 0) {
      const int fd = open(i % 2 == 0 ? "f" : seen("f").c_str(), O_RDWR);
      _exit(flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : 1);
    }
    int status = 0;
    OK(waitpid(child, &status, 0));
    refused_another += status != 0;
  }
  EQ(refused, 0);
  EQ(refused_another, 0);
}

}  // namespace
}  // namespace conformance
