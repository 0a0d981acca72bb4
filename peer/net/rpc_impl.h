// The inside of Rpc (rpc.h): who is connected, which calls wait or are out, which requests are handled.
// rpc.cc: calls; rpc_sessions.cc: dialling, settling, ending; rpc_upkeep.cc: pings; rpc_serve.cc: requests of
// others.
#pragma once

#include <deque>
#include <unordered_map>

#include "peer/base/hash.h"
#include "peer/net/rpc.h"

namespace efs {

inline constexpr size_t kControlReserve = 256;  // control requests past kWindowRequests
inline constexpr int64_t kLogRefusalEveryNs = 10 * kSecond;

struct Rpc::Impl {
  // A session and what is unanswered on it.
  struct Connection final : Session::Owner {
    Connection(Impl& rpc_, uint64_t number_) : rpc(rpc_), number(number_) {}
    Greeting greeting() override { return rpc.greeting(); }
    Status identified(Session&) override { return rpc.identified(*this); }
    void opened(Session&) override { rpc.opened(*this); }
    void received(Session&, Message message) override { rpc.received(*this, std::move(message)); }
    void progressed(Session&) override { rpc.dispatch_held(*this); }
    void broken(Session&, const Error& error, std::string_view reason) override {
      rpc.broken(*this, error, reason);
    }

    struct Handling {
      std::weak_ptr<Responder::Pending> pending;
      size_t bytes = 0;
    };
    Impl& rpc;
    const uint64_t number;
    uint64_t attempt = 0;  // ours that made it, while it is not open
    bool identified_ok = false;
    bool opened_ok = false;
    PeerInfo info;
    // Requests of ours without an answer (given up ones too: they fill the other side's window).
    std::unordered_map<uint64_t, size_t> asked;
    size_t asked_bytes = 0;
    // Requests of theirs that we have not answered; `held` are those not handed to a handler yet.
    std::unordered_map<uint64_t, Handling> handling;
    size_t handling_bytes = 0;
    std::deque<Message> held;
    // Nothing new is asked here any more (rpc.h: two sessions settle).
    bool retired = false, retire_sent = false, retire_received = false;
    uint64_t ping_id = 0;  // unanswered
    int64_t ping_sent_ns = 0;
    std::unique_ptr<Session> session;
  };

  struct Call {
    PeerId peer{};
    Message message;  // while it waits
    Done done;
    std::multimap<int64_t, CallId>::iterator deadline;
    uint64_t connection = 0;  // 0: it waits
  };

  struct Peer {
    Peer(Loop& loop, const PeerId& id_) : id(id_), redial(loop) {}
    const PeerId id;
    std::vector<Address> route;
    size_t next_address = 0;
    uint64_t attempt = 0;
    unsigned failures = 0;
    Timer redial;
    Connection* current = nullptr;
    std::deque<CallId> waiting;
    size_t waiting_bytes = 0;
    bool keep_alive = false;
    bool up = false;
    std::string last_error, version;
    std::optional<int64_t> rtt_ns, wall_offset_ns;
    uint64_t bytes_sent = 0, bytes_received = 0;  // of connections that ended
  };

  // One connect and handshake.
  struct Attempt {
    std::optional<PeerId> expected;
    Address address;
    Network::Pending pending;
    std::function<void(Result<PeerId>)> done;
  };

  Impl(Runtime& runtime_, const KeyPair& key, const Id& mesh, ByteView mesh_secret, Admit admit_,
       RpcOptions options_);

  // ---- rpc.cc: calls ----
  CallId call(const PeerId& id, uint16_t kind, Bytes body, SharedBytes payload,
              const CallOptions& call_options, Done done);
  void cancel(CallId id);
  Status notify(const PeerId& id, uint16_t kind, Bytes body, SharedBytes payload, Priority priority);
  void start_call(Peer& peer, CallId id, Call& call);
  void send_call(Connection& connection, CallId id, Call& call);
  void flush_waiting(Peer& peer);
  bool has_window(const Connection& connection, const Message& message) const;
  void give_up(CallId id, Error sent, Error unsent, bool later);
  void finish_call(CallId id, Result<Answer> result);
  void finish_call_later(CallId id, Result<Answer> result);
  Done take_call(CallId id);
  void fail_waiting(Peer& peer, const Error& error);
  void arm_deadlines();
  void expire_deadlines();
  void answered(Connection& connection, Message message);
  Error unreachable(const Peer& peer) const;

  // ---- rpc_sessions.cc ----
  Status listen(const Address& address);
  Greeting greeting();
  Peer& peer_of(const PeerId& id);
  Peer* find_peer(const PeerId& id);
  void forget_if_unused(const PeerId& id);
  Connection* find_connection(uint64_t number);
  void accept(std::unique_ptr<Stream> stream);
  Connection& add_connection(std::unique_ptr<Stream> stream, bool initiator);
  uint64_t start_attempt(const Address& address, std::optional<PeerId> expected,
                         std::function<void(Result<PeerId>)> done);
  void finish_attempt(uint64_t number, Result<PeerId> result);
  void ensure_connected(Peer& peer);
  void dial_route(const PeerId& id);
  void route_dialled(const PeerId& id, const Address& address, const Result<PeerId>& result);
  Status identified(Connection& connection);
  void opened(Connection& connection);
  void bound_sessions(const Connection& newest);
  void settle(Peer& peer, Connection& connection);
  void broken(Connection& connection, const Error& error, std::string_view reason);
  void end(Connection& connection, const Error& error, bool tell);
  void bury(Connection& connection, const Error& error, bool tell);
  void retire(Connection& connection);
  void hand_back(Connection& connection);
  void check_retired(Connection& connection);
  void drop(const PeerId& id, const Error& error);

  // ---- rpc_upkeep.cc ----
  void recheck_admissions();
  void arm_tick();
  void tick();
  void tick_one(Connection& connection, int64_t now, bool late);
  void send_ping(Connection& connection, int64_t now);
  void ping_answered(Connection& connection, const Message& message);
  void count(std::string_view reason, const Address& from, const Error& error);

  // ---- rpc_serve.cc ----
  void received(Connection& connection, Message message);
  void received_request(Connection& connection, Message message);
  void received_one_way(Connection& connection, Message message);
  void cancel_request(Connection& connection, uint64_t id);
  void dispatch(Connection& connection, Message message);
  void dispatch_held(Connection& connection);
  void answer(uint64_t connection, const MessageHeader& request, Result<Answer> result);
  void answer_ping(Connection& connection, const Message& message);

  int64_t now() const { return runtime.loop.clock().now_ns(); }
  void post(Task task) {  // dropped when this is gone
    runtime.loop.post([alive = std::weak_ptr<bool>(alive), run = std::move(task)] {
      if (!alive.expired()) run();
    });
  }

  Runtime& runtime;
  const RpcOptions options;
  const PeerId self;
  const LocalIdentity local;
  const Admit admit;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  struct Route {
    Access access;
    Handler handler;
  };
  std::unordered_map<uint16_t, std::shared_ptr<Route>> handlers;
  struct Refusals {
    uint64_t count = 0, unlogged = 0;
    int64_t logged_ns = INT64_MIN / 2;
  };
  std::map<std::string, Refusals, std::less<>> refusals;

  uint64_t next_number = 1;  // of calls, pings, connections and attempts
  std::unordered_map<CallId, Call> calls;
  std::multimap<int64_t, CallId> deadlines;
  Timer deadline_timer;
  int64_t deadline_armed_ns = 0;
  Timer tick_timer;
  int64_t last_tick_ns = 0;
  std::unordered_map<PeerId, std::unique_ptr<Peer>, IdHash> peers;
  std::map<uint64_t, Attempt> attempts;
  std::map<uint64_t, std::unique_ptr<Connection>> connections;  // oldest first
  std::map<uint64_t, std::unique_ptr<Connection>> buried;       // ended, not destroyed yet
  std::vector<std::unique_ptr<Listener>> listeners;
};

}  // namespace efs
