// The calls of a volume that another peer owns: asked, repeated, interrupted, answered.
#include "peer/volume/remote_client.h"

#include <algorithm>

#include "peer/volume/remote_parts.h"
#include "peer/volume/service.h"

namespace efs {

namespace {
constexpr int64_t kTick = 100 * kMillisecond;
constexpr int64_t kCallTimeout = 30 * kSecond;
constexpr int64_t kLockWait = 10 * kMinute;  // then it is asked again

bool opens(const RemoteCall& call, InodeNumber inode) {
  if (const auto* open = std::get_if<Open>(&call.body)) return open->inode == inode;
  const auto* told = std::get_if<Hello>(&call.body);
  return told != nullptr && std::find(told->open.begin(), told->open.end(), inode) != told->open.end();
}

bool changes_names(const RequestBody& body) {
  return std::holds_alternative<Create>(body) || std::holds_alternative<Link>(body) ||
         std::holds_alternative<Unlink>(body) || std::holds_alternative<Rename>(body);
}

// Right also before what its owner has lost is there again. A change of names that was on its way is, and
// must be: until it is answered, only so many others may go (kMaxResultsPerSession).
bool comes_first(const RemoteCall& call) {
  if (const auto* write = std::get_if<Write>(&call.body)) return call.options.late || !write->append;
  return call.options.late || std::holds_alternative<WriteScattered>(call.body) ||
         std::holds_alternative<Hello>(call.body) || (call.sequence != 0 && changes_names(call.body));
}

bool waits_for_lock(const RemoteCall& call) {
  const auto* set = std::get_if<SetLock>(&call.body);
  return set != nullptr && set->wait;
}
}  // namespace

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
void RemoteVolume::on_new_verifier(std::function<void(Resending)> listener) {
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
void RemoteVolume::use_leases() {
  impl_->leases_used.store(true, std::memory_order_relaxed);
}
void RemoteVolume::on_renewal(std::function<void()> listener) {
  std::lock_guard lock(impl_->mutex);
  impl_->renewal_listener = std::move(listener);
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
  auto one = std::make_shared<RemoteCall>();
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
    } else if (impl_->pending.load() >= kMaxPendingCalls && !options.late) {
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
  if (const auto* cancel = std::get_if<CancelLock>(&call->body)) cancel_refused(cancel->ticket);
  call->number = ++last_number;
  waiting.push_back(std::move(call));
}

void RemoteVolume::Impl::cancel_refused(uint64_t ticket) {
  const auto asks = [&](const CallPointer& call) {
    const auto* set = std::get_if<SetLock>(&call->body);
    return set != nullptr && set->ticket == ticket;
  };
  const auto meant = [&](const CallPointer& call) { return call->refused && asks(call); };
  for (const auto& call : flying) call->cancelled |= asks(call);
  std::vector<CallPointer> found;
  std::copy_if(parked.begin(), parked.end(), std::back_inserter(found), meant);
  std::copy_if(waiting.begin(), waiting.end(), std::back_inserter(found), meant);
  std::erase_if(parked, meant);
  std::erase_if(waiting, meant);
  for (const auto& call : found) finish_cancelled(call);
}

void RemoteVolume::Impl::finish_cancelled(const CallPointer& call) {
  note_lock(std::get<SetLock>(call->body), Code::interrupted);
  finish(call, {error_reply(Code::interrupted), {}});
}

bool RemoteVolume::Impl::may_go(const Call& call) const {
  if (resending != 0 && !comes_first(call)) return false;
  if (!changes(call.body))
    return std::none_of(closing.begin(), closing.end(), [&](InodeNumber one) { return opens(call, one); });
  // What is sent again finds room, whatever else was asked for.
  const bool again = resending != 0 && call.options.late;
  const uint64_t window = again ? kMaxResultsPerSession : kMaxResultsPerSession / 2;
  return call.sequence != 0 || next_sequence <= acknowledged() + window;
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
  call->refused = false;
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
        if (call->cancelled) return finish_cancelled(call);
        wait_on(*call);
        call->refused = true;
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
  if (std::exchange(leases_lost, reply.leases_lost) != reply.leases_lost) lose_leases();
  if (reply.lease != 0) last_lease_ns = call.sent_ns;
  lease_mark = std::max(lease_mark, reply.lease_mark);
  if (last_lease_ns != 0 && state == State::ready) {
    lapsed = false;
    lease_until_ns = std::max(lease_until_ns.load(), call.sent_ns + kLeaseTerm - kLeaseMargin);
  }
  if (const auto* set = std::get_if<SetLock>(&call.body)) note_lock(*set, reply.code);
  if (reply.code != Code::ok) return;
  if (changes_names(call.body)) names_logged = std::max(names_logged, reply.logged);
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

void RemoteVolume::Impl::shut() {
  std::vector<CallPointer> left;
  {
    std::lock_guard lock(mutex);
    if (std::exchange(closed, true)) return;
    left.swap(incoming);
    verifier_listener = nullptr;
    recall_listener = nullptr;
    lost_listener = nullptr;
    renewal_listener = nullptr;
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
