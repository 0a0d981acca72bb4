// Which congestion control a socket is given. That connections have it: real_stream_test.cc.
#include "peer/runtime/congestion.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/test/unit_test.hpp>
#include <cstring>

#include "peer/base/descriptor.h"

namespace efs {
namespace {

std::string control(int fd) {
  char name[16] = {};
  socklen_t length = sizeof name;
  return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0 ? name : "none";
}
bool set(int fd, const char* name) {
  return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, socklen_t(std::strlen(name))) == 0;
}
Descriptor tcp_socket() {
  Descriptor made(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  BOOST_REQUIRE(made.valid());
  return made;
}

// Over 127.0.0.1.
struct Connection {
  Descriptor listener = tcp_socket(), client = tcp_socket(), server;
  static Descriptor accept_one(int listener, int client) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    auto* address = reinterpret_cast<sockaddr*>(&at);
    BOOST_REQUIRE(bind(listener, address, length) == 0);
    BOOST_REQUIRE(listen(listener, 1) == 0);
    BOOST_REQUIRE(getsockname(listener, address, &length) == 0);
    BOOST_REQUIRE(connect(client, address, length) == 0);
    return Descriptor(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  }
  Connection() : server(accept_one(listener.get(), client.get())) { BOOST_REQUIRE(server.valid()); }
};

BOOST_AUTO_TEST_SUITE(congestion)

BOOST_AUTO_TEST_CASE(bbr_gives_way_and_nothing_else_does) {
  const Descriptor one = tcp_socket();
  if (set(one.get(), "bbr")) {
    begin_unpaced(one.get());
    BOOST_TEST((control(one.get()) == "cubic" || control(one.get()) == "reno"));
  }
  BOOST_REQUIRE(set(one.get(), "reno"));
  begin_unpaced(one.get());
  BOOST_TEST(control(one.get()) == "reno");
}

BOOST_AUTO_TEST_CASE(who_is_far_gets_the_systems_own) {
  const std::string own = control(tcp_socket().get());
  const Connection connection;
  BOOST_REQUIRE(set(connection.client.get(), "reno"));
  pace_if_far(connection.client.get(), 1'000'000);
  BOOST_TEST(control(connection.client.get()) == "reno");
  pace_if_far(connection.client.get(), 0);
  BOOST_TEST(control(connection.client.get()) == own);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
