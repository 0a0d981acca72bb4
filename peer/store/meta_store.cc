// A read pins the two overlays and a snapshot of the environment, taken together under a lock of
// nanoseconds; a commit adds a version to the active overlay; a checkpoint
//   1. freezes the active overlay (a new one takes what comes),
//   2. lets the caller sync what its rows refer to, and writes it to the environment, with its index, in one
//   durable step,
//   3. drops it.
// A read that began before 3 has the frozen rows over an environment with or without them: the same rows.
// One that began before 1 has an environment from before 2. When 2 fails (a full disk), the frozen overlay
// stays where it is, readable, and the next checkpoint tries again.
#include "peer/store/meta_store.h"

#include <cassert>
#include <map>
#include <mutex>

#include "peer/store/overlay.h"
#include "peer/store/row_key.h"

namespace efs {
namespace {

constexpr std::string_view kIndexKey = "checkpoint";

// What a transaction has changed so far.
using Staged = std::map<RowKey, std::optional<std::string>, RowBefore>;

class StagedCursor {
 public:
  StagedCursor(const Staged* rows, Table table, std::string_view from) : rows_(rows), table_(table) {
    if (rows_ != nullptr) at_ = rows_->lower_bound(RowKeyView{table, from});
  }
  bool valid() const { return rows_ != nullptr && at_ != rows_->end() && at_->first.table == table_; }
  std::string_view key() const { return at_->first.key; }
  Overlay::Value value() const {
    if (!at_->second) return std::nullopt;
    return std::string_view(*at_->second);
  }
  void next() { ++at_; }

 private:
  const Staged* rows_;
  Table table_;
  Staged::const_iterator at_;
};

// What is in memory over the environment, newest first: a transaction's rows, the active overlay, the
// frozen one.
class MergedCursor {
 public:
  MergedCursor(StagedCursor staged, std::optional<Overlay::Cursor> active,
               std::optional<Overlay::Cursor> frozen)
      : staged_(staged), active_(active), frozen_(frozen) {
    settle();
  }
  bool valid() const { return valid_; }
  std::string_view key() const { return key_; }
  Overlay::Value value() const { return value_; }
  void next() {
    advance(staged_);
    if (active_) advance(*active_);
    if (frozen_) advance(*frozen_);
    settle();
  }

 private:
  template <typename Cursor>
  void advance(Cursor& cursor) {
    if (cursor.valid() && cursor.key() == key_) cursor.next();
  }
  template <typename Cursor>
  void offer(const Cursor& cursor) {
    if (!cursor.valid() || (valid_ && cursor.key() >= key_)) return;
    valid_ = true;
    key_ = cursor.key();
    value_ = cursor.value();
  }
  void settle() {
    valid_ = false;
    offer(staged_);
    if (active_) offer(*active_);
    if (frozen_) offer(*frozen_);
  }

  StagedCursor staged_;
  std::optional<Overlay::Cursor> active_, frozen_;
  bool valid_ = false;
  std::string_view key_;
  Overlay::Value value_;
};

// One moment of a store, pinned.
struct View {
  std::shared_ptr<const Overlay> active, frozen;
  uint64_t version = 0;
  std::unique_ptr<ReadRows> environment;

  Result<std::optional<std::string_view>> get(Table table, std::string_view key) const {
    if (auto row = active->find(table, key, version)) return *row;
    if (frozen != nullptr) {
      if (auto row = frozen->find(table, key, frozen->version())) return *row;
    }
    return environment->get(table, key);
  }

  Status scan(Table table, std::string_view from, const ReadRows::Visit& visit, const Staged* staged) const {
    std::optional<Overlay::Cursor> frozen_cursor;
    if (frozen != nullptr) frozen_cursor = frozen->seek(table, from, frozen->version());
    MergedCursor above({staged, table, from}, active->seek(table, from, version), frozen_cursor);
    bool more = true;
    auto visit_above = [&] {
      if (auto value = above.value()) more = visit(above.key(), *value);
      above.next();
    };
    EFS_TRY(environment->scan(table, from, [&](std::string_view key, std::string_view value) {
      while (more && above.valid() && above.key() < key) visit_above();
      if (!more) return false;
      if (above.valid() && above.key() == key) {
        visit_above();
      } else {
        more = visit(key, value);
      }
      return more;
    }));
    while (more && above.valid()) visit_above();
    return {};
  }
};

class PinnedRead final : public ReadRows {
 public:
  explicit PinnedRead(View pinned) : view_(std::move(pinned)) {}
  Result<std::optional<std::string_view>> get(Table table, std::string_view key) const override {
    return view_.get(table, key);
  }
  Status scan(Table table, std::string_view from, const Visit& visit) const override {
    return view_.scan(table, from, visit, nullptr);
  }

 private:
  View view_;
};

}  // namespace

struct MetaStore::Impl {
  explicit Impl(std::shared_ptr<MetaEnvironment> durable) : environment(std::move(durable)) {}

  View pin() const {
    std::lock_guard lock(state_mutex);
    return {active, frozen, active->version(), environment->snapshot()};
  }
  void commit(const Staged& rows, uint64_t index);
  bool freeze();
  Status write_frozen(const std::function<Status()>& before_write);

  const std::shared_ptr<MetaEnvironment> environment;
  // Taken in this order: checkpoint_mutex, commit_mutex, state_mutex.
  std::mutex checkpoint_mutex;     // one checkpoint at a time
  std::mutex commit_mutex;         // a commit is in one overlay, whole
  mutable std::mutex state_mutex;  // which overlays there are
  std::shared_ptr<Overlay> active = std::make_shared<Overlay>();
  std::shared_ptr<Overlay> frozen;  // being written, or what could not be written
  std::atomic<uint64_t> applied{0}, checkpointed{0};
  std::atomic<bool> in_transaction{false};
};

void MetaStore::Impl::commit(const Staged& rows, uint64_t index) {
  std::lock_guard lock(commit_mutex);
  for (const auto& [key, value] : rows) {
    active->put(key.table, key.key, value ? Overlay::Value(*value) : std::nullopt);
  }
  active->publish(index);
  applied.store(index, std::memory_order_release);
}

bool MetaStore::Impl::freeze() {
  auto fresh = std::make_shared<Overlay>();
  std::scoped_lock lock(commit_mutex, state_mutex);
  if (active->version() == 0) return false;
  frozen = std::exchange(active, std::move(fresh));
  return true;
}

Status MetaStore::Impl::write_frozen(const std::function<Status()>& before_write) {
  if (before_write) EFS_TRY(before_write());
  std::vector<MetaEnvironment::Change> changes;
  frozen->for_each([&](Table table, std::string_view key, Overlay::Value value) {
    changes.push_back({table, key, value});
  });
  std::string index;
  put_be(index, frozen->index());
  changes.push_back({kStoreTable, kIndexKey, index});
  EFS_TRY(environment->write(changes));
  checkpointed.store(frozen->index(), std::memory_order_release);
  std::shared_ptr<Overlay> drop;  // freed after the lock
  std::lock_guard lock(state_mutex);
  drop.swap(frozen);
  return {};
}

Result<uint64_t> read_checkpointed_index(const MetaEnvironment& environment) {
  auto rows = environment.snapshot();
  EFS_ASSIGN(auto row, rows->get(kStoreTable, kIndexKey));
  if (!row) return 0;
  if (row->size() != sizeof(uint64_t))
    return fail(Code::corrupt, "the index of the last checkpoint is damaged");
  return get_be<uint64_t>(row->data());
}

namespace {

class StoreTransaction final : public MetaStore::Transaction {
 public:
  StoreTransaction(View pinned, std::function<void(const Staged&, uint64_t)> publish,
                   std::atomic<bool>& running)
      : view_(std::move(pinned)), publish_(std::move(publish)), running_(running) {}
  ~StoreTransaction() override { running_ = false; }

  Result<std::optional<std::string_view>> get(Table table, std::string_view key) const override {
    auto at = staged_.find(RowKeyView{table, key});
    if (at == staged_.end()) return view_.get(table, key);
    if (!at->second) return std::nullopt;
    return std::string_view(*at->second);
  }
  Status scan(Table table, std::string_view from, const Visit& visit) const override {
    return view_.scan(table, from, visit, &staged_);
  }
  void put(Table table, std::string_view key, std::string_view value) override {
    assert(value.size() <= kMaxValueBytes);
    row(table, key) = std::string(value);
  }
  void erase(Table table, std::string_view key) override { row(table, key).reset(); }

  void commit(uint64_t index) override {
    assert(!committed_);
    committed_ = true;
    publish_(staged_, index);
  }

 private:
  std::optional<std::string>& row(Table table, std::string_view key) {
    assert(!committed_ && table < kMaxTables && !key.empty() && key.size() <= kMaxKeyBytes);
    auto at = staged_.find(RowKeyView{table, key});
    if (at == staged_.end()) at = staged_.emplace(RowKey{table, std::string(key)}, std::nullopt).first;
    return at->second;
  }

  View view_;
  std::function<void(const Staged&, uint64_t)> publish_;
  std::atomic<bool>& running_;
  Staged staged_;
  bool committed_ = false;
};

}  // namespace

MetaStore::MetaStore(std::shared_ptr<MetaEnvironment> environment)
    : impl_(std::make_unique<Impl>(std::move(environment))) {
  auto index = read_checkpointed_index(*impl_->environment);
  assert(index);  // open_lmdb() has checked that row
  impl_->applied = impl_->checkpointed = *index;
}

MetaStore::~MetaStore() = default;

std::unique_ptr<ReadRows> MetaStore::read() const {
  return std::make_unique<PinnedRead>(impl_->pin());
}

std::unique_ptr<MetaStore::Transaction> MetaStore::begin() {
  bool running = impl_->in_transaction.exchange(true);
  assert(!running);
  static_cast<void>(running);
  return std::make_unique<StoreTransaction>(
      impl_->pin(), [impl = impl_.get()](const Staged& rows, uint64_t index) { impl->commit(rows, index); },
      impl_->in_transaction);
}

uint64_t MetaStore::applied_index() const {
  return impl_->applied.load(std::memory_order_acquire);
}

uint64_t MetaStore::checkpointed_index() const {
  return impl_->checkpointed.load(std::memory_order_acquire);
}

uint64_t MetaStore::dirty_bytes() const {
  std::lock_guard lock(impl_->state_mutex);
  return impl_->active->bytes();
}

uint64_t MetaStore::unwritten_bytes() const {
  std::lock_guard lock(impl_->state_mutex);
  return impl_->active->bytes() + (impl_->frozen != nullptr ? impl_->frozen->bytes() : 0);
}

uint64_t MetaStore::dirty_transactions() const {
  std::lock_guard lock(impl_->state_mutex);
  return impl_->active->version();
}

Status MetaStore::checkpoint(const std::function<Status()>& before_write) {
  std::lock_guard lock(impl_->checkpoint_mutex);
  if (impl_->frozen != nullptr) EFS_TRY(impl_->write_frozen(before_write));
  if (!impl_->freeze()) return {};
  return impl_->write_frozen(before_write);
}

uint64_t MetaStore::used_bytes() const {
  return impl_->environment->used_bytes();
}

uint64_t MetaStore::reusable_bytes() const {
  return impl_->environment->reusable_bytes();
}

}  // namespace efs
