// Bytes from peers, disks and people, into every decoder of identity. Built by the preset `fuzz`.
#include "test/fuzz/identity_decoders.h"

namespace {
// A mesh that was just founded: what is decoded is checked against it.
efs::RegisterState founded() {
  efs::FixedRandom random;
  auto root = efs::KeyPair::generate(random);
  auto founder = efs::KeyPair::generate(random);
  efs::Genesis genesis;
  genesis.name = "fuzz";
  genesis.roots = {root.public_key()};
  const efs::KeyPair* signers[] = {&root};
  auto entry =
      efs::make_founding(efs::sign_genesis(genesis, signers), root, founder, "first", efs::Id{1}, 0, random);
  efs::RegisterState state;
  if (!entry || !state.apply(*entry)) std::abort();
  return state;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const efs::RegisterState state = founded();
  efs::enter_identity_decoders({data, size}, state);
  return 0;
}
