// Rows in memory, for simulation: an environment without a disk, whose write() is all or nothing.
#include <map>
#include <mutex>

#include "peer/store/meta_store.h"
#include "peer/store/row_key.h"

namespace efs {
namespace {

using Rows = std::map<RowKey, std::string, RowBefore>;

class MemoryEnvironment final : public MetaEnvironment {
 public:
  Status write(const std::vector<Change>& changes) override {
    std::lock_guard lock(mutex_);
    // Whoever still reads keeps what was there.
    if (rows_.use_count() > 1) rows_ = std::make_shared<Rows>(*rows_);
    for (const Change& change : changes) apply(change);
    return {};
  }

  std::unique_ptr<ReadRows> snapshot() const override;

  uint64_t used_bytes() const override {
    std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  friend class MemorySnapshot;

  void apply(const Change& change) {
    auto at = rows_->find(RowKeyView{change.table, change.key});
    if (at != rows_->end()) {
      bytes_ -= at->first.key.size() + at->second.size();
      rows_->erase(at);
    }
    if (!change.value) return;
    rows_->emplace(RowKey{change.table, std::string(change.key)}, std::string(*change.value));
    bytes_ += change.key.size() + change.value->size();
  }

  mutable std::mutex mutex_;
  std::shared_ptr<Rows> rows_ = std::make_shared<Rows>();
  uint64_t bytes_ = 0;
};

class MemorySnapshot final : public ReadRows {
 public:
  MemorySnapshot(const MemoryEnvironment& environment, std::shared_ptr<const Rows> rows)
      : environment_(environment), rows_(std::move(rows)) {}
  ~MemorySnapshot() override {
    std::lock_guard lock(environment_.mutex_);  // orders our last read before a write in place
    rows_.reset();
  }

  Result<std::optional<std::string_view>> get(Table table, std::string_view key) const override {
    auto at = rows_->find(RowKeyView{table, key});
    if (at == rows_->end()) return std::nullopt;
    return std::string_view(at->second);
  }

  Status scan(Table table, std::string_view from, const Visit& visit) const override {
    for (auto at = rows_->lower_bound(RowKeyView{table, from}); at != rows_->end(); ++at) {
      if (at->first.table != table || !visit(at->first.key, at->second)) break;
    }
    return {};
  }

 private:
  const MemoryEnvironment& environment_;
  std::shared_ptr<const Rows> rows_;
};

std::unique_ptr<ReadRows> MemoryEnvironment::snapshot() const {
  std::lock_guard lock(mutex_);
  return std::make_unique<MemorySnapshot>(*this, rows_);
}

}  // namespace

std::shared_ptr<MetaEnvironment> make_memory_environment(const MetaOptions&) {
  return std::make_shared<MemoryEnvironment>();
}

}  // namespace efs
