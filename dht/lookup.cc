#include "dht/lookup.h"

#include <algorithm>

namespace efs::dht {

namespace {
constexpr int kDeadAllowance = 2;  // contacts that somebody may name and that turn out dead, for nothing
}

Lookup::Candidate* Lookup::find(const Id& id) {
  auto at = std::lower_bound(
      candidates_.begin(), candidates_.end(), id,
      [&](const auto& candidate, const auto& x) { return closer(target_, candidate.contact.id, x); });
  return at != candidates_.end() && at->contact.id == id ? &*at : nullptr;
}

bool Lookup::distrusted(const Candidate& candidate) const {
  if (candidate.source < 0) return false;
  const auto& source = sources_[size_t(candidate.source)];
  return source.dead > kDeadAllowance + source.alive;
}

void Lookup::add(const Contact& contact, int hops, int source) {
  if (contact.id == self_ || !valid(contact)) return;
  auto at = std::lower_bound(
      candidates_.begin(), candidates_.end(), contact.id,
      [&](const auto& candidate, const auto& x) { return closer(target_, candidate.contact.id, x); });
  if (at != candidates_.end() && at->contact.id == contact.id) {
    // Somebody else vouches for it, or knows another address.
    const bool gone = at->state == State::failed || at->state == State::slow;
    if ((at->state == State::fresh && distrusted(*at)) || (gone && at->contact.address != contact.address))
      *at = {contact, State::fresh, hops, source, 0};
    return;
  }
  candidates_.insert(at, {contact, State::fresh, hops, source, 0});
  if (candidates_.size() <= kMaxCandidates) return;
  auto furthest = std::find_if(candidates_.rbegin(), candidates_.rend(),
                               [](const auto& candidate) { return candidate.state == State::fresh; });
  if (furthest != candidates_.rend()) candidates_.erase(std::next(furthest).base());
}

void Lookup::add_known(const std::vector<Contact>& contacts) {
  for (const auto& contact : contacts) add(contact, 1, -1);
}

// The closest that was not asked, among the `width` closest that may still count.
Lookup::Candidate* Lookup::pick(bool trusted_only) {
  size_t ahead = 0;
  for (auto& candidate : candidates_) {
    if (ahead >= width_) return nullptr;
    if (candidate.state == State::failed || candidate.state == State::slow) continue;
    if (candidate.state == State::fresh) {
      if (!trusted_only || !distrusted(candidate)) return &candidate;
    } else {
      ++ahead;
    }
  }
  return nullptr;
}

std::optional<Contact> Lookup::next() {
  if (in_flight_ >= kParallel || requests_ >= kMaxLookupRequests || (quorum_ > 0 && values_ >= quorum_))
    return std::nullopt;
  auto* candidate = pick(true);
  // What a liar named is better than nothing.
  if (candidate == nullptr && in_flight_ == 0 && answers_ < std::min(width_, kParallel))
    candidate = pick(false);
  if (candidate == nullptr) return std::nullopt;
  candidate->state = State::asked;
  ++in_flight_;
  ++requests_;
  return candidate->contact;
}

void Lookup::count_dead(const Candidate& candidate) {
  if (candidate.source >= 0) ++sources_[size_t(candidate.source)].dead;
}

void Lookup::slow(const Id& from) {
  auto* candidate = find(from);
  if (candidate == nullptr || candidate->state != State::asked) return;
  candidate->state = State::slow;
  --in_flight_;
  count_dead(*candidate);
}

void Lookup::failed(const Id& from) {
  auto* candidate = find(from);
  if (candidate == nullptr || (candidate->state != State::asked && candidate->state != State::slow)) return;
  if (candidate->state == State::asked) {
    --in_flight_;
    count_dead(*candidate);
  }
  candidate->state = State::failed;
}

void Lookup::answered(const Id& from, const std::vector<Contact>& contacts) {
  auto* candidate = find(from);
  if (candidate == nullptr || (candidate->state != State::asked && candidate->state != State::slow)) return;
  if (candidate->source >= 0) {
    auto& source = sources_[size_t(candidate->source)];
    if (candidate->state == State::slow) --source.dead;
    ++source.alive;
  }
  if (candidate->state == State::asked) --in_flight_;
  candidate->state = State::answered;
  ++answers_;
  if (contacts.empty()) return;
  const int hops = candidate->hops + 1;
  sources_.emplace_back();
  for (const auto& contact : contacts) add(contact, hops, int(sources_.size()) - 1);
}

void Lookup::answered(const Id& from, const Record& record) {
  const size_t before = answers_;
  answered(from, std::vector<Contact>{});
  if (answers_ == before) return;
  auto* candidate = find(from);
  candidate->state = State::holder;
  candidate->version = record.version;
  ++values_;
  if (!best_ || supersedes(record, *best_)) best_ = record;
}

bool Lookup::finished() const {
  if (quorum_ > 0 && values_ >= quorum_) return true;
  if (requests_ >= kMaxLookupRequests) return in_flight_ == 0;
  size_t done = 0;
  bool waiting = false;  // for slow ones, which matter only when too few others answered
  for (const auto& candidate : candidates_) {
    if (done >= width_) break;
    switch (candidate.state) {
      case State::asked:
        return false;
      case State::fresh:
        if (!distrusted(candidate) || answers_ < std::min(width_, kParallel)) return false;
        break;
      case State::slow:
        waiting = true;
        break;
      case State::answered:
      case State::holder:
        ++done;
        break;
      case State::failed:
        break;
    }
  }
  const bool enough = quorum_ > 0 ? values_ > 0 || done >= width_ : done >= (width_ + 1) / 2;
  return !waiting || enough;
}

std::vector<Contact> Lookup::closest() const {
  std::vector<Contact> result;
  for (const auto& candidate : candidates_) {
    if (result.size() >= width_) break;
    if (candidate.state == State::answered) result.push_back(candidate.contact);
  }
  return result;
}

std::vector<Contact> Lookup::outdated() const {
  std::vector<Contact> result;
  for (const auto& candidate : candidates_) {
    if (candidate.state == State::holder && best_ && candidate.version < best_->version)
      result.push_back(candidate.contact);
  }
  return result;
}

int Lookup::hops() const {
  int nearest = 0;
  for (const auto& candidate : candidates_) {
    if (values_ == 0 && candidate.state == State::answered) return candidate.hops;
    if (candidate.state == State::holder && (nearest == 0 || candidate.hops < nearest))
      nearest = candidate.hops;
  }
  return nearest;
}

}  // namespace efs::dht
