// The data directory: one user at a time, formats, what was never completed, leaving and erasing.
#include "peer/data_directory.h"

#include <boost/test/unit_test.hpp>

#include "peer/runtime/simulated.h"
#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

struct Fixture {
  std::unique_ptr<SimulatedDisk> disk = make_simulated_disk(1);
  FileSystem& files = disk->files();
  TestMesh mesh;

  std::unique_ptr<DataDirectory> open(bool make = true) {
    auto opened = DataDirectory::open(files, "/d", make);
    BOOST_REQUIRE_MESSAGE(opened, test::why(opened));
    return std::move(*opened);
  }
  void put(const std::string& path) {
    BOOST_REQUIRE(files.make_directories(path.substr(0, path.rfind('/')), 0700));
    BOOST_REQUIRE(files.replace_file(path, view("x")));
  }
};

BOOST_FIXTURE_TEST_CASE(it_is_made_only_when_asked_to, Fixture) {
  check_refused(DataDirectory::open(files, "/d", false), Code::not_found, "efs-peer init");
  BOOST_CHECK(!files.exists("/d"));
  BOOST_CHECK(!open()->complete());
  open(false);
  BOOST_REQUIRE(files.make_directories("/other", 0700));
  check_refused(DataDirectory::open(files, "/other", false), Code::not_found, "has no file 'format'");
}

BOOST_FIXTURE_TEST_CASE(one_process_at_a_time, Fixture) {
  auto first = open();
  check_refused(DataDirectory::open(files, "/d", true), Code::busy, "another process uses");
  first.reset();
  open();
}

BOOST_FIXTURE_TEST_CASE(a_newer_format_is_refused, Fixture) {
  open();
  BOOST_REQUIRE(files.replace_file("/d/format", view("efs data 2\n")));
  check_refused(DataDirectory::open(files, "/d", true), Code::version, "upgrade efs");
}

BOOST_FIXTURE_TEST_CASE(the_peers_key_is_made_once, Fixture) {
  const PublicKey first = open()->peer_key(mesh.random)->public_key();
  BOOST_CHECK(open()->peer_key(mesh.random)->public_key() == first);
  BOOST_REQUIRE(files.replace_file("/d/peer.key", view("rubbish")));
  check_refused(open()->peer_key(mesh.random), Code::protocol, "/d/peer.key");
}

BOOST_FIXTURE_TEST_CASE(it_is_complete_with_its_genesis_and_power_loss_keeps_it, Fixture) {
  Secret secret(32);
  mesh.random.fill(secret.writable());
  BOOST_REQUIRE(open()->establish(mesh.signed_genesis, secret));
  disk->power_loss();
  auto again = open(false);
  BOOST_CHECK(again->complete());
  BOOST_CHECK(again->genesis()->body == mesh.signed_genesis.body);
  auto kept = again->mesh_secret();
  BOOST_REQUIRE(kept);
  BOOST_CHECK(to_bytes(kept->reveal()) == to_bytes(secret.reveal()));
  BOOST_REQUIRE(files.replace_file("/d/mesh.secret", view("short")));
  check_refused(again->mesh_secret(), Code::corrupt, "must have 32 bytes");
}

// Power goes at each step of establish(): afterwards it is complete and whole, or not complete.
BOOST_FIXTURE_TEST_CASE(establishing_is_all_or_nothing, Fixture) {
  int complete = 0;
  for (int64_t step = 0; step < 40; ++step) {
    auto one = make_simulated_disk(100 + uint64_t(step));
    Secret secret(32);
    {
      auto data = DataDirectory::open(one->files(), "/d", true);
      BOOST_REQUIRE(data);
      one->fail_after(step);
      (void)(*data)->establish(mesh.signed_genesis, secret);
    }
    one->power_loss();
    auto data = DataDirectory::open(one->files(), "/d", true);
    BOOST_REQUIRE_MESSAGE(data, test::why(data));
    if (!(*data)->complete()) continue;
    ++complete;
    BOOST_CHECK((*data)->mesh_secret());
    BOOST_CHECK((*data)->genesis());
  }
  BOOST_CHECK_GT(complete, 0);
  BOOST_CHECK_LT(complete, 40);
}

BOOST_FIXTURE_TEST_CASE(what_was_left_says_so_and_can_begin_again, Fixture) {
  auto data = open();
  const PublicKey key = data->peer_key(mesh.random)->public_key();
  BOOST_REQUIRE(data->establish(mesh.signed_genesis, Secret(32)));
  for (const char* path : {"/d/register/data.mdb", "/d/log/1", "/d/chunks/segments/00000001.seg"}) put(path);
  BOOST_CHECK(!data->left());
  BOOST_REQUIRE(data->mark_left("it left acme"));
  data.reset();
  disk->power_loss();
  data = open(false);
  BOOST_CHECK(!data->complete());
  BOOST_CHECK_EQUAL(data->left().value_or(""), "it left acme");
  BOOST_CHECK(files.exists("/d/register/data.mdb"));
  BOOST_REQUIRE(data->begin_again());
  BOOST_CHECK(!data->left());
  for (const char* path : {"/d/register", "/d/log", "/d/chunks", "/d/mesh.secret"})
    BOOST_CHECK(!files.exists(path));
  BOOST_CHECK(data->peer_key(mesh.random)->public_key() == key);
  BOOST_CHECK(!data->begin_again());
}

BOOST_FIXTURE_TEST_CASE(erasing_takes_what_is_ours_and_nothing_else, Fixture) {
  auto data = open();
  BOOST_REQUIRE(data->peer_key(mesh.random));
  BOOST_REQUIRE(data->establish(mesh.signed_genesis, Secret(32)));
  for (const char* path : {"/d/register/data.mdb", "/disk1/marker", "/disk1/segments/00000001.seg",
                           "/disk2/marker", "/disk2/mine.txt", "/unmounted/mine.txt"})
    put(path);
  auto kept = data->erase({"/disk1", "/disk2", "/unmounted", "/missing"});
  BOOST_REQUIRE_MESSAGE(kept, test::why(kept));
  BOOST_CHECK_EQUAL(*kept, "/disk2");
  BOOST_CHECK(!files.exists("/d"));
  BOOST_CHECK(!files.exists("/disk1"));
  BOOST_CHECK(files.exists("/disk2/mine.txt"));
  BOOST_CHECK(files.exists("/unmounted/mine.txt"));
}

}  // namespace
}  // namespace efs
