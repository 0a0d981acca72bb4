// What a peer is told: every setting reads back as it was written, and what is wrong is said with its place.
#include "peer/options.h"

#include <boost/test/unit_test.hpp>

#include "test/why.h"

namespace efs {
namespace {

void check_refused(const std::string& yaml, std::string_view words) {
  PeerOptions options;
  const Status read = read_options(yaml, "efs.yaml", options);
  BOOST_REQUIRE_MESSAGE(!read, "was not refused: " << yaml);
  BOOST_CHECK_MESSAGE(read.error().message.find(words) != std::string::npos, read.error().message);
}

BOOST_AUTO_TEST_CASE(every_setting_reads_back) {
  PeerOptions told;
  told.data = "/d";
  told.name = "one: two #3";
  told.stores = {{"/disk1", 5 << 20}, {"/disk 2", 0}};
  told.listen = {{"::", 7401}, {"10.0.0.1", 7402}};
  told.advertise = {{"first.example", 7400}};
  told.mount = "/efs";
  told.mount_read_only = true;
  told.socket = "/run/x.sock";
  told.own = {"/a", "/b/c d"};
  told.log_level = LogLevel::warning;
  told.unreachable_timeout_s = 0;
  told.vfs_threads = 16;
  told.awake_us = 0;
  PeerOptions read;
  const Status status = read_options(write_options(told), "efs.yaml", read);
  BOOST_REQUIRE_MESSAGE(status, test::why(status));
  BOOST_CHECK_EQUAL(read.name, told.name);
  BOOST_REQUIRE_EQUAL(read.stores.size(), 2);
  BOOST_CHECK_EQUAL(read.stores[0].directory, "/disk1");
  BOOST_CHECK_EQUAL(read.stores[0].limit_bytes, 5 << 20);
  BOOST_CHECK_EQUAL(read.stores[1].directory, "/disk 2");
  BOOST_CHECK_EQUAL(read.stores[1].limit_bytes, 0);
  BOOST_CHECK(read.listen == told.listen);
  BOOST_CHECK(read.advertise == told.advertise);
  BOOST_CHECK_EQUAL(read.mount, told.mount);
  BOOST_CHECK(read.mount_read_only);
  BOOST_CHECK_EQUAL(read.socket, told.socket);
  BOOST_CHECK(read.own == told.own);
  BOOST_CHECK(read.log_level == LogLevel::warning);
  BOOST_CHECK_EQUAL(read.unreachable_timeout_s, 0);
  BOOST_CHECK_EQUAL(read.vfs_threads, 16);
  BOOST_CHECK_EQUAL(read.awake_us, 0);
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_said_with_its_place) {
  check_refused("a: [", "efs.yaml");
  check_refused("- x", "a map of settings is wanted");
  check_refused("name: x\nstores: /d", "efs.yaml:2: stores: unknown setting");
  check_refused("vfs:\n  threads: 17", "efs.yaml:2: vfs.threads: a number from 1 to 16");
  check_refused("vfs:\n  threads: many", "a whole number is wanted");
  check_refused("store: relative", "give an absolute path");
  check_refused("store: /d:huge", "'huge' is not a size");
  check_refused("store: {a: b}", "efs.yaml:1: store: a value or a list");
  check_refused("listen: 'host:port'", "efs.yaml:1: listen");
  check_refused("log_level: loud", "one of trace");
  check_refused("mount_read_only: perhaps", "true or false");
  check_refused("name: [a, b]", "a single value is wanted");
}

BOOST_AUTO_TEST_CASE(what_is_not_said_keeps_its_value) {
  PeerOptions options;
  options.mount = "/kept";
  BOOST_REQUIRE(read_options("", "f", options));
  BOOST_REQUIRE(read_options("mount:\nname: n", "f", options));
  BOOST_CHECK_EQUAL(options.mount, "/kept");
  BOOST_CHECK_EQUAL(options.name, "n");
}

BOOST_AUTO_TEST_CASE(defaults_are_filled_in_and_contradictions_refused) {
  PeerOptions options;
  options.data = "/d//";
  BOOST_REQUIRE(complete_options(options));
  BOOST_CHECK_EQUAL(options.data, "/d");
  BOOST_CHECK(!options.name.empty());
  BOOST_REQUIRE_EQUAL(options.stores.size(), 1);
  BOOST_CHECK_EQUAL(options.stores[0].directory, "/d/chunks");
  BOOST_CHECK_EQUAL(options.listen.at(0).port, kDefaultPort);
  options.mount = "here";
  BOOST_CHECK(!complete_options(options));
  options.mount.clear();
  options.data = "there";
  BOOST_CHECK(!complete_options(options));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_written_is_refused) {
  for (const std::string text : {"/p\xe9re #", "/\xff\t"}) {
    PeerOptions mount, name, store;
    mount.mount = text;
    name.name = text;
    store.stores = {{text, 0}};
    for (PeerOptions* one : {&mount, &name, &store}) {
      const Status status = complete_options(*one);
      BOOST_REQUIRE(!status);
      BOOST_CHECK_MESSAGE(status.error().message.find("UTF-8") != std::string::npos, status.error().message);
    }
  }
  PeerOptions options;
  options.mount = "/p\xc3\xa8re \t#\"'\\: \n";
  BOOST_CHECK(complete_options(options));
}

}  // namespace
}  // namespace efs
