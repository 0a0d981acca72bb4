// The Noise handshake XX over X25519, ChaCha20-Poly1305 and BLAKE2b, with or without a pre-shared key
// (the Noise Protocol Framework, revision 34, noiseprotocol.org/noise.html; section numbers are its).
//
// A pure step machine: messages in, messages out; three of them, then split(). efs uses
// Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b; other positions of the key are there for the published vectors.
// One owner, any thread. After any failure the object is dead: every later step fails too.
#pragma once

#include <optional>
#include <string_view>

#include "peer/base/bytes.h"
#include "peer/base/error.h"
#include "peer/base/secret.h"
#include "peer/runtime/clock.h"

namespace efs {

using NoiseKey = ByteArray<32>;   // an X25519 public key
using NoiseHash = ByteArray<64>;  // BLAKE2b-512

// The public half of an X25519 private key (RFC 7748).
NoiseKey noise_public(const Secret& private_key);
Secret noise_generate(Random& random);

class NoiseHandshake {
 public:
  static constexpr int kNoPsk = -1;
  struct Config {
    bool initiator = false;
    ByteView prologue;          // read by the constructor only
    const Secret* static_key;   // X25519, 32 bytes; read until split()
    ByteView psk;               // 32 bytes where psk_position is not kNoPsk; copied into locked memory
    int psk_position = kNoPsk;  // 0: before the first message (psk0); N: after message N
  };
  NoiseHandshake(const Config& config, Random& random);

  // The next message to send, with `payload` inside, or what the one that came carried. Fails with
  // Code::protocol when it is the other side's turn, when a message is too short, and when it does not
  // authenticate (Code::unauthorized).
  Result<Bytes> write(ByteView payload);
  Result<Bytes> read(ByteView message);

  bool done() const { return next_message_ == 3; }
  bool my_turn() const { return !failed_ && !done() && (next_message_ % 2 == 0) == initiator_; }
  // Valid after the message that carries it was read.
  const NoiseKey& remote_static() const { return remote_static_; }
  const NoiseHash& hash() const { return hash_; }  // for channel binding (11.2)

  struct Keys {
    Secret send;
    Secret receive;
  };
  Keys split();  // once, when done()

 private:
  enum class Token { e, s, ee, es, se, psk };
  static std::span<const Token> tokens_of(int message);
  bool apply_psk_before() const { return psk_position_ == 0 && next_message_ == 0; }
  bool apply_psk_after() const { return psk_position_ > 0 && next_message_ == psk_position_ - 1; }

  void mix_hash(ByteView data);
  void mix_key(ByteView input);
  void mix_key_and_hash(ByteView input);
  bool mix_dh(const Secret& mine, const NoiseKey& theirs);
  bool mix_dh_of(Token token);
  void encrypt_and_hash(Bytes& out, ByteView plain);
  Result<Bytes> decrypt_and_hash(ByteView sealed);
  void set_key(ByteView key);
  bool write_token(Token token, Bytes& out);
  Status read_token(Token token, ByteView& rest);
  Result<Bytes> finish(Result<Bytes> result);

  const bool initiator_;
  Random& random_;
  const Secret* static_key_;
  Secret psk_;
  int psk_position_;
  int next_message_ = 0;
  bool failed_ = false;

  Secret chaining_key_;  // 64 bytes
  NoiseHash hash_{};
  Secret key_;  // empty: no key yet
  uint64_t nonce_ = 0;
  Secret ephemeral_;
  NoiseKey remote_ephemeral_{};
  NoiseKey remote_static_{};
};

}  // namespace efs
