// Joining: find a run of small extents, read it, store it as one chunk, sync, and replace the extents by an
// operation that is refused when they are not those any more. Nothing is locked meanwhile but against another
// compaction; writes and reads of the same file go on. Content, attributes and `change` stay what they are,
// so nobody has to forget anything. Who reads by the old extents finds their chunks until they are reaped,
// after the next checkpoint, and then looks again (read_file).
//
// What fails is left as it was. The stored chunk is then condemned, as that of a refused write is.
#include "peer/volume/pins.h"

namespace efs {

namespace {
constexpr int kLooksPerRound = 16;
constexpr uint64_t kRoomToCompact = 64 << 20;        // below this in the chunk stores, or with
constexpr int64_t kPauseWithoutRoom = 60 * kSecond;  // no room for metadata: tried again after this
}  // namespace

// Of what was applied: whether it may have left fragments, and where.
void SoleReplica::note_fragments(const OperationBody& body, const Reply& reply) {
  if (const auto* write = std::get_if<WriteExtents>(&body)) {
    uint64_t length = write->bytes.size();
    for (const ChunkReference& chunk : write->chunks) length += chunk.length;
    if (length <= kFragmentBytes && length < reply.attributes.size && reply.attributes.size > kInlineBytes)
      search_.wrote(write->inode, {{reply.offset, uint32_t(length)}}, parts_.clock.now_ns());
    search_.changed();
  } else if (const auto* scattered = std::get_if<ScatteredExtents>(&body)) {
    if (reply.attributes.size > kInlineBytes)
      search_.wrote(scattered->inode, scattered->pieces, parts_.clock.now_ns());
    search_.changed();
  } else if (std::holds_alternative<CopyRange>(body) || std::holds_alternative<Allocate>(body)) {
    search_.changed();
  }
}

bool SoleReplica::compaction_due(int64_t now_ns) const {
  if (failed_.load() || now_ns < no_compaction_before_ns_.load()) return false;
  return more_to_compact_.load() || search_.due(now_ns);
}

uint64_t SoleReplica::compact(uint64_t most, bool busy) {
  std::lock_guard only(compact_mutex_);
  const int64_t now_ns = parts_.clock.now_ns();
  if (!compaction_due(now_ns)) return 0;
  const bool room = room_bytes_.load() != 0 && parts_.chunks.available_bytes() >= kRoomToCompact;
  if (!room) no_compaction_before_ns_ = now_ns + kPauseWithoutRoom;
  if (!room || rows_->dirty_bytes() > kCheckpointBytes) return 0;
  Pins pins(*this);
  std::vector<ReplaceExtents> ready;
  uint64_t bytes = 0;
  for (int looks = 0; bytes < most;) {
    if (to_join_.empty()) {
      if (looks++ == kLooksPerRound) break;
      auto found = search_.look(*rows_->read(), now_ns, busy);
      if (!found || !*found) break;  // rows that cannot be read: who asks for them reports it
      to_join_.insert(to_join_.end(), (*found)->begin(), (*found)->end());
      continue;
    }
    const FragmentRun run = std::move(to_join_.front());
    to_join_.pop_front();
    bytes += run.bytes();
    auto joined = join(run, pins);
    if (joined) {
      ready.push_back(std::move(*joined));
    } else if (joined.error().code == Code::corrupt) {
      report_damage(error_reply(std::move(joined.error())));
    }
  }
  more_to_compact_ = !to_join_.empty();
  replace(ready, pins);
  return bytes;
}

Result<ReplaceExtents> SoleReplica::join(const FragmentRun& run, Pins& pins) {
  Bytes bytes(run.bytes());
  for (const ExtentRow& extent : run.extents) {
    const auto out = std::span(bytes).subspan(extent.start - run.start(), extent.end - extent.start);
    EFS_TRY(parts_.chunks.read({charter_.number, *extent.chunk}, extent.chunk_offset, out));
  }
  EFS_ASSIGN(auto chunk, store_chunk(bytes, pins));
  return ReplaceExtents{run.inode, run.start(), run.end(), digest_of(run.extents), chunk.chunk};
}

// Synced first: no operation of others is to be lost with one of these when power goes.
void SoleReplica::replace(const std::vector<ReplaceExtents>& ready, Pins& pins) {
  bool refused = false;
  const bool synced = ready.empty() || parts_.chunks.sync().has_value();
  for (const ReplaceExtents& one : ready) {
    std::lock_guard lock(apply_mutex_);
    if (!synced || closed_ || propose_house(one).code != Code::ok) {
      refused = true;
    } else {
      ++joined_runs_;
    }
  }
  std::vector<ChunkId> stored = pins.chunks;
  pins.release();
  if (refused || stored.size() != ready.size()) drop_unnamed(stored);
}

}  // namespace efs
