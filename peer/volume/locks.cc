#include "peer/volume/locks.h"

#include <algorithm>

#include "peer/volume/open_table.h"

namespace efs {

namespace {
constexpr int64_t kLongestTick = 2 * kLockTick;  // more than that this process did not run
constexpr size_t kMaxDeferred = 1 << 16;

bool well_formed(const FileLock& lock) {
  return lock.type <= kWriteLock && lock.start <= lock.end && lock.end <= kLockEnd;
}
}  // namespace

void Locks::run(LockTable::Ready& ready) {
  for (auto& task : ready) task();
}

// ---- requests ----

void Locks::set(const SessionId& session, const SetLock& request, Done done) {
  if (!well_formed(request.lock)) return done(error_reply(Code::invalid_argument));
  auto answered = [done = std::move(done)](Code code) {
    done(code == Code::ok ? Reply{} : error_reply(code));
  };
  if (request.lock.type != kUnlocked && defer({session, request.ticket,
                                               [this, session, request, answered] {
                                                 set(session, request,
                                                     [answered](Reply reply) { answered(reply.code); });
                                               },
                                               answered}))
    return;
  LockTable::Ready ready;
  std::vector<SessionId> lost;
  {
    std::lock_guard lock(mutex_);
    if (closed_) {
      ready.push_back([answered, code = closed_with_] { answered(code); });
    } else {
      for (const SessionId& blocker : table_.blockers(session, request.lock)) {
        if (request.lock.type == kUnlocked || !is_silent(blocker)) continue;
        end_of(blocker, Code::recalled, ready);
        lost.push_back(blocker);
      }
      table_.set(session, request, answered, ready);
      note_busy();
    }
  }
  for (const SessionId& one : lost) taken_(one);
  run(ready);
}

void Locks::get(const SessionId& session, const GetLock& request, Done done) {
  if (!well_formed(request.lock)) return done(error_reply(Code::invalid_argument));
  if (defer({session, 0, [this, session, request, done] { get(session, request, done); },
             [done](Code code) { done(error_reply(code)); }}))
    return;
  Reply reply;
  {
    std::lock_guard lock(mutex_);
    reply.lock = table_.conflict(session, request.lock);
  }
  done(std::move(reply));
}

void Locks::cancel(const SessionId& session, uint64_t ticket) {
  LockTable::Ready ready;
  {
    std::lock_guard lock(mutex_);
    table_.cancel(session, ticket, ready);
    for (auto one = deferred_.begin(); one != deferred_.end();) {
      if (one->session == session && one->ticket == ticket && ticket != 0) {
        ready.push_back([refuse = std::move(one->refuse)] { refuse(Code::interrupted); });
        one = deferred_.erase(one);
      } else {
        ++one;
      }
    }
    note_busy();
  }
  run(ready);
}

// ---- sessions ----

size_t Locks::claim(const SessionId& session, const std::vector<FileLock>& locks, bool only_expected) {
  size_t lost = 0;
  std::lock_guard lock(mutex_);
  if (only_expected && !expected_.contains(session)) return 0;
  for (const FileLock& one : locks) {
    const bool sound = well_formed(one) && one.type != kUnlocked;
    if (!closed_ && sound && !table_.claim(session, one)) ++lost;
  }
  note_busy();
  return lost;
}

void Locks::claimed(const SessionId& session) {
  LockTable::Ready ready;
  {
    std::lock_guard lock(mutex_);
    if (expected_.erase(session) == 0) return;
    end_grace_if_due(ready);
    note_busy();
  }
  run(ready);
}

void Locks::end_of(const SessionId& session, Code code, LockTable::Ready& ready) {
  table_.end(session, code, ready);
  silence_.erase(session);
}

void Locks::end(const SessionId& session) {
  LockTable::Ready ready;
  {
    std::lock_guard lock(mutex_);
    end_of(session, Code::recalled, ready);
    expected_.erase(session);
    end_grace_if_due(ready);
    note_busy();
  }
  run(ready);
}

void Locks::close(Code code) {
  LockTable::Ready ready;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    closed_with_ = code;
    expected_.clear();
    table_.end_waits(code, ready);
    for (auto& one : deferred_) ready.push_back([refuse = std::move(one.refuse), code] { refuse(code); });
    deferred_.clear();
    note_busy();
  }
  run(ready);
}

// ---- after a restart ----

void Locks::expect(const std::vector<SessionId>& sessions) {
  std::lock_guard lock(mutex_);
  expected_.insert(sessions.begin(), sessions.end());
  grace_until_ns_ = clock_.now_ns() + kLockGrace;
  note_busy();
}

bool Locks::defer(Deferred one) {
  Code refused = Code::cancelled;  // asked again: the older one
  {
    std::lock_guard lock(mutex_);
    if (expected_.empty() || closed_) return false;
    auto before = std::find_if(deferred_.begin(), deferred_.end(), [&](const Deferred& other) {
      return one.ticket != 0 && other.session == one.session && other.ticket == one.ticket;
    });
    if (before != deferred_.end()) {
      std::swap(*before, one);
    } else if (deferred_.size() < kMaxDeferred) {
      deferred_.push_back(std::move(one));
      return true;
    } else {
      refused = Code::overloaded;
    }
  }
  one.refuse(refused);
  return true;
}

void Locks::end_grace_if_due(LockTable::Ready& ready) {
  if (!expected_.empty() && clock_.now_ns() < grace_until_ns_) return;
  expected_.clear();
  for (auto& one : deferred_) ready.push_back(std::move(one.run));
  deferred_.clear();
}

// ---- silence ----

// Who was heard since the last tick is not.
bool Locks::is_silent(const SessionId& session) const {
  auto found = silence_.find(session);
  return found != silence_.end() && found->second.silent_ns >= kLockTerm &&
         heard_(session) == found->second.heard_ns;
}

void Locks::tick() {
  LockTable::Ready ready;
  std::vector<SessionId> lost;
  {
    std::lock_guard lock(mutex_);
    const int64_t now_ns = clock_.now_ns();
    const int64_t elapsed_ns = std::min(now_ns - last_tick_ns_, kLongestTick);
    last_tick_ns_ = now_ns;
    end_grace_if_due(ready);
    std::map<SessionId, Silence> silence;
    for (const SessionId& session : table_.sessions()) {
      if (is_own_session(session)) continue;
      const int64_t heard_ns = heard_(session);
      Silence one{heard_ns, std::min(now_ns - heard_ns, kLongestTick)};
      if (auto known = silence_.find(session); known != silence_.end() && known->second.heard_ns == heard_ns)
        one.silent_ns = known->second.silent_ns + elapsed_ns;
      silence.emplace(session, one);
    }
    silence_ = std::move(silence);
    const bool any = std::any_of(silence_.begin(), silence_.end(),
                                 [](const auto& one) { return one.second.silent_ns >= kLockTerm; });
    for (const SessionId& blocker : any ? table_.blockers() : std::vector<SessionId>{}) {
      if (!is_silent(blocker)) continue;
      end_of(blocker, Code::recalled, ready);
      lost.push_back(blocker);
    }
    note_busy();
  }
  for (const SessionId& one : lost) taken_(one);
  run(ready);
}

}  // namespace efs
