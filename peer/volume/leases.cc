#include "peer/volume/leases.h"

#include <algorithm>

#include "peer/volume/open_table.h"

namespace efs {

namespace {
template <typename All, typename One>
bool contains(const All& all, const One& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}
}  // namespace

// ---- sessions ----

void Leases::begin_at(uint64_t mark) {
  std::lock_guard lock(mutex_);
  mark_ = mark;
}

void Leases::attach(const SessionId& session, Recaller recaller, Knows knows) {
  std::lock_guard lock(mutex_);
  if (!sessions_.contains(session)) {
    if (sessions_.size() >= kMaxLeaseSessions) return;
    if (!knows) lost_[session] = ++losses_;  // if it was here before
  }
  Session& one = sessions_[session];
  one.recaller = std::move(recaller);
  one.knows = std::move(knows);
  count_sessions();
}

void Leases::detach(const SessionId& session) {
  expire(session);
  std::lock_guard lock(mutex_);
  std::erase_if(fenced_, [&](const auto& one) { return one.first.second == session; });
  count_fenced();
}

bool Leases::expire(const SessionId& session) {
  std::lock_guard lock(mutex_);
  note_fenced(session);
  remove_all(session);
  sessions_.erase(session);
  lost_.erase(session);
  count_sessions();
  return std::any_of(fenced_.begin(), fenced_.end(),
                     [&](const auto& one) { return one.first.second == session; });
}

void Leases::count_sessions() {
  watching_.clear();
  for (const auto& [id, one] : sessions_) {
    if (one.knows) watching_.push_back(id);
  }
  const size_t remote = sessions_.size() - watching_.size();
  remote_ = remote;
  if (held_back_ || !fenced_.empty()) {
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

void Leases::note_fenced(const SessionId& session) {
  for (const auto& [inode, holders] : held_) {
    for (const Holder& holder : holders) {
      if (holder.exclusive && holder.session == session) add_fenced(session, inode, false, false);
    }
  }
  count_fenced();
}

bool Leases::add_fenced(const SessionId& session, InodeNumber inode, bool bytes, bool attributes) {
  const std::pair key(inode, session);
  if (fenced_.size() >= kMaxFenced && !fenced_.contains(key)) return false;
  Overtaken& one = fenced_[key];
  one.bytes |= bytes;
  one.attributes |= attributes;
  return true;
}

void Leases::count_fenced() {
  const bool before = fenced_count_.exchange(fenced_.size()) != 0;
  if (before == fenced_.empty()) count_sessions();  // who is alone may have changed
}

void Leases::end(const SessionId& session, int64_t at_ns) {
  std::lock_guard lock(mutex_);
  auto of = sessions_.find(session);
  if (of == sessions_.end() || of->second.ends_ns != 0) return;
  of->second.ends_ns = at_ns;
  note_fenced(session);
  lost_[session] = ++losses_;
}

int64_t Leases::ends_ns(const SessionId& session) const {
  std::lock_guard lock(mutex_);
  auto of = sessions_.find(session);
  return of == sessions_.end() ? 0 : of->second.ends_ns;
}

// What end() has noted is not noted again: the session may have sent all by now, and been forgiven.
void Leases::fence(const SessionId& session) {
  std::lock_guard lock(mutex_);
  auto of = sessions_.find(session);
  if (of != sessions_.end() && std::exchange(of->second.ends_ns, 0) == 0) {
    note_fenced(session);
    lost_[session] = ++losses_;
  }
  remove_all(session);
}

bool Leases::expects_late(const SessionId& session, InodeNumber inode) const {
  if (fenced_count_.load() == 0) return false;
  std::lock_guard lock(mutex_);
  return fenced_.contains({inode, session});
}

bool Leases::overtaken(const SessionId& session, InodeNumber inode, Part part) const {
  if (fenced_count_.load() == 0) return false;
  std::lock_guard lock(mutex_);
  auto found = fenced_.find({inode, session});
  if (found == fenced_.end()) return false;
  return part == Part::bytes ? found->second.bytes : found->second.attributes;
}

bool Leases::expect_late(const SessionId& session, InodeNumber inode, bool bytes, bool attributes) {
  std::lock_guard lock(mutex_);
  const bool kept = add_fenced(session, inode, bytes, attributes);
  count_fenced();
  return kept;
}

void Leases::overtake(const SessionId& by, const std::vector<VolumeClient::Change>& changes,
                      bool attributes) {
  if (fenced_count_.load() == 0) return;
  std::lock_guard lock(mutex_);
  for (const auto& change : changes) {
    if (change.inode == 0) continue;
    for (auto one = fenced_.lower_bound({change.inode, SessionId{}});
         one != fenced_.end() && one->first.first == change.inode; ++one) {
      if (one->first.second == by) continue;
      one->second.bytes |= change.content;
      one->second.attributes |= attributes;
    }
  }
}

std::vector<SessionId> Leases::late_ones(const SessionId& by, InodeNumber inode, bool attributes) const {
  std::vector<SessionId> out;
  if (fenced_count_.load() == 0) return out;
  std::lock_guard lock(mutex_);
  for (auto one = fenced_.lower_bound({inode, SessionId{}});
       one != fenced_.end() && one->first.first == inode; ++one) {
    const SessionId& session = one->first.second;
    const bool known = one->second.bytes && (one->second.attributes || !attributes);
    if (session != by && !known && !is_own_session(session)) out.push_back(session);
  }
  return out;
}

void Leases::forgive(const SessionId& session, InodeNumber inode) {
  std::lock_guard lock(mutex_);
  fenced_.erase({inode, session});
  count_fenced();
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
    if (!on) looked_up_.clear();
  }
  for (auto& then : ready) then();
}

bool Leases::after_hold(Then then) {
  if (!held_back_.load()) return false;
  std::lock_guard lock(mutex_);
  if (held_back_) held_thens_.push_back(std::move(then));
  return held_back_;
}

// Which of its changes it was is not known. What it asked for and has not got was not made before.
void Leases::join(const SessionId& by, Then then) {
  const auto last = std::shared_ptr<void>(nullptr, [then = std::move(then)](void*) { then(); });
  std::lock_guard lock(mutex_);
  for (const WaitPointer& wait : waits_) {
    if (wait->by != by || !wait->then || !wait->taken.empty()) continue;
    wait->then = [first = std::move(wait->then), last] { first(); };
  }
}

void Leases::close() {
  std::vector<Then> ready;
  std::vector<WaitPointer> waits;  // let go of without the lock
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    held_back_ = false;
    ready.swap(held_thens_);
    for (const WaitPointer& wait : waits_) {
      if (wait->then) ready.push_back(std::exchange(wait->then, nullptr));
    }
    waits.swap(waits_);
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
  if (of == sessions_.end() || of->second.ends_ns != 0 || inode == unnaming_) return false;
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

void Leases::remove_all(const SessionId& session, uint64_t mark, bool exclusive) {
  for (auto found = held_.begin(); found != held_.end();) {
    const auto next = std::next(found);
    auto holder = std::find_if(found->second.begin(), found->second.end(),
                               [&](const Holder& one) { return one.session == session; });
    const bool has = holder != found->second.end();
    if (has && holder->mark <= mark && (exclusive || !holder->exclusive)) erase(found, holder);
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
  if (held_back_ || taking_.contains(inode)) return false;
  for (const auto& [changed, by] : changing_) {
    if (changed == inode && by != session) return false;
  }
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

bool Leases::begin_change(const SessionId& session, const Inodes& inodes) {
  std::lock_guard lock(mutex_);
  for (InodeNumber inode : inodes) {
    auto found = inode == 0 || exclusive_.load() == 0 ? held_.end() : held_.find(inode);
    if (found == held_.end()) continue;
    for (const Holder& holder : found->second) {
      if (holder.exclusive && holder.session != session) return false;
    }
  }
  for (InodeNumber inode : inodes) {
    if (inode != 0) changing_.emplace_back(inode, session);
  }
  return true;
}

void Leases::note_bytes(InodeNumber inode, int64_t now_ns) {
  if (exclusive_.load() == 0) return;
  std::lock_guard lock(mutex_);
  if (auto taking = taking_.find(inode); taking != taking_.end()) taking->second.bytes_came_ns = now_ns;
}

int64_t Leases::bytes_came_ns(InodeNumber inode) const {
  std::lock_guard lock(mutex_);
  auto taking = taking_.find(inode);
  return taking == taking_.end() ? 0 : taking->second.bytes_came_ns;
}

void Leases::end_change(const SessionId& session, const Inodes& inodes) {
  std::lock_guard lock(mutex_);
  for (InodeNumber inode : inodes) {
    if (inode == 0) continue;
    auto found = std::find(changing_.begin(), changing_.end(), std::pair(inode, session));
    *found = changing_.back();
    changing_.pop_back();
  }
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

bool Leases::holds(const SessionId& session, InodeNumber inode) const {
  std::lock_guard lock(mutex_);
  return find(session, inode) != nullptr;
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

void Leases::drop_all(const SessionId& session, uint64_t mark) {
  std::lock_guard lock(mutex_);
  remove_all(session, mark, false);
}

void Leases::removed(const std::vector<InodeNumber>& inodes) {
  std::lock_guard lock(mutex_);
  for (InodeNumber inode : inodes) {
    for (auto found = held_.find(inode); found != held_.end(); found = held_.find(inode))
      erase(found, found->second.begin());
  }
}

uint64_t Leases::mark() const {
  std::lock_guard lock(mutex_);
  return mark_;
}

std::vector<SessionId> Leases::holders(InodeNumber inode) const {
  if (remote_.load() == 0) return {};
  std::lock_guard lock(mutex_);
  return holders_of(inode);
}

std::vector<SessionId> Leases::begin_unnaming(InodeNumber inode) {
  std::lock_guard lock(mutex_);
  unnaming_ = inode;
  return holders_of(inode);
}

void Leases::end_unnaming() {
  std::lock_guard lock(mutex_);
  unnaming_ = 0;
}

std::vector<SessionId> Leases::holders_of(InodeNumber inode) const {
  std::vector<SessionId> out;
  auto found = held_.find(inode);
  if (found == held_.end()) return out;
  for (const Holder& holder : found->second) {
    if (!is_own_session(holder.session)) out.push_back(holder.session);
  }
  return out;
}

// ---- names ----

Leases::News Leases::begin_news(const SessionId& by, const std::vector<VolumeClient::Change>& changes) {
  if (std::all_of(changes.begin(), changes.end(), [](const auto& change) { return change.name.empty(); }))
    return nullptr;
  std::vector<NamesNews::iterator> begun;
  {
    std::lock_guard lock(mutex_);
    for (const auto& change : changes) {
      if (!change.name.empty())
        begun.push_back(names_news_.emplace(std::pair(change.parent, change.name), NameNews{by, {}}));
    }
    names_news_count_ = names_news_.size();
  }
  return News(nullptr, [weak = weak_from_this(), begun = std::move(begun)](void*) {
    if (auto self = weak.lock()) self->end_news(begun);
  });
}

void Leases::end_news(const std::vector<NamesNews::iterator>& news) {
  std::lock_guard lock(mutex_);
  for (auto one : news) names_news_.erase(one);
  names_news_count_ = names_news_.size();
}

bool Leases::may_err(const SessionId& session, InodeNumber parent, const std::string& name) const {
  if (names_news_count_.load() == 0 && !held_back_.load()) return false;
  std::lock_guard lock(mutex_);
  if (held_back_ && !is_own_session(session) && !looked_up_.contains({session, parent, name})) return true;
  const auto [from, to] = names_news_.equal_range({parent, name});
  return std::any_of(from, to, [&](const auto& one) {
    return one.second.by != session && !contains(one.second.know, session);
  });
}

void Leases::looked_up(const SessionId& session, InodeNumber parent, const std::string& name) {
  if (names_news_count_.load() == 0 && !held_back_.load()) return;
  std::lock_guard lock(mutex_);
  if (held_back_ && looked_up_.size() < kMaxLookedUp) looked_up_.emplace(session, parent, name);
  const auto [from, to] = names_news_.equal_range({parent, name});
  for (auto one = from; one != to; ++one) {
    if (!contains(one->second.know, session)) one->second.know.push_back(session);
  }
}

// ---- recalls ----

void Leases::take_back(const SessionId& session, const std::vector<InodeNumber>& inodes, bool locks_pages,
                       Then then) {
  std::vector<Sent> sent;
  std::vector<Then> ready;
  auto wait = std::make_shared<Wait>();
  if (exclusive_.load() != 0) {
    std::lock_guard lock(mutex_);
    for (InodeNumber inode : inodes) {
      auto found = held_.find(inode);
      if (found == held_.end() || closed_) continue;
      for (const Holder& holder : found->second) {
        if (!holder.exclusive || holder.session == session) continue;
        ++taking_[inode].count;
        wait->taken.push_back(inode);
        wait->awaited.push_back(holder.session);
        Recall recall;
        recall.items.push_back({inode, false, true, {}});
        sent.push_back({holder.session, sessions_[holder.session].recaller, std::move(recall), mark_});
      }
    }
    if (!sent.empty()) {
      wait->by = session;
      wait->needs = wait->taken;
      std::sort(wait->needs.begin(), wait->needs.end());
      if (locks_pages) wait->holds = wait->needs;
      wait->then = std::move(then);
      // It cannot do without what it asks for: what its owner sends must not wait for it.
      for (const WaitPointer& other : std::vector(waits_)) {
        const bool sends = contains(wait->awaited, other->by) && meet(other->holds, wait->needs);
        if (!sends || !meet(other->needs, wait->holds)) continue;
        if (Then answered = no_longer(other, session)) ready.push_back(std::move(answered));
      }
      waits_.push_back(wait);
    }
  }
  if (sent.empty()) return then();
  for (auto& run : ready) run();
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

bool Leases::meet(const Places& one, const Places& other) {
  for (auto a = one.begin(), b = other.begin(); a != one.end() && b != other.end();) {
    if (*a == *b) return true;
    *a < *b ? ++a : ++b;
  }
  return false;
}

// Whether what `wait` asks of the session cannot be done there before `wait` itself is over: it has locked
// that place, for something that waits for somebody who ... waits for `wait.by`, where that has locked.
bool Leases::waits_for(const SessionId& session, const Wait& wait) const {
  std::vector<const Wait*> to_see, seen;
  const auto follow = [&](const SessionId& one, const Places& needs) {
    for (const WaitPointer& next : waits_) {
      if (next->by != one || !meet(next->holds, needs) || contains(seen, next.get())) continue;
      seen.push_back(next.get());
      to_see.push_back(next.get());
    }
  };
  follow(session, wait.needs);
  while (!to_see.empty()) {
    const Wait& at = *to_see.back();
    to_see.pop_back();
    if (contains(at.awaited, wait.by) && meet(at.needs, wait.holds)) return true;
    for (const SessionId& one : at.awaited) follow(one, at.needs);
  }
  return false;
}

// Returns what may go on now, if anything.
Leases::Then Leases::no_longer(const WaitPointer& wait, const SessionId& session) {
  auto found = std::find(wait->awaited.begin(), wait->awaited.end(), session);
  if (found == wait->awaited.end()) return nullptr;
  wait->awaited.erase(found);
  if (!wait->awaited.empty()) return nullptr;
  std::erase(waits_, wait);
  for (InodeNumber inode : wait->taken) {
    if (auto taking = taking_.find(inode); --taking->second.count == 0) taking_.erase(taking);
  }
  return std::exchange(wait->then, nullptr);
}

void Leases::announce(const SessionId& by, const std::vector<VolumeClient::Change>& changes, Then then,
                      Then all, News news) {
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
  auto wait = std::make_shared<Wait>();
  wait->by = by;
  for (const auto& change : changes) {
    if (!change.name.empty()) wait->needs.push_back(change.parent);
    if (change.content) wait->needs.push_back(change.inode);
    for (InodeNumber inode : {change.inode, change.parent}) {
      if (inode != 0) wait->holds.push_back(inode);
    }
  }
  std::sort(wait->needs.begin(), wait->needs.end());
  std::sort(wait->holds.begin(), wait->holds.end());
  {
    std::lock_guard lock(mutex_);
    sent = targets(by, changes);
    for (const Sent& one : sent) {
      if (!closed_ && !waits_for(one.to, *wait)) wait->awaited.push_back(one.to);
    }
    wait->unanswered = sent.size();
    if (!sent.empty()) wait->news = std::move(news);
    if (!sent.empty()) wait->all = std::exchange(all, nullptr);
    if (!wait->awaited.empty()) {
      wait->then = std::exchange(then, nullptr);
      waits_.push_back(wait);
    }
  }
  // Who is not waited for is asked first all the same: an answer to it that leaves after this one must find
  // it told.
  send(std::move(sent), wait);
  if (all) all();
  if (then) then();
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
  Then then, all;
  News news;  // let go of without the lock
  {
    std::lock_guard lock(mutex_);
    if (wait->unanswered > 0 && --wait->unanswered == 0) {
      all = std::exchange(wait->all, nullptr);
      news = std::move(wait->news);
    }
    for (const RecallItem& item : recall.items) {
      if (item.flush) {
        give_back(session, item.inode);
      } else if (item.content) {
        told(session, item.inode, mark);
      }
    }
    then = no_longer(wait, session);
  }
  if (all) all();
  if (then) then();
}

}  // namespace efs
