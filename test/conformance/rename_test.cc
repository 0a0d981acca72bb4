// rename(2), renameat2(2).
#include <linux/fs.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

int rename2(const char* from, const char* to, unsigned flags) {
  return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

TEST(rename, every_type) {
  make_file("file", "content");
  OK(mkdir("dir", 0755));
  make_file("dir/in");
  OK(symlink("x", "soft"));
  OK(mkfifo("fifo", 0644));
  OK(mknod("char", S_IFCHR | 0640, makedev(1, 3)));
  for (const char* name : {"file", "dir", "soft", "fifo", "char"}) {
    const struct stat before = info(seen(name));
    const std::string to = std::string(name) + "2";
    EQ(times_risen(".", [&] { OK(rename(name, to.c_str())); }), "mc");
    const struct stat after = info(seen(to));
    EQ(after.st_ino, before.st_ino);
    EQ(after.st_mode, before.st_mode);
    TRUE(!exists(seen(name)));
    EQ(risen(before, after), "c");
  }
  TRUE(exists(seen("dir2/in")));
}

TEST(rename, replaces_a_file) {
  make_file("a", "a");
  make_file("b", "b");
  OK(link("b", "b2"));
  Fd open_b(OK(open("b", O_RDONLY)));
  const struct stat before = info_of(open_b);
  tick();
  OK(rename("a", "b"));
  EQ(risen(before, info(seen("b2"))), "c");
  EQ(contents(seen("b")), "a");
  EQ(contents(seen("b2")), "b");
  EQ(info(seen("b2")).st_nlink, 1u);
  EQ(read_at(open_b, 10, 0), "b");
  OK(symlink("x", "soft"));
  OK(rename("b2", "soft"));
  TRUE(S_ISREG(info(seen("soft")).st_mode));
}

TEST(rename, replaces_an_open_file) {
  make_file("a", "a");
  make_file("b", "b");
  Fd fd(OK(open("b", O_RDWR)));
  OK(rename("a", "b"));
  EQ(info_of(fd).st_nlink, 0u);
  EQ(pwrite(fd, "still", 5, 0), 5);
  EQ(read_at(fd, 10, 0), "still");
  EQ(contents(seen("b")), "a");
}

TEST(rename, replaces_an_empty_directory) {
  OK(mkdir("a", 0755));
  make_file("a/f");
  OK(mkdir("b", 0755));
  const struct stat before = info(".");
  OK(rename("a", "b"));
  EQ(names_in(seen("b")), std::set<std::string>{"f"});
  EQ(info(seen("")).st_nlink, before.st_nlink - 1);
}

TEST(rename, replaces_an_open_directory) {
  OK(mkdir("a", 0755));
  OK(mkdir("b", 0755));
  Fd fd(OK(open("b", O_RDONLY | O_DIRECTORY)));
  OK(chdir("b"));
  OK(rename((here() + "/a").c_str(), (here() + "/b").c_str()));
  EQ(info_of(fd).st_nlink, 0u);
  EQ(info(".").st_nlink, 0u);
  EQ(info(".").st_ino, info_of(fd).st_ino);
  TRUE(info(seen("b")).st_ino != info_of(fd).st_ino);
  EQ(info(seen("b")).st_nlink, 2u);
  FAILS(ENOENT, open("x", O_RDWR | O_CREAT, 0644));
  FAILS(ENOENT, openat(fd, "x", O_RDONLY));
}

TEST(rename, moves_a_directory) {
  OK(mkdir("from", 0755));
  OK(mkdir("to", 0755));
  OK(mkdir("from/d", 0755));
  make_file("from/d/f");
  EQ(times_risen("from", [] { EQ(times_risen("to", [] { OK(rename("from/d", "to/e")); }), "mc"); }), "mc");
  EQ(info(seen("from")).st_nlink, 2u);
  EQ(info(seen("to")).st_nlink, 3u);
  EQ(info(seen("to/e/..")).st_ino, info(seen("to")).st_ino);
  TRUE(exists(seen("to/e/f")));
}

TEST(rename, onto_itself_or_another_link_does_nothing) {
  make_file("f", "content");
  OK(link("f", "l"));
  OK(rename("f", "f"));
  OK(rename("f", "l"));
  TRUE(exists(seen("f")));
  TRUE(exists(seen("l")));
  EQ(info(seen("f")).st_nlink, 2u);
  OK(mkdir("d", 0755));
  OK(rename("d", "d"));
}

TEST(rename, errors) {
  make_file("f");
  OK(mkdir("d", 0755));
  OK(mkdir("d/sub", 0755));
  OK(mkdir("full", 0755));
  make_file("full/f");
  FAILS(ENOENT, rename("missing", "x"));
  FAILS(ENOENT, rename("", "x"));
  FAILS(ENOENT, rename("f", ""));
  FAILS(EISDIR, rename("f", "d"));
  FAILS(ENOTDIR, rename("d", "f"));
  FAILS(EINVAL, rename("d", "d/x"));
  FAILS(EINVAL, rename("d", "d/sub/x"));
  FAILS(ENOTEMPTY, rename("d/sub", "full"));
  FAILS(ENOTEMPTY, rename("d/sub", "d"));
  FAILS(EXDEV, rename("f", "/proc/x"));
  TRUE(exists(seen("f")));
}

TEST(rename, permissions) {
  OK(mkdir("closed", 0755));
  OK(mkdir("open", 0777));
  OK(chmod("open", 0777));
  OK(chmod("open", 0777));
  make_file("closed/f", "", 0666);
  make_file("open/f", "", 0600);
  OK(mkdir("open/dir", 0755));
  OK(mkdir("open2", 0777));
  OK(chmod("open2", 0777));
  OK(chmod("open2", 0777));
  as_user([] {
    FAILS(EACCES, rename("closed/f", "open/x"));
    FAILS(EACCES, rename("open/f", "closed/x"));
    FAILS(EACCES, rename("open/f", "closed/f"));
    OK(rename("open/f", "open2/f"));                  // the file's own mode does not matter
    OK(rename("open/dir", "open/dir2"));              // nor a directory's, that keeps its parent
    FAILS(EACCES, rename("open/dir2", "open2/dir"));  // else its ".." would change
  });
}

TEST(rename, mount_point_is_busy) {
  OK(mkdir("mount", 0755));
  OK(mkdir("other", 0755));
  apart([] {
    OK(unshare(CLONE_NEWNS));
    OK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
    OK(mount("none", "mount", "tmpfs", 0, nullptr));
    FAILS(EBUSY, rename("mount", "x"));
    FAILS(EBUSY, rename("other", "mount"));
    FAILS(EBUSY, rmdir("mount"));
    make_file("mount/f");
    FAILS(EXDEV, rename("mount/f", "f"));
    FAILS(EXDEV, link("mount/f", "f"));
  });
}

TEST(rename, no_replace) {
  make_file("a", "a");
  make_file("b", "b");
  OK(mkdir("d", 0755));
  OK(symlink("missing", "dangling"));
  FAILS(EEXIST, rename2("a", "b", RENAME_NOREPLACE));
  FAILS(EEXIST, rename2("a", "a", RENAME_NOREPLACE));
  FAILS(EEXIST, rename2("a", "d", RENAME_NOREPLACE));
  FAILS(EEXIST, rename2("a", "dangling", RENAME_NOREPLACE));
  OK(rename2("a", "c", RENAME_NOREPLACE));
  EQ(contents(seen("c")), "a");
  OK(rename2("d", "e", RENAME_NOREPLACE));
}

TEST(rename, exchange) {
  make_file("a", "a");
  make_file("b", "b");
  OK(mkdir("d", 0755));
  OK(mkdir("d/sub", 0755));
  make_file("d/sub/f", "f");
  OK(rename2("a", "b", RENAME_EXCHANGE));
  EQ(contents(seen("a")), "b");
  EQ(contents(seen("b")), "a");
  const struct stat file = info(seen("b")), dir = info(seen("d/sub"));
  EQ(times_risen("d", [] { OK(rename2("d/sub", "b", RENAME_EXCHANGE)); }), "mc");
  EQ(ns(info(seen("d/sub")).st_mtim), ns(file.st_mtim));
  TRUE(ns(info(seen("d/sub")).st_ctim) > ns(file.st_ctim));
  TRUE(ns(info(seen("b")).st_ctim) > ns(dir.st_ctim));
  EQ(contents(seen("b/f")), "f");
  EQ(contents(seen("d/sub")), "a");
  EQ(info(seen("d")).st_nlink, 2u);
  EQ(info(seen("b/..")).st_ino, info(seen("")).st_ino);
  OK(mkdir("d/inner", 0755));
  OK(rename2("b", "d/inner", RENAME_EXCHANGE));  // two directories
  TRUE(exists(seen("d/inner/f")));
  FAILS(ENOENT, rename2("a", "missing", RENAME_EXCHANGE));
  FAILS(EINVAL, rename2("d", "d/inner", RENAME_EXCHANGE));
  FAILS(EINVAL, rename2("d/inner", "d", RENAME_EXCHANGE));
  FAILS(EINVAL, rename2("a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE));
  FAILS(EINVAL, rename2("a", "b", 0x100));
}

TEST(rename, whiteout) {
  make_file("a", "a");
  make_file("b", "b");
  OK(rename2("a", "c", RENAME_WHITEOUT));
  const struct stat left = info(seen("a"));
  TRUE(S_ISCHR(left.st_mode));
  EQ(left.st_rdev, makedev(0, 0));
  EQ(left.st_nlink, 1u);
  EQ(contents(seen("c")), "a");
  OK(rename2("b", "c", RENAME_WHITEOUT));
  EQ(contents(seen("c")), "b");
  TRUE(S_ISCHR(info(seen("b")).st_mode));
  OK(unlink("a"));
  OK(unlink("b"));
  FAILS(EINVAL, rename2("c", "x", RENAME_WHITEOUT | RENAME_EXCHANGE));
  FAILS(EEXIST, (make_file("y"), rename2("c", "y", RENAME_WHITEOUT | RENAME_NOREPLACE)));
  EQ(names_in(seen("")), (std::set<std::string>{"c", "y"}));
}

TEST(rename, to_long_names_and_back) {
  const std::string name(255, 'n');
  make_file("f", "content");
  OK(rename("f", name.c_str()));
  EQ(contents(seen(name)), "content");
  OK(rename(name.c_str(), "f"));
  EQ(contents(seen("f")), "content");
}

TEST(rename, seen_in_one_step) {  // a name that is replaced is never absent
  make_file("target", "0");
  apart([] {
    const pid_t looker = fork();
    if (looker == 0) {
      int missing = 0;
      for (int i = 0; i < 3000; ++i) missing += !exists(seen("target"));
      _exit(missing == 0 ? 0 : 1);
    }
    for (int i = 0; i < 300; ++i) {
      make_file("next", std::to_string(i));
      OK(rename("next", "target"));
    }
    int status = 0;
    waitpid(looker, &status, 0);
    EQ(status, 0);
  });
}

}  // namespace
}  // namespace conformance
