// The control socket: programs of this machine ask their peer, in messages of wire.h over a Unix socket,
// without Noise. The kernel says who asks (SO_PEERCRED).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "peer/net/responder.h"
#include "peer/net/wire.h"
#include "peer/runtime/runtime.h"

namespace efs {

struct LocalLimits {
  size_t connections = 256;             // more are closed at once
  size_t connections_of_a_user = 64;    // root's are not counted: who fills the rest keeps nobody else out
  size_t requests_per_connection = 64;  // more are answered Code::overloaded
  size_t queued_bytes = 16 << 20;       // of answers, a connection: above, reading pauses
};

// Who asks, and over which connection: its number is never used again.
struct LocalCaller : UnixPeer {
  uint64_t connection = 0;
};

// The loop's thread only. Destroying it closes everything; responders that are left then answer nobody.
class LocalServer {
 public:
  using Handler = std::function<void(const LocalCaller&, Bytes body, SharedBytes payload, Responder)>;
  explicit LocalServer(Runtime& runtime, const LocalLimits& limits = {});
  ~LocalServer();
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  Status listen(const std::string& path);
  void handle(uint16_t kind, Handler handler);                  // for anybody: the handler looks at who asks
  void on_end(std::function<void(uint64_t connection)> ended);  // not for those that it closes by dying
  size_t connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// For programs without a loop: blocks; one thread at a time. A failed call other than an error that the
// peer gave ends the connection.
class LocalClient {
 public:
  // Code::unreachable when nobody serves there, with what to do; not_permitted when this user may not.
  static Result<LocalClient> connect(const std::string& path);
  LocalClient(LocalClient&& other) noexcept;
  LocalClient& operator=(LocalClient&& other) noexcept;
  ~LocalClient();

  // `timeout_ns` of silence, 0: for ever. Code::timed_out, closed (the peer ended), protocol, or what the
  // peer answered.
  Result<Answer> call(uint16_t kind, ByteView body, ByteView payload = {}, int64_t timeout_ns = 0);

 private:
  LocalClient(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  Status set_timeout(int64_t timeout_ns);
  Status send_all(ByteView bytes);
  Status receive_all(std::span<uint8_t> out);
  Error lost(std::string_view what) const;
  void close();
  int descriptor_ = -1;
  std::string path_;
  uint64_t next_id_ = 1;
};

}  // namespace efs
