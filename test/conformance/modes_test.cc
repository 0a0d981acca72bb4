// Modes and owners: chmod, chown, access, setuid and setgid bits, umask.
#include <fcntl.h>
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

TEST(chmod, every_bit) {
  make_file("f");
  OK(mkdir("d", 0755));
  for (const char* name : {"f", "d"}) {
    for (mode_t mode : {0u, 0111u, 0644u, 01777u, 02755u, 04755u, 07777u}) {
      OK(chmod(name, mode));
      EQ(mode_of(seen(name)), mode);
    }
  }
  EQ(times_risen("f", [] { OK(chmod("f", 0600)); }), "c");
  EQ(times_risen("f", [] { OK(chmod("f", 0600)); }), "c");
}

TEST(chmod, follows_links_and_descriptors) {
  make_file("f");
  OK(symlink("f", "link"));
  OK(chmod("link", 0600));
  EQ(mode_of(seen("f")), 0600u);
  FAILS(EOPNOTSUPP, fchmodat(AT_FDCWD, "link", 0644, AT_SYMLINK_NOFOLLOW));
  Fd fd(OK(open("f", O_RDONLY)));
  OK(fchmod(fd, 0640));
  EQ(mode_of(seen("f")), 0640u);
}

TEST(chmod, permissions) {
  make_file("f");
  OK(chown("f", kOther, kGroup));
  OK(chmod("f", 0666));
  as_user([] { FAILS(EPERM, chmod("f", 0600)); });
  as(kOther, kOtherGroup, {}, [] { OK(chmod("f", 0600)); });
  EQ(mode_of(seen("f")), 0600u);
}

TEST(chmod, setgid_of_a_foreign_group_is_dropped) {
  make_file("f");
  OK(chown("f", kUser, kOtherGroup));
  as_user([] { OK(chmod("f", 02755)); });
  EQ(mode_of(seen("f")), 0755u);
  OK(chown("f", kUser, kGroup));
  as_user([] { OK(chmod("f", 02755)); });
  EQ(mode_of(seen("f")), 02755u);
  OK(chown("f", kUser, kOtherGroup));
  as(kUser, kGroup, {kOtherGroup}, [] { OK(chmod("f", 02755)); });
  EQ(mode_of(seen("f")), 02755u);
  as_user([] { OK(chmod("f", 04755)); });  // setuid of the owner's own stays
  EQ(mode_of(seen("f")), 04755u);
}

TEST(chown, by_root) {
  make_file("f");
  OK(symlink("f", "link"));
  EQ(times_risen("f", [] { OK(chown("f", kUser, kGroup)); }), "c");
  EQ(info(seen("f")).st_uid, kUser);
  EQ(info(seen("f")).st_gid, kGroup);
  OK(chown("f", uid_t(-1), kOtherGroup));
  EQ(info(seen("f")).st_uid, kUser);
  EQ(info(seen("f")).st_gid, kOtherGroup);
  OK(chown("f", kOther, gid_t(-1)));
  EQ(info(seen("f")).st_uid, kOther);
  OK(lchown("link", kUser, kGroup));
  EQ(info(seen("link")).st_uid, kUser);
  EQ(info(seen("f")).st_uid, kOther);
  OK(chown("link", 0, 0));
  EQ(info(seen("f")).st_uid, 0u);
  Fd fd(OK(open("f", O_RDONLY)));
  OK(fchown(fd, 4'000'000'000u, 4'000'000'001u));
  EQ(info(seen("f")).st_uid, 4'000'000'000u);
  EQ(info(seen("f")).st_gid, 4'000'000'001u);
}

TEST(chown, by_the_owner) {
  make_file("f");
  OK(chown("f", kUser, kGroup));
  as(kUser, kGroup, {kOtherGroup}, [] {
    FAILS(EPERM, chown("f", kOther, gid_t(-1)));
    FAILS(EPERM, chown("f", uid_t(-1), 1));
    FAILS(EPERM, chown("f", 0, 0));
    OK(chown("f", kUser, kGroup));
    OK(chown("f", uid_t(-1), kOtherGroup));
    OK(chown("f", uid_t(-1), uid_t(-1)));
  });
  EQ(info(seen("f")).st_gid, kOtherGroup);
  as(kOther, kGroup, {kOtherGroup}, [] {
    FAILS(EPERM, chown("f", uid_t(-1), kGroup));
    FAILS(EPERM, chown("f", kOther, gid_t(-1)));
  });
}

TEST(chown, clears_setuid_and_setgid) {
  make_file("f");
  OK(chown("f", kUser, kGroup));
  OK(chmod("f", 06755));
  as_user([] { OK(chown("f", uid_t(-1), kGroup)); });
  EQ(mode_of(seen("f")), 0755u);
  OK(chmod("f", 06755));
  OK(chown("f", kUser, kGroup));  // by root too
  EQ(mode_of(seen("f")), 0755u);
  OK(chmod("f", 02644));  // not of a program: stays when root does it
  OK(chown("f", kUser, kGroup));
  EQ(mode_of(seen("f")), 02644u);
  OK(mkdir("d", 0755));
  OK(chmod("d", 06755));
  OK(chown("d", kUser, kGroup));
  EQ(mode_of(seen("d")), 06755u);
}

TEST(chown, to_nobody_else) {  // -1, -1
  make_file("f", "", 0755);
  as_user([] { OK(chown("f", uid_t(-1), gid_t(-1))); });
  OK(chmod("f", 06755));
  EQ(times_risen("f", [] { OK(chown("f", uid_t(-1), gid_t(-1))); }), "c");
  EQ(mode_of(seen("f")), 0755u);
  OK(mkdir("d", 0755));
  OK(chmod("d", 06755));
  OK(chown("d", uid_t(-1), gid_t(-1)));
  EQ(mode_of(seen("d")), 06755u);
}

int to_nobody() {
  return chown("f", uid_t(-1), gid_t(-1));
}

void to_nobody_by(uid_t user, gid_t group, mode_t mode, mode_t left) {
  OK(chmod("f", mode));
  EQ(times_risen("f", [&] { as(user, group, {}, [] { OK(to_nobody()); }); }), "c");
  EQ(mode_of(seen("f")), left);
}

TEST(chown, to_nobody_else_by_the_owner_and_others) {
  make_file("f");
  OK(chown("f", kUser, kGroup));
  for (const mode_t mode : {04755u, 06755u, 02755u, 04644u}) to_nobody_by(kUser, kGroup, mode, mode & 0777);
  for (const uid_t user : {kUser, kOther}) {
    to_nobody_by(user, kOtherGroup, 0755, 0755);
    to_nobody_by(user, kOtherGroup, 0, 0);
    to_nobody_by(user, kGroup, 02644, 02644);  // without group execute: the group's
  }
  to_nobody_by(kUser, kOtherGroup, 02644, 0644);
}

TEST(chown, to_nobody_else_by_strangers) {  // refused where a bit would go that is not theirs
  make_file("f");
  OK(chown("f", kUser, kGroup));
  const auto refused = [](gid_t group, mode_t mode) {
    OK(chmod("f", mode));
    EQ(times_risen("f", [&] { as(kOther, group, {}, [] { FAILS(EPERM, to_nobody()); }); }), "");
    EQ(mode_of(seen("f")), mode);
  };
  for (const mode_t mode : {04755u, 06755u, 02755u, 04644u}) {
    refused(kOtherGroup, mode);
    refused(kGroup, mode);
  }
  refused(kOtherGroup, 02644);
}

TEST(chown, to_nobody_else_takes_the_bits_of_an_open_file) {
  make_file("f");
  OK(chown("f", kUser, kGroup));
  as_user([] {
    Fd fd(OK(open("f", O_RDWR)));
    OK(fchmod(fd, 04755));
    OK(fchown(fd, uid_t(-1), gid_t(-1)));
    EQ(info_of(fd).st_mode & 07777, 0755u);
  });
  EQ(mode_of(seen("f")), 0755u);
}

TEST(setuid, cleared_by_what_others_write) {
  OK(chmod(".", 0777));
  const auto after = [](mode_t mode, const std::function<void(int)>& action) {
    make_file("f", "content");
    OK(chown("f", kUser, kGroup));
    OK(chmod("f", mode | 0022));
    as(kOther, kOtherGroup, {}, [&] {
      Fd fd(OK(open("f", O_RDWR)));
      action(fd);
    });
    return mode_of(seen("f")) & ~0022u;
  };
  const auto writes = [](int fd) { EQ(write(fd, "x", 1), 1); };
  EQ(after(04755, writes), 0755u);
  EQ(after(06755, writes), 0755u);
  EQ(after(02755, writes), 0755u);
  EQ(after(04644, writes), 0644u);
  EQ(after(06755, [](int fd) { OK(ftruncate(fd, 3)); }), 0755u);
  EQ(after(06755, [](int) { OK(truncate("f", 3)); }), 0755u);
  EQ(after(06755, [](int) { Fd fd(OK(open("f", O_WRONLY | O_TRUNC))); }), 0755u);
  EQ(after(06755, [](int fd) { OK(fallocate(fd, 0, 0, 10000)); }), 0755u);
  EQ(after(06755, [](int fd) { OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4)); }),
     0755u);
  EQ(after(06755, [](int fd) { EQ(pwrite(fd, "x", 1, 100), 1); }), 0755u);
  EQ(after(06755, [](int fd) { read_at(fd, 3, 0); }), 06755u);
}

TEST(setgid, without_group_execute_is_the_groups) {  // since Linux 6.2: who is not in the group loses it
  OK(chmod(".", 0777));
  const auto after = [](std::vector<gid_t> groups, const std::function<void(int)>& action,
                        uid_t who = kOther) {
    make_file("f", "content");
    make_file("g", "content");
    OK(chown("f", kUser, kGroup));
    OK(chmod("f", 06666));
    as(who, kOtherGroup, groups, [&] {
      Fd fd(OK(open("f", O_RDWR)));
      action(fd);
      OK(fsync(fd));
    });
    return mode_of(seen("f"));
  };
  const std::vector<std::function<void(int)>> actions = {
      [](int fd) { EQ(write(fd, "x", 1), 1); },
      [](int fd) { OK(ftruncate(fd, 3)); },
      [](int) { OK(truncate("f", 3)); },
      [](int) { Fd fd(OK(open("f", O_WRONLY | O_TRUNC))); },
      [](int fd) { OK(fallocate(fd, 0, 0, 10000)); },
      [](int fd) { OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4)); },
      [](int fd) {
        Fd from(OK(open("g", O_RDONLY)));
        EQ(copy_file_range(from, nullptr, fd, nullptr, 5, 0), 5);
      }};
  for (const auto& action : actions) {
    EQ(after({}, action), 0666u);
    EQ(after({kGroup}, action), 02666u);
    EQ(after({}, action, kUser), 0666u);
    EQ(after({kGroup}, action, kUser), 02666u);
  }
  make_file("f");
  OK(chown("f", kUser, kGroup));
  OK(chmod("f", 06666));
  as(kUser, kOtherGroup, {}, [] { OK(chown("f", uid_t(-1), kGroup)); });
  EQ(mode_of(seen("f")), 0666u);
}

TEST(setuid, cleared_by_an_append_right_after_chmod) {
  make_file("f", "content");
  OK(chown("f", kUser, kGroup));
  OK(setegid(kGroup));
  OK(seteuid(kUser));
  Fd fd(OK(open("f", O_RDWR)));
  for (int i = 0; i < 6; ++i) {
    OK(seteuid(kUser));
    EQ(write(fd, "o", 1), 1);
    OK(fchmod(fd, 04777));
    OK(seteuid(0));
    as(kOther, kOtherGroup, {}, [i] {
      Fd other(OK(open(i % 2 == 0 ? "f" : seen("f").c_str(), O_WRONLY | O_APPEND)));
      EQ(write(other, "x", 1), 1);
      EQ(info_of(other).st_mode & 07777, 0777u);
    });
    EQ(info_of(fd).st_mode & 07777, 0777u);
    EQ(mode_of("f"), 0777u);
    EQ(mode_of(seen("f")), 0777u);
  }
}

TEST(setuid, cleared_by_others_through_a_descriptor_of_roots) {
  make_file("from", "content");
  Fd from(OK(open("from", O_RDONLY)));
  const auto after = [&](const std::function<void(int)>& action) {
    make_file("f", "content");
    Fd fd(OK(open("f", O_RDWR)));
    OK(fchmod(fd, 06755));
    as(kOther, kOtherGroup, {}, [&] { action(fd); });
    EQ(mode_of(seen("f")), info_of(fd).st_mode & 07777);
    return mode_of("f");
  };
  EQ(after([](int fd) { EQ(write(fd, "x", 1), 1); }), 0755u);
  EQ(after([](int fd) { EQ(pwrite(fd, "x", 1, 100), 1); }), 0755u);
  EQ(after([](int fd) { OK(fallocate(fd, 0, 0, 10000)); }), 0755u);
  EQ(after([](int fd) { OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4)); }), 0755u);
  EQ(after([](int fd) { OK(ftruncate(fd, 3)); }), 0755u);
  EQ(after([&](int fd) {
       off64_t at = 0;
       EQ(copy_file_range(from, &at, fd, nullptr, 7, 0), 7);
     }),
     0755u);
  EQ(after([](int fd) { EQ(read_at(fd, 3, 0), "con"); }), 06755u);
}

TEST(setuid, kept_when_root_writes) {
  make_file("f", "content");
  OK(chmod("f", 06755));
  Fd fd(OK(open("f", O_RDWR)));
  EQ(write(fd, "x", 1), 1);
  OK(fsync(fd));
  EQ(mode_of(seen("f")), 06755u);
}

const unsigned char kCapability[20] = {1, 0, 0, 2, 0, 4};  // VFS_CAP_REVISION_2, effective; CAP_KILL...
void give_capability(const char* path) {
  OK(setxattr(path, "security.capability", kCapability, sizeof kCapability, 0));
  TRUE(getxattr(seen(path).c_str(), "security.capability", nullptr, 0) > 0);
}
void expect_no_capability(const char* path) {
  FAILS(ENODATA, getxattr(path, "security.capability", nullptr, 0));
  FAILS(ENODATA, getxattr(seen(path).c_str(), "security.capability", nullptr, 0));
}

TEST(setuid, capability_goes_with_a_write) {
  make_file("f", "content");
  give_capability("f");
  Fd fd(OK(open("f", O_RDWR)));
  EQ(write(fd, "x", 1), 1);
  OK(fsync(fd));
  expect_no_capability("f");
}

TEST(setuid, capability_goes_with_an_append) {
  make_file("f", "content");
  OK(setxattr("f", "user.other", "x", 1, 0));  // stays
  for (int again = 0; again < 2; ++again) {
    give_capability("f");
    Fd fd(OK(open("f", O_WRONLY | O_APPEND)));
    EQ(write(fd, "x", 1), 1);
    expect_no_capability("f");
    EQ(write(fd, "y", 1), 1);
  }
  EQ(info(seen("f")).st_size, 11);
  TRUE(getxattr(seen("f").c_str(), "user.other", nullptr, 0) == 1);
}

TEST(setuid, capability_goes_with_what_others_do) {
  make_file("f", "content");
  OK(chmod("f", 0666));
  const auto other = [](auto what) { as(kOther, kOtherGroup, {}, what); };
  give_capability("f");
  other([] { FAILS(EPERM, removexattr("f", "security.capability")); });
  other([] { OK(truncate("f", 3)); });
  expect_no_capability("f");
  for (int flags : {O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_WRONLY | O_TRUNC}) {
    give_capability("f");
    other([flags] {
      Fd fd(OK(open("f", flags)));
      EQ(write(fd, "xyz", 3), 3);
      OK(fsync(fd));
    });
    expect_no_capability("f");
  }
  give_capability("f");
  other([] {
    Fd fd(OK(open("f", O_RDWR)));
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100));
  });
  expect_no_capability("f");
}

TEST(setuid, capability_goes_with_the_owner) {
  make_file("f", "content");
  OK(chown("f", kUser, kGroup));
  OK(chmod("f", 0444));
  give_capability("f");
  as(kUser, kGroup, {kOtherGroup}, [] { OK(chown("f", uid_t(-1), kOtherGroup)); });
  expect_no_capability("f");
  give_capability("f");
  OK(chown("f", kOther, kOtherGroup));
  expect_no_capability("f");
}

TEST(setuid, capability_given_to_an_open_file_stays) {  // as tar extracts it
  for (const char* name : {"security.capability", "user.other"}) {
    for (const bool by_path : {true, false}) {
      for (const char* bytes : {"", "content"}) {
        {
          Fd fd(OK(open("f", O_WRONLY | O_CREAT | O_EXCL, 0600)));
          EQ(write(fd, bytes, strlen(bytes)), ssize_t(strlen(bytes)));
          OK(fchown(fd, 0, 0));
          OK(fchmod(fd, 0755));
          OK(by_path ? setxattr("f", name, kCapability, sizeof kCapability, 0)
                     : fsetxattr(fd, name, kCapability, sizeof kCapability, 0));
        }
        for (const std::string& path : {std::string("f"), seen("f")}) {
          char value[100] = {};
          EQ(getxattr(path.c_str(), name, value, sizeof value), ssize_t(sizeof kCapability));
          TRUE(memcmp(value, kCapability, sizeof kCapability) == 0);
          EQ(contents(path), bytes);
          EQ(mode_of(path), 0755u);
        }
        OK(unlink("f"));
      }
    }
  }
}

TEST(setgid, directory_gives_its_group_on) {
  OK(mkdir("d", 0777));
  OK(chown("d", 0, kOtherGroup));
  OK(chmod("d", 02777));
  as_user([] {
    umask(0);
    make_file("d/f");
    OK(mkdir("d/sub", 0755));
    OK(mkfifo("d/fifo", 0644));
    OK(symlink("x", "d/link"));
    Fd fd(OK(open("d/program", O_RDWR | O_CREAT, 02755)));
  });
  for (const char* name : {"f", "sub", "fifo", "link", "program"})
    EQ(info(seen(std::string("d/") + name)).st_gid, kOtherGroup);
  EQ(mode_of(seen("d/sub")), 02755u);
  EQ(mode_of(seen("d/f")), 0644u);
  EQ(mode_of(seen("d/program")), 0755u);  // of a group that its maker is not in
}

TEST(access, by_class) {
  make_file("f", "", 0);
  OK(chown("f", kUser, kGroup));
  const auto may = [] {
    return (access("f", R_OK) == 0 ? 4 : 0) + (access("f", W_OK) == 0 ? 2 : 0) +
           (access("f", X_OK) == 0 ? 1 : 0);
  };
  for (unsigned bits = 0; bits < 8; ++bits) {
    OK(chmod("f", bits << 6));
    as(kUser, kGroup, {}, [&] { EQ(may(), int(bits)); });
    as(kOther, kGroup, {}, [&] { EQ(may(), 0); });
    OK(chmod("f", bits << 3));
    as(kUser, kGroup, {}, [&] { EQ(may(), 0); });
    as(kOther, kGroup, {}, [&] { EQ(may(), int(bits)); });
    as(kOther, kOtherGroup, {1, kGroup}, [&] { EQ(may(), int(bits)); });
    OK(chmod("f", bits));
    as(kOther, kOtherGroup, {}, [&] { EQ(may(), int(bits)); });
    as(kOther, kGroup, {}, [&] { EQ(may(), 0); });
  }
  OK(chmod("f", 0));
  EQ(may(), 6);  // root: all but to execute what nobody may
  OK(chmod("f", 0001));
  EQ(may(), 7);
  FAILS(EINVAL, access("f", 0x100));
}

TEST(access, asks_for_the_real_user) {
  make_file("roots", "", 0600);
  make_file("users", "", 0600);
  OK(chown("users", kUser, kGroup));
  OK(mkdir("d", 0700));
  make_file("d/f", "", 0666);
  apart([] {  // as a setuid program of root's that kUser runs
    OK(setresuid(kUser, 0, 0));
    FAILS(EACCES, access("roots", R_OK));
    FAILS(EACCES, faccessat(AT_FDCWD, "roots", R_OK, 0));
    FAILS(EACCES, access("d/f", F_OK));  // nor may that user pass
    OK(access("users", R_OK | W_OK));
    OK(faccessat(AT_FDCWD, "roots", R_OK | W_OK, AT_EACCESS));
    OK(faccessat(AT_FDCWD, "d/f", R_OK, AT_EACCESS));
    Fd fd(OK(open("roots", O_RDWR)));
  });
  apart([] {  // and the other way about
    OK(setresuid(0, kUser, 0));
    OK(access("roots", R_OK | W_OK));
    OK(access("d/f", R_OK));
    FAILS(EACCES, faccessat(AT_FDCWD, "roots", R_OK, AT_EACCESS));
    FAILS(EACCES, faccessat(AT_FDCWD, "d/f", F_OK, AT_EACCESS));
    OK(faccessat(AT_FDCWD, "users", R_OK | W_OK, AT_EACCESS));
    FAILS(EACCES, open("roots", O_RDONLY));
  });
  apart([] {  // the same of groups
    OK(chown("users", kOther, kGroup));
    OK(chmod("users", 0040));
    OK(setgroups(0, nullptr));
    OK(setresgid(kOtherGroup, kGroup, kGroup));
    OK(setresuid(kUser, kUser, kUser));
    FAILS(EACCES, access("users", R_OK));
    OK(faccessat(AT_FDCWD, "users", R_OK, AT_EACCESS));
  });
  FAILS(EINVAL, faccessat(AT_FDCWD, "roots", R_OK, 0x8000));
}

TEST(setfsuid, is_who_makes_and_who_is_judged) {
  OK(chmod(".", 0777));
  make_file("roots", "secret", 0600);
  make_file("readable", "content", 0644);
  OK(mkdir("d", 0755));
  make_file("d/f");
  apart([] {
    OK(setgroups(0, nullptr));
    Fd open_before(OK(open("roots", O_RDWR)));
    setfsgid(kGroup);
    setfsuid(kUser);
    EQ(uid_t(setfsuid(uid_t(-1))), kUser);
    EQ(geteuid(), 0u);
    make_file("f", "mine", 0640);
    OK(mkdir("new", 0755));
    OK(symlink("f", "s"));
    OK(chmod("f", 0600));
    FAILS(EACCES, open("roots", O_RDONLY));
    FAILS(EACCES, open("readable", O_WRONLY));
    FAILS(EACCES, truncate("readable", 0));
    FAILS(EPERM, chmod("readable", 0666));
    FAILS(EPERM, chown("f", 0, 0));
    FAILS(EACCES, unlink("d/f"));
    FAILS(EACCES, open("d/new", O_WRONLY | O_CREAT, 0644));
    FAILS(EACCES, rename("d/f", "moved"));
    FAILS(EACCES, setxattr("readable", "user.a", "1", 1, 0));
    FAILS(EPERM, utimensat(AT_FDCWD, "readable", (const timespec[2]){{1, 0}, {2, 0}}, 0));
    OK(access("roots", R_OK));  // asks for the real one
    EQ(contents("readable"), "content");
    FAILS(EPERM, fchmod(open_before, 0666));
    EQ(read_at(open_before, 6, 0), "secret");  // what was opened goes on
    EQ(pwrite(open_before, "S", 1, 0), 1);
    setfsuid(0);
    setfsgid(0);
    OK(chmod("readable", 0600));
    make_file("again");
  });
  for (const char* name : {"f", "new", "s"}) {
    EQ(info(seen(name)).st_uid, kUser);
    EQ(info(seen(name)).st_gid, kGroup);
  }
  EQ(info(seen("again")).st_uid, 0u);
  EQ(mode_of(seen("f")), 0600u);
  EQ(mode_of(seen("readable")), 0600u);
  EQ(contents(seen("roots")), "Secret");
}

TEST(access, to_directories) {
  OK(mkdir("d", 0755));
  make_file("d/f", "", 0644);
  OK(chmod("d", 0311));
  OK(chown("d", kUser, kGroup));
  as_user([] {
    FAILS(EACCES, open("d", O_RDONLY | O_DIRECTORY));
    OK(access("d/f", R_OK));
    make_file("d/g");
    OK(unlink("d/g"));
  });
  OK(chmod("d", 0600));
  as_user([] {
    EQ(names_in("d").size(), 1u);  // names, and nothing behind them
    struct stat out;
    FAILS(EACCES, stat("d/f", &out));
    FAILS(EACCES, open("d/new", O_RDWR | O_CREAT, 0644));
    FAILS(EACCES, chdir("d"));
  });
}

TEST(access, execute) {
  OK(system("cp /bin/true ./true"));
  OK(chmod("true", 0644));
  as_user([] { FAILS(EACCES, execl("./true", "true", nullptr)); });
  OK(chmod("true", 0711));
  as_user([] {
    FAILS(EACCES, open("true", O_RDONLY));
    EQ(system("./true"), 0);  // to execute is enough
  });
  for (int i = 0; i < 5; ++i) {  // of which nothing is in memory, and which was looked at before
    const std::string name = "true" + std::to_string(i);
    OK(system(("cp /bin/true " + name).c_str()));
    OK(chmod(name.c_str(), 0111));
    TRUE(contents(name).size() > 1000);
    {
      Fd fd(OK(open(name.c_str(), O_RDONLY)));
      EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    }
    as_user([&] { EQ(system(("./" + name).c_str()), 0); });
  }
  make_file("script", "#!/bin/sh\nexit 3\n", 0755);
  EQ(WEXITSTATUS(system("./script")), 3);
  make_file("late", "#!/bin/sh\nexit 4\n", 0644);
  Fd reader(OK(open("late", O_RDONLY)));
  OK(fchmod(reader, 0755));
  EQ(WEXITSTATUS(system("./late")), 4);  // root, while somebody has it open
}

}  // namespace
}  // namespace conformance
