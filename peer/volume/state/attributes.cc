// Attributes and extended attributes.
#include <algorithm>

#include "peer/volume/state/change.h"
#include "peer/volume/xattr_names.h"

namespace efs {

// As Linux: set-user-id goes, and set-group-id where the group may execute (else it once meant locking), or
// of who is not in that group (since Linux 6.2). So do capabilities.
Status OperationRun::drop_privileges(InodeNumber inode, InodeRow& row) {
  if (row.is_directory()) return {};
  bool group = (row.mode & kGroupExecute) != 0;
  if ((row.mode & kSetGid) && !group && who_.uid != 0 && !in_group(who_, row.gid)) {
    if (!who_.groups_known) return fail(Code::not_permitted);
    group = true;
  }
  row.mode &= ~kSetUid;
  if (group) row.mode &= ~kSetGid;
  if (row.xattr_bytes != 0) EFS_TRY(erase_xattr(inode, row, kCapability));
  return {};
}

Status OperationRun::set_mode(InodeRow& row, uint32_t mode) {
  mode &= 07777;
  if ((mode & kSetGid) && who_.uid != 0 && !in_group(who_, row.gid)) {
    if (!who_.groups_known) return fail(Code::not_permitted);
    mode &= ~kSetGid;
  }
  row.mode = (row.mode & ~07777u) | mode;
  return {};
}

// The kernel clears the bits in the name of whoever writes, before it hands on what was written.
bool OperationRun::only_clears_suid(const SetAttributes& request, const InodeRow& row) const {
  const uint32_t mode = row.mode & 07777, cleared = mode & ~*request.mode;
  return (*request.mode & ~mode) == 0 && (cleared & ~(kSetUid | kSetGid)) == 0 && row.is_regular() &&
         (operation_.held || may(request.inode, row, kWrite).has_value());
}

namespace {
bool asks_for_nothing(const SetAttributes& request) {
  return !request.mode && !request.uid && !request.gid && !request.size && !request.atime_ns &&
         !request.mtime_ns && !request.atime_now && !request.mtime_now && !request.clear_suid;
}
}  // namespace

Status OperationRun::may_set(const SetAttributes& request, const InodeRow& row) const {
  const bool owner = owns(row, who_);
  if (request.mode && !owner && !only_clears_suid(request, row)) return fail(Code::not_permitted);
  if (request.uid && who_.uid != 0 && !(owner && *request.uid == row.uid)) return fail(Code::not_permitted);
  if (request.gid && who_.uid != 0 && !(owner && (*request.gid == row.gid || in_group(who_, *request.gid))))
    return fail(Code::not_permitted);
  if ((request.atime_ns || request.mtime_ns) && !owner && !(request.size && request.has_write_handle))
    return fail(Code::not_permitted);
  const bool writes = request.atime_now || request.mtime_now || (request.clear_suid && !request.size);
  if (writes && !owner && !operation_.held) EFS_TRY(may(request.inode, row, kWrite));
  return {};
}

Status OperationRun::apply(const SetAttributes& request) {
  EFS_ASSIGN(InodeRow * found, edit(request.inode));
  InodeRow& row = *found;
  EFS_TRY(may_set(request, row));
  // What FUSE makes of chown(-1, -1), which takes the bits away. Linux says the same before others write;
  // then the write itself does.
  if (asks_for_nothing(request) && owns(row, who_)) EFS_TRY(drop_privileges(request.inode, row));
  if (request.size) {
    if (row.is_directory()) return fail(Code::is_directory);
    if (!row.is_regular()) return fail(Code::invalid_argument);
    if (*request.size > kMaxFileSize) return fail(Code::too_large);
    if (!request.has_write_handle) EFS_TRY(may(request.inode, row, kWrite));
    EFS_TRY(resize(request.inode, row, *request.size));
    row.mtime_ns = stamp_.time_ns;
  }
  if (request.clear_suid || request.uid || request.gid) EFS_TRY(drop_privileges(request.inode, row));
  if (request.uid) row.uid = *request.uid;
  if (request.gid) row.gid = *request.gid;
  if (request.mode) {
    EFS_TRY(set_mode(row, *request.mode));
    EFS_TRY(acl_follows_mode(request.inode, row));
  }
  if (request.atime_ns) row.atime_ns = *request.atime_ns;
  if (request.mtime_ns) row.mtime_ns = *request.mtime_ns;
  if (request.atime_now) row.atime_ns = stamp_.time_ns;
  if (request.mtime_now) row.mtime_ns = stamp_.time_ns;
  touch(row);
  changed(request.inode, request.size.has_value());
  reply_.attributes = attributes(request.inode);
  return {};
}

Status OperationRun::apply(const MarkAccess& request) {
  EFS_ASSIGN(InodeRow * row, edit(request.inode));
  if (!operation_.held && !row->is_symlink()) EFS_TRY(may(request.inode, *row, kRead));
  // No news: a kernel that is told drops what it just asked about a file, its size too, and whoever reads the
  // file under a lock would read too little. Other mounts see the time when they ask the next time.
  if (marks_access(attributes_of(request.inode, *row), stamp_.time_ns)) row->atime_ns = stamp_.time_ns;
  reply_.attributes = attributes(request.inode);
  return {};
}

// xattr(7): who may set what.
Status OperationRun::may_set_xattr(InodeNumber inode, const InodeRow& row, std::string_view name) const {
  if (name.size() > kMaxXattrName) return fail(Code::range);
  if (name.find('\0') != name.npos) return fail(Code::invalid_argument);
  if (name == "user." || name == "trusted." || name == "security.") return fail(Code::invalid_argument);
  if (name.starts_with("user.")) {
    if (!row.is_regular() && !row.is_directory()) return fail(Code::not_permitted);
    if (row.is_directory() && (row.mode & 01000) && !owns(row, who_)) return fail(Code::not_permitted);
    if (operation_.held) return {};
    return may(inode, row, kWrite);
  }
  if (name.starts_with("trusted.") || name.starts_with("security.")) {
    if (who_.uid != 0) return fail(Code::not_permitted);
    return {};
  }
  if (is_acl(name)) {
    if (!owns(row, who_)) return fail(Code::not_permitted);
    if (row.is_symlink()) return fail(Code::unsupported);
    return {};
  }
  return fail(Code::unsupported);
}

Status OperationRun::put_xattr(InodeNumber inode, InodeRow& row, std::string_view name,
                               std::string_view value) {
  const std::string key = name_key(inode, name);
  EFS_ASSIGN(const auto existing, rows_.get(kXattrs, key));
  if (!existing) {
    if (row.xattr_bytes + name.size() + 1 > kMaxXattrs) return fail(Code::no_space);
    row.xattr_bytes += uint32_t(name.size() + 1);
  }
  rows_.put(kXattrs, key, value);
  return {};
}

Result<bool> OperationRun::erase_xattr(InodeNumber inode, InodeRow& row, std::string_view name) {
  const std::string key = name_key(inode, name);
  EFS_ASSIGN(const auto existing, rows_.get(kXattrs, key));
  if (!existing) return false;
  rows_.erase(kXattrs, key);
  row.xattr_bytes -= std::min<uint32_t>(row.xattr_bytes, uint32_t(name.size() + 1));
  return true;
}

Status OperationRun::apply(const SetXattr& request) {
  EFS_ASSIGN(InodeRow * row, edit(request.inode));
  EFS_TRY(may_set_xattr(request.inode, *row, request.name));
  if (request.value.size() > kMaxXattrValue) return fail(Code::range);
  if (is_acl(request.name)) {
    EFS_TRY(set_acl(request.inode, *row, request.name, request.value));
  } else {
    EFS_ASSIGN(const auto existing, rows_.get(kXattrs, name_key(request.inode, request.name)));
    if (existing && request.create) return fail(Code::exists);
    if (!existing && request.replace) return fail(Code::no_attribute);
    EFS_TRY(put_xattr(request.inode, *row, request.name, text(request.value)));
  }
  touch(*row);
  changed(request.inode, false);
  reply_.attributes = attributes(request.inode);
  return {};
}

Status OperationRun::apply(const RemoveXattr& request) {
  EFS_ASSIGN(InodeRow * row, edit(request.inode));
  // A kernel takes capabilities away in the name of whoever writes, or gives the file to somebody.
  if (request.name != kCapability || !(owns(*row, who_) || write_access(request.inode, *row)))
    EFS_TRY(may_set_xattr(request.inode, *row, request.name));
  EFS_ASSIGN(const bool existed, erase_xattr(request.inode, *row, request.name));
  if (!existed && !is_acl(request.name)) return fail(Code::no_attribute);
  touch(*row);
  changed(request.inode, false);
  reply_.attributes = attributes(request.inode);
  return {};
}

}  // namespace efs
