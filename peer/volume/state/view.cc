#include "peer/volume/state/view.h"

namespace efs {

Result<std::optional<InodeRow>> RowsView::find_inode(InodeNumber inode) const {
  EFS_ASSIGN(auto found, rows_.get(kInodes, number_key(inode)));
  if (!found) return std::nullopt;
  EFS_ASSIGN(auto row, InodeRow::decode(*found));
  return std::optional(std::move(row));
}

Result<InodeRow> RowsView::inode(InodeNumber inode) const {
  EFS_ASSIGN(auto found, find_inode(inode));
  if (!found) return fail(Code::stale);
  return std::move(*found);
}

Result<std::optional<EntryRow>> RowsView::entry(InodeNumber parent, std::string_view name) const {
  EFS_ASSIGN(auto found, rows_.get(kEntries, name_key(parent, name)));
  if (!found) return std::nullopt;
  EFS_ASSIGN(auto row, EntryRow::decode(*found));
  return std::optional(std::move(row));
}

Result<bool> RowsView::is_empty(InodeNumber directory) const {
  bool empty = true;
  EFS_TRY(rows_.scan(kCookies, number_key(directory), [&](std::string_view key, std::string_view) {
    empty = leading_number(key) != directory;
    return false;
  }));
  return empty;
}

Status RowsView::extents(InodeNumber inode, uint64_t offset,
                         const std::function<bool(const ExtentRow&)>& visit) const {
  if (offset == UINT64_MAX) return {};
  Status result;
  EFS_TRY(
      rows_.scan(kExtents, pair_key(inode, offset + 1), [&](std::string_view key, std::string_view value) {
        if (leading_number(key) != inode) return false;
        auto extent = ExtentRow::decode(key, value);
        if (!extent) {
          result = fail(std::move(extent.error()));
          return false;
        }
        return visit(*extent);
      }));
  return result;
}

Result<bool> RowsView::is_below(InodeNumber inode, InodeNumber directory) const {
  // Bounded: parents form a tree; a corrupt one must not hang us.
  for (size_t depth = 0; depth < (size_t(1) << 20); ++depth) {
    if (inode == directory) return true;
    if (inode == kRootInode || inode == 0) return false;
    EFS_ASSIGN(auto row, this->inode(inode));
    inode = row.parent;
  }
  return fail(Code::corrupt, "the parents of a directory form a ring");
}

Result<std::optional<Acl>> RowsView::acl(InodeNumber inode, const InodeRow& row,
                                         std::string_view name) const {
  if (row.xattr_bytes <= name.size()) return std::nullopt;
  EFS_ASSIGN(auto found, rows_.get(kXattrs, name_key(inode, name)));
  if (!found) return std::nullopt;
  auto acl = Acl::decode(view(*found));
  if (!acl) return fail(Code::corrupt, "the ACL of inode " + std::to_string(inode) + " does not parse");
  return std::optional(std::move(*acl));
}

// As Linux, which asks the ACL of nobody when the mask grants nothing.
Status RowsView::may(InodeNumber inode, const InodeRow& row, const Credentials& who, uint32_t want) const {
  const auto decide = [](bool granted) { return granted ? Status{} : fail(Code::access_denied); };
  const auto grants = [&](unsigned shift) { return (want & ~(row.mode >> shift) & 7) == 0; };
  if (who.uid == 0) return decide(!(want & kExecute) || row.is_directory() || (row.mode & 0111) != 0);
  if (who.uid == row.uid) return decide(grants(6));
  if ((row.mode & 070) != 0) {
    EFS_ASSIGN(const auto acl, this->acl(inode, row, kAccessAcl));
    if (acl) return decide(acl->allows(row.uid, row.gid, who, want));
  }
  if (in_group(who, row.gid)) return decide(grants(3));
  return decide(grants(0) && (who.groups_known || grants(3)));
}

Status check_name(std::string_view name) {
  if (name.size() > kMaxName) return fail(Code::name_too_long);
  if (name.empty() || name == "." || name == "..") return fail(Code::invalid_argument);
  if (name.find('/') != name.npos || name.find('\0') != name.npos) return fail(Code::invalid_argument);
  return {};
}

}  // namespace efs
