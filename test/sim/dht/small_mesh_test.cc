// What it shows: up to k peers everybody holds every record; a peer that joins is handed what is there; a
// removal reaches everybody and an older version does not come back from a peer that was away; a record
// that nobody renews is gone when it expires; a peer that lost all contacts finds the mesh again.
#include <boost/test/unit_test.hpp>

#include "test/sim/dht/mesh.h"

namespace efs::dht {
namespace {

struct Small {
  Mesh mesh;
  explicit Small(size_t peers, uint64_t seed = 8) : mesh(seed) {
    for (size_t i = 0; i < peers; ++i) join();
    mesh.run_for(5 * kMinute);
  }
  Mesh::Host& join() {
    std::vector<Contact> seeds;
    if (!mesh.hosts().empty()) seeds.push_back(mesh.hosts()[0]->contact);
    auto& host = mesh.add();
    mesh.start(host, seeds);
    mesh.run_for(kSecond);
    return host;
  }
  size_t holders(const Id& key, uint64_t version, bool removed = false) {
    size_t count = 0;
    for (auto& host : mesh.hosts()) {
      if (!host->node) continue;
      auto record = host->node->holdings().get(key, mesh.instant(*host));
      count += record && record->version == version && record->removed == removed;
    }
    return count;
  }
  PutResult put(Mesh::Host& host, const Record& record) {
    std::optional<PutResult> result;
    mesh.with(host, [&](Node& node, Instant now) {
      node.put(
          record, [&](const PutResult& got) { result = got; }, now);
    });
    mesh.run_for(20 * kSecond);
    BOOST_REQUIRE(result.has_value());
    return *result;
  }
  LookupResult lookup(Mesh::Host& host, const Id& key, bool fresh = false) {
    std::optional<LookupResult> result;
    mesh.with(host, [&](Node& node, Instant now) {
      node.lookup(
          key, {.fresh = fresh}, [&](const LookupResult& got) { result = got; }, now);
    });
    mesh.run_for(30 * kSecond);
    BOOST_REQUIRE(result.has_value());
    return *result;
  }
};

BOOST_AUTO_TEST_CASE(everybody_holds_everything_up_to_k) {
  Small small(15);
  auto& mesh = small.mesh;
  mesh.loss = 0;
  for (auto& host : mesh.hosts()) {
    mesh.publish(*host);
    BOOST_TEST(host->node->mesh_size() == 15u);
  }
  mesh.run_for(kMinute);
  for (auto& host : mesh.hosts()) BOOST_TEST(small.holders(key_of(host->contact.id), 1) == 15u);

  auto& late = small.join();
  mesh.run_for(kMinute);
  BOOST_TEST(late.node->holdings().size() == 15u);
}

BOOST_AUTO_TEST_CASE(a_single_peer_is_a_mesh) {
  Small small(1);
  auto& host = *small.mesh.hosts()[0];
  const auto record = sign(host.contact.id, 1, small.mesh.wall_ns() + kHour);
  BOOST_TEST(bool(small.put(host, record).status));
  BOOST_TEST((*small.lookup(host, record.key).record == record));
  const auto missing = small.lookup(host, key_of(record.key));
  BOOST_REQUIRE(!missing.record);
  BOOST_TEST(bool(missing.record.error().code == Code::not_found));
}

BOOST_AUTO_TEST_CASE(removals_reach_those_who_were_away) {
  Small small(8);
  auto& mesh = small.mesh;
  auto& publisher = *mesh.hosts()[2];
  auto& away = *mesh.hosts()[5];
  const int64_t expires = mesh.wall_ns() + 20 * kHour;
  const Id key = key_of(publisher.contact.id);
  BOOST_TEST(bool(small.put(publisher, sign(publisher.contact.id, 1, expires)).status));
  mesh.run_for(30 * kMinute);
  BOOST_TEST(small.holders(key, 1) == 8u);

  mesh.stop(away);
  BOOST_TEST(bool(small.put(publisher, sign(publisher.contact.id, 2, expires, true)).status));
  mesh.run_for(2 * kHour);
  mesh.start(away, {mesh.hosts()[0]->contact});
  mesh.run_for(kHour);
  BOOST_TEST(small.holders(key, 2, true) == 8u);
  for (auto& host : mesh.hosts()) {
    for (bool fresh : {false, true}) {
      const auto result = small.lookup(*host, key, fresh);
      BOOST_REQUIRE(!result.record);
      BOOST_TEST(bool(result.record.error().code == Code::not_found));
    }
  }
  // An older version is refused everywhere, and its publisher learns of it.
  const auto again = small.put(publisher, sign(publisher.contact.id, 1, expires));
  BOOST_REQUIRE(!again.status);
  BOOST_TEST(bool(again.status.error().code == Code::conflict));
}

BOOST_AUTO_TEST_CASE(what_nobody_renews_expires) {
  Small small(30);
  auto& mesh = small.mesh;
  auto& publisher = *mesh.hosts()[2];
  const Id key = key_of(publisher.contact.id);
  BOOST_TEST(bool(small.put(publisher, sign(publisher.contact.id, 1, mesh.wall_ns() + 3 * kHour)).status));
  mesh.stop(publisher);
  mesh.run_for(2 * kHour);
  BOOST_TEST(bool(small.lookup(*mesh.hosts()[9], key, true).record));  // without its publisher
  mesh.run_for(2 * kHour);
  BOOST_TEST(!small.lookup(*mesh.hosts()[9], key, true).record);
  BOOST_TEST(small.holders(key, 1) == 0u);
  for (auto& host : mesh.hosts()) {
    if (host->node) BOOST_TEST(host->node->holdings().size() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_peer_that_lost_everybody_comes_back) {
  Small small(12);
  auto& mesh = small.mesh;
  for (auto& host : mesh.hosts()) mesh.publish(*host);
  mesh.run_for(10 * kMinute);
  auto& lonely = *mesh.hosts()[4];
  lonely.group = 1;
  mesh.run_for(6 * kHour);
  BOOST_TEST(lonely.node->known() == 0u);
  for (auto& host : mesh.hosts()) {
    if (host.get() != &lonely) BOOST_TEST(host->node->known() == 10u);
  }
  lonely.group = 0;
  mesh.run_for(5 * kMinute);
  BOOST_TEST(lonely.node->known() == 11u);
  BOOST_TEST(bool(small.lookup(lonely, key_of(mesh.hosts()[7]->contact.id), true).record));
}

}  // namespace
}  // namespace efs::dht
