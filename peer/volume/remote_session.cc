// Whom a volume's calls are sent to: the session with its owner, and the leases that come with it.
#include <algorithm>

#include "peer/volume/remote_parts.h"
#include "peer/volume/service.h"

namespace efs {

namespace {
constexpr int64_t kLeaseIdle = kMinute;  // leases that nobody used for so long are let go
// With files open: of pages that the kernel has of them it tells nobody when they are read.
constexpr int64_t kLeaseIdleOpen = 10 * kMinute;
constexpr size_t kLocksPerHello = 5'000;  // below 64 bytes each
}  // namespace

Reply unknown_outcome() {
  return error_reply(Code::unreachable,
                     "the session with the volume's owner ended; whether the change was made is not known");
}

// ---- the session ----

void RemoteVolume::Impl::greet() {
  const auto owners = locator.locate ? locator.locate(id) : std::vector<PeerId>{};
  if (owners.empty()) return lost_owner("no owner is known");
  owner = owners[owner_index % owners.size()];
  state = State::greeting;
  to_greet.assign(open.begin(), open.end());
  locks_to_greet = locks.of({});
  ++attempt;
  say_hello();
}

// One Hello after another until all open inodes are told.
void RemoteVolume::Impl::hello_answered(uint64_t of_attempt, Result<Answer> answer) {
  if (of_attempt != attempt || state != State::greeting) return;
  if (!answer) return lost_owner(to_text(answer.error()));
  auto reply = decode<Reply>(answer->body);
  if (!reply) return lost_owner("its answer cannot be read");
  if (reply->code != Code::ok) return lost_owner(to_text(Error{reply->code, reply->message}));
  see_verifier(*reply);
  const bool all_said = to_greet.empty() && locks_to_greet.empty();
  if (reply->session) {
    const auto before = session_mark;
    // Until all is said, the owner is to know what this one has missed.
    if (before || all_said) session_mark = reply->session;
    if (before && !all_said) session_mark->owner_ns = before->owner_ns;
    if (before && before->began_ns != session_mark->began_ns) session_ended();
  }
  if (of_attempt != attempt) return;  // shut() by whom that was told
  if (!all_said) return say_hello();
  state = State::ready;
  known = true;
  waited_for = false;
  backoff_ns = kReconnectMin;
  last_hello_ns = loop.clock().now_ns();
  pump();
}

void RemoteVolume::Impl::say_hello() {
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
           [self = weak_from_this(), of_attempt = attempt](Result<Answer> answer) {
             if (auto impl = self.lock()) impl->hello_answered(of_attempt, std::move(answer));
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
  const auto listener = current(recall_listener);
  if (!listener) return forgotten();
  listener(recall, std::move(forgotten));
}

void RemoteVolume::Impl::lose_leases() {
  lease_until_ns = 0;
  last_lease_ns = 0;
  lease_mark = 0;
  tell_lost(true);
}

// The owner's room for them is limited. It goes on asking for as long as the kernel may believe what it was
// told while they were held.
void RemoteVolume::Impl::give_leases_back() {
  const uint64_t mark = lease_mark;
  lose_leases();
  auto drop = std::make_shared<Call>();
  drop->body = DropLeases{{}, mark, true};
  drop->done = [](VolumeAnswer) {};
  loop.after(kLeaseTerm, [weak = weak_from_this(), drop] {
    auto impl = weak.lock();
    if (!impl) return;
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
  if (const auto listener = current(lost_listener)) listener(for_good);
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
  backoff_ns = std::min(backoff_ns * 2, kReconnectMax);
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
  std::function<void(Resending)> listener;
  {
    std::lock_guard lock(mutex);
    if (reply.verifier == log.verifier) {
      log.durable = std::max(log.durable, reply.durable);
      return;
    }
    const bool next = reply.verifier_before == log.verifier;
    const uint64_t survived = next ? reply.recovered : log.durable;
    const uint64_t lost = std::exchange(names_logged, 0) > survived ? 1 : 0;
    log = {reply.verifier, reply.durable, log.verifier, survived, log.names_lost + lost};
    if (log.ended == 0) return;
    listener = verifier_listener;
  }
  if (listener) listener(begin_resending());  // before the word that there is no more
  lose_leases();
}

VolumeClient::Resending RemoteVolume::Impl::begin_resending() {
  ++resending;
  return {nullptr, [weak = weak_from_this(), &to = loop](void*) {
            to.post([weak] {
              auto self = weak.lock();
              if (self && --self->resending == 0) self->pump();
            });
          }};
}

void RemoteVolume::Impl::renew(int64_t now_ns) {
  if (last_lease_ns != 0 && !lapsed && now_ns >= lease_until_ns.load()) tell_lost(false);
  if (state != State::ready) return;
  if (leases_used.exchange(false, std::memory_order_relaxed) && last_lease_ns != 0) last_lease_ns = now_ns;
  if (last_lease_ns != 0 && now_ns - last_lease_ns > (open.empty() ? kLeaseIdle : kLeaseIdleOpen))
    give_leases_back();
  if (last_lease_ns != 0 && now_ns - last_renewal_ns >= kLeaseRenewal) {
    last_renewal_ns = now_ns;
    if (const auto listener = current(renewal_listener)) listener();
  }
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

}  // namespace efs
