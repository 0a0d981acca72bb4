// From what is on the disks to a volume that serves: the rows of the last checkpoint, then the log.
//
// 1. Operations after the checkpoint are applied again; bytes that they carry go to the chunk store again.
// 2. One that names chunks which are not there was not durable (chunks are synced before the log): the
//    volume ends before it. Below what a later record knew to be durable that is damage instead: it is
//    applied, reported, and reading that file says so. So is one whose chunks cannot be looked for: a store
//    that is not mounted, a disk that does not read.
// 3. After an unclean stop: a new verifier, fresh inode numbers, a sweep for chunks of lost operations.
// 4. This process's own open files are gone with it; other sessions get a grace to come back.
#include <map>

#include "peer/volume/sole_replica.h"
#include "peer/volume/state/view.h"

namespace efs {

Status SoleReplica::format(MetaStore& rows, const VolumeCharter& charter, const RootAttributes& root) {
  Operation operation;
  operation.time_ns = charter.created_ns;
  operation.body = FormatVolume{charter, root.mode, root.uid, root.gid};
  auto transaction = rows.begin();
  Effects effects;
  Reply reply = apply(*transaction, {1, charter.created_ns}, operation, effects);
  if (reply.code != Code::ok) return fail(reply.code, std::move(reply.message));
  transaction->commit(1);
  return rows.checkpoint();
}

Result<std::unique_ptr<SoleReplica>> SoleReplica::open(const ReplicaParts& parts,
                                                       std::unique_ptr<MetaStore> rows,
                                                       std::vector<LoggedOperation> log) {
  std::unique_ptr<SoleReplica> replica(new SoleReplica(parts, std::move(rows)));
  EFS_TRY(replica->recover(std::move(log)));
  return replica;
}

Status SoleReplica::recover(std::vector<LoggedOperation> log) {
  EFS_ASSIGN(auto charter, read_charter(*rows_->read()));
  if (!charter) return fail(Code::corrupt, "the volume's rows hold no charter");
  if (charter->format_level > kFormatLevel)
    return fail(Code::version, "volume " + to_hex(charter->id) + " has format level " +
                                   std::to_string(charter->format_level) +
                                   ", written by a newer efs-peer: upgrade this one");
  charter_ = *charter;
  last_checkpoint_ns_ = parts_.clock.now_ns();

  const uint64_t checkpointed = rows_->checkpointed_index();
  std::erase_if(log, [&](const LoggedOperation& one) { return one.index <= checkpointed; });
  std::vector<Operation> operations;
  uint64_t durable = checkpointed;
  for (const LoggedOperation& one : log) {
    if (one.index != checkpointed + operations.size() + 1)
      return fail(Code::corrupt, "the log of volume " + std::to_string(charter_.number) +
                                     " has a gap before operation " + std::to_string(one.index));
    auto operation = decode_operation(one.payload);
    if (!operation)
      return fail(operation.error().code, "volume " + std::to_string(charter_.number) + ", operation " +
                                              std::to_string(one.index) + ": " + operation.error().message);
    durable = std::max(durable, operation->durable_index);
    operations.push_back(std::move(*operation));
  }
  uint64_t index = checkpointed;
  for (const Operation& operation : operations) {
    ++index;
    if (auto there = chunks_are_there(operation); !there) {
      const Code code = there.error().code;
      if (index > durable && (code == Code::not_found || code == Code::corrupt)) {
        parts_.logger.warning("volume {}: {} operations from the end were not durable and are gone",
                              charter_.number, checkpointed + operations.size() - index + 1);
        break;
      }
      parts_.logger.error("volume {}: the bytes of operation {} are not to be read: {}", charter_.number,
                          index, to_text(there.error()));
    }
    EFS_TRY(replay(operation, index));
    if (rows_->dirty_bytes() > kMaxDirtyBytes)
      EFS_TRY(rows_->checkpoint([&] { return parts_.chunks.checkpoint_sync(); }));
  }
  recovered_index_ = rows_->applied_index();
  // Named again by a later operation: not freed after all.
  auto rows = rows_->read();
  EFS_ASSIGN(charter, read_charter(*rows));
  charter_.format_level = charter->format_level;
  EFS_ASSIGN(const auto policy, read_policy(*rows));
  compression_ = policy.compression;
  for (const auto& [at, key] : freed_) {
    EFS_ASSIGN(auto row, rows->get(kChunks, id_key(key.chunk)));
    if (!row) parts_.chunks.condemn(key);
  }
  EFS_ASSIGN(auto state, read_state(*rows));
  last_time_ns_ = state.time_ns;
  search_.begin_at(parts_.random.u64() % state.next_inode);
  reserved_durably_ = state.reserved_inodes;
  EFS_ASSIGN(auto verifier, rows->get(kMeta, kVerifierKey));
  if (verifier) verifier_ = leading_number(*verifier);
  rows.reset();
  EFS_TRY(load_sessions());
  if (parts_.log->unclean_start()) EFS_TRY(after_unclean_stop());
  return {};
}

Status SoleReplica::replay(const Operation& operation, uint64_t index) {
  auto transaction = rows_->begin();
  Effects effects;
  Reply reply = apply(*transaction, {index, operation.time_ns}, operation, effects);
  if (reply.code != Code::ok || effects.repeated)
    return fail(Code::corrupt, "operation " + std::to_string(index) + " of volume " +
                                   std::to_string(charter_.number) + " was answered once and fails now (" +
                                   std::string(name_of(reply.code)) + "): its rows or its log are damaged");
  EFS_TRY(store_bytes(effects, {}, Durability::again));
  transaction->commit(index);
  for (const Id& chunk : effects.freed) freed_.emplace_back(index, ChunkKey{charter_.number, chunk});
  return {};
}

// Code::not_found, Code::corrupt: they did not get to the disk whole.
Status SoleReplica::chunks_are_there(const Operation& operation) const {
  std::vector<ChunkReference> chunks;
  if (const auto* write = std::get_if<WriteExtents>(&operation.body)) chunks = write->chunks;
  if (const auto* write = std::get_if<ScatteredExtents>(&operation.body); write && write->chunk.length != 0)
    chunks = {write->chunk};
  if (const auto* replace = std::get_if<ReplaceExtents>(&operation.body))
    chunks = {{replace->chunk, uint32_t(replace->end - replace->start)}};
  for (const ChunkReference& one : chunks) {
    Bytes bytes(one.length);
    const ChunkKey key{charter_.number, one.chunk};
    auto length = parts_.chunks.length(key);
    if (!length && length.error().code == Code::not_found) {
      for (const StoreUsage& store : parts_.chunks.usage()) {
        if (store.missing) return fail(Code::io, "chunk store " + store.directory + " is not there");
      }
    }
    if (!length) return fail(length.error());
    if (*length != one.length)
      return fail(Code::corrupt, "chunk " + short_hex(one.chunk) + " has another length");
    EFS_TRY(parts_.chunks.read(key, 0, bytes));
  }
  return {};
}

Status SoleReplica::after_unclean_stop() {
  sweeping_ = true;
  verifier_before_ = std::exchange(verifier_, parts_.random.u64() | 1);
  std::lock_guard lock(apply_mutex_);
  Reply reply = propose_house(ReserveInodes{reserved_durably_ + kInodeBlock, true, verifier_});
  if (reply.code != Code::ok) return fail(reply.code, std::move(reply.message));
  EFS_TRY(sync());
  reserved_durably_ += kInodeBlock;
  return {};
}

Status SoleReplica::load_sessions() {
  last_expiry_ns_ = parts_.clock.now_ns();
  const int64_t heard_ns = last_expiry_ns_ - kSessionSilence + kSessionGrace;
  opened_time_ns_ = last_time_ns_ = std::max(parts_.clock.wall_ns(), last_time_ns_ + 1);
  leases_->begin_at(uint64_t(opened_time_ns_));
  EndSessions own;  // this process's of before
  std::vector<SessionId> others;
  auto note = [&](std::string_view key, std::string_view) {
    SessionId session;
    if (key.size() < session.size()) return true;
    std::memcpy(session.data(), key.data(), session.size());
    if (is_own_session(session)) {
      if (own.sessions.empty() || own.sessions.back() != session) own.sessions.push_back(session);
    } else {
      open_.begin(session, heard_ns);
      open_.expect(session);
      others.push_back(session);
      old_leases_until_ns_ = parts_.opened_ns + kLeaseTerm;
      if (key.size() == kSessionNumberKey) unclaimed_.emplace_back(session, trailing_number(key));
    }
    return true;
  };
  auto rows = rows_->read();
  EFS_TRY(rows->scan(kOrphans, "", note));
  EFS_TRY(rows->scan(kSessions, "", [&](std::string_view key, std::string_view value) {
    return key.size() != sizeof(SessionId) || note(key, value);
  }));
  EFS_TRY(rows->scan(kOvertaken, "", [&](std::string_view key, std::string_view value) {
    const auto row = decode<OvertakenRow>(view(value));
    SessionId session;
    if (!row || key.size() != kSessionNumberKey) return true;
    std::memcpy(session.data(), key.data(), session.size());
    leases_->expect_late(session, trailing_number(key), row->bytes, row->attributes);
    if (!open_.known(session)) away_[session] = std::max(away_[session], row->time_ns);
    return true;
  }));
  rows.reset();
  unclaimed_until_ns_ = parts_.clock.now_ns() + 2 * kSessionGrace;
  if (!others.empty()) locks_.expect(others);
  if (own.sessions.empty()) return {};
  std::lock_guard lock(apply_mutex_);
  Reply reply = propose_house(std::move(own));
  if (reply.code != Code::ok) return fail(reply.code, std::move(reply.message));
  return {};
}

}  // namespace efs
