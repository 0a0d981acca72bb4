// The genesis: who may change a mesh's roots, and what the mesh is called. Pure: any thread.
//
// Version 1 is made by `efs-peer init` with a root and a recovery key and threshold 1; version N+1 carries
// the signatures of version N's threshold, so either key can replace both. The mesh's id is BLAKE2b-256 of
// version 1's body, and never changes. The root keys lie outside any data directory; no running peer
// needs them.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "peer/base/encoding.h"
#include "peer/identity/keys.h"

namespace efs {

struct Genesis {
  uint32_t format = 1;
  uint64_t version = 1;
  std::string name;
  std::vector<PublicKey> roots;  // 1..kMaxRootKeys, all different
  uint32_t threshold = 1;        // 1..roots
  int64_t created_ns = 0;        // wall time of this version
  Id previous{};                 // BLAKE2b of the body before; zeros in version 1
  static constexpr auto fields() {
    return std::tuple{field("f", &Genesis::format),    field("v", &Genesis::version),
                      field("n", &Genesis::name),      field("r", &Genesis::roots),
                      field("t", &Genesis::threshold), field("c", &Genesis::created_ns),
                      field("p", &Genesis::previous)};
  }
};

struct RootSignature {
  PublicKey key{};
  Signature signature{};
  static constexpr auto fields() {
    return std::tuple{field("k", &RootSignature::key), field("s", &RootSignature::signature)};
  }
};

// As it travels and is stored: the body's bytes, and signatures over them.
struct SignedGenesis {
  Bytes body;
  std::vector<RootSignature> signatures;
  static constexpr auto fields() {
    return std::tuple{field("b", &SignedGenesis::body), field("s", &SignedGenesis::signatures)};
  }
};

// A genesis that was checked, with the hash of its body: the mesh's id, if it is version 1.
struct CheckedGenesis {
  Genesis genesis;
  Id hash{};
};

SignedGenesis sign_genesis(const Genesis& genesis, std::span<const KeyPair* const> signers);

// Version 1, signed by its own threshold. Fails with Code::protocol, version or unauthorized.
Result<CheckedGenesis> check_first_genesis(const SignedGenesis& signed_genesis);
// The version after `current`, signed by current's threshold. Fails as above, and with Code::conflict when
// it does not follow `current`.
Result<CheckedGenesis> check_next_genesis(const CheckedGenesis& current, const SignedGenesis& next);

}  // namespace efs
