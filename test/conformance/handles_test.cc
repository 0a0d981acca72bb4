// name_to_handle_at(2), open_by_handle_at(2): what an NFS server keeps of a file.
#include "test/conformance/conformance.h"

namespace conformance {
namespace {

struct Handle {
  alignas(file_handle) char room[sizeof(file_handle) + MAX_HANDLE_SZ] = {};
  file_handle* get() { return reinterpret_cast<file_handle*>(room); }
};

Handle handle_of(const std::string& path) {
  Handle handle;
  handle.get()->handle_bytes = MAX_HANDLE_SZ;
  int mount = 0;
  OK(name_to_handle_at(AT_FDCWD, path.c_str(), handle.get(), &mount, 0));
  return handle;
}
int open_handle(Handle& handle, int flags) {
  Fd root(OK(open(here().c_str(), O_RDONLY | O_DIRECTORY)));
  return open_by_handle_at(root, handle.get(), flags);
}
int open_handle_seen(Handle& handle, int flags) {
  Fd root(OK(open(seen("").c_str(), O_RDONLY | O_DIRECTORY)));
  return open_by_handle_at(root, handle.get(), flags);
}
void drop_caches() {
  sync();
  Fd fd(OK(open("/proc/sys/vm/drop_caches", O_WRONLY)));
  OK(write(fd, "2", 1));
}

TEST(handle, leads_to_the_file) {
  make_file("f", "content");
  OK(mkdir("d", 0755));
  make_file("d/in", "inside");
  Handle file = handle_of("f"), dir = handle_of("d"), inside = handle_of("d/in");
  OK(rename("d/in", "d/renamed"));
  for (bool cold : {false, true}) {
    if (cold) drop_caches();
    Fd one(OK(open_handle(file, O_RDWR)));
    EQ(read_at(one, 10, 0), "content");
    EQ(info_of(one).st_ino, info("f").st_ino);
    Fd two(OK(open_handle(dir, O_RDONLY)));
    EQ(info_of(two).st_ino, info("d").st_ino);
    Fd three(OK(openat(two, "renamed", O_RDONLY)));
    Fd four(OK(open_handle(inside, O_RDONLY)));
    EQ(read_at(four, 10, 0), "inside");
    Fd up(OK(openat(two, "..", O_RDONLY | O_DIRECTORY)));
    EQ(info_of(up).st_ino, info(".").st_ino);
  }
}

TEST(handle, of_another_mount) {
  make_file("f", "content");
  OK(mkdir("d", 0755));
  Handle file = handle_of("f"), dir = handle_of("d");
  Fd one(OK(open_handle_seen(file, O_RDONLY)));
  EQ(read_at(one, 10, 0), "content");
  Fd two(OK(open_handle_seen(dir, O_RDONLY)));
  EQ(info_of(two).st_ino, info("d").st_ino);
}

TEST(handle, symbolic_links_and_special_files) {
  OK(symlink("target", "s"));
  OK(mkfifo("p", 0644));
  Handle link = handle_of("s"), fifo = handle_of("p");
  drop_caches();
  Fd one(OK(open_handle(link, O_PATH)));
  char buffer[20];
  EQ(readlinkat(one, "", buffer, sizeof buffer), 6);
  FAILS(ELOOP, open_handle(link, O_RDONLY));
  Fd two(OK(open_handle(fifo, O_PATH)));
  TRUE(S_ISFIFO(info_of(two).st_mode));
}

TEST(handle, stale_when_the_file_is_gone) {
  make_file("f");
  OK(mkdir("d", 0755));
  Handle file = handle_of("f"), dir = handle_of("d");
  OK(unlink("f"));
  OK(rmdir("d"));
  make_file("f");  // another one
  drop_caches();
  FAILS(ESTALE, open_handle(file, O_RDONLY));
  FAILS(ESTALE, open_handle(dir, O_RDONLY));
}

TEST(handle, of_an_unlinked_file_that_is_open) {
  make_file("f", "content");
  Handle file = handle_of("f");
  Fd held(OK(open("f", O_RDONLY)));
  OK(unlink("f"));
  Fd again(OK(open_handle(file, O_RDONLY)));
  EQ(read_at(again, 10, 0), "content");
}

TEST(handle, errors) {
  make_file("f");
  Handle small;
  small.get()->handle_bytes = 0;
  int mount = 0;
  FAILS(EOVERFLOW, name_to_handle_at(AT_FDCWD, "f", small.get(), &mount, 0));
  TRUE(small.get()->handle_bytes > 0);
  Handle good = handle_of("f");
  as_user([&] { FAILS(EPERM, open_handle(good, O_RDONLY)); });
  good.get()->handle_bytes = 0;
  FAILS(EINVAL, open_handle(good, O_RDONLY));
}

}  // namespace
}  // namespace conformance
