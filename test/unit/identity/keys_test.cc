// Keys: Ed25519 as RFC 8032 has it, and signatures that hold for one domain, message and key only.
#include <boost/test/unit_test.hpp>

#include "peer/base/hash.h"
#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

BOOST_AUTO_TEST_CASE(public_key_of_rfc_8032) {
  // RFC 8032, 7.1, TEST 1.
  auto seed = from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
  auto pair = KeyPair::from_seed(Secret::copy_of(*seed));
  BOOST_CHECK_EQUAL(to_hex(pair.public_key()),
                    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  BOOST_CHECK(pair.seed().equals(*seed));
  BOOST_CHECK(peer_id_of(pair.public_key()) == blake2b(pair.public_key()));
}

BOOST_AUTO_TEST_CASE(signatures_hold_for_one_domain_message_and_key) {
  SeededRandom random(1);
  auto one = KeyPair::generate(random);
  auto other = KeyPair::generate(random);
  BOOST_CHECK(one.public_key() != other.public_key());
  const Signature signature = one.sign("efs test 1", view("hello"));
  BOOST_CHECK(verify(one.public_key(), "efs test 1", view("hello"), signature));
  BOOST_CHECK(!verify(one.public_key(), "efs test 2", view("hello"), signature));
  BOOST_CHECK(!verify(one.public_key(), "efs test 1", view("hellO"), signature));
  BOOST_CHECK(!verify(other.public_key(), "efs test 1", view("hello"), signature));
  for (size_t bit = 0; bit < signature.size() * 8; bit += 7) {
    Signature bad = signature;
    bad[bit / 8] ^= uint8_t(1 << bit % 8);
    BOOST_CHECK(!verify(one.public_key(), "efs test 1", view("hello"), bad));
  }
  BOOST_CHECK(!verify(PublicKey{}, "efs test 1", view("hello"), Signature{}));
}

}  // namespace
}  // namespace efs
