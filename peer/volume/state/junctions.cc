// Volumes below this one, and the register that the root volume keeps.
#include "peer/volume/state/change.h"

namespace efs {

namespace {
constexpr size_t kMaxPathDepth = 256;
constexpr size_t kMaxRegisterEntry = 1 << 20;
}  // namespace

// Walks and makes the directories on the way; what becomes a junction must be absent or an empty directory.
Status OperationRun::apply(const MakeJunction& request) {
  if (who_.uid != 0) return fail(Code::not_permitted);
  if (request.path.empty() || request.path.size() > kMaxPathDepth) return fail(Code::invalid_argument);
  for (const auto& name : request.path) EFS_TRY(check_name(name));
  InodeNumber at = kRootInode;
  reply_.parents = {at};
  for (size_t i = 0; i + 1 < request.path.size(); ++i) {
    EFS_ASSIGN(InodeRow * parent, directory(at));
    EFS_ASSIGN(auto entry, view_.entry(at, request.path[i]));
    if (entry && entry->junction) return fail(Code::cross_volume);
    if (!entry) {
      EFS_ASSIGN(auto made, make_inode(0040755, 0, 0));
      made.second->parent = at;
      EntryRow leads;
      leads.inode = made.first;
      leads.type = 0040000;
      ++parent->nlink;
      add_entry(at, *parent, request.path[i], leads);
      touch_content(*parent);
      at = made.first;
    } else {
      at = entry->inode;
    }
    reply_.parents.push_back(at);
  }
  EFS_ASSIGN(InodeRow * parent, directory(at));
  const std::string& name = request.path.back();
  EFS_ASSIGN(auto existing, view_.entry(at, name));
  if (existing && existing->junction) {
    if (existing->junction->volume == request.junction.volume) return {};
    return fail(Code::exists);
  }
  EntryRow junction;
  junction.type = 0040000;
  junction.junction = request.junction;
  if (existing) {
    EFS_ASSIGN(InodeRow * row, edit(existing->inode));
    if (!row->is_directory()) return fail(Code::exists);
    EFS_ASSIGN(bool empty, view_.is_empty(existing->inode));
    if (!empty) return fail(Code::not_empty);
    touch(*row);
    replace_entry(at, name, *existing, junction);
    EFS_TRY(last_name_gone(existing->inode));
  } else {
    ++parent->nlink;
    add_entry(at, *parent, name, junction);
  }
  touch_content(*parent);
  for (InodeNumber above : reply_.parents) {
    EFS_ASSIGN(InodeRow * row, edit(above));
    ++row->junctions;
  }
  return {};
}

Status OperationRun::apply(const RemoveJunction& request) {
  if (who_.uid != 0) return fail(Code::not_permitted);
  if (request.path.empty() || request.path.size() > kMaxPathDepth) return fail(Code::invalid_argument);
  InodeNumber at = kRootInode;
  reply_.parents = {at};
  for (size_t i = 0; i + 1 < request.path.size(); ++i) {
    EFS_ASSIGN(auto entry, view_.entry(at, request.path[i]));
    if (!entry || entry->junction) return fail(Code::not_found);
    at = entry->inode;
    reply_.parents.push_back(at);
  }
  EFS_ASSIGN(InodeRow * parent, directory(at));
  EFS_ASSIGN(auto entry, view_.entry(at, request.path.back()));
  if (!entry || !entry->junction || entry->junction->volume != request.volume) return fail(Code::not_found);
  erase_entry(at, request.path.back(), *entry);
  --parent->nlink;
  touch_content(*parent);
  for (InodeNumber above : reply_.parents) {
    EFS_ASSIGN(InodeRow * row, edit(above));
    --row->junctions;
  }
  return {};
}

Status OperationRun::apply(const AppendRegister& request) {
  EFS_ASSIGN(const VolumeCharter* volume, charter());
  if (who_.uid != 0) return fail(Code::not_permitted);
  if (volume->number != kRootVolume)
    return fail(Code::unsupported, "only the root volume keeps the register");
  if (request.entry.empty() || request.entry.size() > kMaxRegisterEntry) return fail(Code::invalid_argument);
  if (request.index != state_.register_entries) return fail(Code::conflict);
  rows_.put(kRegister, number_key(request.index), text(request.entry));
  ++state_.register_entries;
  return {};
}

}  // namespace efs
