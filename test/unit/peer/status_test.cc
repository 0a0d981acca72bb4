// The JSON of `efs status`: its shape is a promise to scripts, and no peer's words break it.
#include "peer/status.h"

#include <nlohmann/json.hpp>

#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

using Json = nlohmann::json;

struct Fixture {
  Fixture() {
    mesh.admitted("second");
    for (const PeerFacts* facts : mesh.state.peers()) {
      PeerView peer;
      peer.facts = *facts;
      peer.address = "10.0.0.1:7400";
      peer.self = facts->name == "first";
      PeerStatus status;
      status.version = EFS_VERSION;
      status.capacity_bytes = 1000;
      status.used_bytes = 10;
      status.available_bytes = 900;
      peer.status = status;
      peer.rtt_ns = 1'234'567;
      peer.wall_offset_ns = -3'000'000;
      view.peers.push_back(peer);
    }
    view.volumes[mesh.root_volume] = {mesh.root_volume, 10, 3, "ok"};
  }
  Json json(const std::vector<std::string>& reasons = {}) {
    return Json::parse(status_json(view, mesh.state, reasons));
  }
  PeerView& peer(const std::string& name) {
    for (auto& one : view.peers) {
      if (one.facts.name == name) return one;
    }
    BOOST_FAIL("no peer " << name);
    return view.peers.front();
  }
  TestMesh mesh;
  MeshView view;
};

BOOST_FIXTURE_TEST_CASE(all_is_well, Fixture) {
  const Json out = json();
  BOOST_CHECK_EQUAL(out.at("health"), "HEALTH_OK");
  BOOST_CHECK(out.at("reasons").empty());
  BOOST_REQUIRE_EQUAL(out.at("peers").size(), 2);
  for (const auto& row : out.at("peers")) {
    for (const char* key : {"id", "name", "address", "state", "version"})
      BOOST_CHECK(row.at(key).is_string());
    BOOST_CHECK_EQUAL(row.at("state"), "up");
    BOOST_CHECK_EQUAL(row.at("used_bytes"), 10);
    BOOST_CHECK_EQUAL(row.at("capacity_bytes"), 1000);
    BOOST_CHECK_CLOSE(row.at("rtt_ms").get<double>(), 1.23, 0.1);
    BOOST_CHECK_CLOSE(row.at("clock_offset_ms").get<double>(), -3, 0.1);
  }
  const Json volume = out.at("volumes").at(0);
  BOOST_CHECK_EQUAL(volume.at("prefix"), "/");
  BOOST_CHECK_EQUAL(volume.at("id"), to_hex(mesh.root_volume));
  BOOST_CHECK_EQUAL(volume.at("owners").at(0), volume.at("leader"));
  BOOST_CHECK_EQUAL(volume.at("state"), "ok");
  BOOST_CHECK_EQUAL(volume.at("files"), 3);
}

BOOST_FIXTURE_TEST_CASE(a_peer_that_is_down_is_a_warning, Fixture) {
  peer("second").status.reset();
  peer("second").rtt_ns.reset();
  peer("second").why = "no answer";
  const Json out = json({"a reason of this machine"});
  BOOST_CHECK_EQUAL(out.at("health"), "HEALTH_WARN");
  BOOST_CHECK_EQUAL(out.at("reasons").size(), 2);
  for (const auto& row : out.at("peers")) {
    if (row.at("name") != "second") continue;
    BOOST_CHECK_EQUAL(row.at("state"), "down");
    BOOST_CHECK(row.at("rtt_ms").is_null());
    BOOST_CHECK_EQUAL(row.at("capacity_bytes"), 0);
  }
}

BOOST_FIXTURE_TEST_CASE(a_volume_or_store_that_is_gone_is_an_error, Fixture) {
  view.volumes.clear();
  BOOST_CHECK_EQUAL(json().at("health"), "HEALTH_ERR");
  BOOST_CHECK_EQUAL(json().at("volumes").at(0).at("state"), "unreachable");
  view.volumes[mesh.root_volume] = {mesh.root_volume, 10, 3, "ok"};
  peer("second").status->stores.push_back({"/disk1", 0, 0, 0, true});
  BOOST_CHECK_EQUAL(json().at("health"), "HEALTH_ERR");
}

BOOST_FIXTURE_TEST_CASE(a_peer_without_room_is_a_warning, Fixture) {
  peer("second").status->available_bytes = 50;
  BOOST_CHECK_EQUAL(json().at("health"), "HEALTH_OK");
  peer("second").status->available_bytes = 49;
  BOOST_CHECK_EQUAL(json().at("health"), "HEALTH_WARN");
  BOOST_REQUIRE_EQUAL(json().at("reasons").size(), 1);
  BOOST_CHECK(
      json().at("reasons").at(0).get<std::string>().starts_with("the disks of second are nearly full"));
}

BOOST_FIXTURE_TEST_CASE(versions_and_clocks_that_differ_are_warnings, Fixture) {
  peer("second").status->version = "9.9";
  BOOST_CHECK_EQUAL(json().at("health"), "HEALTH_WARN");
  peer("second").status->version = EFS_VERSION;
  BOOST_CHECK_EQUAL(json().at("health"), "HEALTH_OK");
  peer("second").wall_offset_ns = -5 * kSecond;
  BOOST_REQUIRE_EQUAL(json().at("reasons").size(), 1);
  BOOST_CHECK(json().at("reasons").at(0).get<std::string>().find("behind") != std::string::npos);
}

// dump() throws on what is no UTF-8, and an exception on the loop ends the peer.
BOOST_FIXTURE_TEST_CASE(what_is_no_utf8_breaks_nothing, Fixture) {
  peer("second").status->version = "\xff\xfe";
  peer("second").status->stores.push_back({"/disk\xc3", 0, 0, 0, true});
  view.volumes[mesh.root_volume].state = "lost: \x80";
  const Json out = json({"\xf0"});
  BOOST_CHECK_EQUAL(out.at("health"), "HEALTH_ERR");
  BOOST_CHECK_EQUAL(out.at("reasons").size(), 4);
}

}  // namespace
}  // namespace efs
