// POSIX ACLs: acl(5), setfacl(1), path_resolution(7), open(2), umask(2), chmod(2).
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

constexpr const char* kAccess = "system.posix_acl_access";
constexpr const char* kDefault = "system.posix_acl_default";
constexpr uint16_t kOwner = 1, kNamedUser = 2, kOwningGroup = 4, kNamedGroup = 8, kMask = 16, kAll = 32;

void put(std::string& to, uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) to.push_back(char(value >> 8 * i));
}
// linux/posix_acl_xattr.h, of the short text form: "u::rw u:65532:r g::r m::r o::".
std::string acl(const std::string& words) {
  std::string out;
  put(out, 2, 4);
  std::istringstream in(words);
  for (std::string word; in >> word;) {
    const size_t first = word.find(':'), second = word.find(':', first + 1);
    const std::string who = word.substr(first + 1, second - first - 1), may = word.substr(second + 1);
    const bool user = word[0] == 'u', group = word[0] == 'g';
    put(out,
        user    ? (who.empty() ? kOwner : kNamedUser)
        : group ? (who.empty() ? kOwningGroup : kNamedGroup)
                : (word[0] == 'm' ? kMask : kAll),
        2);
    unsigned bits = 0;
    for (char one : may) bits |= one == 'r' ? 4 : one == 'w' ? 2 : 1;
    put(out, bits, 2);
    put(out, who.empty() ? UINT32_MAX : std::stoul(who), 4);
  }
  return out;
}
int set(const std::string& path, const char* name, const std::string& words) {
  const std::string value = acl(words);
  return setxattr(path.c_str(), name, value.data(), value.size(), 0);
}
// What is there, or "none".
std::string get(const std::string& path, const char* name = kAccess) {
  char value[4096];
  const ssize_t size = lgetxattr(path.c_str(), name, value, sizeof value);
  if (size < 0) return errno == ENODATA ? "none" : error_name(errno);
  return {value, size_t(size)};
}
bool reads(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY));
  return fd >= 0;
}
bool writes(const std::string& path) {
  const Fd fd(open(path.c_str(), O_WRONLY));
  return fd >= 0;
}
void as_other(const std::function<void()>& body) {
  as(kOther, kOtherGroup, {}, body);
}
// With no other mode than the umask, or the directory, lets it have.
void create(const std::string& path, mode_t mode) {
  const Fd fd(OK(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, mode)));
}
mode_t made_mode(const std::string& path) {
  return mode_of(seen(path));
}

const std::string kRich = "u::rw u:65532:rw g::r m::rw o::";  // kOther

TEST(acl, set_get_list_remove) {
  make_file("f", "", 0640);
  EQ(get(seen("f")), "none");
  const std::string changed = times_risen("f", [] { OK(set("f", kAccess, kRich)); });
  EQ(changed, "c");
  EQ(get(seen("f")), acl(kRich));
  EQ(made_mode("f"), 0660u);
  char names[100];
  EQ(std::string(names, size_t(OK(listxattr(seen("f").c_str(), names, sizeof names)))),
     std::string(kAccess) + '\0');
  OK(removexattr("f", kAccess));
  EQ(get(seen("f")), "none");
  EQ(made_mode("f"), 0660u);
  OK(removexattr("f", kAccess));
  OK(set("f", kAccess, kRich));
  OK(set("f", kAccess, ""));
  EQ(get(seen("f")), "none");
}

TEST(acl, of_three_entries_is_the_mode) {
  make_file("f", "", 0777);
  OK(set("f", kAccess, kRich));
  OK(set("f", kAccess, "u::rw g::r o::"));
  EQ(get(seen("f")), "none");
  EQ(made_mode("f"), 0640u);
}

TEST(acl, what_is_refused) {
  make_file("f", "", 0666);
  OK(mkdir("d", 0777));
  OK(symlink("f", "l"));
  FAILS(EINVAL, set("f", kAccess, "u::rw"));
  FAILS(EINVAL, set("f", kAccess, "u::rw u:7:r g::r o::"));
  FAILS(EINVAL, set("f", kAccess, "u::rw o:: g::r"));
  FAILS(EINVAL, set("f", kAccess, "u::rw u:4294967295:r g::r m::r o::"));
  FAILS(EINVAL, setxattr("f", kAccess, "\2\0\0", 3, 0));
  FAILS(EOPNOTSUPP, setxattr("f", kAccess, "\1\0\0\0", 4, 0));
  FAILS(EACCES, set("f", kDefault, kRich));
  OK(removexattr("f", kDefault));
  const std::string value = acl(kRich);
  FAILS(EOPNOTSUPP, lsetxattr("l", kAccess, value.data(), value.size(), 0));
  as_user([] {
    FAILS(EPERM, set("f", kAccess, kRich));
    FAILS(EPERM, set("d", kDefault, kRich));
    FAILS(EPERM, removexattr("f", kAccess));
  });
  EQ(get(seen("f")), "none");
}

TEST(acl, named_users_and_groups_are_let_in) {
  make_file("f", "text", 0600);
  as_other([] { TRUE(!reads(seen("f"))); });
  OK(set("f", kAccess, "u::rw u:65532:r g:: m::rw o::"));
  as_other([] {
    TRUE(reads("f"));
    TRUE(reads(seen("f")));
    TRUE(!writes("f"));
    TRUE(!writes(seen("f")));
    FAILS(EACCES, access(seen("f").c_str(), W_OK));
  });
  as_user([] { TRUE(!reads(seen("f"))); });
  OK(set("f", kAccess, "u::rw g:: g:65531:rw m::rw o::r"));  // kGroup
  as_user([] { TRUE(writes(seen("f"))); });
  as(kOther, kOtherGroup, {kGroup}, [] {
    TRUE(writes(seen("f")));
    TRUE(writes("f"));
  });
  as_other([] {
    TRUE(reads(seen("f")));
    TRUE(!writes(seen("f")));
  });
  // Who is in a group that has nothing gets nothing from others' entry.
  OK(set("f", kAccess, "u::rw g:: g:65531: m::rw o::r"));
  as_user([] { TRUE(!reads(seen("f"))); });
  as_other([] { TRUE(reads(seen("f"))); });
}

TEST(acl, the_mask_limits_all_but_owner_and_others) {
  make_file("f", "text", 0600);
  OK(chown("f", kUser, kGroup));
  OK(set("f", kAccess, "u::rw u:65532:rw g::rw m::r o::"));
  EQ(made_mode("f"), 0640u);
  as_user([] { TRUE(writes(seen("f"))); });
  as_other([] {
    TRUE(reads(seen("f")));
    TRUE(!writes(seen("f")));
  });
  as(kOther - 1, kGroup, {}, [] {
    TRUE(reads(seen("f")));
    TRUE(!writes(seen("f")));
  });
  OK(chmod("f", 0620));
  EQ(get(seen("f")), acl("u::rw u:65532:rw g::rw m::w o::"));
  as_other([] {
    TRUE(!reads(seen("f")));
    TRUE(writes(seen("f")));
  });
}

TEST(acl, chmod_and_chown) {
  make_file("f", "", 0600);
  OK(set("f", kAccess, kRich));
  OK(chmod("f", 0751));
  EQ(get(seen("f")), acl("u::rwx u:65532:rw g::r m::rx o::x"));
  EQ(made_mode("f"), 0751u);
  OK(chown("f", kUser, kGroup));
  EQ(get(seen("f")), acl("u::rwx u:65532:rw g::r m::rx o::x"));
}

TEST(acl, setting_one_takes_the_group_bit_from_who_is_not_in_the_group) {
  make_file("f", "", 0);
  OK(chown("f", kUser, kOtherGroup));
  OK(chmod("f", 02755));
  as(kUser, kGroup, {}, [] { OK(set("f", kAccess, kRich)); });
  EQ(made_mode("f"), 0660u);
  OK(chmod("f", 02755));
  as(kUser, kGroup, {kOtherGroup}, [] { OK(set("f", kAccess, kRich)); });
  EQ(made_mode("f"), 02660u);
}

TEST(acl, directories) {
  OK(mkdir("d", 0700));
  make_file("d/f", "text", 0644);
  as_other([] { TRUE(!reads(seen("d/f"))); });
  OK(set("d", kAccess, "u::rwx u:65532:x g:: m::rwx o::"));
  as_other([] {
    TRUE(reads(seen("d/f")));
    FAILS(EACCES, open(seen("d").c_str(), O_RDONLY));
    FAILS(EACCES, unlink(seen("d/f").c_str()));
    FAILS(EACCES, mkdir(seen("d/e").c_str(), 0777));
  });
  OK(set("d", kAccess, "u::rwx u:65532:rwx g:: m::rwx o::"));
  as_other([] {
    make_file(seen("d/mine"));
    OK(rename(seen("d/mine").c_str(), seen("d/yours").c_str()));
    OK(unlink(seen("d/f").c_str()));
  });
  EQ(names_in("d"), (std::set<std::string>{"yours"}));
  OK(removexattr("d", kAccess));
  OK(chmod("d", 0700));
  as_other([] { TRUE(!exists(seen("d/yours"))); });
}

TEST(acl, default_of_a_directory) {
  OK(mkdir("d", 0755));
  EQ(get(seen("d"), kDefault), "none");
  OK(set("d", kDefault, kRich));
  EQ(get(seen("d"), kDefault), acl(kRich));
  EQ(get(seen("d")), "none");
  EQ(made_mode("d"), 0755u);
  OK(set("d", kDefault, "u::rwx g::rx o::"));  // kept, other than an access ACL
  EQ(get(seen("d"), kDefault), acl("u::rwx g::rx o::"));
  OK(removexattr("d", kDefault));
  EQ(get(seen("d"), kDefault), "none");
  OK(removexattr("d", kDefault));
}

TEST(acl, default_is_inherited) {
  OK(mkdir("d", 0777));
  OK(set("d", kDefault, "u::rwx u:65532:rwx g::rx m::rwx o::x"));
  umask(077);
  create("d/f", 0666);
  EQ(made_mode("d/f"), 0660u);
  EQ(get(seen("d/f")), acl("u::rw u:65532:rwx g::rx m::rw o::"));
  EQ(get(seen("d/f"), kDefault), "none");
  OK(mkdir("d/e", 0775));
  EQ(made_mode("d/e"), 0771u);
  EQ(get(seen("d/e")), acl("u::rwx u:65532:rwx g::rx m::rwx o::x"));
  EQ(get(seen("d/e"), kDefault), acl("u::rwx u:65532:rwx g::rx m::rwx o::x"));
  OK(mknod("d/p", S_IFIFO | 0640, 0));
  EQ(made_mode("d/p"), 0640u);
  EQ(get(seen("d/p")), acl("u::rw u:65532:rwx g::rx m::r o::"));
  OK(symlink("f", "d/l"));
  EQ(made_mode("d/l"), 0777u);
  OK(mkdir("d/e/deep", 0700));
  EQ(made_mode("d/e/deep"), 0700u);
  EQ(get(seen("d/e/deep"), kDefault), acl("u::rwx u:65532:rwx g::rx m::rwx o::x"));
  create("d/e/f", 0600);
  EQ(get(seen("d/e/f")), acl("u::rw u:65532:rwx g::rx m:: o::"));
  as_other([] { TRUE(!reads(seen("d/e/f"))); });
  as_other([] { TRUE(writes(seen("d/f"))); });
  create("f", 0666);  // beside it the umask counts
  EQ(made_mode("f"), 0600u);
}

TEST(acl, default_of_three_entries_is_a_mode) {
  OK(mkdir("d", 0777));
  OK(set("d", kDefault, "u::rwx g::rx o::"));
  umask(077);
  create("d/f", 0666);
  EQ(made_mode("d/f"), 0640u);
  EQ(get(seen("d/f")), "none");
  OK(mkdir("d/e", 0777));
  EQ(made_mode("d/e"), 0750u);
  EQ(get(seen("d/e")), "none");
  EQ(get(seen("d/e"), kDefault), acl("u::rwx g::rx o::"));
}

TEST(acl, default_counts_for_files_without_a_name) {
  OK(mkdir("d", 0777));
  OK(set("d", kDefault, kRich));
  umask(077);
  const Fd fd(OK(open("d", O_TMPFILE | O_RDWR, 0666)));
  EQ(info_of(fd).st_mode & 07777, 0660u);
  OK(linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd)).c_str(), AT_FDCWD, "d/named",
            AT_SYMLINK_FOLLOW));
  EQ(get(seen("d/named")), acl(kRich));
}

TEST(acl, umask_counts_without_one) {
  OK(mkdir("d", 0777));
  for (const mode_t mask : {0u, 022u, 027u, 0777u}) {
    umask(mask);
    const std::string name = "d/" + std::to_string(mask);
    create(name, 0666);
    EQ(made_mode(name), 0666 & ~mask);
    OK(mkdir((name + "d").c_str(), 0777));
    EQ(made_mode(name + "d"), 0777 & ~mask);
    OK(mknod((name + "p").c_str(), S_IFIFO | 0666, 0));
    EQ(made_mode(name + "p"), 0666 & ~mask);
    const Fd fd(OK(open("d", O_TMPFILE | O_RDWR, 0666)));
    EQ(info_of(fd).st_mode & 07777, 0666 & ~mask);
  }
}

// As tar and rsync do it: what is set while the bytes are still buffered keeps its order.
TEST(acl, modes_and_acls_of_a_file_that_is_being_written) {
  const Fd fd(OK(open("f", O_WRONLY | O_CREAT, 0600)));
  const std::string value = acl(kRich);
  EQ(OK(write(fd, "text", 4)), 4);
  OK(fchmod(fd, 0640));
  OK(fsetxattr(fd, kAccess, value.data(), value.size(), 0));
  EQ(info_of(fd).st_mode & 07777, 0660u);
  EQ(OK(write(fd, "more", 4)), 4);
  OK(fchmod(fd, 0644));
  EQ(get("f"), acl("u::rw u:65532:rw g::r m::r o::r"));
  EQ(OK(write(fd, "last", 4)), 4);
  OK(fchmod(fd, 0600));
  OK(fsetxattr(fd, kAccess, value.data(), value.size(), 0));
  EQ(get(seen("f")), value);
  EQ(made_mode("f"), 0660u);
  EQ(contents(seen("f")), "textmorelast");
}

TEST(acl, goes_with_the_file) {
  OK(mkdir("d", 0777));
  make_file("f", "text", 0600);
  OK(set("f", kAccess, kRich));
  OK(rename("f", "d/g"));
  OK(link("d/g", "h"));
  EQ(get(seen("d/g")), acl(kRich));
  EQ(get(seen("h")), acl(kRich));
  OK(unlink("d/g"));
  EQ(get(seen("h")), acl(kRich));
}

// What another mount's kernel has kept is not believed, whoever asks and however warm.
TEST(acl, changes_are_seen_at_once) {
  OK(mkdir("d", 0755));
  make_file("d/f", "text", 0600);
  const Fd fd(OK(open(seen("d/f").c_str(), O_RDONLY)));
  for (int round = 0; round < 20; ++round) {
    OK(set("d/f", kAccess, "u::rw u:65532:r g:: m::r o::"));
    EQ(get(seen("d/f")), acl("u::rw u:65532:r g:: m::r o::"));
    as_other([] { TRUE(reads(seen("d/f"))); });
    OK(set(seen("d/f"), kAccess, "u::rw u:65532:w g:: m::w o::"));
    EQ(get("d/f"), acl("u::rw u:65532:w g:: m::w o::"));
    as_other([] {
      TRUE(!reads("d/f"));
      TRUE(writes("d/f"));
    });
    OK(set("d", kAccess, "u::rwx u:65532: g::rx m::rx o::rx"));
    as_other([] { TRUE(!writes(seen("d/f"))); });
    OK(removexattr("d", kAccess));
    as_other([] { TRUE(writes(seen("d/f"))); });
    OK(removexattr("d/f", kAccess));
    EQ(get(seen("d/f")), "none");
    char value[100];
    FAILS(ENODATA, fgetxattr(fd, kAccess, value, sizeof value));
    OK(set("d/f", kAccess, "u::rw u:65532:r g:: m::r o::"));
    EQ(fgetxattr(fd, kAccess, value, sizeof value), ssize_t(44));
    OK(chmod("d/f", 0600));
    EQ(get(seen("d/f")), acl("u::rw u:65532:r g:: m:: o::"));
    as_other([] { TRUE(!reads(seen("d/f"))); });
    OK(removexattr(seen("d/f").c_str(), kAccess));
  }
}

}  // namespace
}  // namespace conformance
