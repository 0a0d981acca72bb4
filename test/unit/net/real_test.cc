// On real sockets: calls, the control socket, and how many bytes a second pass (printed, not judged).
#include "peer/runtime/real.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <iostream>
#include <thread>

#include "peer/net/local.h"
#include "peer/net/rpc.h"
#include "test/unit/net/helpers.h"

using namespace efs;

namespace {

struct RealPeer {
  KeyPair key;
  Rpc rpc;
  RealPeer(Runtime& runtime, uint64_t seed)
      : key(make(seed)),
        rpc(runtime, key, id_of_byte(1), secret_of_byte(2).reveal(),
            [](const PeerId&, const PublicKey&) { return Admission::admitted; }) {
    BOOST_REQUIRE(rpc.listen(Address{"127.0.0.1", 0, false}).has_value());
    rpc.handle(96, Access::admitted, [](const Caller&, Bytes body, SharedBytes payload, const Responder& to) {
      to.answer(std::move(body), std::move(payload));
    });
  }
  static KeyPair make(uint64_t seed) {
    TestRandom random(seed);
    return KeyPair::generate(random);
  }
};

// A control socket with its loop on a thread of its own; programs connect from this one.
class Server {
 public:
  explicit Server(const std::string& path) {
    thread_ = std::thread([this, path] {
      RealRuntime real({.log_level = LogLevel::error, .pool_threads = 1, .awake_ns = 0});
      real_ = &real;
      LocalServer server(real.runtime(), {.connections = 4});
      serve(server);
      bool listening = server.listen(path).has_value();
      real.runtime().loop.post([this, listening] { started_.store(listening ? 1 : 2); });
      real.run();
    });
    while (started_.load() == 0) std::this_thread::yield();
    BOOST_REQUIRE(started_.load() == 1);
  }
  ~Server() {
    real_.load()->stop();
    thread_.join();
  }

 private:
  static void serve(LocalServer& server) {
    server.handle(160, [](const UnixPeer& peer, Bytes body, SharedBytes payload, const Responder& to) {
      put_be<uint32_t>(body, peer.uid);
      to.answer(std::move(body), std::move(payload));
    });
    server.handle(161, [](const UnixPeer&, Bytes, SharedBytes, const Responder& to) {
      to.fail({Code::not_found, "no such thing"});
    });
    server.handle(162,
                  [kept = std::make_shared<std::vector<Responder>>()](
                      const UnixPeer&, Bytes, SharedBytes, const Responder& to) { kept->push_back(to); });
  }
  std::atomic<int> started_ = 0;
  std::atomic<RealRuntime*> real_ = nullptr;
  std::thread thread_;
};

struct Directory {
  std::string path;
  Directory() {
    char name[] = "/tmp/efs-net-XXXXXX";
    path = mkdtemp(name);
  }
  ~Directory() {
    ::unlink((path + "/s").c_str());
    ::rmdir(path.c_str());
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(real)

BOOST_AUTO_TEST_CASE(calls_and_throughput) {
  RealRuntime real({.log_level = LogLevel::error, .pool_threads = 1, .awake_ns = 0});
  RealPeer a(real.runtime(), 1), b(real.runtime(), 2);
  a.rpc.set_route(b.rpc.id(), {b.rpc.listening().at(0)});
  const Clock& clock = real.runtime().loop.clock();
  constexpr int kBulk = 100, kSmall = 3000;
  int left = kBulk, small_left = kSmall;
  const auto arrived = [&](const Result<Answer>& answer) {  // nothing may be thrown through the loop
    if (answer) return true;
    BOOST_ERROR(to_text(answer.error()));
    real.stop();
    return false;
  };
  int64_t start = 0, bulk_end = 0, worst_ns = 0;
  std::function<void()> ping = [&] {  // while bulk flows
    int64_t sent = clock.now_ns();
    a.rpc.call(b.rpc.id(), 96, Bytes(20), {}, {.priority = Priority::control}, [&, sent](const auto& answer) {
      if (!arrived(answer)) return;
      worst_ns = std::max(worst_ns, clock.now_ns() - sent);
      if (left > 0) ping();
    });
  };
  std::function<void()> small = [&] {
    a.rpc.call(b.rpc.id(), 96, Bytes(100), {}, {}, [&](const auto& answer) {
      if (!arrived(answer)) return;
      --small_left > 0 ? small() : real.stop();
    });
  };
  int unasked = kBulk;
  std::function<void()> bulk = [&] {
    --unasked;
    a.rpc.call(b.rpc.id(), 96, {}, Bytes(1 << 20, 7), {.timeout_ns = kMinute, .priority = Priority::bulk},
               [&](const Result<Answer>& answer) {
                 if (!arrived(answer)) return;
                 BOOST_CHECK_EQUAL(answer->payload.size(), 1u << 20);
                 if (unasked > 0) bulk();
                 if (--left > 0) return;
                 bulk_end = clock.now_ns();
                 small();
               });
  };
  real.runtime().loop.post([&] {
    a.rpc.call(b.rpc.id(), 96, {}, {}, {}, [&](const auto& answer) {
      if (!arrived(answer)) return;
      start = clock.now_ns();
      ping();
      for (int i = 0; i < 8; ++i) bulk();
    });
  });
  real.run();
  BOOST_TEST(left == 0);
  BOOST_TEST(small_left == 0);
  double seconds = double(bulk_end - start) / 1e9;
  std::cout << "net: one thread for both sides: " << int(2.0 * kBulk / seconds)
            << " MiB/s enciphered and deciphered; slowest control call meanwhile " << worst_ns / 1000
            << " us; a small call takes " << (clock.now_ns() - bulk_end) / kSmall / 1000 << " us\n";
}

BOOST_AUTO_TEST_CASE(control_socket) {
  Directory directory;
  std::string path = directory.path + "/s";
  auto nobody = LocalClient::connect(path);
  BOOST_REQUIRE(!nobody.has_value());
  BOOST_TEST(nobody.error().code == Code::unreachable);
  BOOST_TEST(nobody.error().message.find("no efs-peer serves at " + path) == 0u);
  BOOST_TEST(LocalClient::connect(std::string(200, 'x')).error().code == Code::name_too_long);

  Server server(path);
  auto client = LocalClient::connect(path);
  BOOST_REQUIRE(client.has_value());
  TestRandom random(1);
  for (size_t size : {size_t(0), size_t(10), size_t(100000), kMaxPayload}) {
    Bytes body = random_bytes(random, std::min(size, kMaxBody - 4)), payload = random_bytes(random, size);
    auto answer = client->call(160, body, payload);
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST((text(answer->payload) == text(payload)));
    BOOST_REQUIRE(answer->body.size() == body.size() + 4);
    BOOST_TEST(get_be<uint32_t>(answer->body.data() + body.size()) == ::getuid());
  }
  auto refused = client->call(161, {});
  BOOST_TEST(refused.error().code == Code::not_found);
  BOOST_TEST(refused.error().message == "no such thing");
  BOOST_TEST(client->call(240, {}).error().code == Code::unsupported);
  BOOST_TEST(client->call(160, {}).has_value());  // errors do not end the connection
  BOOST_TEST(client->call(162, {}, {}, 50 * kMillisecond).error().code == Code::timed_out);
  BOOST_TEST(client->call(160, {}).error().code == Code::closed);

  // Several at once, and more than there may be.
  std::vector<LocalClient> clients;
  for (int i = 0; i < 3; ++i) {
    auto more = LocalClient::connect(path);
    BOOST_REQUIRE(more.has_value());
    BOOST_TEST(more->call(160, {}).has_value());
    clients.push_back(std::move(*more));
  }
}

BOOST_AUTO_TEST_CASE(noise_on_the_control_socket) {
  Directory directory;
  std::string path = directory.path + "/s";
  Server server(path);
  TestRandom random(2);
  for (int i = 0; i < 50; ++i) {
    int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    BOOST_REQUIRE(::connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    Bytes noise = random_bytes(random, kMessageHeader + random.below(100));
    noise[4] = uint8_t(2 + random.below(200));  // another format: it hangs up
    BOOST_TEST(::send(descriptor, noise.data(), noise.size(), MSG_NOSIGNAL) == ssize_t(noise.size()));
    char byte;
    BOOST_TEST(::recv(descriptor, &byte, 1, 0) <= 0);
    ::close(descriptor);
  }
  auto client = LocalClient::connect(path);
  BOOST_REQUIRE(client.has_value());
  BOOST_TEST(client->call(160, {}).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
