// Who gets in: the mesh's own, and nobody else; a stranger not by one byte.
#include "peer/net/handshake.h"

#include <boost/test/unit_test.hpp>

#include "peer/base/hash.h"
#include "test/unit/net/helpers.h"

using namespace efs;

namespace {

struct Side {
  TestRandom random;
  KeyPair key;
  LocalIdentity local;
  explicit Side(uint64_t seed, uint8_t mesh = 1, uint8_t secret = 2, std::optional<PeerId> id = {})
      : random(seed),
        key(KeyPair::generate(random)),
        local(key, id.value_or(peer_id_of(key.public_key())), id_of_byte(mesh),
              secret_of_byte(secret).reveal(), random) {}
};

// How far it comes: the number of messages that were accepted, 3 for all.
int run(Side& a, Side& b, RemoteIdentity* seen_by_a = nullptr, RemoteIdentity* seen_by_b = nullptr) {
  Handshake initiator(a.local, true, a.random), responder(b.local, false, b.random);
  Greeting greeting{.version = "1.2", .features = {"x"}, .mark = {7, id_of_byte(9)}, .addresses = {"a:1"}};
  for (int i = 0; i < 3; ++i) {
    auto& writer = i % 2 == 0 ? initiator : responder;
    auto& reader = i % 2 == 0 ? responder : initiator;
    auto message = writer.write(greeting);
    BOOST_REQUIRE(message.has_value());
    if (!reader.read(*message)) {
      BOOST_TEST(!reader.my_turn());  // no byte goes back
      return i;
    }
  }
  BOOST_TEST(initiator.done());
  BOOST_TEST(responder.done());
  if (seen_by_a) *seen_by_a = initiator.remote();
  if (seen_by_b) *seen_by_b = responder.remote();
  auto keys_a = initiator.split(), keys_b = responder.split();
  BOOST_TEST(keys_a.send.equals(keys_b.receive.reveal()));
  BOOST_TEST(keys_a.receive.equals(keys_b.send.reveal()));
  BOOST_TEST(!keys_a.send.equals(keys_a.receive.reveal()));
  return 3;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(handshake)

BOOST_AUTO_TEST_CASE(both_learn_who_the_other_is) {
  Side a(1), b(2);
  RemoteIdentity seen_by_a, seen_by_b;
  BOOST_REQUIRE(run(a, b, &seen_by_a, &seen_by_b) == 3);
  BOOST_TEST((seen_by_a.id == b.local.id()));
  BOOST_TEST((seen_by_a.key == b.key.public_key()));
  BOOST_TEST((seen_by_b.id == a.local.id()));
  BOOST_TEST((seen_by_b.key == a.key.public_key()));
  BOOST_TEST(seen_by_b.greeting.version == "1.2");
  BOOST_TEST(seen_by_b.greeting.features.size() == 1u);
  BOOST_TEST(seen_by_b.greeting.mark.version == 7u);
  BOOST_TEST(seen_by_a.greeting.addresses.at(0) == "a:1");
}

BOOST_AUTO_TEST_CASE(strangers_get_no_answer) {
  Side a(1), other_secret(2, 1, 9), other_mesh(3, 9, 2);
  BOOST_TEST(run(a, other_secret) == 0);
  BOOST_TEST(run(other_secret, a) == 0);
  BOOST_TEST(run(a, other_mesh) == 0);
  BOOST_TEST(run(other_mesh, a) == 0);
}

BOOST_AUTO_TEST_CASE(random_bytes_never_get_in) {
  Side a(1);
  TestRandom random(5);
  for (int i = 0; i < 3000; ++i) {
    Handshake responder(a.local, false, a.random);
    BOOST_REQUIRE(!responder.read(random_bytes(random, random.below(200))).has_value());
    BOOST_REQUIRE(!responder.my_turn());
  }
}

// Both know the secret, but the identity's signature is not for this static key: a peer that replays what
// another said of itself.
BOOST_AUTO_TEST_CASE(a_wrong_signature_is_refused) {
  Side a(1), b(2);
  const Id mesh = id_of_byte(1);
  Bytes psk_input = to_bytes(view("efs mesh secret 1"));
  append(psk_input, secret_of_byte(2).reveal());
  Id psk = blake2b(psk_input);
  Bytes prologue = to_bytes(view("efs/1"));
  append(prologue, mesh);
  Secret static_key = noise_generate(b.random);
  // What b honestly says, taken from a real handshake.
  Handshake honest_initiator(a.local, true, a.random);
  for (int forged = 0; forged < 3; ++forged) {
    Handshake initiator(a.local, true, a.random);
    NoiseHandshake liar({false, prologue, &static_key, psk, 0}, b.random);
    auto hello = initiator.write({});
    BOOST_REQUIRE(liar.read(*hello).has_value());
    Bytes payload;
    {
      Encoder out(payload);
      out.map(3);
      out.string("id");
      out.binary(b.local.id());
      out.string("key");
      out.binary(b.key.public_key());
      out.string("signature");
      Bytes claim = to_bytes(noise_public(static_key));
      append(claim, mesh);
      append(claim, b.local.id());
      append(claim, view(forged == 1 ? "initiator" : "responder"));
      if (forged == 2) claim[0] ^= 1;
      out.binary(b.key.sign("efs handshake 1", claim));
    }
    auto answer = liar.write(payload);
    BOOST_REQUIRE(answer.has_value());
    auto read = initiator.read(*answer);
    BOOST_TEST(read.has_value() == (forged == 0));
    if (!read) BOOST_TEST(read.error().code == Code::unauthorized);
  }
}

BOOST_AUTO_TEST_SUITE_END()
