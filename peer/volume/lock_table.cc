// set: own older locks make way, or it waits; whatever frees something looks through those who wait.
#include "peer/volume/lock_table.h"

#include <algorithm>

#include "peer/volume/open_table.h"

namespace efs {

namespace {
template <typename Held>
bool overlaps(const Held& held, const FileLock& lock) {
  return held.start <= lock.end && lock.start <= held.end;
}
template <typename Held>
FileLock shown(InodeNumber inode, bool flock, const Held& held) {
  return {inode, flock, held.owner.number, held.type, held.start, held.end, held.pid};
}
}  // namespace

bool LockTable::is_blocked(const Place& place, const Owner& owner, const FileLock& lock) {
  return std::any_of(place.held.begin(), place.held.end(),
                     [&](const Place::Held& held) { return blocks(held, owner, lock); });
}

bool LockTable::blocks(const Place::Held& held, const Owner& owner, const FileLock& lock) {
  return lock.type != kUnlocked && held.owner != owner &&
         (held.type == kWriteLock || lock.type == kWriteLock) && overlaps(held, lock);
}

// Whether letting go of the range makes two locks of one.
bool LockTable::splits(const Place& place, const Owner& owner, const FileLock& lock) {
  return std::any_of(place.held.begin(), place.held.end(), [&](const Place::Held& one) {
    return one.owner == owner && one.start < lock.start && lock.end < one.end;
  });
}

// What the owner holds of the range is cut out; what is new joins its neighbours.
void LockTable::assign(Places::iterator place, const Owner& owner, const FileLock& lock) {
  auto& held = place->second.held;
  const size_t before = held.size();
  Place::Held fresh{owner, lock.type, lock.start, lock.end, lock.pid};
  std::vector<Place::Held> pieces;
  std::erase_if(held, [&](const Place::Held& one) {
    if (one.owner != owner) return false;
    const bool joins = one.type == fresh.type &&
                       one.start <= (fresh.end == UINT64_MAX ? fresh.end : fresh.end + 1) &&
                       fresh.start <= (one.end == UINT64_MAX ? one.end : one.end + 1);
    if (joins) {
      fresh.start = std::min(fresh.start, one.start);
      fresh.end = std::max(fresh.end, one.end);
      return true;
    }
    if (!overlaps(one, lock)) return false;
    if (one.start < lock.start) pieces.push_back({owner, one.type, one.start, lock.start - 1, one.pid});
    if (one.end > lock.end) pieces.push_back({owner, one.type, lock.end + 1, one.end, one.pid});
    return true;
  });
  held.insert(held.end(), pieces.begin(), pieces.end());
  if (lock.type != kUnlocked) held.push_back(fresh);
  Account& account = accounts_[owner.session];
  account.locks += held.size() - before;  // both unsigned: it may go down
  account.places.insert(place->first);
}

void LockTable::settle(const Key& key, const SessionId& session) {
  auto place = places_.find(key);
  bool any = false;
  if (place != places_.end()) {
    for (const auto& one : place->second.held) any |= one.owner.session == session;
    for (const auto& one : place->second.waiting) any |= one.owner.session == session;
    if (place->second.held.empty() && place->second.waiting.empty()) places_.erase(place);
  }
  auto account = accounts_.find(session);
  if (any || account == accounts_.end()) return;
  account->second.places.erase(key);
  if (account->second.places.empty()) accounts_.erase(account);
}

// ---- waiting ----

void LockTable::wait(Places::iterator place, const Owner& owner, const SetLock& request, Answered answered) {
  Account& account = accounts_[owner.session];
  ++account.waits;
  account.places.insert(place->first);
  if (!place->first.second) waits_.emplace(owner, place->first);
  place->second.waiting.push_back({owner, request.lock, request.ticket, std::move(answered)});
}

std::list<LockTable::Place::Waiter>::iterator LockTable::stop_waiting(
    Places::iterator place, std::list<Place::Waiter>::iterator waiter) {
  --accounts_[waiter->owner.session].waits;
  auto [from, to] = waits_.equal_range(waiter->owner);
  auto found = std::find_if(from, to, [&](const auto& one) { return one.second == place->first; });
  if (found != to) waits_.erase(found);
  return place->second.waiting.erase(waiter);
}

// Over those who hold what is wanted, and what they wait for themselves.
bool LockTable::waits_for_itself(const Owner& owner, const FileLock& lock) const {
  std::set<Owner> seen;
  std::vector<Owner> todo;
  const auto add_holders = [&](const Key& key, const Owner& waiting, const FileLock& wanted) {
    auto place = places_.find(key);
    if (place == places_.end()) return;
    for (const auto& held : place->second.held) {
      if (held.owner != waiting && (held.type == kWriteLock || wanted.type == kWriteLock) &&
          overlaps(held, wanted) && !seen.contains(held.owner))
        todo.push_back(held.owner);
    }
  };
  add_holders({lock.inode, false}, owner, lock);
  while (!todo.empty() && seen.size() < kMaxDeadlockWalk) {
    const Owner one = todo.back();
    todo.pop_back();
    if (one == owner) return true;
    if (!seen.insert(one).second) continue;
    for (auto [at, end] = waits_.equal_range(one); at != end; ++at) {
      for (const auto& waiter : places_.at(at->second).waiting) {
        if (waiter.owner == one) add_holders(at->second, one, waiter.lock);
      }
    }
  }
  return false;
}

// Until nothing more can be granted: what is granted may free some of what its owner held before.
void LockTable::grant_waiting(Places::iterator place, Ready& ready) {
  for (bool again = true; again;) {
    again = false;
    auto& waiting = place->second.waiting;
    for (auto waiter = waiting.begin(); waiter != waiting.end();) {
      if (is_blocked(place->second, waiter->owner, waiter->lock)) {
        ++waiter;
        continue;
      }
      assign(place, waiter->owner, waiter->lock);
      ready.push_back([answered = std::move(waiter->answered)] { answered(Code::ok); });
      waiter = stop_waiting(place, waiter);
      again = true;
    }
  }
}

// ---- requests ----

void LockTable::set(const SessionId& session, const SetLock& request, Answered answered, Ready& ready) {
  const FileLock& lock = request.lock;
  const Owner owner{session, lock.owner};
  const Key key{lock.inode, lock.flock};
  const auto answer = [&](Code code) {
    ready.push_back([code, answered = std::move(answered)] { answered(code); });
    settle(key, session);
  };
  auto place = places_.try_emplace(key).first;
  auto& waiting = place->second.waiting;
  auto before = std::find_if(waiting.begin(), waiting.end(), [&](const Place::Waiter& one) {
    return one.owner == owner && one.ticket == request.ticket;
  });
  if (before != waiting.end()) {  // asked again: over another connection
    ready.push_back([old = std::exchange(before->answered, std::move(answered))] { old(Code::cancelled); });
    return;
  }
  if (lock.flock) {
    for (const auto& held : place->second.held) {
      if (held.owner != owner || held.type == lock.type) continue;
      FileLock old = lock;
      old.type = kUnlocked;
      assign(place, owner, old);
      break;
    }
  }
  if (!is_blocked(place->second, owner, lock)) {
    auto account = accounts_.find(session);
    const bool more = lock.type != kUnlocked || splits(place->second, owner, lock);
    if (more && account != accounts_.end() && account->second.locks >= kMaxLocks)
      return answer(Code::overloaded);
    assign(place, owner, lock);
    grant_waiting(place, ready);
    return answer(Code::ok);
  }
  grant_waiting(place, ready);
  if (!request.wait) return answer(Code::conflict);
  if (!lock.flock && waits_for_itself(owner, lock)) return answer(Code::loop);
  auto account = accounts_.find(session);
  if (account != accounts_.end() && account->second.waits >= kMaxLockWaits && !is_own_session(session))
    return answer(Code::conflict);
  wait(place, owner, request, std::move(answered));
}

std::optional<FileLock> LockTable::conflict(const SessionId& session, const FileLock& lock) const {
  auto place = places_.find({lock.inode, lock.flock});
  if (place == places_.end()) return std::nullopt;
  // The one that begins first. F_UNLCK: of what it holds itself (F_OFD_GETLK, since Linux 6.6).
  const Owner owner{session, lock.owner};
  const Place::Held* found = nullptr;
  for (const auto& held : place->second.held) {
    const bool meant =
        lock.type == kUnlocked ? held.owner == owner && overlaps(held, lock) : blocks(held, owner, lock);
    if (meant && (found == nullptr || held.start < found->start)) found = &held;
  }
  if (found == nullptr) return std::nullopt;
  return shown(lock.inode, lock.flock, *found);
}

std::vector<SessionId> LockTable::blockers(const SessionId& session, const FileLock& lock) const {
  std::set<SessionId> out;
  auto place = places_.find({lock.inode, lock.flock});
  if (place == places_.end()) return {};
  const Owner owner{session, lock.owner};
  for (const auto& held : place->second.held) {
    if (held.owner != owner && (held.type == kWriteLock || lock.type == kWriteLock) && overlaps(held, lock))
      out.insert(held.owner.session);
  }
  return {out.begin(), out.end()};
}

std::vector<SessionId> LockTable::blockers() const {
  std::set<SessionId> out;
  for (const auto& [key, place] : places_) {
    for (const auto& waiter : place.waiting) {
      for (const SessionId& one : blockers(waiter.owner.session, waiter.lock)) out.insert(one);
    }
  }
  return {out.begin(), out.end()};
}

bool LockTable::claim(const SessionId& session, const FileLock& lock) {
  if (conflict(session, lock)) return false;
  auto account = accounts_.find(session);
  if (account != accounts_.end() && account->second.locks >= kMaxLocks) return false;
  note(session, lock);
  return true;
}

void LockTable::note(const SessionId& session, const FileLock& lock) {
  const Key key{lock.inode, lock.flock};
  assign(places_.try_emplace(key).first, {session, lock.owner}, lock);
  settle(key, session);
}

void LockTable::cancel(const SessionId& session, uint64_t ticket, Ready& ready) {
  auto account = accounts_.find(session);
  if (account == accounts_.end()) return;
  for (const Key& key : std::vector<Key>(account->second.places.begin(), account->second.places.end())) {
    auto place = places_.find(key);
    if (place == places_.end()) continue;
    auto& waiting = place->second.waiting;
    auto found = std::find_if(waiting.begin(), waiting.end(), [&](const Place::Waiter& one) {
      return one.owner.session == session && one.ticket == ticket;
    });
    if (found == waiting.end()) continue;
    ready.push_back([answered = std::move(found->answered)] { answered(Code::interrupted); });
    stop_waiting(place, found);
    return settle(key, session);
  }
}

void LockTable::end(const SessionId& session, Code code, Ready& ready) {
  auto account = accounts_.find(session);
  if (account == accounts_.end()) return;
  const std::vector<Key> keys(account->second.places.begin(), account->second.places.end());
  for (const Key& key : keys) {
    auto place = places_.find(key);
    if (place == places_.end()) continue;
    auto& waiting = place->second.waiting;
    for (auto waiter = waiting.begin(); waiter != waiting.end();) {
      if (waiter->owner.session != session) {
        ++waiter;
        continue;
      }
      ready.push_back([code, answered = std::move(waiter->answered)] { answered(code); });
      waiter = stop_waiting(place, waiter);
    }
    std::erase_if(place->second.held, [&](const auto& one) { return one.owner.session == session; });
    grant_waiting(place, ready);
    settle(key, session);
  }
  accounts_.erase(session);
}

void LockTable::end_waits(Code code, Ready& ready) {
  std::vector<std::pair<Key, SessionId>> touched;
  for (auto place = places_.begin(); place != places_.end(); ++place) {
    auto& waiting = place->second.waiting;
    for (auto waiter = waiting.begin(); waiter != waiting.end(); waiter = stop_waiting(place, waiter)) {
      touched.emplace_back(place->first, waiter->owner.session);
      ready.push_back([code, answered = std::move(waiter->answered)] { answered(code); });
    }
  }
  for (const auto& [key, session] : touched) settle(key, session);
}

std::vector<FileLock> LockTable::of(const SessionId& session) const {
  std::vector<FileLock> out;
  auto account = accounts_.find(session);
  if (account == accounts_.end()) return out;
  for (const Key& key : account->second.places) {
    auto place = places_.find(key);
    if (place == places_.end()) continue;
    for (const auto& held : place->second.held) {
      if (held.owner.session == session) out.push_back(shown(key.first, key.second, held));
    }
  }
  return out;
}

std::vector<SessionId> LockTable::sessions() const {
  std::vector<SessionId> out;
  for (const auto& [session, account] : accounts_) out.push_back(session);
  return out;
}

}  // namespace efs
