// The happy path of a change: propose() at any peer -> kPropose at the root volume's owner -> order(): the
// entry is made, signed, durable in the root volume, appended to the register here -> announce() to all
// connected -> the proposer sees it in its own register and answers. It fails to the proposer alone, with
// the reason that RegisterState gives; what fails half-way (the owner dies after ordering) shows as an entry
// that the proposer was not told of, and proposing again is refused as a repetition.
#include "peer/membership/membership.h"

#include <algorithm>

namespace efs {

namespace {
constexpr int64_t kProposeTimeout = 10 * kSecond;
constexpr int64_t kFetchTimeout = 10 * kSecond;
constexpr int64_t kDialBackTimeout = 4 * kSecond;
constexpr size_t kEntriesAMessage = 256;
}  // namespace

Membership::Membership(Runtime& runtime, RegisterStore& store, const KeyPair& key, const PeerId& self)
    : runtime_(runtime), store_(store), key_(key), self_(self), waiting_timer_(runtime.loop) {}

// A session proves the key; the id is only said. A member's key that comes with another's id is nobody's, and
// the session refuses it, as it does every unknown key whose id is not its hash.
Admission Membership::admission_of(const PeerId& peer, const PublicKey& key) const {
  switch (state().standing_of(key)) {
    case Standing::admitted: {
      const PeerFacts* facts = state().peer_by_key(key);
      return facts != nullptr && facts->id == peer ? Admission::admitted : Admission::unknown;
    }
    case Standing::revoked:
      return Admission::revoked;
    default:
      return Admission::unknown;
  }
}

void Membership::attach(Rpc& rpc) {
  rpc_ = &rpc;
  rpc.handle(kJoin, Access::anyone, [this](const Caller& caller, Bytes body, SharedBytes, Responder respond) {
    handle_join(caller, body, std::move(respond));
  });
  rpc.handle(kReadRegister, Access::anyone,
             [this](const Caller&, Bytes body, SharedBytes, Responder respond) {
               handle_read(body, std::move(respond));
             });
  rpc.handle(kNewEntries, Access::admitted, [this](const Caller& caller, Bytes body, SharedBytes, Responder) {
    auto part = decode<RegisterPart>(body);
    if (!part) return;
    const uint64_t before = state().version();
    if (part->from > before) return fetch(caller.id);
    part->entries.erase(part->entries.begin(),
                        part->entries.begin() + std::min<size_t>(before - part->from, part->entries.size()));
    if (part->entries.empty()) return;
    if (Status taken = take(part->entries); !taken) refuse(caller.id, to_text(taken.error()));
  });
  rpc.handle(kPropose, Access::admitted, [this](const Caller&, Bytes body, SharedBytes, Responder respond) {
    auto message = decode<ProposalMessage>(body);
    if (!message) return respond.fail(message.error());
    if (!orders()) return respond.fail({Code::not_owner, "this peer does not own the root volume"});
    order({[this, proposal = std::move(message->proposal)] {
             return make_entry(state(), proposal, key_, runtime_.loop.clock().wall_ns());
           },
           [respond](Result<uint64_t> index) mutable {
             index ? respond.answer(encode(Ordered{*index})) : respond.fail(index.error());
           }});
  });
}

Status Membership::take(const std::vector<Bytes>& entries) {
  const uint64_t before = state().version();
  const Status status = store_.append(entries);
  if (state().version() > before) applied(before);
  return status;
}

void Membership::applied(uint64_t from) {
  for (auto& listener : listeners_) listener(from);
  announce(from);  // first: who is revoked hears it from the register, then is cut off
  if (rpc_ != nullptr) rpc_->recheck_admissions();
  while (!waiting_.empty() && waiting_.begin()->first < state().version()) {
    auto node = waiting_.extract(waiting_.begin());
    runtime_.loop.post([done = std::move(node.mapped().done), index = node.key()] { done(index); });
  }
}

// To everyone connected: they pass it on, so that it reaches all whoever ordered it; who has it already
// drops it.
void Membership::announce(uint64_t from) {
  if (rpc_ == nullptr) return;
  auto entries = store_.read(from, kEntriesAMessage);
  if (!entries || entries->empty()) return;
  const Bytes body = encode(RegisterPart{from, std::move(*entries), state().version()});
  for (const PeerStats& peer : rpc_->stats()) {
    if (!peer.connected) continue;
    const auto info = rpc_->info(peer.id);
    if (!info || info->admission != Admission::admitted || info->greeting.mark.version >= state().version())
      continue;
    (void)rpc_->notify(peer.id, kNewEntries, body);  // a mark in the next ping tells who missed it
  }
}

void Membership::on_peer_up(const PeerInfo& peer) {
  on_mark(peer.id, peer.greeting.mark);
}

void Membership::on_mark(const PeerId& peer, const RegisterMark& mark) {
  if (mark.version > state().version()) return fetch(peer);
  if (mark.version > 0 && state().hash_at(mark.version - 1) != mark.head) {
    return refuse(peer, fmt::format("it has another entry {} than this peer: the registers of this mesh have "
                                    "parted; ask 'efs-keys audit' on both, and keep the one of the root "
                                    "volume's owner",
                                    mark.version - 1));
  }
  refused_.erase(peer);
}

// Said once a minute for as long as it stays so, and by `efs status`.
void Membership::refuse(const PeerId& from, const std::string& why) {
  const int64_t now_ns = runtime_.loop.clock().now_ns();
  Refused& refused = refused_[from];
  if (refused.until_ns > now_ns && refused.why == why) return;
  refused = {why, now_ns + kRefusedFor};
  runtime_.log.error("register: what {} has is refused: {}", short_hex(from), why);
}

std::vector<std::string> Membership::troubles() const {
  std::vector<std::string> out;
  for (const auto& [peer, refused] : refused_) {
    const PeerFacts* facts = state().peer(peer);
    if (facts == nullptr || facts->standing != Standing::admitted) continue;
    out.push_back(fmt::format("the register of {} is refused here: {}", facts->name, refused.why));
  }
  return out;
}

void Membership::fetch(const PeerId& from) {
  auto refused = refused_.find(from);
  if (refused != refused_.end() && refused->second.until_ns > runtime_.loop.clock().now_ns()) return;
  if (rpc_ == nullptr || !fetching_.insert(from).second) return;
  rpc_->call(from, kReadRegister, encode(RegisterQuery{state().version()}), {},
             {kFetchTimeout, Priority::control}, [this, from](Result<Answer> answer) {
               fetching_.erase(from);
               auto more = take_part(answer);
               if (answer && !more) return refuse(from, to_text(more.error()));
               if (more && *more) fetch(from);
             });
}

// True: something was taken, and the sender has more.
Result<bool> Membership::take_part(const Result<Answer>& answer) {
  EFS_TRY(answer);
  EFS_ASSIGN(auto part, decode<RegisterPart>(answer->body));
  const uint64_t before = state().version();
  if (part.from > before) return fail(Code::protocol, "a part of the register that was not asked for");
  const size_t known = std::min<size_t>(before - part.from, part.entries.size());
  part.entries.erase(part.entries.begin(), part.entries.begin() + ptrdiff_t(known));
  if (!part.entries.empty()) EFS_TRY(take(part.entries));
  if (part.version <= state().version()) return false;
  if (state().version() == before) return fail(Code::protocol, "a part of the register without entries");
  return true;
}

void Membership::refresh(std::function<void(Status)> done) {
  if (orders()) return runtime_.loop.post([done] { done({}); });
  const auto owners = root_owners();
  if (owners.empty())
    return runtime_.loop.post([done] { done(fail(Code::unreachable, "the root volume has no owner")); });
  rpc_->call(owners.front(), kReadRegister, encode(RegisterQuery{state().version()}), {},
             {kFetchTimeout, Priority::control}, [this, done](Result<Answer> answer) {
               auto more = take_part(answer);
               if (!more) return done(fail(more.error()));
               *more ? refresh(done) : done({});
             });
}

void Membership::handle_read(ByteView body, Responder respond) {
  auto query = decode<RegisterQuery>(body);
  if (!query) return respond.fail(query.error());
  auto entries = store_.read(query->from, kEntriesAMessage);
  if (!entries) return respond.fail(entries.error());
  respond.answer(encode(RegisterPart{query->from, std::move(*entries), state().version()}));
}

// ---- proposing and ordering ----

std::vector<PeerId> Membership::root_owners() const {
  const VolumeFacts* root = state().root_volume();
  return root == nullptr ? std::vector<PeerId>() : root->owners;
}

void Membership::propose_change(Change change, std::function<void(Result<uint64_t>)> done) {
  propose(make_proposal(state().mesh(), state().version(), std::move(change), key_, runtime_.random),
          std::move(done));
}

void Membership::propose(Bytes proposal, std::function<void(Result<uint64_t>)> done) {
  if (orders()) {
    return order({[this, proposal = std::move(proposal)] {
                    return make_entry(state(), proposal, key_, runtime_.loop.clock().wall_ns());
                  },
                  std::move(done)});
  }
  const auto owners = root_owners();
  if (owners.empty()) {
    return runtime_.loop.post([done] { done(fail(Code::unreachable, "the root volume has no owner")); });
  }
  rpc_->call(
      owners.front(), kPropose, encode(ProposalMessage{std::move(proposal)}), {},
      {kProposeTimeout, Priority::normal}, [this, done, owner = owners.front()](Result<Answer> answer) {
        if (!answer) {
          Error error = answer.error();
          if (error.code == Code::unreachable || error.code == Code::timed_out ||
              error.code == Code::closed) {
            const PeerFacts* facts = state().peer(owner);
            error = {Code::unreachable,
                     fmt::format("the owner of '/', {}, cannot be reached ({}); it orders changes of the "
                                 "register: try again when it is back",
                                 facts ? facts->name : short_hex(owner), to_text(error))};
          }
          return done(fail(error));
        }
        auto ordered = decode<Ordered>(answer->body);
        if (!ordered) return done(fail(ordered.error()));
        wait_for(ordered->index, done);
        if (state().version() <= ordered->index) fetch(owner);
      });
}

void Membership::wait_for(uint64_t index, std::function<void(Result<uint64_t>)> done) {
  if (index < state().version()) return done(index);
  waiting_.emplace(index, Waiting{std::move(done), runtime_.loop.clock().now_ns() + kEntryPatience});
  if (!waiting_timer_.running()) waiting_timer_.start(kSecond, [this] { tend_waiting(); });
}

// An entry that was ordered comes by announcement or is fetched; when its owner went away at once, from
// whoever has it. Who waits is not left waiting.
void Membership::tend_waiting() {
  const int64_t now_ns = runtime_.loop.clock().now_ns();
  std::erase_if(waiting_, [&](auto& one) {
    if (one.second.until_ns > now_ns) return false;
    runtime_.loop.post([done = std::move(one.second.done), index = one.first] {
      done(fail(Code::timed_out,
                fmt::format("the change was made, as entry {} of the register, but has not come to this peer "
                            "yet: 'efs-keys audit' shows it once it has",
                            index)));
    });
    return true;
  });
  if (waiting_.empty()) return;
  for (const PeerId& owner : root_owners()) {
    if (owner != self_) fetch(owner);
  }
  waiting_timer_.start(kSecond, [this] { tend_waiting(); });
}

void Membership::order(Queued queued) {
  if (queue_.size() >= kMaxQueuedProposals) {
    return runtime_.loop.post([done = std::move(queued.done)] {
      done(fail(Code::overloaded, "too many changes of the register wait"));
    });
  }
  queue_.push_back(std::move(queued));
  if (!ordering_) order_next();
}

void Membership::order_next() {
  if (queue_.empty()) return;
  ordering_ = true;
  Queued queued = std::move(queue_.front());
  queue_.pop_front();
  auto finish = [this, done = std::move(queued.done)](Result<uint64_t> index) {
    ordering_ = false;
    runtime_.loop.post([done, index = std::move(index)]() mutable { done(std::move(index)); });
    order_next();
  };
  auto entry = queued.make();
  if (!entry) return finish(fail(entry.error()));
  const uint64_t index = state().version();
  order_(index, *entry, [this, index, entry = *entry, finish](Status durable) {
    if (!durable) return finish(fail(durable.error()));
    if (Status taken = take({entry}); !taken) return finish(fail(taken.error()));
    finish(index);
  });
}

// ---- joining ----

void Membership::handle_join(const Caller& caller, ByteView body, Responder respond) {
  auto message = decode<JoinMessage>(body);
  if (!message) return respond.fail(message.error());
  auto join = read_join(message->join, state().mesh());
  if (!join) return respond.fail(join.error());
  // At every door: who forwards may be as old as who asks.
  auto no_clients = [&] {
    respond.fail(
        {Code::unsupported,
         "this invite is for a client machine, and client machines are not served yet: make one for a "
         "server with 'efs-keys invite'"});
  };
  if (message->forwarded) {
    if (caller.admission != Admission::admitted) {
      return respond.fail({Code::unauthorized, "only a member forwards a request to join"});
    }
    if (!orders()) return respond.fail({Code::not_owner, "this peer does not own the root volume"});
    if (join->certificate.role == Role::client) return no_clients();
    return admit(std::move(*message), {}, std::move(respond));
  }
  if (caller.key != join->request.key) {
    return respond.fail({Code::unauthorized, "the request to join is another peer's"});
  }
  // Who is in already was killed before it knew: it is answered again, whatever became of the invite.
  if (orders() && state().peer_by_key(join->request.key) == nullptr) {
    if (Status may = state().may_admit(message->join, runtime_.loop.clock().wall_ns()); !may)
      return respond.fail(may.error());
  }
  if (join->certificate.role == Role::client) return no_clients();
  std::vector<std::string> addresses = join->request.addresses;
  if (addresses.empty()) addresses.push_back(Address{caller.address.host, message->port}.to_text());
  dial_back(std::move(addresses), caller.id, {},
            [this, message = std::move(*message), respond](Result<std::string> reached) mutable {
              reached ? admit(std::move(message), std::move(*reached), respond)
                      : respond.fail(reached.error());
            });
}

void Membership::dial_back(std::vector<std::string> addresses, PeerId wanted, std::string tried,
                           std::function<void(Result<std::string>)> done) {
  if (addresses.empty()) {
    return done(fail(
        Code::unreachable,
        fmt::format("others cannot reach me at {}: open TCP there or pass --advertise HOST:PORT", tried)));
  }
  const std::string next = addresses.front();
  addresses.erase(addresses.begin());
  auto again = [this, addresses = std::move(addresses), wanted, tried, next, done](bool reached) {
    if (reached) return done(next);
    dial_back(addresses, wanted, tried.empty() ? next : tried + ", " + next, done);
  };
  auto address = Address::parse(next);
  if (!address) return again(false);
  // A bare connection: proof of who answers comes with the first session that others make to it.
  if (dials_.size() >= kMaxDials)
    return done(fail(Code::overloaded, "too many peers want to join at once: try again in a minute"));
  const uint64_t number = ++last_dial_;
  dials_[number] = runtime_.network.connect(
      *address, kDialBackTimeout, [this, number, again](Result<std::unique_ptr<Stream>> stream) {
        runtime_.loop.post([this, number, again, reached = stream.has_value()] {
          dials_.erase(number);
          again(reached);
        });
      });
}

void Membership::admit(JoinMessage message, std::string reached_at, Responder respond) {
  auto joined = [this, reached_at, respond](const PeerFacts& peer) mutable {
    if (!reached_at.empty()) (void)store_.remember_addresses(peer.id, {reached_at});
    respond.answer(encode(Joined{peer.admitted, peer.name, reached_at}));
  };
  auto join = read_join(message.join, state().mesh());
  if (!join) return respond.fail(join.error());
  const PublicKey key = join->request.key;
  if (const PeerFacts* known = state().peer_by_key(key)) return joined(*known);
  const auto owners = root_owners();
  if (!orders()) {
    if (owners.empty()) return respond.fail({Code::unreachable, "the root volume has no owner"});
    JoinMessage forward = message;
    forward.forwarded = true;
    rpc_->call(owners.front(), kJoin, encode(forward), {}, {kProposeTimeout, Priority::normal},
               [this, joined, key, respond, owner = owners.front()](Result<Answer> answer) mutable {
                 if (!answer && answer.error().code == Code::unreachable) {
                   const PeerFacts* facts = state().peer(owner);
                   return respond.fail(
                       {Code::unreachable, fmt::format("the owner of '/', {}, cannot be reached, and it "
                                                       "admits new peers: try again when it is back",
                                                       facts ? facts->name : short_hex(owner))});
                 }
                 if (!answer) return respond.fail(answer.error());
                 auto done = decode<Joined>(answer->body);
                 if (!done) return respond.fail(done.error());
                 wait_for(done->index, [this, joined, key, respond](Result<uint64_t> index) mutable {
                   const PeerFacts* peer = state().peer_by_key(key);
                   if (peer != nullptr) return joined(*peer);
                   respond.fail(index ? Error{Code::conflict, "the peer was admitted, and then was not"}
                                      : index.error());
                 });
                 if (state().version() <= done->index) fetch(owner);
               });
    return;
  }
  order({[this, join = message.join] {
           return make_admission(state(), join, key_, runtime_.loop.clock().wall_ns(), runtime_.random);
         },
         [this, joined, key, respond](Result<uint64_t> index) mutable {
           const PeerFacts* peer = state().peer_by_key(key);
           if (peer != nullptr) return joined(*peer);
           respond.fail(index ? Error{Code::conflict, "the peer was admitted, and then was not"}
                              : index.error());
         }});
}

}  // namespace efs
