// From an operation to an answer, under the apply lock.
#include <sys/stat.h>

#include <algorithm>

#include "peer/volume/sole_replica.h"
#include "peer/volume/state/view.h"

namespace efs {

namespace {
constexpr uint64_t kMaxNewInodes = 512;  // that one operation may make (MakeJunction: its path)
constexpr uint64_t kTerm = 1;

bool makes_inodes(const OperationBody& body) {
  const auto* rename = std::get_if<Rename>(&body);
  return std::holds_alternative<Create>(body) || std::holds_alternative<MakeJunction>(body) ||
         (rename && rename->whiteout);
}
bool may_unname(const OperationBody& body) {
  return std::holds_alternative<Unlink>(body) || std::holds_alternative<Rename>(body) ||
         std::holds_alternative<MakeJunction>(body);
}
// A junction, and what cannot be read, may be one.
bool may_be_directory(const RowsView& view, InodeNumber parent, const std::string& name) {
  const auto entry = view.entry(parent, name);
  return !entry || (*entry && ((*entry)->junction || S_ISDIR((*entry)->type)));
}
}  // namespace

// Who asks believes something of a name that another has just changed, and has not heard of it. Of what was
// moved or replaced its kernel takes what it believes: a directory that it thinks was removed answers nothing
// any more, wherever it is. After ESTALE it looks again, and asks again. A file that it thinks it has
// replaced it takes for nothing but that name's, so two that replace one file all the time need not look.
bool SoleReplica::asked_in_error(const Operation& operation) const {
  const auto* unlink = std::get_if<Unlink>(&operation.body);
  const auto* rename = std::get_if<Rename>(&operation.body);
  const auto may_err = [&](InodeNumber parent, const std::string& name) {
    return leases_->may_err(operation.session, parent, name);
  };
  const auto replaces_in_error = [&] {
    if (!may_err(rename->new_parent, rename->new_name)) return false;
    const auto rows = rows_->read();
    const RowsView view(*rows);
    return rename->exchange || may_be_directory(view, rename->parent, rename->name) ||
           may_be_directory(view, rename->new_parent, rename->new_name);
  };
  const bool errs = (unlink != nullptr && unlink->directory && may_err(unlink->parent, unlink->name)) ||
                    (rename != nullptr && (may_err(rename->parent, rename->name) || replaces_in_error()));
  return errs && !was_made(operation);
}

// Who takes a name away has said before whether it has open what it believes to be there. Others have just
// put something else there: that it may have opened without saying so.
bool SoleReplica::believes_another(const Operation& operation) const {
  if (const auto* unlink = std::get_if<Unlink>(&operation.body))
    return leases_->may_err(operation.session, unlink->parent, unlink->name);
  const auto* rename = std::get_if<Rename>(&operation.body);
  return rename != nullptr && leases_->may_err(operation.session, rename->new_parent, rename->new_name);
}

// It is then only to be answered again.
bool SoleReplica::was_made(const SessionId& session, uint64_t sequence) const {
  if (sequence == 0) return false;
  const auto before = rows_->read()->get(kSessions, session_key(session, sequence));
  return before && *before;
}
bool SoleReplica::was_made(const Operation& operation) const {
  return was_made(operation.session, operation.sequence);
}

// What it is answered without being applied.
std::optional<Reply> SoleReplica::refused(const Operation& operation, const Request& request) {
  if (operation.sequence != 0) {
    std::lock_guard lock(open_mutex_);
    if (!knows(operation.session)) return error_reply(Code::expired);
    if (const Reply* before = open_.failure(operation.session, operation.sequence)) return *before;
  }
  if (Reply raised = raise_level(operation.body); raised.code != Code::ok) return raised;
  if (request.leases && asked_in_error(operation)) return error_reply(Code::stale);
  if (overtaken(request) && !was_made(operation))
    return error_reply(Code::io, "others have changed this file while its mount was cut off");
  return std::nullopt;
}

Reply SoleReplica::propose(Operation operation, const PackedBytes& packed, const Request& request,
                           Changes& changes) {
  if (auto answer = refused(operation, request)) return std::move(*answer);
  // What loses its last name stays for those who hold it, or may open it without asking. No open and no lease
  // of it may come between the look and the commit.
  Result<std::optional<InodeNumber>> victim = std::nullopt;
  if (may_unname(operation.body)) victim = loses_last_name(*rows_->read(), operation.body);
  if (!victim) return error_reply(std::move(victim.error()));
  const auto* create = std::get_if<Create>(&operation.body);
  const bool opens = create && create->open;
  std::vector<SessionId> expected;
  std::unique_lock<std::mutex> open_lock;
  if (*victim || opens) open_lock = std::unique_lock(open_mutex_);
  if (*victim) {
    operation.holders = open_.holders(**victim);
    changes.unlinked = **victim;
    bool unsaid = false;
    for (const SessionId& session : leases_->begin_unnaming(**victim)) {
      if (open_.holds(session, **victim)) continue;
      if (session == operation.session) {
        unsaid = true;
        continue;
      }
      changes.presumed.push_back(session);
      operation.holders.push_back(session);
    }
    expected = add_expected(operation);
    if (unsaid && believes_another(operation) && !was_made(operation)) {
      leases_->end_unnaming();
      return error_reply(Code::stale);
    }
  }
  Effects effects;
  Reply reply = log_and_apply(operation, effects, packed);
  if (*victim) leases_->end_unnaming();
  const bool made = reply.code == Code::ok && !effects.repeated;
  if (made) {
    for (const SessionId& session : expected) unclaimed_.emplace_back(session, **victim);
  }
  if (const auto* set = std::get_if<SetPolicy>(&operation.body); set && made)
    compression_ = set->policy.compression;
  if (reply.code == Code::ok && opens && !open_.open(operation.session, reply.attributes.inode))
    return error_reply(Code::overloaded);
  if (open_lock) open_lock.unlock();
  if (reply.code == Code::ok) {
    if (!effects.repeated) note_fragments(operation.body, reply);
    changes.repeated = effects.repeated;
    for (auto& one : effects.changes)
      changes.rows.push_back({one.inode, one.content, one.parent, std::move(one.name)});
    leases_->overtake(operation.session, changes.rows, sets_attributes(operation.body));
    if (!leases_->alone(operation.session))
      changes.news = leases_->begin_news(operation.session, changes.rows);
    if (*victim && made && operation.holders.empty())
      leases_->drop(operation.session, {**victim}, UINT64_MAX);
    if (request.leases) grant(request, reply);  // nothing can change before it is
  }
  if (reply.code != Code::ok && operation.sequence != 0) {
    std::lock_guard lock(open_mutex_);
    open_.remember_failure(operation.session, operation.sequence, operation.acknowledged, reply);
  }
  return reply;
}

// After a restart it is not known what those have open that have not come back yet. With open_mutex_ held.
std::vector<SessionId> SoleReplica::add_expected(Operation& operation) {
  std::vector<SessionId> added;
  const int64_t now_ns = parts_.clock.now_ns();
  if (now_ns >= unclaimed_until_ns_) return added;
  auto& holders = operation.holders;
  for (const SessionId& session : open_.expected(now_ns)) {
    if (session == operation.session || std::find(holders.begin(), holders.end(), session) != holders.end())
      continue;
    holders.push_back(session);
    added.push_back(session);
  }
  return added;
}

// Every owner knows the level of this operation: there is one.
Reply SoleReplica::raise_level(const OperationBody& body) {
  const uint32_t level = level_of(body);
  if (level <= charter_.format_level) return {};
  Reply raised = propose_house(RaiseLevel{level});
  if (raised.code == Code::ok) charter_.format_level = level;
  return raised;
}

Reply SoleReplica::propose_house(OperationBody body, const SessionId& session) {
  if (Reply raised = raise_level(body); raised.code != Code::ok) return raised;
  Operation operation;
  operation.session = session;
  operation.body = std::move(body);
  Effects effects;
  return log_and_apply(operation, effects, {});
}

Reply SoleReplica::log_and_apply(Operation& operation, Effects& effects, const PackedBytes& packed) {
  if (failed_.load())
    return error_reply(Code::io, "the volume takes no changes since a disk failed; restart the peer");
  auto transaction = rows_->begin();
  if (makes_inodes(operation.body)) {
    auto state = read_state(*transaction);
    if (!state) return error_reply(std::move(state.error()));
    if (state->next_inode + kMaxNewInodes > reserved_durably_) {
      transaction.reset();
      if (auto status = reserve(state->reserved_inodes + kInodeBlock); !status)
        return error_reply(std::move(status.error()));
      transaction = rows_->begin();
    }
  }
  const uint64_t index = rows_->applied_index() + 1;
  operation.time_ns = std::max(parts_.clock.wall_ns(), last_time_ns_);
  operation.durable_index = durable_index_.load();
  operation.overtaken =
      leases_->late_ones(operation.session, subject_of(operation.body), sets_attributes(operation.body));
  if (!run_noted_) operation.run_ns = opened_time_ns_;
  Reply reply = apply(*transaction, {index, operation.time_ns}, operation, effects);
  if (reply.code != Code::ok || effects.repeated) return reply;
  if (auto status = store_bytes(effects, packed, Durability::by_log); !status)
    return refuse(effects, status.error());
  const Bytes record = encode_operation(operation);
  if (auto status = parts_.log->append({charter_.number, kTerm, index, record}); !status) {
    if (status.error().code == Code::no_space) return refuse(effects, status.error());
    return fail_for_good(status.error(), "the log could not be written");
  }
  logged_since_measured_ += record.size();
  transaction->commit(index);
  run_noted_ = true;
  last_time_ns_ = operation.time_ns;
  free_chunks(effects, index);
  return reply;
}

// What was stored for it is named by nothing.
Reply SoleReplica::refuse(const Effects& effects, const Error& error) {
  if (!effects.store.empty()) {
    std::lock_guard lock(pin_mutex_);
    for (const auto& chunk : effects.store) condemn_unknown(chunk.chunk);
  }
  return error_reply(error);
}

// Numbers that may be given must be durable first: after power loss none is given twice.
Status SoleReplica::reserve(InodeNumber until) {
  Reply reply = propose_house(ReserveInodes{until, false, 0});
  if (reply.code != Code::ok) return fail(reply.code, std::move(reply.message));
  EFS_TRY(sync());
  reserved_durably_ = until;
  return {};
}

// `packed`: what the operation carries, packed before the lock was taken. What the state machine put together
// itself is stored as it is.
Status SoleReplica::store_bytes(const Effects& effects, const PackedBytes& packed, Durability durability) {
  for (const auto& chunk : effects.store) {
    const ChunkContent content =
        chunk.as_sent ? ChunkContent(chunk.bytes, packed) : ChunkContent(chunk.bytes);
    EFS_TRY(parts_.chunks.put({charter_.number, chunk.chunk}, chunk.sha256, content, durability));
  }
  return {};
}

void SoleReplica::free_chunks(const Effects& effects, uint64_t index) {
  if (effects.freed.empty()) return;
  std::lock_guard lock(freed_mutex_);
  for (const Id& chunk : effects.freed) {
    parts_.chunks.condemn({charter_.number, chunk});
    freed_.emplace_back(index, ChunkKey{charter_.number, chunk});
  }
}

Reply SoleReplica::fail_for_good(const Error& error, std::string_view what) {
  if (!failed_.exchange(true)) {
    parts_.logger.error("volume {}: {}: {}. It takes no more changes; check the disk, then restart the peer",
                        charter_.number, what, to_text(error));
  }
  return error_reply(Code::io, std::string(what) + ": " + to_text(error));
}

}  // namespace efs
