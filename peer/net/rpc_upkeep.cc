// Every second: pings where calls are out or a peer is kept alive, what came back, who was silent for too
// long, what nobody uses. And who is refused, counted and now and then logged.
#include <algorithm>

#include "peer/net/rpc_impl.h"

namespace efs {

void Rpc::Impl::arm_tick() {
  if (tick_timer.running()) return;
  last_tick_ns = now();
  tick_timer.start(options.ping_interval_ns, [this] { tick(); });
}

void Rpc::Impl::tick() {
  const int64_t at = now();
  // This process was stopped: what others sent meanwhile is not read yet, so silence says nothing.
  bool late = at - last_tick_ns > options.ping_interval_ns + options.dead_after_ns / 4;
  std::vector<uint64_t> numbers;
  for (const auto& [number, connection] : connections)
    if (connection->opened_ok) numbers.push_back(number);
  for (uint64_t number : numbers)
    if (Connection* connection = find_connection(number)) tick_one(*connection, at, late);
  if (!connections.empty()) arm_tick();
}

void Rpc::Impl::tick_one(Connection& connection, int64_t at, bool late) {
  const Peer* peer = find_peer(connection.info.id);
  int64_t silent_ns = at - connection.session->last_received_ns();
  // A length that was damaged on the way has no end in sight: pings alone come, into that record.
  if (late) connection.session->excuse(at);
  const int64_t partial_ns = connection.session->partial_since_ns();
  if (partial_ns != 0 && at - partial_ns > options.dead_after_ns)
    return broken(connection, {Code::timed_out, "a record does not come to its end"}, "stalled");
  bool used = connection.retired || !connection.asked.empty() || (peer && peer->keep_alive);
  if (connection.ping_id != 0) {
    if (late) connection.ping_sent_ns = at;
    if (std::min(silent_ns, at - connection.ping_sent_ns) > options.dead_after_ns)
      broken(connection, {Code::timed_out, "nothing came for too long"}, "silent");
  } else if (used) {
    send_ping(connection, at);
  } else if (silent_ns > options.idle_close_ns && connection.handling.empty()) {
    retire(connection);
  }
}

void Rpc::Impl::send_ping(Connection& connection, int64_t at) {
  connection.ping_id = next_number++;
  connection.ping_sent_ns = at;
  PingBody body{.wall_ns = runtime.loop.clock().wall_ns(), .mark = {}};
  if (options.register_mark) body.mark = options.register_mark();
  Message message;
  message.header = {.type = MessageType::request,
                    .priority = Priority::control,
                    .kind = uint16_t(NetKind::ping),
                    .id = connection.ping_id};
  message.body = encode(body);
  connection.session->send(std::move(message));
}

void Rpc::Impl::ping_answered(Connection& connection, const Message& message) {
  connection.ping_id = 0;
  auto body = decode<PingBody>(message.body);
  Peer* peer = find_peer(connection.info.id);
  if (!body || !peer) return;
  int64_t rtt = std::max<int64_t>(1, now() - connection.ping_sent_ns);
  peer->rtt_ns = peer->rtt_ns ? (*peer->rtt_ns * 7 + rtt) / 8 : rtt;
  if (!peer->wall_offset_ns || rtt <= *peer->rtt_ns * 3 / 2)  // a slow answer says little on clocks
    peer->wall_offset_ns = body->wall_ns - (runtime.loop.clock().wall_ns() - rtt / 2);
  if (options.on_register_mark) options.on_register_mark(connection.info.id, body->mark);
}

void Rpc::Impl::count(std::string_view reason, const Address& from, const Error& error) {
  Refusals& refused = refusals[std::string(reason)];
  ++refused.count;
  ++refused.unlogged;
  if (now() - refused.logged_ns < kLogRefusalEveryNs) return;
  runtime.log.warning("connection with {} refused or ended ({}): {} ({} of this kind since the last line)",
                      from.to_text(), reason, to_text(error), refused.unlogged);
  refused.logged_ns = now();
  refused.unlogged = 0;
}

void Rpc::Impl::recheck_admissions() {
  std::vector<uint64_t> revoked;
  for (auto& [number, connection] : connections) {
    if (!connection->identified_ok) continue;
    PeerInfo& info = connection->info;
    info.admission = admit(info.id, info.key);
    if (info.admission == Admission::revoked) revoked.push_back(number);
  }
  for (uint64_t number : revoked) {
    Connection* connection = find_connection(number);
    if (!connection) continue;
    Error error{Code::unauthorized, "peer " + short_hex(connection->info.id) + " was revoked from the mesh"};
    count("revoked", connection->info.address, error);
    end(*connection, error, true);
  }
}

}  // namespace efs
