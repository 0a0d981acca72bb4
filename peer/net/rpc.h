// Requests and answers between peers: one object a peer, over one encrypted session to each other peer.
//
// call() finds the session or makes one (every address of the route in turn, exponential backoff with
// jitter), waits in a bounded queue meanwhile, and ends exactly once: with the answer, with the error that
// the other side's handler gave, or with
//   unreachable   it was never sent: no address, or no session before its deadline (the message says why);
//   timed_out     it was sent; no answer came in time: it may have run, or run later;
//   closed        it was sent, then the connection broke: it may have run (exactly-once is a layer above);
//   cancelled     cancel();   overloaded  a bound below.
// What waited unsent when a connection broke goes over the next one.
//
// Two sessions between the same two peers (both dialled at once) settle on the one that the smaller id
// dialled; the other is used up and closed once nothing is unanswered on it, so no call is lost. Sessions
// with calls in flight, and those of keep_alive() peers, are pinged every second and given up after 10 s of
// silence. Unused ones close after 10 minutes.
//
// The loop's thread only. No callback runs inside the call that caused it, except handlers' own answers.
// Destroying it drops everything without running callbacks; not inside one of its callbacks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "peer/identity/keys.h"
#include "peer/net/handshake.h"
#include "peer/net/responder.h"
#include "peer/net/session.h"
#include "peer/net/wire.h"
#include "peer/runtime/runtime.h"

namespace efs {

// What the register says of a peer. With unknown ones (not admitted, or not known here yet) only
// Access::anyone is exchanged; revoked ones are told so and cut off.
enum class Admission { admitted, unknown, revoked };
enum class Access { admitted, anyone };

using CallId = uint64_t;
struct CallOptions {
  int64_t timeout_ns = 10 * kSecond;
  Priority priority = Priority::normal;
};

// What one side of a session knows of the other.
struct PeerInfo {
  PeerId id{};
  PublicKey key{};
  Admission admission = Admission::unknown;
  Address address;  // of the connection; its port is the one that it dialled from, if it dialled
  Greeting greeting;
};
using Caller = PeerInfo;

struct PeerStats {
  PeerId id{};
  bool connected = false;
  size_t sessions = 0;  // open ones, those included that are about to close
  std::optional<int64_t> rtt_ns;
  std::optional<int64_t> wall_offset_ns;  // its wall clock minus ours
  std::optional<Address> address;
  uint64_t bytes_sent = 0, bytes_received = 0;
  size_t calls_waiting = 0, calls_in_flight = 0;
  std::string version;
  std::string last_error;  // why the last attempt to connect failed
};

struct RpcLimits {
  size_t half_open = 64;                  // sessions in their handshake; the oldest gives way
  size_t sessions_per_peer = 4;           // the oldest gives way
  size_t unknown_sessions = 64;           // with peers that are not admitted; the oldest gives way
  size_t waiting_calls = 4096;            // a peer, without a session or a window
  size_t waiting_bytes = 64 << 20;        // a peer
  size_t queued_answer_bytes = 16 << 20;  // a session: above, requests wait to be handled
  size_t queued_one_way_bytes = 8 << 20;  // a session and priority: above, notify() fails
};

struct RpcOptions {
  std::optional<PeerId> id;  // default: of the public key (differs once that was replaced)
  std::string version;       // of the program
  std::vector<std::string> features;
  std::function<std::vector<std::string>()> listening;  // addresses to tell others; may be empty
  std::function<RegisterMark()> register_mark;          // ours, now; may be empty
  std::function<void(const PeerId&, const RegisterMark&)> on_register_mark;  // at start and with pings
  std::function<void(const PeerInfo&)> on_peer_up;
  std::function<void(const PeerId&, const Error&)> on_peer_down;
  int64_t connect_timeout_ns = 5 * kSecond;
  int64_t backoff_min_ns = 100 * kMillisecond;
  int64_t backoff_max_ns = 2 * kSecond;
  int64_t ping_interval_ns = kSecond;
  int64_t dead_after_ns = 10 * kSecond;
  int64_t idle_close_ns = 10 * kMinute;
  SessionOptions session;
  RpcLimits limits;
};

class Rpc {
 public:
  using Admit = std::function<Admission(const PeerId&, const PublicKey&)>;
  using Handler = std::function<void(const Caller&, Bytes body, SharedBytes payload, Responder)>;
  using Done = std::function<void(Result<Answer>)>;

  // `key` and what `runtime` refers to outlive this. `admit` is asked at each handshake, and again for
  // every session by recheck_admissions().
  Rpc(Runtime& runtime, const KeyPair& key, const Id& mesh, ByteView mesh_secret, Admit admit,
      RpcOptions options = {});
  ~Rpc();
  Rpc(const Rpc&) = delete;
  Rpc& operator=(const Rpc&) = delete;

  const PeerId& id() const;
  Status listen(const Address& address);   // several are fine
  std::vector<Address> listening() const;  // with the ports that were given for port 0

  // Where a peer may be reached, best first; replaces what was set. Never dials by itself, except for
  // keep_alive() peers and waiting calls.
  void set_route(const PeerId& peer, std::vector<Address> addresses);
  // Connects to whoever is there; the address becomes the route of a peer that has none.
  // unreachable: nobody listens; unauthorized: another mesh or secret, or it refuses this peer.
  void dial(const Address& address, std::function<void(Result<PeerId>)> done);
  void drop(const PeerId& peer);  // closes; its calls end with Code::closed; its route is forgotten
  // Peers that share a volume: connected at all times, pinged.
  void keep_alive(const PeerId& peer, bool on);
  // The register changed: cuts off who is revoked now.
  void recheck_admissions();

  // `body` at most kMaxBody, `payload` at most kMaxPayload (else too_large).
  CallId call(const PeerId& peer, uint16_t kind, Bytes body, SharedBytes payload, const CallOptions& options,
              Done done);
  void cancel(CallId call);  // `done` gets Code::cancelled; the other side's Responder can see it
  // At most once, no answer, no queue without a session: unreachable, overloaded or too_large.
  Status notify(const PeerId& peer, uint16_t kind, Bytes body, SharedBytes payload = {},
                Priority priority = Priority::control);

  // Replaces an earlier handler of that kind. For one_way messages the responder answers nobody.
  void handle(uint16_t kind, Access access, Handler handler);

  bool connected(const PeerId& peer) const;
  std::optional<PeerInfo> info(const PeerId& peer) const;  // of a connected peer
  std::vector<PeerStats> stats() const;
  std::map<std::string, uint64_t> refusals() const;  // reason -> count: strangers, garbled records, ...

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace efs
