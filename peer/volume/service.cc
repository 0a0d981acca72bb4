#include "peer/volume/service.h"

#include <algorithm>
#include <mutex>

#include "peer/volume/session_trust.h"

namespace efs {

namespace {
SessionId session_of(const PeerId& caller, const SessionId& named) {
  SessionId out;
  Bytes both = to_bytes(caller);
  append(both, named);
  const Id hash = blake2b(both);
  std::copy_n(hash.begin(), out.size(), out.begin());
  out[0] |= 1;  // never one of this process's own
  return out;
}
// A mount's accounts and the volume's figures: no user asks for them.
bool of_the_session(const RequestBody& body) {
  if (const auto* set = std::get_if<SetLock>(&body)) return set->lock.type == kUnlocked;
  return std::holds_alternative<Hello>(body) || std::holds_alternative<Goodbye>(body) ||
         std::holds_alternative<Close>(body) || std::holds_alternative<DropLeases>(body) ||
         std::holds_alternative<CancelLock>(body) || std::holds_alternative<Usage>(body) ||
         std::holds_alternative<Sync>(body);
}
void answer(const Responder& responder, VolumeAnswer&& result) {
  result.reply.payload_crc = crc32c(result.payload);
  responder.answer(encode(result.reply), std::move(result.payload));
}

// A request whose answer may come on any thread, now or later; the responder stays on the loop.
struct Waiting {
  Loop& loop;
  std::optional<Responder> responder;
  std::function<void(Reply&)> before = {};  // it is sent: on the loop
  static void answer(const std::shared_ptr<Waiting>& self, VolumeAnswer&& result) {
    if (self->loop.on_thread()) return self->finish(std::move(result));
    auto kept = std::make_shared<VolumeAnswer>(std::move(result));
    self->loop.post([self, kept] { self->finish(std::move(*kept)); });
  }
  void finish(VolumeAnswer&& result) {
    if (!responder) return;
    if (before) before(result.reply);
    efs::answer(*std::exchange(responder, std::nullopt), std::move(result));
  }
};
constexpr int64_t kAskAgain = 50 * kMillisecond;

std::string too_many_sessions(const PeerId& caller) {
  return "peer " + short_hex(caller) + " has " + std::to_string(kMaxSessionsOfPeer) +
         " sessions of this volume: unmount some of its mounts, or wait " +
         std::to_string(kSessionSilence / kMinute) + " minutes until those that are gone have ended";
}
}  // namespace

// Recalls on their way. Outlives the service in the hands of those who wait for them.
struct VolumeService::Recalls : std::enable_shared_from_this<Recalls> {
  struct One {
    PeerId peer{};
    SessionId session{};
    std::weak_ptr<SoleReplica> replica;
    Bytes body;
    InodeNumber flushes = 0;  // whose bytes it is asked for
    int64_t asked_ns = 0;
    Leases::Then forgotten;
  };
  Recalls(Loop& loop_in, Rpc& rpc_in, Jobs& jobs_in) : loop(loop_in), rpc(&rpc_in), jobs(&jobs_in) {}
  Loop& loop;
  Rpc* rpc;  // nullptr: the service is gone, and `jobs`
  Jobs* jobs;
  std::mutex mutex;
  std::vector<std::shared_ptr<One>> pushed;

  // From any thread. It goes before whatever this peer answers from then on.
  void push(const std::shared_ptr<One>& one) {
    bool first = false;
    {
      std::lock_guard lock(mutex);
      first = pushed.empty();
      pushed.push_back(one);
    }
    if (loop.on_thread()) return send_pushed();
    if (first) loop.post([self = shared_from_this()] { self->send_pushed(); });
  }
  void send_pushed() {
    std::vector<std::shared_ptr<One>> all;
    {
      std::lock_guard lock(mutex);
      all.swap(pushed);
    }
    for (const auto& one : all) ask(one);
  }

  // What has waited for others to forget, and takes long. Any thread.
  void run_apart(Leases::Then task) {
    loop.post([self = shared_from_this(), task = std::move(task)] {
      if (self->rpc == nullptr) return task();
      self->jobs->run(task, {});
    });
  }

  // It is heard and did not forget: what its kernel was given has ended by itself at `at_ns`. Who was fenced
  // in between, for its silence, may have been leased anew.
  void end(const std::shared_ptr<One>& one, int64_t at_ns) {
    loop.after(std::max<int64_t>(at_ns - loop.clock().now_ns(), 0), [one, at_ns] {
      auto replica = one->replica.lock();
      if (replica && replica->leases().ends_ns(one->session) == at_ns) replica->leases().fence(one->session);
      one->forgotten();
    });
  }

  void ask(const std::shared_ptr<One>& one) {
    auto replica = one->replica.lock();
    if (rpc == nullptr || !replica) return one->forgotten();
    const int64_t left_ns = replica->heard_ns(one->session) + kLeaseTerm - loop.clock().now_ns();
    if (left_ns <= 0) {
      replica->leases().fence(one->session);
      return one->forgotten();
    }
    int64_t since_ns = one->asked_ns;
    if (one->flushes != 0) {
      since_ns = std::max(since_ns, replica->leases().bytes_came_ns(one->flushes));
      since_ns = std::min(since_ns, one->asked_ns + kLongestFlush);
    }
    const int64_t patience_ns =
        since_ns + (one->flushes != 0 ? kFlushPatience : kRecallPatience) - loop.clock().now_ns();
    if (const int64_t at_ns = replica->leases().ends_ns(one->session)) return end(one, at_ns);
    if (patience_ns <= 0) {
      const int64_t at_ns = loop.clock().now_ns() + kLeaseTerm;
      replica->leases().end(one->session, at_ns);
      return end(one, at_ns);
    }
    rpc->call(one->peer, kVolumeRecall, one->body, {}, {std::min(left_ns, patience_ns), Priority::control},
              [weak = weak_from_this(), one](Result<Answer> answer) {
                auto self = weak.lock();
                if (answer || !self) return one->forgotten();
                self->loop.after(kAskAgain, [self, one] { self->ask(one); });
              });
  }
};

VolumeService::VolumeService(Loop& loop, Rpc& rpc, VolumeSet& volumes, VolumeAccess access)
    : loop_(loop),
      rpc_(rpc),
      volumes_(volumes),
      jobs_(loop),
      access_(std::move(access)),
      recalls_(std::make_shared<Recalls>(loop, rpc, jobs_)),
      old_leases_(loop),
      lock_tick_(loop) {
  volumes_.run_apart_by([weak = std::weak_ptr(recalls_)](Leases::Then task) {
    auto recalls = weak.lock();
    recalls ? recalls->run_apart(std::move(task)) : task();
  });
  wait_out_old_leases();
  tick_locks();
  rpc_.handle(kVolumeCall, Access::admitted,
              [this](const Caller& caller, Bytes body, Payload payload, Responder responder) {
                serve(caller, body, std::move(payload), std::move(responder));
              });
}
VolumeService::~VolumeService() {
  close({});
}
void VolumeService::close(Task closed) {
  recalls_->rpc = nullptr;
  old_leases_.stop();
  lock_tick_.stop();
  for (const auto& replica : volumes_.all()) {
    replica->leases().close();
    replica->locks().close(Code::not_owner);
  }
  rpc_.handle(kVolumeCall, Access::admitted, [](const Caller&, Bytes, SharedBytes, Responder responder) {
    responder.fail({Code::not_owner, "this peer serves no volumes now"});
  });
  if (closed) jobs_.when_idle(std::move(closed));
}

void VolumeService::wait_out_old_leases() {
  int64_t left_ns = 0;
  for (const auto& replica : volumes_.all()) {
    const int64_t its_ns = replica->old_leases_until_ns() - loop_.clock().now_ns();
    replica->leases().hold(its_ns > 0);
    left_ns = its_ns > 0 && (left_ns == 0 || its_ns < left_ns) ? its_ns : left_ns;
  }
  if (left_ns > 0) old_leases_.start(left_ns, [this] { wait_out_old_leases(); });
}

// Holders that are gone are noticed here, on the thread that hears them.
void VolumeService::tick_locks() {
  bool busy = false;
  for (const auto& replica : volumes_.all()) {
    if (!replica->locks().busy()) continue;
    replica->locks().tick();
    busy = true;
  }
  if (busy) lock_tick_.start(kLockTick, [this] { tick_locks(); });
}

// Those that have ended do not count, but for whose Hello is not answered yet.
bool VolumeService::may_begin(const PeerId& caller, const SessionId& session, const SoleReplica& replica) {
  auto& all = sessions_[{caller, replica.id()}];
  if (replica.heard_ns(session) == 0 && all.size() >= kMaxSessionsOfPeer) {
    std::erase_if(all, [&](const auto& one) { return one.second == 0 && replica.heard_ns(one.first) == 0; });
    if (all.size() >= kMaxSessionsOfPeer && !all.contains(session)) return false;
  }
  ++all[session];
  return true;
}

void VolumeService::attach(const PeerId& caller, const SessionId& named, const SessionId& session,
                           const std::shared_ptr<SoleReplica>& replica) {
  auto recaller = [weak = std::weak_ptr(recalls_), caller, named, session, volume = replica->id(),
                   owner = std::weak_ptr(replica)](const Recall& asked, Leases::Then forgotten) {
    auto recalls = weak.lock();
    if (!recalls) return forgotten();
    Recall recall = asked;
    recall.volume = volume;
    recall.session = named;
    const auto flush = std::find_if(recall.items.begin(), recall.items.end(),
                                    [](const RecallItem& item) { return item.flush; });
    const InodeNumber flushes = flush == recall.items.end() ? 0 : flush->inode;
    auto one =
        std::make_shared<Recalls::One>(Recalls::One{caller, session, owner, encode(recall), flushes,
                                                    recalls->loop.clock().now_ns(), std::move(forgotten)});
    recalls->push(one);
  };
  replica->leases().attach(session, std::move(recaller));
}

Reply VolumeService::refuse(const Caller& caller, const Request& request) const {
  if (request.who.groups.size() > kMaxGroups) return error_reply(Code::invalid_argument);
  const bool administers = std::holds_alternative<MakeJunction>(request.body) ||
                           std::holds_alternative<RemoveJunction>(request.body) ||
                           std::holds_alternative<AppendRegister>(request.body) ||
                           std::holds_alternative<SetPolicy>(request.body);
  if (administers) {  // the peer's own right, whatever uids it may speak for
    if (!access_.may_administer || !access_.may_administer(caller.id, request))
      return error_reply(Code::unauthorized,
                         "peer " + short_hex(caller.id) + " has no right to operate here");
  } else if (!of_the_session(request.body) &&
             (!access_.may_act || !access_.may_act(caller.id, request.who.uid))) {
    return error_reply(Code::unauthorized, "peer " + short_hex(caller.id) + " may not act for uid " +
                                               std::to_string(request.who.uid));
  }
  if (changes(request.body) && request.sequence == 0) return error_reply(Code::protocol);
  return {};
}

// To wake another thread, and it this one, takes longer than most reads.
std::optional<VolumeAnswer> VolumeService::read_cached(SoleReplica& replica, const Request& request) {
  const auto* read = std::get_if<Read>(&request.body);
  if (read == nullptr || !inline_reads_.may_try(read->length)) return std::nullopt;
  const int64_t since_ns = loop_.clock().now_ns();
  auto found = replica.read_cached(request);
  inline_reads_.tried(loop_.clock().now_ns() - since_ns);
  return found;
}

void VolumeService::serve(const Caller& caller, const Bytes& body, Payload payload, Responder responder) {
  auto request = decode<Request>(body);
  if (!request) return responder.fail(std::move(request.error()));
  if (Reply refused = refuse(caller, *request); refused.code != Code::ok)
    return answer(responder, {std::move(refused), {}});
  auto replica = volumes_.find(request->volume);
  if (!replica) return answer(responder, {error_reply(Code::not_owner), {}});
  const SessionId named = request->session;
  request->session = session_of(caller.id, named);
  const bool limited = !access_.may_act || !access_.may_act(caller.id, 0);
  set_limited(request->session, limited);
  const auto* hello = std::get_if<Hello>(&request->body);
  if (hello && !hello->renew && !may_begin(caller.id, request->session, *replica))
    return answer(responder, {error_reply(Code::overloaded, too_many_sessions(caller.id)), {}});
  const bool locks = std::holds_alternative<SetLock>(request->body) || (hello && !hello->locks.empty());
  if (locks && !lock_tick_.running()) lock_tick_.start(kLockTick, [this] { tick_locks(); });
  auto waiting = std::make_shared<Waiting>(Waiting{loop_, std::move(responder)});
  // What is granted next, when it has this answer, finds it attached; one that was refused, or has said
  // Goodbye meanwhile, is not kept.
  if (hello)
    waiting->before = [this, weak = std::weak_ptr(recalls_), peer = caller.id, named,
                       session = request->session, replica, leases = request->leases,
                       begins = !hello->renew](Reply& reply) {
      const auto recalls = weak.lock();
      if (!recalls || recalls->rpc == nullptr) return;  // this service is gone
      if (begins) --sessions_[{peer, replica->id()}][session];
      if (reply.code != Code::ok || !leases || replica->heard_ns(session) == 0) return;
      attach(peer, named, session, replica);
      reply.leases_lost = replica->leases().lost(session);
    };
  auto answered = [waiting, weak = std::weak_ptr(recalls_)](VolumeAnswer result) {
    auto recalls = weak.lock();
    if (recalls && recalls->loop.on_thread()) recalls->send_pushed();
    Waiting::answer(waiting, std::move(result));
  };
  if (auto found = read_cached(*replica, *request)) return answered(std::move(*found));
  if (replica->executes_inline(request->body, payload.size())) {
    replica->execute(*request, std::move(payload), std::move(answered));
    return;
  }
  auto work = [replica, request = std::move(*request), payload = std::move(payload), answered]() mutable {
    replica->execute(request, std::move(payload), std::move(answered));
  };
  jobs_.run(std::move(work), {});
}

}  // namespace efs
