#include "dht/record_store.h"

namespace efs::dht {

namespace {
class MemoryRecordStore : public RecordStore {
 public:
  std::optional<StoredRecord> get(const Id& key) const override {
    auto at = records_.find(key);
    return at == records_.end() ? std::nullopt : std::optional(at->second);
  }
  Status put(const StoredRecord& stored) override {
    records_[stored.record.key] = stored;
    return {};
  }
  Status erase(const Id& key) override {
    records_.erase(key);
    return {};
  }
  Status for_each(const std::function<void(const StoredRecord&)>& visit) const override {
    for (const auto& [key, stored] : records_) visit(stored);
    return {};
  }

 private:
  std::map<Id, StoredRecord> records_;
};
}  // namespace

std::unique_ptr<RecordStore> make_memory_record_store() {
  return std::make_unique<MemoryRecordStore>();
}

}  // namespace efs::dht
