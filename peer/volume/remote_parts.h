// What RemoteVolume is made of; its two sources alone include it.
//
// A call: incoming (any thread) -> waiting (no session yet) -> flying -> answered; back to waiting when its
// connection or its owner goes. Everything but incoming is the loop's.
#pragma once

#include <deque>
#include <mutex>
#include <set>
#include <unordered_set>

#include "peer/volume/lock_table.h"
#include "peer/volume/remote_client.h"

namespace efs {

inline constexpr int64_t kHelloTimeout = 5 * kSecond;
inline constexpr int64_t kReconnectMin = 50 * kMillisecond, kReconnectMax = kSecond;
inline constexpr int64_t kLeaseMargin = kLeaseTerm / 1000;  // clocks may drift apart by so much

struct RemoteCall {
  Credentials who;
  RequestBody body;
  Payload payload;
  VolumeClient::Options options;
  VolumeClient::Done done;
  int64_t deadline_ns = 0;  // 0: none
  int64_t interrupted_ns = 0;
  uint64_t sequence = 0;
  uint64_t number = 0;  // in the order in which they came
  int64_t sent_ns = 0;
  bool maybe_run = false;  // an earlier attempt may have reached the owner
  bool refused = false;    // a lock that the owner would not wait for: it knows nothing of it
  bool cancelled = false;  // and that is not to be asked for again
  bool given_up = false;   // a Create of which it is only asked what it has opened
  InodeNumber closes = 0;  // what such a one has opened
  CallId flight = 0;
  unsigned sendings = 0;
};

Reply unknown_outcome();  // of what may have been asked in a session that has ended

struct RemoteVolume::Impl : std::enable_shared_from_this<Impl> {
  using Call = RemoteCall;
  using CallPointer = std::shared_ptr<Call>;

  Impl(Loop& loop_in, Rpc& rpc_in, Random& random_in, VolumeLocator locator_in, const VolumeId& id_in,
       VolumeNumber number_in, int64_t timeout_in, std::shared_ptr<RecallRouter> router_in)
      : loop(loop_in),
        rpc(rpc_in),
        random(random_in),
        locator(std::move(locator_in)),
        id(id_in),
        number(number_in),
        timeout_ns(timeout_in),
        router(std::move(router_in)),
        ticker(loop_in),
        retry(loop_in) {
    random.fill(session);
  }

  // A listener as it is now, to be called without the lock.
  template <typename Listener>
  Listener current(const Listener& listener) {
    std::lock_guard lock(mutex);
    return listener;
  }
  void hear_owner();
  void recalled(const PeerId& from, const Recall& recall, std::function<void()> forgotten);
  void lose_leases();
  void give_leases_back();
  void tell_lost(bool for_good);
  void renew(int64_t now_ns);
  void drain();
  void admit(CallPointer call);
  void cancel_refused(uint64_t ticket);
  void finish_cancelled(const CallPointer& call);
  void pump();
  void greet();
  void hello_answered(uint64_t attempt, Result<Answer> answer);
  void say_hello();
  void peer_is_up(const PeerId& peer);
  void send(const CallPointer& call);
  void answered(const CallPointer& call, Result<Answer> result);
  void decide(const CallPointer& call, Reply reply, Payload payload);
  void put_back(const CallPointer& call);
  void again(const CallPointer& call);
  void lost_owner(const std::string& why);
  void session_ended();
  void finish(const CallPointer& call, VolumeAnswer answer);
  void give_up(const CallPointer& call, Reply reply, int64_t now_ns);
  void close_unused(InodeNumber inode);
  void note(const Call& call, const Reply& reply);
  void note_lock(const SetLock& set, Code code);
  // The owner is there, and the lock another's: for as long as it takes.
  void wait_on(Call& call) const {
    if (call.deadline_ns != 0) call.deadline_ns = loop.clock().now_ns() + timeout_of(call);
  }
  bool keeps_something() const { return !open.empty() || !locks.empty(); }
  int64_t timeout_of(const Call& call) const {
    return call.options.timeout_ns != 0 ? call.options.timeout_ns : timeout_ns;
  }
  void see_verifier(const Reply& reply);
  Resending begin_resending();
  void tick();
  void shut();
  uint64_t acknowledged() const { return outstanding.empty() ? next_sequence : *outstanding.begin(); }
  // The owner keeps so many results behind a change that is not answered yet, and refuses what is beyond. An
  // open goes behind a Close that nobody here knows of.
  bool may_go(const Call& call) const;

  Loop& loop;
  Rpc& rpc;
  Random& random;
  const VolumeLocator locator;
  const VolumeId id;
  const VolumeNumber number;
  const int64_t timeout_ns;
  const std::shared_ptr<RecallRouter> router;

  std::mutex mutex;  // the eight below
  std::vector<CallPointer> incoming;
  bool posted = false;
  bool closed = false;
  OwnersLog log;
  std::function<void(Resending)> verifier_listener;
  RecallListener recall_listener;
  std::function<void(bool)> lost_listener;
  std::function<void()> renewal_listener;
  std::atomic<bool> leases{false};       // there is a listener: replies may be leased
  std::atomic<bool> leases_used{false};  // since the last look
  std::atomic<int64_t> lease_until_ns{0};
  std::atomic<size_t> pending{0};

  // The loop's.
  enum class State { none, greeting, ready } state = State::none;
  std::optional<PeerId> owner;
  size_t owner_index = 0;
  SessionId session{};
  std::optional<SessionMark> session_mark;  // as the owner has it
  bool known = false;                       // to the owner: it was greeted
  size_t resending = 0;     // runs of the owner, of which what they have lost is not all sent again
  bool waited_for = false;  // it may have started anew, and grants no lock before it hears from who it knew
  uint64_t next_sequence = 1;
  std::set<uint64_t> outstanding;  // sequences that are not answered
  std::deque<CallPointer> waiting;
  std::unordered_set<CallPointer> flying;
  std::vector<CallPointer> parked;  // locks that the owner would not wait for: asked again
  std::unordered_set<InodeNumber> open;
  std::vector<InodeNumber> closing;  // by close_unused()
  uint64_t last_number = 0;
  size_t lock_calls = 0;  // unanswered
  LockTable locks;        // that are held, under SessionId{}
  std::vector<InodeNumber> to_greet;
  std::vector<FileLock> locks_to_greet;
  uint64_t attempt = 0;
  int64_t backoff_ns = kReconnectMin;
  int64_t last_hello_ns = 0;
  int64_t last_renewal_ns = 0;
  bool lapsed = false;        // and told so
  int64_t last_lease_ns = 0;  // 0: none was given since they were lost
  uint64_t leases_lost = 0;   // as the owner counts
  uint64_t lease_mark = 0;    // the last that was heard
  uint64_t names_logged = 0;  // where the owner's log was when it answered the last change of a name
  std::string last_error = "no owner is known";
  Timer ticker, retry;
};

}  // namespace efs
