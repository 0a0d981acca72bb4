#include "peer/net/handshake.h"

#include "peer/base/hash.h"

namespace efs {
namespace {

constexpr std::string_view kPrologue = "efs/1";
constexpr std::string_view kDomain = "efs handshake 1";
constexpr size_t kMaxFeatures = 64;
constexpr size_t kMaxAddresses = 16;
constexpr size_t kMaxText = 256;

struct IdentityPayload {
  PeerId id{};
  PublicKey key{};
  Signature signature{};
  std::string version;
  std::vector<std::string> features;
  RegisterMark mark;
  std::vector<std::string> addresses;
  static constexpr auto fields() {
    return std::tuple{field("id", &IdentityPayload::id),
                      field("key", &IdentityPayload::key),
                      field("signature", &IdentityPayload::signature),
                      field("version", &IdentityPayload::version),
                      field("features", &IdentityPayload::features),
                      field("register", &IdentityPayload::mark),
                      field("addresses", &IdentityPayload::addresses)};
  }
};

Bytes prologue_of(const Id& mesh) {
  Bytes out = to_bytes(view(kPrologue));
  append(out, mesh);
  return out;
}

// What an identity key signs: this static key is mine, in this mesh, in this role, under this id.
Bytes claim(const NoiseKey& static_key, const Id& mesh, const PeerId& id, bool initiator) {
  Bytes out = to_bytes(static_key);
  append(out, mesh);
  append(out, id);
  append(out, view(initiator ? "initiator" : "responder"));
  return out;
}

bool too_long(const std::vector<std::string>& list, size_t most) {
  if (list.size() > most) return true;
  for (const auto& item : list)
    if (item.size() > kMaxText) return true;
  return false;
}

}  // namespace

LocalIdentity::LocalIdentity(const KeyPair& key, const PeerId& id, const Id& mesh, ByteView mesh_secret,
                             Random& random)
    : id_(id), key_(key.public_key()), mesh_(mesh), static_key_(noise_generate(random)) {
  // Noise wants 32 bytes; the secret may have any length, and may serve elsewhere.
  Bytes keyed = to_bytes(view("efs mesh secret 1"));
  append(keyed, mesh_secret);
  Id derived = blake2b(keyed);
  psk_ = Secret::copy_of(derived);
  wipe(keyed);
  wipe(derived);
  NoiseKey public_half = noise_public(static_key_);
  for (bool initiator : {false, true})
    signatures_[initiator] = key.sign(kDomain, claim(public_half, mesh, id, initiator));
}

Handshake::Handshake(const LocalIdentity& local, bool initiator, Random& random)
    : local_(local),
      initiator_(initiator),
      noise_({.initiator = initiator,
              .prologue = prologue_of(local.mesh_),
              .static_key = &local.static_key_,
              .psk = local.psk_.reveal(),
              .psk_position = 0},
             random) {}

Result<Bytes> Handshake::write(const Greeting& greeting) {
  if (initiator_ && messages_ == 0) return noise_.write({});
  IdentityPayload payload{.id = local_.id_,
                          .key = local_.key_,
                          .signature = local_.signatures_[initiator_],
                          .version = greeting.version,
                          .features = greeting.features,
                          .mark = greeting.mark,
                          .addresses = greeting.addresses};
  if (payload.features.size() > kMaxFeatures) payload.features.resize(kMaxFeatures);
  if (payload.addresses.size() > kMaxAddresses) payload.addresses.resize(kMaxAddresses);
  return noise_.write(encode(payload));
}

Status Handshake::read(ByteView message) {
  EFS_ASSIGN(auto payload, noise_.read(message));
  bool first = messages_++ == 0;
  if (!initiator_ && first) {
    if (!payload.empty()) return fail(Code::protocol, "the first handshake message says more than it may");
    return {};
  }
  return check_identity(payload);
}

Status Handshake::check_identity(ByteView payload) {
  EFS_ASSIGN(auto said,
             decode<IdentityPayload>(payload, {.bytes = kMaxHandshakeMessage, .elements = 64, .depth = 4}));
  if (too_long(said.features, kMaxFeatures) || too_long(said.addresses, kMaxAddresses) ||
      said.version.size() > kMaxText)
    return fail(Code::too_large, "a list in the handshake is over its limit");
  Bytes claimed = claim(noise_.remote_static(), local_.mesh_, said.id, !initiator_);
  if (!verify(said.key, kDomain, claimed, said.signature))
    return fail(Code::unauthorized, "the identity key's signature does not fit this session");
  remote_ = {said.id,
             said.key,
             {std::move(said.version), std::move(said.features), said.mark, std::move(said.addresses)}};
  return {};
}

}  // namespace efs
