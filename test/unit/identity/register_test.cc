// The register: its chain, who may make which change, what it answers, and every refusal.
#include "peer/identity/register.h"

#include <boost/test/unit_test.hpp>
#include <chrono>

#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

AddUser user_named(const std::string& name, uint32_t uid) {
  AddUser user;
  user.name = name;
  user.uid = user.gid = uid;
  return user;
}

// ---- the chain ----

BOOST_AUTO_TEST_CASE(founding_makes_the_first_peer_all_it_is) {
  TestMesh mesh;
  const PublicKey& key = mesh.founder.public_key();
  BOOST_CHECK_EQUAL(mesh.state.version(), 1);
  BOOST_CHECK(mesh.state.mesh() == blake2b(mesh.signed_genesis.body));
  BOOST_CHECK_EQUAL(mesh.state.genesis().genesis.name, "acme");
  BOOST_CHECK(mesh.state.standing_of(key) == Standing::admitted);
  BOOST_CHECK(mesh.state.is_operator(key));
  BOOST_CHECK(mesh.state.is_admin(key, "/"));
  BOOST_CHECK(mesh.state.may_speak_for(key, 0));
  BOOST_CHECK(mesh.state.may_order(key));
  BOOST_CHECK_EQUAL(mesh.state.root_volume()->prefix, "/");
  BOOST_CHECK(mesh.state.root_volume()->id == mesh.root_volume);
  BOOST_CHECK(mesh.state.is_root_key(mesh.recovery.public_key()));
  BOOST_CHECK(!mesh.state.is_root_key(key));
  BOOST_CHECK_EQUAL(mesh.state.who_is(key), "peer first");
}

BOOST_AUTO_TEST_CASE(a_replay_comes_to_the_same_state) {
  TestMesh mesh;
  mesh.admitted("second");
  check_ok(mesh.change(user_named("alice", 1000)));
  for (auto source : {RegisterState::Source::received, RegisterState::Source::stored}) {
    RegisterState copy;
    for (const Bytes& entry : mesh.entries) check_ok(copy.apply(entry, source));
    BOOST_CHECK(copy.head() == mesh.state.head());
    BOOST_CHECK_EQUAL(copy.version(), mesh.state.version());
    BOOST_CHECK(copy.user("alice") != nullptr);
    check_ok(copy.find_peer("second"));
    BOOST_CHECK(copy.hash_at(1) == mesh.state.hash_at(1));
    BOOST_CHECK(!copy.hash_at(99));
  }
}

BOOST_AUTO_TEST_CASE(entries_out_of_order_or_of_another_history_are_refused) {
  TestMesh mesh;
  check_ok(mesh.change(user_named("alice", 1000)));
  check_ok(mesh.change(user_named("bob", 1001)));
  RegisterState copy;
  check_refused(copy.apply(mesh.entries[1]), Code::conflict, "is not the next one");
  check_ok(copy.apply(mesh.entries[0]));
  check_refused(copy.apply(mesh.entries[2]), Code::conflict, "is not the next one");
  check_refused(copy.apply(mesh.entries[0]), Code::conflict, "is not the next one");
  TestMesh other(2);
  check_ok(other.change(user_named("eve", 1000)));
  check_refused(copy.apply(other.entries[1]), Code::conflict, "another history");
  check_refused(RegisterState{}.apply(Bytes{1, 2, 3}), Code::protocol, "damaged");
  BOOST_CHECK_EQUAL(copy.version(), 1);
  BOOST_CHECK(copy.user("eve") == nullptr);
}

BOOST_AUTO_TEST_CASE(a_flipped_bit_anywhere_is_refused) {
  TestMesh mesh;
  const RegisterState before = mesh.state;
  check_ok(mesh.change(user_named("alice", 1000)));
  const Bytes good = mesh.entries.back();
  for (size_t bit = 0; bit < good.size() * 8; bit += 3) {
    Bytes bad = good;
    bad[bit / 8] ^= uint8_t(1 << bit % 8);
    RegisterState copy = before;
    // A key of the map that is not known any more makes a field its default: refused all the same.
    BOOST_CHECK_MESSAGE(!copy.apply(bad), "bit " << bit);
    BOOST_CHECK_EQUAL(copy.version(), 1);
  }
}

BOOST_AUTO_TEST_CASE(only_the_root_volumes_owner_orders) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second");
  const Bytes proposal = make_proposal(mesh.state.mesh(), mesh.state.version(), user_named("alice", 1000),
                                       mesh.founder, mesh.random);
  check_refused(make_entry(mesh.state, proposal, second, mesh.now), Code::unauthorized,
                "peer second, which does not own the root volume");
  check_refused(make_entry(mesh.state, proposal, KeyPair::generate(mesh.random), mesh.now),
                Code::unauthorized, "the unknown key");
  check_ok(make_entry(mesh.state, proposal, mesh.founder, mesh.now));
}

BOOST_AUTO_TEST_CASE(an_owner_cannot_forge_an_administrators_change) {
  TestMesh mesh;
  KeyPair admin = KeyPair::generate(mesh.random);
  check_ok(mesh.change(AddAdmin{"bob", admin.public_key(), "/"}));
  auto proposal = decode<Envelope>(make_proposal(mesh.state.mesh(), mesh.state.version(),
                                                 user_named("alice", 1000), mesh.founder, mesh.random));
  proposal->signer = admin.public_key();
  check_refused(make_entry(mesh.state, encode(*proposal), mesh.founder, mesh.now), Code::unauthorized,
                "is forged");
  proposal = decode<Envelope>(
      make_proposal(mesh.state.mesh(), mesh.state.version(), user_named("alice", 1000), admin, mesh.random));
  proposal->body.back() ^= 1;
  check_refused(make_entry(mesh.state, encode(*proposal), mesh.founder, mesh.now), Code::unauthorized,
                "is forged");
}

BOOST_AUTO_TEST_CASE(proposals_are_taken_once_for_one_mesh_and_soon) {
  TestMesh mesh;
  TestMesh other(2, "other");
  AddUser alice = user_named("alice", 1000);
  const Bytes proposal =
      make_proposal(mesh.state.mesh(), mesh.state.version(), alice, mesh.founder, mesh.random);
  auto entry = make_entry(mesh.state, proposal, mesh.founder, mesh.now);
  check_ok(entry);
  mesh.take(*entry);
  check_ok(mesh.change(RemoveUser{"alice"}));
  check_refused(make_entry(mesh.state, proposal, mesh.founder, mesh.now), Code::exists,
                "in the register already");
  const Bytes foreign = make_proposal(other.state.mesh(), 1, alice, mesh.founder, mesh.random);
  check_refused(make_entry(mesh.state, foreign, mesh.founder, mesh.now), Code::unauthorized,
                "for another mesh");
  const Bytes ahead = make_proposal(mesh.state.mesh(), 1000, alice, mesh.founder, mesh.random);
  check_refused(make_entry(mesh.state, ahead, mesh.founder, mesh.now), Code::conflict, "ahead");
  const Bytes late = make_proposal(mesh.state.mesh(), 1, user_named("late", 9999), mesh.founder, mesh.random);
  for (uint32_t i = 0; i < kProposalWindow; ++i) check_ok(mesh.change(AddGroup{numbered("g", i), 20000 + i}));
  check_refused(make_entry(mesh.state, late, mesh.founder, mesh.now), Code::conflict, "too many entries ago");
  check_refused(make_entry(mesh.state, proposal, mesh.founder, mesh.now), Code::conflict,
                "too many entries ago");
}

BOOST_AUTO_TEST_CASE(stamps_never_go_back) {
  TestMesh mesh;
  check_ok(mesh.change(user_named("alice", 1000)));
  const int64_t stamp = mesh.state.last_stamp_ns();
  mesh.now -= kHour;  // the owner's clock jumps
  check_ok(mesh.change(user_named("bob", 1001)));
  BOOST_CHECK_EQUAL(mesh.state.last_stamp_ns(), stamp);
}

BOOST_AUTO_TEST_CASE(an_unknown_kind_of_change_asks_for_an_upgrade) {
  TestMesh mesh;
  Bytes body;
  {
    Encoder out(body);
    out.map(4);
    out.string("m");
    out.binary(mesh.state.mesh());
    out.string("s");
    out.unsigned_integer(1);
    out.string("n");
    out.binary(ByteArray<16>{});
    out.string("c");
    out.map(2);
    out.string("k");
    out.unsigned_integer(9999);
    out.string("b");
    out.map(0);
  }
  const Bytes proposal = encode(seal(kProposalDomain, mesh.state.mesh(), body, mesh.founder));
  check_refused(make_entry(mesh.state, proposal, mesh.founder, mesh.now), Code::version,
                "install a newer efs");
}

BOOST_AUTO_TEST_CASE(founding_is_checked) {
  TestMesh mesh;
  KeyPair stranger = KeyPair::generate(mesh.random);
  check_refused(
      make_founding(mesh.signed_genesis, stranger, mesh.founder, "first", mesh.root_volume, 0, mesh.random),
      Code::unauthorized, "root keys");
  check_refused(
      make_founding(mesh.signed_genesis, mesh.root, mesh.founder, "", mesh.root_volume, 0, mesh.random),
      Code::invalid_argument, "no name");
  SignedGenesis unsigned_genesis = mesh.signed_genesis;
  unsigned_genesis.signatures.clear();
  check_refused(
      make_founding(unsigned_genesis, mesh.root, mesh.founder, "first", mesh.root_volume, 0, mesh.random),
      Code::unauthorized, "needs 1");
  check_refused(mesh.change(Founding{mesh.signed_genesis, stranger.public_key(), "x", {}}), Code::conflict,
                "once");
}

// ---- admission ----

BOOST_AUTO_TEST_CASE(an_invite_admits_as_often_as_it_says) {
  TestMesh mesh;
  Certificate certificate = mesh.server_certificate();
  certificate.uses = 2;
  Invite invite = mesh.invite(certificate, mesh.founder);
  KeyPair one = KeyPair::generate(mesh.random), two = KeyPair::generate(mesh.random),
          three = KeyPair::generate(mesh.random);
  BOOST_CHECK(mesh.state.standing_of(one.public_key()) == Standing::unknown);
  const SignedJoin join = make_join(invite, "host", {}, mesh.now, one);
  BOOST_CHECK(mesh.state.admitted_by(join) == nullptr);
  check_ok(mesh.admit(join));
  BOOST_CHECK(mesh.state.standing_of(one.public_key()) == Standing::admitted);
  BOOST_REQUIRE(mesh.state.admitted_by(join) != nullptr);
  BOOST_CHECK_EQUAL(mesh.state.admitted_by(join)->name, "host");
  check_refused(mesh.admit(join), Code::exists, "a member of this mesh already");
  check_ok(mesh.admit(make_join(invite, "host", {}, mesh.now, two)));
  BOOST_CHECK_EQUAL(mesh.state.peer_by_key(two.public_key())->name, "host-2");
  BOOST_CHECK_EQUAL(mesh.state.invite_uses(invite.key.public_key()), 2);
  check_refused(mesh.admit(make_join(invite, "host", {}, mesh.now, three)), Code::expired, "used up");
  // Nor does the owner get it in by leaving out the question.
  check_refused(mesh.change(AdmitPeer{make_join(invite, "x", {}, mesh.now, three), "x"}), Code::expired,
                "used up");
}

BOOST_AUTO_TEST_CASE(an_ended_invite_is_refused_whatever_the_joiners_clock_says) {
  TestMesh mesh;
  Invite invite = mesh.invite();
  KeyPair key = KeyPair::generate(mesh.random);
  const int64_t early = mesh.now;
  mesh.now += kHour + kMinute;
  check_refused(mesh.admit(make_join(invite, "x", {}, early, key)), Code::expired,
                "the invite ended at 2023-11-14 23:13 UTC");
  check_refused(mesh.admit(make_join(invite, "x", {}, mesh.now, key)), Code::expired, "make a new one");
}

BOOST_AUTO_TEST_CASE(clocks_far_apart_are_refused) {
  TestMesh mesh;
  Invite invite = mesh.invite();
  KeyPair key = KeyPair::generate(mesh.random);
  for (int64_t wall : {mesh.now - 10 * kMinute, mesh.now + 10 * kMinute, INT64_MIN, INT64_MAX})
    check_refused(mesh.admit(make_join(invite, "x", {}, wall, key)), Code::conflict,
                  "clocks differ by more than 5");
  check_ok(mesh.admit(make_join(invite, "x", {}, mesh.now + 4 * kMinute, key)));
}

BOOST_AUTO_TEST_CASE(foreign_revoked_and_forged_invites_are_refused) {
  TestMesh mesh;
  TestMesh other(2, "other");
  KeyPair key = KeyPair::generate(mesh.random);
  check_refused(mesh.admit(make_join(other.invite(), "x", {}, mesh.now, key)), Code::unauthorized,
                "another mesh");

  KeyPair stranger = KeyPair::generate(mesh.random);
  check_refused(
      mesh.admit(make_join(mesh.invite(mesh.server_certificate(), stranger), "x", {}, mesh.now, key)),
      Code::unauthorized, "no administrator of this mesh");

  KeyPair limited = KeyPair::generate(mesh.random);
  check_ok(mesh.change(AddAdmin{"limited", limited.public_key(), "/data"}));
  check_refused(
      mesh.admit(make_join(mesh.invite(mesh.server_certificate(), limited), "x", {}, mesh.now, key)),
      Code::unauthorized, "administrator limited, who is no administrator of this mesh");

  Invite revoked = mesh.invite();
  check_ok(mesh.change(RevokeInvite{revoked.key.public_key()}));
  check_refused(mesh.change(RevokeInvite{revoked.key.public_key()}), Code::exists, "revoked already");
  check_refused(mesh.admit(make_join(revoked, "x", {}, mesh.now, key)), Code::unauthorized, "was revoked");

  // The rights are written larger by hand.
  Invite forged = mesh.invite();
  auto certificate = *read_certificate(forged.certificate.body);
  certificate.rights.operate = true;
  forged.certificate.body = encode(certificate);
  check_refused(mesh.admit(make_join(forged, "x", {}, mesh.now, key)), Code::unauthorized, "forged");

  // Somebody saw the certificate, and has not the invite's secret half.
  Invite stolen = mesh.invite();
  stolen.key = KeyPair::generate(mesh.random);
  check_refused(mesh.admit(make_join(stolen, "x", {}, mesh.now, key)), Code::unauthorized, "invite's key");

  // Somebody else's key is brought in.
  SignedJoin join = make_join(mesh.invite(), "x", {}, mesh.now, key);
  join.by_peer = join.by_invite;
  check_refused(mesh.admit(join), Code::unauthorized, "joining peer's key");
}

BOOST_AUTO_TEST_CASE(an_invite_ends_with_its_administrator) {
  TestMesh mesh;
  KeyPair admin = KeyPair::generate(mesh.random);
  check_ok(mesh.change(AddAdmin{"bob", admin.public_key(), "/"}));
  Invite invite = mesh.invite(mesh.server_certificate(), admin);
  check_ok(mesh.change(RemoveAdmin{"bob"}));
  KeyPair key = KeyPair::generate(mesh.random);
  check_refused(mesh.admit(make_join(invite, "x", {}, mesh.now, key)), Code::unauthorized,
                "no administrator");
}

BOOST_AUTO_TEST_CASE(admissions_are_proposed_by_the_owner_alone) {
  TestMesh mesh;
  KeyPair admin = KeyPair::generate(mesh.random);
  check_ok(mesh.change(AddAdmin{"bob", admin.public_key(), "/"}));
  KeyPair key = KeyPair::generate(mesh.random);
  const SignedJoin join = make_join(mesh.invite(), "x", {}, mesh.now, key);
  check_refused(mesh.change(AdmitPeer{join, "x"}, admin), Code::unauthorized,
                "by an owner of the root volume");
  check_refused(mesh.change(AdmitPeer{join, "first"}), Code::exists, "'first' already");
  check_refused(mesh.change(AdmitPeer{join, "-"}), Code::invalid_argument, "no name for a peer");
}

BOOST_AUTO_TEST_CASE(clients_have_no_server_rights) {
  TestMesh mesh;
  Certificate certificate;
  certificate.role = Role::client;
  certificate.expires_ns = mesh.now + kHour;
  KeyPair client = mesh.admitted("laptop", certificate);
  BOOST_CHECK(mesh.state.peer_by_key(client.public_key())->role == Role::client);
  BOOST_CHECK(!mesh.state.may_speak_for(client.public_key(), 1000));
  check_refused(mesh.state.may_create_volume(client.public_key(), "/x", {peer_id_of(client.public_key())}),
                Code::not_permitted, "clients own no volumes");
  certificate.rights.operate = true;
  auto made = make_invite({"a:1"}, mesh.state.mesh(), mesh.secret, certificate, mesh.founder, mesh.random);
  check_refused(made, Code::invalid_argument, "a client acts");
}

BOOST_AUTO_TEST_CASE(the_uids_of_a_server) {
  TestMesh mesh;
  Certificate certificate = mesh.server_certificate();
  certificate.rights.uids = *parse_uid_range("1000-1999");
  KeyPair key = mesh.admitted("second", certificate);
  BOOST_CHECK(!mesh.state.may_speak_for(key.public_key(), 0));
  BOOST_CHECK(!mesh.state.may_speak_for(key.public_key(), 999));
  BOOST_CHECK(mesh.state.may_speak_for(key.public_key(), 1000));
  BOOST_CHECK(mesh.state.may_speak_for(key.public_key(), 1999));
  BOOST_CHECK(!mesh.state.may_speak_for(key.public_key(), 2000));
}

// ---- peers that go ----

BOOST_AUTO_TEST_CASE(revoked_is_for_ever_forgotten_may_return) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second"), third = mesh.admitted("third");
  const PeerId second_id = peer_id_of(second.public_key()), third_id = peer_id_of(third.public_key());
  check_refused(mesh.change(RevokePeer{second_id}, third), Code::unauthorized,
                "peer third may not revoke a peer");
  check_ok(mesh.change(RevokePeer{second_id}));
  BOOST_CHECK(mesh.state.standing_of(second.public_key()) == Standing::revoked);
  BOOST_CHECK(mesh.state.peer_by_key(second.public_key()) == nullptr);
  check_refused(mesh.change(RevokePeer{second_id}), Code::exists, "revoked already");
  check_refused(mesh.admit(make_join(mesh.invite(), "second", {}, mesh.now, second)), Code::unauthorized,
                "was revoked");
  check_refused(mesh.change(ForgetPeer{second_id}), Code::not_found, "no peer");
  check_refused(mesh.change(RevokePeer{Id{9}}), Code::not_found, "no peer");

  check_ok(mesh.change(ForgetPeer{third_id}, third));  // it leaves
  BOOST_CHECK(mesh.state.standing_of(third.public_key()) == Standing::forgotten);
  check_refused(mesh.state.find_peer("third"), Code::not_found, "no peer 'third'");
  check_refused(mesh.change(user_named("x", 1), third), Code::unauthorized, "may not add a user");
  check_ok(mesh.admit(make_join(mesh.invite(), "third", {}, mesh.now, third)));
  BOOST_CHECK(mesh.state.peer_by_key(third.public_key())->id == third_id);
  // Its names are free for others when it goes.
  check_ok(mesh.change(ForgetPeer{third_id}));
  mesh.admitted("third");
}

BOOST_AUTO_TEST_CASE(peers_that_are_needed_stay) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second"), third = mesh.admitted("third");
  const PeerId first_id = peer_id_of(mesh.founder.public_key()), second_id = peer_id_of(second.public_key());
  check_refused(mesh.change(RevokePeer{first_id}), Code::busy, "owns the root volume");
  check_refused(mesh.change(ForgetPeer{first_id}), Code::busy, "still owns /");
  check_ok(mesh.change(mesh.charter("/volume01", second), second));
  check_refused(mesh.change(ForgetPeer{second_id}, second), Code::busy, "still owns /volume01");
  check_refused(mesh.change(ForgetPeer{second_id}, third), Code::unauthorized, "may not remove another peer");
  check_ok(mesh.change(RemoveVolume{mesh.state.volume_at("/volume01")->id}, second));
  check_ok(mesh.change(ForgetPeer{second_id}));
}

BOOST_AUTO_TEST_CASE(a_peer_keeps_its_id_with_a_new_key) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second"), third = mesh.admitted("third"),
          fresh = KeyPair::generate(mesh.random);
  const PeerId id = peer_id_of(second.public_key());
  SetPeerKey change{id, fresh.public_key(), sign_in_mesh(kPossessionDomain, mesh.state.mesh(), id, fresh)};
  check_refused(mesh.change(change, third), Code::unauthorized, "another peer's key");
  SetPeerKey stolen = change;
  stolen.possession = sign_in_mesh(kPossessionDomain, mesh.state.mesh(), id, third);
  check_refused(mesh.change(stolen, second), Code::unauthorized, "not signed with itself");
  check_refused(mesh.change(SetPeerKey{id, third.public_key(), {}}, second), Code::exists, "had, this key");
  check_refused(mesh.change(SetPeerKey{Id{1}, fresh.public_key(), {}}, second), Code::not_found, "no peer");
  check_ok(mesh.change(change, second));
  BOOST_CHECK(mesh.state.peer_by_key(fresh.public_key())->id == id);
  BOOST_CHECK(mesh.state.standing_of(second.public_key()) == Standing::revoked);
  check_refused(mesh.change(ForgetPeer{id}, second), Code::unauthorized, "may not");
  check_refused(mesh.admit(make_join(mesh.invite(), "again", {}, mesh.now, second)), Code::unauthorized,
                "revoked");
  // The founder's key carries its administration along.
  KeyPair next = KeyPair::generate(mesh.random);
  const PeerId first = peer_id_of(mesh.founder.public_key());
  check_ok(mesh.change(
      SetPeerKey{first, next.public_key(), sign_in_mesh(kPossessionDomain, mesh.state.mesh(), first, next)}));
  BOOST_CHECK(mesh.state.is_admin(next.public_key(), "/"));
  BOOST_CHECK(!mesh.state.is_admin(mesh.founder.public_key(), "/"));
  BOOST_CHECK(mesh.state.may_order(next.public_key()));
  BOOST_CHECK(!mesh.state.may_order(mesh.founder.public_key()));
}

BOOST_AUTO_TEST_CASE(peers_are_found_by_name_or_beginning_of_id) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second");
  const std::string hex = to_hex(peer_id_of(second.public_key()));
  BOOST_CHECK_EQUAL((*mesh.state.find_peer("second"))->name, "second");
  BOOST_CHECK_EQUAL((*mesh.state.find_peer(hex.substr(0, 8)))->name, "second");
  BOOST_CHECK_EQUAL((*mesh.state.find_peer(hex))->name, "second");
  check_refused(mesh.state.find_peer(hex.substr(0, 2)), Code::not_found, "efs peer ls");
  check_refused(mesh.state.find_peer(""), Code::not_found, "no peer");
  std::map<std::string, int> beginnings;
  for (int i = 0; i < 400; ++i)
    ++beginnings[to_hex(peer_id_of(mesh.admitted("n").public_key())).substr(0, 4)];
  for (const auto& [beginning, count] : beginnings) {
    if (count == 1 || mesh.state.find_peer(beginning)) continue;
    check_refused(mesh.state.find_peer(beginning), Code::conflict, "give more of it");
  }
}

// ---- users, groups, grants ----

BOOST_AUTO_TEST_CASE(users_and_groups) {
  TestMesh mesh;
  KeyPair key = KeyPair::generate(mesh.random), stranger = KeyPair::generate(mesh.random);
  check_ok(mesh.change(AddGroup{"staff", 500}));
  AddUser alice = user_named("alice", 1000);
  alice.keys = {key.public_key()};
  alice.groups = {"staff"};
  alice.home = "/home/alice";
  check_refused(mesh.change(alice, stranger), Code::unauthorized, "may not add a user");
  check_ok(mesh.change(alice));
  BOOST_CHECK_EQUAL(mesh.state.user_by_uid(1000)->name, "alice");
  BOOST_CHECK_EQUAL(mesh.state.user_by_key(key.public_key())->name, "alice");
  BOOST_CHECK_EQUAL(mesh.state.group_by_gid(500)->members.count("alice"), 1);
  BOOST_CHECK((mesh.state.gids_of(*mesh.state.user("alice")) == std::vector<uint32_t>{1000, 500}));
  BOOST_CHECK(mesh.state.user("alice")->entry == mesh.state.head());

  check_refused(mesh.change(user_named("alice", 1001)), Code::exists, "user 'alice' already");
  check_refused(mesh.change(user_named("bob", 1000)), Code::exists, "uid 1000 was given before");
  check_refused(mesh.change(user_named("Bob", 1001)), Code::invalid_argument, "no name for a user");
  check_refused(mesh.change(user_named("", 1001)), Code::invalid_argument, "no name for a user");
  for (uint32_t uid : {0u, 65534u, 65535u, UINT32_MAX, UINT32_MAX - 1})
    check_refused(mesh.change(user_named("bob", uid)), Code::invalid_argument, "reserved");
  AddUser bob = user_named("bob", 1001);
  bob.gid = 77;
  check_refused(mesh.change(bob), Code::not_found, "gid 77");
  bob.gid = 500;
  bob.keys = {key.public_key()};
  check_refused(mesh.change(bob), Code::exists, "'alice' has this key");
  bob.keys = {stranger.public_key(), stranger.public_key()};
  check_refused(mesh.change(bob), Code::invalid_argument, "twice");
  bob.keys = {PublicKey{}};
  check_refused(mesh.change(bob), Code::invalid_argument, "empty");
  bob.keys.clear();
  bob.groups = {"wheel"};
  check_refused(mesh.change(bob), Code::not_found, "no group 'wheel'");
  bob.groups.clear();
  bob.home = "home";
  check_refused(mesh.change(bob), Code::invalid_argument, "does not start with '/'");
  bob.home.clear();
  check_ok(mesh.change(bob));

  check_refused(mesh.change(AddGroup{"staff", 501}), Code::exists, "group 'staff' already");
  check_refused(mesh.change(AddGroup{"new", 1000}), Code::exists, "gid 1000 was given");
  check_refused(mesh.change(AddGroup{"new", 0}), Code::invalid_argument, "reserved");
  check_refused(mesh.change(RemoveGroup{"staff"}), Code::busy, "first group of the user 'bob'");
  check_refused(mesh.change(RemoveGroup{"nope"}), Code::not_found, "no group");

  check_ok(mesh.change(AddGroup{"extra", 501}));
  check_ok(mesh.change(ChangeUserGroups{"alice", {"extra"}, {"staff"}}));
  BOOST_CHECK((mesh.state.gids_of(*mesh.state.user("alice")) == std::vector<uint32_t>{1000, 501}));
  check_refused(mesh.change(ChangeUserGroups{"alice", {}, {"staff"}}), Code::not_found,
                "not in a group 'staff'");
  check_refused(mesh.change(ChangeUserGroups{"alice", {"nope"}, {}}), Code::not_found, "no group");
  check_refused(mesh.change(ChangeUserGroups{"zoe", {}, {}}), Code::not_found, "no user");
  check_ok(mesh.change(RemoveGroup{"extra"}));
  BOOST_CHECK((mesh.state.gids_of(*mesh.state.user("alice")) == std::vector<uint32_t>{1000}));

  check_ok(mesh.change(RemoveUser{"alice"}));
  check_refused(mesh.change(RemoveUser{"alice"}), Code::not_found, "no user");
  BOOST_CHECK(mesh.state.user_by_uid(1000) == nullptr);
  BOOST_CHECK(mesh.state.user_by_key(key.public_key()) == nullptr);
  check_refused(mesh.change(user_named("again", 1000)), Code::exists,
                "never given again; the next free one is 10000");
  check_refused(mesh.change(AddGroup{"again", 501}), Code::exists, "never given again");
  AddUser carol = user_named("carol", 501);  // the gid of a group that is gone
  check_refused(mesh.change(carol), Code::exists, "gid 501 was given before");
}

BOOST_AUTO_TEST_CASE(free_uids_step_over_what_was_given) {
  TestMesh mesh;
  BOOST_CHECK_EQUAL(mesh.state.free_uid(), kFirstGivenUid);
  check_ok(mesh.change(user_named("a", kFirstGivenUid)));
  check_ok(mesh.change(AddGroup{"b", kFirstGivenUid + 1}));
  check_ok(mesh.change(AddGroup{"c", kFirstGivenUid + 3}));
  BOOST_CHECK_EQUAL(mesh.state.free_uid(), kFirstGivenUid + 2);
}

BOOST_AUTO_TEST_CASE(users_change_their_own_keys) {
  TestMesh mesh;
  KeyPair old_key = KeyPair::generate(mesh.random), new_key = KeyPair::generate(mesh.random);
  AddUser alice = user_named("alice", 1000);
  alice.keys = {old_key.public_key()};
  check_ok(mesh.change(alice));
  check_refused(mesh.change(SetUserKeys{"alice", {new_key.public_key()}}, new_key), Code::unauthorized,
                "user's keys");
  check_ok(mesh.change(SetUserKeys{"alice", {new_key.public_key()}}, old_key));
  BOOST_CHECK(mesh.state.user_by_key(old_key.public_key()) == nullptr);
  check_refused(mesh.change(SetUserKeys{"alice", {}}, old_key), Code::unauthorized, "user's keys");
  check_refused(mesh.change(SetUserKeys{"zoe", {}}), Code::not_found, "no user");
  check_ok(mesh.change(SetUserKeys{"alice", {old_key.public_key()}}));  // an administrator may
}

BOOST_AUTO_TEST_CASE(grants) {
  TestMesh mesh;
  KeyPair alice_key = KeyPair::generate(mesh.random);
  AddUser alice = user_named("alice", 1000);
  alice.keys = {alice_key.public_key()};
  check_ok(mesh.change(alice));
  check_ok(mesh.change(user_named("bob", 1001)));
  check_ok(mesh.change(AddGroup{"staff", 500}));
  check_ok(mesh.change(ChangeUserGroups{"bob", {"staff"}, {}}));

  check_ok(mesh.change(SetGrant{"alice", Right::admin, "/data"}));
  check_ok(mesh.change(SetGrant{"@staff", Right::read_write, "/data/x"}));
  check_ok(mesh.change(SetGrant{"*", Right::read_only, "/"}));
  BOOST_CHECK(mesh.state.right_at("alice", "/data") == Right::admin);
  BOOST_CHECK(mesh.state.right_at("alice", "/data/x/y") == Right::admin);
  BOOST_CHECK(mesh.state.right_at("alice", "/database") == Right::read_only);
  BOOST_CHECK(mesh.state.right_at("bob", "/data/x/y") == Right::read_write);
  BOOST_CHECK(mesh.state.right_at("bob", "/data") == Right::read_only);
  BOOST_CHECK(mesh.state.right_at("", "/data/x") == Right::read_only);
  BOOST_CHECK_EQUAL(mesh.state.grants().size(), 3);
  BOOST_CHECK_EQUAL(mesh.state.grants("/data").size(), 2);
  BOOST_CHECK_EQUAL(mesh.state.grants("/dat").size(), 0);

  // Who administers a prefix grants below it, and not elsewhere.
  check_ok(mesh.change(SetGrant{"bob", Right::read_write, "/data/sub"}, alice_key));
  check_refused(mesh.change(SetGrant{"bob", Right::read_write, "/database"}, alice_key), Code::unauthorized,
                "user alice may not grant rights on /database");
  check_refused(mesh.change(user_named("eve", 1002), alice_key), Code::unauthorized, "administrator of /");

  check_refused(mesh.change(SetGrant{"zoe", Right::read_only, "/"}), Code::not_found, "no user 'zoe'");
  check_refused(mesh.change(SetGrant{"@zoe", Right::read_only, "/"}), Code::not_found, "no group 'zoe'");
  check_refused(mesh.change(SetGrant{"*", Right::admin, "/"}), Code::invalid_argument, "not everyone");
  check_refused(mesh.change(SetGrant{"bob", Right::none, "/"}), Code::invalid_argument, "ro, rw or admin");
  check_refused(mesh.change(SetGrant{"bob", Right(9), "/"}), Code::invalid_argument, "ro, rw or admin");
  check_refused(mesh.change(SetGrant{"bob", Right::read_only, "x"}), Code::invalid_argument,
                "start with '/'");
  check_refused(mesh.change(RemoveGrant{"bob", "/elsewhere"}), Code::not_found, "no grant on /elsewhere");
  check_ok(mesh.change(RemoveGrant{"*", "/"}));
  BOOST_CHECK(mesh.state.right_at("bob", "/data") == Right::none);
  check_ok(mesh.change(RemoveGroup{"staff"}));
  BOOST_CHECK(mesh.state.right_at("bob", "/data/x") == Right::none);
  check_ok(mesh.change(RemoveUser{"alice"}));
  check_ok(mesh.change(user_named("alice", 1005)));  // the name returns, its grants do not
  BOOST_CHECK(mesh.state.right_at("alice", "/data") == Right::none);
}

BOOST_AUTO_TEST_CASE(administrators_come_and_go) {
  TestMesh mesh;
  KeyPair bob = KeyPair::generate(mesh.random), sub = KeyPair::generate(mesh.random);
  check_refused(mesh.change(AddAdmin{"bob", bob.public_key(), "/"}, bob), Code::unauthorized,
                "the unknown key");
  check_ok(mesh.change(AddAdmin{"sub", sub.public_key(), "/data"}));
  check_refused(mesh.change(AddAdmin{"bob", bob.public_key(), "/"}, sub), Code::unauthorized,
                "administrator of /");
  check_refused(mesh.change(RemoveAdmin{"first"}, sub), Code::unauthorized, "administrator of /");
  check_refused(mesh.change(RemoveAdmin{"first"}), Code::busy, "make another administrator first");
  check_refused(mesh.change(RemoveAdmin{"zoe"}), Code::not_found, "no administrator 'zoe'");
  check_refused(mesh.change(AddAdmin{"sub", bob.public_key(), "/"}), Code::exists, "already");
  check_refused(mesh.change(AddAdmin{"none", {}, "/"}), Code::invalid_argument, "needs a key");
  // The root key can always bring an administrator in.
  check_ok(mesh.change(AddAdmin{"bob", bob.public_key(), "/"}, mesh.recovery));
  check_ok(mesh.change(RemoveAdmin{"first"}, bob));
  BOOST_CHECK(!mesh.state.is_admin(mesh.founder.public_key(), "/"));
  BOOST_CHECK(mesh.state.is_operator(mesh.founder.public_key()));
  // An ex-administrator's changes are refused, though its peer still orders.
  check_refused(mesh.change(user_named("alice", 1000)), Code::unauthorized, "peer first may not add a user");
  check_ok(mesh.change(user_named("alice", 1000), bob));
}

BOOST_AUTO_TEST_CASE(the_roots_rotate) {
  TestMesh mesh;
  KeyPair fresh = KeyPair::generate(mesh.random);
  Genesis next = mesh.state.genesis().genesis;
  next.version = 2;
  next.previous = mesh.state.genesis().hash;
  next.roots = {fresh.public_key()};
  const KeyPair* by_new[] = {&fresh};
  const KeyPair* by_recovery[] = {&mesh.recovery};
  check_refused(mesh.change(RotateRoot{sign_genesis(next, by_new)}), Code::unauthorized, "0 good signatures");
  check_ok(mesh.change(RotateRoot{sign_genesis(next, by_recovery)}));
  BOOST_CHECK(mesh.state.is_root_key(fresh.public_key()));
  BOOST_CHECK(!mesh.state.is_root_key(mesh.root.public_key()));
  BOOST_CHECK(mesh.state.mesh() == blake2b(mesh.signed_genesis.body));  // for life
  check_refused(mesh.change(RotateRoot{sign_genesis(next, by_recovery)}), Code::conflict, "does not follow");
}

BOOST_AUTO_TEST_CASE(the_mesh_secret_rotates) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second");
  RotateSecret change{1, Id{5}, {{peer_id_of(second.public_key()), Bytes(80)}}};
  check_refused(mesh.change(change, second), Code::unauthorized, "replace the mesh secret");
  RotateSecret other = change;
  other.number = 2;
  check_refused(mesh.change(other), Code::conflict, "meanwhile");
  other = change;
  other.boxes[0].peer = Id{7};
  check_refused(mesh.change(other), Code::not_found, "no peer");
  other.boxes[0].box = Bytes(1000);
  check_refused(mesh.change(other), Code::too_large, "too long");
  check_ok(mesh.change(change));
  BOOST_CHECK_EQUAL(mesh.state.secret_number(), 1);
  BOOST_CHECK(mesh.state.secret_fingerprint() == Id{5});
}

// ---- volumes ----

BOOST_AUTO_TEST_CASE(volumes_match_by_whole_components_longest_first) {
  TestMesh mesh;
  for (const char* prefix : {"/zxt", "/zxt/a/b", "/zx"})
    check_ok(mesh.change(mesh.charter(prefix, mesh.founder)));
  auto found = [&](std::string_view path) { return mesh.state.volume_for(path)->prefix; };
  BOOST_CHECK_EQUAL(found("/zxt"), "/zxt");
  BOOST_CHECK_EQUAL(found("/zxtra"), "/");
  BOOST_CHECK_EQUAL(found("/zxt/a"), "/zxt");
  BOOST_CHECK_EQUAL(found("/zxt/a/b/c"), "/zxt/a/b");
  BOOST_CHECK_EQUAL(found("/zxt/a/bc"), "/zxt");
  BOOST_CHECK_EQUAL(found("/"), "/");
  BOOST_CHECK_EQUAL(mesh.state.volumes().size(), 4);
  BOOST_CHECK_EQUAL(mesh.state.volumes_below("/zxt").size(), 1);
  BOOST_CHECK_EQUAL(mesh.state.volumes_below("/").size(), 3);
  BOOST_CHECK(mesh.state.volume_at("/zxt/a") == nullptr);
  BOOST_CHECK_EQUAL(mesh.state.volume_by_number(1)->prefix, "/zxt");
  BOOST_CHECK_EQUAL(mesh.state.volume_at("/zxt/a/b")->ancestors.size(), 1);
}

BOOST_AUTO_TEST_CASE(the_second_volume_of_a_prefix_is_refused) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second"), third = mesh.admitted("third");
  AddVolume one = mesh.charter("/volume01", second), two = mesh.charter("/volume01", third);
  check_ok(mesh.change(one, second));
  two.number = mesh.state.free_volume_number();
  check_refused(mesh.change(two, third), Code::exists, "a volume at /volume01 already");
  check_refused(mesh.change(one, second), Code::exists, "a volume at /volume01 already");
}

BOOST_AUTO_TEST_CASE(charters_are_checked) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second");
  check_ok(mesh.change(mesh.charter("/data/data01", mesh.founder)));
  auto with = [&](auto edit) {
    AddVolume volume = mesh.charter("/other/x", mesh.founder);
    edit(volume);
    return mesh.change(volume);
  };
  check_refused(with([](AddVolume& v) { v.prefix = "/other/"; }), Code::invalid_argument, "component");
  check_refused(with([](AddVolume& v) { v.prefix = "/other/../x"; }), Code::invalid_argument, "component");
  check_refused(with([](AddVolume& v) { v.prefix = std::string("/").append(256, 'x'); }), Code::name_too_long,
                "255");
  check_refused(with([](AddVolume& v) { v.prefix = std::string("/").append(5000, 'x'); }),
                Code::name_too_long, "4096");
  check_refused(with([](AddVolume& v) { v.prefix = "/"; }), Code::exists, "already");
  check_refused(with([](AddVolume& v) { v.prefix = "/data"; }), Code::not_empty, "/data/data01 lies below");
  check_refused(with([](AddVolume& v) { v.number = 0; }), Code::invalid_argument, "1 to 1048575");
  check_refused(with([](AddVolume& v) { v.number = 1 << 20; }), Code::invalid_argument, "1 to 1048575");
  check_refused(with([](AddVolume& v) { v.number = 1; }), Code::conflict, "given meanwhile");
  check_refused(with([](AddVolume& v) { v.parent = Id{3}; }), Code::conflict, "in another volume");
  check_refused(with([](AddVolume& v) { v.ancestors.clear(); }), Code::invalid_argument,
                "names 0 directories");
  check_refused(with([&](AddVolume& v) { v.id = mesh.root_volume; }), Code::exists, "this id");
  check_refused(with([](AddVolume& v) { v.founders.clear(); }), Code::invalid_argument, "1 to 7 owners");
  check_refused(with([](AddVolume& v) { v.founders.resize(8); }), Code::invalid_argument, "1 to 7 owners");
  check_refused(with([](AddVolume& v) { v.founders.push_back(v.founders[0]); }), Code::invalid_argument,
                "twice");
  check_refused(with([](AddVolume& v) { v.founders = {Id{4}}; }), Code::not_found, "no peer");
  check_ok(with([](AddVolume&) {}));
}

BOOST_AUTO_TEST_CASE(who_may_make_a_volume) {
  TestMesh mesh;
  Certificate certificate = mesh.server_certificate();
  certificate.rights.under = {"/own"};
  KeyPair second = mesh.admitted("second", certificate);
  certificate.rights.under.clear();
  KeyPair bare = mesh.admitted("bare", certificate);
  certificate.rights.operate = true;
  KeyPair operating = mesh.admitted("operating", certificate);
  KeyPair admin = KeyPair::generate(mesh.random);
  check_ok(mesh.change(AddAdmin{"bob", admin.public_key(), "/data"}));
  const std::vector<PeerId> on_second{peer_id_of(second.public_key())},
      on_first{peer_id_of(mesh.founder.public_key())};
  const RegisterState& state = mesh.state;
  check_ok(state.may_create_volume(second.public_key(), "/own/x", on_second));
  check_refused(state.may_create_volume(second.public_key(), "/owner", on_second), Code::unauthorized,
                "those below /own");
  check_refused(state.may_create_volume(second.public_key(), "/own/x", on_first), Code::unauthorized,
                "on itself only");
  check_refused(state.may_create_volume(bare.public_key(), "/own/x", {peer_id_of(bare.public_key())}),
                Code::unauthorized, "those below nothing");
  check_ok(state.may_create_volume(operating.public_key(), "/anywhere", on_first));
  check_ok(state.may_create_volume(admin.public_key(), "/data/x", on_first));
  check_refused(state.may_create_volume(admin.public_key(), "/dat", on_first), Code::unauthorized,
                "administrator bob may not");
  check_ok(mesh.change(mesh.charter("/own/x", second), second));
  check_refused(mesh.change(mesh.charter("/elsewhere", second), second), Code::unauthorized,
                "may not make a volume");
}

BOOST_AUTO_TEST_CASE(volumes_are_removed_by_who_may) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second"), third = mesh.admitted("third");
  AddVolume outer = mesh.charter("/outer", second);
  check_ok(mesh.change(outer, second));
  AddVolume inner = mesh.charter("/outer/inner", second);
  BOOST_CHECK(inner.parent == outer.id);
  check_ok(mesh.change(inner, second));
  check_refused(mesh.change(RemoveVolume{outer.id}, second), Code::not_empty, "/outer/inner");
  check_refused(mesh.change(RemoveVolume{inner.id}, third), Code::unauthorized, "may not remove the volume");
  check_refused(mesh.change(RemoveVolume{mesh.root_volume}), Code::not_permitted, "holds the register");
  check_refused(mesh.change(RemoveVolume{Id{1}}), Code::not_found, "no volume");
  check_ok(mesh.change(RemoveVolume{inner.id}, second));
  check_ok(mesh.change(RemoveVolume{outer.id}));
  BOOST_CHECK(mesh.state.volume_for("/outer/x")->prefix == "/");
  // Neither its number nor its id is given again; its prefix may be.
  BOOST_CHECK_EQUAL(mesh.state.free_volume_number(), 3);
  AddVolume again = mesh.charter("/outer", second);
  again.number = outer.number;
  check_refused(mesh.change(again, second), Code::conflict, "given meanwhile");
  again = mesh.charter("/outer", second);
  again.id = outer.id;
  check_refused(mesh.change(again, second), Code::exists, "this id");
  check_ok(mesh.change(mesh.charter("/outer", second), second));
}

BOOST_AUTO_TEST_CASE(owners_change_by_a_majority_of_those_before) {
  TestMesh mesh;
  KeyPair a = mesh.admitted("a"), b = mesh.admitted("b"), c = mesh.admitted("c");
  auto id = [](const KeyPair& key) { return peer_id_of(key.public_key()); };
  AddVolume charter = mesh.charter("/v", a);
  charter.founders = {id(a), id(b), id(c)};
  check_ok(mesh.change(charter));
  auto link = [&](uint64_t epoch, std::vector<PeerId> owners, std::vector<const KeyPair*> signers) {
    EpochLink made;
    made.body = encode(EpochBody{charter.id, epoch, std::move(owners)});
    for (const KeyPair* key : signers)
      made.signatures.push_back(
          {key->public_key(), sign_in_mesh(kEpochDomain, mesh.state.mesh(), made.body, *key)});
    return made;
  };
  const PeerId first = id(mesh.founder);
  auto change = [&](uint64_t epoch, std::vector<PeerId> owners, std::vector<EpochLink> links,
                    const KeyPair& who) {
    return mesh.change(SetVolumeOwners{charter.id, epoch, std::move(owners), std::move(links)}, who);
  };
  check_refused(change(1, {first}, {link(1, {first}, {&a})}, a), Code::unauthorized, "majority");
  check_refused(change(1, {first}, {link(1, {first}, {&a, &a})}, a), Code::unauthorized, "majority");
  check_refused(change(1, {first}, {link(1, {first}, {&a, &mesh.founder})}, a), Code::unauthorized,
                "majority");
  EpochLink tampered = link(1, {first}, {&a, &b});
  tampered.body = encode(EpochBody{charter.id, 1, {id(a)}});
  check_refused(change(1, {id(a)}, {tampered}, a), Code::unauthorized, "majority");
  check_refused(change(2, {first}, {link(2, {first}, {&a, &b})}, a), Code::unauthorized, "gap");
  check_refused(change(2, {first}, {link(1, {first}, {&a, &b})}, a), Code::unauthorized, "leads to epoch 1");
  check_refused(change(1, {id(a)}, {link(1, {first}, {&a, &b})}, a), Code::unauthorized, "did not agree");
  check_refused(change(1, {first}, {}, a), Code::unauthorized, "name the owners of /v");
  check_refused(change(0, {first}, {}, mesh.founder), Code::conflict, "epoch 0 already");
  // Two steps at once: a and b give it to the founder, who gives it to c.
  const std::vector<EpochLink> links{link(1, {first}, {&a, &b}), link(2, {id(c)}, {&mesh.founder})};
  check_ok(change(2, {id(c)}, links, c));
  BOOST_CHECK_EQUAL(mesh.state.volume(charter.id)->epoch, 2);
  BOOST_CHECK(mesh.state.volume(charter.id)->owners == std::vector<PeerId>{id(c)});
  // Former owners sign nothing any more.
  check_refused(change(3, {id(a)}, {link(3, {id(a)}, {&a, &b})}, a), Code::unauthorized, "majority");
  check_refused(mesh.change(RemoveVolume{charter.id}, a), Code::unauthorized, "may not remove");
  // An administrator may name new ones when the owners are gone.
  check_ok(change(5, {id(b)}, {}, mesh.founder));
}

BOOST_AUTO_TEST_CASE(a_root_key_names_new_owners_of_a_lost_root_volume) {
  TestMesh mesh;
  KeyPair second = mesh.admitted("second"), third = mesh.admitted("third");
  const PeerId id = peer_id_of(second.public_key());
  const Bytes proposal =
      make_proposal(mesh.state.mesh(), mesh.state.version(), SetVolumeOwners{mesh.root_volume, 1, {id}, {}},
                    mesh.root, mesh.random);
  check_refused(make_entry(mesh.state, proposal, third, mesh.now), Code::unauthorized,
                "does not own the root volume");
  auto entry = make_entry(mesh.state, proposal, second, mesh.now);
  check_ok(entry);
  mesh.take(*entry);
  BOOST_CHECK(mesh.state.may_order(second.public_key()));
  BOOST_CHECK(!mesh.state.may_order(mesh.founder.public_key()));
}

BOOST_AUTO_TEST_CASE(changes_are_described_for_people) {
  TestMesh mesh;
  mesh.admitted("second");
  auto entry = read_entry(mesh.entries.back());
  check_ok(entry);
  const std::string text = describe(entry->proposal.change);
  BOOST_CHECK_MESSAGE(
      text.starts_with("admit peer second (") && text.ends_with("as server, uids all, under /"), text);
  BOOST_CHECK(entry->proposer == mesh.founder.public_key());
  BOOST_CHECK_EQUAL(describe(SetGrant{"@staff", Right::read_write, "/x"}), "grant @staff rw on /x");
  BOOST_CHECK_EQUAL(describe(ChangeUserGroups{"a", {"b"}, {"c"}}), "groups of user a: +b -c");
}

// Start-up replays everything: 100,000 entries have to take well under 2 s in a release build.
BOOST_AUTO_TEST_CASE(many_entries_replay_quickly) {
  const uint32_t count = std::getenv("EFS_LONG") != nullptr ? 100'000 : 3'000;
  TestMesh mesh;
  for (uint32_t i = 0; i < count; ++i) {
    auto user = user_named(numbered("u", i), 100'000 + i);
    user.home = "/home/" + user.name;
    auto entry = make_own_entry(mesh.state, user, mesh.founder, mesh.now, mesh.random);
    check_ok(entry);
    check_ok(mesh.state.apply(*entry, RegisterState::Source::stored));
    mesh.entries.push_back(std::move(*entry));
  }
  const auto start = std::chrono::steady_clock::now();
  RegisterState copy;
  for (const Bytes& entry : mesh.entries) BOOST_REQUIRE(copy.apply(entry, RegisterState::Source::stored));
  const auto took = std::chrono::steady_clock::now() - start;
  BOOST_TEST_MESSAGE(count << " entries in "
                           << std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms");
  BOOST_CHECK(copy.head() == mesh.state.head());
}

}  // namespace
}  // namespace efs
