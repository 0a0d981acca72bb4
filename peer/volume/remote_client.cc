// A call: incoming_ (any thread) -> waiting_ (no session yet) -> flying_ -> answered; back to waiting_ when
// its connection or its owner goes. Everything but incoming_ is the loop's.
#include "peer/volume/remote_client.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <set>
#include <unordered_set>

#include "peer/volume/lock_table.h"
#include "peer/volume/service.h"

namespace efs {

namespace {
constexpr int64_t kTick = 100 * kMillisecond;
constexpr int64_t kCallTimeout = 30 * kSecond;
constexpr int64_t kHelloTimeout = 5 * kSecond;
constexpr int64_t kRetryMin = 50 * kMillisecond, kRetryMax = kSecond;
constexpr int64_t kLeaseMargin = kLeaseTerm / 1000;  // clocks may drift apart by so much
constexpr int64_t kLeaseIdle = kMinute;              // leases that nobody used for so long are let go
constexpr size_t kInodesPerHello = 50'000;           // 9 bytes each: below kMaxBody
constexpr size_t kLocksPerHello = 5'000;             // below 64 bytes each
constexpr int64_t kLockWait = 10 * kMinute;          // then it is asked again

struct Call {
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
  bool given_up = false;   // a Create of which it is only asked what it has opened
  InodeNumber closes = 0;  // what such a one has opened
  CallId flight = 0;
  unsigned sendings = 0;
};
using CallPointer = std::shared_ptr<Call>;

bool opens(const Call& call, InodeNumber inode) {
  if (const auto* open = std::get_if<Open>(&call.body)) return open->inode == inode;
  const auto* told = std::get_if<Hello>(&call.body);
  return told != nullptr && std::find(told->open.begin(), told->open.end(), inode) != told->open.end();
}

Reply unknown_outcome() {
  return error_reply(Code::unreachable,
                     "the session with the volume's owner ended; whether the change was made is not known");
}

bool waits_for_lock(const Call& call) {
  const auto* set = std::get_if<SetLock>(&call.body);
  return set != nullptr && set->wait;
}
}  // namespace

struct RemoteVolume::Impl : std::enable_shared_from_this<Impl> {
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

  void hear_owner();
  void recalled(const PeerId& from, const Recall& recall, std::function<void()> forgotten);
  void lose_leases();
  void give_leases_back();
  void tell_lost(bool for_good);
  void renew(int64_t now_ns);
  void drain();
  void admit(CallPointer call);
  void pump();
  void greet();
  void hello_answered(uint64_t attempt, Result<Answer> answer);
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
  void tick();
  void shut();
  uint64_t acknowledged() const { return outstanding.empty() ? next_sequence : *outstanding.begin(); }
  // The owner keeps so many results behind a change that is not answered yet, and refuses what is beyond. An
  // open goes behind a Close that nobody here knows of.
  bool may_go(const Call& call) const {
    if (!changes(call.body))
      return std::none_of(closing.begin(), closing.end(), [&](InodeNumber one) { return opens(call, one); });
    return call.sequence != 0 || next_sequence <= acknowledged() + kMaxResultsPerSession;
  }

  Loop& loop;
  Rpc& rpc;
  Random& random;
  const VolumeLocator locator;
  const VolumeId id;
  const VolumeNumber number;
  const int64_t timeout_ns;
  const std::shared_ptr<RecallRouter> router;

  std::mutex mutex;  // the seven below
  std::vector<CallPointer> incoming;
  bool posted = false;
  bool closed = false;
  OwnersLog log;
  std::function<void()> verifier_listener;
  RecallListener recall_listener;
  std::function<void(bool)> lost_listener;
  std::atomic<bool> leases{false};  // there is a listener: replies may be leased
  std::atomic<int64_t> lease_until_ns{0};
  std::atomic<size_t> pending{0};

  // The loop's.
  enum class State { none, greeting, ready } state = State::none;
  std::optional<PeerId> owner;
  size_t owner_index = 0;
  SessionId session{};
  std::optional<SessionMark> session_mark;  // as the owner has it
  bool known = false;                       // to the owner: it was greeted
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
  int64_t backoff_ns = kRetryMin;
  int64_t last_hello_ns = 0;
  bool lapsed = false;        // and told so
  int64_t last_lease_ns = 0;  // 0: none was given since they were lost
  uint64_t leases_lost = 0;   // as the owner counts
  uint64_t lease_mark = 0;    // the last that was heard
  std::string last_error = "no owner is known";
  Timer ticker, retry;
};

RemoteVolume::RemoteVolume(Loop& loop, Rpc& rpc, Random& random, VolumeLocator locator, const VolumeId& id,
                           VolumeNumber number, int64_t timeout_ns, std::shared_ptr<RecallRouter> router)
    : impl_(std::make_shared<Impl>(loop, rpc, random, std::move(locator), id, number, timeout_ns,
                                   std::move(router))) {
  impl_->hear_owner();
  impl_->tick();
}
RemoteVolume::~RemoteVolume() {
  impl_->shut();
}
void RemoteVolume::close() {
  impl_->shut();
}
const VolumeId& RemoteVolume::id() const {
  return impl_->id;
}
VolumeNumber RemoteVolume::number() const {
  return impl_->number;
}
void RemoteVolume::on_new_verifier(std::function<void()> listener) {
  std::lock_guard lock(impl_->mutex);
  impl_->verifier_listener = std::move(listener);
}
void RemoteVolume::on_recall(RecallListener listener, std::function<bool(InodeNumber)>) {
  std::lock_guard lock(impl_->mutex);
  impl_->recall_listener = std::move(listener);
  impl_->leases = impl_->router != nullptr;
}
void RemoteVolume::on_leases_lost(std::function<void(bool)> listener) {
  std::lock_guard lock(impl_->mutex);
  impl_->lost_listener = std::move(listener);
}
OwnersLog RemoteVolume::owners_log() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->log;
}
int64_t RemoteVolume::lease_until_ns() const {
  return impl_->lease_until_ns.load();
}

void RemoteVolume::call(const Credentials& who, RequestBody body, Payload payload, const Options& options,
                        Done done) {
  auto one = std::make_shared<Call>();
  one->who = who;
  one->body = std::move(body);
  one->payload = std::move(payload);
  one->options = options;
  one->done = std::move(done);
  const int64_t timeout = impl_->timeout_of(*one);
  if (timeout > 0) one->deadline_ns = impl_->loop.clock().now_ns() + timeout;
  Code refused = Code::ok;
  bool post = false;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->closed) {
      refused = Code::closed;
    } else if (impl_->pending.load() >= kMaxPendingCalls) {
      refused = Code::overloaded;
    } else {
      ++impl_->pending;
      impl_->incoming.push_back(one);
      post = !std::exchange(impl_->posted, true);
    }
  }
  if (refused != Code::ok) return one->done({error_reply(refused), {}});
  if (post) impl_->loop.post([impl = impl_] { impl->drain(); });
}

void RemoteVolume::poke() {
  impl_->loop.post([impl = impl_] { impl->tick(); });
}

void RemoteVolume::Impl::drain() {
  std::vector<CallPointer> taken;
  {
    std::lock_guard lock(mutex);
    if (closed) return;
    taken.swap(incoming);
    posted = false;
  }
  for (auto& call : taken) admit(std::move(call));
  pump();
}

void RemoteVolume::Impl::admit(CallPointer call) {
  if (const auto* close = std::get_if<Close>(&call->body)) {
    for (InodeNumber inode : close->inodes) open.erase(inode);
  }
  if (std::holds_alternative<SetLock>(call->body)) ++lock_calls;
  call->number = ++last_number;
  waiting.push_back(std::move(call));
}

// Sends what waits, or sees to a session first.
void RemoteVolume::Impl::pump() {
  const bool greets = !waiting.empty() || keeps_something() || waited_for;
  if (state == State::none && greets && !retry.running()) greet();
  std::deque<CallPointer> held;
  while (state == State::ready && !waiting.empty()) {
    CallPointer call = std::move(waiting.front());
    waiting.pop_front();
    if (may_go(*call)) {
      send(call);
    } else {
      held.push_back(std::move(call));
    }
  }
  waiting.insert(waiting.begin(), held.begin(), held.end());
}

// ---- the session ----

void RemoteVolume::Impl::greet() {
  const auto owners = locator.locate ? locator.locate(id) : std::vector<PeerId>{};
  if (owners.empty()) return lost_owner("no owner is known");
  owner = owners[owner_index % owners.size()];
  state = State::greeting;
  to_greet.assign(open.begin(), open.end());
  locks_to_greet = locks.of({});
  hello_answered(++attempt, Answer{});
}

// One Hello after another until all open inodes are told; `answer` is that of the one before.
void RemoteVolume::Impl::hello_answered(uint64_t of_attempt, Result<Answer> answer) {
  if (of_attempt != attempt || state != State::greeting) return;
  if (!answer) return lost_owner(to_text(answer.error()));
  const bool first = answer->body.empty();
  if (!first) {
    auto reply = decode<Reply>(answer->body);
    if (!reply) return lost_owner("its answer cannot be read");
    if (reply->code != Code::ok) return lost_owner(to_text(Error{reply->code, reply->message}));
    see_verifier(*reply);
    if (reply->session) {
      const auto before = std::exchange(session_mark, reply->session);
      if (before && before->began_ns != session_mark->began_ns) session_ended();
    }
    if (of_attempt != attempt) return;  // shut() by whom that was told
    if (to_greet.empty() && locks_to_greet.empty()) {
      state = State::ready;
      known = true;
      waited_for = false;
      backoff_ns = kRetryMin;
      last_hello_ns = loop.clock().now_ns();
      return pump();
    }
  }
  Request request;
  request.volume = id;
  request.session = session;
  request.leases = leases.load();
  Hello hello;
  const size_t count = std::min(kInodesPerHello, to_greet.size());
  hello.open.assign(to_greet.end() - ptrdiff_t(count), to_greet.end());
  to_greet.resize(to_greet.size() - count);
  const size_t held = std::min(kLocksPerHello, locks_to_greet.size());
  hello.locks.assign(locks_to_greet.end() - ptrdiff_t(held), locks_to_greet.end());
  locks_to_greet.resize(locks_to_greet.size() - held);
  hello.more = !to_greet.empty() || !locks_to_greet.empty();
  hello.known = session_mark;
  request.body = std::move(hello);
  rpc.call(*owner, kVolumeCall, encode(request), {}, {kHelloTimeout, Priority::control},
           [self = weak_from_this(), of_attempt](Result<Answer> next) {
             if (auto impl = self.lock()) impl->hello_answered(of_attempt, std::move(next));
           });
}

// ---- leases ----

std::shared_ptr<RecallRouter> RecallRouter::make(Loop& loop, Rpc& rpc) {
  auto router = std::make_shared<RecallRouter>();
  rpc.handle(kVolumeRecall, Access::admitted,
             [&loop, weak = std::weak_ptr(router)](const Caller& caller, Bytes body, SharedBytes,
                                                   Responder responder) {
               auto recall = decode<Recall>(body);
               if (!recall) return responder.fail(std::move(recall.error()));
               auto self = weak.lock();
               if (!self) return responder.answer({});
               auto found = self->handlers_.find(recall->session);
               if (found == self->handlers_.end())
                 return responder.answer({});  // it believes nothing any more
               auto kept = std::make_shared<Responder>(std::move(responder));
               found->second.recall(caller.id, *recall, [&loop, kept] {
                 if (loop.on_thread()) return kept->answer({});
                 loop.post([kept] { kept->answer({}); });
               });
             });
  return router;
}
void RecallRouter::add(const SessionId& session, Handler handler, UpHandler up) {
  handlers_[session] = {std::move(handler), std::move(up)};
}
void RecallRouter::remove(const SessionId& session) {
  handlers_.erase(session);
}
void RecallRouter::on_peer_up(const PeerId& peer) {
  std::vector<UpHandler> told;  // each may remove one
  for (const auto& [session, handlers] : handlers_) told.push_back(handlers.up);
  for (const auto& up : told) up(peer);
}

void RemoteVolume::Impl::hear_owner() {
  if (!router) return;
  router->add(
      session,
      [self = weak_from_this()](const PeerId& from, const Recall& recall, std::function<void()> forgotten) {
        auto impl = self.lock();
        if (!impl) return forgotten();
        impl->recalled(from, recall, std::move(forgotten));
      },
      [self = weak_from_this()](const PeerId& peer) {
        if (auto impl = self.lock()) impl->peer_is_up(peer);
      });
}

// The owner, if it was away, hears of this session at once: also of one that keeps nothing.
void RemoteVolume::Impl::peer_is_up(const PeerId& peer) {
  if (!known || !owner || *owner != peer) return;
  if (state == State::ready) {
    last_hello_ns = std::min(last_hello_ns, loop.clock().now_ns() - kSessionRenewal);  // at the next tick
  } else if (state == State::none) {
    waited_for = true;
    pump();
  }
}

void RemoteVolume::Impl::recalled(const PeerId& from, const Recall& recall, std::function<void()> forgotten) {
  if (!owner || from != *owner || recall.volume != id) return forgotten();
  RecallListener listener;
  {
    std::lock_guard lock(mutex);
    listener = recall_listener;
  }
  if (!listener) return forgotten();
  listener(recall, std::move(forgotten));
}

void RemoteVolume::Impl::lose_leases() {
  lease_until_ns = 0;
  last_lease_ns = 0;
  lease_mark = 0;
  tell_lost(true);
}

// The owner's room for them is limited.
void RemoteVolume::Impl::give_leases_back() {
  const uint64_t mark = lease_mark;
  lose_leases();
  auto drop = std::make_shared<Call>();
  drop->body = DropLeases{{}, mark, true};
  drop->done = [](VolumeAnswer) {};
  loop.post([impl = shared_from_this(), drop] {  // behind what the listener has asked to be said before
    {
      std::lock_guard lock(impl->mutex);
      if (impl->closed) return;
    }
    ++impl->pending;
    impl->admit(drop);
    impl->pump();
  });
}

void RemoteVolume::Impl::tell_lost(bool for_good) {
  lapsed = !for_good;
  std::function<void(bool)> listener;
  {
    std::lock_guard lock(mutex);
    listener = lost_listener;
  }
  if (listener) listener(for_good);
}

// What was under way waits for the next session, perhaps with another owner.
void RemoteVolume::Impl::lost_owner(const std::string& why) {
  last_error = why;
  state = State::none;
  if (owner && !rpc.connected(*owner)) waited_for = false;  // until it is again
  ++attempt;
  ++owner_index;
  if (locator.refresh) locator.refresh(id);
  if (retry.running()) return;
  retry.start(backoff_ns, [this] { pump(); });
  backoff_ns = std::min(backoff_ns * 2, kRetryMax);
}

// It has begun anew, and the owner has no results of before: what may have run must not run again. Sequences
// go on, so that what is still on its way from before is taken for nothing else.
void RemoteVolume::Impl::session_ended() {
  lose_leases();
  outstanding.clear();
  std::vector<CallPointer> lost;
  for (const auto& call : waiting) {
    if (call->sequence != 0 && call->maybe_run) lost.push_back(call);
    call->sequence = 0;
  }
  for (const auto& call : flying) {
    if (call->sequence != 0) {
      rpc.cancel(std::exchange(call->flight, 0));
      lost.push_back(call);
    }
  }
  for (const auto& call : lost) {
    std::erase(waiting, call);
    flying.erase(call);
    finish(call, {unknown_outcome(), {}});
  }
}

void RemoteVolume::Impl::see_verifier(const Reply& reply) {
  if (reply.verifier == 0) return;
  std::function<void()> listener;
  {
    std::lock_guard lock(mutex);
    if (reply.verifier == log.verifier) {
      log.durable = std::max(log.durable, reply.durable);
      return;
    }
    const bool next = reply.verifier_before == log.verifier;
    log = {reply.verifier, reply.durable, log.verifier, next ? reply.recovered : log.durable};
    if (log.ended == 0) return;
    listener = verifier_listener;
  }
  if (listener) listener();  // what is sent again comes before the word that there is no more
  lose_leases();
}

// ---- calls ----

void RemoteVolume::Impl::send(const CallPointer& call) {
  if (changes(call->body) && call->sequence == 0) {
    call->sequence = next_sequence++;
    outstanding.insert(call->sequence);
  }
  Request request;
  request.volume = id;
  request.who = call->who;
  request.session = session;
  request.sequence = call->sequence;
  request.acknowledged = acknowledged();
  request.body = call->body;
  request.leases = leases.load();
  request.late = call->options.late;
  call->sent_ns = loop.clock().now_ns();
  CallOptions options;
  options.timeout_ns = kCallTimeout;
  if (call->deadline_ns != 0)
    options.timeout_ns = std::clamp(call->deadline_ns - loop.clock().now_ns(), kTick, kCallTimeout);
  if (waits_for_lock(*call)) options.timeout_ns = kLockWait;
  if (call->payload.size() > (64 << 10) || std::holds_alternative<Read>(call->body))
    options.priority = Priority::bulk;
  flying.insert(call);
  const unsigned sending = ++call->sendings;  // the end of one that was cancelled may come later
  call->flight = rpc.call(*owner, kVolumeCall, encode(request), call->payload, options,
                          [self = weak_from_this(), call, sending](Result<Answer> result) {
                            auto impl = self.lock();
                            if (impl && call->sendings == sending) impl->answered(call, std::move(result));
                          });
}

void RemoteVolume::Impl::answered(const CallPointer& call, Result<Answer> result) {
  if (flying.erase(call) == 0) return;
  call->flight = 0;
  if (result) {
    auto reply = decode<Reply>(result->body);
    if (!reply) return finish(call, {error_reply(std::move(reply.error())), {}});
    if (crc32c(result->payload) != reply->payload_crc)
      return finish(call,
                    {error_reply(Code::corrupt, "bytes were damaged between their owner and here"), {}});
    decide(call, std::move(*reply), std::move(result->payload));
    if (!waiting.empty()) pump();
    return;
  }
  const Code code = result.error().code;
  const bool broken = code == Code::unreachable || code == Code::closed || code == Code::timed_out ||
                      code == Code::overloaded || code == Code::not_owner;
  if (!broken) return finish(call, {error_reply(std::move(result.error())), {}});
  if (code == Code::timed_out && waits_for_lock(*call)) return again(call);
  if (code == Code::closed || code == Code::timed_out) call->maybe_run = true;
  if (state == State::ready) lost_owner(to_text(result.error()));
  again(call);
}

void RemoteVolume::Impl::decide(const CallPointer& call, Reply reply, Payload payload) {
  see_verifier(reply);
  switch (reply.code) {
    case Code::not_owner:
      if (state == State::ready) lost_owner("peer " + short_hex(*owner) + " does not own the volume");
      call->maybe_run = true;  // an owner that stops waits for nobody, and says so of what it has made, too
      return again(call);
    case Code::expired:
    case Code::recalled:  // it started anew, or the session ended: say what is open, then ask again
      if (state == State::ready) {
        state = State::none;
        lose_leases();
      }
      if (reply.code == Code::expired && call->sequence != 0) {
        if (call->maybe_run) return finish(call, {unknown_outcome(), {}});
        outstanding.erase(std::exchange(call->sequence, 0));
      }
      return again(call);
    case Code::conflict:
      if (waits_for_lock(*call)) {
        wait_on(*call);
        return parked.push_back(call);
      }
      [[fallthrough]];
    default:
      note(*call, reply);
      return finish(call, {std::move(reply), std::move(payload)});
  }
}

// In the order of sequences, so that what was first asked is first sent again; what changes nothing before.
void RemoteVolume::Impl::put_back(const CallPointer& call) {
  auto at = std::find_if(waiting.begin(), waiting.end(), [&](const CallPointer& other) {
    if (call->sequence == 0 && other->sequence == 0) return other->number > call->number;
    return other->sequence == 0 || other->sequence > call->sequence;
  });
  waiting.insert(at, call);
}

void RemoteVolume::Impl::again(const CallPointer& call) {
  put_back(call);
  pump();
}

// Not of what was refused before the volume saw it: its owner has not heard the session then.
void RemoteVolume::Impl::note(const Call& call, const Reply& reply) {
  if (reply.verifier == 0) return;
  if (std::exchange(leases_lost, reply.leases_lost) != reply.leases_lost && last_lease_ns != 0) lose_leases();
  if (reply.lease != 0) last_lease_ns = call.sent_ns;
  lease_mark = std::max(lease_mark, reply.lease_mark);
  if (last_lease_ns != 0 && state == State::ready) {
    lapsed = false;
    lease_until_ns = std::max(lease_until_ns.load(), call.sent_ns + kLeaseTerm - kLeaseMargin);
  }
  if (const auto* set = std::get_if<SetLock>(&call.body)) note_lock(*set, reply.code);
  if (reply.code != Code::ok) return;
  if (const auto* opened = std::get_if<Open>(&call.body)) open.insert(opened->inode);
  if (const auto* made = std::get_if<Create>(&call.body); made && made->open) {
    if (open.insert(reply.attributes.inode).second && call.given_up) close_unused(reply.attributes.inode);
  }
  if (const auto* told = std::get_if<Hello>(&call.body)) open.insert(told->open.begin(), told->open.end());
}

// What is held is said again to an owner that has started anew.
void RemoteVolume::Impl::note_lock(const SetLock& set, Code code) {
  FileLock lock = set.lock;
  if ((code == Code::conflict || code == Code::interrupted) && lock.flock) {
    lock.type = kUnlocked;  // what was to be converted is gone
  } else if (code != Code::ok) {
    return;
  }
  locks.note({}, lock);
}

// It may have made a file and opened it: the owner is asked again, to hear what is to be closed. Under the
// same sequence what was made is answered as it was; else this makes nothing, having no name, and what is
// still on its way does not, either.
void RemoteVolume::Impl::give_up(const CallPointer& call, Reply reply, int64_t now_ns) {
  auto& create = std::get<Create>(call->body);
  create.name.clear();
  create.unnamed = false;
  call->given_up = call->maybe_run = true;
  call->options.interrupted = nullptr;
  call->interrupted_ns = 0;
  call->deadline_ns = now_ns + kSessionSilence;
  if (flying.erase(call) > 0) {
    rpc.cancel(std::exchange(call->flight, 0));
    put_back(call);
  }
  if (auto done = std::exchange(call->done, nullptr)) done({std::move(reply), {}});
}

// Nobody here has it open. Who is about to closes it later.
void RemoteVolume::Impl::close_unused(InodeNumber inode) {
  const auto wanted = [&](const CallPointer& call) { return opens(*call, inode); };
  if (std::any_of(waiting.begin(), waiting.end(), wanted)) return;
  if (std::any_of(flying.begin(), flying.end(), wanted)) return;
  auto close = std::make_shared<Call>();
  close->body = Close{{inode}};
  close->closes = inode;
  close->deadline_ns = loop.clock().now_ns() + kSessionSilence;
  close->done = [](VolumeAnswer) {};
  closing.push_back(inode);
  ++pending;
  admit(std::move(close));
}

void RemoteVolume::Impl::finish(const CallPointer& call, VolumeAnswer answer) {
  outstanding.erase(call->sequence);
  if (call->closes != 0) closing.erase(std::find(closing.begin(), closing.end(), call->closes));
  if (std::holds_alternative<SetLock>(call->body)) --lock_calls;
  --pending;
  if (auto done = std::exchange(call->done, nullptr)) done(std::move(answer));
}

// Deadlines, interruptions, and the session's renewal.
void RemoteVolume::Impl::tick() {
  {
    std::lock_guard lock(mutex);
    if (closed) return;  // a poke() on its way
  }
  ticker.start(kTick, [this] { tick(); });
  const int64_t now_ns = loop.clock().now_ns();
  std::vector<std::pair<CallPointer, Reply>> over;
  auto look = [&](const CallPointer& call) {
    const auto& flag = call->options.interrupted;
    if (flag && flag->load() && call->interrupted_ns == 0) call->interrupted_ns = now_ns;
    if (call->flight != 0 && waits_for_lock(*call)) wait_on(*call);
    const bool may_run = call->sequence != 0 && call->flight != 0;
    if (call->interrupted_ns != 0 && (!may_run || now_ns - call->interrupted_ns > kInterruptGrace))
      over.emplace_back(call, error_reply(Code::interrupted));
    else if (call->deadline_ns != 0 && now_ns >= call->deadline_ns)
      over.emplace_back(call,
                        error_reply(Code::unreachable, "the volume's owner did not answer: " + last_error));
  };
  for (const auto& call : waiting) look(call);
  for (const auto& call : flying) look(call);
  waiting.insert(waiting.end(), parked.begin(), parked.end());
  parked.clear();
  for (auto& [call, reply] : over) {
    const auto* create = std::get_if<Create>(&call->body);
    const bool may_run = call->sequence != 0 && (call->flight != 0 || call->maybe_run);
    if (create != nullptr && create->open && may_run && !call->given_up) {
      give_up(call, std::move(reply), now_ns);
      continue;
    }
    if (flying.erase(call) > 0) {
      rpc.cancel(std::exchange(call->flight, 0));
    } else {
      std::erase(waiting, call);
    }
    finish(call, {std::move(reply), {}});
  }
  renew(now_ns);
  pump();
}

void RemoteVolume::Impl::renew(int64_t now_ns) {
  if (last_lease_ns != 0 && !lapsed && now_ns >= lease_until_ns.load()) tell_lost(false);
  if (state != State::ready) return;
  if (last_lease_ns != 0 && now_ns - last_lease_ns > kLeaseIdle) give_leases_back();
  int64_t due_ns = last_lease_ns != 0 ? lease_until_ns.load() - kLeaseTerm + kLeaseRenewal
                                      : last_hello_ns + kSessionRenewal;
  if (!locks.empty() || lock_calls > 0) due_ns = std::min(due_ns, last_hello_ns + kLeaseRenewal);
  if (now_ns < std::max(due_ns, last_hello_ns + kLeaseRenewal / 2)) return;
  last_hello_ns = now_ns;
  Request request;
  request.volume = id;
  request.session = session;
  request.leases = leases.load();
  Hello hello;
  hello.renew = true;
  request.body = std::move(hello);
  rpc.call(*owner, kVolumeCall, encode(request), {}, {kHelloTimeout, Priority::control},
           [self = weak_from_this(), of_attempt = attempt, now_ns](Result<Answer> answer) {
             auto impl = self.lock();
             if (!impl || impl->attempt != of_attempt || impl->state != State::ready) return;
             auto reply = answer ? decode<Reply>(answer->body) : Result<Reply>(fail(answer.error()));
             if (!reply || reply->code == Code::not_owner) return impl->lost_owner("its session broke");
             impl->see_verifier(*reply);
             if (reply->code == Code::recalled) {  // it has started anew since
               impl->state = State::none;
               impl->waited_for = true;
               impl->lose_leases();
               return impl->pump();
             }
             Call greeting;
             greeting.sent_ns = now_ns;
             impl->note(greeting, *reply);
           });
}

void RemoteVolume::Impl::shut() {
  std::vector<CallPointer> left;
  {
    std::lock_guard lock(mutex);
    if (std::exchange(closed, true)) return;
    left.swap(incoming);
    verifier_listener = nullptr;
    recall_listener = nullptr;
    lost_listener = nullptr;
  }
  if (router) router->remove(session);
  ticker.stop();
  retry.stop();
  left.insert(left.end(), waiting.begin(), waiting.end());
  for (const auto& call : flying) {
    rpc.cancel(std::exchange(call->flight, 0));
    left.push_back(call);
  }
  left.insert(left.end(), parked.begin(), parked.end());
  parked.clear();
  waiting.clear();
  flying.clear();
  if (state == State::ready) {
    Request request;
    request.volume = id;
    request.session = session;
    request.body = Goodbye{};
    rpc.call(*owner, kVolumeCall, encode(request), {}, {kHelloTimeout, Priority::control},
             [](Result<Answer>) {});
  }
  state = State::none;
  ++attempt;
  for (const auto& call : left) finish(call, {error_reply(Code::closed), {}});
}

}  // namespace efs
