// The simulator: one seed is one history; time, clocks, pauses; streams and what a network does to them;
// hosts that die. The last test is what it is for: thirty hosts, a virtual week, in seconds.
#include <boost/test/unit_test.hpp>
#include <ctime>
#include <set>

#include "peer/base/hash.h"
#include "peer/runtime/simulated.h"

namespace efs {
namespace {

BOOST_AUTO_TEST_SUITE(simulator)

constexpr int64_t kPatience = 5 * kMinute;
const Address kServer{.host = "10.0.0.2", .port = 7400};

struct Fixture {
  explicit Fixture(uint64_t seed = 1) : simulator(seed), disk(make_simulated_disk(seed)) {
    client_runtime = &simulator.add_host("10.0.0.1", *disk);
    server_runtime = &simulator.add_host("10.0.0.2", *disk);
  }
  Simulator simulator;
  std::unique_ptr<SimulatedDisk> disk;
  Runtime* client_runtime;
  Runtime* server_runtime;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> client, server;
  Network::Pending pending;

  void listen() {
    auto listening = server_runtime->network.listen(
        Address{.host = "::", .port = 7400},
        [this](std::unique_ptr<Stream> stream) { server = std::move(stream); });
    BOOST_REQUIRE(listening);
    listener = std::move(*listening);
  }
  void join() {
    if (!listener) listen();
    pending =
        client_runtime->network.connect(kServer, kPatience, [this](Result<std::unique_ptr<Stream>> result) {
          BOOST_REQUIRE(result);
          client = std::move(*result);
        });
    BOOST_REQUIRE(simulator.run_until([&] { return client && server; }, kMinute));
  }
  Error connect_error(const Address& address, int64_t timeout_ns) {
    std::optional<Error> error;
    pending =
        client_runtime->network.connect(address, timeout_ns, [&](Result<std::unique_ptr<Stream>> result) {
          BOOST_REQUIRE(!result);
          error = result.error();
        });
    BOOST_REQUIRE(!error);  // never inside the call
    BOOST_REQUIRE(simulator.run_until([&] { return error.has_value(); }, kPatience));
    return *error;
  }
};

void ignore_data(ByteView) {}

BOOST_FIXTURE_TEST_CASE(tasks_timers_and_jobs, Fixture) {
  Loop& loop = client_runtime->loop;
  std::vector<int> order;
  loop.after(2 * kSecond, [&] { order.push_back(5); });
  loop.after(kSecond, [&] { order.push_back(4); });
  TimerId never = loop.after(kSecond, [&] { order.push_back(9); });
  loop.cancel(never);
  loop.post([&] {
    order.push_back(1);
    loop.post([&] { order.push_back(2); });
  });
  loop.work(
      [&] {
        BOOST_CHECK(!loop.on_thread());
        order.push_back(3);
      },
      [&] { order.push_back(30); });
  BOOST_CHECK(order.empty());
  int64_t begin = loop.clock().now_ns();
  simulator.run_for(1500 * kMillisecond);
  BOOST_CHECK((order == std::vector{1, 2, 3, 30, 4}));
  BOOST_CHECK_EQUAL(loop.clock().now_ns() - begin, 1500 * kMillisecond);
  BOOST_CHECK(!simulator.run_until([] { return false; }, 100 * kMillisecond));
  BOOST_CHECK(simulator.run_until([&] { return order.size() == 6; }, kSecond));
  BOOST_CHECK_EQUAL(simulator.now_ns(), 2 * kSecond);
  BOOST_CHECK(!simulator.step());
}

BOOST_FIXTURE_TEST_CASE(clocks_drift_and_jump, Fixture) {
  const Clock& clock = client_runtime->loop.clock();
  simulator.set_drift("10.0.0.1", 1000);
  int64_t begin = clock.now_ns(), other = server_runtime->loop.clock().now_ns();
  bool ran = false;
  client_runtime->loop.after(1001 * kSecond, [&] { ran = true; });
  simulator.run_for(1000 * kSecond - 1);
  BOOST_CHECK(!ran);
  simulator.run_for(2);
  BOOST_CHECK(ran);
  BOOST_CHECK_CLOSE(double(clock.now_ns() - begin), double(1001 * kSecond), 1e-6);
  BOOST_CHECK_EQUAL(server_runtime->loop.clock().now_ns() - other, 1000 * kSecond + 1);

  // A clock that is slowed down while a timer runs: the timer is not early by that clock.
  int64_t due = clock.now_ns() + kHour, at = 0;
  client_runtime->loop.after(kHour, [&] { at = clock.now_ns(); });
  simulator.set_drift("10.0.0.1", -5000);
  simulator.run_for(2 * kHour);
  BOOST_CHECK(at >= due && at < due + kMillisecond);

  int64_t wall = clock.wall_ns(), monotonic = clock.now_ns();
  simulator.jump_wall("10.0.0.1", -kHour);
  BOOST_CHECK_EQUAL(clock.wall_ns(), wall - kHour);
  BOOST_CHECK_EQUAL(clock.now_ns(), monotonic);
}

BOOST_FIXTURE_TEST_CASE(a_paused_host_runs_nothing, Fixture) {
  join();
  std::vector<int> order;
  size_t got = 0;
  server->start([&](ByteView data) { got += data.size(); }, [](Error) {});
  client->start(ignore_data, [](Error) {});
  server_runtime->loop.after(2 * kSecond, [&] { order.push_back(2); });
  server_runtime->loop.after(kSecond, [&] { order.push_back(1); });
  TimerId cancelled = server_runtime->loop.after(kSecond, [&] { order.push_back(9); });
  simulator.set_paused("10.0.0.2", true);
  client->write({Bytes(1000)}, {});
  Network::Pending more =
      client_runtime->network.connect(kServer, kMinute, [&](Result<std::unique_ptr<Stream>> result) {
        BOOST_CHECK(result);  // its kernel answers
        order.push_back(0);
      });
  simulator.run_for(10 * kSecond);
  BOOST_CHECK((order == std::vector{0}));
  BOOST_CHECK_EQUAL(got, 0u);
  server_runtime->loop.cancel(cancelled);
  simulator.set_paused("10.0.0.2", false);
  simulator.run_for(kMillisecond);
  BOOST_CHECK((order == std::vector{0, 1, 2}));
  BOOST_CHECK_EQUAL(got, 1000u);
}

BOOST_FIXTURE_TEST_CASE(bytes_arrive_whole_and_in_order, Fixture) {
  join();
  BOOST_CHECK(client->remote() == kServer);
  BOOST_CHECK(server->local() == kServer);
  BOOST_CHECK(server->remote() == client->local());
  uint32_t sent_crc = 0, got_crc = 0;
  size_t sent = 0, got = 0, acknowledged = 0, closes = 0;
  std::set<size_t> sizes;
  server->start(
      [&](ByteView data) {
        got += data.size();
        got_crc = crc32c(data, got_crc);
        sizes.insert(data.size());
      },
      [&](Error error) {
        ++closes;
        BOOST_CHECK(error.code == Code::closed);
        BOOST_CHECK_EQUAL(got, sent);
      });
  client->start(ignore_data, [](Error) { BOOST_ERROR("told of its own end"); });
  for (int i = 0; i < 500; ++i) {
    std::vector<Bytes> pieces;
    for (uint64_t piece = 0; piece <= simulator.random().below(4); ++piece) {
      pieces.emplace_back(simulator.random().below(i % 50 == 0 ? 200'000 : 500), uint8_t(i + int(piece)));
      sent += pieces.back().size();
      sent_crc = crc32c(pieces.back(), sent_crc);
    }
    client->write(std::move(pieces), [&] { ++acknowledged; });
    if (i % 10 == 0) simulator.run_for(kMillisecond);
  }
  BOOST_REQUIRE(simulator.run_until([&] { return acknowledged == 500; }, kMinute));
  client.reset();
  simulator.run_for(kSecond);
  BOOST_CHECK_EQUAL(got, sent);
  BOOST_CHECK_EQUAL(got_crc, sent_crc);
  BOOST_CHECK_EQUAL(closes, 1u);
  BOOST_CHECK_GT(sizes.size(), 20u);  // joined and split
}

BOOST_FIXTURE_TEST_CASE(latency_and_bandwidth, Fixture) {
  simulator.faults().latency_min_ns = 10 * kMillisecond;
  simulator.faults().latency_max_ns = 20 * kMillisecond;
  int64_t begin = simulator.now_ns();
  join();
  BOOST_CHECK_GE(simulator.now_ns() - begin, 20 * kMillisecond);
  BOOST_CHECK_LE(simulator.now_ns() - begin, 41 * kMillisecond);
  size_t got = 0;
  server->start([&](ByteView data) { got += data.size(); }, [](Error) {});
  client->start(ignore_data, [](Error) {});
  begin = simulator.now_ns();
  client->write({Bytes(1)}, {});
  BOOST_REQUIRE(simulator.run_until([&] { return got == 1; }, kSecond));
  BOOST_CHECK_GE(simulator.now_ns() - begin, 10 * kMillisecond);
  BOOST_CHECK_LE(simulator.now_ns() - begin, 20 * kMillisecond);
  simulator.faults().bytes_per_second = 1'000'000;
  begin = simulator.now_ns();
  client->write({Bytes(5'000'000)}, {});
  BOOST_REQUIRE(simulator.run_until([&] { return got == 5'000'001; }, kMinute));
  BOOST_CHECK_CLOSE(double(simulator.now_ns() - begin), 5e9, 2);
}

BOOST_FIXTURE_TEST_CASE(back_pressure, Fixture) {
  join();
  size_t got = 0;
  bool sent = false;
  server->start([&](ByteView data) { got += data.size(); }, [](Error) {});
  server->pause(true);
  client->start(ignore_data, [](Error) {});
  client->write({Bytes(8'000'000)}, [&] { sent = true; });
  simulator.run_for(10 * kSecond);
  BOOST_CHECK_EQUAL(got, 0u);
  BOOST_CHECK(!sent);
  BOOST_CHECK_GT(client->queued_bytes(), 6'000'000u);
  server->pause(false);
  simulator.run_for(kSecond);
  BOOST_CHECK_EQUAL(got, 8'000'000u);
  BOOST_CHECK(sent);
  BOOST_CHECK_EQUAL(client->queued_bytes(), 0u);
}

BOOST_FIXTURE_TEST_CASE(a_short_partition_stalls, Fixture) {
  join();
  size_t got = 0;
  server->start([&](ByteView data) { got += data.size(); }, [](Error) { BOOST_ERROR("broke"); });
  client->start(ignore_data, [](Error) { BOOST_ERROR("broke"); });
  simulator.set_partition("10.0.0.2", 1);
  client->write({Bytes(100)}, {});
  simulator.run_for(10 * kSecond);
  BOOST_CHECK_EQUAL(got, 0u);
  simulator.heal();
  BOOST_CHECK(simulator.run_until([&] { return got == 100; }, 11 * kSecond));
}

BOOST_AUTO_TEST_CASE(a_long_partition_breaks) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Fixture f(seed);
      f.join();
      int ends = 0;
      Code codes[2] = {Code::ok, Code::ok};
      auto on_close = [&](int side) {
        return [&, side](Error error) {
          BOOST_CHECK(codes[side] == Code::ok);
          codes[side] = error.code;
          ++ends;
        };
      };
      f.server->start([](ByteView) { BOOST_ERROR("arrived across a partition"); }, on_close(0));
      f.client->start(ignore_data, on_close(1));
      f.simulator.set_partition("10.0.0.2", 1);
      f.client->write({Bytes(100)}, {});
      if (seed % 2) {  // each end notices by itself
        f.simulator.run_for(3 * kMinute);
        BOOST_CHECK(codes[0] == Code::timed_out && codes[1] == Code::timed_out);
      } else {  // it heals when one end has given up: the other is told
        BOOST_REQUIRE(f.simulator.run_until([&] { return ends == 1; }, 3 * kMinute));
        f.simulator.heal();
        f.server->start([](ByteView) {}, on_close(0));
        f.simulator.run_for(kMinute);
      }
      BOOST_CHECK_EQUAL(ends, 2);
    }
  }
}

BOOST_FIXTURE_TEST_CASE(connecting, Fixture) {
  BOOST_CHECK(connect_error(kServer, kMinute).code == Code::unreachable);  // nobody listens
  BOOST_CHECK(connect_error(Address{.host = "no-such-name", .port = 1}, kMinute).code == Code::unreachable);
  int64_t begin = simulator.now_ns();
  BOOST_CHECK(connect_error(Address{.host = "10.9.9.9", .port = 1}, 7 * kSecond).code == Code::timed_out);
  BOOST_CHECK_EQUAL(simulator.now_ns() - begin, 7 * kSecond);
  listen();
  auto again = server_runtime->network.listen(kServer, [](std::unique_ptr<Stream>) {});
  BOOST_CHECK(again.error().code == Code::busy);
  simulator.set_partition("10.0.0.1", 3);
  BOOST_CHECK(connect_error(kServer, 7 * kSecond).code == Code::timed_out);
  // Knocks again while it waits.
  bool connected = false;
  pending =
      client_runtime->network.connect(kServer, kMinute, [&](auto result) { connected = result.has_value(); });
  simulator.run_for(5 * kSecond);
  BOOST_CHECK(!connected);
  simulator.heal();
  BOOST_CHECK(simulator.run_until([&] { return connected; }, 10 * kSecond));
  pending = client_runtime->network.connect(kServer, kMinute, [&](auto) { BOOST_ERROR("cancelled"); });
  pending.reset();
  pending = client_runtime->network.connect(kServer, kMinute, [&](auto) { BOOST_ERROR("cancelled"); });
  simulator.run_for(700 * kMicrosecond);
  pending.reset();
  simulator.run_for(kMinute);
  simulator.faults().connect_failure = 1;
  std::set<Code> codes;
  for (int i = 0; i < 20; ++i) codes.insert(connect_error(kServer, kSecond).code);
  BOOST_CHECK((codes == std::set{Code::unreachable, Code::timed_out}));
}

BOOST_FIXTURE_TEST_CASE(unix_sockets_stay_on_their_host, Fixture) {
  Address address = *Address::parse("unix:/run/efs.sock");
  auto listening = client_runtime->network.listen(
      address, [&](std::unique_ptr<Stream> stream) { server = std::move(stream); });
  BOOST_REQUIRE(listening);
  pending =
      client_runtime->network.connect(address, kSecond, [&](auto result) { client = std::move(*result); });
  simulator.run_for(kSecond);
  BOOST_REQUIRE(client && server);
  BOOST_CHECK(server->unix_peer());
  BOOST_CHECK(client->remote() == address);
  Code code = Code::ok;
  pending =
      server_runtime->network.connect(address, kSecond, [&](auto result) { code = result.error().code; });
  simulator.run_for(kSecond);
  BOOST_CHECK(code == Code::not_found);
}

BOOST_AUTO_TEST_CASE(connections_break_by_chance) {
  int whole = 0, broken = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    Fixture f(seed);
    f.join();
    f.simulator.faults().break_chance = 0.02;
    size_t got = 0;
    int ends = 0;
    auto on_close = [&](Error error) {
      BOOST_CHECK(error.code == Code::closed);
      ++ends;
    };
    f.server->start(
        [&](ByteView data) {
          for (uint8_t byte : data) BOOST_CHECK_EQUAL(byte, uint8_t(got++ / 10));
        },
        on_close);
    f.client->start(ignore_data, on_close);
    for (int i = 0; i < 30; ++i) f.client->write({Bytes(10, uint8_t(i))}, {});
    f.simulator.run_for(kMinute);
    BOOST_CHECK(ends == 0 || ends == 2);
    BOOST_CHECK_EQUAL(ends == 0, got == 300);
    ++(ends ? broken : whole);
  }
  BOOST_CHECK_GT(whole, 20);
  BOOST_CHECK_GT(broken, 20);
}

BOOST_FIXTURE_TEST_CASE(destroyed_within_its_own_callbacks, Fixture) {
  auto witness = std::make_shared<int>(7);
  join();
  int ends = 0;
  server->start(
      [&, witness](ByteView) {
        server.reset();
        BOOST_CHECK_EQUAL(*witness, 7);
      },
      [](Error) { BOOST_ERROR("told of its own end"); });
  client->start(ignore_data, [&, witness](Error) {
    client.reset();
    ends += *witness;
  });
  client->write({Bytes(10)}, [&] { client->write({Bytes(10)}, {}); });
  simulator.run_for(kMinute);
  BOOST_CHECK_EQUAL(ends, 7);
  BOOST_CHECK_EQUAL(witness.use_count(), 1);
  BOOST_CHECK(!server && !client);
}

BOOST_AUTO_TEST_CASE(a_host_that_dies_and_returns) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Fixture f(seed);
      f.join();
      Code code = Code::ok;
      f.client->start(ignore_data, [&](Error error) { code = error.code; });
      f.server->start(ignore_data, [](Error) { BOOST_ERROR("the dead are told nothing"); });
      auto witness = std::make_shared<int>(0);
      Loop& loop = f.server_runtime->loop;
      loop.after(kSecond, [witness] { BOOST_ERROR("a dead host's timer"); });
      loop.post([witness] { BOOST_ERROR("a dead host's task"); });
      loop.work([witness] { BOOST_ERROR("a dead host's job"); }, [] {});
      f.client->write({Bytes(100)}, {});
      bool power_loss = seed % 2;
      int64_t before = loop.clock().now_ns();
      f.server.reset();
      f.listener.reset();
      f.simulator.remove_host("10.0.0.2", power_loss);
      BOOST_CHECK_EQUAL(witness.use_count(), 1);
      f.simulator.run_for(10 * kSecond);
      BOOST_CHECK_EQUAL(code == Code::ok, power_loss);
      f.server_runtime = &f.simulator.add_host("10.0.0.2", *f.disk);
      BOOST_CHECK_EQUAL(f.server_runtime->loop.clock().now_ns() - before, 10 * kSecond);
      f.simulator.run_for(16 * kSecond);
      BOOST_CHECK(code == Code::closed);
      f.client.reset();
      f.join();
    }
  }
}

// A mesh in small: every host knows its neighbours, keeps a connection to each, asks one every few seconds
// and counts what it is answered.
struct Gossip {
  Gossip(Runtime& its_runtime, int its_number, int hosts, int64_t its_interval_ns)
      : runtime(its_runtime),
        number(its_number),
        count(hosts),
        interval_ns(its_interval_ns),
        timer(runtime.loop) {
    listener = std::move(*runtime.network.listen(Address{.host = "::", .port = 7400}, [this](auto stream) {
      // By number: what is ordered by address is not the same history twice.
      int id = ++last_accepted;
      accepted[id] = std::move(stream);
      accepted[id]->start([this, id](ByteView data) { accepted[id]->write({to_bytes(data)}, {}); },
                          [this, id](Error) { accepted.erase(id); });
    }));
    tick();
  }
  void tick() {
    timer.start(interval_ns, [this] { tick(); });
    int other = int(runtime.random.below(uint64_t(count)));
    if (other == number) return;
    auto& stream = streams[other];
    if (stream) {
      if (stream->queued_bytes() < 1000) stream->write({Bytes(64, uint8_t(number))}, {});
      return;
    }
    pending[other] =
        runtime.network.connect(Address{.host = "10.0.0." + std::to_string(other), .port = 7400}, 5 * kSecond,
                                [this, other](auto result) {
                                  if (!result) return;
                                  streams[other] = std::move(*result);
                                  streams[other]->start([this](ByteView data) { answered += data.size(); },
                                                        [this, other](Error) { streams[other].reset(); });
                                });
  }

  Runtime& runtime;
  const int number, count;
  const int64_t interval_ns;
  int last_accepted = 0;
  std::map<int, std::unique_ptr<Stream>> accepted;
  std::map<int, std::unique_ptr<Stream>> streams;
  std::map<int, Network::Pending> pending;
  std::unique_ptr<Listener> listener;
  size_t answered = 0;
  Timer timer;
};

struct Outcome {
  uint64_t trace;
  size_t answered;
};

Outcome gossip(uint64_t seed, int hosts, int64_t duration_ns, int64_t interval_ns, bool faults) {
  Simulator simulator(seed);
  auto disk = make_simulated_disk(seed);
  auto name = [](int number) { return "10.0.0." + std::to_string(number); };
  std::vector<std::unique_ptr<Gossip>> peers;
  for (int i = 0; i < hosts; ++i)
    peers.push_back(std::make_unique<Gossip>(simulator.add_host(name(i), *disk), i, hosts, interval_ns));
  if (faults) simulator.faults().break_chance = 0.001;
  int64_t step_ns = duration_ns / 50;
  size_t answered = 0;
  for (int step = 0; step < 50; ++step) {
    simulator.run_for(step_ns);
    if (!faults) continue;
    int victim = int(simulator.random().below(uint64_t(hosts)));
    switch (simulator.random().below(6)) {
      case 0:
        simulator.set_partition(name(victim), 1);
        break;
      case 1:
        simulator.heal();
        break;
      case 2:
        simulator.set_paused(name(victim), true);
        break;
      case 3:
        simulator.set_paused(name(victim), false);
        break;
      case 4:
        simulator.set_drift(name(victim), double(simulator.random().below(400)) - 200);
        break;
      case 5:
        answered += peers[size_t(victim)]->answered;
        peers[size_t(victim)].reset();
        simulator.remove_host(name(victim), simulator.random().below(2));
        peers[size_t(victim)] =
            std::make_unique<Gossip>(simulator.add_host(name(victim), *disk), victim, hosts, interval_ns);
    }
  }
  for (auto& peer : peers) answered += peer->answered;
  return {simulator.trace_hash(), answered};
}

BOOST_AUTO_TEST_CASE(one_seed_is_one_history) {
  std::set<uint64_t> traces;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    Outcome first = gossip(seed, 10, 10 * kMinute, kSecond, true),
            second = gossip(seed, 10, 10 * kMinute, kSecond, true);
    BOOST_CHECK_EQUAL(first.trace, second.trace);
    BOOST_CHECK_EQUAL(first.answered, second.answered);
    BOOST_CHECK_GT(first.answered, 10u * 600 * 64 / 20);
    traces.insert(first.trace);
  }
  BOOST_CHECK_EQUAL(traces.size(), 8u);
}

// Thirty hosts, each of them asking another every two minutes.
BOOST_AUTO_TEST_CASE(a_week_takes_seconds) {
  std::clock_t begin = std::clock();  // of the processor: the machine may be busy with other things
  Outcome outcome = gossip(1, 30, 7 * 24 * kHour, 2 * kMinute, false);
  double took_s = double(std::clock() - begin) / CLOCKS_PER_SEC;
  BOOST_TEST_MESSAGE("a week of thirty hosts took " << took_s << " s");
  BOOST_CHECK_GT(outcome.answered, 30u * 5040 * 64 * 9 / 10);
  BOOST_CHECK_LT(took_s, 30);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
