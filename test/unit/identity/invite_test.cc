// Invites: their text, what is refused when one is garbled, and genesis versions.
#include "peer/identity/invite.h"

#include <boost/test/unit_test.hpp>

#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

BOOST_AUTO_TEST_CASE(an_invite_survives_its_text) {
  TestMesh mesh;
  Certificate certificate = mesh.server_certificate();
  certificate.rights.under = {"/volume01"};
  certificate.uses = 10;
  Invite invite = mesh.invite(certificate, mesh.founder);
  const std::string seed = to_seed(invite);
  BOOST_CHECK(seed.starts_with("efs://first:7400/"));
  BOOST_CHECK_LT(seed.size(), 500);
  auto parsed = parse_seed(" " + seed + "\n");
  check_ok(parsed);
  BOOST_CHECK_EQUAL(parsed->address, "first:7400");
  BOOST_REQUIRE(parsed->invite);
  BOOST_CHECK(parsed->invite->mesh == mesh.state.mesh());
  BOOST_CHECK(parsed->invite->mesh_secret.equals(mesh.secret.reveal()));
  BOOST_CHECK(parsed->invite->key.public_key() == invite.key.public_key());
  BOOST_CHECK(parsed->invite->certificate == invite.certificate);
  auto read = read_certificate(parsed->invite->certificate.body);
  BOOST_CHECK(read->rights == certificate.rights);
  BOOST_CHECK_EQUAL(read->uses, 10);
  // What was parsed admits.
  KeyPair key = KeyPair::generate(mesh.random);
  check_ok(mesh.admit(make_join(*parsed->invite, "second", {}, mesh.now, key)));
  // A file may hold either form.
  check_ok(parse_invite(to_text(invite) + "\n"));
  check_ok(parse_invite(seed));
}

BOOST_AUTO_TEST_CASE(seeds_without_an_invite) {
  auto seed = parse_seed("10.0.0.1:7400");
  check_ok(seed);
  BOOST_CHECK_EQUAL(seed->address, "10.0.0.1:7400");
  BOOST_CHECK(!seed->invite);
  check_refused(parse_seed(""), Code::invalid_argument, "efs://HOST:PORT/INVITE");
  check_refused(parse_seed("a/b"), Code::invalid_argument, "is no seed");
  check_refused(parse_seed("efs://first:7400"), Code::invalid_argument, "no invite behind its address");
  check_refused(parse_seed("efs://first:7400/"), Code::invalid_argument, "empty");
  check_refused(parse_seed(std::string(1000, 'x')), Code::invalid_argument, "is no seed");
}

BOOST_AUTO_TEST_CASE(garbled_invites_are_refused_with_why) {
  TestMesh mesh;
  const std::string text = to_text(mesh.invite());
  check_refused(parse_invite(""), Code::invalid_argument, "empty");
  check_refused(parse_invite("hello, world"), Code::invalid_argument, "this is no invite");
  check_refused(parse_invite(std::string(100'000, 'A')), Code::too_large, "far too long");
  check_refused(parse_invite("AQ"), Code::invalid_argument, "cut off");
  check_refused(parse_invite("Ag" + text.substr(2)), Code::version, "install the same efs");
  for (size_t length = 7; length + 1 < text.size(); length += 11)
    BOOST_CHECK_MESSAGE(!parse_invite(text.substr(0, length)), length);
  for (size_t at = 2; at < text.size(); ++at) {
    std::string bad = text;
    bad[at] = bad[at] == 'A' ? 'B' : 'A';
    BOOST_CHECK_MESSAGE(!parse_invite(bad), at);
  }
  std::string bad = text;
  bad[40] = bad[40] == 'A' ? 'B' : 'A';
  check_refused(parse_invite(bad), Code::invalid_argument, "damaged: a character is missing or wrong");
}

BOOST_AUTO_TEST_CASE(an_invites_parts_belong_together) {
  TestMesh mesh;
  TestMesh other(2, "other");
  Invite mixed = mesh.invite();
  mixed.certificate = other.invite().certificate;
  check_refused(parse_invite(to_text(mixed)), Code::unauthorized, "does not belong");
  Invite moved = mesh.invite();
  moved.mesh = other.state.mesh();
  check_refused(parse_invite(to_text(moved)), Code::unauthorized, "does not belong");
}

BOOST_AUTO_TEST_CASE(certificates_are_bounded) {
  TestMesh mesh;
  auto with = [&](auto edit) {
    Certificate certificate = mesh.server_certificate();
    edit(certificate);
    return make_invite({"first:7400"}, mesh.state.mesh(), mesh.secret, certificate, mesh.founder,
                       mesh.random);
  };
  check_refused(with([](Certificate& c) { c.uses = 0; }), Code::invalid_argument, "1 to 10000 uses");
  check_refused(with([](Certificate& c) { c.uses = 10001; }), Code::invalid_argument, "1 to 10000 uses");
  check_refused(with([](Certificate& c) { c.rights.under = {"x"}; }), Code::invalid_argument,
                "start with '/'");
  check_refused(with([](Certificate& c) { c.rights.under.assign(17, "/"); }), Code::too_large,
                "more than 16");
  check_refused(with([](Certificate& c) { c.role = Role(7); }), Code::version, "role");
  check_refused(with([](Certificate& c) { c.format = 2; }), Code::version, "format");
  check_refused(
      make_invite({}, mesh.state.mesh(), mesh.secret, mesh.server_certificate(), mesh.founder, mesh.random),
      Code::invalid_argument, "needs an address");
  check_refused(make_invite({"a/b"}, mesh.state.mesh(), mesh.secret, mesh.server_certificate(), mesh.founder,
                            mesh.random),
                Code::invalid_argument, "no address");
}

BOOST_AUTO_TEST_CASE(uid_ranges) {
  BOOST_CHECK(*parse_uid_range("all") == UidRange::all());
  BOOST_CHECK((*parse_uid_range("1000-1999") == UidRange{1000, 1999}));
  BOOST_CHECK((*parse_uid_range("7") == UidRange{7, 7}));
  for (const char* bad : {"", "x", "5-", "-5", "9-1", "1-2-3", "99999999999"})
    check_refused(parse_uid_range(bad), Code::invalid_argument, "no range of uids");
  BOOST_CHECK_EQUAL(to_text(UidRange{}), "none");
  BOOST_CHECK_EQUAL(to_text(UidRange::all()), "all");
  BOOST_CHECK_EQUAL(to_text(UidRange{1, 2}), "1-2");
}

BOOST_AUTO_TEST_CASE(a_genesis_needs_its_threshold) {
  SeededRandom random(3);
  KeyPair a = KeyPair::generate(random), b = KeyPair::generate(random), c = KeyPair::generate(random);
  Genesis genesis;
  genesis.name = "acme";
  genesis.roots = {a.public_key(), b.public_key(), c.public_key()};
  genesis.threshold = 2;
  const KeyPair* one[] = {&a};
  const KeyPair* twice[] = {&a, &a};
  const KeyPair* two[] = {&a, &c};
  check_refused(check_first_genesis(sign_genesis(genesis, one)), Code::unauthorized, "needs 2");
  check_refused(check_first_genesis(sign_genesis(genesis, twice)), Code::unauthorized, "carries 1");
  auto first = check_first_genesis(sign_genesis(genesis, two));
  check_ok(first);
  BOOST_CHECK(first->hash == blake2b(encode(genesis)));

  auto shaped = [&](auto edit) {
    Genesis bad = genesis;
    edit(bad);
    return check_first_genesis(sign_genesis(bad, two));
  };
  check_refused(shaped([](Genesis& g) { g.threshold = 0; }), Code::protocol, "more signatures");
  check_refused(shaped([](Genesis& g) { g.threshold = 4; }), Code::protocol, "more signatures");
  check_refused(shaped([](Genesis& g) { g.roots.clear(); }), Code::protocol, "no root keys");
  check_refused(shaped([](Genesis& g) { g.roots.push_back(g.roots[0]); }), Code::protocol, "twice");
  check_refused(shaped([](Genesis& g) { g.version = 2; }), Code::protocol, "version 1");
  check_refused(shaped([](Genesis& g) { g.format = 2; }), Code::version, "format 2");
  check_refused(shaped([](Genesis& g) { g.name = "a/b"; }), Code::invalid_argument, "no name for a mesh");

  Genesis next = genesis;
  next.version = 2;
  next.previous = first->hash;
  next.roots = {b.public_key()};
  next.threshold = 1;
  check_refused(check_next_genesis(*first, sign_genesis(next, one)), Code::unauthorized, "needs 2");
  check_ok(check_next_genesis(*first, sign_genesis(next, two)));
  next.version = 3;
  check_refused(check_next_genesis(*first, sign_genesis(next, two)), Code::conflict, "does not follow");
  next.version = 2;
  next.previous = Id{1};
  check_refused(check_next_genesis(*first, sign_genesis(next, two)), Code::conflict, "does not follow");
}

}  // namespace
}  // namespace efs
