// What every call that takes a path answers for paths that lead nowhere: path_resolution(7), POSIX 4.13.
#include <linux/fs.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <utime.h>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

struct PathCall {
  std::string name;
  std::function<int(const char*)> call;
  bool makes = false;      // the name must be absent
  bool follows = true;     // a symbolic link in the last place
  bool changes = true;     // EROFS
  bool directory = false;  // wants a directory
};

std::vector<PathCall> path_calls() {
  const timespec times[2] = {{1, 0}, {1, 0}};
  return {
      {"open", [](const char* p) { return open(p, O_RDONLY); }, false, true, false},
      {"open_write", [](const char* p) { return open(p, O_WRONLY); }},
      {"creat", [](const char* p) { return creat(p, 0644); }, false},
      {"mkdir", [](const char* p) { return mkdir(p, 0755); }, true, false},
      {"mkfifo", [](const char* p) { return mkfifo(p, 0644); }, true, false},
      {"mknod", [](const char* p) { return mknod(p, S_IFREG | 0644, 0); }, true, false},
      {"symlink", [](const char* p) { return symlink("target", p); }, true, false},
      {"link_to", [](const char* p) { return link("source", p); }, true, false},
      {"link_from", [](const char* p) { return link(p, "made"); }, false, false},
      {"rename_to", [](const char* p) { return rename("source", p); }, true, false},
      {"rename_from", [](const char* p) { return rename(p, "made"); }, false, false},
      {"unlink", [](const char* p) { return unlink(p); }, false, false},
      {"rmdir", [](const char* p) { return rmdir(p); }, false, false, true, true},
      {"readlink",
       [](const char* p) {
         char buffer[8];
         return int(readlink(p, buffer, sizeof buffer));
       },
       false, false, false},
      {"chmod", [](const char* p) { return chmod(p, 0644); }},
      {"chown", [](const char* p) { return chown(p, 0, 0); }},
      {"lchown", [](const char* p) { return lchown(p, 0, 0); }, false, false},
      {"truncate", [](const char* p) { return truncate(p, 1); }},
      {"utimensat", [times](const char* p) { return utimensat(AT_FDCWD, p, times, 0); }},
      {"stat",
       [](const char* p) {
         struct stat out;
         return stat(p, &out);
       },
       false, true, false},
      {"lstat",
       [](const char* p) {
         struct stat out;
         return lstat(p, &out);
       },
       false, false, false},
      {"statx",
       [](const char* p) {
         struct statx out;
         return statx(AT_FDCWD, p, 0, STATX_ALL, &out);
       },
       false, true, false},
      {"statfs",
       [](const char* p) {
         struct statfs out;
         return statfs(p, &out);
       },
       false, true, false},
      {"access", [](const char* p) { return access(p, F_OK); }, false, true, false},
      {"chdir", [](const char* p) { return chdir(p); }, false, true, false, true},
      {"setxattr", [](const char* p) { return setxattr(p, "user.a", "1", 1, 0); }},
      {"getxattr", [](const char* p) { return int(getxattr(p, "user.a", nullptr, 0)); }, false, true, false},
      {"listxattr", [](const char* p) { return int(listxattr(p, nullptr, 0)); }, false, true, false},
      {"removexattr", [](const char* p) { return removexattr(p, "user.a"); }},
      {"name_to_handle_at",
       [](const char* p) {
         alignas(file_handle) char room[sizeof(file_handle) + MAX_HANDLE_SZ];
         auto* handle = reinterpret_cast<file_handle*>(room);
         handle->handle_bytes = MAX_HANDLE_SZ;
         int mount = 0;
         return name_to_handle_at(AT_FDCWD, p, handle, &mount, AT_SYMLINK_FOLLOW);
       },
       false, true, false},
  };
}

// Fails with `wanted` for this path.
void fails_for(const PathCall& one, int wanted, const std::string& path) {
  errno = 0;
  const int result = one.call(path.c_str());
  must_fail(result, wanted, (one.name + " of " + path.substr(0, 40)).c_str(), __FILE__, __LINE__);
}

std::string long_path(size_t length) {  // ".////x" to the length
  return "." + std::string(length - 2, '/') + "x";
}

void check_paths(const PathCall& one) {
  make_file("source");
  make_file("file");
  OK(symlink("loop2", "loop1"));
  OK(symlink("loop1", "loop2"));
  OK(symlink("nowhere", "dangling"));
  OK(mkdir("sub", 0755));
  fails_for(one, ENOENT, "");
  fails_for(one, ENOENT, "missing/x");
  fails_for(one, ENOENT, "dangling/x");
  fails_for(one, ENOTDIR, "file/x");
  fails_for(one, ENOTDIR, "file/../file");
  fails_for(one, ELOOP, "loop1/x");
  fails_for(one, ENAMETOOLONG, std::string(256, 'n'));
  fails_for(one, ENAMETOOLONG, "sub/" + std::string(256, 'n'));
  fails_for(one, ENAMETOOLONG, std::string(256, 'n') + "/x");
  fails_for(one, ENAMETOOLONG, long_path(4096));
  errno = 0;
  must_fail(one.call(reinterpret_cast<const char*>(8)), EFAULT, (one.name + " of a bad address").c_str(),
            __FILE__, __LINE__);
  if (one.follows && one.name != "creat") fails_for(one, ENOENT, "dangling");
  if (one.follows) fails_for(one, ELOOP, "loop1");
  if (!one.makes && one.name != "creat") {
    fails_for(one, ENOENT, "missing");
    fails_for(one, ENOTDIR, "file/");
  }
  if (one.directory) fails_for(one, ENOTDIR, "file");
}

// The longest name and the longest path are no error.
void check_longest(const PathCall& one) {
  const std::string name(255, 'n');
  for (const std::string& path : {name, long_path(4095)}) {
    make_file("source");
    if (!one.makes && one.name != "readlink") {
      if (one.directory) {
        OK(mkdir(path.c_str(), 0755));
      } else {
        make_file(path);
        if (one.name == "getxattr" || one.name == "removexattr")
          OK(setxattr(path.c_str(), "user.a", "1", 1, 0));
      }
    }
    if (one.name == "readlink") OK(symlink("target", path.c_str()));
    errno = 0;
    const int result = one.call(path.c_str());
    if (result == -1)
      note_failure(
          __FILE__, __LINE__,
          one.name + " of a path of " + std::to_string(path.size()) + " bytes: " + error_name(errno));
    if (one.makes) TRUE(exists(seen(path == name ? name : path.substr(path.rfind('/') + 1))));
    OK(chdir(here().c_str()));
    for (const std::string& left : names_in(".")) remove(left.c_str());
  }
}

// Without the right to search a directory on the way: EACCES.
void check_search(const PathCall& one) {
  OK(mkdir("closed", 0700));
  OK(mkdir("closed/sub", 0777));
  make_file("closed/x", "", 0666);
  make_file("closed/sub/x", "", 0666);
  OK(chmod("closed", 0666));
  OK(chmod(".", 0777));
  as_user([&] {
    make_file("source");
    fails_for(one, EACCES, "closed/x");
    fails_for(one, EACCES, "closed/missing");
    fails_for(one, EACCES, "closed/sub/x");
    fails_for(one, EACCES, "closed/../file");
  });
  OK(chmod("closed", 0711));
  as_user([&] {
    struct stat out;
    OK(stat("closed/sub/x", &out));
  });
}

// On a mount that is read-only.
void check_read_only(const PathCall& one) {
  OK(mkdir("sub", 0755));
  OK(mkdir("sub/dir", 0755));
  make_file("sub/x");
  OK(setxattr("sub/x", "user.a", "1", 1, 0));
  make_file("sub/source");
  apart([&] {
    OK(unshare(CLONE_NEWNS));
    OK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
    const std::string at = here() + "/sub";
    OK(mount(at.c_str(), at.c_str(), nullptr, MS_BIND, nullptr));
    OK(mount(nullptr, at.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr));
    OK(chdir(at.c_str()));
    fails_for(one, EROFS, one.makes ? "new" : one.directory ? "dir" : "x");
    FAILS(EROFS, open("new", O_RDWR | O_CREAT, 0644));
    FAILS(EROFS, access("x", W_OK));
  });
}

struct Registrations {
  Registrations() {
    for (const PathCall& one : path_calls()) {
      tests().push_back({"paths." + one.name + "_errors", [one] { check_paths(one); }});
      tests().push_back({"paths." + one.name + "_longest", [one] { check_longest(one); }});
      tests().push_back({"paths." + one.name + "_search", [one] { check_search(one); }});
      if (one.changes)
        tests().push_back({"paths." + one.name + "_read_only", [one] { check_read_only(one); }});
    }
  }
} const registrations;

TEST(paths, symbolic_links_up_to_40) {
  make_file("l0", "found");
  for (int i = 1; i <= 41; ++i)
    OK(symlink(("l" + std::to_string(i - 1)).c_str(), ("l" + std::to_string(i)).c_str()));
  EQ(contents(seen("l40")), "found");
  FAILS(ELOOP, open(seen("l41").c_str(), O_RDONLY));
}

TEST(paths, trailing_slash) {
  make_file("file");
  OK(mkdir("dir", 0755));
  OK(symlink("dir", "link"));
  FAILS(ENOTDIR, open("file/", O_RDONLY));
  FAILS(EISDIR, open("new/", O_RDWR | O_CREAT, 0644));
  FAILS(ENOENT, mknod("new/", S_IFREG | 0644, 0));
  FAILS(ENOENT, symlink("x", "new/"));
  FAILS(ENOENT, link("file", "new/"));
  FAILS(ENOTDIR, rename("file", "new/"));
  FAILS(ENOTDIR, unlink("file/"));
  FAILS(ENOTDIR, unlink("link/"));
  FAILS(ENOTDIR, rmdir("link/"));
  OK(mkdir("new/", 0755));
  OK(rename("new/", "newer/"));
  struct stat out;
  OK(lstat("link/", &out));
  TRUE(S_ISDIR(out.st_mode));
  OK(rmdir("newer/"));
}

TEST(paths, dot_and_dotdot_as_last_component) {
  OK(mkdir("dir", 0755));
  make_file("file");
  FAILS(EINVAL, rmdir("dir/."));
  FAILS(ENOTEMPTY, rmdir("dir/.."));
  FAILS(EEXIST, mkdir("dir/.", 0755));
  FAILS(EEXIST, mkdir("dir/..", 0755));
  FAILS(EBUSY, rename("dir/.", "x"));
  FAILS(EBUSY, rename("dir/..", "x"));
  FAILS(EBUSY, rename("file", "dir/."));
  FAILS(EISDIR, unlink("dir/."));
  FAILS(EEXIST, symlink("x", "dir/."));
  FAILS(EEXIST, link("file", "dir/.."));
}

TEST(paths, names_of_any_bytes) {
  for (int byte = 1; byte < 256; ++byte) {
    if (byte == '/' || byte == '.') continue;
    make_file(std::string(1, char(byte)));
  }
  make_file("...");
  make_file(" ");
  make_file("new\nline");
  make_file(std::string("\xff\xfe\x80", 3));
  EQ(names_in(seen("")).size(), 256u);
  TRUE(exists(seen("...")));
  TRUE(exists(seen(std::string("\xff\xfe\x80", 3))));
  make_file("A");
  make_file("a");
  OK(unlink("a"));
  TRUE(exists(seen("A")));
}

TEST(paths, at_functions_take_a_directory) {
  OK(mkdir("dir", 0755));
  Fd dir(OK(open("dir", O_RDONLY | O_DIRECTORY)));
  make_file("file");
  Fd file(OK(open("file", O_RDONLY)));
  Fd made(OK(openat(dir, "x", O_RDWR | O_CREAT, 0644)));
  OK(mkdirat(dir, "d", 0755));
  OK(mknodat(dir, "fifo", S_IFIFO | 0644, 0));
  OK(symlinkat("x", dir, "s"));
  OK(linkat(dir, "x", dir, "l", 0));
  OK(renameat(dir, "l", dir, "m"));
  EQ(names_in(seen("dir")), (std::set<std::string>{"x", "d", "fifo", "s", "m"}));
  OK(fchmodat(dir, "x", 0600, 0));
  EQ(mode_of(seen("dir/x")), 0600u);
  OK(fchownat(dir, "s", kUser, kGroup, AT_SYMLINK_NOFOLLOW));
  EQ(info(seen("dir/s")).st_uid, kUser);
  OK(faccessat(dir, "x", R_OK, 0));
  OK(unlinkat(dir, "x", 0));
  OK(unlinkat(dir, "d", AT_REMOVEDIR));
  FAILS(EISDIR, (OK(mkdirat(dir, "d", 0755)), unlinkat(dir, "d", 0)));
  FAILS(ENOTDIR, unlinkat(dir, "m", AT_REMOVEDIR));
  FAILS(EINVAL, unlinkat(dir, "m", 0x8000));
  FAILS(ENOTDIR, openat(file, "x", O_RDONLY));
  FAILS(ENOTDIR, mkdirat(file, "x", 0755));
  FAILS(EBADF, openat(99, "x", O_RDONLY));
  FAILS(EBADF, mkdirat(99, "x", 0755));
  FAILS(EBADF, renameat(99, "x", dir, "y"));
  OK(openat(99, (here() + "/file").c_str(), O_RDONLY));  // an absolute path needs no directory
  struct stat out;
  OK(fstatat(file, "", &out, AT_EMPTY_PATH));
  EQ(out.st_ino, info("file").st_ino);
}

TEST(paths, working_directory_that_was_removed) {
  OK(mkdir("dir", 0755));
  OK(chdir("dir"));
  OK(rmdir("../dir"));
  char buffer[4096];
  FAILS(ENOENT, getcwd(buffer, sizeof buffer) == nullptr ? -1 : 0);
  FAILS(ENOENT, open("x", O_RDWR | O_CREAT, 0644));
  FAILS(ENOENT, mkdir("x", 0755));
  FAILS(ENOENT, symlink("a", "x"));
  struct stat out {};
  OK(stat(".", &out));
  EQ(out.st_nlink, 0u);
  EQ(names_in(".").size(), 0u);
}

TEST(paths, directory_that_another_mount_removed) {  // who stands in it is told as on one machine
  OK(mkdir("dir", 0755));
  make_file("file");
  Fd dir(OK(open("dir", O_RDONLY | O_DIRECTORY)));
  OK(rmdir(seen("dir").c_str()));
  struct stat out {};
  FAILS(ENOENT, openat(dir, "x", O_RDWR | O_CREAT, 0644));
  FAILS(ENOENT, openat(dir, "x", O_RDONLY));
  FAILS(ENOENT, mkdirat(dir, "x", 0755));
  FAILS(ENOENT, mknodat(dir, "x", S_IFIFO | 0644, 0));
  FAILS(ENOENT, symlinkat("a", dir, "x"));
  FAILS(ENOENT, linkat(AT_FDCWD, "file", dir, "x", 0));
  FAILS(ENOENT, renameat(AT_FDCWD, "file", dir, "x"));
  FAILS(ENOENT, renameat(dir, "x", AT_FDCWD, "y"));
  FAILS(ENOENT, unlinkat(dir, "x", 0));
  FAILS(ENOENT, unlinkat(dir, "x", AT_REMOVEDIR));
  FAILS(ENOENT, fstatat(dir, "x", &out, 0));
  FAILS(ENOENT, faccessat(dir, "x", R_OK, 0));
  FAILS(ENOENT, open("dir", O_RDONLY));
}

TEST(paths, bound_socket_names) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, "socket");
  Fd server(OK(socket(AF_UNIX, SOCK_STREAM, 0)));
  OK(bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address));
  TRUE(S_ISSOCK(info(seen("socket")).st_mode));
  FAILS(ENXIO, open("socket", O_RDONLY));
  Fd second(OK(socket(AF_UNIX, SOCK_STREAM, 0)));
  FAILS(EADDRINUSE, bind(second, reinterpret_cast<sockaddr*>(&address), sizeof address));
  OK(listen(server, 1));
  OK(connect(second, reinterpret_cast<sockaddr*>(&address), sizeof address));
  OK(unlink("socket"));
  Fd third(OK(socket(AF_UNIX, SOCK_STREAM, 0)));
  FAILS(ENOENT, connect(third, reinterpret_cast<sockaddr*>(&address), sizeof address));
  make_file("socket");
  FAILS(ECONNREFUSED, connect(third, reinterpret_cast<sockaddr*>(&address), sizeof address));
}

}  // namespace
}  // namespace conformance
