// Making, linking and removing: open(O_CREAT), mkdir, mknod, mkfifo, symlink, readlink, link, unlink, rmdir.
#include <signal.h>
#include <sys/sysmacros.h>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

TEST(open, creates_with_mode_owner_and_umask) {
  OK(chmod(".", 0777));
  as_user([] {
    umask(027);
    Fd fd(OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0777)));
    EQ(write(fd, "x", 1), 1);
    Fd closed(OK(open("g", O_RDWR | O_CREAT, 0)));  // open at once, whatever the mode says
    EQ(write(closed, "x", 1), 1);
  });
  const struct stat made = info(seen("f"));
  TRUE(S_ISREG(made.st_mode));
  EQ(made.st_mode & 07777, 0750u);
  EQ(made.st_uid, kUser);
  EQ(made.st_gid, kGroup);
  EQ(made.st_nlink, 1u);
  EQ(made.st_size, 1);
  EQ(mode_of(seen("g")), 0u);
}

TEST(open, exclusive) {
  make_file("f");
  OK(symlink("missing", "dangling"));
  FAILS(EEXIST, open("f", O_RDWR | O_CREAT | O_EXCL, 0644));
  FAILS(EEXIST, open("dangling", O_RDWR | O_CREAT | O_EXCL, 0644));
  FAILS(EEXIST, open(".", O_RDWR | O_CREAT | O_EXCL, 0644));
  Fd through(OK(open("dangling", O_RDWR | O_CREAT, 0644)));
  TRUE(exists(seen("missing")));
}

TEST(open, create_of_what_is_there_keeps_it) {
  make_file("f", "content", 0640);
  tick();
  EQ(times_risen("f", [] { Fd fd(OK(open("f", O_RDWR | O_CREAT, 0777))); }), "");
  EQ(mode_of(seen("f")), 0640u);
  EQ(contents(seen("f")), "content");
}

TEST(open, truncates) {
  make_file("f", "content", 0640);
  EQ(times_risen("f", [] { Fd fd(OK(open("f", O_WRONLY | O_TRUNC))); }), "mc");
  EQ(info(seen("f")).st_size, 0);
  make_file("g", "content");
  { Fd fd(OK(open("g", O_WRONLY | O_CREAT | O_TRUNC, 0600))); }
  EQ(info(seen("g")).st_size, 0);
  EQ(mode_of(seen("g")), 0644u);
}

TEST(open, directories) {
  OK(mkdir("dir", 0755));
  make_file("f");
  OK(symlink("dir", "link"));
  FAILS(EISDIR, open("dir", O_WRONLY));
  FAILS(EISDIR, open("dir", O_RDWR));
  FAILS(EISDIR, open("dir", O_RDONLY | O_TRUNC));
  FAILS(EISDIR, open("dir", O_RDONLY | O_CREAT, 0644));
  FAILS(ENOTDIR, open("f", O_RDONLY | O_DIRECTORY));
  FAILS(ENOTDIR, open("link", O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  FAILS(ELOOP, open("link", O_RDONLY | O_NOFOLLOW));
  Fd path(OK(open("link", O_PATH | O_NOFOLLOW)));
  TRUE(S_ISLNK(info_of(path).st_mode));
  Fd dir(OK(open("dir", O_RDONLY)));
  char buffer[8];
  FAILS(EISDIR, read(dir, buffer, sizeof buffer));
  FAILS(EBADF, write(dir, buffer, 1));
  FAILS(EINVAL, ftruncate(dir, 0));
}

TEST(open, flags_of_the_descriptor) {
  make_file("f", "content");
  char buffer[8];
  Fd reader(OK(open("f", O_RDONLY)));
  Fd writer(OK(open("f", O_WRONLY)));
  Fd path(OK(open("f", O_PATH)));
  FAILS(EBADF, write(reader, "x", 1));
  FAILS(EBADF, read(writer, buffer, 1));
  FAILS(EBADF, read(path, buffer, 1));
  FAILS(EBADF, fchmod(path, 0600));
  FAILS(EINVAL, ftruncate(reader, 0));
  FAILS(EBADF, fsync(99));
  FAILS(EBADF, close(99));
  FAILS(EBADF, fsync(path));
  void* volatile bad = reinterpret_cast<void*>(8);
  FAILS(EFAULT, read(reader, bad, 4));
  FAILS(EFAULT, write(writer, bad, 4));
  EQ(read(reader, buffer, 0), 0);
  EQ(write(writer, buffer, 0), 0);
}

TEST(open, permissions) {
  make_file("owner", "", 0400);
  make_file("group", "", 0040);
  make_file("other", "", 0004);
  make_file("nothing", "", 0000);
  OK(chown("owner", kUser, 0));
  OK(chown("group", 0, kGroup));
  make_file("denied_by_owner", "", 0077);
  OK(chown("denied_by_owner", kUser, kGroup));
  make_file("denied_by_group", "", 0707);
  OK(chown("denied_by_group", 0, kGroup));
  as_user([] {
    for (const char* name : {"owner", "group", "other"}) {
      Fd fd(OK(open(name, O_RDONLY)));
      FAILS(EACCES, open(name, O_WRONLY));
      FAILS(EACCES, open(name, O_RDWR));
      FAILS(EACCES, open(name, O_RDONLY | O_TRUNC));
    }
    FAILS(EACCES, open("denied_by_owner", O_RDONLY));  // the first class that fits decides
    FAILS(EACCES, open("denied_by_group", O_RDONLY));
    FAILS(EACCES, open("nothing", O_RDONLY));
    FAILS(EACCES, open("new", O_RDWR | O_CREAT, 0644));
    FAILS(EPERM, open("other", O_RDONLY | O_NOATIME));
    Fd own(OK(open("owner", O_RDONLY | O_NOATIME)));
  });
  as(kOther, kOtherGroup, {kGroup}, [] {  // a supplementary group
    Fd fd(OK(open("group", O_RDONLY)));
    FAILS(EACCES, open("denied_by_group", O_RDONLY));
  });
  Fd root(OK(open("nothing", O_RDWR)));
}

TEST(open, of_what_the_mode_was_taken_from_after) {
  make_file("f", "content", 0600);
  OK(chown("f", kUser, kGroup));
  as_user([] {
    Fd fd(OK(open("f", O_RDWR)));
    OK(fchmod(fd, 0));
    EQ(read_at(fd, 7, 0), "content");
    EQ(pwrite(fd, "C", 1, 0), 1);
    OK(ftruncate(fd, 3));
    OK(fsync(fd));
    FAILS(EACCES, open("f", O_RDONLY));
  });
  EQ(contents(seen("f")), "Con");
}

TEST(open, to_read_what_the_mode_was_taken_from_after) {  // and nothing of it is in memory
  OK(chmod(".", 0777));
  make_file("f", std::string(1 << 20, 'c'), 0600);
  OK(chown("f", kUser, kGroup));
  as_user([] { EQ(contents("f").size(), size_t(1) << 20); });  // it is known here from now on
  as_user([] {
    Fd fd(OK(open("f", O_RDONLY)));
    Fd copy(OK(open("f2", O_RDWR | O_CREAT, 0600)));
    OK(chmod("f", 0));
    EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    EQ(read_at(fd, 7, 500'000), "ccccccc");
    EQ(copy_file_range(fd, nullptr, copy, nullptr, 10, 0), 10);
    FAILS(EACCES, open("f", O_RDONLY));
  });
}

TEST(open, fifo) {
  OK(mkfifo("fifo", 0600));
  FAILS(ENXIO, open("fifo", O_WRONLY | O_NONBLOCK));
  Fd reader(OK(open("fifo", O_RDONLY | O_NONBLOCK)));
  Fd writer(OK(open("fifo", O_WRONLY | O_NONBLOCK)));
  EQ(write(writer, "through", 7), 7);
  char buffer[8];
  EQ(read(reader, buffer, sizeof buffer), 7);
  FAILS(ESPIPE, lseek(reader, 0, SEEK_SET));
  FAILS(ESPIPE, pread(reader, buffer, 1, 0));
  FAILS(EINVAL, ftruncate(writer, 0));
  EQ(info(seen("fifo")).st_size, 0);
}

TEST(open, program_that_runs) {
  OK(system("cp /bin/sleep ./sleep"));
  const pid_t child = fork();
  if (child == 0) {
    execl("./sleep", "sleep", "30", nullptr);
    _exit(1);
  }
  for (int i = 0; i < 500; ++i) {  // until it has been started
    char target[4096] = {};
    if (readlink(("/proc/" + std::to_string(child) + "/exe").c_str(), target, sizeof target - 1) > 0 &&
        std::string(target).ends_with("/sleep") && !std::string(target).starts_with("/bin"))
      break;
    usleep(10'000);
  }
  FAILS(ETXTBSY, open("sleep", O_WRONLY));
  FAILS(ETXTBSY, truncate("sleep", 0));
  kill(child, SIGKILL);
}

TEST(mkdir, mode_owner_links_and_parent) {
  OK(chmod(".", 0777));
  const struct stat before = info(".");
  EQ(times_risen(".",
                 [] {
                   as_user([] {
                     umask(027);
                     OK(mkdir("d", 0777));
                   });
                 }),
     "mc");
  const struct stat made = info(seen("d"));
  TRUE(S_ISDIR(made.st_mode));
  EQ(made.st_mode & 07777, 0750u);
  EQ(made.st_uid, kUser);
  EQ(made.st_gid, kGroup);
  EQ(made.st_nlink, 2u);
  EQ(info(seen("")).st_nlink, before.st_nlink + 1);
  OK(mkdir("sticky", 01777));
  EQ(mode_of(seen("sticky")), 01755u);
}

TEST(mkdir, errors) {
  make_file("f");
  OK(mkdir("d", 0755));
  OK(symlink("missing", "dangling"));
  OK(mkfifo("fifo", 0644));
  for (const char* name : {"f", "d", "dangling", "fifo"}) FAILS(EEXIST, mkdir(name, 0755));
  as_user([] { FAILS(EACCES, mkdir("d/new", 0755)); });
}

TEST(mknod, every_type) {
  umask(0);
  OK(mknod("regular", S_IFREG | 0640, 0));
  OK(mknod("plain", 0640, 0));
  OK(mknod("fifo", S_IFIFO | 0640, 0));
  OK(mknod("socket", S_IFSOCK | 0640, 0));
  OK(mknod("char", S_IFCHR | 0640, makedev(1, 3)));
  OK(mknod("block", S_IFBLK | 0640, makedev(259, 70000)));
  const auto type = [](const char* name) { return info(seen(name)).st_mode; };
  EQ(type("regular"), S_IFREG | 0640u);
  EQ(type("plain"), S_IFREG | 0640u);
  EQ(type("fifo"), S_IFIFO | 0640u);
  EQ(type("socket"), S_IFSOCK | 0640u);
  EQ(type("char"), S_IFCHR | 0640u);
  EQ(type("block"), S_IFBLK | 0640u);
  EQ(info(seen("char")).st_rdev, makedev(1, 3));
  EQ(info(seen("block")).st_rdev, makedev(259, 70000));
  FAILS(EPERM, mknod("dir", S_IFDIR | 0755, 0));
  FAILS(EINVAL, mknod("link", S_IFLNK | 0755, 0));
  FAILS(EINVAL, mknod("what", 0130000 | 0644, 0));
  FAILS(EEXIST, mknod("fifo", S_IFIFO | 0640, 0));
  OK(chmod(".", 0777));
  as_user([] {
    FAILS(EPERM, mknod("c", S_IFCHR | 0640, makedev(1, 3)));
    FAILS(EPERM, mknod("b", S_IFBLK | 0640, makedev(1, 3)));
    OK(mknod("f", S_IFIFO | 0640, 0));
    OK(mknod("whiteout", S_IFCHR | 0, makedev(0, 0)));  // as renameat2 leaves it
  });
  EQ(info(seen("f")).st_uid, kUser);
}

TEST(mknod, types_in_a_listing) {
  make_file("regular");
  OK(mkdir("dir", 0755));
  OK(symlink("x", "link"));
  OK(mknod("fifo", S_IFIFO | 0640, 0));
  OK(mknod("socket", S_IFSOCK | 0640, 0));
  OK(mknod("char", S_IFCHR | 0640, makedev(1, 3)));
  OK(mknod("block", S_IFBLK | 0640, makedev(1, 3)));
  DIR* stream = opendir(seen("").c_str());
  int found = 0;
  while (const dirent* entry = readdir(stream)) {
    ++found;
    if (entry->d_name[0] == '.') {
      EQ(int(entry->d_type), DT_DIR);
      continue;
    }
    const struct stat about = info(seen(entry->d_name));
    EQ(int(entry->d_type), int(IFTODT(about.st_mode)));
    EQ(entry->d_ino, about.st_ino);
  }
  EQ(found, 9);
  closedir(stream);
}

TEST(mkfifo, mode_and_errors) {
  OK(chmod(".", 0777));
  as_user([] {
    umask(022);
    OK(mkfifo("fifo", 0666));
  });
  EQ(info(seen("fifo")).st_mode, S_IFIFO | 0644u);
  EQ(info(seen("fifo")).st_uid, kUser);
  FAILS(EEXIST, mkfifo("fifo", 0666));
}

TEST(symlink, content_mode_size) {
  OK(chmod(".", 0777));
  EQ(times_risen(".", [] { as_user([] { OK(symlink("some/where", "link")); }); }), "mc");
  const struct stat made = info(seen("link"));
  EQ(made.st_mode, S_IFLNK | 0777u);
  EQ(made.st_size, 10);
  EQ(made.st_uid, kUser);
  char buffer[100];
  EQ(readlink(seen("link").c_str(), buffer, sizeof buffer), 10);
  EQ(std::string(buffer, 10), "some/where");
  EQ(readlink(seen("link").c_str(), buffer, 4), 4);  // cut, without an error
  FAILS(EINVAL, readlink("link", buffer, 0));
  FAILS(EINVAL, readlink(".", buffer, 100));
  make_file("f");
  FAILS(EINVAL, readlink("f", buffer, 100));
}

TEST(symlink, lengths_and_errors) {
  const std::string longest(4095, 't');
  OK(symlink(longest.c_str(), "longest"));
  std::string buffer(5000, '\0');
  EQ(readlink(seen("longest").c_str(), buffer.data(), buffer.size()), 4095);
  EQ(buffer.substr(0, 4095), longest);
  EQ(info(seen("longest")).st_size, 4095);
  FAILS(ENAMETOOLONG, symlink(std::string(4096, 't').c_str(), "too_long"));
  FAILS(ENAMETOOLONG, open("longest", O_RDONLY));
  FAILS(ENOENT, symlink("", "empty"));
  FAILS(EFAULT, symlink(reinterpret_cast<const char*>(8), "x"));
  FAILS(EEXIST, symlink("x", "longest"));
  FAILS(EEXIST, symlink("x", "."));
  for (size_t length : {1u, 59u, 60u, 61u, 255u, 1000u, 2048u, 2049u, 4000u}) {
    const std::string name = "s" + std::to_string(length), target(length, 'x');
    OK(symlink(target.c_str(), name.c_str()));
    EQ(readlink(seen(name).c_str(), buffer.data(), buffer.size()), ssize_t(length));
    EQ(buffer.substr(0, length), target);
  }
}

TEST(symlink, leads_through_directories) {
  OK(mkdir("a", 0755));
  OK(mkdir("a/b", 0755));
  make_file("a/b/f", "found");
  OK(symlink("a", "link"));
  OK(symlink("../b/f", "a/b/up"));
  OK(symlink((here() + "/a/b").c_str(), "absolute"));
  EQ(contents(seen("link/b/f")), "found");
  EQ(contents(seen("a/b/up")), "found");
  EQ(contents("absolute/f"), "found");
  OK(unlink("link"));
  TRUE(exists(seen("a")));
}

TEST(link, same_inode_and_times) {
  make_file("f", "content");
  OK(mkdir("d", 0755));
  const std::string dir_times =
      times_risen("d", [] { EQ(times_risen("f", [] { OK(link("f", "d/l")); }), "c"); });
  EQ(dir_times, "mc");
  const struct stat one = info(seen("f")), two = info(seen("d/l"));
  EQ(one.st_ino, two.st_ino);
  EQ(one.st_nlink, 2u);
  EQ(two.st_nlink, 2u);
  OK(chmod("d/l", 0600));
  EQ(mode_of(seen("f")), 0600u);
  OK(unlink("f"));
  EQ(info(seen("d/l")).st_nlink, 1u);
  EQ(contents(seen("d/l")), "content");
}

TEST(link, of_every_type_but_directories) {
  OK(symlink("missing", "soft"));
  OK(mkfifo("fifo", 0644));
  OK(mknod("char", S_IFCHR | 0640, makedev(1, 3)));
  for (const char* name : {"soft", "fifo", "char"}) {
    const std::string other = std::string(name) + "2";
    OK(link(name, other.c_str()));
    EQ(info(seen(other)).st_ino, info(seen(name)).st_ino);
    EQ(info(seen(name)).st_nlink, 2u);
  }
  make_file("f");
  OK(symlink("f", "to_f"));
  OK(linkat(AT_FDCWD, "to_f", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
  TRUE(S_ISREG(info(seen("followed")).st_mode));
  OK(mkdir("d", 0755));
  FAILS(EPERM, link("d", "d2"));
  FAILS(EEXIST, link("f", "to_f"));
  FAILS(EEXIST, link("f", "d"));
  FAILS(EEXIST, link("f", "f"));
  FAILS(EINVAL, linkat(AT_FDCWD, "f", AT_FDCWD, "x", 0x8000));
}

TEST(link, permissions) {
  OK(mkdir("closed", 0755));
  make_file("f", "", 0666);
  OK(chown("f", kUser, kGroup));
  as_user([] { FAILS(EACCES, link("f", "closed/l")); });
  OK(mkdir("open", 0777));
  OK(chmod("open", 0777));
  OK(chmod("open", 0777));
  as_user([] { OK(link("f", "open/l")); });
}

TEST(link, through_a_descriptor) {
  make_file("f", "content");
  Fd fd(OK(open("f", O_RDONLY)));
  OK(linkat(fd, "", AT_FDCWD, "l", AT_EMPTY_PATH));
  EQ(info(seen("l")).st_ino, info("f").st_ino);
  OK(unlink("f"));
  OK(unlink("l"));
  FAILS(ENOENT, linkat(fd, "", AT_FDCWD, "again", AT_EMPTY_PATH));  // it has no name left to come back from
}

TEST(link, many) {
  make_file("f");
  OK(mkdir("d", 0755));
  if (!getenv("EFS_LONG")) {
    for (int i = 0; i < 200; ++i) OK(link("f", ("d/" + std::to_string(i)).c_str()));
    EQ(info(seen("f")).st_nlink, 201u);
    return;
  }
  long made = 1;
  while (made < 100'000 && link("f", ("d/" + std::to_string(made)).c_str()) == 0) ++made;
  FAILS(EMLINK, link("f", "one_more"));
  TRUE(made >= 8);  // POSIX asks for no more (_POSIX_LINK_MAX)
  EQ(info(seen("f")).st_nlink, nlink_t(made));
}

TEST(unlink, times_and_links) {
  make_file("f");
  OK(link("f", "l"));
  EQ(times_risen("f", [] { EQ(times_risen(".", [] { OK(unlink("l")); }), "mc"); }), "c");
  EQ(info(seen("f")).st_nlink, 1u);
  TRUE(!exists(seen("l")));
  Fd fd(OK(open("f", O_RDONLY)));
  const struct stat before = info_of(fd);
  tick();
  OK(unlink("f"));
  EQ(info_of(fd).st_nlink, 0u);
  EQ(risen(before, info_of(fd)), "c");
}

TEST(unlink, errors) {
  OK(mkdir("d", 0755));
  FAILS(EISDIR, unlink("d"));
  make_file("d/f", "", 0666);
  as_user([] {
    FAILS(EACCES, unlink("d/f"));
    FAILS(ENOENT, unlink("d/missing"));
  });
  OK(symlink("d", "link"));
  OK(unlink("link"));
  TRUE(exists(seen("d")));
}

TEST(unlink, sticky_directory) {
  OK(mkdir("tmp", 0777));
  OK(chmod("tmp", 01777));
  for (const char* name : {"tmp/mine", "tmp/other", "tmp/mine2"}) make_file(name, "", 0666);
  OK(chown("tmp/mine", kUser, kGroup));
  OK(chown("tmp/mine2", kUser, kGroup));
  OK(chown("tmp/other", kOther, kGroup));
  OK(mkdir("tmp/otherdir", 0777));
  OK(chown("tmp/otherdir", kOther, kGroup));
  as_user([] {
    OK(unlink("tmp/mine"));
    FAILS(EPERM, unlink("tmp/other"));
    FAILS(EPERM, rmdir("tmp/otherdir"));
    FAILS(EPERM, rename("tmp/other", "tmp/x"));
    FAILS(EPERM, rename("tmp/mine2", "tmp/other"));
    OK(rename("tmp/mine2", "tmp/mine3"));
  });
  OK(chown("tmp", kUser, kGroup));  // the directory's owner may
  as_user([] {
    OK(unlink("tmp/other"));
    OK(rmdir("tmp/otherdir"));
  });
}

TEST(unlink, open_file_goes_on) {
  make_file("f", "content");
  Fd fd(OK(open("f", O_RDWR)));
  OK(unlink("f"));
  TRUE(!exists(seen("f")));
  EQ(read_at(fd, 7, 0), "content");
  EQ(pwrite(fd, std::string(100'000, 'x').data(), 100'000, 7), 100'000);
  OK(fsync(fd));
  EQ(info_of(fd).st_size, 100'007);
  OK(ftruncate(fd, 3));
  EQ(read_at(fd, 100, 0), "con");
  OK(fchmod(fd, 0600));
  EQ(info_of(fd).st_mode & 07777, 0600u);
  make_file("f", "another");
  EQ(read_at(fd, 100, 0), "con");
  EQ(contents(seen("f")), "another");
}

TEST(unlink, file_that_only_a_path_descriptor_holds) {
  make_file("f", "content");
  Fd path(OK(open("f", O_PATH)));
  OK(unlink("f"));
  EQ(info_of(path).st_nlink, 0u);
}

TEST(rmdir, links_and_times) {
  OK(mkdir("d", 0755));
  const struct stat before = info(".");
  EQ(times_risen(".", [] { OK(rmdir("d")); }), "mc");
  EQ(info(seen("")).st_nlink, before.st_nlink - 1);
  TRUE(!exists(seen("d")));
}

TEST(rmdir, errors) {
  OK(mkdir("d", 0755));
  make_file("d/f");
  FAILS(ENOTEMPTY, rmdir("d"));
  OK(unlink("d/f"));
  OK(symlink("x", "d/s"));
  FAILS(ENOTEMPTY, rmdir("d"));
  OK(unlink("d/s"));
  OK(mkdir("d/e", 0755));
  FAILS(ENOTEMPTY, rmdir("d"));
  as_user([] { FAILS(EACCES, rmdir("d/e")); });
  OK(symlink("d", "link"));
  FAILS(ENOTDIR, rmdir("link"));
  make_file("f");
  FAILS(ENOTDIR, rmdir("f"));
  OK(rmdir("d/e"));
  OK(rmdir("d"));
}

TEST(rmdir, open_directory) {
  OK(mkdir("d", 0755));
  Fd fd(OK(open("d", O_RDONLY | O_DIRECTORY)));
  OK(rmdir("d"));
  EQ(info_of(fd).st_nlink, 0u);
  FAILS(ENOENT, openat(fd, "x", O_RDWR | O_CREAT, 0644));
  FAILS(ENOENT, openat(fd, "x", O_RDONLY));
  OK(mkdir("d", 0755));
  TRUE(info("d").st_ino != info_of(fd).st_ino);
}

}  // namespace
}  // namespace conformance
