// Connecting: knock, again and again with growing pauses while nothing answers (as SYNs are repeated) ->
// the other kernel refuses, or makes the connection: on_accept there, a latency later `done` here. Whoever
// drops the token is out: events that come later find nobody, and close what they bring.
#include "peer/runtime/simulated_network.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "peer/runtime/simulated_host.h"

namespace efs {

namespace {

constexpr int64_t kLocalLatencyLeast = 5 * kMicrosecond;
constexpr int64_t kLocalLatencyMost = 30 * kMicrosecond;
constexpr int64_t kFirstKnock = kSecond;  // RFC 6298: the first retransmission, then twice as long each

class SimulatedStream final : public Stream {
 public:
  SimulatedStream(std::shared_ptr<SimulatedConnection> connection, int side)
      : connection_(std::move(connection)), side_(side) {}
  ~SimulatedStream() override { connection_->close(side_); }

  void start(std::function<void(ByteView)> on_data, std::function<void(Error)> on_close) override {
    connection_->start(side_, std::move(on_data), std::move(on_close));
  }
  void write(std::vector<Bytes> pieces, std::function<void()> on_sent) override {
    connection_->write(side_, std::move(pieces), std::move(on_sent));
  }
  size_t queued_bytes() const override { return connection_->queued_bytes(side_); }
  void pause(bool paused) override { connection_->pause(side_, paused); }
  Address remote() const override { return connection_->address(1 - side_); }
  Address local() const override { return connection_->address(side_); }
  // One user, root, on all simulated machines.
  std::optional<UnixPeer> unix_peer() const override {
    if (!connection_->address(1).is_unix) return std::nullopt;
    return UnixPeer{.uid = 0, .gid = 0, .pid = 1, .groups = {}};
  }

 private:
  const std::shared_ptr<SimulatedConnection> connection_;
  const int side_;
};

// A task is copyable and a stream is not; a task that is dropped drops (and so closes) the stream.
using StreamBox = std::shared_ptr<std::unique_ptr<Stream>>;
StreamBox box(const std::shared_ptr<SimulatedConnection>& connection, int side) {
  return std::make_shared<std::unique_ptr<Stream>>(std::make_unique<SimulatedStream>(connection, side));
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}
bool is_any(const std::string& host) {
  return host == "::" || host == "0.0.0.0";
}
bool is_name(const std::string& host) {
  return host.find(':') == std::string::npos &&
         std::any_of(host.begin(), host.end(), [](char c) { return c != '.' && (c < '0' || c > '9'); });
}
std::string key_of(const Address& address) {
  return address.is_unix ? "unix:" + address.host : std::to_string(address.port);
}

class SimulatedListener final : public Listener {
 public:
  SimulatedListener(SimulatedNetwork& network, std::shared_ptr<SimulatedNetwork::Listening> listening)
      : network_(network), listening_(std::move(listening)) {}
  ~SimulatedListener() override {
    listening_->open = false;
    network_.listening.erase(key_of(listening_->address));
  }
  Address address() const override { return listening_->address; }

 private:
  SimulatedNetwork& network_;
  const std::shared_ptr<SimulatedNetwork::Listening> listening_;
};

class Attempt : public std::enable_shared_from_this<Attempt> {
 public:
  using Done = std::function<void(Result<std::unique_ptr<Stream>>)>;
  Attempt(SimulatedCore& core, SimulatedWire& wire, Machine& machine, const Address& address, Done done)
      : core_(core), wire_(wire), machine_(machine), address_(address), done_(std::move(done)) {}
  ~Attempt() { core_.cancel(gives_up_); }

  void start(int64_t timeout_ns);

 private:
  // Runs `action` unless nobody waits any more; `where`: for whom the event is (nullptr: the network).
  void later(int64_t delay_ns, Machine* where, void (Attempt::*action)()) {
    core_.in(delay_ns, where, [weak = weak_from_this(), action] {
      auto self = weak.lock();
      if (self && self->done_) (self.get()->*action)();
    });
  }
  Machine* server() const {
    return address_.is_unix || is_loopback(address_.host) ? &machine_ : core_.find(address_.host);
  }
  int64_t latency() const {
    return server() ? wire_.latency(machine_, *server()) : core_.faults.latency_min_ns;
  }

  void knock();
  void arrive();
  void accepted(SimulatedNetwork::Listening& listening, std::shared_ptr<SimulatedNetwork::Listening> owner);
  void refused() { give_up(address_.is_unix ? Code::not_found : Code::unreachable, "connection refused"); }
  void no_name() { give_up(Code::unreachable, "the name does not resolve"); }
  void timed_out() { give_up(Code::timed_out, "connection timed out"); }
  void give_up(Code code, std::string_view why) {
    finish(fail(code, fmt::format("connect to {}: {}", address_.to_text(), why)));
  }
  void finish(Result<std::unique_ptr<Stream>> result) {
    core_.cancel(std::exchange(gives_up_, 0));
    if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
  }

  SimulatedCore& core_;
  SimulatedWire& wire_;
  Machine& machine_;
  const Address address_;
  Done done_;
  SimulatedCore::EventId gives_up_ = 0;
  int64_t pause_ns_ = kFirstKnock;
};

void Attempt::start(int64_t timeout_ns) {
  gives_up_ = core_.in(std::max(machine_.clock.virtual_delay(timeout_ns), kMicrosecond), &machine_,
                       [weak = weak_from_this()] {
                         if (auto self = weak.lock()) self->timed_out();
                       });
  if (!address_.is_unix && core_.random.chance(core_.faults.connect_failure)) {
    if (core_.random.chance(0.5)) later(latency(), &machine_, &Attempt::refused);
    return;
  }
  if (!server() && is_name(address_.host)) return later(latency(), &machine_, &Attempt::no_name);
  later(kMicrosecond, nullptr, &Attempt::knock);
}

void Attempt::knock() {
  Machine* other = server();
  if (other && wire_.reachable(machine_, *other)) return later(latency(), nullptr, &Attempt::arrive);
  later(std::exchange(pause_ns_, pause_ns_ * 2), nullptr, &Attempt::knock);
}

void Attempt::arrive() {
  Machine* other = server();
  if (!other || !wire_.reachable(machine_, *other)) return knock();
  if (!other->host) return later(latency(), &machine_, &Attempt::refused);
  auto& all = other->host->network.listening;
  auto found = all.find(key_of(address_));
  bool there = found != all.end() && (other == &machine_ || !is_loopback(found->second->address.host));
  if (!there) return later(latency(), &machine_, &Attempt::refused);
  auto listening = found->second;
  accepted(*listening, listening);
}

void Attempt::accepted(SimulatedNetwork::Listening& listening,
                       std::shared_ptr<SimulatedNetwork::Listening> owner) {
  Machine* other = server();
  Address from{.host = address_.is_unix ? "" : machine_.address, .port = 0, .is_unix = address_.is_unix};
  if (!from.is_unix) {
    if (++machine_.last_port < 32768) machine_.last_port = 32768;
    from.port = machine_.last_port;
  }
  Address to = is_any(listening.address.host) ? Address{.host = other->address, .port = address_.port}
                                              : listening.address;
  auto connection = wire_.connect({&machine_, from}, {other, to});
  int64_t answer = latency();
  connection->hold_first_bytes(1, core_.now_ns + answer);
  core_.soon(other, [owner = std::move(owner), stream = box(connection, 1)] {
    if (owner->open) owner->on_accept(std::move(*stream));
  });
  core_.in(answer, &machine_, [weak = weak_from_this(), stream = box(connection, 0)] {
    if (auto self = weak.lock()) self->finish(std::move(*stream));
  });
}

}  // namespace

Result<std::unique_ptr<Listener>> SimulatedNetwork::listen(
    const Address& address, std::function<void(std::unique_ptr<Stream>)> on_accept) {
  if (!address.is_unix && !is_any(address.host) && !is_loopback(address.host) &&
      address.host != machine_.address) {
    return fail(Code::io, fmt::format("listen on {}: this host has no such address", address.to_text()));
  }
  auto fresh = std::make_shared<Listening>(Listening{address, std::move(on_accept)});
  if (!address.is_unix && address.port == 0) {
    fresh->address.port = 20000;
    while (listening.count(key_of(fresh->address))) ++fresh->address.port;
  }
  if (!listening.emplace(key_of(fresh->address), fresh).second) {
    return fail(Code::busy, fmt::format("{} is in use by another program", address.to_text()));
  }
  return std::make_unique<SimulatedListener>(*this, std::move(fresh));
}

Network::Pending SimulatedNetwork::connect(const Address& address, int64_t timeout_ns,
                                           std::function<void(Result<std::unique_ptr<Stream>>)> done) {
  auto attempt = std::make_shared<Attempt>(core_, wire_, machine_, address, std::move(done));
  attempt->start(timeout_ns);
  return attempt;
}

std::shared_ptr<SimulatedConnection> SimulatedWire::connect(SimulatedConnection::Endpoint client,
                                                            SimulatedConnection::Endpoint server) {
  uint64_t id = ++last_id_;
  auto connection =
      std::make_shared<SimulatedConnection>(core_, *this, id, std::move(client), std::move(server));
  connections_.emplace(id, connection);
  return connection;
}

bool SimulatedWire::reachable(const Machine& a, const Machine& b) const {
  return a.powered && b.powered && (&a == &b || a.group == b.group);
}

int64_t SimulatedWire::latency(const Machine& a, const Machine& b) {
  if (&a == &b) return core_.random.between(kLocalLatencyLeast, kLocalLatencyMost);
  return core_.random.between(core_.faults.latency_min_ns, core_.faults.latency_max_ns);
}

void SimulatedWire::follow_reachability() {
  for (auto& [id, connection] : connections_) connection->follow_reachability();
}

void SimulatedWire::vanish(const Machine& machine) {
  for (auto& [id, connection] : connections_) {
    if (connection->uses(machine)) connection->vanish(machine);
  }
}

}  // namespace efs
