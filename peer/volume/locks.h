// Locks at the volume's owner: the table, who of its holders is still there, and the time after a restart.
//
// A session that is not heard for kLockTerm keeps its locks until somebody asks for what conflicts; then all
// of them are taken, and `taken` is told. Silence is counted in time during which this process ran (tick()):
// an owner that was stopped itself hears everybody first. After a restart nothing is granted until each
// session of before has said what it held (claim()), for kLockGrace at most.
//
// Any thread; no lock is held over a callback. close() answers all that waits.
#pragma once

#include <atomic>
#include <mutex>

#include "peer/runtime/clock.h"
#include "peer/volume/lock_table.h"

namespace efs {

inline constexpr int64_t kLockTick = 200 * kMillisecond;

class Locks {
 public:
  using Done = std::function<void(Reply)>;
  // When a session was last heard (Clock::now_ns).
  using Heard = std::function<int64_t(const SessionId&)>;
  using Taken = std::function<void(const SessionId&)>;
  Locks(const Clock& clock, Heard heard, Taken taken)
      : clock_(clock), heard_(std::move(heard)), taken_(std::move(taken)) {}

  void set(const SessionId& session, const SetLock& request, Done done);
  void get(const SessionId& session, const GetLock& request, Done done);
  void cancel(const SessionId& session, uint64_t ticket);
  // How many of these somebody else has by now. `only_expected`: nothing is new here of who was not there
  // before this owner's restart.
  size_t claim(const SessionId& session, const std::vector<FileLock>& locks, bool only_expected = false);
  void claimed(const SessionId& session);  // it has said all
  void end(const SessionId& session);
  // Before anything is asked: sessions of before a restart, that may hold locks.
  void expect(const std::vector<SessionId>& sessions);

  // At least every kLockTick while busy().
  void tick();
  bool busy() const { return busy_.load(); }
  void close(Code code);

 private:
  struct Silence {
    int64_t heard_ns = 0;
    int64_t silent_ns = 0;
  };
  struct Deferred {
    SessionId session{};
    uint64_t ticket = 0;
    std::function<void()> run;
    std::function<void(Code)> refuse;
  };

  bool defer(Deferred one);  // false: there is nothing to wait for
  void end_grace_if_due(LockTable::Ready& ready);
  void end_of(const SessionId& session, Code code, LockTable::Ready& ready);
  bool is_silent(const SessionId& session) const;
  void note_busy() { busy_ = !expected_.empty() || !table_.empty(); }
  static void run(LockTable::Ready& ready);

  const Clock& clock_;
  const Heard heard_;
  const Taken taken_;
  std::atomic<bool> busy_{false};

  std::mutex mutex_;
  LockTable table_;
  std::map<SessionId, Silence> silence_;
  int64_t last_tick_ns_ = 0;
  std::set<SessionId> expected_;
  int64_t grace_until_ns_ = 0;
  std::list<Deferred> deferred_;
  bool closed_ = false;
  Code closed_with_ = Code::ok;
};

}  // namespace efs
