#include "peer/volume/leases.h"

#include <algorithm>

#include "peer/volume/open_table.h"

namespace efs {

// ---- sessions ----

void Leases::attach(const SessionId& session, Recaller recaller, Knows knows) {
  std::lock_guard lock(mutex_);
  if (sessions_.size() >= kMaxLeaseSessions && !sessions_.contains(session)) return;
  Session& one = sessions_[session];
  one.recaller = std::move(recaller);
  one.knows = std::move(knows);
  count_sessions();
}

void Leases::detach(const SessionId& session) {
  std::lock_guard lock(mutex_);
  remove_all(session);
  sessions_.erase(session);
  lost_.erase(session);
  std::erase_if(fenced_, [&](const auto& one) { return one.first.first == session; });
  fenced_count_ = fenced_.size();
  count_sessions();
}

void Leases::count_sessions() {
  watching_.clear();
  for (const auto& [id, one] : sessions_) {
    if (one.knows) watching_.push_back(id);
  }
  const size_t remote = sessions_.size() - watching_.size();
  remote_ = remote;
  if (held_back_) {
    alone_ = kSeveral;
  } else if (sessions_.empty()) {
    alone_ = kNobody;
  } else {
    alone_ = sessions_.size() == 1 && remote == 0 ? int(sessions_.begin()->first.back()) : kSeveral;
  }
}

bool Leases::alone(const SessionId& session) const {
  const int one = alone_.load();
  return one == kNobody || (one == session.back() && is_own_session(session));
}

void Leases::fence(const SessionId& session) {
  std::lock_guard lock(mutex_);
  for (const auto& [inode, holders] : held_) {
    for (const Holder& holder : holders) {
      if (holder.exclusive && holder.session == session) fenced_.try_emplace({session, inode}, false);
    }
  }
  fenced_count_ = fenced_.size();
  remove_all(session);
  if (sessions_.contains(session)) ++lost_[session];
}

bool Leases::overtaken(const SessionId& session, InodeNumber inode) const {
  if (fenced_count_.load() == 0) return false;
  std::lock_guard lock(mutex_);
  auto found = fenced_.find({session, inode});
  return found != fenced_.end() && found->second;
}

void Leases::forgive(const SessionId& session, InodeNumber inode) {
  if (fenced_count_.load() == 0) return;
  std::lock_guard lock(mutex_);
  fenced_.erase({session, inode});
  fenced_count_ = fenced_.size();
}

uint64_t Leases::lost(const SessionId& session) const {
  if (remote_.load() == 0) return start_;
  std::lock_guard lock(mutex_);
  auto found = lost_.find(session);
  return start_ + (found == lost_.end() ? 0 : found->second);
}

void Leases::hold(bool on) {
  std::vector<Then> ready;
  {
    std::lock_guard lock(mutex_);
    held_back_ = on;
    count_sessions();
    if (!on) ready.swap(held_thens_);
  }
  for (auto& then : ready) then();
}

void Leases::join(const SessionId& by, Then then) {
  {
    std::lock_guard lock(mutex_);
    for (auto wait = waits_.rbegin(); wait != waits_.rend(); ++wait) {
      if ((*wait)->by != by || !(*wait)->then) continue;
      (*wait)->then = [first = std::move((*wait)->then), then = std::move(then)] {
        first();
        then();
      };
      return;
    }
  }
  then();
}

void Leases::close() {
  std::vector<Then> ready;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    held_back_ = false;
    ready.swap(held_thens_);
    for (const WaitPointer& wait : waits_) {
      if (wait->then) ready.push_back(std::exchange(wait->then, nullptr));
    }
    waits_.clear();
  }
  for (auto& then : ready) then();
}

// ---- grants ----

Leases::Holder* Leases::find(const SessionId& session, InodeNumber inode) {
  return const_cast<Holder*>(std::as_const(*this).find(session, inode));
}

const Leases::Holder* Leases::find(const SessionId& session, InodeNumber inode) const {
  auto found = held_.find(inode);
  if (found == held_.end()) return nullptr;
  auto holder = std::find_if(found->second.begin(), found->second.end(),
                             [&](const Holder& one) { return one.session == session; });
  return holder == found->second.end() ? nullptr : &*holder;
}

bool Leases::add(const SessionId& session, InodeNumber inode, bool exclusive, bool names) {
  auto of = sessions_.find(session);
  if (of == sessions_.end()) return false;
  Holder* holder = find(session, inode);
  if (holder == nullptr) {
    if (of->second.leases >= kMaxLeases) return false;
    ++of->second.leases;
    granted_.fetch_add(1);
    holder = &held_[inode].emplace_back();
    holder->session = session;
  }
  holder->mark = ++mark_;
  holder->names |= names;
  if (exclusive && !std::exchange(holder->exclusive, true)) exclusive_.fetch_add(1);
  return true;
}

void Leases::erase(std::unordered_map<InodeNumber, Holders>::iterator found, Holders::iterator holder) {
  if (holder->exclusive) exclusive_.fetch_sub(1);
  granted_.fetch_sub(1);
  if (auto of = sessions_.find(holder->session); of != sessions_.end()) --of->second.leases;
  found->second.erase(holder);
  if (found->second.empty()) held_.erase(found);
}

void Leases::remove(const SessionId& session, InodeNumber inode, uint64_t mark) {
  auto found = held_.find(inode);
  if (found == held_.end()) return;
  auto holder = std::find_if(found->second.begin(), found->second.end(),
                             [&](const Holder& one) { return one.session == session; });
  if (holder != found->second.end() && holder->mark <= mark) erase(found, holder);
}

// News of the inode's bytes has arrived: what the session held of it until `mark` is over. With news of its
// attributes alone the kernel keeps its pages, so the lease stays.
void Leases::told(const SessionId& session, InodeNumber inode, uint64_t mark) {
  const Holder* holder = find(session, inode);
  if (holder != nullptr && !holder->exclusive && !holder->names) remove(session, inode, mark);
}

void Leases::remove_all(const SessionId& session) {
  for (auto found = held_.begin(); found != held_.end();) {
    const auto next = std::next(found);
    auto holder = std::find_if(found->second.begin(), found->second.end(),
                               [&](const Holder& one) { return one.session == session; });
    if (holder != found->second.end()) erase(found, holder);
    found = next;
  }
}

bool Leases::share(const SessionId& session, InodeNumber inode, bool names) {
  if (is_own_session(session) && exclusive_.load() == 0) return true;
  std::lock_guard lock(mutex_);
  auto of = sessions_.find(session);
  if (of == sessions_.end()) return false;
  if (auto found = held_.find(inode); found != held_.end()) {
    for (const Holder& holder : found->second) {
      if (holder.exclusive && holder.session != session) return false;
    }
  }
  return of->second.knows || add(session, inode, false, names);
}

bool Leases::own(const SessionId& session, InodeNumber inode) {
  std::lock_guard lock(mutex_);
  if (taking_.contains(inode)) return false;
  if (auto found = held_.find(inode); found != held_.end()) {
    for (const Holder& holder : found->second) {
      if (holder.session != session) return false;
    }
  }
  if (!add(session, inode, true, false)) return false;
  for (const SessionId& other : watching_) {
    if (other == session || !sessions_[other].knows(inode)) continue;
    give_back(session, inode);
    return false;
  }
  return true;
}

void Leases::disown(const SessionId& session, InodeNumber inode) {
  if (exclusive_.load() == 0) return;
  std::lock_guard lock(mutex_);
  give_back(session, inode);
}

void Leases::give_back(const SessionId& session, InodeNumber inode) {
  Holder* holder = find(session, inode);
  if (holder == nullptr || !std::exchange(holder->exclusive, false)) return;
  exclusive_.fetch_sub(1);
  auto of = sessions_.find(session);
  if (of != sessions_.end() && of->second.knows) remove(session, inode, UINT64_MAX);
}

bool Leases::owns(const SessionId& session, InodeNumber inode) const {
  std::lock_guard lock(mutex_);
  const Holder* holder = find(session, inode);
  return holder != nullptr && holder->exclusive;
}

bool Leases::owned_elsewhere(const SessionId& session, InodeNumber inode) const {
  if (exclusive_.load() == 0) return false;
  std::lock_guard lock(mutex_);
  auto found = held_.find(inode);
  return found != held_.end() &&
         std::any_of(found->second.begin(), found->second.end(),
                     [&](const Holder& holder) { return holder.exclusive && holder.session != session; });
}

void Leases::drop(const SessionId& session, const std::vector<InodeNumber>& inodes, uint64_t mark) {
  std::lock_guard lock(mutex_);
  for (InodeNumber inode : inodes) remove(session, inode, mark);
}

uint64_t Leases::mark() const {
  std::lock_guard lock(mutex_);
  return mark_;
}

std::vector<SessionId> Leases::holders(InodeNumber inode) const {
  std::vector<SessionId> out;
  if (remote_.load() == 0) return out;
  std::lock_guard lock(mutex_);
  auto found = held_.find(inode);
  if (found == held_.end()) return out;
  for (const Holder& holder : found->second) {
    if (!is_own_session(holder.session)) out.push_back(holder.session);
  }
  return out;
}

// ---- recalls ----

void Leases::take_back(const SessionId& session, const std::vector<InodeNumber>& inodes, Then then) {
  std::vector<Sent> sent;
  auto wait = std::make_shared<Wait>();
  if (exclusive_.load() != 0) {
    std::lock_guard lock(mutex_);
    for (InodeNumber inode : inodes) {
      auto found = held_.find(inode);
      if (found == held_.end() || closed_) continue;
      for (const Holder& holder : found->second) {
        if (!holder.exclusive || holder.session == session) continue;
        ++taking_[inode];
        wait->taken.push_back(inode);
        Recall recall;
        recall.items.push_back({inode, false, true, {}});
        sent.push_back({holder.session, sessions_[holder.session].recaller, std::move(recall), mark_});
      }
    }
    wait->by = session;
    wait->left = sent.size();
    if (!sent.empty()) {
      wait->then = std::move(then);
      waits_.push_back(wait);
    }
  }
  if (sent.empty()) return then();
  send(std::move(sent), wait);
}

// One Recall for each session that may believe something of this.
std::vector<Leases::Sent> Leases::targets(const SessionId& by,
                                          const std::vector<VolumeClient::Change>& changes) {
  std::map<SessionId, Recall> asked;
  auto ask_holders = [&](InodeNumber inode, const RecallItem& item) {
    auto found = held_.find(inode);
    if (found == held_.end()) return;
    for (const Holder& holder : found->second) {
      if (holder.session != by && !sessions_[holder.session].knows)
        asked[holder.session].items.push_back(item);
    }
  };
  for (auto& [of, overtaken] : fenced_) {
    for (const auto& change : changes)
      overtaken |= change.content && change.inode == of.second && by != of.first;
  }
  for (const auto& change : changes) {
    const RecallItem inode{change.inode, change.content, false, {}};
    const RecallItem entry{change.parent, false, false, change.name};
    if (change.inode != 0) ask_holders(change.inode, inode);
    if (!change.name.empty()) ask_holders(change.parent, entry);
    for (const SessionId& session : watching_) {
      if (session == by) continue;
      if (change.inode != 0) asked[session].items.push_back(inode);
      if (!change.name.empty()) asked[session].items.push_back(entry);
    }
  }
  std::vector<Sent> sent;
  for (auto& [session, recall] : asked) {
    if (Session& of = sessions_[session]; of.recaller)
      sent.push_back({session, of.recaller, std::move(recall), mark_});
  }
  return sent;
}

// Whoever waits in these places for others would keep `session` from forgetting: answered now.
void Leases::release(const SessionId& session, const std::vector<InodeNumber>& places,
                     std::vector<Then>& ready) {
  for (const WaitPointer& wait : waits_) {
    if (wait->by != session || !wait->then) continue;
    const bool there = std::any_of(wait->places.begin(), wait->places.end(), [&](InodeNumber one) {
      return std::find(places.begin(), places.end(), one) != places.end();
    });
    if (there) ready.push_back(std::exchange(wait->then, nullptr));
  }
}

void Leases::announce(const SessionId& by, const std::vector<VolumeClient::Change>& changes, Then then) {
  {
    std::lock_guard lock(mutex_);
    if (held_back_) {
      then = [this, then = std::move(then)] {
        std::unique_lock inner(mutex_);
        if (held_back_) return held_thens_.push_back(then);
        inner.unlock();
        then();
      };
    }
  }
  std::vector<Sent> sent;
  std::vector<Then> ready;
  auto wait = std::make_shared<Wait>();
  {
    std::lock_guard lock(mutex_);
    sent = targets(by, changes);
    wait->by = by;
    wait->left = sent.size();
    for (const auto& change : changes) {
      if (!change.name.empty()) wait->places.push_back(change.parent);
      if (change.content) wait->places.push_back(change.inode);
    }
    bool waits = !sent.empty() && !closed_;
    if (auto self = sessions_.find(by); self != sessions_.end()) {
      for (InodeNumber place : wait->places) waits &= !self->second.asked.contains(place);
    }
    for (const Sent& one : sent) {
      release(one.to, wait->places, ready);
      for (InodeNumber place : wait->places) ++sessions_[one.to].asked[place];
    }
    if (waits) {
      wait->then = std::move(then);
      waits_.push_back(wait);
    } else {
      ready.push_back(std::move(then));
    }
  }
  for (auto& run : ready) run();
  send(std::move(sent), wait);
}

void Leases::send(std::vector<Sent> sent, const WaitPointer& wait) {
  for (Sent& one : sent) {
    auto recall = std::make_shared<const Recall>(std::move(one.recall));
    one.recaller(*recall, [weak = weak_from_this(), to = one.to, recall, mark = one.mark, wait] {
      if (auto self = weak.lock()) self->forgotten(to, *recall, mark, wait);
    });
  }
}

void Leases::forgotten(const SessionId& session, const Recall& recall, uint64_t mark,
                       const WaitPointer& wait) {
  Then then;
  {
    std::lock_guard lock(mutex_);
    for (const RecallItem& item : recall.items) {
      if (item.flush) {
        give_back(session, item.inode);
      } else if (item.content) {
        told(session, item.inode, mark);
      }
    }
    auto of = sessions_.find(session);
    if (of != sessions_.end() && wait->taken.empty()) {
      for (InodeNumber place : wait->places) {
        auto asked = of->second.asked.find(place);
        if (asked != of->second.asked.end() && --asked->second == 0) of->second.asked.erase(asked);
      }
    }
    if (--wait->left == 0) {
      std::erase(waits_, wait);
      for (InodeNumber inode : wait->taken) {
        if (auto taking = taking_.find(inode); --taking->second == 0) taking_.erase(taking);
      }
      then = std::exchange(wait->then, nullptr);
    }
  }
  if (then) then();
}

}  // namespace efs
