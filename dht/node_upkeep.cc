// What a Node does over time: keeps its contacts and its records in order. docs/dht.md says what it costs.
#include <algorithm>
#include <cmath>

#include "dht/node.h"

namespace efs::dht {

// ---- events ----

void Node::on_peer_up(const Contact& contact, Instant now) {
  alive(contact, now);
  flush();
}

void Node::on_peer_down(const Id& id, Instant now) {
  table_.doubt(id);
  next_slot_ns_ = std::min(next_slot_ns_, now.now_ns + kSecond);
}

void Node::on_peer_removed(const Id& id) {
  table_.remove(id);
  drop_former(id);
  std::erase_if(seeds_, [&](const auto& seed) { return seed.id == id; });
  std::erase_if(heard_, [&](const auto& contact) { return contact.id == id; });
  std::erase_if(hand_overs_, [&](const auto& hand_over) { return hand_over.to.id == id; });
}

void Node::tick(Instant now) {
  while (!slow_.empty() && slow_.front().first <= now.now_ns) {
    auto at = requests_.find(slow_.front().second);
    slow_.pop_front();
    if (at == requests_.end()) continue;
    const auto task = at->second.task;
    if (auto lookup = lookups_.find(task); lookup != lookups_.end())
      lookup->second.lookup.slow(at->second.to.id);
    advance(task, now);
  }
  while (!timeouts_.empty() && timeouts_.front().first <= now.now_ns) {
    const auto request_id = timeouts_.front().second;
    timeouts_.pop_front();
    request_failed(request_id, now);
  }
  if (next_slot_ns_ <= now.now_ns) {
    next_slot_ns_ = now.now_ns + jittered(kSlot);
    ping_slot(now);
  }
  if (next_neighbours_ns_ <= now.now_ns) {
    next_neighbours_ns_ = now.now_ns + jittered(kNeighbours);
    refresh(config_.self.id, kReplicas, now);
  }
  if (next_sweep_ns_ <= now.now_ns) {
    next_sweep_ns_ = now.now_ns + jittered(kSweep);
    sweep(now);
  }
  if (!hand_overs_.empty() && next_hand_over_ns_ <= now.now_ns) {
    next_hand_over_ns_ = now.now_ns + kHandOverSlice;
    hand_over_slice(now);
  }
  trim();
  flush();
}

int64_t Node::next_tick_ns() const {
  int64_t next = std::min({next_slot_ns_, next_neighbours_ns_, next_sweep_ns_});
  if (!slow_.empty()) next = std::min(next, slow_.front().first);
  if (!timeouts_.empty()) next = std::min(next, timeouts_.front().first);
  if (!hand_overs_.empty()) next = std::min(next, next_hand_over_ns_);
  return next;
}

// ---- contacts ----

void Node::alive(const Contact& contact, Instant now) {
  if (!admitted(contact.id)) return;
  const bool first = table_.size() == 0;
  const bool returns = former_index_.contains(contact.id);
  switch (table_.seen(contact, now.now_ns)) {
    case RoutingTable::Seen::known:
    case RoutingTable::Seen::refused:
      return;
    case RoutingTable::Seen::recovered:
      hand_over_to(contact, kReturnRank);
      return;
    case RoutingTable::Seen::waits:
      if (auto oldest = table_.oldest(contact.id, now.now_ns); oldest && !busy()) ping(*oldest, now);
      break;
    case RoutingTable::Seen::added:
      hand_over_to(contact, returns ? kReturnRank : kHandOverRank);
      if (first) next_neighbours_ns_ = now.now_ns;
      break;
  }
  silent_.erase(contact.id);
  if (!returns) return;
  // Who was away is back: it may know others that are, or be the bridge to the other half of the mesh.
  drop_former(contact.id);
  if (returns_since_ns_ + kMinute < now.now_ns) returns_since_ns_ = now.now_ns, returns_ = 0;
  if (++returns_ >= kHealingReturns) healing_until_ns_ = now.now_ns + kHealing;
  next_neighbours_ns_ = std::min(next_neighbours_ns_, now.now_ns + jittered(kNeighboursSoon));
}

void Node::hand_over_to(const Contact& contact, size_t rank) {
  if (holdings_.size() == 0 || hand_overs_.size() >= kMaxHandOvers) return;
  for (const auto& other : hand_overs_) {
    if (other.to.id == contact.id) return;
  }
  hand_overs_.push_back({contact, rank, Id{}});
}

// What others say about contacts is worth a ping, where there is room for them.
void Node::heard(const std::vector<Contact>& contacts) {
  for (const auto& contact : contacts) {
    if (heard_.size() >= kMaxHeard) return;
    if (contact.id == config_.self.id || !valid(contact) || table_.contains(contact.id) ||
        !table_.has_room(contact.id) || former_index_.contains(contact.id) || silent_.contains(contact.id))
      continue;
    const bool known =
        std::any_of(heard_.begin(), heard_.end(), [&](const auto& other) { return other.id == contact.id; });
    if (!known) heard_.push_back(contact);
  }
}

void Node::dead(const Contact& contact, Instant now) {
  if (table_.contains(contact.id)) {
    if (auto gone = table_.failed(contact.id)) add_former(*gone);
  } else if (!former_index_.contains(contact.id) && silent_.size() < kMaxSilent) {
    silent_[contact.id] = now.now_ns + kSilentTime;
  }
}

// When there are too many, a random one makes way: so that some stay for very long, and two halves of a mesh
// that were apart for weeks still know where to look.
void Node::add_former(const Contact& contact) {
  if (former_index_.contains(contact.id)) return;
  if (former_.size() >= kMaxFormer) drop_former(former_[random_.below(former_.size())].id);
  former_index_[contact.id] = former_.size();
  former_.push_back(contact);
}

void Node::drop_former(const Id& id) {
  auto at = former_index_.find(id);
  if (at == former_index_.end()) return;
  const size_t index = at->second;
  former_index_.erase(at);
  if (index + 1 != former_.size()) {
    former_[index] = std::move(former_.back());
    former_index_[former_[index].id] = index;
  }
  former_.pop_back();
}

void Node::ping_slot(Instant now) {
  ++slots_;
  for (int pings = 0; pings < kHeardPerSlot && !heard_.empty() && !busy();) {
    std::swap(heard_[random_.below(heard_.size())], heard_.back());
    const Contact contact = std::move(heard_.back());
    heard_.pop_back();
    if (table_.contains(contact.id) || !table_.has_room(contact.id)) continue;
    ping(contact, now);
    ++pings;
  }
  const bool healing = now.now_ns < healing_until_ns_;
  for (int pings = 0; pings < (healing ? kHealingPings : 1) && !busy(); ++pings) {
    if (auto stale = table_.sample_stale(now.now_ns, random_)) ping(*stale, now);
    if (healing || slots_ % kFormerEvery == 0 || table_.size() == 0) ping_former(now);
  }
  if (table_.size() == 0 || lookups_.size() >= kMaxLookups / 2) return;
  if (auto bucket = table_.bucket_to_refresh(now.now_ns, scale_))
    refresh(random_id_at(config_.self.id, *bucket, random_), kRefreshWidth, now);
}

void Node::ping_former(Instant now) {
  const size_t count = former_.size() + seeds_.size();
  if (count == 0 || busy()) return;
  const size_t index = random_.below(count);
  const Contact contact = index < former_.size() ? former_[index] : seeds_[index - former_.size()];
  if (!table_.contains(contact.id)) ping(contact, now);
}

void Node::refresh(const Id& target, size_t width, Instant now) {
  if (alone() || lookups_.size() >= kMaxLookups / 2) return;
  start_lookup(
      Lookup(config_.self.id, target, width, 0), false,
      [this](Lookup& lookup, Instant then) {
        table_.refreshed(lookup.target(), then.now_ns);
        if (lookup.target() != config_.self.id) return;
        if (lookup.answers() > 0) {
          joined_ = true;
        } else {
          next_neighbours_ns_ = std::min(next_neighbours_ns_, then.now_ns + jittered(kNeighboursSoon));
        }
      },
      now);
}

// ---- records ----

int64_t Node::jittered(int64_t interval_ns) {
  return interval_ns / 4 * 3 + int64_t(random_.below(uint64_t(interval_ns / 2)));
}
int64_t Node::republish_interval_ns() const {
  return int64_t(double(kRepublish) * scale_);
}
int64_t Node::record_ttl_ns() const {
  return std::min(int64_t(double(kRecordTtl) * scale_), kMaxTtl / 2);
}
int64_t Node::next_due_ns(Instant now) {
  return now.now_ns + jittered(republish_interval_ns());
}

void Node::sweep(Instant now) {
  scale_ = std::max(1.0, std::log2(double(table_.mesh_size()) / double(kReplicas)));
  holdings_.drop_expired(now);
  std::erase_if(cache_, [&](const auto& item) { return item.second.until_ns <= now.now_ns; });
  std::erase_if(silent_, [&](const auto& item) { return item.second <= now.now_ns; });
  std::erase_if(senders_, [&](const auto& item) { return item.second.updated_ns + kSweep <= now.now_ns; });
  if (table_.size() == 0) return;
  const auto due = holdings_.due(now, kSweepRecords);
  Offers offers;
  for (const auto& key : due) {
    if (const auto* held = holdings_.find(key, now)) sweep_record(*held, offers, now);
  }
  for (auto& [id, batch] : offers) {
    if (!busy()) offer(batch.first, std::move(batch.second), now);
  }
}

// Neighbours know all their neighbours, so a holder needs no lookup to find the others (Kademlia, 2.5).
void Node::sweep_record(const Holdings::Held& held, Offers& offers, Instant now) {
  const Id key = held.name.key;
  if (table_.closer_than_self(key, kReplicas) < kReplicas) {
    for (auto& contact : table_.closest(key, kReplicas)) {
      auto& batch = offers[contact.id];
      if (batch.second.size() >= kMaxOffers) continue;
      batch.second.push_back(held.name);
      batch.first = std::move(contact);
    }
  } else if (publications_.size() >= kSweepPublications || lookups_.size() >= kMaxLookups / 2) {
    return;  // still due at the next sweep
  } else if (held.own) {
    republish_own(key, now);
  } else {
    publish(key, true, true, table_.closest(key, kReplicas), {}, now);
  }
  holdings_.set_due(key, next_due_ns(now));
}

void Node::republish_own(const Id& key, Instant now) {
  start_lookup(
      Lookup(config_.self.id, key, kReplicas, 0), false,
      [this, key](Lookup& lookup, Instant then) { publish(key, true, false, lookup.closest(), {}, then); },
      now);
}

// A peer that is new here gets what it should hold from the closest of those who hold it; one that was away
// from all of them, since nobody knows what it, or we, missed.
void Node::hand_over_slice(Instant now) {
  auto& hand_over = hand_overs_.front();
  std::vector<RecordName> names;
  size_t looked_at = 0;
  const auto& index = holdings_.index();
  auto at = index.lower_bound(hand_over.cursor);
  for (; at != index.end() && looked_at < kHandOverRecords; ++at, ++looked_at) {
    const auto& [key, held] = *at;
    const size_t newcomer = closer(key, hand_over.to.id, config_.self.id) ? 1 : 0;
    const size_t limit = hand_over.rank + newcomer;
    if (table_.closer_than_self(key, limit) < limit &&
        table_.closer_than(hand_over.to.id, key, kReplicas) < kReplicas)
      names.push_back(held.name);
  }
  if (!names.empty() && !busy()) offer(hand_over.to, std::move(names), now);
  if (at == index.end()) {
    hand_overs_.pop_front();
  } else {
    hand_over.cursor = at->first;
  }
}

}  // namespace efs::dht
