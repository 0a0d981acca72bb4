// Records: who may publish what, and every way in which one is refused.
#include "peer/identity/record.h"

#include <boost/test/unit_test.hpp>

#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

PeerId id(const KeyPair& key) {
  return peer_id_of(key.public_key());
}

struct Records : TestMesh {
  LocatorRecord record(RecordBody body, uint64_t version = 1) const {
    LocatorRecord made;
    made.version = version;
    made.made_ns = now;
    made.expires_ns = now + kHour;
    made.body = std::move(body);
    return made;
  }
  OwnerRecord owners(const std::string& prefix) const {
    const VolumeFacts* volume = state.volume_at(prefix);
    OwnerRecord body;
    body.prefix = prefix;
    body.volume = volume->id;
    body.epoch = volume->epoch;
    body.owners = volume->owners;
    body.leader = volume->owners[0];
    body.addresses = {"10.0.0.2:7400"};
    return body;
  }
  Result<CheckedRecord> check(const LocatorRecord& made, const KeyPair& signer) const {
    return check_record(key_of(made.body), sign_record(state.mesh(), made, signer), state, now);
  }
  EpochLink link(const Id& volume, uint64_t epoch, std::vector<PeerId> next, const KeyPair& signer) const {
    EpochLink made;
    made.body = make_epoch_body(volume, epoch, std::move(next));
    made.signatures.push_back(sign_epoch(state.mesh(), made.body, signer));
    return made;
  }
  KeyPair second = admitted("second"), third = admitted("third");
};

BOOST_AUTO_TEST_CASE(owners_publish_where_a_prefix_is) {
  Records mesh;
  check_ok(mesh.change(mesh.charter("/v", mesh.second), mesh.second));
  auto good = mesh.record(mesh.owners("/v"));
  auto checked = mesh.check(good, mesh.second);
  check_ok(checked);
  BOOST_CHECK(checked->publisher == id(mesh.second));
  BOOST_CHECK(std::get<OwnerRecord>(checked->record.body) == std::get<OwnerRecord>(good.body));
  check_refused(mesh.check(good, mesh.third), Code::unauthorized, "peer third, which does not own /v");
  check_refused(mesh.check(good, KeyPair::generate(mesh.random)), Code::unauthorized, "the unknown key");
  auto body = mesh.owners("/v");
  body.owners = {id(mesh.third)};
  check_refused(mesh.check(mesh.record(body), mesh.third), Code::unauthorized, "names other owners");
  body = mesh.owners("/v");
  body.volume = mesh.root_volume;
  check_refused(mesh.check(mesh.record(body), mesh.second), Code::not_found, "does not know");
  body = mesh.owners("/v");
  body.prefix = "/vv";
  check_refused(mesh.check(mesh.record(body), mesh.second), Code::not_found, "does not know");
  check_ok(mesh.change(RemoveVolume{mesh.owners("/v").volume}, mesh.second));
  check_refused(mesh.check(good, mesh.second), Code::not_found, "does not know");
}

BOOST_AUTO_TEST_CASE(a_former_owner_publishes_nothing) {
  Records mesh;
  check_ok(mesh.change(mesh.charter("/v", mesh.second), mesh.second));
  const OwnerRecord before = mesh.owners("/v");
  OwnerRecord after = before;
  after.epoch = 1;
  after.owners = {id(mesh.third)};
  after.links = {mesh.link(before.volume, 1, after.owners, mesh.second)};
  const auto moved = mesh.record(after, owner_version(1, 1));
  check_ok(mesh.check(moved, mesh.third));
  check_refused(mesh.check(moved, mesh.second), Code::unauthorized, "peer second, which does not own /v");
  // It takes the volume back: its signature stands for nothing after epoch 0.
  OwnerRecord stolen = after;
  stolen.epoch = 2;
  stolen.owners = {id(mesh.second)};
  stolen.links.push_back(mesh.link(before.volume, 2, stolen.owners, mesh.second));
  check_refused(mesh.check(mesh.record(stolen, owner_version(2, 1)), mesh.second), Code::unauthorized,
                "not signed by a majority");
  // It says the old epoch again: whoever holds the new record keeps it, whatever count is claimed.
  const Bytes held = sign_record(mesh.state.mesh(), moved, mesh.third);
  const Bytes old =
      sign_record(mesh.state.mesh(), mesh.record(before, owner_version(0, UINT32_MAX)), mesh.second);
  check_refused(check_record(prefix_key("/v"), old, mesh.state, mesh.now, held), Code::conflict, "is known");
  check_refused(mesh.check(mesh.record(before, owner_version(7, 0)), mesh.second), Code::protocol,
                "another epoch");
  // Once the register has the epoch, the old record is refused everywhere, and links may start there.
  check_ok(mesh.change(SetVolumeOwners{before.volume, 1, after.owners, after.links}, mesh.third));
  check_refused(check_record(prefix_key("/v"), old, mesh.state, mesh.now), Code::stale,
                "the register knows epoch 1");
  check_ok(mesh.check(moved, mesh.third));
  OwnerRecord fresh = mesh.owners("/v");
  BOOST_CHECK(fresh.links.empty());
  check_ok(mesh.check(mesh.record(fresh, owner_version(1, 2)), mesh.third));
}

BOOST_AUTO_TEST_CASE(revoked_peers_publish_nothing) {
  Records mesh;
  PeerRecord body;
  body.id = id(mesh.second);
  check_ok(mesh.check(mesh.record(body), mesh.second));
  check_refused(mesh.check(mesh.record(body), mesh.third), Code::unauthorized, "is signed by peer third");
  check_ok(mesh.change(mesh.charter("/v", mesh.second), mesh.second));
  const auto owners = mesh.record(mesh.owners("/v"));
  check_ok(mesh.change(RevokePeer{id(mesh.second)}));
  check_refused(mesh.check(mesh.record(body), mesh.second), Code::unauthorized, "revoked peer second");
  check_refused(mesh.check(owners, mesh.second), Code::unauthorized, "revoked peer second");
  body.id = Id{1};
  check_refused(mesh.check(mesh.record(body), mesh.third), Code::not_found, "does not know");
}

BOOST_AUTO_TEST_CASE(users_are_published_by_the_owners_of_their_home) {
  Records mesh;
  check_ok(mesh.change(mesh.charter("/home", mesh.second), mesh.second));
  AddUser alice;
  alice.name = "alice";
  alice.uid = alice.gid = 1000;
  alice.home = "/home/alice";
  check_ok(mesh.change(alice));
  UserRecord body;
  body.name = "alice";
  body.home = "/home/alice";
  body.owners = {id(mesh.second)};
  body.entry = mesh.state.user("alice")->entry;
  check_ok(mesh.check(mesh.record(body), mesh.second));
  check_refused(mesh.check(mesh.record(body), mesh.founder), Code::unauthorized, "which does not own /home");
  UserRecord bad = body;
  bad.entry = Id{1};
  check_refused(mesh.check(mesh.record(bad), mesh.second), Code::stale, "not what the register says");
  bad = body;
  bad.home = "/home/eve";
  check_refused(mesh.check(mesh.record(bad), mesh.second), Code::stale, "not what the register says");
  bad = body;
  bad.name = "eve";
  check_refused(mesh.check(mesh.record(bad), mesh.second), Code::not_found, "does not know");
  check_ok(mesh.change(SetUserKeys{"alice", {mesh.third.public_key()}}));
  check_refused(mesh.check(mesh.record(body), mesh.second), Code::stale, "not what the register says");
}

BOOST_AUTO_TEST_CASE(records_are_bound_to_mesh_key_bytes_and_time) {
  Records mesh;
  PeerRecord body;
  body.id = id(mesh.second);
  body.addresses = {"10.0.0.2:7400"};
  const auto good = mesh.record(body);
  const Id key = peer_key(body.id);
  const Bytes bytes = sign_record(mesh.state.mesh(), good, mesh.second);
  check_ok(check_record(key, bytes, mesh.state, mesh.now));
  check_refused(check_record(peer_key(id(mesh.third)), bytes, mesh.state, mesh.now), Code::protocol,
                "foreign key");
  check_refused(check_record(key, sign_record(Id{1}, good, mesh.second), mesh.state, mesh.now),
                Code::unauthorized, "forged");
  for (size_t bit = 0; bit < bytes.size() * 8; bit += 3) {
    Bytes bad = bytes;
    bad[bit / 8] ^= uint8_t(1 << bit % 8);
    BOOST_CHECK(!check_record(key, bad, mesh.state, mesh.now));
  }
  Envelope bare;
  bare.body = encode(good);
  bare.signer = mesh.second.public_key();
  check_refused(check_record(key, encode(bare), mesh.state, mesh.now), Code::unauthorized, "forged");

  check_refused(check_record(key, bytes, mesh.state, mesh.now + 2 * kHour), Code::expired, "ended at");
  check_refused(check_record(key, bytes, mesh.state, good.expires_ns), Code::expired, "ended at");
  check_refused(check_record(key, bytes, mesh.state, mesh.now - kHour), Code::expired, "has not come yet");
  auto late = good;
  late.expires_ns = late.made_ns + kMaxRecordLifeNs + 1;
  check_refused(mesh.check(late, mesh.second), Code::expired, "impossible life");
  late.made_ns = INT64_MIN;
  late.expires_ns = INT64_MAX;
  check_refused(mesh.check(late, mesh.second), Code::expired, "impossible life");
}

BOOST_AUTO_TEST_CASE(a_higher_version_supersedes) {
  Records mesh;
  PeerRecord body;
  body.id = id(mesh.second);
  const Id key = peer_key(body.id);
  auto signed_at = [&](uint64_t version, uint64_t used) {
    body.used_bytes = used;
    return sign_record(mesh.state.mesh(), mesh.record(body, version), mesh.second);
  };
  const Bytes held = signed_at(5, 1);
  check_refused(check_record(key, signed_at(4, 1), mesh.state, mesh.now, held), Code::conflict,
                "version 5 is known");
  check_refused(check_record(key, signed_at(5, 2), mesh.state, mesh.now, held), Code::conflict,
                "version 5 is known");
  check_ok(check_record(key, held, mesh.state, mesh.now, held));
  check_ok(check_record(key, signed_at(6, 2), mesh.state, mesh.now, held));
  check_ok(check_record(key, signed_at(1, 2), mesh.state, mesh.now, Bytes{1, 2}));  // what is held is damaged
}

BOOST_AUTO_TEST_CASE(records_are_bounded) {
  Records mesh;
  PeerRecord body;
  body.id = id(mesh.second);
  body.stores.resize(kMaxStores);
  for (auto& store : body.stores) store.directory = std::string(300, 'x');
  check_refused(mesh.check(mesh.record(body), mesh.second), Code::too_large, "over the limit");
  body.stores.assign(kMaxStores + 1, {});
  check_refused(mesh.check(mesh.record(body), mesh.second), Code::protocol, "too many stores");
  body.stores.clear();
  body.addresses.assign(kMaxAddresses + 1, "a:1");
  check_refused(mesh.check(mesh.record(body), mesh.second), Code::protocol, "more than 16 addresses");
  check_ok(mesh.change(mesh.charter("/v", mesh.second), mesh.second));
  auto owners = mesh.owners("/v");
  owners.links.resize(kMaxEpochLinks + 1);
  check_refused(mesh.check(mesh.record(owners), mesh.second), Code::too_large, "history");
  owners = mesh.owners("/v");
  owners.prefix = "v";
  check_refused(mesh.check(mesh.record(owners), mesh.second), Code::protocol, "impossible content");
  owners.prefix = "/v";
  owners.owners.clear();
  check_refused(mesh.check(mesh.record(owners), mesh.second), Code::protocol, "impossible content");
  auto newer = mesh.record(body);
  newer.format = 2;
  check_refused(mesh.check(newer, mesh.second), Code::version, "install a newer efs");
}

}  // namespace
}  // namespace efs
