// Sessions: a dial (or an accepted stream) -> handshake -> identified() -> opened() -> settle() -> calls go
// out. A failed dial goes to the next address, then waits longer each round; calls wait until their
// deadlines. A session that ends hands back what was never sent, and fails what was.
#include <algorithm>

#include "peer/net/rpc_impl.h"

namespace efs {

Status Rpc::Impl::listen(const Address& address) {
  EFS_ASSIGN(auto listener, runtime.network.listen(address, [this](std::unique_ptr<Stream> stream) {
    accept(std::move(stream));
  }));
  listeners.push_back(std::move(listener));
  return {};
}

Greeting Rpc::Impl::greeting() {
  Greeting out{.version = options.version, .features = options.features, .mark = {}, .addresses = {}};
  if (options.register_mark) out.mark = options.register_mark();
  if (options.listening) out.addresses = options.listening();
  return out;
}

Rpc::Impl::Peer& Rpc::Impl::peer_of(const PeerId& id) {
  auto& peer = peers[id];
  if (!peer) peer = std::make_unique<Peer>(runtime.loop, id);
  return *peer;
}
Rpc::Impl::Peer* Rpc::Impl::find_peer(const PeerId& id) {
  auto found = peers.find(id);
  return found == peers.end() ? nullptr : found->second.get();
}
void Rpc::Impl::forget_if_unused(const PeerId& id) {
  Peer* peer = find_peer(id);
  if (peer && peer->route.empty() && !peer->up && peer->waiting.empty() && peer->attempt == 0 &&
      !peer->keep_alive)
    peers.erase(id);
}
Rpc::Impl::Connection* Rpc::Impl::find_connection(uint64_t number) {
  auto found = connections.find(number);
  return found == connections.end() ? nullptr : found->second.get();
}

// ---- making one ----

Rpc::Impl::Connection& Rpc::Impl::add_connection(std::unique_ptr<Stream> stream, bool initiator) {
  uint64_t number = next_number++;
  auto connection = std::make_unique<Connection>(*this, number);
  connection->info.address = stream->remote();
  connection->session =
      std::make_unique<Session>(runtime, local, *connection, std::move(stream), initiator, options.session);
  return *(connections[number] = std::move(connection));
}

void Rpc::Impl::accept(std::unique_ptr<Stream> stream) {
  Connection* oldest = nullptr;
  size_t half_open = 0;
  for (auto& [number, connection] : connections) {
    if (connection->opened_ok || connection->session->initiator()) continue;
    if (!oldest) oldest = connection.get();
    ++half_open;
  }
  if (oldest && half_open >= options.limits.half_open)
    broken(*oldest, {Code::overloaded, "too many handshakes at once"}, "half-open limit");
  add_connection(std::move(stream), false).session->start();
}

uint64_t Rpc::Impl::start_attempt(const Address& address, std::optional<PeerId> expected,
                                  std::function<void(Result<PeerId>)> done) {
  uint64_t number = next_number++;
  Attempt& attempt = attempts[number];
  attempt = {expected, address, {}, std::move(done)};
  attempt.pending = runtime.network.connect(
      address, options.connect_timeout_ns, [this, number](Result<std::unique_ptr<Stream>> stream) {
        if (attempts.count(number) == 0) return;
        if (!stream) return finish_attempt(number, fail(std::move(stream.error())));
        Connection& connection = add_connection(std::move(*stream), true);
        connection.attempt = number;
        connection.info.address = attempts[number].address;
        connection.session->start();
      });
  return number;
}

void Rpc::Impl::finish_attempt(uint64_t number, Result<PeerId> result) {
  auto found = attempts.find(number);
  if (found == attempts.end()) return;
  // The pending connect may be what calls this: it is destroyed later.
  auto attempt = std::make_shared<Attempt>(std::move(found->second));
  attempts.erase(found);
  post([attempt] {});
  attempt->done(std::move(result));
}

void Rpc::Impl::ensure_connected(Peer& peer) {
  if (peer.current || peer.attempt != 0 || peer.redial.running() || peer.route.empty()) return;
  if (peer.failures == 0) return dial_route(peer.id);
  unsigned shift = std::min(peer.failures - 1, 20u);
  int64_t delay = std::min(options.backoff_min_ns << shift, options.backoff_max_ns);
  delay = delay / 2 + int64_t(runtime.random.below(uint64_t(delay) + 1));
  peer.redial.start(delay, [this, id = peer.id] { dial_route(id); });
}

void Rpc::Impl::dial_route(const PeerId& id) {
  Peer& peer = peer_of(id);
  if (peer.current || peer.attempt != 0 || peer.route.empty()) return;
  const Address address = peer.route[peer.next_address % peer.route.size()];
  peer.attempt = start_attempt(
      address, id, [this, id, address](Result<PeerId> result) { route_dialled(id, address, result); });
}

void Rpc::Impl::route_dialled(const PeerId& id, const Address& address, const Result<PeerId>& result) {
  Peer& peer = peer_of(id);
  peer.attempt = 0;
  if (result) return;  // opened() has done the rest
  peer.last_error = address.to_text() + ": " + to_text(result.error());
  ++peer.next_address;
  bool round_over = peer.route.empty() || peer.next_address % peer.route.size() == 0;
  if (round_over) ++peer.failures;
  if (peer.waiting.empty() && !peer.keep_alive) return forget_if_unused(id);
  if (!peer.current && peer.route.empty() && !peer.up) return fail_waiting(peer, unreachable(peer));
  round_over ? ensure_connected(peer) : dial_route(id);
}

// ---- who it is ----

Status Rpc::Impl::identified(Connection& connection) {
  const RemoteIdentity& remote = connection.session->remote();
  PeerInfo& info = connection.info;
  info.id = remote.id;
  info.key = remote.key;
  info.greeting = remote.greeting;
  const std::string name = "peer " + short_hex(remote.id);
  if (remote.id == self) return fail(Code::invalid_argument, info.address.to_text() + " is this peer itself");
  auto attempt = attempts.find(connection.attempt);
  if (attempt != attempts.end() && attempt->second.expected && *attempt->second.expected != remote.id)
    return fail(Code::unreachable, "another peer answers there: " + name);
  info.admission = admit(remote.id, remote.key);
  if (info.admission == Admission::revoked)
    return fail(Code::unauthorized, name + " was revoked from the mesh");
  if (info.admission == Admission::unknown && peer_id_of(remote.key) != remote.id)
    return fail(Code::unauthorized, name + " shows a key that is not known to be its own");
  connection.identified_ok = true;
  return {};
}

void Rpc::Impl::opened(Connection& connection) {
  connection.opened_ok = true;
  const PeerId id = connection.info.id;
  Peer& peer = peer_of(id);
  peer.version = connection.info.greeting.version;
  peer.last_error.clear();
  peer.failures = 0;
  peer.redial.stop();
  bool was_up = std::exchange(peer.up, true);
  arm_tick();
  settle(peer, connection);
  bound_sessions(connection);
  uint64_t number = connection.number;
  finish_attempt(std::exchange(connection.attempt, 0), id);
  if (!was_up && find_connection(number) && options.on_peer_up) options.on_peer_up(connection.info);
  if (find_connection(number) && options.on_register_mark)
    options.on_register_mark(id, connection.info.greeting.mark);
  if (Peer* still = find_peer(id)) flush_waiting(*still);
}

void Rpc::Impl::settle(Peer& peer, Connection& connection) {
  Connection* old = peer.current;
  peer.current = &connection;
  if (!old) return;
  bool mine_old = old->session->initiator(), mine_new = connection.session->initiator();
  bool keep_mine = self < peer.id;  // the one that the smaller id dialled
  // Of two that the same side dialled the newer stays: the older is one that the dialler has lost.
  bool keep_new = mine_old == mine_new || mine_new == keep_mine;
  if (!keep_new) peer.current = old;
  retire(keep_new ? *old : connection);
}

// An honest peer has two for a moment; whoever opens more, or comes as one unknown peer after another,
// takes the place of its own earlier ones.
void Rpc::Impl::bound_sessions(const Connection& newest) {
  Connection *oldest_own = nullptr, *oldest_unknown = nullptr;
  size_t own = 0, unknown = 0;
  for (auto& [number, connection] : connections) {
    if (!connection->opened_ok || connection.get() == &newest) continue;
    if (connection->info.id == newest.info.id) {
      if (!oldest_own) oldest_own = connection.get();
      ++own;
    } else if (connection->info.admission == Admission::unknown && !connection->session->initiator()) {
      if (!oldest_unknown) oldest_unknown = connection.get();
      ++unknown;
    }
  }
  const Error error{Code::overloaded, "newer sessions took its place"};
  if (own >= options.limits.sessions_per_peer) broken(*oldest_own, error, "too many sessions");
  if (newest.info.admission == Admission::unknown && unknown >= options.limits.unknown_sessions)
    broken(*oldest_unknown, error, "too many unknown peers");
}

void Rpc::Impl::retire(Connection& connection) {
  hand_back(connection);
  check_retired(connection);
}

// Nothing new goes over it, and what has not left yet takes another.
void Rpc::Impl::hand_back(Connection& connection) {
  connection.retired = true;
  Peer* peer = find_peer(connection.info.id);
  if (peer && peer->current == &connection) peer->current = nullptr;
  for (Message& message : connection.session->take_unstarted()) {  // what has not left takes the other
    if (message.header.type != MessageType::request || message.header.id == connection.ping_id) {
      connection.session->send(std::move(message));
      continue;
    }
    CallId id = message.header.id;
    connection.asked_bytes -= connection.asked[id];
    connection.asked.erase(id);
    auto call = calls.find(id);
    if (call == calls.end() || !peer) continue;
    call->second.connection = 0;
    call->second.message = std::move(message);
    peer->waiting.push_back(id);
    peer->waiting_bytes += call->second.message.header.total();
  }
}

void Rpc::Impl::check_retired(Connection& connection) {
  if (!connection.retired || !connection.asked.empty()) return;
  if (!connection.retire_sent) {
    connection.retire_sent = true;
    Message message;
    message.header = {
        .type = MessageType::one_way, .priority = Priority::control, .kind = uint16_t(NetKind::retire)};
    connection.session->send(std::move(message));
  }
  // Every answer of ours has arrived when the other side says that it waits for none.
  if (connection.retire_received && connection.handling.empty())
    end(connection, {Code::closed, "no longer needed"}, true);
}

// ---- the end of one ----

void Rpc::Impl::broken(Connection& connection, const Error& error, std::string_view reason) {
  if (!find_connection(connection.number)) return;
  Error told = error;
  bool quiet = reason == "connection lost" || reason == "goodbye";
  const std::string at = connection.info.address.to_text();
  if (connection.session->initiator() && !connection.session->answered() && error.code != Code::timed_out)
    told = {Code::unauthorized, at + " broke off the handshake: it belongs to another mesh, the mesh secret "
                                     "here is not (or no longer) its own, or it is no efs peer"};
  if (!quiet) count(reason, connection.info.address, error);
  if (connection.attempt != 0) {
    uint64_t attempt = std::exchange(connection.attempt, 0);
    bool tell = reason == "refused";
    uint64_t number = connection.number;
    finish_attempt(attempt, fail(told));
    if (Connection* still = find_connection(number)) end(*still, told, tell);
    return;
  }
  end(connection, told, !quiet && connection.session->open());
}

void Rpc::Impl::end(Connection& connection, const Error& error, bool tell) {
  const PeerId id = connection.info.id;
  const bool was_open = connection.opened_ok;
  std::vector<CallId> lost;
  hand_back(connection);
  for (const auto& [call, bytes] : connection.asked) lost.push_back(call);
  std::sort(lost.begin(), lost.end());
  std::vector<std::shared_ptr<Responder::Pending>> given_up;
  for (auto& [request, handling] : connection.handling)
    if (auto pending = handling.pending.lock()) given_up.push_back(std::move(pending));
  Peer* peer = find_peer(id);
  if (peer) {
    peer->bytes_sent += connection.session->bytes_sent();
    peer->bytes_received += connection.session->bytes_received();
  }
  bury(connection, error, tell);
  for (auto& pending : given_up) {
    pending->send = nullptr;
    pending->cancel();
  }
  Error closed{Code::closed, "the connection to peer " + short_hex(id) + " broke: " + to_text(error)};
  for (CallId call : lost) finish_call_later(call, fail(closed));
  if (!was_open || !(peer = find_peer(id))) return;
  bool up = std::any_of(connections.begin(), connections.end(), [&](const auto& item) {
    return item.second->opened_ok && item.second->info.id == id;
  });
  if (!up) {
    peer->up = false;
    peer->failures = std::max(peer->failures, 1u);
    if (peer->last_error.empty()) peer->last_error = to_text(error);
    if (peer->route.empty() && peer->attempt == 0) fail_waiting(*peer, unreachable(*peer));
    if (options.on_peer_down) options.on_peer_down(id, error);
  }
  if (!(peer = find_peer(id))) return;
  flush_waiting(*peer);
  if (!peer->waiting.empty() || peer->keep_alive) ensure_connected(*peer);
  forget_if_unused(id);
}

void Rpc::Impl::bury(Connection& connection, const Error& error, bool tell) {
  uint64_t number = connection.number;
  auto owned = std::move(connections[number]);
  connections.erase(number);
  Session& session = *owned->session;
  buried[number] = std::move(owned);
  auto destroy = [this, number] { post([this, number] { buried.erase(number); }); };
  tell ? session.say_goodbye(error, destroy) : destroy();
}

void Rpc::Impl::drop(const PeerId& id, const Error& error) {
  Peer* peer = find_peer(id);
  if (!peer) return;
  peer->route.clear();
  peer->keep_alive = false;
  peer->redial.stop();
  fail_waiting(*peer, error);
  const uint64_t attempt = std::exchange(peer->attempt, 0);
  attempts.erase(attempt);
  std::vector<uint64_t> numbers;
  for (const auto& [number, connection] : connections) {
    bool its_own = connection->identified_ok && connection->info.id == id;
    if (its_own || (attempt != 0 && connection->attempt == attempt)) numbers.push_back(number);
  }
  for (uint64_t number : numbers)
    if (Connection* connection = find_connection(number)) end(*connection, error, true);
  if ((peer = find_peer(id))) fail_waiting(*peer, error);
  forget_if_unused(id);
}

}  // namespace efs
