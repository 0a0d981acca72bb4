// Ordered byte streams between hosts (real: TCP and Unix sockets on libuv; simulated: a network with
// latency, loss, partitions). Everything here is on the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "peer/base/bytes.h"
#include "peer/base/error.h"

namespace efs {

// "10.0.0.5:7400", "[::1]:7400", "name:7400" or "unix:/run/efs/peer.sock".
struct Address {
  std::string host;   // without brackets; a path for Unix sockets
  uint16_t port = 0;  // 0 for Unix sockets
  bool is_unix = false;
  std::string to_text() const;
  // Port: what `default_port` says when the text has none. Fails with what is wrong, for people.
  static Result<Address> parse(std::string_view text, uint16_t default_port = 0);
  auto operator<=>(const Address&) const = default;
};

// Who is at the other end of a Unix socket, as the kernel says of the time when it connected (SO_PEERCRED,
// SO_PEERGROUPS): a process number may mean another process by now.
struct UnixPeer {
  uint32_t uid = 0, gid = 0;
  int32_t pid = 0;
  std::vector<uint32_t> groups;  // supplementary ones
};

class Stream {
 public:
  virtual ~Stream() = default;  // closes, drops what is queued; no callback runs afterwards

  // on_data gets what arrived, to be copied or consumed at once; on_close runs once, after the last data,
  // with the reason (Code::closed for an orderly end). Called once, before anything else.
  virtual void start(std::function<void(ByteView)> on_data, std::function<void(Error)> on_close) = 0;

  // Queues the pieces to be sent in order, without copying them. The caller bounds queued_bytes().
  // on_sent (may be empty) runs when they have been handed to the kernel. Dropped silently after the end.
  virtual void write(std::vector<Bytes> pieces, std::function<void()> on_sent) = 0;
  virtual size_t queued_bytes() const = 0;

  // Stops and resumes reading: back-pressure. While paused, on_close may wait for the next reading.
  virtual void pause(bool paused) = 0;

  virtual Address remote() const = 0;
  virtual Address local() const = 0;
  virtual std::optional<UnixPeer> unix_peer() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;        // stops listening
  virtual Address address() const = 0;  // with the port that was given for port 0
};

class Network {
 public:
  virtual ~Network() = default;
  // Fails with Code::busy ("port in use") or what else the kernel says, for people.
  virtual Result<std::unique_ptr<Listener>> listen(
      const Address& address, std::function<void(std::unique_ptr<Stream>)> on_accept) = 0;
  // Resolves names, tries every address; `done` runs exactly once, never inside this call. The returned
  // token cancels when destroyed: then `done` does not run.
  using Pending = std::shared_ptr<void>;
  [[nodiscard]] virtual Pending connect(const Address& address, int64_t timeout_ns,
                                        std::function<void(Result<std::unique_ptr<Stream>>)> done) = 0;
};

}  // namespace efs
