#include "peer/junctions.h"

#include "peer/volume/state/view.h"

namespace efs {

namespace {
constexpr size_t kMaxFound = 4096;  // more are found the next time

Status walk(const ReadRows& rows, InodeNumber directory, std::vector<std::string>& path,
            std::vector<FoundJunction>& found) {
  const std::string prefix = number_key(directory);
  std::vector<std::pair<std::string, InodeNumber>> below;
  Status status;
  EFS_TRY(rows.scan(kEntries, prefix, [&](std::string_view key, std::string_view value) {
    if (!key.starts_with(prefix) || found.size() >= kMaxFound) return false;
    auto entry = EntryRow::decode(value);
    if (!entry) {
      status = fail(entry.error());
      return false;
    }
    std::string name(key.substr(prefix.size()));
    if (entry->junction) {
      found.push_back({path, entry->junction->volume});
      found.back().path.push_back(std::move(name));
    } else if ((entry->type & kTypeBits) == 0040000) {
      below.emplace_back(std::move(name), entry->inode);
    }
    return true;
  }));
  EFS_TRY(status);
  for (auto& [name, inode] : below) {
    EFS_ASSIGN(const InodeRow row, RowsView(rows).inode(inode));
    if (row.junctions == 0) continue;
    path.push_back(std::move(name));
    EFS_TRY(walk(rows, inode, path, found));
    path.pop_back();
  }
  return {};
}
}  // namespace

Result<uint64_t> count_junctions(const ReadRows& rows) {
  EFS_ASSIGN(const InodeRow root, RowsView(rows).inode(kRootInode));
  return root.junctions;
}

Result<std::vector<FoundJunction>> find_junctions(const ReadRows& rows) {
  std::vector<FoundJunction> found;
  std::vector<std::string> path;
  EFS_TRY(walk(rows, kRootInode, path, found));
  return found;
}

}  // namespace efs
