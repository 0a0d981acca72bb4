// The control socket: who asks is who the kernel says, and acts with that user's rights.
//
// Serves the kinds of peer/control/protocol.h (docs/access.md: who may send what). The loop's thread only.
#pragma once

#include "peer/commands.h"
#include "peer/net/local.h"
#include "peer/reached.h"

namespace efs {

class ControlServer {
 public:
  // What `core` refers to outlives this.
  explicit ControlServer(Core& core);
  // Makes the socket's directory and the socket, open to every local user. Code::busy when another peer
  // serves there.
  Status listen(const std::string& path);
  ~ControlServer();
  // Closes the socket and all connections; what commands still do ends unheard, so this lives on until they
  // have: as long as what `core` refers to.
  void close();

 private:
  static Commands::Caller caller_of(const UnixPeer& peer);
  void hello(const UnixPeer& peer, Responder respond);
  void resolve(const LocalCaller& peer, ByteView body, Responder respond);
  void volume_request(const LocalCaller& peer, ByteView body, SharedBytes payload, Responder respond);
  void read_register(ByteView body, Responder respond);
  void propose(const UnixPeer& peer, ByteView body, Responder respond);

  Core& core_;
  Commands commands_;
  Reached reached_;
  std::unique_ptr<LocalServer> server_;
  std::string path_;
};

}  // namespace efs
