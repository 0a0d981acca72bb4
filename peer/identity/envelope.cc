#include "peer/identity/envelope.h"

namespace efs {

namespace {
Bytes in_mesh(const Id& mesh, ByteView body) {
  Bytes out;
  out.reserve(mesh.size() + body.size());
  append(out, mesh);
  append(out, body);
  return out;
}
}  // namespace

Signature sign_in_mesh(std::string_view domain, const Id& mesh, ByteView body, const KeyPair& key) {
  return key.sign(domain, in_mesh(mesh, body));
}

bool verify_in_mesh(const PublicKey& key, std::string_view domain, const Id& mesh, ByteView body,
                    const Signature& signature) {
  return verify(key, domain, in_mesh(mesh, body), signature);
}

Envelope seal(std::string_view domain, const Id& mesh, Bytes body, const KeyPair& key) {
  Envelope envelope;
  envelope.signature = sign_in_mesh(domain, mesh, body, key);
  envelope.signer = key.public_key();
  envelope.body = std::move(body);
  return envelope;
}

bool is_authentic(std::string_view domain, const Id& mesh, const Envelope& envelope) {
  return verify_in_mesh(envelope.signer, domain, mesh, envelope.body, envelope.signature);
}

}  // namespace efs
