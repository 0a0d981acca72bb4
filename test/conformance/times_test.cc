// Times: which call marks which (POSIX 4.9), utimensat(2), the range, birth time, relatime.
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

struct statx look(const std::string& path, int flags = AT_SYMLINK_NOFOLLOW) {
  struct statx out {};
  OK(statx(AT_FDCWD, path.c_str(), flags, STATX_ALL, &out));
  return out;
}
int64_t ns_of(const statx_timestamp& time) {
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

TEST(times, of_what_is_made) {
  const int64_t before = now_ns() - 20'000'000;
  make_file("f");
  OK(mkdir("d", 0755));
  OK(symlink("x", "s"));
  OK(mkfifo("p", 0644));
  const int64_t after = now_ns() + 20'000'000;
  for (const char* name : {"f", "d", "s", "p"}) {
    const struct stat made = info(seen(name));
    for (const timespec& time : {made.st_atim, made.st_mtim, made.st_ctim})
      TRUE(ns(time) >= before && ns(time) <= after);
  }
}

TEST(times, that_were_seen_of_a_write_stay) {
  for (int i = 0; i < 10; ++i) {
    make_file("f");
    Fd fd(OK(open("f", O_WRONLY)));
    EQ(write(fd, "x", 1), 1);
    struct stat open_yet {};
    OK(fstat(fd, &open_yet));
    fd.close();
    for (const struct stat& closed : {info("f"), info(seen("f"))}) {
      EQ(ns(closed.st_ctim), ns(open_yet.st_ctim));
      EQ(ns(closed.st_mtim), ns(open_yet.st_mtim));
    }
  }
}

TEST(times, of_writing) {
  make_file("f", "content");
  Fd fd(OK(open("f", O_RDWR)));
  EQ(times_risen("f",
                 [&] {
                   EQ(write(fd, "x", 1), 1);
                   OK(fsync(fd));
                 }),
     "mc");
  EQ(times_risen("f", [&] { EQ(write(fd, "x", 0), 0); }), "");
  EQ(times_risen("f", [&] { OK(ftruncate(fd, 100)); }), "mc");
  EQ(times_risen("f", [&] { OK(ftruncate(fd, 10)); }), "mc");
  EQ(times_risen("f", [&] { OK(truncate("f", 5)); }), "mc");
  EQ(times_risen("f", [&] { OK(fallocate(fd, 0, 0, 1000)); }), "mc");
  EQ(times_risen("f", [&] { OK(fsync(fd)); }), "");
  EQ(times_risen("f", [&] { FAILS(EINVAL, ftruncate(fd, -1)); }), "");
}

TEST(times, in_the_future_do_not_outlast_a_write) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  const int64_t begun_ns = now_ns();
  for (const char* through : {"write", "pwrite"}) {
    const timespec future[2] = {{0, UTIME_OMIT}, {time_t(begun_ns / 1'000'000'000 + 86'400'000), 0}};
    OK(futimens(fd, future));
    EQ(info_of(fd).st_mtim.tv_sec, future[1].tv_sec);
    EQ(through[0] == 'w' ? write(fd, "x", 1) : pwrite(fd, "x", 1, 100), 1);
    TRUE(ns(info_of(fd).st_mtim) < begun_ns + 3'600'000'000'000);
    OK(fsync(fd));
    TRUE(ns(info(seen("f")).st_mtim) < begun_ns + 3'600'000'000'000);
  }
}

TEST(times, in_the_near_future_do_not_outlast_a_write) {
  for (const bool written : {false, true}) {
    Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
    if (written) EQ(write(fd, "x", 1), 1);
    const int64_t begun_ns = now_ns();
    const timespec soon{time_t(begun_ns / 1'000'000'000 + 5), 0}, both[2] = {soon, soon};
    OK(utimensat(AT_FDCWD, "f", both, 0));
    EQ(info_of(fd).st_mtim.tv_sec, soon.tv_sec);
    EQ(write(fd, "x", 1), 1);
    OK(fsync(fd));
    const auto recent = [&](const struct stat& is) {
      return ns(is.st_mtim) >= begun_ns - 20'000'000 && ns(is.st_mtim) <= now_ns() &&
             is.st_atim.tv_sec == soon.tv_sec;
    };
    TRUE(recent(info_of(fd)));
    TRUE(recent(info(seen("f"))));
    fd.close();
    TRUE(recent(info(seen("f"))));
  }
}

TEST(times, seen_before_close) {  // by who writes, at once
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  for (int i = 0; i < 3; ++i) {
    const struct stat before = info_of(fd);
    tick();
    EQ(write(fd, "x", 1), 1);
    const struct stat after = info_of(fd);
    EQ(risen(before, after), "mc");
    EQ(after.st_size, i + 1);
    EQ(info("f").st_size, i + 1);
  }
}

TEST(times, of_attributes) {
  make_file("f");
  EQ(times_risen("f", [] { OK(setxattr("f", "user.a", "1", 1, 0)); }), "c");
  EQ(times_risen("f", [] { OK(removexattr("f", "user.a")); }), "c");
  EQ(times_risen("f", [] { OK(chown("f", 1, 1)); }), "c");
  EQ(times_risen("f", [] { OK(chmod("f", 0600)); }), "c");
}

TEST(times, do_not_rise_with_what_failed) {
  make_file("f");
  OK(mkdir("d", 0755));
  make_file("d/x");
  as_user([] {
    EQ(times_risen("f",
                   [] {
                     FAILS(EPERM, chmod("f", 0));
                     FAILS(EPERM, chown("f", kUser, kGroup));
                     FAILS(EACCES, truncate("f", 1));
                     FAILS(EACCES, setxattr("f", "user.a", "1", 1, 0));
                     FAILS(EACCES, utimensat(AT_FDCWD, "f", nullptr, 0));
                   }),
       "");
  });
  EQ(times_risen("d",
                 [] {
                   FAILS(EEXIST, mkdir("d/x", 0755));
                   FAILS(EEXIST, symlink("a", "d/x"));
                   FAILS(EEXIST, link("f", "d/x"));
                   FAILS(ENOENT, unlink("d/missing"));
                   FAILS(ENOENT, rename("d/missing", "d/y"));
                   FAILS(EEXIST, open("d/x", O_CREAT | O_EXCL | O_RDWR, 0644));
                 }),
     "");
}

TEST(times, of_reading_with_relatime) {
  make_file("f", "content");
  OK(mkdir("d", 0755));
  make_file("d/x");
  OK(symlink("f", "s"));
  const timespec old[2] = {{1000, 0}, {2000, 0}};
  OK(utimensat(AT_FDCWD, "f", old, 0));
  OK(utimensat(AT_FDCWD, "d", old, 0));
  OK(utimensat(AT_FDCWD, "s", old, AT_SYMLINK_NOFOLLOW));
  tick();
  const int64_t before = now_ns() - 20'000'000;
  contents("f");
  TRUE(ns(info(seen("f")).st_atim) >= before);
  EQ(info(seen("f")).st_mtim.tv_sec, 2000);
  names_in("d");
  TRUE(ns(info(seen("d")).st_atim) >= before);
  char buffer[10];
  OK(readlink("s", buffer, sizeof buffer));
  TRUE(ns(info(seen("s")).st_atim) >= before);
  // Newer than both others, and not a day old: it stays.
  tick();
  EQ(times_risen("f", [] { contents("f"); }), "");
  EQ(times_risen("d", [] { names_in("d"); }), "");
  // Not with O_NOATIME.
  OK(utimensat(AT_FDCWD, "f", old, 0));
  {
    Fd fd(OK(open("f", O_RDONLY | O_NOATIME)));
    read_at(fd, 7, 0);
  }
  EQ(info(seen("f")).st_atim.tv_sec, 1000);
}

TEST(times, of_reading_through_the_descriptor_that_set_old_ones) {
  const time_t now = time_t(now_ns() / 1'000'000'000), hour = 3600;
  const timespec older[2] = {{1000, 0}, {2000, 0}},
                 a_day_ago[2] = {{now - 25 * hour, 0}, {now - 26 * hour, 0}},
                 today[2] = {{now - hour, 0}, {now - 2 * hour, 0}};  // then the ctime is newer
  for (const int flags : {O_RDONLY, O_RDWR}) {
    for (const timespec* times : {older, a_day_ago, today}) {
      make_file("f", "content");
      Fd fd(OK(open("f", flags)));
      if (flags == O_RDWR) EQ(pwrite(fd, "C", 1, 0), 1);
      OK(futimens(fd, times));
      EQ(info_of(fd).st_atim.tv_sec, times[0].tv_sec);
      tick();
      const int64_t before = now_ns() - 20'000'000;
      EQ(read_at(fd, 6, 1), "ontent");
      TRUE(ns(info_of(fd).st_atim) >= before);
      EQ(info_of(fd).st_mtim.tv_sec, times[1].tv_sec);
      fd.close();
      TRUE(ns(info("f").st_atim) >= before);
      EQ(info(seen("f")).st_mtim.tv_sec, times[1].tv_sec);
    }
  }
}

TEST(times, of_what_is_copied_from) {
  make_file("from", "content");
  OK(utimensat(AT_FDCWD, "from", (const timespec[2]){{1000, 0}, {2000, 0}}, 0));
  Fd from(OK(open("from", O_RDONLY))), to(OK(open("to", O_RDWR | O_CREAT, 0644)));
  Fd unmarked(OK(open("from", O_RDONLY | O_NOATIME)));
  const struct stat before = info("from"), before_to = info("to");
  tick();
  EQ(copy_file_range(unmarked, nullptr, to, nullptr, 7, 0), 7);
  EQ(risen(before, info("from")), "");
  EQ(copy_file_range(from, nullptr, to, nullptr, 7, 0), 7);
  OK(fsync(to));
  EQ(risen(before, info_of(from)), "a");
  EQ(risen(before, info("from")), "a");
  EQ(risen(before_to, info("to")), "mc");
}

TEST(times, of_reading_what_was_read_a_day_ago) {
  make_file("f", "content");
  OK(mkdir("d", 0755));
  const time_t now = time_t(now_ns() / 1'000'000'000), hour = 3600;
  const timespec old[2] = {{now - 25 * hour, 0}, {now - 26 * hour, 0}},
                 future[2] = {{now + 25 * hour, 0}, {now, 0}};
  for (const char* name : {"f", "d"}) {
    const auto read_it = [&] { name[0] == 'f' ? void(contents(name)) : void(names_in(name)); };
    OK(utimensat(AT_FDCWD, name, old, 0));
    tick();
    read_it();
    TRUE(info(name).st_atim.tv_sec >= now - 1);
    EQ(info(name).st_mtim.tv_sec, now - 26 * hour);
    OK(utimensat(AT_FDCWD, name, future, 0));  // newer than both others, and not a day ago
    tick();
    read_it();
    EQ(info(name).st_atim.tv_sec, now + 25 * hour);
  }
}

TEST(utimensat, sets_both_to_the_nanosecond) {
  make_file("f");
  OK(mkdir("d", 0755));
  OK(symlink("f", "s"));
  OK(mkfifo("p", 0644));
  const timespec times[2] = {{1'234'567'890, 123'456'789}, {987'654'321, 1}};
  for (const char* name : {"f", "d", "s", "p"}) {
    const std::string rose =
        times_risen(name, [&] { OK(utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW)); });
    EQ(rose, "c");
    EQ(ns(info(seen(name)).st_atim), 1'234'567'890'123'456'789);
    EQ(ns(info(seen(name)).st_mtim), 987'654'321'000'000'001);
  }
  OK(utimensat(AT_FDCWD, "s", (const timespec[2]){{5, 0}, {6, 0}}, 0));  // through the link
  EQ(info(seen("f")).st_mtim.tv_sec, 6);
  EQ(info(seen("s")).st_mtim.tv_sec, 987'654'321);
  Fd fd(OK(open("f", O_RDONLY)));
  OK(futimens(fd, times));
  EQ(ns(info(seen("f")).st_mtim), 987'654'321'000'000'001);
}

TEST(utimensat, now_and_omit) {
  make_file("f");
  const timespec old[2] = {{1000, 0}, {2000, 0}};
  OK(utimensat(AT_FDCWD, "f", old, 0));
  const int64_t before = now_ns() - 20'000'000;
  OK(utimensat(AT_FDCWD, "f", (const timespec[2]){{0, UTIME_NOW}, {0, UTIME_OMIT}}, 0));
  TRUE(ns(info(seen("f")).st_atim) >= before);
  EQ(info(seen("f")).st_mtim.tv_sec, 2000);
  OK(utimensat(AT_FDCWD, "f", (const timespec[2]){{0, UTIME_OMIT}, {3000, 5}}, 0));
  TRUE(ns(info(seen("f")).st_atim) >= before);
  EQ(ns(info(seen("f")).st_mtim), 3000'000'000'005);
  EQ(times_risen("f",
                 [] {
                   OK(utimensat(AT_FDCWD, "f", (const timespec[2]){{0, UTIME_OMIT}, {0, UTIME_OMIT}}, 0));
                 }),
     "");
  OK(utimensat(AT_FDCWD, "f", nullptr, 0));
  TRUE(ns(info(seen("f")).st_mtim) >= before);
  const struct stat both = info(seen("f"));
  EQ(ns(both.st_atim), ns(both.st_mtim));
  FAILS(EINVAL, utimensat(AT_FDCWD, "f", (const timespec[2]){{0, 1'000'000'000}, {0, 0}}, 0));
  FAILS(EINVAL, utimensat(AT_FDCWD, "f", (const timespec[2]){{0, -5}, {0, 0}}, 0));
  FAILS(EINVAL, utimensat(AT_FDCWD, "f", nullptr, 0x8000));
}

TEST(utimensat, permissions) {
  make_file("writable", "", 0666);
  make_file("readable", "", 0644);
  make_file("mine", "", 0444);
  OK(chown("mine", kUser, kGroup));
  const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}, set[2] = {{1, 0}, {2, 0}},
                 mixed[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}}, omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  as_user([&] {
    OK(utimensat(AT_FDCWD, "writable", nullptr, 0));
    OK(utimensat(AT_FDCWD, "writable", now, 0));
    FAILS(EPERM, utimensat(AT_FDCWD, "writable", set, 0));
    FAILS(EPERM, utimensat(AT_FDCWD, "writable", mixed, 0));
    OK(utimensat(AT_FDCWD, "readable", omit, 0));
    FAILS(EACCES, utimensat(AT_FDCWD, "readable", nullptr, 0));
    FAILS(EACCES, utimensat(AT_FDCWD, "readable", now, 0));
    FAILS(EPERM, utimensat(AT_FDCWD, "readable", set, 0));
    OK(utimensat(AT_FDCWD, "mine", nullptr, 0));
    OK(utimensat(AT_FDCWD, "mine", set, 0));
    OK(utimensat(AT_FDCWD, "mine", mixed, 0));
  });
}

TEST(utimensat, far_past_and_future) {
  make_file("f");
  for (int64_t seconds : {-1'000'000'000ll, -1ll, 0ll, 1ll, 2147483647ll, 2147483648ll, 4294967295ll,
                          4294967296ll, 9'000'000'000ll}) {
    const timespec times[2] = {{seconds, 1}, {seconds, 999'999'999}};
    OK(utimensat(AT_FDCWD, "f", times, 0));
    const struct stat after = info(seen("f"));
    EQ(after.st_atim.tv_sec, seconds);
    EQ(after.st_mtim.tv_sec, seconds);
    EQ(after.st_atim.tv_nsec, 1);
    EQ(after.st_mtim.tv_nsec, 999'999'999);
  }
  // Beyond what is kept: the nearest that is, never another sign.
  OK(utimensat(AT_FDCWD, "f", (const timespec[2]){{-100'000'000'000, 0}, {100'000'000'000, 0}}, 0));
  TRUE(info(seen("f")).st_atim.tv_sec < -1'000'000'000);
  TRUE(info(seen("f")).st_mtim.tv_sec > 4'294'967'296);
}

TEST(utimensat, stays_while_the_file_is_open_for_writing) {
  make_file("f");
  Fd fd(OK(open("f", O_RDWR)));
  EQ(write(fd, "content", 7), 7);
  OK(futimens(fd, (const timespec[2]){{1, 0}, {2, 0}}));
  EQ(info("f").st_mtim.tv_sec, 2);
  fd.close();
  EQ(info(seen("f")).st_mtim.tv_sec, 2);
  EQ(contents(seen("f")), "content");
}

TEST(statx, fields) {
  make_file("f", "content", 0640);
  OK(link("f", "l"));
  const struct statx one = look(seen("f"));
  EQ(one.stx_mask & STATX_BASIC_STATS, unsigned(STATX_BASIC_STATS));
  const struct stat two = info(seen("f"));
  EQ(one.stx_ino, two.st_ino);
  EQ(one.stx_mode, two.st_mode);
  EQ(one.stx_size, 7u);
  EQ(one.stx_nlink, 2u);
  EQ(one.stx_blocks, uint64_t(two.st_blocks));
  EQ(ns_of(one.stx_mtime), ns(two.st_mtim));
  struct statx out {};
  FAILS(EINVAL, statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_ALL, &out));
  FAILS(EINVAL, statx(AT_FDCWD, "f", 0, STATX__RESERVED, &out));
}

TEST(statx, asks_anew) {
  make_file("f", "12345");
  Fd fd(OK(open(seen("f").c_str(), O_RDONLY))), other(OK(open("f", O_WRONLY | O_APPEND)));
  for (unsigned size = 6; size < 12; ++size) {
    const struct statx before = look(seen("f"));
    tick();
    EQ(write(other, "x", 1), 1);
    struct statx after {};
    OK(statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE | STATX_MTIME, &after));
    EQ(after.stx_size, size);
    TRUE(ns_of(after.stx_mtime) > ns_of(before.stx_mtime));
    EQ(look(seen("f"), AT_STATX_FORCE_SYNC).stx_size, size);
    OK(chmod("f", size % 2 ? 0600 : 0644));
    EQ(look(seen("f"), AT_STATX_FORCE_SYNC).stx_mode & 07777u, size % 2 ? 0600u : 0644u);
  }
  OK(unlink("f"));
  struct statx out {};
  FAILS(ENOENT, statx(AT_FDCWD, seen("f").c_str(), AT_STATX_FORCE_SYNC, STATX_ALL, &out));
  OK(statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_ALL, &out));
  EQ(out.stx_nlink, 0u);
  EQ(out.stx_size, 11u);
}

TEST(statx, birth_time) {
  const int64_t before = now_ns() - 20'000'000;
  make_file("f");
  OK(mkdir("d", 0755));
  OK(symlink("x", "s"));
  const int64_t after = now_ns() + 20'000'000;
  tick();
  tick();
  tick();
  for (const char* name : {"f", "d", "s"}) {
    OK(utimensat(AT_FDCWD, name, (const timespec[2]){{1, 0}, {2, 0}}, AT_SYMLINK_NOFOLLOW));
    const struct statx about = look(seen(name));
    TRUE(about.stx_mask & STATX_BTIME);
    TRUE(ns_of(about.stx_btime) >= before && ns_of(about.stx_btime) <= after);
  }
  const int64_t born = ns_of(look(seen("f")).stx_btime);
  OK(rename("f", "g"));
  make_file("g", "new content");
  EQ(ns_of(look(seen("g")).stx_btime), born);
  Fd fd(OK(open("g", O_RDONLY)));
  struct statx about {};
  OK(statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &about));
  EQ(ns_of(about.stx_btime), born);
}

}  // namespace
}  // namespace conformance
