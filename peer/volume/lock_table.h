// The locks of a volume's files, and who waits for them: a step machine.
//
// POSIX locks (fcntl(2)): byte ranges; those of one owner join, split and replace each other, and a change is
// made whole or not at all. flock(2): the whole file; what changes its type is given up first, as Linux does.
// The two kinds know nothing of each other. A request that conflicts with nothing that is held is granted at
// once, though others may wait; those are served in the order in which they came. A POSIX lock that would
// wait for itself, over any number of owners of this volume, is refused (fcntl(2), EDEADLK).
//
// Not locked: its user's mutex guards it. Callbacks are never run inside: they are handed out as `Ready`.
// Bounds: kMaxLocks and kMaxLockWaits a session. In memory only.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <set>
#include <vector>

#include "peer/volume/request.h"

namespace efs {

inline constexpr size_t kMaxLocks = 1 << 16;  // of one session; more are refused with Code::overloaded
inline constexpr size_t kMaxLockWaits =
    64;  // of one session of another process: each is a request without an answer
inline constexpr size_t kMaxDeadlockWalk = 4096;  // owners looked at, then it is taken to be none

class LockTable {
 public:
  using Answered = std::function<void(Code)>;
  using Ready = std::vector<std::function<void()>>;

  // Code::ok, conflict, loop, overloaded, at once or, with request.wait, later; see SetLock. `lock` was
  // checked: start <= end, a known type.
  void set(const SessionId& session, const SetLock& request, Answered answered, Ready& ready);
  // What it would conflict with first, if anything.
  std::optional<FileLock> conflict(const SessionId& session, const FileLock& lock) const;
  // The sessions that keep it, or anything that waits, from being granted.
  std::vector<SessionId> blockers(const SessionId& session, const FileLock& lock) const;
  std::vector<SessionId> blockers() const;
  // Held from before, unless another has it by now (false).
  bool claim(const SessionId& session, const FileLock& lock);
  // Without looking at anybody else: what the owner of the volume has granted, as a mount notes it.
  void note(const SessionId& session, const FileLock& lock);
  void cancel(const SessionId& session, uint64_t ticket, Ready& ready);
  // Everything of the session goes; its waiting requests are answered `code`.
  void end(const SessionId& session, Code code, Ready& ready);
  // All waiting requests are answered `code`.
  void end_waits(Code code, Ready& ready);

  std::vector<FileLock> of(const SessionId& session) const;
  std::vector<SessionId> sessions() const;  // that hold a lock or wait for one
  bool empty() const { return accounts_.empty(); }

 private:
  struct Owner {
    SessionId session{};
    uint64_t number = 0;
    auto operator<=>(const Owner&) const = default;
  };
  struct Place {  // of one inode and kind
    struct Held {
      Owner owner;
      uint8_t type = kReadLock;
      uint64_t start = 0, end = 0;
      uint32_t pid = 0;
    };
    struct Waiter {
      Owner owner;
      FileLock lock;
      uint64_t ticket = 0;
      Answered answered;
    };
    std::vector<Held> held;
    std::list<Waiter> waiting;
  };
  using Key = std::pair<InodeNumber, bool>;  // flock?
  using Places = std::map<Key, Place>;
  struct Account {
    size_t locks = 0, waits = 0;
    std::set<Key> places;  // where it may have any
  };

  static bool is_blocked(const Place& place, const Owner& owner, const FileLock& lock);
  static bool blocks(const Place::Held& held, const Owner& owner, const FileLock& lock);
  static bool splits(const Place& place, const Owner& owner, const FileLock& lock);
  void assign(Places::iterator place, const Owner& owner, const FileLock& lock);
  void wait(Places::iterator place, const Owner& owner, const SetLock& request, Answered answered);
  std::list<Place::Waiter>::iterator stop_waiting(Places::iterator place,
                                                  std::list<Place::Waiter>::iterator waiter);
  bool waits_for_itself(const Owner& owner, const FileLock& lock) const;
  void grant_waiting(Places::iterator place, Ready& ready);
  // Forgets what is empty.
  void settle(const Key& key, const SessionId& session);

  Places places_;
  std::map<SessionId, Account> accounts_;
  std::multimap<Owner, Key> waits_;  // of POSIX locks: where an owner waits
};

}  // namespace efs
