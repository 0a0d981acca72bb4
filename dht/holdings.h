// The records that this peer holds, and the rules by which it takes them.
//
// A record is refused when it is too large, expired or expiring absurdly late, not superseding what is held,
// over the share of its publisher or of the whole, or when the checker says that whoever signed it may not.
// An index in memory (about 150 bytes a record) knows when each is due; the bodies are in the RecordStore.
// Expiry is wall time in the record and becomes a monotonic deadline when the record is taken or loaded, so
// that a jump of the wall clock does not empty the mesh. Single-threaded; a step machine.
#pragma once

#include <functional>
#include <map>
#include <unordered_map>

#include "dht/record_store.h"
#include "peer/base/hash.h"

namespace efs::dht {

// What every event comes with.
struct Instant {
  int64_t now_ns = 0;   // monotonic
  int64_t wall_ns = 0;  // since 1970
};

// May whoever signed this record publish it? The id to be held to account for the space it takes, or
// Code::unauthorized and why. Must not call back. Called for every record that comes from anywhere.
using Checker = std::function<Result<Id>(const Record&)>;

struct HoldingLimits {
  size_t records = 131072;
  size_t bytes = 256 << 20;
  size_t records_of_publisher = 16384;
};

class Holdings {
 public:
  struct Held {
    RecordName name;
    Id publisher{};
    int64_t deadline_ns = 0;
    int64_t due_ns = 0;  // for republishing
    uint32_t body_bytes = 0;
    bool own = false;
    bool removed = false;
  };

  Holdings(RecordStore& store, Checker checker, const HoldingLimits& limits)
      : store_(store), checker_(std::move(checker)), limits_(limits) {}

  // Reads the store. Expired and unreadable records are dropped from it. Records are due from `due_ns` on.
  Status load(Instant now, const std::function<int64_t()>& due_ns);

  // Only the rules that need nothing held: size, time and signature. The publisher.
  Result<Id> check(const Record& record, Instant now) const;
  // All rules, then takes it. Code::too_large, expired, invalid_argument, unauthorized, overloaded (no
  // room), conflict (something that supersedes it is held), or the store's error. Success also when this very
  // record is held already. `own`: we are its publisher; what comes from others makes it theirs.
  Status accept(const Record& record, bool own, Instant now, int64_t due_ns);

  // What is held and has not expired.
  const Held* find(const Id& key, Instant now) const;
  std::optional<Record> get(const Id& key, Instant now) const;
  void set_due(const Id& key, int64_t due_ns);
  void drop(const Id& key);
  void drop_expired(Instant now);
  // Up to `count` records that are due. Costs nothing while none is.
  std::vector<Id> due(Instant now, size_t count);

  size_t size() const { return index_.size(); }
  size_t bytes() const { return bytes_; }
  const std::map<Id, Held>& index() const { return index_; }

 private:
  void put_index(const StoredRecord& stored, Instant now, int64_t due_ns);
  void drop_index(const Id& key);

  RecordStore& store_;
  Checker checker_;
  HoldingLimits limits_;
  std::map<Id, Held> index_;
  std::unordered_map<Id, size_t, IdHash> of_publisher_;
  size_t bytes_ = 0;
  int64_t first_deadline_ns_ = INT64_MAX, first_due_ns_ = INT64_MAX;  // not later than any in the index
};

}  // namespace efs::dht
