// Ed25519 keys (RFC 8032, by libsodium): peers, users, administrators, roots and invites all have one.
// A key pair has one owner; signing and verifying are pure: any thread.
#pragma once

#include <string>

#include "peer/base/bytes.h"
#include "peer/base/error.h"
#include "peer/base/secret.h"
#include "peer/runtime/clock.h"

namespace efs {

using PublicKey = Id;
using Signature = ByteArray<64>;
// BLAKE2b-256 of a peer's first public key: its name on the wire and its place in the DHT, for life.
using PeerId = Id;

class KeyPair {
 public:
  static KeyPair generate(Random& random);
  static KeyPair from_seed(Secret seed);  // 32 bytes
  KeyPair(KeyPair&&) noexcept = default;
  KeyPair& operator=(KeyPair&&) noexcept = default;

  const PublicKey& public_key() const { return public_; }
  // `domain` separates uses ("efs register entry 1"), so that no signature can serve as another.
  Signature sign(std::string_view domain, ByteView message) const;
  const Secret& seed() const { return seed_; }

 private:
  KeyPair() = default;
  Secret seed_;
  Secret expanded_;
  PublicKey public_{};
};

bool verify(const PublicKey& key, std::string_view domain, ByteView message, const Signature& signature);
PeerId peer_id_of(const PublicKey& first_key);

}  // namespace efs
