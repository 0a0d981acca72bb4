// The rows of one volume (or of the peer itself): overlays in memory over an environment on disk.
//
// A write transaction is merged into the active overlay when it commits: microseconds, no I/O. checkpoint()
// freezes that overlay, writes it to the environment in one batch, durably, together with `index` and
// drops it; meanwhile a second overlay takes what comes. Reads look in the overlays, then in the
// environment, and see every committed transaction whole.
//
// After any stop, kill or power loss the rows are those of the last checkpoint that completed, and
// checkpointed_index() says which; the caller replays its log from there. The environment is LMDB in its
// fully synced mode (a map that grows as needed; SIGBUS and MDB_CORRUPTED name the environment), or memory
// under simulation: MetaEnvironment is that seam.
//
// A checkpoint that fails (a full disk) loses nothing: its rows stay in memory, readable, and the next one
// writes them again.
//
// Threads: read() from any, it waits for nobody and nobody for it; begin()...commit() one at a time (the
// caller's apply lock); checkpoint() from one background thread, concurrently with both. Limits: key 1..511
// bytes (LMDB), value 64 MiB: the caller checks, a longer one is asserted.
#pragma once

#include <memory>
#include <vector>

#include "peer/runtime/file.h"
#include "peer/store/kv.h"

namespace efs {

inline constexpr size_t kMaxTables = 32;
inline constexpr size_t kMaxKeyBytes = 511;
inline constexpr size_t kMaxValueBytes = 64 << 20;
inline constexpr Table kStoreTable = 255;  // the store's own rows: format, index of the last checkpoint

// The durable part. One writer at a time; snapshots from any thread.
class MetaEnvironment {
 public:
  virtual ~MetaEnvironment() = default;
  struct Change {
    Table table;
    std::string_view key;
    std::optional<std::string_view> value;  // nothing: erase
  };
  // Sorted by (table, key); durable, all or nothing, when it returns.
  virtual Status write(const std::vector<Change>& changes) = 0;
  virtual std::unique_ptr<ReadRows> snapshot() const = 0;
  virtual uint64_t used_bytes() const = 0;
  // Of these, what holds nothing any more and is taken first: an environment never becomes smaller.
  virtual uint64_t reusable_bytes() const { return 0; }
};

struct MetaOptions {
  std::vector<std::string> tables;         // name of each Table, by number; at most 32
  uint64_t max_bytes = uint64_t(1) << 40;  // address space to reserve, not disk
};
// An LMDB environment in directory `path` (made if missing). Code::version for one of a newer format.
Result<std::shared_ptr<MetaEnvironment>> open_lmdb(const std::string& path, const MetaOptions& options);
// In memory, for simulation. It outlives MetaStores; what write() returned from survives a simulated crash.
std::shared_ptr<MetaEnvironment> make_memory_environment(const MetaOptions& options);

// The index that the environment's last write() carried; 0 in a new one.
Result<uint64_t> read_checkpointed_index(const MetaEnvironment& environment);

class MetaStore {
 public:
  explicit MetaStore(std::shared_ptr<MetaEnvironment> environment);
  ~MetaStore();

  // One moment, whole, for as long as it lives (not longer than the store). It pins memory and pages of the
  // environment: keep it short, never across a wait.
  std::unique_ptr<ReadRows> read() const;

  // One at a time. commit() publishes; destroying without commit() drops every change.
  class Transaction : public WriteRows {
   public:
    virtual void commit(uint64_t index) = 0;
  };
  std::unique_ptr<Transaction> begin();

  uint64_t applied_index() const;       // of the last commit()
  uint64_t checkpointed_index() const;  // survives
  // What the active overlay holds: when to checkpoint, and when to make writers wait.
  uint64_t dirty_bytes() const;
  uint64_t dirty_transactions() const;
  uint64_t unwritten_bytes() const;  // of all overlays
  // `before_write` runs after the overlay was frozen and before it is written: what the frozen rows refer to
  // is synced there (chunks, log). When it fails, nothing is written, nothing is lost, and its error is
  // returned; the frozen overlay is part of the next checkpoint.
  Status checkpoint(const std::function<Status()>& before_write = {});
  uint64_t used_bytes() const;
  uint64_t reusable_bytes() const;  // reads a list that is as long as there is much to reuse

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace efs
