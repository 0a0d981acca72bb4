// Requests of others: received() -> a handler, at once or when the answers before have drained -> its
// Responder -> answer(). A peer that asks more than its window, or repeats an id, is cut off.
#include <algorithm>

#include "peer/net/rpc_impl.h"

namespace efs {

void Rpc::Impl::received(Connection& connection, Message message) {
  switch (message.header.type) {
    case MessageType::request:
      return received_request(connection, std::move(message));
    case MessageType::answer:
    case MessageType::error:
      return answered(connection, std::move(message));
    case MessageType::one_way:
      return received_one_way(connection, std::move(message));
  }
}

void Rpc::Impl::received_request(Connection& connection, Message message) {
  if (message.header.kind == uint16_t(NetKind::ping)) return answer_ping(connection, message);
  size_t bytes = message.header.total();
  if (connection.handling.size() >= 2 * kWindowRequests ||
      connection.handling_bytes + bytes > 2 * kWindowBytes)
    return broken(connection, {Code::overloaded, "more requests than the window allows"}, "window");
  auto [handling, fresh] = connection.handling.try_emplace(message.header.id);
  if (!fresh) return broken(connection, {Code::protocol, "a request's id was used twice"}, "broken rules");
  handling->second.bytes = bytes;
  connection.handling_bytes += bytes;
  bool wait =
      !connection.held.empty() || connection.session->queued_bytes() > options.limits.queued_answer_bytes;
  if (wait && message.header.priority != Priority::control) {
    connection.held.push_back(std::move(message));
  } else {
    dispatch(connection, std::move(message));
  }
}

void Rpc::Impl::dispatch_held(Connection& connection) {
  const uint64_t number = connection.number;
  while (Connection* still = find_connection(number)) {
    if (still->held.empty() || still->session->queued_bytes() > options.limits.queued_answer_bytes / 2)
      return;
    Message message = std::move(still->held.front());
    still->held.pop_front();
    dispatch(*still, std::move(message));
  }
}

void Rpc::Impl::dispatch(Connection& connection, Message message) {
  const MessageHeader header = message.header;
  auto pending = std::make_shared<Responder::Pending>();
  if (header.type == MessageType::request) {
    connection.handling[header.id].pending = pending;
    pending->send = [this, here = std::weak_ptr<bool>(alive), number = connection.number,
                     header](Result<Answer> result) {
      if (!here.expired()) answer(number, header, std::move(result));
    };
  }
  Responder responder(std::move(pending));
  auto found = handlers.find(header.kind);
  if (found == handlers.end())
    return responder.fail(
        {Code::unsupported, "this peer does not serve requests of kind " + std::to_string(header.kind)});
  auto route = found->second;  // a handler may replace itself
  if (route->access == Access::admitted && connection.info.admission != Admission::admitted)
    return responder.fail({Code::unauthorized, "only peers that were admitted to the mesh may ask this"});
  const Caller caller = connection.info;  // outlives the connection, should the handler drop it
  route->handler(caller, std::move(message.body), std::move(message.payload), std::move(responder));
}

void Rpc::Impl::answer(uint64_t number, const MessageHeader& request, Result<Answer> result) {
  Connection* connection = find_connection(number);
  if (!connection) return;
  auto handling = connection->handling.find(request.id);
  if (handling == connection->handling.end()) return;
  connection->handling_bytes -= handling->second.bytes;
  connection->handling.erase(handling);
  if (result && (result->body.size() > kMaxBody || result->payload.size() > kMaxPayload))
    result = fail(Code::too_large, "the answer is over the limit of a message");
  Message message;
  message.header = {.type = result ? MessageType::answer : MessageType::error,
                    .priority = request.priority,
                    .kind = request.kind,
                    .id = request.id};
  message.body = result ? std::move(result->body) : encode_error(result.error());
  if (result) message.payload = std::move(result->payload);
  connection->session->send(std::move(message));
  check_retired(*connection);
}

void Rpc::Impl::answer_ping(Connection& connection, const Message& message) {
  auto asked = decode<PingBody>(message.body);
  PingBody body{.wall_ns = runtime.loop.clock().wall_ns(), .mark = {}};
  if (options.register_mark) body.mark = options.register_mark();
  Message reply;
  reply.header = {.type = MessageType::answer,
                  .priority = Priority::control,
                  .kind = message.header.kind,
                  .id = message.header.id};
  reply.body = encode(body);
  connection.session->send(std::move(reply));
  if (asked && options.on_register_mark) options.on_register_mark(connection.info.id, asked->mark);
}

void Rpc::Impl::received_one_way(Connection& connection, Message message) {
  switch (NetKind(message.header.kind)) {
    case NetKind::cancel:
      return cancel_request(connection, message.header.id);
    case NetKind::retire:
      connection.retire_received = true;
      if (connection.retired) return check_retired(connection);
      retire(connection);
      if (Peer* peer = find_peer(connection.info.id); peer && !peer->waiting.empty()) {
        flush_waiting(*peer);
        ensure_connected(*peer);
      }
      return;
    default:
      if (message.header.kind >= kIdentityKinds) dispatch(connection, std::move(message));
  }
}

void Rpc::Impl::cancel_request(Connection& connection, uint64_t id) {
  auto held = std::find_if(connection.held.begin(), connection.held.end(),
                           [&](const Message& message) { return message.header.id == id; });
  if (held != connection.held.end()) {
    MessageHeader header = held->header;
    connection.held.erase(held);
    return answer(connection.number, header, fail(Code::cancelled));
  }
  auto handling = connection.handling.find(id);
  if (handling == connection.handling.end()) return;  // the answer is on its way
  if (auto pending = handling->second.pending.lock()) pending->cancel();
}

}  // namespace efs
