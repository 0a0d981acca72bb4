#include "dht/routing_table.h"

#include <algorithm>
#include <utility>

namespace efs::dht {

namespace {
uint64_t tag_of(const Id& id) {
  return id_word(id, 3);
}
}  // namespace

RoutingTable::Bucket* RoutingTable::bucket_of(const Id& id) {
  const int index = common_prefix_bits(self_, id);
  return index < int(buckets_.size()) ? &buckets_[size_t(index)] : nullptr;
}
const RoutingTable::Bucket* RoutingTable::bucket_of(const Id& id) const {
  const int index = common_prefix_bits(self_, id);
  return index < int(buckets_.size()) ? &buckets_[size_t(index)] : nullptr;
}

std::optional<size_t> RoutingTable::find(const Bucket& bucket, const Id& id) {
  const uint64_t tag = tag_of(id);
  for (size_t i = 0; i < bucket.tags.size(); ++i) {
    if (bucket.tags[i] == tag && bucket.entries[i].contact.id == id) return i;
  }
  return std::nullopt;
}

void RoutingTable::erase(Bucket& bucket, size_t index) {
  bucket.entries[index] = std::move(bucket.entries.back());
  bucket.tags[index] = bucket.tags.back();
  bucket.entries.pop_back();
  bucket.tags.pop_back();
  --size_;
}

RoutingTable::Seen RoutingTable::seen(const Contact& contact, int64_t now_ns) {
  const int index = common_prefix_bits(self_, contact.id);
  if (index == kIdBits || !valid(contact)) return Seen::refused;
  if (index >= int(buckets_.size())) buckets_.resize(size_t(index) + 1);
  auto& bucket = buckets_[size_t(index)];
  if (auto at = find(bucket, contact.id)) {
    auto& entry = bucket.entries[*at];
    const bool recovered = std::exchange(entry.failures, 0) > 0;
    entry.seen_ns = now_ns;
    if (entry.contact.address != contact.address) entry.contact.address = contact.address;
    return recovered ? Seen::recovered : Seen::known;
  }
  if (bucket.entries.size() >= kBucketSize) {
    auto failing = std::find_if(bucket.entries.begin(), bucket.entries.end(),
                                [](const auto& entry) { return entry.failures > 0; });
    if (failing == bucket.entries.end()) {
      std::erase_if(bucket.waiting, [&](const auto& entry) { return entry.contact.id == contact.id; });
      if (bucket.waiting.size() >= kReplacements) bucket.waiting.erase(bucket.waiting.begin());
      bucket.waiting.push_back({contact, now_ns, 0});
      return Seen::waits;
    }
    erase(bucket, size_t(failing - bucket.entries.begin()));
  }
  bucket.entries.push_back({contact, now_ns, 0});
  bucket.tags.push_back(tag_of(contact.id));
  ++size_;
  return Seen::added;
}

std::optional<Contact> RoutingTable::failed(const Id& id) {
  auto* bucket = bucket_of(id);
  if (bucket == nullptr) return std::nullopt;
  std::erase_if(bucket->waiting, [&](const auto& entry) { return entry.contact.id == id; });
  auto at = find(*bucket, id);
  if (!at) return std::nullopt;
  if (++bucket->entries[*at].failures < kFailuresToForget) return std::nullopt;
  Contact gone = bucket->entries[*at].contact;
  remove(id);
  return gone;
}

void RoutingTable::remove(const Id& id) {
  auto* bucket = bucket_of(id);
  if (bucket == nullptr) return;
  std::erase_if(bucket->waiting, [&](const auto& entry) { return entry.contact.id == id; });
  auto at = find(*bucket, id);
  if (!at) return;
  erase(*bucket, *at);
  if (bucket->waiting.empty()) return;
  Entry next = std::move(bucket->waiting.back());
  bucket->waiting.pop_back();
  bucket->tags.push_back(tag_of(next.contact.id));
  bucket->entries.push_back(std::move(next));
  ++size_;
}

void RoutingTable::doubt(const Id& id) {
  auto* bucket = bucket_of(id);
  if (bucket == nullptr) return;
  if (auto at = find(*bucket, id)) bucket->entries[*at].seen_ns = INT64_MIN / 2;
}

bool RoutingTable::contains(const Id& id) const {
  const auto* bucket = bucket_of(id);
  return bucket != nullptr && find(*bucket, id).has_value();
}

bool RoutingTable::has_room(const Id& id) const {
  const auto* bucket = bucket_of(id);
  return bucket == nullptr || bucket->entries.size() < kBucketSize;
}

// Seen from target, the contacts lie in groups: those in its own bucket b are closest, then all in deeper
// buckets together, then bucket b-1, b-2 and so on. So only the group that is cut needs sorting among many.
std::vector<Contact> RoutingTable::closest(const Id& target, size_t count) const {
  std::vector<const Contact*> found;
  const int own = std::min(common_prefix_bits(self_, target), int(buckets_.size()));
  size_t sorted = 0;
  auto gather = [&](int index) {
    for (const auto& entry : buckets_[size_t(index)].entries) found.push_back(&entry.contact);
  };
  auto sort_group = [&] {
    const auto nearer = [&](const Contact* a, const Contact* b) { return closer(target, a->id, b->id); };
    const auto begin = found.begin() + std::ptrdiff_t(sorted);
    const size_t wanted = std::min(count, found.size());
    std::partial_sort(begin, found.begin() + std::ptrdiff_t(wanted), found.end(), nearer);
    found.resize(wanted);
    sorted = wanted;
  };
  if (own < int(buckets_.size())) gather(own);
  sort_group();
  if (found.size() < count) {
    for (int index = own + 1; index < int(buckets_.size()); ++index) gather(index);
    sort_group();
  }
  for (int index = own - 1; index >= 0 && found.size() < count; --index) {
    gather(index);
    sort_group();
  }
  std::vector<Contact> result;
  result.reserve(found.size());
  for (const auto* contact : found) result.push_back(*contact);
  return result;
}

size_t RoutingTable::closer_than_self(const Id& key, size_t limit) const {
  return closer_than(self_, key, limit);
}

size_t RoutingTable::closer_than(const Id& id, const Id& key, size_t limit) const {
  size_t count = id != self_ && closer(key, self_, id) ? 1 : 0;
  const int own = common_prefix_bits(self_, key);
  auto add = [&](int index) {
    for (const auto& entry : buckets_[size_t(index)].entries)
      count += closer(key, entry.contact.id, id) ? 1 : 0;
  };
  if (own < int(buckets_.size())) add(own);
  for (int index = own + 1; index < int(buckets_.size()) && count < limit; ++index) add(index);
  for (int index = std::min(own, int(buckets_.size())) - 1; index >= 0 && count < limit; --index) {
    if (id == self_) break;  // those are all further from the key than we are
    add(index);
  }
  return std::min(count, limit);
}

std::optional<Contact> RoutingTable::oldest(const Id& id, int64_t now_ns) const {
  const auto* bucket = bucket_of(id);
  if (bucket == nullptr || bucket->entries.empty()) return std::nullopt;
  const auto& entry = *std::min_element(bucket->entries.begin(), bucket->entries.end(),
                                        [](const auto& a, const auto& b) { return a.seen_ns < b.seen_ns; });
  if (entry.seen_ns + kStaleAfter > now_ns) return std::nullopt;
  return entry.contact;
}

std::optional<Contact> RoutingTable::sample_stale(int64_t now_ns, Random& random) const {
  constexpr int kDraws = 16;
  const Entry* oldest = nullptr;
  for (int draw = 0; draw < kDraws && size_ > 0; ++draw) {
    size_t index = random.below(size_);
    auto bucket = buckets_.begin();
    while (index >= bucket->entries.size()) index -= (bucket++)->entries.size();
    const auto& entry = bucket->entries[index];
    if (oldest == nullptr || entry.seen_ns < oldest->seen_ns) oldest = &entry;
  }
  if (oldest == nullptr || oldest->seen_ns + kStaleAfter > now_ns) return std::nullopt;
  return oldest->contact;
}

std::optional<int> RoutingTable::bucket_to_refresh(int64_t now_ns, double scale) {
  // Deeper than this, the lookups of our own id see everybody.
  const int depth = int(scale) + 1;
  for (int index = 0; index < std::min(depth, int(buckets_.size())); ++index) {
    auto& bucket = buckets_[size_t(index)];
    if (bucket.refreshed_ns + kBucketRefresh > now_ns) continue;
    bucket.refreshed_ns = now_ns;
    return index;
  }
  return std::nullopt;
}

void RoutingTable::refreshed(const Id& target, int64_t now_ns) {
  if (auto* bucket = bucket_of(target)) bucket->refreshed_ns = now_ns;
}

size_t RoutingTable::mesh_size() const {
  const size_t known = size_ + 1;
  if (size_ < kReplicas) return known;
  // k contacts within this part of the id space: so many in all of it.
  const auto nearest = closest(self_, kReplicas);
  const double part = distance_fraction(self_, nearest.back().id);
  const double estimate = double(kReplicas) / std::max(part, 1e-15);
  return std::max(known, size_t(std::min(estimate, 1e12)));
}

}  // namespace efs::dht
