// What the owner itself asks: sessions, orphans, freeing, inode numbers, a new volume, its format level. And
// what its administrators ask: its policy.
#include <algorithm>

#include "peer/volume/state/change.h"

namespace efs {

// The owner has started anew, and this is the first change that it makes.
Status OperationRun::note_run() {
  if (operation_.run_ns == 0) return {};
  state_.run_ns = operation_.run_ns;
  EFS_ASSIGN(RunsRow runs, read_runs(rows_));
  runs.began_ns.push_back(operation_.run_ns);
  if (runs.began_ns.size() > kMaxRuns) runs.began_ns.erase(runs.began_ns.begin());
  rows_.put(kMeta, kRunsKey, text(encode(runs)));
  return {};
}

// In one operation with the change: neither is there without the other, whatever a power loss takes.
Status OperationRun::note_overtaken() {
  if (operation_.overtaken.empty()) return {};
  const InodeNumber inode = subject_of(operation_.body);
  const bool attributes = sets_attributes(operation_.body);
  const bool bytes = std::any_of(effects_.changes.begin(), effects_.changes.end(),
                                 [&](const auto& one) { return one.inode == inode && one.content; });
  if (!bytes && !attributes) return {};
  for (const SessionId& session : operation_.overtaken) {
    EFS_ASSIGN(OvertakenRow row, read_overtaken(rows_, session, inode));
    row.bytes |= bytes;
    row.attributes |= attributes;
    row.time_ns = stamp_.time_ns;
    rows_.put(kOvertaken, session_key(session, inode), text(encode(row)));
  }
  return {};
}

Status OperationRun::apply(const OpenSession& request) {
  const SessionId& session = operation_.session;
  EFS_ASSIGN(auto found, rows_.get(kSessions, session_key(session)));
  if (!found) {
    SessionRow row;
    row.since_ns = stamp_.time_ns;
    rows_.put(kSessions, session_key(session), text(encode(row)));
  }
  for (InodeNumber inode : request.overtaken)
    rows_.put(kOvertaken, session_key(session, inode),
              text(encode(OvertakenRow{true, true, stamp_.time_ns})));
  for (InodeNumber inode : request.forgiven) rows_.erase(kOvertaken, session_key(session, inode));
  return {};
}

Status OperationRun::release_orphan(const SessionId& session, InodeNumber inode) {
  const std::string key = session_key(session, inode);
  EFS_ASSIGN(auto found, rows_.get(kOrphans, key));
  if (!found) return {};
  rows_.erase(kOrphans, key);
  EFS_ASSIGN(InodeRow * row, edit(inode));
  if (row->holders > 0 && --row->holders == 0) return drop_inode(inode);
  return {};
}

Status OperationRun::drop_session(const SessionId& session) {
  std::vector<std::string> results;
  EFS_TRY(rows_.scan(kSessions, session_key(session), [&](std::string_view key, std::string_view) {
    if (!key.starts_with(text(session))) return false;
    results.emplace_back(key);
    return true;
  }));
  for (const auto& key : results) rows_.erase(kSessions, key);
  std::vector<InodeNumber> orphans;
  EFS_TRY(rows_.scan(kOrphans, session_key(session), [&](std::string_view key, std::string_view) {
    if (!key.starts_with(text(session))) return false;
    orphans.push_back(trailing_number(key));
    return true;
  }));
  for (InodeNumber inode : orphans) EFS_TRY(release_orphan(session, inode));
  return {};
}

Status OperationRun::end_overtaken(const SessionId& session, bool forgive) {
  std::vector<InodeNumber> inodes;
  EFS_TRY(rows_.scan(kOvertaken, session_key(session), [&](std::string_view key, std::string_view) {
    if (!key.starts_with(text(session))) return false;
    inodes.push_back(trailing_number(key));
    return true;
  }));
  for (InodeNumber inode : inodes) {
    EFS_ASSIGN(OvertakenRow row, read_overtaken(rows_, session, inode));
    row.time_ns = stamp_.time_ns;
    const std::string key = session_key(session, inode);
    forgive ? rows_.erase(kOvertaken, key) : rows_.put(kOvertaken, key, text(encode(row)));
  }
  return {};
}

Status OperationRun::apply(const EndSessions& request) {
  for (const SessionId& session : request.sessions) {
    EFS_TRY(drop_session(session));
    EFS_TRY(end_overtaken(session, !request.silent));
  }
  return {};
}

Status OperationRun::apply(const ReleaseOrphans& request) {
  for (InodeNumber inode : request.inodes) EFS_TRY(release_orphan(request.session, inode));
  return {};
}

Status OperationRun::apply(const FreeChunks& request) {
  for (const Id& chunk : request.chunks) {
    EFS_ASSIGN(auto found, rows_.get(kChunks, id_key(chunk)));
    if (!found) continue;
    EFS_ASSIGN(auto row, ChunkRow::decode(*found));
    if (row.references > 0) continue;
    rows_.erase(kChunks, id_key(chunk));
    rows_.erase(kDead, id_key(chunk));
    effects_.freed.push_back(chunk);
  }
  return {};
}

Status OperationRun::apply(const ReclaimExtents&) {
  std::optional<InodeNumber> inode;
  EFS_TRY(rows_.scan(kReclaim, "", [&](std::string_view key, std::string_view) {
    inode = leading_number(key);
    return false;
  }));
  if (!inode) return {};
  EFS_ASSIGN(uint64_t freed, free_extents(*inode, kExtentsPerStep));
  if (freed < kExtentsPerStep) rows_.erase(kReclaim, number_key(*inode));
  return {};
}

Status OperationRun::apply(const ReserveInodes& request) {
  if (request.until < state_.reserved_inodes) return fail(Code::invalid_argument);
  if (request.skip) {
    state_.next_inode = state_.reserved_inodes;
    rows_.put(kMeta, kVerifierKey, number_key(request.verifier));
  }
  state_.reserved_inodes = request.until;
  return {};
}

Status OperationRun::apply(const FormatVolume& request) {
  EFS_ASSIGN(auto existing, read_charter(rows_));
  if (existing) return fail(Code::exists);
  rows_.put(kMeta, kCharterKey, text(encode(request.charter)));
  rows_.put(kMeta, kVerifierKey, number_key(uint64_t(request.charter.created_ns) | 1));
  InodeRow root;
  root.mode = 0040000 | (request.mode & 07777);
  root.uid = request.uid;
  root.gid = request.gid;
  root.nlink = 2;
  root.parent = kRootInode;
  root.next_cookie = kFirstCookie;
  root.generation = root.change = 1;
  root.atime_ns = root.mtime_ns = root.ctime_ns = root.btime_ns = stamp_.time_ns;
  loaded_.push_back({kRootInode, root});
  state_ = {};
  state_.usage.files = 1;
  state_.reserved_inodes = state_.next_inode + kInodeBlock;
  return {};
}

Status OperationRun::apply(const RaiseLevel& request) {
  EFS_ASSIGN(const VolumeCharter* known, charter());
  if (request.level <= known->format_level || request.level > kFormatLevel)
    return fail(Code::invalid_argument);
  VolumeCharter raised = *known;
  raised.format_level = request.level;
  rows_.put(kMeta, kCharterKey, text(encode(raised)));
  return {};
}

Status OperationRun::apply(const SetPolicy& request) {
  if (who_.uid != 0) return fail(Code::not_permitted);
  if (name_of(request.policy.compression).empty()) return fail(Code::invalid_argument);
  rows_.put(kMeta, kPolicyKey, text(encode(request.policy)));
  return {};
}

}  // namespace efs
