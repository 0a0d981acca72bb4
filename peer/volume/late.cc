// What a mount sends late: its program was told before that it is done. It is refused where others have
// changed the same since.
//
// Within a run of the owner Leases knows that. For the next run the rows do: what others overtake of who may
// send late is written in one operation with their change (Operation::overtaken), and loaded when it begins.
// A session that returns to a new run says which one it knew; a file whose ctime is of a later one was
// changed by others.
#include <algorithm>

#include "peer/volume/sole_replica.h"
#include "peer/volume/state/view.h"

namespace efs {

namespace {
constexpr int64_t kLateKept = 24 * kHour;  // of a session that has ended
}

// Others have changed it since the program was told that this was done.
bool SoleReplica::overtaken(const Request& request) const {
  if (!request.late) return false;
  using Part = Leases::Part;
  const auto since = [&](InodeNumber inode, Part part) {
    return leases_->overtaken(request.session, inode, part);
  };
  if (const auto* write = std::get_if<Write>(&request.body))
    return since(write->inode, Part::bytes) || (write->attributes && since(write->inode, Part::attributes));
  if (const auto* write = std::get_if<WriteScattered>(&request.body)) return since(write->inode, Part::bytes);
  if (const auto* set = std::get_if<SetAttributes>(&request.body))
    return since(set->inode, Part::bytes) || since(set->inode, Part::attributes);
  return false;
}

// When the first run began of which a session that returns has not heard: what was changed since was changed
// by others.
Result<int64_t> SoleReplica::next_run_ns(const std::optional<SessionMark>& known) const {
  if (!known) return opened_time_ns_;
  EFS_ASSIGN(const RunsRow runs, read_runs(*rows_->read()));
  const auto& all = runs.began_ns;
  if (all.size() >= kMaxRuns && known->owner_ns < all.front()) return known->owner_ns;  // too long ago
  const auto next = std::upper_bound(all.begin(), all.end(), known->owner_ns);
  return next == all.end() ? opened_time_ns_ : *next;
}

// With apply_mutex_ held, so that nothing changes in between. What others have changed while the session was
// away is noted for the next run, too: the session may be told of this one, and not get to send what is late.
// Without `since_ns` it was marked before, and could not be noted.
Result<bool> SoleReplica::expect_late(const SessionId& session, const std::vector<InodeNumber>& inodes,
                                      std::optional<int64_t> since_ns) {
  OpenSession noted;
  auto rows = rows_->read();
  const RowsView view(*rows);
  for (InodeNumber inode : inodes) {
    const auto row = view.inode(inode);
    if (!row) continue;
    const bool changed =
        since_ns ? row->ctime_ns >= *since_ns : leases_->overtaken(session, inode, Leases::Part::bytes);
    const bool kept = leases_->expect_late(session, inode, changed, changed);
    if (kept && changed) noted.overtaken.push_back(inode);
  }
  rows.reset();
  if (noted.overtaken.empty()) return false;
  Reply reply = propose_house(std::move(noted), session);
  if (reply.code != Code::ok) return fail(reply.code, std::move(reply.message));
  return true;
}

// Nothing comes late of these any more. What cannot be noted stays, here as in the rows.
void SoleReplica::forgive(const SessionId& session, std::vector<InodeNumber> inodes) {
  using Part = Leases::Part;
  std::erase_if(inodes, [&](InodeNumber inode) { return !leases_->expects_late(session, inode); });
  if (inodes.empty()) return;
  std::lock_guard lock(apply_mutex_);  // nobody overtakes them meanwhile
  OpenSession noted;
  std::copy_if(inodes.begin(), inodes.end(), std::back_inserter(noted.forgiven), [&](InodeNumber inode) {
    return leases_->overtaken(session, inode, Part::bytes) ||
           leases_->overtaken(session, inode, Part::attributes);
  });
  const bool has_rows = !noted.forgiven.empty() && !is_own_session(session);
  if (has_rows && propose_house(std::move(noted), session).code != Code::ok) return;
  for (InodeNumber inode : inodes) leases_->forgive(session, inode);
}

// Who was away for so long sends nothing any more.
void SoleReplica::forget_away() {
  if (away_.empty()) return;
  std::lock_guard lock(apply_mutex_);
  {
    std::lock_guard open_lock(open_mutex_);
    std::erase_if(away_, [&](const auto& one) { return open_.known(one.first); });
  }
  EndSessions end;
  const int64_t now_ns = parts_.clock.wall_ns();
  for (const auto& [session, since_ns] : away_) {
    if (now_ns - since_ns > kLateKept) end.sessions.push_back(session);
  }
  if (end.sessions.empty() || propose_house(end).code != Code::ok) return;
  for (const SessionId& session : end.sessions) {
    leases_->detach(session);
    away_.erase(session);
  }
}

}  // namespace efs
