// Decoders meet anything: random bytes, and real ones with bytes changed, cut out or put in. None may do more
// than refuse, and what a decoder takes must survive being encoded and read again.
#include <boost/test/unit_test.hpp>

#include "peer/identity/key_file.h"
#include "peer/identity/record.h"
#include "test/fuzz/identity_decoders.h"
#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

Bytes mutated(Bytes bytes, SeededRandom& random) {
  for (uint64_t edits = 1 + random.below(4); edits > 0 && !bytes.empty(); --edits) {
    const size_t at = random.below(bytes.size());
    switch (random.below(4)) {
      case 0:
        bytes[at] = uint8_t(random.u64());
        break;
      case 1:
        bytes.erase(bytes.begin() + ptrdiff_t(at));
        break;
      case 2:
        bytes.insert(bytes.begin() + ptrdiff_t(at), uint8_t(random.u64()));
        break;
      default:
        bytes.resize(at);
    }
  }
  return bytes;
}

std::vector<Bytes> real_inputs(TestMesh& mesh) {
  std::vector<Bytes> inputs = mesh.entries;
  Invite invite = mesh.invite();
  KeyPair key = KeyPair::generate(mesh.random);
  inputs.push_back(to_bytes(view(to_text(invite))));
  inputs.push_back(to_bytes(view(to_seed(invite))));
  inputs.push_back(invite.certificate.body);
  inputs.push_back(encode(make_join(invite, "x", {"a:1"}, mesh.now, key)));
  inputs.push_back(make_proposal(mesh.state.mesh(), 1, RemoveUser{"x"}, key, mesh.random));
  inputs.push_back(encode(mesh.signed_genesis));
  inputs.push_back(encode_key(key, KeyKind::user, {}, mesh.random));
  PeerRecord peer;
  peer.id = peer_id_of(mesh.founder.public_key());
  LocatorRecord record{.version = 1, .made_ns = mesh.now, .expires_ns = mesh.now + kHour, .body = peer};
  inputs.push_back(sign_record(mesh.state.mesh(), record, mesh.founder));
  return inputs;
}

BOOST_AUTO_TEST_CASE(random_and_mutated_bytes_are_refused_in_peace) {
  TestMesh mesh;
  mesh.admitted("second");
  check_ok(mesh.change(AddGroup{"staff", 500}));
  check_ok(mesh.change(mesh.charter("/v", mesh.founder)));
  const auto inputs = real_inputs(mesh);
  SeededRandom random(7);
  const Id head = mesh.state.head();
  const int rounds = std::getenv("EFS_LONG") != nullptr ? 200'000 : 4'000;
  for (int round = 0; round < rounds; ++round) {
    Bytes bytes(random.below(200));
    random.fill(bytes);
    enter_identity_decoders(bytes, mesh.state);
    const Bytes& real = inputs[random.below(inputs.size())];
    const Bytes bad = mutated(real, random);
    enter_identity_decoders(bad, mesh.state);
    if (bad != real) BOOST_CHECK(!mesh.state.apply(bad));
  }
  for (const Bytes& real : inputs) enter_identity_decoders(real, mesh.state);
  BOOST_CHECK(mesh.state.head() == head);
}

// A forged register is full of contents that no program of ours writes: signed rightly, shaped wrongly.
BOOST_AUTO_TEST_CASE(mutated_bodies_under_good_signatures_are_refused_or_harmless) {
  TestMesh mesh;
  SeededRandom random(8);
  mesh.admitted("second");
  check_ok(mesh.change(mesh.charter("/v", mesh.founder)));
  const std::vector<Bytes> entries = mesh.entries;
  const int rounds = std::getenv("EFS_LONG") != nullptr ? 20'000 : 500;
  for (int round = 0; round < rounds; ++round) {
    auto envelope = decode<Envelope>(entries[1 + random.below(entries.size() - 1)]);
    auto body = decode<EntryBody>(envelope->body);
    const Bytes proposal =
        encode(seal(kProposalDomain, mesh.state.mesh(), mutated(body->proposal.body, random), mesh.founder));
    RegisterState copy = mesh.state;
    auto entry = make_entry(copy, proposal, mesh.founder, mesh.now);
    if (!entry) continue;
    check_ok(copy.apply(*entry));  // what check() takes, apply() takes
    BOOST_CHECK_EQUAL(copy.version(), mesh.state.version() + 1);
  }
}

}  // namespace
}  // namespace efs
