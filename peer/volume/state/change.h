// One operation being applied: the inodes it has loaded, the volume's state row, and the helpers that the
// operations share. Internal to the state machine.
#pragma once

#include <deque>
#include <unordered_map>

#include "peer/volume/state/machine.h"
#include "peer/volume/state/view.h"

namespace efs {

class OperationRun {
 public:
  OperationRun(WriteRows& rows, const Stamp& stamp, const Operation& operation, Effects& effects)
      : rows_(rows),
        view_(rows),
        stamp_(stamp),
        operation_(operation),
        who_(operation.who),
        effects_(effects) {}

  Reply run();

 private:
  // entries.cc
  Status apply(const Create& request);
  Status apply(const Link& request);
  Status apply(const Unlink& request);
  Status apply(const Rename& request);
  // junctions.cc
  Status apply(const MakeJunction& request);
  Status apply(const RemoveJunction& request);
  Status apply(const AppendRegister& request);
  // attributes.cc
  Status apply(const SetAttributes& request);
  Status apply(const SetXattr& request);
  Status apply(const RemoveXattr& request);
  Status apply(const MarkAccess& request);
  // content.cc
  Status apply(const WriteExtents& request);
  Status apply(const ScatteredExtents& request);
  Status apply(const Allocate& request);
  // copy.cc
  Status apply(const CopyRange& request);
  // fragments.cc
  Status apply(const ReplaceExtents& request);
  // house.cc
  Status apply(const OpenSession& request);
  Status apply(const EndSessions& request);
  Status apply(const ReleaseOrphans& request);
  Status apply(const FreeChunks& request);
  Status apply(const ReclaimExtents& request);
  Status apply(const ReserveInodes& request);
  Status apply(const FormatVolume& request);
  Status apply(const RaiseLevel& request);
  Status apply(const SetPolicy& request);

  // change.cc: inodes
  Result<InodeRow*> edit(InodeNumber inode);       // Code::stale
  Result<InodeRow*> directory(InodeNumber inode);  // also not_directory; not_found when it was removed
  Result<InodeRow*> writable_directory(InodeNumber inode);  // also access_denied
  Result<std::pair<InodeNumber, InodeRow*>> make_inode(uint32_t mode, uint32_t uid, uint32_t gid);
  Attributes attributes(InodeNumber inode);  // of an inode that was edited
  void touch_content(InodeRow& row);         // mtime, ctime, change
  void touch(InodeRow& row);                 // ctime, change
  Status drop_inode(InodeNumber inode);      // it has no name and no holder left
  Status last_name_gone(InodeNumber inode);  // to its holders, or dropped

  // change.cc: entries. `parent` is the directory's row.
  void add_entry(InodeNumber parent, InodeRow& row, std::string_view name, EntryRow entry);
  void erase_entry(InodeNumber parent, std::string_view name, const EntryRow& entry);
  void replace_entry(InodeNumber parent, std::string_view name, const EntryRow& old, EntryRow entry);
  Status make_unnamed(const Create& request, InodeNumber inode, InodeRow& row);
  Status leave_whiteout(InodeNumber parent, InodeRow& row, std::string_view name);
  Status may_remove(const InodeRow& parent, const InodeRow& victim) const;  // the sticky bit

  // content.cc
  Status cut(InodeNumber inode, InodeRow& row, uint64_t start, uint64_t end);
  Status fill(InodeNumber inode, InodeRow& row, uint64_t start, uint64_t end);
  void put_extent(InodeNumber inode, InodeRow& row, const ExtentRow& extent);
  Status name_chunk(const Id& chunk, uint32_t length, uint64_t times);
  Status unname_chunk(const Id& chunk, uint64_t times);
  Result<Id> store_bytes(Bytes bytes, bool as_sent = true);
  Status copy_extents(const CopyRange& request, InodeRow& row, const InodeRow& from, uint64_t length);
  Status spill(InodeNumber inode, InodeRow& row);
  Status resize(InodeNumber inode, InodeRow& row, uint64_t size);
  Status write_access(InodeNumber inode, const InodeRow& row) const;
  Status drop_privileges(InodeNumber inode, InodeRow& row);
  void put_content(InodeRow& row, uint64_t offset, ByteView bytes);
  void punch_content(InodeRow& row, uint64_t from, uint64_t to);
  void written(InodeNumber inode, InodeRow& row, uint64_t end, int64_t mtime_ns);
  Result<uint64_t> free_extents(InodeNumber inode, uint64_t limit);

  // attributes.cc
  Status may_set(const SetAttributes& request, const InodeRow& row) const;
  bool only_clears_suid(const SetAttributes& request, const InodeRow& row) const;
  Status set_mode(InodeRow& row, uint32_t mode);
  Status may_set_xattr(InodeNumber inode, const InodeRow& row, std::string_view name) const;
  Status put_xattr(InodeNumber inode, InodeRow& row, std::string_view name, std::string_view value);
  Result<bool> erase_xattr(InodeNumber inode, InodeRow& row, std::string_view name);  // false: it had none

  // acl_changes.cc
  Status set_acl(InodeNumber inode, InodeRow& row, std::string_view name, const Bytes& value);
  Status acl_follows_mode(InodeNumber inode, InodeRow& row);
  Result<std::optional<Acl>> inherited_acl(const Create& request, const InodeRow& parent, uint32_t& mode);
  Status inherit_acl(InodeNumber inode, InodeRow& row, const Acl& acl);

  // house.cc
  Status drop_session(const SessionId& session);
  Status end_overtaken(const SessionId& session, bool forgive);
  Status release_orphan(const SessionId& session, InodeNumber inode);
  Status note_run();
  Status note_overtaken();

  // change.cc: the frame
  Status begin();
  Status check_level();
  Result<bool> answered_before();
  Status remember();
  void finish();
  Result<const VolumeCharter*> charter();
  void changed(InodeNumber inode, bool content) { effects_.changes.push_back({inode, content, 0, {}}); }
  void changed_entry(InodeNumber parent, std::string_view name, InodeNumber inode) {
    effects_.changes.push_back({inode, false, parent, std::string(name)});
  }
  // As RowsView::may, of whoever asks.
  Status may(InodeNumber inode, const InodeRow& row, uint32_t want) const {
    return view_.may(inode, row, who_, want);
  }
  bool is_house() const;  // an operation of the owner's own

  struct Loaded {
    InodeNumber inode;
    InodeRow row;
    bool gone = false;
  };
  Loaded* loaded(InodeNumber inode);  // nullptr: it was not edited yet

  WriteRows& rows_;
  RowsView view_;
  const Stamp& stamp_;
  const Operation& operation_;
  const Credentials& who_;
  Effects& effects_;
  StateRow state_;
  std::deque<Loaded> loaded_;
  std::unordered_map<InodeNumber, Loaded*> by_number_;  // of loaded_, once there are many
  std::optional<VolumeCharter> charter_;
  Reply reply_;
};

}  // namespace efs
