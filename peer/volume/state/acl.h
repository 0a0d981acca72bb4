// POSIX access control lists (acl(5), IEEE 1003.1e draft 17), to the letter of Linux's fs/posix_acl.c.
//
// An access ACL decides who may do what with an inode; the mode's group bits are then its mask. One that says
// no more than a mode is not kept: it becomes the mode. A directory's default ACL is what is made in it
// begins with, instead of the umask. Stored, as it travels, as linux/posix_acl_xattr.h has it: a version (2),
// then entries {u16 tag, u16 permissions, u32 id}, little-endian.
//
// A value: any thread. decode() takes hostile bytes; what it lets through is complete and in order.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "peer/volume/types.h"
#include "peer/volume/xattr_names.h"

namespace efs {

inline constexpr size_t kMaxAclEntries = 511;  // the kernel hands on no more than a page of 4 KiB

class Acl {
 public:
  // Code::invalid_argument, unsupported (another version), no_space (too many entries).
  static Result<Acl> decode(ByteView value);
  std::string encode() const;

  bool empty() const { return entries_.empty(); }  // means: none
  bool is_mode() const { return entries_.size() == 3; }
  uint32_t mode() const;             // the nine bits that go with it
  void set_mode(uint32_t mode);      // chmod
  uint32_t limit_to(uint32_t mode);  // of a new inode, asked for with `mode`: what both grant, and says it
  // Whether `who` may what `want` says (kRead...), of an inode of this owner and group. As long as the groups
  // are not known, only what holds whichever they are.
  bool allows(uint32_t uid, uint32_t gid, const Credentials& who, uint32_t want) const;

  bool operator==(const Acl&) const = default;

 private:
  struct Entry {
    uint16_t tag = 0;
    uint16_t permissions = 0;
    uint32_t id = 0;
    bool operator==(const Entry&) const = default;
  };
  Entry& group_class();  // the mask, or without one the owning group
  std::vector<Entry> entries_;
};

bool in_group(const Credentials& who, uint32_t gid);

}  // namespace efs
