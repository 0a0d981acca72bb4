// What a volume does in the background, a bounded piece at a time.
#include <set>

#include "peer/volume/sole_replica.h"
#include "peer/volume/state/view.h"

namespace efs {

namespace {
constexpr size_t kSweepBatch = 256;
constexpr size_t kReleasedAtOnce = 1000;
constexpr int64_t kLongestPause = kSessionSilence / 10;  // more than that this process did not run
}  // namespace

bool SoleReplica::checkpoint_due(int64_t now_ns) const {
  const uint64_t transactions = rows_->dirty_transactions();
  return rows_->dirty_bytes() >= kCheckpointBytes || transactions >= kCheckpointOperations ||
         (rows_->applied_index() != rows_->checkpointed_index() &&
          now_ns - last_checkpoint_ns_.load() >= kCheckpointInterval);
}

// Freeze, sync what the rows refer to (the log may be behind them: replay starts after them), write, let go
// of the log and of what was freed.
Status SoleReplica::checkpoint() {
  std::lock_guard lock(checkpoint_mutex_);
  if (retired_.load()) return {};
  last_checkpoint_ns_ = parts_.clock.now_ns();
  auto sync_first = [&]() -> Status {
    EFS_TRY(parts_.chunks.checkpoint_sync());
    return parts_.log->sync();
  };
  EFS_TRY(rows_->checkpoint(sync_first));
  const uint64_t index = rows_->checkpointed_index();
  note_durable(index);
  parts_.log->release(charter_.number, index);
  reap(index);
  return {};
}

void SoleReplica::reap(uint64_t checkpointed) {
  std::vector<ChunkKey> keys;
  {
    std::lock_guard lock(freed_mutex_);
    while (!freed_.empty() && freed_.front().first <= checkpointed) {
      keys.push_back(freed_.front().second);
      freed_.pop_front();
    }
    // What was named again meanwhile, and freed again behind the checkpoint, the checkpoint may name.
    std::set<ChunkKey> later;
    for (const auto& [index, key] : freed_) later.insert(key);
    std::erase_if(keys, [&](const ChunkKey& key) { return later.contains(key); });
  }
  if (!keys.empty()) parts_.chunks.reap(keys);
}

bool SoleReplica::upkeep() {
  if (failed_.load()) return false;
  bool more = expire_sessions();
  forget_away();
  more |= release_unclaimed();
  more |= reserve_ahead();
  more |= reclaim();
  more |= free_dead_chunks();
  more |= sweep();
  return more;
}

// Rows that were deleted leave the environment as large as it was, and room in it: without counting that, a
// disk that became full of rows would stay so. Rows that are not written yet take up to twice their bytes.
void SoleReplica::measure_room() {
  if (!parts_.free_bytes) return;
  logged_since_measured_ = 0;
  uint64_t free = parts_.free_bytes();
  if (free / 2 < parts_.reserved_bytes) free += rows_->reusable_bytes();
  const uint64_t taken = rows_->unwritten_bytes() * 2;
  const uint64_t kept =
      parts_.reserved_bytes > UINT64_MAX - taken ? UINT64_MAX : parts_.reserved_bytes + taken;
  const uint64_t room = free - std::min(free, kept);
  if ((room_bytes_.exchange(room) != 0) == (room != 0)) return;
  if (room != 0) {
    parts_.logger.info("volume {}: there is room for metadata again: changes are taken", charter_.number);
  } else {
    parts_.logger.warning(
        "volume {}: the disk of its metadata is nearly full: nothing new is taken until "
        "something is deleted, here or by others",
        charter_.number);
  }
}

bool SoleReplica::expire_sessions() {
  EndSessions end;
  end.silent = true;
  {
    std::lock_guard lock(apply_mutex_);
    {
      std::lock_guard open_lock(open_mutex_);
      const int64_t now_ns = parts_.clock.now_ns();
      if (now_ns - std::exchange(last_expiry_ns_, now_ns) > kLongestPause) open_.heard_all(now_ns);
      end.sessions = open_.silent(now_ns - kSessionSilence);
      for (const SessionId& session : end.sessions) open_.end(session);
    }
    for (const SessionId& session : end.sessions) {
      if (leases_->expire(session)) away_[session] = parts_.clock.wall_ns();
    }
    if (!end.sessions.empty()) {
      parts_.logger.info("volume {}: {} sessions were silent and have ended", charter_.number,
                         end.sessions.size());
      propose_house(end);
    }
  }
  for (const SessionId& session : end.sessions) locks_.end(session);
  return false;
}

// What was kept for who might have had it open, and was asked when this owner's process ended. Who came back
// has said by now what it has open.
bool SoleReplica::release_unclaimed() {
  if (parts_.clock.now_ns() < unclaimed_until_ns_) return false;
  {
    std::lock_guard open_lock(open_mutex_);
    if (unclaimed_.empty()) return false;  // nothing comes after that time
  }
  std::lock_guard lock(apply_mutex_);
  std::lock_guard open_lock(open_mutex_);  // no open comes in between
  std::map<SessionId, ReleaseOrphans> all;
  for (size_t i = 0; i < kReleasedAtOnce && !unclaimed_.empty(); ++i) {
    const auto [session, inode] = unclaimed_.back();
    unclaimed_.pop_back();
    if (!open_.holds(session, inode)) all[session].inodes.push_back(inode);
  }
  bool made = true;
  for (auto& [session, release] : all) {
    release.session = session;
    const auto inodes = release.inodes;
    if (propose_house(std::move(release)).code == Code::ok) continue;
    made = false;  // later
    for (InodeNumber inode : inodes) unclaimed_.emplace_back(session, inode);
  }
  return made && !unclaimed_.empty();
}

bool SoleReplica::reserve_ahead() {
  auto state = read_state(*rows_->read());
  if (!state || state->reserved_inodes - state->next_inode > kInodeBlock / 2) return false;
  const InodeNumber until = state->reserved_inodes + kInodeBlock;
  {
    std::lock_guard lock(apply_mutex_);
    if (propose_house(ReserveInodes{until, false, 0}).code != Code::ok) return false;
  }
  if (!sync()) return false;
  std::lock_guard lock(apply_mutex_);
  reserved_durably_ = std::max(reserved_durably_, until);
  return false;
}

bool SoleReplica::free_dead_chunks() {
  FreeChunks free;
  if (!rows_->read()->scan(kDead, "", [&](std::string_view key, std::string_view) {
        Id chunk;
        if (key.size() != chunk.size()) return true;
        std::memcpy(chunk.data(), key.data(), chunk.size());
        free.chunks.push_back(chunk);
        return free.chunks.size() < kChunksPerStep;
      }))
    return false;
  const bool more = free.chunks.size() == kChunksPerStep;
  std::lock_guard lock(apply_mutex_);
  std::lock_guard pin_lock(pin_mutex_);
  std::erase_if(free.chunks, [&](const Id& chunk) { return pins_.contains(chunk); });
  if (free.chunks.empty()) return false;
  return propose_house(std::move(free)).code == Code::ok && more;
}

bool SoleReplica::reclaim() {
  bool any = false;
  if (!rows_->read()->scan(kReclaim, "", [&](std::string_view, std::string_view) {
        any = true;
        return false;
      }))
    return false;
  if (!any) return false;
  std::lock_guard lock(apply_mutex_);
  return propose_house(ReclaimExtents{}).code == Code::ok;
}

bool SoleReplica::condemn_unknown(const ChunkId& chunk) {
  if (pins_.contains(chunk)) return false;
  auto row = rows_->read()->get(kChunks, id_key(chunk));
  if (!row || *row) return false;
  const ChunkKey key{charter_.number, chunk};
  parts_.chunks.condemn(key);
  std::lock_guard lock(freed_mutex_);
  freed_.emplace_back(rows_->applied_index(), key);
  return true;
}

// A write was refused after its bytes were stored, or had been made before.
void SoleReplica::drop_unnamed(const std::vector<Id>& chunks) {
  std::lock_guard lock(apply_mutex_);
  std::lock_guard pin_lock(pin_mutex_);
  for (const Id& chunk : chunks) condemn_unknown(chunk);
}

// After an unclean stop the store may hold chunks whose operation is lost.
bool SoleReplica::sweep() {
  if (!sweeping_.load()) return false;
  const auto found = parts_.chunks.list(charter_.number, sweep_after_, kSweepBatch);
  size_t dropped = 0;
  {
    std::lock_guard lock(apply_mutex_);
    std::lock_guard pin_lock(pin_mutex_);
    for (const ChunkKey& key : found) dropped += condemn_unknown(key.chunk);
  }
  if (dropped > 0)
    parts_.logger.info("volume {}: {} chunks of lost operations are freed", charter_.number, dropped);
  if (found.size() < kSweepBatch) {
    sweeping_ = false;
    return false;
  }
  sweep_after_ = found.back().chunk;
  return true;
}

}  // namespace efs
