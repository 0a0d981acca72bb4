// Who is at the other end: Noise XXpsk0 with the mesh's secret, and in its encrypted payloads each side's
// identity, signed. Pure: bytes in, bytes out. The loop's thread of its session.
//
//   initiator -> (48 bytes, keyed by the mesh secret: a stranger's does not authenticate, and nothing
//                 comes back to it)
//   responder -> identity
//   initiator -> identity                                     both then know whom they talk to
//
// It fails with Code::unauthorized (another mesh or secret, a wrong signature) or Code::protocol.
#pragma once

#include <string>
#include <vector>

#include "peer/identity/keys.h"
#include "peer/net/noise.h"
#include "peer/net/wire.h"

namespace efs {

// What a peer says of itself, after its identity is proved. Lists are bounded: 64 features, 16 addresses.
struct Greeting {
  std::string version;                // of the program
  std::vector<std::string> features;  // behaviour switches on these, never on the version
  RegisterMark mark;
  std::vector<std::string> addresses;  // where it listens: a hint
};

struct RemoteIdentity {
  PeerId id{};
  PublicKey key{};
  Greeting greeting;
};

// A peer's own half, made once: its static X25519 key lives as long as the process, and so do the two
// signatures over it (one a role, so that none can be reflected).
class LocalIdentity {
 public:
  LocalIdentity(const KeyPair& key, const PeerId& id, const Id& mesh, ByteView mesh_secret, Random& random);
  const PeerId& id() const { return id_; }

 private:
  friend class Handshake;
  PeerId id_;
  PublicKey key_;
  Id mesh_;
  Secret psk_;
  Secret static_key_;
  Signature signatures_[2];  // as responder, as initiator
};

class Handshake {
 public:
  // `local` outlives the handshake.
  Handshake(const LocalIdentity& local, bool initiator, Random& random);

  bool initiator() const { return initiator_; }
  bool my_turn() const { return noise_.my_turn(); }
  bool done() const { return noise_.done(); }
  bool stranger() const { return messages_ == 0; }  // nothing that came proved the mesh secret
  // The next message, when it is this side's turn; `greeting` is what is said in it (the initiator's
  // first message says nothing).
  Result<Bytes> write(const Greeting& greeting);
  Status read(ByteView message);
  // Valid for an initiator once the second message was read, for a responder once done().
  const RemoteIdentity& remote() const { return remote_; }
  NoiseHandshake::Keys split() { return noise_.split(); }

 private:
  Status check_identity(ByteView payload);
  const LocalIdentity& local_;
  const bool initiator_;
  NoiseHandshake noise_;
  int messages_ = 0;  // read
  RemoteIdentity remote_;
};

}  // namespace efs
