// The control socket: who asks is who the kernel says, and acts with that user's rights.
//
// Serves the kinds of peer/control/protocol.h. A caller's supplementary groups are read from /proc while it
// waits for its answer. The loop's thread only.
#pragma once

#include "peer/commands.h"
#include "peer/net/local.h"

namespace efs {

class ControlServer {
 public:
  // What `core` refers to outlives this.
  explicit ControlServer(Core& core);
  // Makes the socket's directory and the socket, open to every local user. Code::busy when another peer
  // serves there.
  Status listen(const std::string& path);
  ~ControlServer();

 private:
  Commands::Caller caller_of(const UnixPeer& peer) const;
  void hello(const UnixPeer& peer, Responder respond);
  void resolve(const UnixPeer& peer, ByteView body, Responder respond);
  void volume_request(const UnixPeer& peer, ByteView body, Bytes payload, Responder respond);
  void read_register(ByteView body, Responder respond);
  void propose(const UnixPeer& peer, ByteView body, Responder respond);

  Core& core_;
  Commands commands_;
  LocalServer server_;
  std::string path_;
};

}  // namespace efs
