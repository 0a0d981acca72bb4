// The one owner of a volume: logs, applies and answers on the calling thread.
//
// Nothing answered is lost when the process is killed: the log has it. Power loss takes what no sync
// covered, in whole operations from the end. Junctions, register entries and reserved inode numbers are
// durable before they are answered; the rest when Sync, a durable Write, or the checkpointer says so.
//
// Threads: any. apply_mutex_ orders changes; reads take no lock of it. Then, inside it: open_mutex_ (who
// holds what), pin_mutex_ (chunks stored and not yet named). Locks has a mutex of its own. checkpoint_mutex_
// stands before all of them, and compact_mutex_ (one round of compaction at a time) before that.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "peer/runtime/clock.h"
#include "peer/store/chunk_store.h"
#include "peer/store/log.h"
#include "peer/volume/fragment_search.h"
#include "peer/volume/locks.h"
#include "peer/volume/open_table.h"
#include "peer/volume/replica.h"
#include "peer/volume/state/machine.h"

namespace efs {

inline constexpr uint64_t kCheckpointBytes = 16 << 20;  // of changed rows
inline constexpr uint64_t kCheckpointOperations = 50'000;
inline constexpr int64_t kCheckpointInterval = kSecond;
inline constexpr int64_t kLogSyncInterval = 500 * kMillisecond;
inline constexpr uint64_t kMaxDirtyBytes = 128 << 20;  // above, a change waits for a checkpoint

// What a replica works with; all of it outlives it.
struct ReplicaParts {
  const Clock& clock;
  Random& random;
  Logger& logger;
  ChunkStore& chunks;
  Log* log = nullptr;
  std::function<uint64_t()> free_bytes;  // of the disk of log and metadata; empty: without limit
  uint64_t reserved_bytes = 0;           // of these, for what needs no more room
  int64_t opened_ns = 0;  // when it was begun to open the volumes: whoever served them before was gone
  // Runs what takes long and comes up where nobody may wait (a loop). Empty: it is run there.
  std::function<void(Leases::Then)> run_apart;
};

// One record of this volume in the log.
struct LoggedOperation {
  uint64_t index = 0;
  Bytes payload;
};

struct RootAttributes {
  uint32_t mode = 0755, uid = 0, gid = 0;
};

class SoleReplica final : public Replica, public std::enable_shared_from_this<SoleReplica> {
 public:
  // Makes the volume in rows that hold none: durable when this returns. Code::exists.
  static Status format(MetaStore& rows, const VolumeCharter& charter, const RootAttributes& root);
  // Replays `log` (this volume's records in order) over the rows. Code::corrupt, Code::version: the volume
  // cannot be served, and why.
  static Result<std::unique_ptr<SoleReplica>> open(const ReplicaParts& parts, std::unique_ptr<MetaStore> rows,
                                                   std::vector<LoggedOperation> log);
  ~SoleReplica() override;

  void execute(const Request& request, Payload payload, Done done) override;
  bool executes_inline(const RequestBody& body, size_t payload_bytes) const override;
  std::optional<VolumeAnswer> read_cached(const Request& request) override;
  const VolumeId& id() const override { return charter_.id; }
  VolumeNumber number() const override { return charter_.number; }
  uint64_t verifier() const override { return verifier_; }
  Leases& leases() override { return *leases_; }
  Locks& locks() { return locks_; }
  Result<std::vector<Bytes>> register_entries(uint64_t from, size_t limit) const override;

  // For removal: refuses changes from now on, until reopen(). Code::not_empty when anything but the root is
  // in it.
  Status close_if_empty();
  void reopen();

  // When it was last heard (Clock::now_ns); 0: there is no such session.
  int64_t heard_ns(const SessionId& session) const;
  // Other processes' sessions were there when it was opened: what they were leased before may be believed
  // until then.
  int64_t old_leases_until_ns() const { return old_leases_until_ns_; }

  // ---- the checkpointer's part ----
  bool checkpoint_due(int64_t now_ns) const;
  Status checkpoint();
  // Everything answered before is durable.
  Status sync();
  // A bounded piece of what waits: silent sessions, chunks and files to free, inode numbers, the sweep after
  // an unclean start. True: there is more.
  bool upkeep();
  // Now and then: what metadata may still take of its disk.
  void measure_room();

  // ---- the compactor's part ----
  bool compaction_due(int64_t now_ns) const;  // costs nothing
  // Joins fragmented extents: a round of about `most` bytes. How many it read. `busy`: others have work to
  // do.
  uint64_t compact(uint64_t most, bool busy);
  uint64_t requests() const { return requests_.load(std::memory_order_relaxed); }  // ever
  uint64_t joined_runs() const { return joined_runs_.load(); }                     // since this start

  // The log was synced, and chunks before it, from a time when applied_index() was `index`.
  void note_durable(uint64_t index);
  uint64_t applied_index() const { return rows_->applied_index(); }
  uint64_t durable_index() const { return durable_index_.load(); }
  // The last operation that opening it found: what came after it was not durable, and is gone.
  uint64_t recovered_index() const { return recovered_index_; }
  VolumePolicy policy() const { return {compression_.load()}; }
  VolumeStored stored() const { return parts_.chunks.stored(charter_.number); }
  uint64_t metadata_bytes() const { return rows_->used_bytes(); }
  // For checks and tests: one moment of the rows.
  std::unique_ptr<ReadRows> rows() const { return rows_->read(); }
  bool failed() const { return failed_.load(); }
  // Since this start something of it was asked for that is not what was written: a row, a chunk.
  bool damaged() const { return damaged_.load(); }
  // The volume is being removed: every request answers Code::not_owner from now on; what runs has ended
  // when this returns.
  void retire();

 private:
  struct Pins;
  SoleReplica(const ReplicaParts& parts, std::unique_ptr<MetaStore> rows);

  // recovery.cc
  Status recover(std::vector<LoggedOperation> log);
  Status replay(const Operation& operation, uint64_t index);
  Status chunks_are_there(const Operation& operation) const;
  Status after_unclean_stop();
  Status load_sessions();

  // sole_replica.cc
  // What others may have to forget of a change, and who may have open what it unlinked, but did not say so.
  struct Changes {
    std::vector<VolumeClient::Change> rows;
    std::vector<SessionId> presumed;
    InodeNumber unlinked = 0;
    bool repeated = false;  // it was made before
    Leases::News news;
  };
  VolumeAnswer answer_change(const Request& request, Payload payload, Changes& changes);
  bool waits_for_late_ones(const Request& request, const Leases::Inodes& about) const;
  bool owned_elsewhere(const Request& request, const Leases::Inodes& about) const;
  // `cached`: a Read answers Code::uncached instead of waiting for a disk.
  std::optional<VolumeAnswer> look(const Request& request, bool cached);
  VolumeAnswer finished(const Request& request, VolumeAnswer answer);
  // Says which run of this owner answers, and how far its log is.
  void identify(const SessionId& session, Reply& reply, bool greeted = false) const;
  void after_taking_back(const Request& request, const Leases::Inodes& about, Payload payload, Done done);
  Leases::Then again(const Request& request, Payload payload, Done done, OpenTable::Wait wait = {});
  bool closed_meanwhile(const Request& request, const OpenTable::Wait& wait);
  bool asked_in_error(const Operation& operation) const;
  bool believes_another(const Operation& operation) const;
  bool was_made(const SessionId& session, uint64_t sequence) const;
  bool was_made(const Operation& operation) const;
  VolumeAnswer answer(const Request& request, bool cached);
  VolumeAnswer answer_leased(const Request& request, bool cached);
  // lock_requests.cc
  void execute_lock(const Request& request, Done done);
  Status may_lock(const Request& request, const FileLock& lock);
  void take_locks(const SessionId& session);

  std::optional<Reply> refused(const Request& request);
  bool grant(const Request& request, Reply& reply);
  // The owner stops, and others were not waited for: its session is to ask again, and waits there.
  bool stopped_for(const SessionId& session) const { return leases_->closed() && !is_own_session(session); }
  void release_presumed(const Changes& changed);
  Reply read_rows(const Request& request);
  VolumeAnswer read_file(const Request& request, const Read& read, bool cached);
  Reply read_pieces(const ReadPlan& plan, bool cached, Bytes& out) const;
  Reply open_inode(const Request& request, const Open& open);
  Reply close_inodes(const Request& request, const Close& close);
  Reply hello(const Request& request, const Hello& hello);
  Reply goodbye(const Request& request);
  Reply change(const Request& request, Payload payload, Changes& changes);
  Status make_room_in_memory();
  Status sync(const Sync& request);
  Result<OperationBody> prepare_write(const Write& write, Payload payload, Pins& pins);
  PackedBytes pack_carried(const OperationBody& body) const;
  // Bytes of a write that cost no more than a copy: the rest is packed, and not on a loop.
  size_t most_inline() const {
    return compression_.load() == Compression::none ? kMaxBytesInLog : kLargestUnpacked;
  }
  Result<OperationBody> prepare_write(const WriteScattered& write, Payload payload, Pins& pins);
  Result<ChunkReference> store_chunk(ByteView bytes, Pins& pins);
  void report_damage(const Reply& reply);  // in the log, once in a while
  void drop_unnamed(const std::vector<Id>& chunks);
  Status has_room_for(const Request& request);
  Status has_room_for(const Allocate& request) const;
  bool holds(const Request& request, InodeNumber inode) const;
  // Its mount may have the inode open: it said so, or it holds a lease on it and opens it without asking.
  // What the mode says now does not matter to who has it open, nor to the kernel, which reads a program to
  // run it.
  bool may_have_open(const Request& request, InodeNumber inode) const;
  bool knows(const SessionId& session) const {  // with open_mutex_ held
    return is_own_session(session) || open_.known(session);
  }

  // late.cc
  bool overtaken(const Request& request) const;
  Result<int64_t> next_run_ns(const std::optional<SessionMark>& known) const;
  // True: something was noted.
  Result<bool> expect_late(const SessionId& session, const std::vector<InodeNumber>& inodes,
                           std::optional<int64_t> since_ns);
  void forgive(const SessionId& session, std::vector<InodeNumber> inodes);
  void forget_away();

  // steps.cc
  bool takes_steps(const RequestBody& body) const;
  Status take_steps(Operation& operation, const Request& request, Changes& changed);
  bool step(const Operation& operation, const Request& request, OperationBody part);
  bool would_be_made(const Operation& operation, const Request& request);
  void pause_between_steps();

  // propose.cc; all with apply_mutex_ held
  std::optional<Reply> refused(const Operation& operation, const Request& request);
  Reply propose(Operation operation, const PackedBytes& packed, const Request& request, Changes& changes);
  std::vector<SessionId> add_expected(Operation& operation);
  Reply raise_level(const OperationBody& body);
  Reply propose_house(OperationBody body, const SessionId& session = {});
  Reply log_and_apply(Operation& operation, Effects& effects, const PackedBytes& packed);
  Reply refuse(const Effects& effects, const Error& error);
  Status reserve(InodeNumber until);
  Status store_bytes(const Effects& effects, const PackedBytes& packed, Durability durability);
  void free_chunks(const Effects& effects, uint64_t index);
  Reply fail_for_good(const Error& error, std::string_view what);

  // compaction.cc
  void note_fragments(const OperationBody& body, const Reply& reply);
  Result<ReplaceExtents> join(const FragmentRun& run, Pins& pins);
  void replace(const std::vector<ReplaceExtents>& ready, Pins& pins);

  // upkeep.cc
  bool expire_sessions();
  bool release_unclaimed();
  bool reserve_ahead();
  bool free_dead_chunks();
  bool reclaim();
  bool sweep();
  bool condemn_unknown(const ChunkId& chunk);  // with apply_mutex_ and pin_mutex_ held
  void reap(uint64_t checkpointed);

  const ReplicaParts parts_;
  const std::unique_ptr<MetaStore> rows_;
  VolumeCharter charter_;
  uint64_t verifier_ = 0, verifier_before_ = 0;  // before: 0 where the last stop was clean
  uint64_t recovered_index_ = 0;
  int64_t old_leases_until_ns_ = 0;
  int64_t opened_time_ns_ = 0;  // what changes since this owner's start are stamped with is no less

  std::mutex apply_mutex_;
  int64_t last_time_ns_ = 0;          // apply_mutex_
  bool closed_ = false;               // apply_mutex_
  bool run_noted_ = false;            // apply_mutex_: the log has an operation of this run
  InodeNumber reserved_durably_ = 0;  // apply_mutex_: numbers below may be given

  mutable std::mutex open_mutex_;
  OpenTable open_;

  std::mutex pin_mutex_;
  std::map<ChunkId, uint32_t> pins_;

  std::mutex freed_mutex_;
  std::deque<std::pair<uint64_t, ChunkKey>> freed_;  // condemned by the operation at that index

  std::mutex checkpoint_mutex_;
  std::atomic<int64_t> last_checkpoint_ns_{0};
  std::atomic<uint64_t> durable_index_{0};
  std::atomic<Compression> compression_{Compression::none};  // the volume's policy
  std::atomic<uint64_t> room_bytes_{UINT64_MAX};             // that metadata may still take
  std::atomic<uint64_t> logged_since_measured_{0};
  std::atomic<bool> failed_{false};
  std::atomic<bool> retired_{false};
  std::atomic<bool> damaged_{false};
  std::atomic<int64_t> next_damage_report_ns_{0};

  // open_mutex_: orphans of before this start, and what was unlinked before all of then had come back.
  std::vector<std::pair<SessionId, InodeNumber>> unclaimed_;
  int64_t unclaimed_until_ns_ = 0;
  int64_t last_expiry_ns_ = 0;  // expire_sessions() ran
  // upkeep's thread: sessions that have ended for their silence, since when (wall clock), and may come back
  // with what is late
  std::map<SessionId, int64_t> away_;

  std::mutex pause_mutex_;
  std::condition_variable pause_;  // retired_

  std::atomic<bool> sweeping_{false};  // upkeep's thread: where the sweep stands
  std::optional<ChunkId> sweep_after_;

  std::atomic<uint64_t> requests_{0}, joined_runs_{0};
  std::mutex compact_mutex_;
  FragmentSearch search_;
  std::deque<FragmentRun> to_join_;  // compact_mutex_
  std::atomic<bool> more_to_compact_{false};
  std::atomic<int64_t> no_compaction_before_ns_{0};

  const std::shared_ptr<Leases> leases_;
  Locks locks_{parts_.clock, [this](const SessionId& session) { return heard_ns(session); },
               [this](const SessionId& session) { take_locks(session); }};
};

}  // namespace efs
