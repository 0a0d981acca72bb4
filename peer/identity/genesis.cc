#include "peer/identity/genesis.h"

#include <fmt/format.h>

#include <algorithm>

#include "peer/base/hash.h"
#include "peer/identity/limits.h"
#include "peer/identity/prefix.h"

namespace efs {

namespace {
constexpr std::string_view kGenesisDomain = "efs genesis 1";

Status check_shape(const Genesis& genesis) {
  if (genesis.format != 1)
    return fail(Code::version, fmt::format("the genesis has format {}, which this program does not know; "
                                           "install a newer efs",
                                           genesis.format));
  EFS_TRY(check_peer_name(genesis.name, "mesh"));
  if (genesis.roots.empty() || genesis.roots.size() > kMaxRootKeys)
    return fail(Code::protocol, "the genesis has no root keys, or too many");
  auto sorted = genesis.roots;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    return fail(Code::protocol, "the genesis names a root key twice");
  if (genesis.threshold == 0 || genesis.threshold > genesis.roots.size())
    return fail(Code::protocol, "the genesis asks for more signatures than it has root keys, or for none");
  return {};
}

// How many different keys of `roots` signed.
size_t count_signers(const SignedGenesis& signed_genesis, const std::vector<PublicKey>& roots) {
  if (signed_genesis.signatures.size() > kMaxRootKeys) return 0;
  std::vector<PublicKey> seen;
  for (const RootSignature& one : signed_genesis.signatures) {
    const bool is_root = std::find(roots.begin(), roots.end(), one.key) != roots.end();
    const bool is_new = std::find(seen.begin(), seen.end(), one.key) == seen.end();
    if (is_root && is_new && verify(one.key, kGenesisDomain, signed_genesis.body, one.signature))
      seen.push_back(one.key);
  }
  return seen.size();
}

Status check_signatures(const SignedGenesis& signed_genesis, const Genesis& authority) {
  const size_t signers = count_signers(signed_genesis, authority.roots);
  if (signers >= authority.threshold) return {};
  return fail(Code::unauthorized,
              fmt::format("the genesis carries {} good signatures of root keys, and needs {}", signers,
                          authority.threshold));
}

Result<CheckedGenesis> read(const SignedGenesis& signed_genesis) {
  EFS_ASSIGN(auto genesis, decode<Genesis>(signed_genesis.body,
                                           {.bytes = kMaxGenesisBytes, .elements = 64, .depth = kMaxDepth}));
  EFS_TRY(check_shape(genesis));
  return CheckedGenesis{std::move(genesis), blake2b(signed_genesis.body)};
}
}  // namespace

SignedGenesis sign_genesis(const Genesis& genesis, std::span<const KeyPair* const> signers) {
  SignedGenesis out;
  out.body = encode(genesis);
  for (const KeyPair* key : signers)
    out.signatures.push_back({key->public_key(), key->sign(kGenesisDomain, out.body)});
  return out;
}

Result<CheckedGenesis> check_first_genesis(const SignedGenesis& signed_genesis) {
  EFS_ASSIGN(auto checked, read(signed_genesis));
  if (checked.genesis.version != 1 || checked.genesis.previous != Id{})
    return fail(Code::protocol, "a mesh begins with version 1 of its genesis");
  EFS_TRY(check_signatures(signed_genesis, checked.genesis));
  return checked;
}

Result<CheckedGenesis> check_next_genesis(const CheckedGenesis& current, const SignedGenesis& next) {
  EFS_ASSIGN(auto checked, read(next));
  if (checked.genesis.version != current.genesis.version + 1 || checked.genesis.previous != current.hash)
    return fail(Code::conflict, fmt::format("genesis version {} does not follow version {}, which is current",
                                            checked.genesis.version, current.genesis.version));
  EFS_TRY(check_signatures(next, current.genesis));
  return checked;
}

}  // namespace efs
