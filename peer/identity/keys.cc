#include "peer/identity/keys.h"

#include <sodium.h>

#include <cassert>

#include "peer/base/hash.h"

namespace efs {

namespace {
// What is signed: the domain, a zero byte (no domain has one), the message.
Bytes in_domain(std::string_view domain, ByteView message) {
  assert(domain.find('\0') == std::string_view::npos);
  Bytes out;
  out.reserve(domain.size() + 1 + message.size());
  append(out, view(domain));
  out.push_back(0);
  append(out, message);
  return out;
}
}  // namespace

KeyPair KeyPair::generate(Random& random) {
  Secret seed(crypto_sign_SEEDBYTES);
  random.fill(seed.writable());
  return from_seed(std::move(seed));
}

KeyPair KeyPair::from_seed(Secret seed) {
  assert(seed.size() == crypto_sign_SEEDBYTES);
  KeyPair pair;
  pair.seed_ = std::move(seed);
  pair.expanded_ = Secret(crypto_sign_SECRETKEYBYTES);
  crypto_sign_seed_keypair(pair.public_.data(), pair.expanded_.writable().data(), pair.seed_.reveal().data());
  return pair;
}

Signature KeyPair::sign(std::string_view domain, ByteView message) const {
  const Bytes bytes = in_domain(domain, message);
  Signature signature;
  crypto_sign_detached(signature.data(), nullptr, bytes.data(), bytes.size(), expanded_.reveal().data());
  return signature;
}

bool verify(const PublicKey& key, std::string_view domain, ByteView message, const Signature& signature) {
  const Bytes bytes = in_domain(domain, message);
  return crypto_sign_verify_detached(signature.data(), bytes.data(), bytes.size(), key.data()) == 0;
}

PeerId peer_id_of(const PublicKey& first_key) {
  return blake2b(first_key);
}

}  // namespace efs
