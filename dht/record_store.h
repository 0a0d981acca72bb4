// Where a peer keeps the records it holds. Small and synchronous, so that LMDB can stand behind it; the
// rules (who may, how many, how long) are Holdings', above it. The thread of the Node that it is given to.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "dht/messages.h"

namespace efs::dht {

struct StoredRecord {
  Record record;
  Id publisher{};    // whom the checker holds to account
  bool own = false;  // we published it: keep it, wherever its key lies
  static constexpr auto fields() {
    return std::tuple{field("r", &StoredRecord::record), field("p", &StoredRecord::publisher),
                      field("o", &StoredRecord::own)};
  }
};

class RecordStore {
 public:
  virtual ~RecordStore() = default;
  // Nothing when it is not there, or cannot be read: a record is always somewhere else too.
  virtual std::optional<StoredRecord> get(const Id& key) const = 0;
  // Replaces what is there. Need not be synced when it returns: what a crash loses, other holders offer.
  virtual Status put(const StoredRecord& stored) = 0;
  virtual Status erase(const Id& key) = 0;
  // Every record, in the order of keys; `visit` changes nothing. Called once, at start.
  virtual Status for_each(const std::function<void(const StoredRecord&)>& visit) const = 0;
};

std::unique_ptr<RecordStore> make_memory_record_store();

}  // namespace efs::dht
