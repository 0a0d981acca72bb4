// Calls: call() -> the peer's session, or its queue and a dial -> the answer, found by its id -> done.
// What can end a call: answered(), expire_deadlines(), cancel(), end() of its connection, drop().
#include "peer/net/rpc.h"

#include <algorithm>

#include "peer/net/rpc_impl.h"

namespace efs {

// ---- the public face ----

Rpc::Rpc(Runtime& runtime, const KeyPair& key, const Id& mesh, ByteView mesh_secret, Admit admit,
         RpcOptions options)
    : impl_(std::make_unique<Impl>(runtime, key, mesh, mesh_secret, std::move(admit), std::move(options))) {}
Rpc::~Rpc() {
  *impl_->alive = false;
  impl_->alive.reset();  // responders and posted tasks that outlive this do nothing
}

const PeerId& Rpc::id() const {
  return impl_->self;
}
Status Rpc::listen(const Address& address) {
  return impl_->listen(address);
}
std::vector<Address> Rpc::listening() const {
  std::vector<Address> out;
  for (const auto& listener : impl_->listeners) out.push_back(listener->address());
  return out;
}
void Rpc::set_route(const PeerId& id, std::vector<Address> addresses) {
  Impl::Peer& peer = impl_->peer_of(id);
  if (peer.route == addresses) return;
  peer.route = std::move(addresses);
  peer.next_address = 0;
  peer.failures = 0;
  peer.redial.stop();
  if (!peer.waiting.empty() || peer.keep_alive) impl_->ensure_connected(peer);
  impl_->forget_if_unused(id);
}
void Rpc::dial(const Address& address, std::function<void(Result<PeerId>)> done) {
  auto learned = [impl = impl_.get(), address, run = std::move(done)](Result<PeerId> result) {
    if (result && impl->peer_of(*result).route.empty()) impl->peer_of(*result).route = {address};
    run(std::move(result));
  };
  impl_->start_attempt(address, std::nullopt, std::move(learned));
}
void Rpc::drop(const PeerId& peer) {
  impl_->drop(peer, {Code::closed, "the connection to peer " + short_hex(peer) + " was given up"});
}
void Rpc::keep_alive(const PeerId& id, bool on) {
  Impl::Peer& peer = impl_->peer_of(id);
  peer.keep_alive = on;
  if (on) impl_->ensure_connected(peer);
  impl_->forget_if_unused(id);
}
void Rpc::recheck_admissions() {
  impl_->recheck_admissions();
}
CallId Rpc::call(const PeerId& peer, uint16_t kind, Bytes body, SharedBytes payload,
                 const CallOptions& options, Done done) {
  return impl_->call(peer, kind, std::move(body), std::move(payload), options, std::move(done));
}
void Rpc::cancel(CallId call) {
  impl_->cancel(call);
}
Status Rpc::notify(const PeerId& peer, uint16_t kind, Bytes body, SharedBytes payload, Priority priority) {
  return impl_->notify(peer, kind, std::move(body), std::move(payload), priority);
}
void Rpc::handle(uint16_t kind, Access access, Handler handler) {
  impl_->handlers[kind] = std::make_shared<Impl::Route>(Impl::Route{access, std::move(handler)});
}
bool Rpc::connected(const PeerId& id) const {
  const Impl::Peer* peer = impl_->find_peer(id);
  return peer && peer->current;
}
std::optional<PeerInfo> Rpc::info(const PeerId& id) const {
  const Impl::Peer* peer = impl_->find_peer(id);
  if (!peer || !peer->current) return {};
  return peer->current->info;
}
std::vector<PeerStats> Rpc::stats() const {
  std::vector<PeerStats> out;
  for (const auto& [id, peer] : impl_->peers) {
    PeerStats& one = out.emplace_back();
    one.id = id;
    one.rtt_ns = peer->rtt_ns;
    one.wall_offset_ns = peer->wall_offset_ns;
    one.version = peer->version;
    for (const auto& [number, connection] : impl_->connections)
      one.sessions += connection->opened_ok && connection->info.id == id;
    one.last_error = peer->last_error;
    one.calls_waiting = peer->waiting.size();
    one.bytes_sent = peer->bytes_sent;
    one.bytes_received = peer->bytes_received;
    if (!peer->current) continue;
    one.connected = true;
    one.address = peer->current->info.address;
    one.calls_in_flight = peer->current->asked.size();
    one.bytes_sent += peer->current->session->bytes_sent();
    one.bytes_received += peer->current->session->bytes_received();
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return out;
}
std::map<std::string, uint64_t> Rpc::refusals() const {
  std::map<std::string, uint64_t> out;
  for (const auto& [reason, refused] : impl_->refusals) out[reason] = refused.count;
  return out;
}

Rpc::Impl::Impl(Runtime& runtime_, const KeyPair& key, const Id& mesh, ByteView mesh_secret, Admit admit_,
                RpcOptions options_)
    : runtime(runtime_),
      options(std::move(options_)),
      self(options.id.value_or(peer_id_of(key.public_key()))),
      local(key, self, mesh, mesh_secret, runtime_.random),
      admit(std::move(admit_)),
      deadline_timer(runtime_.loop),
      tick_timer(runtime_.loop) {}

// ---- calls ----

CallId Rpc::Impl::call(const PeerId& id, uint16_t kind, Bytes body, SharedBytes payload,
                       const CallOptions& call_options, Done done) {
  CallId number = next_number++;
  Call& call = calls[number];
  call.peer = id;
  call.done = std::move(done);
  call.message.header.priority = call_options.priority;
  call.message.header.kind = kind;
  call.message.header.id = number;
  call.message.header.body_length = uint32_t(std::min(body.size(), kMaxBody));
  call.message.header.payload_length = uint32_t(std::min(payload.size(), kMaxPayload));
  call.deadline = deadlines.emplace(now() + call_options.timeout_ns, number);
  if (body.size() > kMaxBody || payload.size() > kMaxPayload) {
    finish_call_later(number, fail(Code::too_large, "a request over the limit"));
    return number;
  }
  call.message.body = std::move(body);
  call.message.payload = std::move(payload);
  start_call(peer_of(id), number, call);
  if (deadline_armed_ns == 0 || deadlines.begin()->first < deadline_armed_ns) arm_deadlines();
  return number;
}

void Rpc::Impl::start_call(Peer& peer, CallId id, Call& call) {
  bool in_turn = peer.waiting.empty() || call.message.header.priority == Priority::control;
  if (peer.current && in_turn && has_window(*peer.current, call.message))
    return send_call(*peer.current, id, call);
  if (!peer.current && peer.route.empty() && peer.attempt == 0 && !peer.up) {
    finish_call_later(id, fail(unreachable(peer)));
    return forget_if_unused(peer.id);
  }
  size_t bytes = call.message.header.total();
  if (peer.waiting.size() >= options.limits.waiting_calls ||
      peer.waiting_bytes + bytes > options.limits.waiting_bytes)
    return finish_call_later(id,
                             fail(Code::overloaded, "too many requests wait for peer " + short_hex(peer.id)));
  peer.waiting.push_back(id);
  peer.waiting_bytes += bytes;
  ensure_connected(peer);
}

bool Rpc::Impl::has_window(const Connection& connection, const Message& message) const {
  if (message.header.priority == Priority::control)
    return connection.asked.size() < kWindowRequests + kControlReserve;
  return connection.asked.size() < kWindowRequests &&
         (connection.asked_bytes == 0 || connection.asked_bytes + message.header.total() <= kWindowBytes);
}

void Rpc::Impl::send_call(Connection& connection, CallId id, Call& call) {
  call.connection = connection.number;
  size_t bytes = call.message.header.total();
  connection.asked[id] = bytes;
  connection.asked_bytes += bytes;
  connection.session->send(std::move(call.message));
  call.message = Message();
}

void Rpc::Impl::flush_waiting(Peer& peer) {
  while (peer.current && !peer.waiting.empty()) {
    CallId id = peer.waiting.front();
    Call& call = calls.at(id);
    if (!has_window(*peer.current, call.message)) return;
    peer.waiting.pop_front();
    peer.waiting_bytes -= call.message.header.total();
    send_call(*peer.current, id, call);
  }
}

Error Rpc::Impl::unreachable(const Peer& peer) const {
  std::string text = "peer " + short_hex(peer.id);
  if (peer.current) return {Code::unreachable, text + " takes no more requests: those before are unanswered"};
  if (peer.route.empty() && peer.attempt == 0) return {Code::unreachable, "no address is known for " + text};
  text += " cannot be reached";
  return {Code::unreachable, peer.last_error.empty() ? text : text + ": " + peer.last_error};
}

// Ends a call before its answer: by its deadline or its caller.
void Rpc::Impl::give_up(CallId id, Error sent, Error unsent, bool later) {
  auto found = calls.find(id);
  if (found == calls.end()) return;
  Call& call = found->second;
  bool was_sent = false;
  if (Connection* connection = find_connection(call.connection)) {
    if (connection->session->remove_unstarted(id)) {
      connection->asked_bytes -= connection->asked[id];
      connection->asked.erase(id);
      check_retired(*connection);
    } else {
      was_sent = true;
      Message message;
      message.header = {.type = MessageType::one_way,
                        .priority = Priority::control,
                        .kind = uint16_t(NetKind::cancel),
                        .id = id};
      connection->session->send(std::move(message));
    }
  } else if (Peer* peer = find_peer(call.peer)) {
    auto waits = std::find(peer->waiting.begin(), peer->waiting.end(), id);
    if (waits != peer->waiting.end()) {
      peer->waiting.erase(waits);
      peer->waiting_bytes -= call.message.header.total();
    }
  }
  Error error = was_sent ? std::move(sent) : std::move(unsent);
  later ? finish_call_later(id, fail(std::move(error))) : finish_call(id, fail(std::move(error)));
}

void Rpc::Impl::cancel(CallId id) {
  Error error{Code::cancelled, {}};
  give_up(id, error, error, true);
}

Rpc::Done Rpc::Impl::take_call(CallId id) {
  auto found = calls.find(id);
  if (found == calls.end()) return {};
  Done done = std::move(found->second.done);
  deadlines.erase(found->second.deadline);
  calls.erase(found);
  return done;
}

void Rpc::Impl::finish_call(CallId id, Result<Answer> result) {
  if (Done done = take_call(id)) done(std::move(result));
}

void Rpc::Impl::finish_call_later(CallId id, Result<Answer> result) {
  Done done = take_call(id);
  if (!done) return;
  auto shared = std::make_shared<Result<Answer>>(std::move(result));
  post([run = std::move(done), shared] { run(std::move(*shared)); });
}

void Rpc::Impl::fail_waiting(Peer& peer, const Error& error) {
  auto waiting = std::move(peer.waiting);
  peer.waiting.clear();
  peer.waiting_bytes = 0;
  for (CallId id : waiting) finish_call_later(id, fail(error));
}

void Rpc::Impl::arm_deadlines() {
  deadline_armed_ns = 0;
  deadline_timer.stop();
  if (deadlines.empty()) return;
  deadline_armed_ns = deadlines.begin()->first;
  deadline_timer.start(std::max<int64_t>(0, deadline_armed_ns - now()), [this] { expire_deadlines(); });
}

void Rpc::Impl::expire_deadlines() {
  deadline_armed_ns = 0;
  while (!deadlines.empty() && deadlines.begin()->first <= now()) {
    CallId id = deadlines.begin()->second;
    const PeerId peer = calls.at(id).peer;
    give_up(id, {Code::timed_out, "peer " + short_hex(peer) + " did not answer in time"},
            unreachable(peer_of(peer)), false);
    forget_if_unused(peer);
  }
  arm_deadlines();
}

void Rpc::Impl::answered(Connection& connection, Message message) {
  uint64_t id = message.header.id;
  auto asked = connection.asked.find(id);
  if (id != 0 && id == connection.ping_id) return ping_answered(connection, message);
  if (asked == connection.asked.end()) {
    broken(connection, {Code::protocol, "an answer to nothing that was asked"}, "broken rules");
    return;
  }
  connection.asked_bytes -= asked->second;
  connection.asked.erase(asked);
  if (Peer* peer = find_peer(connection.info.id)) flush_waiting(*peer);
  check_retired(connection);
  if (message.header.type == MessageType::error) {
    finish_call(id, fail(decode_error(message.body)));
  } else {
    finish_call(id, Answer{std::move(message.body), std::move(message.payload)});
  }
}

Status Rpc::Impl::notify(const PeerId& id, uint16_t kind, Bytes body, SharedBytes payload,
                         Priority priority) {
  if (body.size() > kMaxBody || payload.size() > kMaxPayload)
    return fail(Code::too_large, "a message over the limit");
  Peer* peer = find_peer(id);
  if (!peer || !peer->current) return fail(Code::unreachable, "peer " + short_hex(id) + " is not connected");
  Session& session = *peer->current->session;
  if (session.queued_bytes(priority) > options.limits.queued_one_way_bytes) return fail(Code::overloaded);
  Message message;
  message.header = {.type = MessageType::one_way, .priority = priority, .kind = kind};
  message.body = std::move(body);
  message.payload = std::move(payload);
  session.send(std::move(message));
  return {};
}

}  // namespace efs
