#include "peer/volume/state/change.h"

#include <algorithm>

#include "peer/base/hash.h"

namespace efs {

namespace {
constexpr size_t kFewLoaded = 16;
}

Reply apply(WriteRows& rows, const Stamp& stamp, const Operation& operation, Effects& effects) {
  return OperationRun(rows, stamp, operation, effects).run();
}

Reply OperationRun::run() {
  auto step = [&]() -> Status {
    EFS_TRY(begin());
    EFS_ASSIGN(bool answered, answered_before());
    if (answered) return {};
    EFS_TRY(check_level());
    EFS_TRY(note_run());
    EFS_TRY(std::visit([&](const auto& body) { return apply(body); }, operation_.body));
    EFS_TRY(note_overtaken());
    finish();
    return remember();
  };
  if (auto status = step(); !status) return error_reply(std::move(status.error()));
  return std::move(reply_);
}

Status OperationRun::begin() {
  if (std::holds_alternative<FormatVolume>(operation_.body)) return {};
  EFS_ASSIGN(state_, read_state(rows_));
  return {};
}

Status OperationRun::check_level() {
  const uint32_t level = level_of(operation_.body);
  if (level == 1) return {};
  EFS_ASSIGN(const VolumeCharter* known, charter());
  if (level > known->format_level)
    return fail(Code::version, "the volume's format level is below that of the operation");
  return {};
}

bool OperationRun::is_house() const {
  return std::visit([](const auto& body) { return std::decay_t<decltype(body)>::kKind >= 64; },
                    operation_.body);
}

// A request of a session runs once: its result is kept under its sequence until it is acknowledged.
Result<bool> OperationRun::answered_before() {
  if (operation_.sequence == 0 || is_house()) return false;
  EFS_ASSIGN(auto found, rows_.get(kSessions, session_key(operation_.session)));
  if (!found) return fail(Code::expired);
  EFS_ASSIGN(auto session, decode<SessionRow>(view(*found)));
  if (operation_.sequence < session.acknowledged) return fail(Code::expired);
  EFS_ASSIGN(auto result, rows_.get(kSessions, session_key(operation_.session, operation_.sequence)));
  if (result) {
    EFS_ASSIGN(reply_, decode<Reply>(view(*result)));
    effects_.repeated = true;
    return true;
  }
  if (operation_.sequence > operation_.acknowledged + kMaxResultsPerSession) return fail(Code::overloaded);
  if (operation_.acknowledged > session.acknowledged) {
    std::vector<std::string> done;
    EFS_TRY(rows_.scan(kSessions, session_key(operation_.session, session.acknowledged),
                       [&](std::string_view key, std::string_view) {
                         if (key.size() != 24 || !key.starts_with(text(operation_.session)) ||
                             trailing_number(key) >= operation_.acknowledged)
                           return false;
                         done.emplace_back(key);
                         return true;
                       }));
    for (const auto& key : done) rows_.erase(kSessions, key);
    session.acknowledged = operation_.acknowledged;
    rows_.put(kSessions, session_key(operation_.session), text(encode(session)));
  }
  return false;
}

Status OperationRun::remember() {
  if (operation_.sequence == 0 || is_house()) return {};
  rows_.put(kSessions, session_key(operation_.session, operation_.sequence), text(encode(reply_)));
  return {};
}

void OperationRun::finish() {
  for (const Loaded& one : loaded_) {
    if (!one.gone) rows_.put(kInodes, number_key(one.inode), one.row.encode());
  }
  state_.index = stamp_.index;
  state_.time_ns = stamp_.time_ns;
  rows_.put(kMeta, kStateKey, state_.encode());
}

Result<const VolumeCharter*> OperationRun::charter() {
  if (!charter_) {
    EFS_ASSIGN(charter_, read_charter(rows_));
    if (!charter_) return fail(Code::corrupt, "the volume has no charter");
  }
  return &*charter_;
}

// ---- inodes ----

// All but what ends sessions edit a few.
OperationRun::Loaded* OperationRun::loaded(InodeNumber inode) {
  if (loaded_.size() <= kFewLoaded) {
    auto found = std::find_if(loaded_.begin(), loaded_.end(), [&](auto& one) { return one.inode == inode; });
    return found == loaded_.end() ? nullptr : &*found;
  }
  for (size_t i = by_number_.size(); i < loaded_.size(); ++i) by_number_[loaded_[i].inode] = &loaded_[i];
  auto found = by_number_.find(inode);
  return found == by_number_.end() ? nullptr : found->second;
}

Result<InodeRow*> OperationRun::edit(InodeNumber inode) {
  if (Loaded* one = loaded(inode)) {
    if (one->gone) return fail(Code::stale);
    return &one->row;
  }
  EFS_ASSIGN(auto row, view_.inode(inode));
  loaded_.push_back({inode, std::move(row)});
  return &loaded_.back().row;
}

Result<InodeRow*> OperationRun::directory(InodeNumber inode) {
  EFS_ASSIGN(InodeRow * row, edit(inode));
  if (!row->is_directory()) return fail(Code::not_directory);
  if (row->nlink == 0) return fail(Code::not_found);
  return row;
}

Result<InodeRow*> OperationRun::writable_directory(InodeNumber inode) {
  EFS_ASSIGN(InodeRow * row, directory(inode));
  EFS_TRY(may(inode, *row, kWrite | kExecute));
  return row;
}

Result<std::pair<InodeNumber, InodeRow*>> OperationRun::make_inode(uint32_t mode, uint32_t uid,
                                                                   uint32_t gid) {
  if (state_.next_inode >= state_.reserved_inodes) return fail(Code::overloaded);
  if (state_.next_inode >> kInodeBits != 0)
    return fail(Code::no_space, "the volume has given all its inode numbers");
  const InodeNumber inode = state_.next_inode++;
  InodeRow row;
  row.mode = mode;
  row.uid = uid;
  row.gid = gid;
  row.nlink = row.is_directory() ? 2 : 1;
  row.atime_ns = row.mtime_ns = row.ctime_ns = row.btime_ns = stamp_.time_ns;
  row.generation = 1;
  row.change = 1;
  if (row.is_directory()) row.next_cookie = kFirstCookie;
  ++state_.usage.files;
  loaded_.push_back({inode, std::move(row)});
  return std::pair(inode, &loaded_.back().row);
}

Attributes OperationRun::attributes(InodeNumber inode) {
  const Loaded* one = loaded(inode);
  return one ? attributes_of(inode, one->row) : Attributes{};
}

void OperationRun::touch_content(InodeRow& row) {
  row.mtime_ns = row.ctime_ns = stamp_.time_ns;
  ++row.change;
}

void OperationRun::touch(InodeRow& row) {
  row.ctime_ns = stamp_.time_ns;
  ++row.change;
}

Status OperationRun::drop_inode(InodeNumber inode) {
  Loaded* const one = loaded(inode);
  if (one == nullptr || one->gone) return fail(Code::stale);
  std::vector<std::string> names;
  if (one->row.xattr_bytes > 0) {
    EFS_TRY(rows_.scan(kXattrs, number_key(inode), [&](std::string_view key, std::string_view) {
      if (leading_number(key) != inode) return false;
      names.emplace_back(key);
      return true;
    }));
  }
  for (const auto& key : names) rows_.erase(kXattrs, key);
  --state_.usage.files;
  state_.usage.bytes -= one->row.covered;
  if (one->row.has_extents()) {
    EFS_ASSIGN(uint64_t freed, free_extents(inode, kExtentsPerStep));
    if (freed == kExtentsPerStep) rows_.put(kReclaim, number_key(inode), "");
  }
  rows_.erase(kInodes, number_key(inode));
  one->gone = true;
  return {};
}

Status OperationRun::last_name_gone(InodeNumber inode) {
  EFS_ASSIGN(InodeRow * row, edit(inode));
  row->nlink = 0;
  if (operation_.holders.empty()) return drop_inode(inode);
  row->holders = uint32_t(operation_.holders.size());
  for (const SessionId& session : operation_.holders) rows_.put(kOrphans, session_key(session, inode), "");
  return {};
}

// ---- entries ----

void OperationRun::add_entry(InodeNumber parent, InodeRow& row, std::string_view name, EntryRow entry) {
  entry.cookie = row.next_cookie++;
  entry.name.clear();
  rows_.put(kEntries, name_key(parent, name), entry.encode());
  entry.name = name;
  rows_.put(kCookies, pair_key(parent, entry.cookie), entry.encode());
  changed_entry(parent, name, 0);
}

void OperationRun::erase_entry(InodeNumber parent, std::string_view name, const EntryRow& entry) {
  rows_.erase(kEntries, name_key(parent, name));
  rows_.erase(kCookies, pair_key(parent, entry.cookie));
  changed_entry(parent, name, entry.inode);
}

// The name keeps its place in the directory and leads elsewhere.
void OperationRun::replace_entry(InodeNumber parent, std::string_view name, const EntryRow& old,
                                 EntryRow entry) {
  entry.cookie = old.cookie;
  entry.name.clear();
  rows_.put(kEntries, name_key(parent, name), entry.encode());
  entry.name = name;
  rows_.put(kCookies, pair_key(parent, entry.cookie), entry.encode());
  changed_entry(parent, name, old.inode);
}

Status OperationRun::may_remove(const InodeRow& parent, const InodeRow& victim) const {
  if ((parent.mode & 01000) == 0 || owns(parent, who_) || owns(victim, who_)) return {};
  return fail(Code::not_permitted);
}

}  // namespace efs
