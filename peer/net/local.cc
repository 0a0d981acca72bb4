#include "peer/net/local.h"

#include <algorithm>
#include <unordered_map>

namespace efs {

struct LocalServer::Impl {
  struct Connection {
    std::unique_ptr<Stream> stream;
    LocalCaller peer;
    Bytes partial;
    std::unordered_map<uint64_t, std::weak_ptr<Responder::Pending>> handling;
    bool paused = false;
    bool ended = false;
  };

  Impl(Runtime& runtime_, const LocalLimits& limits_) : runtime(runtime_), limits(limits_) {}
  void accept(std::unique_ptr<Stream> stream);
  void on_data(uint64_t number, ByteView data);
  bool take_message(uint64_t number, Connection& connection, ByteView& rest);
  void dispatch(uint64_t number, Connection& connection, const MessageHeader& header, ByteView rest);
  void answer(uint64_t number, const MessageHeader& request, Result<Answer> result);
  void end(uint64_t number, std::string_view why);

  Runtime& runtime;
  const LocalLimits limits;
  std::unique_ptr<Listener> listener;
  std::unordered_map<uint16_t, std::shared_ptr<Handler>> handlers;
  std::function<void(uint64_t)> ended;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  uint64_t next_number = 1;
  std::map<uint64_t, Connection> connections;
};

LocalServer::LocalServer(Runtime& runtime, const LocalLimits& limits)
    : impl_(std::make_unique<Impl>(runtime, limits)) {}
LocalServer::~LocalServer() {
  impl_->alive.reset();
}

Status LocalServer::listen(const std::string& path) {
  Address address{.host = path, .port = 0, .is_unix = true};
  auto accept = [impl = impl_.get()](std::unique_ptr<Stream> stream) { impl->accept(std::move(stream)); };
  EFS_ASSIGN(impl_->listener, impl_->runtime.network.listen(address, accept));
  return {};
}

void LocalServer::handle(uint16_t kind, Handler handler) {
  impl_->handlers[kind] = std::make_shared<Handler>(std::move(handler));
}

void LocalServer::on_end(std::function<void(uint64_t)> ended) {
  impl_->ended = std::move(ended);
}

size_t LocalServer::connections() const {
  return impl_->connections.size();
}

void LocalServer::Impl::accept(std::unique_ptr<Stream> stream) {
  auto peer = stream->unix_peer();
  if (!peer)
    return runtime.log.warning(
        "a connection to the control socket was refused: the kernel does not say who asks");
  const auto of_user = std::count_if(connections.begin(), connections.end(),
                                     [&](const auto& item) { return item.second.peer.uid == peer->uid; });
  if (connections.size() >= limits.connections ||
      (peer->uid != 0 && size_t(of_user) >= limits.connections_of_a_user)) {
    return runtime.log.warning("a connection of uid {} to the control socket was refused: too many at once",
                               peer->uid);
  }
  uint64_t number = next_number++;
  Connection& connection = connections[number];
  connection.peer = {*peer, number};
  connection.stream = std::move(stream);
  connection.stream->start([this, number](ByteView data) { on_data(number, data); },
                           [this, number](const Error&) { end(number, {}); });
}

void LocalServer::Impl::on_data(uint64_t number, ByteView data) {
  auto found = connections.find(number);
  if (found == connections.end() || found->second.ended) return;
  Connection& connection = found->second;
  append(connection.partial, data);
  ByteView rest(connection.partial);  // handlers do not reach it, and end() leaves it for later
  while (!connection.ended && take_message(number, connection, rest)) {
  }
  connection.partial.erase(connection.partial.begin(), connection.partial.end() - ptrdiff_t(rest.size()));
}

bool LocalServer::Impl::take_message(uint64_t number, Connection& connection, ByteView& rest) {
  if (rest.size() < kMessageHeader) return false;
  auto header = MessageHeader::decode(rest.data());
  if (!header || header->type != MessageType::request) {
    end(number, header ? "only requests are served" : to_text(header.error()));
    return false;
  }
  if (rest.size() < header->total()) return false;
  dispatch(number, connection, *header, rest.subspan(kMessageHeader));
  rest = rest.subspan(header->total());
  return true;
}

void LocalServer::Impl::dispatch(uint64_t number, Connection& connection, const MessageHeader& header,
                                 ByteView rest) {
  if (connection.handling.count(header.id) > 0) return end(number, "a request's id was used twice");
  auto pending = std::make_shared<Responder::Pending>();
  connection.handling[header.id] = pending;
  pending->send = [this, here = std::weak_ptr<bool>(alive), number, header](Result<Answer> result) {
    if (!here.expired()) answer(number, header, std::move(result));
  };
  Responder responder(std::move(pending));
  if (connection.handling.size() > limits.requests_per_connection)
    return responder.fail({Code::overloaded, "too many requests at once on this connection"});
  auto found = handlers.find(header.kind);
  if (found == handlers.end())
    return responder.fail({Code::unsupported, "this efs-peer does not know requests of kind " +
                                                  std::to_string(header.kind) +
                                                  ": is it older than the program that asks?"});
  auto handler = found->second;
  const LocalCaller peer = connection.peer;
  (*handler)(peer, to_bytes(rest.first(header.body_length)),
             to_bytes(rest.subspan(header.body_length, header.payload_length)), std::move(responder));
}

void LocalServer::Impl::answer(uint64_t number, const MessageHeader& request, Result<Answer> result) {
  auto found = connections.find(number);
  if (found == connections.end() || found->second.ended) return;
  Connection& connection = found->second;
  connection.handling.erase(request.id);
  if (result && (result->body.size() > kMaxBody || result->payload.size() > kMaxPayload))
    result = fail(Code::too_large, "the answer is over the limit of a message");
  MessageHeader header{.type = result ? MessageType::answer : MessageType::error,
                       .priority = request.priority,
                       .kind = request.kind,
                       .id = request.id};
  Bytes body = result ? std::move(result->body) : encode_error(result.error());
  header.body_length = uint32_t(body.size());
  header.payload_length = uint32_t(result ? result->payload.size() : 0);
  std::vector<Bytes> pieces;
  header.encode(pieces.emplace_back(kMessageHeader).data());
  if (!body.empty()) pieces.push_back(std::move(body));
  if (result && !result->payload.empty()) pieces.push_back(std::move(result->payload).release());
  connection.stream->write(std::move(pieces), [this, number] {
    auto still = connections.find(number);
    if (still == connections.end() || !still->second.paused) return;
    if (still->second.stream->queued_bytes() > limits.queued_bytes / 2) return;
    still->second.paused = false;
    still->second.stream->pause(false);
  });
  if (!connection.paused && connection.stream->queued_bytes() > limits.queued_bytes) {
    connection.paused = true;
    connection.stream->pause(true);
  }
}

// The stream may be what calls this: it is destroyed later.
void LocalServer::Impl::end(uint64_t number, std::string_view why) {
  auto found = connections.find(number);
  if (found == connections.end() || found->second.ended) return;
  Connection& connection = found->second;
  connection.ended = true;
  if (!why.empty())
    runtime.log.warning("a connection to the control socket (uid {}, pid {}) was closed: {}",
                        connection.peer.uid, connection.peer.pid, why);
  std::vector<std::shared_ptr<Responder::Pending>> given_up;
  for (auto& [id, handling] : connection.handling)
    if (auto pending = handling.lock()) given_up.push_back(std::move(pending));
  connection.handling.clear();
  runtime.loop.post([this, here = std::weak_ptr<bool>(alive), number] {
    if (here.expired()) return;
    connections.erase(number);
    if (ended) ended(number);
  });
  for (auto& pending : given_up) {
    pending->send = nullptr;
    pending->cancel();
  }
}

}  // namespace efs
