// Where changes meet ACLs, as ext4: setting one, chmod, and what a new inode inherits.
#include "peer/volume/state/change.h"

namespace efs {

// setxattr(2) of an ACL. An access ACL gives the mode its bits, and is not kept when it says no more.
Status OperationRun::set_acl(InodeNumber inode, InodeRow& row, std::string_view name, const Bytes& value) {
  EFS_ASSIGN(const Acl acl, Acl::decode(value));
  if (name == kDefaultAcl && !row.is_directory() && !acl.empty()) return fail(Code::access_denied);
  const bool sets_mode = name == kAccessAcl && !acl.empty();
  if (sets_mode) EFS_TRY(set_mode(row, (row.mode & 07000) | acl.mode()));
  if (!acl.empty() && !(sets_mode && acl.is_mode())) return put_xattr(inode, row, name, acl.encode());
  EFS_TRY(erase_xattr(inode, row, name));
  return {};
}

// chmod(2).
Status OperationRun::acl_follows_mode(InodeNumber inode, InodeRow& row) {
  EFS_ASSIGN(auto acl, view_.acl(inode, row, kAccessAcl));
  if (!acl) return {};
  acl->set_mode(row.mode);
  return put_xattr(inode, row, kAccessAcl, acl->encode());
}

// The default ACL of the directory that something is made in. `mode` becomes what is left of it then.
Result<std::optional<Acl>> OperationRun::inherited_acl(const Create& request, const InodeRow& parent,
                                                       uint32_t& mode) {
  EFS_ASSIGN(auto acl, view_.acl(request.parent, parent, kDefaultAcl));
  if (!acl || acl->empty()) return std::nullopt;
  Acl access = *acl;
  mode = (mode & ~0777u) | access.limit_to((mode | request.masked) & 0777);
  return acl;
}

// `row` has the mode that inherited_acl() left.
Status OperationRun::inherit_acl(InodeNumber inode, InodeRow& row, const Acl& acl) {
  Acl access = acl;
  access.limit_to(row.mode & 0777);
  if (!access.is_mode()) EFS_TRY(put_xattr(inode, row, kAccessAcl, access.encode()));
  if (row.is_directory()) EFS_TRY(put_xattr(inode, row, kDefaultAcl, acl.encode()));
  return {};
}

}  // namespace efs
