// Addresses as people write them.
#include <boost/test/unit_test.hpp>

#include "peer/runtime/stream.h"

namespace efs {
namespace {

BOOST_AUTO_TEST_CASE(address_forms) {
  struct Row {
    const char *text, *host;
    int port;
    const char* again;
  };
  for (const Row& row :
       {Row{"10.0.0.5:7400", "10.0.0.5", 7400, "10.0.0.5:7400"},
        Row{"10.0.0.5", "10.0.0.5", 99, "10.0.0.5:99"}, Row{"[::1]:7400", "::1", 7400, "[::1]:7400"},
        Row{"[::]", "::", 99, "[::]:99"}, Row{"[fe80::1%eth0]:1", "fe80::1%eth0", 1, "[fe80::1%eth0]:1"},
        Row{"node-1.example.org:0", "node-1.example.org", 0, "node-1.example.org:0"}}) {
    auto address = Address::parse(row.text, 99);
    BOOST_REQUIRE_MESSAGE(address, row.text);
    BOOST_CHECK_EQUAL(address->host, row.host);
    BOOST_CHECK_EQUAL(address->port, row.port);
    BOOST_CHECK(!address->is_unix);
    BOOST_CHECK_EQUAL(address->to_text(), row.again);
  }
  auto local = Address::parse("unix:/run/efs/peer.sock");
  BOOST_REQUIRE(local);
  BOOST_CHECK(local->is_unix);
  BOOST_CHECK_EQUAL(local->host, "/run/efs/peer.sock");
  BOOST_CHECK_EQUAL(local->to_text(), "unix:/run/efs/peer.sock");
}

BOOST_AUTO_TEST_CASE(address_refusals) {
  for (std::string text : {"", ":7400", "::1", "::1:7400", "[::1", "[::1]7400", "[a]:1", "a:", "a:b",
                           "a:65536", "a:-1", "a:1 ", "a b:1", "a/b", "unix:", "unix:relative"}) {
    auto address = Address::parse(text);
    BOOST_REQUIRE_MESSAGE(!address, text);
    BOOST_CHECK(address.error().code == Code::invalid_argument);
    BOOST_CHECK(address.error().message.find("is not an address: ") != std::string::npos);
  }
  BOOST_CHECK(!Address::parse("unix:/" + std::string(107, 'x')));
  BOOST_CHECK(Address::parse("unix:/" + std::string(106, 'x')));
  BOOST_CHECK(!Address::parse(std::string(254, 'x')));
}

}  // namespace
}  // namespace efs
