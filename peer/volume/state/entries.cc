// Names: create, link, unlink, rename.
#include "peer/volume/state/change.h"

namespace efs {

namespace {
bool is_known_type(uint32_t type) {
  switch (type) {
    case 0100000:
    case 0040000:
    case 0120000:
    case 0010000:
    case 0140000:
    case 0020000:
    case 0060000:
      return true;
    default:
      return false;
  }
}
EntryRow entry_to(InodeNumber inode, uint32_t mode) {
  EntryRow entry;
  entry.inode = inode;
  entry.type = mode & kTypeBits;
  return entry;
}
}  // namespace

// Held by the session that made it until that closes it, or gives it a name.
Status OperationRun::make_unnamed(const Create& request, InodeNumber inode, InodeRow& row) {
  row.nlink = 0;
  row.holders = 1;
  if (!request.exclusive) row.rdev = InodeRow::kMayBeNamed;
  rows_.put(kOrphans, session_key(operation_.session, inode), "");
  reply_.created = true;
  reply_.attributes = attributes(inode);
  reply_.parent = attributes(request.parent);
  return {};
}

Status OperationRun::apply(const Create& request) {
  if (!request.unnamed) EFS_TRY(check_name(request.name));
  uint32_t mode = request.mode & (kTypeBits | 07777);
  if ((mode & kTypeBits) == 0) mode |= 0100000;
  const uint32_t type = mode & kTypeBits;
  if (!is_known_type(type)) return fail(Code::invalid_argument);
  EFS_ASSIGN(InodeRow * parent, directory(request.parent));
  EFS_TRY(may(request.parent, *parent, kExecute));
  if (request.unnamed && (type != 0100000 || !request.open)) return fail(Code::invalid_argument);
  std::optional<EntryRow> existing;
  if (!request.unnamed) {
    EFS_ASSIGN(existing, view_.entry(request.parent, request.name));
  }
  if (existing) {
    if (request.exclusive) return fail(Code::exists);
    // What else is there is for the kernel to open: it looks again.
    if (existing->type != 0100000) return fail(existing->type == 0040000 ? Code::is_directory : Code::stale);
    EFS_TRY(edit(existing->inode));
    reply_.attributes = attributes(existing->inode);
    reply_.parent = attributes(request.parent);
    return {};
  }
  EFS_TRY(may(request.parent, *parent, kWrite));
  const bool whiteout = type == 0020000 && request.rdev == 0;  // no device: anybody may
  if ((type == 0020000 || type == 0060000) && !whiteout && who_.uid != 0) return fail(Code::not_permitted);
  if (type == 0120000) {
    if (request.target.empty()) return fail(Code::not_found);
    if (request.target.size() > kMaxSymlink) return fail(Code::name_too_long);
    mode = type | 0777;
  }
  std::optional<Acl> acl;
  if (type != 0120000) {
    EFS_ASSIGN(acl, inherited_acl(request, *parent, mode));
  }
  // A directory with the set-group-id bit gives its group on; a new directory the bit, too.
  uint32_t gid = who_.gid;
  if (parent->mode & kSetGid) {
    gid = parent->gid;
    if (type == 0040000) {
      mode |= kSetGid;
    } else if ((mode & (kSetGid | kGroupExecute)) == (kSetGid | kGroupExecute) && who_.uid != 0 &&
               !in_group(who_, gid)) {
      if (!who_.groups_known) return fail(Code::not_permitted);
      mode &= ~kSetGid;
    }
  }
  EFS_ASSIGN(auto made, make_inode(mode, who_.uid, gid));
  auto [inode, row] = made;
  if (acl) EFS_TRY(inherit_acl(inode, *row, *acl));
  if (request.unnamed) return make_unnamed(request, inode, *row);
  row->parent = request.parent;
  if (type == 0020000 || type == 0060000) row->rdev = request.rdev;
  if (type == 0120000) {
    row->content = request.target;
    row->size = request.target.size();
  }
  if (type == 0040000) ++parent->nlink;
  add_entry(request.parent, *parent, request.name, entry_to(inode, mode));
  touch_content(*parent);
  reply_.created = true;
  reply_.attributes = attributes(inode);
  reply_.parent = attributes(request.parent);
  return {};
}

Status OperationRun::apply(const Link& request) {
  EFS_TRY(check_name(request.name));
  EFS_ASSIGN(InodeRow * row, edit(request.inode));
  if (row->is_directory()) return fail(Code::not_permitted);
  EFS_ASSIGN(InodeRow * parent, directory(request.parent));
  EFS_TRY(may(request.parent, *parent, kExecute));
  EFS_ASSIGN(auto existing, view_.entry(request.parent, request.name));
  if (existing) return fail(Code::exists);
  EFS_TRY(may(request.parent, *parent, kWrite));
  if (row->may_be_named()) {
    rows_.erase(kOrphans, session_key(operation_.session, request.inode));
    if (row->holders != 1) return fail(Code::corrupt, "a file without a name is held by several sessions");
    row->holders = row->rdev = 0;
  } else if (row->nlink == 0) {
    return fail(Code::not_found);
  }
  if (row->nlink >= kMaxLinks) return fail(Code::too_many_links);
  ++row->nlink;
  touch(*row);
  add_entry(request.parent, *parent, request.name, entry_to(request.inode, row->mode));
  touch_content(*parent);
  changed(request.inode, false);
  reply_.attributes = attributes(request.inode);
  reply_.parent = attributes(request.parent);
  return {};
}

Status OperationRun::apply(const Unlink& request) {
  EFS_TRY(check_name(request.name));
  EFS_ASSIGN(InodeRow * parent, directory(request.parent));
  EFS_TRY(may(request.parent, *parent, kExecute));
  EFS_ASSIGN(auto entry, view_.entry(request.parent, request.name));
  if (!entry) return fail(Code::not_found);
  EFS_TRY(may(request.parent, *parent, kWrite));
  if (entry->junction) return fail(request.directory ? Code::busy : Code::is_directory);
  EFS_ASSIGN(InodeRow * row, edit(entry->inode));
  EFS_TRY(may_remove(*parent, *row));
  if (request.directory) {
    if (!row->is_directory()) return fail(Code::not_directory);
    if (row->junctions > 0) return fail(Code::busy);
    EFS_ASSIGN(bool empty, view_.is_empty(entry->inode));
    if (!empty) return fail(Code::not_empty);
    --parent->nlink;
    row->nlink = 1;
  } else if (row->is_directory()) {
    return fail(Code::is_directory);
  }
  erase_entry(request.parent, request.name, *entry);
  touch_content(*parent);
  touch(*row);
  if (--row->nlink == 0) EFS_TRY(last_name_gone(entry->inode));
  changed(entry->inode, false);
  reply_.attributes = attributes(entry->inode);
  reply_.parent = attributes(request.parent);
  return {};
}

// renameat2(2), RENAME_WHITEOUT.
Status OperationRun::leave_whiteout(InodeNumber parent, InodeRow& row, std::string_view name) {
  EFS_ASSIGN(auto made, make_inode(0020000, who_.uid, (row.mode & kSetGid) ? row.gid : who_.gid));
  made.second->parent = parent;
  add_entry(parent, row, name, entry_to(made.first, 0020000));
  return {};
}

// rename(2). What is at the target goes in the same step; an exchange swaps where two names lead.
Status OperationRun::apply(const Rename& request) {
  EFS_TRY(check_name(request.name));
  EFS_TRY(check_name(request.new_name));
  if (request.exchange && (request.no_replace || request.whiteout)) return fail(Code::invalid_argument);
  EFS_ASSIGN(InodeRow * from, writable_directory(request.parent));
  EFS_ASSIGN(InodeRow * to, writable_directory(request.new_parent));
  EFS_ASSIGN(auto entry, view_.entry(request.parent, request.name));
  if (!entry) return fail(Code::not_found);
  EFS_ASSIGN(auto target, view_.entry(request.new_parent, request.new_name));
  if (target && request.no_replace) return fail(Code::exists);
  if (!target && request.exchange) return fail(Code::not_found);
  if (entry->junction || (target && target->junction)) return fail(Code::busy);
  EFS_ASSIGN(InodeRow * row, edit(entry->inode));
  const bool moves_directory = row->is_directory();
  const bool other_parent = request.parent != request.new_parent;
  auto answer = [&] {
    reply_.attributes = attributes(entry->inode);
    reply_.parent = attributes(request.new_parent);
  };
  if (target && target->inode == entry->inode) {
    answer();
    return {};
  }
  EFS_TRY(may_remove(*from, *row));
  if (moves_directory) {
    if (row->junctions > 0) return fail(Code::busy);
    EFS_ASSIGN(bool into_itself, view_.is_below(request.new_parent, entry->inode));
    if (into_itself) return fail(Code::invalid_argument);
    if (other_parent) EFS_TRY(may(entry->inode, *row, kWrite));
  }
  InodeRow* replaced = nullptr;
  if (target) {
    EFS_ASSIGN(replaced, edit(target->inode));
    EFS_TRY(may_remove(*to, *replaced));
    if (replaced->is_directory() && replaced->junctions > 0) return fail(Code::busy);
  }
  const bool replaces_directory = replaced && replaced->is_directory();
  touch_content(*from);
  if (other_parent) touch_content(*to);
  touch(*row);

  if (request.exchange) {
    if (replaces_directory) {
      EFS_ASSIGN(bool into_itself, view_.is_below(request.parent, target->inode));
      if (into_itself) return fail(Code::invalid_argument);
      if (other_parent) EFS_TRY(may(target->inode, *replaced, kWrite));
      replaced->parent = request.parent;
      ++from->nlink, --to->nlink;
    }
    if (moves_directory) {
      row->parent = request.new_parent;
      --from->nlink, ++to->nlink;
    }
    touch(*replaced);
    replace_entry(request.parent, request.name, *entry, entry_to(target->inode, replaced->mode));
    replace_entry(request.new_parent, request.new_name, *target, entry_to(entry->inode, row->mode));
    reply_.replaced = attributes(target->inode);
    answer();
    return {};
  }

  if (replaced) {
    if (moves_directory && !replaces_directory) return fail(Code::not_directory);
    if (!moves_directory && replaces_directory) return fail(Code::is_directory);
    if (replaces_directory) {
      EFS_ASSIGN(bool empty, view_.is_empty(target->inode));
      if (!empty) return fail(Code::not_empty);
      --to->nlink;
      replaced->nlink = 1;
    }
  }
  erase_entry(request.parent, request.name, *entry);
  if (moves_directory) {
    row->parent = request.new_parent;
    --from->nlink, ++to->nlink;
  }
  if (replaced) {
    replace_entry(request.new_parent, request.new_name, *target, entry_to(entry->inode, row->mode));
    touch(*replaced);
    changed(target->inode, false);
    if (--replaced->nlink == 0) EFS_TRY(last_name_gone(target->inode));
    reply_.replaced = attributes(target->inode);
  } else {
    add_entry(request.new_parent, *to, request.new_name, entry_to(entry->inode, row->mode));
  }
  if (request.whiteout) EFS_TRY(leave_whiteout(request.parent, *from, request.name));
  changed(entry->inode, false);
  answer();
  return {};
}

Result<std::optional<InodeNumber>> loses_last_name(const ReadRows& rows, const OperationBody& body) {
  RowsView view(rows);
  InodeNumber parent = 0;
  std::string_view name;
  if (const auto* unlink = std::get_if<Unlink>(&body)) {
    parent = unlink->parent;
    name = unlink->name;
  } else if (const auto* rename = std::get_if<Rename>(&body); rename && !rename->exchange) {
    parent = rename->new_parent;
    name = rename->new_name;
  } else if (const auto* junction = std::get_if<MakeJunction>(&body)) {
    parent = kRootInode;
    for (size_t i = 0; i + 1 < junction->path.size(); ++i) {
      EFS_ASSIGN(auto entry, view.entry(parent, junction->path[i]));
      if (!entry || entry->junction) return std::nullopt;
      parent = entry->inode;
    }
    if (!junction->path.empty()) name = junction->path.back();
  } else {
    return std::nullopt;
  }
  EFS_ASSIGN(auto entry, view.entry(parent, name));
  if (!entry || entry->junction) return std::nullopt;
  EFS_ASSIGN(auto row, view.find_inode(entry->inode));
  if (!row || (!row->is_directory() && row->nlink > 1)) return std::nullopt;
  return std::optional(entry->inode);
}

}  // namespace efs
