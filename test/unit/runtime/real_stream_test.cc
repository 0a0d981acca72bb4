// Real streams: over TCP on 127.0.0.1 and over Unix sockets, and what goes wrong with them.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "peer/base/hash.h"
#include "peer/runtime/real.h"
#include "test/unit/runtime/temporary_directory.h"

namespace efs {
namespace {

BOOST_AUTO_TEST_SUITE(real_streams)

constexpr int64_t kPatience = 20 * kSecond;

struct Fixture {
  RealRuntime real{RealOptions{.log_level = LogLevel::error}};
  Loop& loop = real.runtime().loop;
  Network& network = real.runtime().network;
  Timer too_late{loop};
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> server, client;
  Network::Pending pending;

  Fixture() {
    too_late.start(kPatience, [this] {
      BOOST_ERROR("nothing happened for too long");
      real.stop();
    });
  }

  static Address tcp() { return *Address::parse("127.0.0.1:0"); }

  // Both ends of one connection.
  void join(const Address& address) {
    auto listening = network.listen(address, [&](std::unique_ptr<Stream> stream) {
      server = std::move(stream);
      if (client) real.stop();
    });
    BOOST_REQUIRE_EQUAL(listening ? "" : to_text(listening.error()), "");
    listener = std::move(*listening);
    bool inside = true;
    pending = network.connect(listener->address(), kPatience, [&](Result<std::unique_ptr<Stream>> result) {
      BOOST_CHECK(!inside);
      BOOST_CHECK(result);
      if (result) client = std::move(*result);
      if (server || !client) real.stop();
    });
    inside = false;
    real.run();
    BOOST_REQUIRE(server && client);
  }

  Error connect_error(const Address& address, int64_t timeout_ns = kPatience) {
    Error error;
    pending = network.connect(address, timeout_ns, [&](Result<std::unique_ptr<Stream>> result) {
      BOOST_CHECK(!result);
      if (!result) error = result.error();
      real.stop();
    });
    real.run();
    return error;
  }
};

// Sends numbered megabytes while reading what comes, with bounded queues, then says so.
struct Pump {
  static constexpr size_t kPiece = 100'000, kPieces = 400;
  Stream& stream;
  std::function<void()> on_done;
  size_t written = 0, sent = 0, received = 0;
  uint32_t crc_out = 0, crc_in = 0;

  void start() {
    stream.start([this](ByteView data) { take(data); },
                 [](Error error) { BOOST_ERROR("closed: " + to_text(error)); });
    while (written < 8) write_one();
  }
  void write_one() {
    std::vector<Bytes> pieces = {Bytes(kPiece / 2, uint8_t(written)), Bytes(),
                                 Bytes(kPiece / 2, uint8_t(~written))};
    for (auto& piece : pieces) crc_out = crc32c(piece, crc_out);
    ++written;
    stream.write(std::move(pieces), [this] {
      ++sent;
      if (written < kPieces) write_one();
      check_done();
    });
    BOOST_CHECK(stream.queued_bytes() <= 9 * kPiece);
  }
  void take(ByteView data) {
    received += data.size();
    crc_in = crc32c(data, crc_in);
    check_done();
  }
  void check_done() {
    if (sent == kPieces && received == kPieces * kPiece) on_done();
  }
};

void pump_both_ways(Fixture& f) {
  int done = 0;
  auto one_done = [&] {
    if (++done == 2) f.real.stop();
  };
  Pump left{*f.client, one_done}, right{*f.server, one_done};
  f.loop.post([&] {
    left.start();
    right.start();
  });
  f.real.run();
  BOOST_CHECK_EQUAL(left.received, Pump::kPieces * Pump::kPiece);
  BOOST_CHECK_EQUAL(left.crc_in, right.crc_out);
  BOOST_CHECK_EQUAL(right.crc_in, left.crc_out);
  BOOST_CHECK_EQUAL(f.client->queued_bytes(), 0u);
}

BOOST_FIXTURE_TEST_CASE(tcp_both_ways, Fixture) {
  join(tcp());
  BOOST_CHECK(client->remote() == listener->address());
  BOOST_CHECK(client->remote() == server->local());
  BOOST_CHECK(client->local() == server->remote());
  BOOST_CHECK(!server->unix_peer());
  pump_both_ways(*this);
}

BOOST_FIXTURE_TEST_CASE(unix_both_ways_with_credentials, Fixture) {
  TemporaryDirectory directory;
  Address address = *Address::parse("unix:" + directory / "socket");
  join(address);
  BOOST_CHECK(client->remote() == address);
  BOOST_CHECK(server->local() == address);
  auto who = server->unix_peer();
  BOOST_REQUIRE(who);
  BOOST_CHECK_EQUAL(who->uid, getuid());
  BOOST_CHECK_EQUAL(who->gid, getgid());
  BOOST_CHECK_EQUAL(who->pid, getpid());
  pump_both_ways(*this);
}

BOOST_FIXTURE_TEST_CASE(what_was_sent_before_the_end_arrives, Fixture) {
  join(tcp());
  Bytes got;
  int closes = 0;
  client->start([](ByteView) {}, [](Error) {});
  server->start([&](ByteView data) { append(got, data); },
                [&](Error error) {
                  ++closes;
                  BOOST_CHECK(error.code == Code::closed);
                  BOOST_CHECK_EQUAL(got.size(), 1'000'000u);
                  server->write({Bytes(10)}, [] { BOOST_ERROR("sent on a closed stream"); });
                  BOOST_CHECK_EQUAL(server->queued_bytes(), 0u);
                  loop.after(5 * kMillisecond, [&] { real.stop(); });
                });
  client->write({Bytes(1'000'000, 7)}, [&] { client.reset(); });
  real.run();
  BOOST_CHECK_EQUAL(closes, 1);
}

BOOST_FIXTURE_TEST_CASE(closing_while_writing_is_quiet_here_and_heard_there, Fixture) {
  join(tcp());
  auto witness = std::make_shared<int>(0);
  server->start([&](ByteView) { server->pause(true); },
                [&](Error) { BOOST_ERROR("paused streams hear nothing"); });
  client->start([](ByteView) {}, [](Error) { BOOST_ERROR("told of its own end"); });
  client->write({Bytes(64 << 20)}, [witness] { BOOST_ERROR("64 MiB cannot have been sent"); });
  BOOST_CHECK(client->queued_bytes() > 0);
  loop.after(20 * kMillisecond, [&] {
    client.reset();
    loop.after(20 * kMillisecond, [&] { real.stop(); });
  });
  real.run();
  BOOST_CHECK_EQUAL(witness.use_count(), 1);
}

BOOST_FIXTURE_TEST_CASE(writing_to_one_who_left, Fixture) {
  join(tcp());
  server.reset();
  int closes = 0;
  bool inside = false;
  client->start([](ByteView) {},
                [&](Error error) {
                  BOOST_CHECK(!inside);
                  ++closes;
                  BOOST_CHECK(error.code == Code::closed);
                  BOOST_CHECK(error.message.find(listener->address().to_text()) != std::string::npos);
                  loop.after(5 * kMillisecond, [&] { real.stop(); });
                });
  for (int i = 0; i < 100; ++i) {
    inside = true;
    client->write({Bytes(100'000)}, [] {});
    inside = false;
  }
  real.run();
  BOOST_CHECK_EQUAL(closes, 1);
}

BOOST_FIXTURE_TEST_CASE(a_paused_writer_hears_of_a_broken_connection, Fixture) {
  join(tcp());
  bool closed = false;
  client->start([](ByteView) {},
                [&](Error) {
                  closed = true;
                  real.stop();
                });
  client->pause(true);
  server.reset();
  loop.after(5 * kMillisecond, [&] {
    client->write({Bytes(1000)}, [&] { client->write({Bytes(1000)}, {}); });
    loop.after(5 * kMillisecond, [&] { client->write({Bytes(1000)}, {}); });
  });
  real.run();
  BOOST_CHECK(closed);
}

BOOST_FIXTURE_TEST_CASE(destroyed_within_its_own_callbacks, Fixture) {
  auto witness = std::make_shared<int>(0);
  join(tcp());  // within on_data
  server->start(
      [&, witness](ByteView) {
        server.reset();
        BOOST_CHECK_EQUAL(*witness, 0);  // the callback is still whole
        real.stop();
      },
      [](Error) { BOOST_ERROR("told of its own end"); });
  client->start([](ByteView) {}, [](Error) {});
  client->write({Bytes(100)}, {});
  real.run();
  BOOST_CHECK_EQUAL(witness.use_count(), 1);

  client.reset();
  join(tcp());  // within on_close
  server->start([](ByteView) {},
                [&, witness](Error) {
                  server.reset();
                  BOOST_CHECK_EQUAL(*witness, 0);
                  real.stop();
                });
  client.reset();
  real.run();
  BOOST_CHECK_EQUAL(witness.use_count(), 1);

  join(tcp());  // within on_sent
  client->start([](ByteView) {}, [](Error) { BOOST_ERROR("told of its own end"); });
  client->write({Bytes(100)}, [&, witness] {
    client.reset();
    BOOST_CHECK_EQUAL(*witness, 0);
    real.stop();
  });
  client->write({Bytes(100)}, [witness] { BOOST_ERROR("a callback of a stream that is gone"); });
  real.run();
  server.reset();
  loop.post([&] { real.stop(); });
  real.run();

  listener.reset();
  auto listening = network.listen(tcp(), [&, witness](std::unique_ptr<Stream>) {  // within on_accept
    listener.reset();
    BOOST_CHECK_EQUAL(*witness, 0);
    real.stop();
  });
  listener = std::move(*listening);
  pending = network.connect(listener->address(), kPatience, [&](auto) { pending.reset(); });
  real.run();
}

BOOST_FIXTURE_TEST_CASE(back_pressure, Fixture) {
  join(tcp());
  size_t got = 0;
  server->start(
      [&](ByteView data) {
        got += data.size();
        server->pause(true);
        size_t before = got;
        loop.after(kMillisecond, [&, before] {
          BOOST_CHECK_EQUAL(got, before);
          server->pause(false);
        });
        if (got == 3'000'000) real.stop();
      },
      [](Error) {});
  client->start([](ByteView) {}, [](Error) {});
  client->write({Bytes(3'000'000)}, {});
  real.run();
  BOOST_CHECK_EQUAL(got, 3'000'000u);
}

BOOST_FIXTURE_TEST_CASE(connection_refused, Fixture) {
  auto listening = network.listen(tcp(), [](std::unique_ptr<Stream>) {});
  Address address = (*listening)->address();
  BOOST_CHECK(address.port != 0);
  listening->reset();
  Error error = connect_error(address);
  BOOST_CHECK(error.code == Code::unreachable);
  BOOST_CHECK_EQUAL(error.message, "connect to " + address.to_text() + ": connection refused");

  error = connect_error(Address{.host = "localhost", .port = address.port});  // every address of the name
  BOOST_CHECK(error.code == Code::unreachable);
  BOOST_CHECK(error.message.find("127.0.0.1: connection refused") != std::string::npos ||
              error.message.find("localhost") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(no_such_name_or_path, Fixture) {
  Error error = connect_error(*Address::parse("does-not-exist.invalid:1"));
  BOOST_CHECK(error.code == Code::unreachable);
  BOOST_CHECK(error.message.find("the name does not resolve") != std::string::npos);
  BOOST_CHECK(connect_error(*Address::parse("unix:/nowhere/socket")).code == Code::not_found);
  BOOST_CHECK(connect_error(Address{.host = std::string(200, 'x'), .port = 0, .is_unix = true}).code ==
              Code::name_too_long);
}

BOOST_FIXTURE_TEST_CASE(connecting_times_out, Fixture) {
  // A listener with a full backlog: the kernel answers nobody else.
  int full = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof name;
  BOOST_REQUIRE(bind(full, reinterpret_cast<sockaddr*>(&name), length) == 0 && listen(full, 0) == 0);
  getsockname(full, reinterpret_cast<sockaddr*>(&name), &length);
  Address address{.host = "127.0.0.1", .port = ntohs(name.sin_port)};
  std::vector<std::unique_ptr<Stream>> filling;
  std::vector<Network::Pending> waiting;
  for (int i = 0; i < 4; ++i) {
    waiting.push_back(network.connect(address, kPatience, [&](Result<std::unique_ptr<Stream>> result) {
      if (result) filling.push_back(std::move(*result));
    }));
  }
  int64_t begin = loop.clock().now_ns();
  Error error = connect_error(address, 100 * kMillisecond);
  BOOST_CHECK(error.code == Code::timed_out);
  BOOST_CHECK(loop.clock().now_ns() - begin >= 100 * kMillisecond);
  close(full);
}

BOOST_FIXTURE_TEST_CASE(a_dropped_token_cancels, Fixture) {
  auto listening = network.listen(tcp(), [](std::unique_ptr<Stream>) {});
  auto never = [](Result<std::unique_ptr<Stream>>) { BOOST_ERROR("cancelled, and called all the same"); };
  network.connect((*listening)->address(), kPatience, never).reset();
  network.connect(*Address::parse("localhost:1"), kPatience, never).reset();
  auto later = network.connect((*listening)->address(), kPatience, never);
  loop.post([&] { later.reset(); });  // dialling by now
  loop.after(20 * kMillisecond, [&] { real.stop(); });
  real.run();
  BOOST_CHECK(!later);
}

BOOST_FIXTURE_TEST_CASE(port_in_use, Fixture) {
  auto first = network.listen(tcp(), [](std::unique_ptr<Stream>) {});
  BOOST_REQUIRE(first);
  auto second = network.listen((*first)->address(), [](std::unique_ptr<Stream>) {});
  BOOST_REQUIRE(!second);
  BOOST_CHECK(second.error().code == Code::busy);
  BOOST_CHECK(second.error().message.starts_with("port " + std::to_string((*first)->address().port) +
                                                 " on 127.0.0.1 is in use by another program: "));
  auto elsewhere = network.listen(*Address::parse("192.0.2.1:0"), [](std::unique_ptr<Stream>) {});
  BOOST_REQUIRE(!elsewhere);
  BOOST_CHECK(elsewhere.error().message.find("this host has no such address") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(unix_sockets_in_use_and_left_behind, Fixture) {
  TemporaryDirectory directory;
  Address address = *Address::parse("unix:" + directory / "socket");
  auto nothing = [](std::unique_ptr<Stream>) {};
  {
    auto first = network.listen(address, nothing);
    BOOST_REQUIRE(first);
    auto second = network.listen(address, nothing);
    BOOST_REQUIRE(!second);
    BOOST_CHECK(second.error().code == Code::busy);
    BOOST_CHECK(second.error().message.find("is efs-peer running already") != std::string::npos);
  }
  loop.post([&] { real.stop(); });
  real.run();
  // A program that was killed leaves the file.
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  address.host.copy(name.sun_path, sizeof name.sun_path - 1);
  BOOST_REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  close(fd);
  auto again = network.listen(address, nothing);
  BOOST_CHECK_EQUAL(again ? "" : to_text(again.error()), "");
  auto missing = network.listen(*Address::parse("unix:/nowhere/at/all"), nothing);
  BOOST_REQUIRE(!missing);
  BOOST_CHECK(missing.error().code == Code::not_found);
}

// Says little where BBR is not the system's own.
BOOST_FIXTURE_TEST_CASE(no_connection_between_neighbours_is_paced, Fixture) {
  join(tcp());
  int connections = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    char control[16] = {};
    socklen_t control_length = sizeof control;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, &control_length) != 0)
      continue;
    ++connections;
    BOOST_TEST(!std::string_view(control).starts_with("bbr"));
  }
  BOOST_TEST(connections >= 2);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
