// Rows of a volume as values: what reads and changes share. No state but the rows; any thread with them.
#pragma once

#include "peer/volume/state/acl.h"
#include "peer/volume/state/operation.h"

namespace efs {

inline constexpr uint32_t kRead = 4, kWrite = 2, kExecute = 1;  // as access(2)

class RowsView {
 public:
  explicit RowsView(const ReadRows& rows) : rows_(rows) {}

  // Code::stale when it is gone: a number is never given again.
  Result<InodeRow> inode(InodeNumber inode) const;
  Result<std::optional<InodeRow>> find_inode(InodeNumber inode) const;
  Result<std::optional<EntryRow>> entry(InodeNumber parent, std::string_view name) const;
  Result<bool> is_empty(InodeNumber directory) const;
  // Extents of `inode` that end after `offset`, in order, until `visit` returns false.
  Status extents(InodeNumber inode, uint64_t offset,
                 const std::function<bool(const ExtentRow&)>& visit) const;
  // Whether `inode` is `directory` or stands below it.
  Result<bool> is_below(InodeNumber inode, InodeNumber directory) const;
  // Nothing when it has none of this name (kAccessAcl, kDefaultAcl).
  Result<std::optional<Acl>> acl(InodeNumber inode, const InodeRow& row, std::string_view name) const;
  // Code::access_denied unless `who` may, as path_resolution(7) and acl(5): owner, group, other, or what the
  // ACL says; uid 0 may all, but execute only what has an x bit. As long as the groups of `who` are not
  // known, only what holds whichever they are.
  Status may(InodeNumber inode, const InodeRow& row, const Credentials& who, uint32_t want) const;
  const ReadRows& rows() const { return rows_; }

 private:
  const ReadRows& rows_;
};

inline bool owns(const InodeRow& row, const Credentials& who) {
  return who.uid == 0 || who.uid == row.uid;
}
// Code::name_too_long, invalid_argument (empty, "/", NUL, "." and "..").
Status check_name(std::string_view name);

}  // namespace efs
