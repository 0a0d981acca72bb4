#include "dht/holdings.h"

namespace efs::dht {

namespace {
RecordName name_of_record(const Record& record) {
  return {record.key, record.version, crc32c(record.body)};
}
}  // namespace

Status Holdings::load(Instant now, const std::function<int64_t()>& due_ns) {
  std::vector<Id> gone;
  EFS_TRY(store_.for_each([&](const StoredRecord& stored) {
    if (check(stored.record, now)) {
      put_index(stored, now, due_ns());
    } else {
      gone.push_back(stored.record.key);
    }
  }));
  for (const auto& key : gone) EFS_TRY(store_.erase(key));
  return {};
}

Result<Id> Holdings::check(const Record& record, Instant now) const {
  if (record.body.size() > kMaxRecordBytes) return fail(Code::too_large);
  if (record.expires_wall_ns <= now.wall_ns) return fail(Code::expired);
  if (record.expires_wall_ns - now.wall_ns > kMaxTtl) return fail(Code::invalid_argument);
  return checker_(record);
}

Status Holdings::accept(const Record& record, bool own, Instant now, int64_t due_ns) {
  const auto held = index_.find(record.key);
  const bool replaces = held != index_.end() && held->second.deadline_ns > now.now_ns;
  if (replaces) {
    // Before the signature, which is what costs.
    if (record.version < held->second.name.version) return fail(Code::conflict);
    if (record.version == held->second.name.version) {
      auto stored = store_.get(record.key);
      if (stored && stored->record == record && (stored->own || !own)) return {};
      if (stored && supersedes(stored->record, record)) return fail(Code::conflict);
    }
  }
  EFS_ASSIGN(const Id publisher, check(record, now));
  const auto count = of_publisher_.find(publisher);
  const bool same_publisher = held != index_.end() && held->second.publisher == publisher;
  if (!own && !same_publisher && count != of_publisher_.end() &&
      count->second >= limits_.records_of_publisher)
    return fail(Code::overloaded);
  const size_t freed = held != index_.end() ? held->second.body_bytes : 0;
  if (!own && ((held == index_.end() && index_.size() >= limits_.records) ||
               bytes_ - freed + record.body.size() > limits_.bytes))
    return fail(Code::overloaded);
  const StoredRecord stored{record, publisher, own};
  EFS_TRY(store_.put(stored));
  put_index(stored, now, due_ns);
  return {};
}

void Holdings::put_index(const StoredRecord& stored, Instant now, int64_t due_ns) {
  drop_index(stored.record.key);
  const auto& record = stored.record;
  index_[record.key] = {.name = name_of_record(record),
                        .publisher = stored.publisher,
                        .deadline_ns = now.now_ns + (record.expires_wall_ns - now.wall_ns),
                        .due_ns = due_ns,
                        .body_bytes = uint32_t(record.body.size()),
                        .own = stored.own,
                        .removed = record.removed};
  first_deadline_ns_ = std::min(first_deadline_ns_, index_[record.key].deadline_ns);
  first_due_ns_ = std::min(first_due_ns_, due_ns);
  ++of_publisher_[stored.publisher];
  bytes_ += record.body.size();
}

void Holdings::drop_index(const Id& key) {
  auto at = index_.find(key);
  if (at == index_.end()) return;
  bytes_ -= at->second.body_bytes;
  auto count = of_publisher_.find(at->second.publisher);
  if (--count->second == 0) of_publisher_.erase(count);
  index_.erase(at);
}

const Holdings::Held* Holdings::find(const Id& key, Instant now) const {
  auto at = index_.find(key);
  return at != index_.end() && at->second.deadline_ns > now.now_ns ? &at->second : nullptr;
}

std::optional<Record> Holdings::get(const Id& key, Instant now) const {
  if (find(key, now) == nullptr) return std::nullopt;
  auto stored = store_.get(key);
  if (!stored) return std::nullopt;
  return std::move(stored->record);
}

void Holdings::set_due(const Id& key, int64_t due_ns) {
  if (auto at = index_.find(key); at != index_.end()) at->second.due_ns = due_ns;
  first_due_ns_ = std::min(first_due_ns_, due_ns);
}

void Holdings::drop(const Id& key) {
  drop_index(key);
  // What the disk keeps in spite of this expires there, and is checked again when it is loaded.
  (void)store_.erase(key);
}

void Holdings::drop_expired(Instant now) {
  if (first_deadline_ns_ > now.now_ns) return;
  std::vector<Id> gone;
  first_deadline_ns_ = INT64_MAX;
  for (const auto& [key, held] : index_) {
    if (held.deadline_ns <= now.now_ns) {
      gone.push_back(key);
    } else {
      first_deadline_ns_ = std::min(first_deadline_ns_, held.deadline_ns);
    }
  }
  for (const auto& key : gone) drop(key);
}

std::vector<Id> Holdings::due(Instant now, size_t count) {
  std::vector<Id> due;
  if (first_due_ns_ > now.now_ns) return due;
  first_due_ns_ = INT64_MAX;
  for (const auto& [key, held] : index_) {
    if (held.due_ns <= now.now_ns && due.size() < count) due.push_back(key);
    // Those that are due are so until set_due(): looked at again then, or by the next call.
    first_due_ns_ = std::min(first_due_ns_, held.due_ns);
  }
  return due;
}

}  // namespace efs::dht
