// Extended attributes: xattr(7), setxattr(2), getxattr(2), listxattr(2), removexattr(2).
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

std::string get(const std::string& path, const char* name) {
  std::string value(70'000, '\0');
  value.resize(size_t(OK(lgetxattr(path.c_str(), name, value.data(), value.size()))));
  return value;
}
int set(const char* path, const char* name, const std::string& value, int flags = 0) {
  return setxattr(path, name, value.data(), value.size(), flags);
}
std::set<std::string> list(const std::string& path) {
  std::string names(65536, '\0');
  names.resize(size_t(OK(llistxattr(path.c_str(), names.data(), names.size()))));
  std::set<std::string> out;
  for (size_t at = 0; at < names.size(); at += strlen(&names[at]) + 1) out.insert(&names[at]);
  return out;
}

TEST(xattr, set_get_list_remove) {
  make_file("f");
  OK(mkdir("d", 0755));
  for (const char* name : {"f", "d"}) {
    OK(set(name, "user.a", "one"));
    OK(set(name, "user.b", ""));
    OK(set(name, "user.c", std::string("\0x\0", 3)));
    EQ(get(seen(name), "user.a"), "one");
    EQ(get(seen(name), "user.b"), "");
    EQ(get(seen(name), "user.c"), std::string("\0x\0", 3));
    EQ(list(seen(name)), (std::set<std::string>{"user.a", "user.b", "user.c"}));
    OK(set(name, "user.a", "another"));
    EQ(get(seen(name), "user.a"), "another");
    OK(removexattr(name, "user.a"));
    FAILS(ENODATA, removexattr(name, "user.a"));
    FAILS(ENODATA, getxattr(seen(name).c_str(), "user.a", nullptr, 0));
    EQ(list(seen(name)), (std::set<std::string>{"user.b", "user.c"}));
  }
}

TEST(xattr, create_and_replace) {
  make_file("f");
  FAILS(ENODATA, set("f", "user.a", "1", XATTR_REPLACE));
  OK(set("f", "user.a", "1", XATTR_CREATE));
  FAILS(EEXIST, set("f", "user.a", "2", XATTR_CREATE));
  OK(set("f", "user.a", "3", XATTR_REPLACE));
  EQ(get(seen("f"), "user.a"), "3");
  FAILS(EINVAL, set("f", "user.a", "4", 0x10));
}

TEST(xattr, sizes) {
  make_file("f");
  OK(set("f", "user.a", "12345"));
  char buffer[100];
  EQ(getxattr(seen("f").c_str(), "user.a", nullptr, 0), 5);
  EQ(getxattr(seen("f").c_str(), "user.a", buffer, 5), 5);
  FAILS(ERANGE, getxattr(seen("f").c_str(), "user.a", buffer, 4));
  EQ(listxattr(seen("f").c_str(), nullptr, 0), 7);
  EQ(listxattr(seen("f").c_str(), buffer, 7), 7);
  FAILS(ERANGE, listxattr(seen("f").c_str(), buffer, 6));
  FAILS(E2BIG, set("f", "user.big", std::string(65537, 'x')));
  FAILS(ERANGE, set("f", ("user." + std::string(251, 'n')).c_str(), "1"));
  FAILS(ERANGE, set("f", "", "1"));
  OK(set("f", ("user." + std::string(250, 'n')).c_str(), "1"));
  EQ(get(seen("f"), ("user." + std::string(250, 'n')).c_str()), "1");
  const void* volatile bad = reinterpret_cast<void*>(8);
  FAILS(EFAULT, setxattr("f", "user.x", bad, 10, 0));
  for (size_t size : {1u, 100u, 1000u, 2500u}) {
    const std::string value(size, char('a' + size % 26));
    OK(set("f", "user.size", value));
    EQ(get(seen("f"), "user.size"), value);
  }
}

TEST(xattr, largest_value) {
  make_file("f");
  const std::string value(65536, 'v');
  if (is_ext4()) {  // holds what fits into a block
    FAILS(ENOSPC, set("f", "user.big", value));
    return;
  }
  OK(set("f", "user.big", value));
  EQ(get(seen("f"), "user.big"), value);
}

TEST(xattr, many) {
  make_file("f");
  std::set<std::string> names;
  for (int i = 0; i < 50; ++i) {
    const std::string name = "user.name" + std::to_string(i);
    OK(set("f", name.c_str(), "v" + std::to_string(i)));
    names.insert(name);
  }
  EQ(list(seen("f")), names);
  for (int i = 0; i < 50; ++i)
    EQ(get(seen("f"), ("user.name" + std::to_string(i)).c_str()), "v" + std::to_string(i));
}

TEST(xattr, namespaces) {
  make_file("f", "", 0666);
  FAILS(EOPNOTSUPP, set("f", "nonsense.a", "1"));
  FAILS(EOPNOTSUPP, set("f", "noname", "1"));
  FAILS(EOPNOTSUPP, getxattr("f", "nonsense.a", nullptr, 0));
  FAILS(EOPNOTSUPP, removexattr("f", "nonsense.a"));
  for (const char* name : {"user.", "trusted.", "security."}) {
    FAILS(EINVAL, set("f", name, "1"));
    FAILS(EINVAL, getxattr("f", name, nullptr, 0));
    FAILS(EINVAL, removexattr("f", name));
  }
  OK(set("f", "trusted.a", "secret"));
  EQ(get(seen("f"), "trusted.a"), "secret");
  OK(set("f", "security.test", "label"));
  EQ(get(seen("f"), "security.test"), "label");
  as_user([] {
    FAILS(EPERM, set("f", "trusted.b", "1"));
    FAILS(ENODATA, getxattr("f", "trusted.a", nullptr, 0));
    FAILS(EPERM, removexattr("f", "trusted.a"));
    FAILS(EPERM, set("f", "security.test", "1"));
    EQ(get("f", "security.test"), "label");
    EQ(list("f"), (std::set<std::string>{"security.test"}));
    OK(set("f", "user.a", "1"));
  });
  EQ(list(seen("f")), (std::set<std::string>{"security.test", "trusted.a", "user.a"}));
}

TEST(xattr, user_attributes_follow_permissions) {
  make_file("f", "", 0600);
  OK(set("f", "user.a", "1"));
  as_user([] {
    FAILS(EACCES, getxattr("f", "user.a", nullptr, 0));
    FAILS(EACCES, set("f", "user.b", "1"));
    FAILS(EACCES, removexattr("f", "user.a"));
    TRUE(list("f") == std::set<std::string>{"user.a"});
  });
  OK(chmod("f", 0644));
  as_user([] {
    EQ(get("f", "user.a"), "1");
    FAILS(EACCES, set("f", "user.b", "1"));
  });
  OK(mkdir("sticky", 0777));
  OK(chmod("sticky", 01777));
  as_user([] { FAILS(EPERM, set("sticky", "user.a", "1")); });
  OK(set("sticky", "user.a", "1"));
}

TEST(xattr, user_attributes_are_read_by_every_group) {
  make_file("f", "", 0640);
  OK(mkdir("d", 0750));
  for (const char* path : {"f", "d"}) {
    OK(chown(path, 0, kOtherGroup));
    OK(setxattr(path, "user.a", "value", 5, 0));
  }
  for (const std::string& path : {seen("f"), seen("d")}) {
    as(kUser, kGroup, {kOtherGroup}, [&] {
      char value[10];
      EQ(getxattr(path.c_str(), "user.a", value, sizeof value), 5);
    });
    as(kUser, kGroup, {}, [&] {
      char value[10];
      FAILS(EACCES, getxattr(path.c_str(), "user.a", value, sizeof value));
    });
  }
}

TEST(xattr, only_files_and_directories_have_user_attributes) {
  OK(symlink("missing", "s"));
  OK(mkfifo("p", 0644));
  OK(mknod("c", S_IFCHR | 0644, makedev(1, 3)));
  for (const char* name : {"s", "p", "c"}) {
    FAILS(EPERM, lsetxattr(name, "user.a", "1", 1, 0));
    FAILS(ENODATA, lgetxattr(name, "user.a", nullptr, 0));
    EQ(llistxattr(name, nullptr, 0), 0);
    OK(lsetxattr(name, "trusted.a", "1", 1, 0));
    EQ(get(seen(name), "trusted.a"), "1");
  }
  make_file("f");
  OK(symlink("f", "link"));
  OK(set("link", "user.a", "through"));
  EQ(get(seen("f"), "user.a"), "through");
}

TEST(xattr, descriptors_and_lifetime) {
  make_file("f");
  Fd fd(OK(open("f", O_RDONLY)));
  OK(fsetxattr(fd, "user.a", "1", 1, 0));
  char buffer[10];
  EQ(fgetxattr(fd, "user.a", buffer, 10), 1);
  EQ(flistxattr(fd, buffer, 10), 7);
  OK(link("f", "l"));
  EQ(get(seen("l"), "user.a"), "1");
  OK(rename("f", "g"));
  EQ(get(seen("g"), "user.a"), "1");
  OK(unlink("g"));
  OK(unlink("l"));
  EQ(fgetxattr(fd, "user.a", buffer, 10), 1);
  OK(fremovexattr(fd, "user.a"));
  FAILS(ENODATA, fgetxattr(fd, "user.a", buffer, 10));
  FAILS(EBADF, fsetxattr(99, "user.a", "1", 1, 0));
  make_file("f");
  EQ(list(seen("f")).size(), 0u);  // a new file has none
}

}  // namespace
}  // namespace conformance
