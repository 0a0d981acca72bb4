// Calls between simulated peers: answers, errors, deadlines, cancellation, windows, broken connections, who
// may ask what, and two peers that dial each other at once.
#include "peer/net/rpc.h"

#include <boost/test/unit_test.hpp>
#include <cstdlib>

#include "test/unit/net/mesh.h"

using namespace efs;

namespace {

Bytes number(uint64_t value) {
  Bytes out;
  put_be<uint64_t>(out, value);
  return out;
}

Code code_of(const Result<Answer>& result) {
  return result ? Code::ok : result.error().code;
}

uint64_t seeds(uint64_t usual, uint64_t many) {
  return std::getenv("EFS_LONG") ? many : usual;
}

size_t connected_pairs(TestMesh& mesh) {
  size_t count = 0;
  for (auto& from : mesh.peers)
    for (auto& to : mesh.peers) count += from != to && from->rpc->connected(to->id);
  return count;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(rpc)

BOOST_AUTO_TEST_CASE(answers_and_errors) {
  TestMesh mesh(1);
  mesh.route_all();
  TestRandom random(1);
  for (size_t size : {size_t(0), size_t(1), size_t(70000), kMaxPayload}) {
    Bytes body = random_bytes(random, std::min(size, kMaxBody)), payload = random_bytes(random, size);
    auto answer = mesh.call(mesh[0], mesh[1], kEcho, body, payload);
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST((answer->body == body));
    BOOST_TEST((text(answer->payload) == text(payload)));
  }
  auto failed = mesh.call(mesh[0], mesh[1], kFail);
  BOOST_TEST(code_of(failed) == Code::no_space);
  BOOST_TEST(failed.error().message == "the disk is full");
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kDropped)) == Code::closed);
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], 199)) == Code::unsupported);
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho, Bytes(kMaxBody + 1))) == Code::too_large);
  BOOST_TEST(mesh[0].rpc->stats().at(0).connected);
  BOOST_TEST(mesh[0].rpc->info(mesh[1].id)->greeting.version == "test");
  BOOST_TEST(mesh[0].rpc->refusals().empty());
}

BOOST_AUTO_TEST_CASE(done_never_runs_inside_call) {
  TestMesh mesh(2);
  bool inside = true;
  int done = 0;
  auto count = [&](const Result<Answer>&) {
    BOOST_TEST(!inside);
    ++done;
  };
  mesh[0].rpc->call(mesh[1].id, kEcho, {}, {}, {}, count);  // no route
  mesh[0].rpc->call(mesh[1].id, kEcho, Bytes(kMaxBody + 1), {}, {}, count);
  mesh.route_all();
  CallId id = mesh[0].rpc->call(mesh[1].id, kEcho, {}, {}, {}, count);
  mesh[0].rpc->cancel(id);
  mesh[0].rpc->cancel(id);
  mesh[0].rpc->call(mesh[1].id, kEcho, {}, {}, {}, count);
  mesh[0].rpc->drop(mesh[1].id);
  inside = false;
  mesh.sim.run_for(kMinute);
  BOOST_TEST(done == 4);
}

BOOST_AUTO_TEST_CASE(deadlines) {
  TestMesh mesh(3, 3);
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho)) == Code::unreachable);  // no address
  mesh.route_all();
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kNever, {}, {}, {.timeout_ns = kSecond})) ==
             Code::timed_out);
  mesh.sim.run_for(kSecond);
  BOOST_REQUIRE(mesh[1].kept.size() == 1);
  BOOST_TEST(mesh[1].kept[0].cancelled());
  mesh[1].kept[0].answer({});  // late: goes nowhere
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho)) == Code::ok);
  // Nobody at the address: it waits until its deadline, then says it was never sent, and why.
  mesh[2].rpc.reset();
  int64_t before = mesh.sim.now_ns();
  auto result = mesh.call(mesh[0], mesh[2], kEcho, {}, {}, {.timeout_ns = 3 * kSecond});
  BOOST_TEST(code_of(result) == Code::unreachable);
  BOOST_TEST(result.error().message.find("10.0.0.3:7400") != std::string::npos);
  BOOST_TEST((mesh.sim.now_ns() - before >= 3 * kSecond));
  BOOST_TEST((mesh.sim.now_ns() - before < 4 * kSecond));
}

BOOST_AUTO_TEST_CASE(cancel_reaches_the_handler) {
  TestMesh mesh(4);
  mesh.route_all();
  int done = 0, noticed = 0;
  CallId id = mesh[0].rpc->call(mesh[1].id, kNever, {}, {}, {.timeout_ns = kMinute}, [&](const auto& result) {
    ++done;
    BOOST_TEST(code_of(result) == Code::cancelled);
  });
  mesh.sim.run_for(kSecond);
  BOOST_REQUIRE(mesh[1].kept.size() == 1);
  BOOST_TEST(!mesh[1].kept[0].cancelled());
  mesh[1].kept[0].on_cancel([&] { ++noticed; });
  mesh[0].rpc->cancel(id);
  mesh.sim.run_for(kSecond);
  BOOST_TEST(done == 1);
  BOOST_TEST(noticed == 1);
  BOOST_TEST(mesh[1].kept[0].cancelled());
}

BOOST_AUTO_TEST_CASE(who_may_ask_what) {
  TestMesh mesh(5);
  mesh.route_all();
  mesh.admission[mesh[0].id] = Admission::unknown;
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho)) == Code::unauthorized);
  auto open = mesh.call(mesh[0], mesh[1], kOpen);
  BOOST_REQUIRE(open.has_value());
  BOOST_TEST(open->body.at(0) == uint8_t(Admission::unknown));
  mesh.admission[mesh[0].id] = Admission::admitted;
  mesh[1].rpc->recheck_admissions();
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho)) == Code::ok);
  mesh.admission[mesh[0].id] = Admission::revoked;
  mesh[1].rpc->recheck_admissions();
  mesh.sim.run_for(kSecond);
  BOOST_TEST(!mesh[1].rpc->connected(mesh[0].id));
  BOOST_TEST(!mesh[0].rpc->connected(mesh[1].id));
  BOOST_TEST(mesh[0].downs == 1);
  auto refused = mesh.call(mesh[0], mesh[1], kEcho, {}, {}, {.timeout_ns = 2 * kSecond});
  BOOST_TEST(code_of(refused) == Code::unreachable);
  BOOST_TEST(refused.error().message.find("revoked") != std::string::npos);
  BOOST_TEST(mesh[1].rpc->refusals()["refused"] >= 1u);
}

BOOST_AUTO_TEST_CASE(dialling_whoever_is_there) {
  TestMesh mesh(6);
  auto dial = [&](TestPeer& from, const Address& address) {
    std::optional<Result<PeerId>> result;
    from.rpc->dial(address, [&](Result<PeerId> id) { result = std::move(id); });
    BOOST_TEST(!result.has_value());
    BOOST_REQUIRE(mesh.sim.run_until([&] { return result.has_value(); }, kMinute));
    return *result;
  };
  auto found = dial(mesh[0], mesh[1].address());
  BOOST_REQUIRE(found.has_value());
  BOOST_TEST((*found == mesh[1].id));
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho)) == Code::ok);
  auto itself = dial(mesh[0], mesh[0].address());
  BOOST_TEST(itself.error().code == Code::invalid_argument);
  auto nobody = dial(mesh[0], {"10.0.0.1", 9999, false});
  BOOST_TEST(!nobody.has_value());
  // A peer of another mesh, and one without the secret: refused, counted, and told nothing.
  TestPeer& other_mesh = mesh.add(9, 2);
  TestPeer& other_secret = mesh.add(1, 9);
  for (TestPeer* stranger : {&other_mesh, &other_secret}) {
    auto refused = dial(*stranger, mesh[1].address());
    BOOST_REQUIRE(!refused.has_value());
    BOOST_TEST(refused.error().code == Code::unauthorized);
    BOOST_TEST(refused.error().message.find("another mesh") != std::string::npos);
    BOOST_TEST(!stranger->rpc->connected(mesh[1].id));
  }
  BOOST_TEST(mesh[1].rpc->refusals()["stranger"] == 2u);
  // Another peer than the one that was meant.
  mesh[0].rpc->set_route(other_mesh.id, {mesh[1].address()});
  BOOST_TEST(code_of(mesh.call(mesh[0], other_mesh, kEcho, {}, {}, {.timeout_ns = kSecond})) ==
             Code::unreachable);
}

BOOST_AUTO_TEST_CASE(dialling_again_leaves_one_session) {
  TestMesh mesh(17);
  int found = 0;
  for (int i = 0; i < 20; ++i) {
    mesh[0].rpc->dial(mesh[1].address(), [&](const Result<PeerId>& id) { found += id.has_value(); });
    if (i % 3 == 0) mesh.sim.run_for(5 * kMillisecond);
  }
  mesh.sim.run_for(5 * kSecond);
  BOOST_TEST(found >= 4);  // more at once than a peer may have: the others gave way
  BOOST_TEST(mesh.call(mesh[0], mesh[1], kEcho).has_value());
  mesh.sim.run_for(5 * kSecond);
  for (auto& peer : mesh.peers) BOOST_TEST(peer->rpc->stats().at(0).sessions == 1u);
}

// Raw bytes at the door: nothing comes back, nothing breaks.
BOOST_AUTO_TEST_CASE(random_bytes_at_the_door) {
  TestMesh mesh(7);
  TestPeer& victim = mesh[1];
  Runtime& attacker = *mesh[0].runtime;
  TestRandom random(7);
  size_t answered_bytes = 0, closed = 0;
  const size_t rounds = 60;
  for (size_t round = 0; round < rounds; ++round) {
    std::unique_ptr<Stream> stream;
    auto pending = attacker.network.connect(victim.address(), kSecond, [&](auto result) {
      if (result) stream = std::move(*result);
    });
    BOOST_REQUIRE(mesh.sim.run_until([&] { return stream != nullptr; }, kMinute));
    bool ended = false;
    stream->start([&](ByteView data) { answered_bytes += data.size(); }, [&](const Error&) { ended = true; });
    Bytes noise = random_bytes(random, 1 + random.below(300));
    if (round % 3 == 0) {  // of the right length
      noise.resize(std::max<size_t>(noise.size(), 60));
      put_le<uint16_t>(noise.data(), 48);
    }
    std::vector<Bytes> pieces;
    pieces.push_back(noise);
    stream->write(std::move(pieces), {});
    mesh.sim.run_until([&] { return ended; }, 6 * kSecond);
    closed += ended;
  }
  BOOST_TEST(answered_bytes == 0u);
  BOOST_TEST(closed == rounds);
  mesh.route_all();
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho)) == Code::ok);
}

BOOST_AUTO_TEST_CASE(silent_connections_do_not_keep_others_out) {
  TestMesh mesh(8);
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<Network::Pending> pending;
  for (int i = 0; i < 200; ++i)
    pending.push_back(mesh[0].runtime->network.connect(mesh[1].address(), kSecond, [&](auto result) {
      if (!result) return;
      streams.push_back(std::move(*result));
      streams.back()->start([](ByteView) {}, [](const Error&) {});
    }));
  mesh.sim.run_for(kSecond);
  BOOST_TEST(mesh[1].rpc->refusals()["half-open limit"] == 200 - mesh.options.limits.half_open);
  mesh.route_all();
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho)) == Code::ok);
  mesh.sim.run_for(10 * kSecond);
  BOOST_TEST(mesh[1].rpc->refusals()["handshake timeout"] >= mesh.options.limits.half_open - 1);
}

BOOST_AUTO_TEST_CASE(many_at_once) {
  TestMesh mesh(9);
  mesh.route_all();
  const uint64_t count = 3000;  // more than the window
  std::vector<int> done(count);
  for (uint64_t i = 0; i < count; ++i)
    mesh[0].rpc->call(mesh[1].id, i % 5 == 0 ? kSlow : kEcho, number(i), Bytes(i % 7 * 1000),
                      {.timeout_ns = kMinute, .priority = Priority(i % 3)},
                      [&, i](const Result<Answer>& answer) {
                        BOOST_REQUIRE(answer.has_value());
                        BOOST_REQUIRE(answer->body == number(i));
                        ++done[i];
                      });
  mesh.sim.run_for(kMinute);
  for (int times : done) BOOST_REQUIRE(times == 1);
  for (auto& [what, times] : mesh[1].runs) BOOST_REQUIRE(times == 1);
}

BOOST_AUTO_TEST_CASE(the_queue_is_bounded) {
  TestMesh mesh(10);
  mesh.options.limits.waiting_calls = 100;
  mesh.restart(mesh[0]);
  mesh.route_all();
  std::map<Code, int> ended;
  for (int i = 0; i < 150; ++i)
    mesh[0].rpc->call(mesh[1].id, kEcho, {}, {}, {}, [&](const auto& result) { ++ended[code_of(result)]; });
  mesh.sim.run_for(kMinute);
  BOOST_TEST(ended[Code::ok] == 100);
  BOOST_TEST(ended[Code::overloaded] == 50);
}

// A slow link, and answers of 4 MiB each: the peer handles no more requests than its answer queue holds.
BOOST_AUTO_TEST_CASE(answers_that_are_not_read_hold_requests_back) {
  TestMesh mesh(11);
  mesh.route_all();
  BOOST_REQUIRE(mesh.call(mesh[0], mesh[1], kEcho).has_value());
  mesh.sim.faults().bytes_per_second = 10 << 20;
  int answered = 0;
  for (int i = 0; i < 40; ++i)
    mesh[0].rpc->call(mesh[1].id, kBig, {}, {}, {.timeout_ns = 2 * kMinute, .priority = Priority::bulk},
                      [&](const auto& result) { answered += result.has_value(); });
  mesh.sim.run_for(kSecond);
  BOOST_TEST(mesh[1].runs[0] > 0);
  BOOST_TEST(mesh[1].runs[0] < 12);  // 16 MiB of queue, what has left, and one over
  int64_t before = mesh.sim.now_ns();
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho, {}, {}, {.priority = Priority::control})) ==
             Code::ok);
  BOOST_TEST((mesh.sim.now_ns() - before) / kMillisecond < 200);
  BOOST_REQUIRE(mesh.sim.run_until([&] { return answered == 40; }, 2 * kMinute));
  BOOST_TEST(mesh[1].runs[0] == 40);
}

BOOST_AUTO_TEST_CASE(one_way) {
  TestMesh mesh(12);
  BOOST_TEST(!mesh[0].rpc->notify(mesh[1].id, kOneWay, {}).has_value());
  mesh.route_all();
  BOOST_REQUIRE(mesh.call(mesh[0], mesh[1], kEcho).has_value());
  for (int i = 0; i < 10; ++i) BOOST_TEST(mesh[0].rpc->notify(mesh[1].id, kOneWay, Bytes(10)).has_value());
  BOOST_TEST(mesh[0].rpc->notify(mesh[1].id, 250, {}).has_value());  // nobody handles it: ignored
  mesh.sim.run_for(kSecond);
  BOOST_TEST(mesh[1].one_ways == 10u);
}

BOOST_AUTO_TEST_CASE(calls_over_a_break) {
  TestMesh mesh(13);
  mesh.route_all();
  BOOST_REQUIRE(mesh.call(mesh[0], mesh[1], kEcho).has_value());
  std::optional<Code> in_flight, after;
  mesh[0].rpc->call(mesh[1].id, kNever, {}, {}, {.timeout_ns = kMinute},
                    [&](const auto& result) { in_flight = code_of(result); });
  mesh.sim.run_for(100 * kMillisecond);
  mesh.restart(mesh[1]);
  mesh[0].rpc->call(mesh[1].id, kEcho, {}, {}, {.timeout_ns = 20 * kSecond},
                    [&](const auto& result) { after = code_of(result); });
  mesh.sim.run_for(kMinute);
  BOOST_REQUIRE(in_flight.has_value());
  BOOST_TEST(*in_flight == Code::closed);  // it may have run
  BOOST_REQUIRE(after.has_value());
  BOOST_TEST((*after == Code::ok || *after == Code::closed));
  BOOST_TEST(code_of(mesh.call(mesh[0], mesh[1], kEcho)) == Code::ok);
  BOOST_TEST(mesh[0].ups >= 2);
  BOOST_TEST(mesh[0].downs == mesh[0].ups - 1);
}

BOOST_AUTO_TEST_CASE(a_silent_peer_is_given_up) {
  TestMesh mesh(14);
  mesh.route_all();
  mesh[0].rpc->keep_alive(mesh[1].id, true);
  mesh.sim.jump_wall(mesh[1].host, 90 * kSecond);
  mesh.sim.run_for(10 * kSecond);
  BOOST_REQUIRE(mesh[0].rpc->connected(mesh[1].id));
  auto stats = mesh[0].rpc->stats().at(0);
  BOOST_REQUIRE(stats.rtt_ns.has_value());
  BOOST_TEST(*stats.rtt_ns >= 2 * mesh.sim.faults().latency_min_ns);
  BOOST_TEST(*stats.rtt_ns <= 3 * mesh.sim.faults().latency_max_ns);
  BOOST_REQUIRE(stats.wall_offset_ns.has_value());
  BOOST_TEST(std::abs(*stats.wall_offset_ns - 90 * kSecond) < 10 * kMillisecond);
  std::optional<Code> ended;
  mesh[0].rpc->call(mesh[1].id, kNever, {}, {}, {.timeout_ns = 5 * kMinute},
                    [&](const auto& result) { ended = code_of(result); });
  mesh.sim.run_for(kSecond);
  mesh.sim.set_paused(mesh[1].host, true);
  mesh.sim.run_for(30 * kSecond);
  BOOST_TEST(!mesh[0].rpc->connected(mesh[1].id));
  BOOST_REQUIRE(ended.has_value());
  BOOST_TEST(*ended == Code::closed);
  mesh.sim.set_paused(mesh[1].host, false);
  mesh.sim.run_for(30 * kSecond);
  BOOST_TEST(mesh[0].rpc->connected(mesh[1].id));  // kept alive, so dialled again
}

BOOST_AUTO_TEST_CASE(unused_connections_close) {
  TestMesh mesh(15);
  mesh.options.idle_close_ns = 20 * kSecond;
  mesh.restart(mesh[0]);
  mesh.restart(mesh[1]);
  BOOST_REQUIRE(mesh.call(mesh[0], mesh[1], kEcho).has_value());
  mesh.sim.run_for(15 * kSecond);
  BOOST_TEST(mesh[0].rpc->connected(mesh[1].id));
  mesh.sim.run_for(30 * kSecond);
  BOOST_TEST(connected_pairs(mesh) == 0u);
  BOOST_TEST(code_of(mesh.call(mesh[1], mesh[0], kEcho)) == Code::ok);
}

BOOST_AUTO_TEST_CASE(keys_change_under_load) {
  TestMesh mesh(16);
  mesh.options.session.rekey_bytes = 200000;
  mesh.options.session.rekey_ns = 3 * kSecond;
  mesh.restart(mesh[0]);
  mesh.restart(mesh[1]);
  for (int i = 0; i < 30; ++i) {
    Bytes payload(100000, uint8_t(i));
    auto answer = mesh.call(mesh[0], mesh[1], kEcho, number(uint64_t(i)), payload);
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST((text(answer->payload) == text(payload)));
    if (i % 10 == 0) mesh.sim.run_for(4 * kSecond);
  }
  BOOST_TEST(mesh[0].downs == 0);
}

// Both dial at the same moment, with calls at once: every call is answered, and one connection is left.
BOOST_AUTO_TEST_CASE(simultaneous_dials_settle) {
  for (uint64_t seed = 1; seed <= seeds(60, 3000); ++seed) {
    TestMesh mesh(seed);
    mesh.sim.faults().latency_max_ns = 20 * kMillisecond;
    mesh.route_all();
    int answered = 0, failed = 0;
    auto ask = [&](size_t from, size_t to) {
      mesh[from].rpc->call(mesh[to].id, mesh.sim.random().below(2) ? kEcho : kSlow, {}, Bytes(50000), {},
                           [&](const auto& result) { ++(result ? answered : failed); });
    };
    for (int i = 0; i < 10; ++i) {
      ask(0, 1);
      ask(1, 0);
      mesh.sim.run_for(int64_t(mesh.sim.random().below(uint64_t(15 * kMillisecond))));
    }
    mesh.sim.run_for(20 * kSecond);
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_TEST(answered == 20);
      BOOST_TEST(failed == 0);
      BOOST_TEST(connected_pairs(mesh) == 2u);
      for (auto& peer : mesh.peers) BOOST_TEST(peer->rpc->stats().at(0).sessions == 1u);
      auto a = mesh[0].rpc->info(mesh[1].id), b = mesh[1].rpc->info(mesh[0].id);
      BOOST_REQUIRE((a && b));
      BOOST_TEST(mesh[0].ups == 1);
      BOOST_TEST(mesh[1].ups == 1);
      BOOST_TEST(mesh[0].downs + mesh[1].downs == 0);
      // The one that one side dialled (to port 7400) is the one that the other accepted.
      BOOST_TEST((a->address.port == 7400) != (b->address.port == 7400));
    }
  }
}

// Three peers, connections that break, partitions, pauses and restarts; calls with random deadlines and
// cancellations. Each call ends exactly once, those that ended well ran exactly once, those that were
// never sent did not run; then, healed, everything is answered within a bound.
BOOST_AUTO_TEST_CASE(every_call_ends_exactly_once) {
  for (uint64_t seed = 1; seed <= seeds(12, 500); ++seed) {
    TestMesh mesh(seed, 3);
    mesh.sim.faults().break_chance = 0.01;
    mesh.sim.faults().connect_failure = 0.1;
    mesh.route_all();
    TestRandom random(seed);
    std::map<uint64_t, int> ended;
    std::map<uint64_t, std::pair<size_t, Code>> results;
    std::map<Code, int> codes;
    std::vector<std::map<uint64_t, int>> runs(3);
    uint64_t next = 1;
    for (int step = 0; step < 400; ++step) {
      size_t from = random.below(3), to = (from + 1 + random.below(2)) % 3;
      uint64_t what = next++;
      size_t size = random.below(10) == 0 ? random.below(1 << 20) : random.below(2000);
      CallId id = mesh[from].rpc->call(
          mesh[to].id, kEcho, number(what), Bytes(size),
          {.timeout_ns = int64_t(random.below(uint64_t(5 * kSecond))), .priority = Priority(random.below(3))},
          [&, what, to](const Result<Answer>& result) {
            ++ended[what];
            results[what] = {to, code_of(result)};
            ++codes[code_of(result)];
          });
      if (random.below(10) == 0) mesh[from].rpc->cancel(id);
      if (random.below(40) == 0) mesh.sim.set_partition(mesh[random.below(3)].host, int(random.below(2)));
      if (random.below(40) == 0) mesh[from].rpc->drop(mesh[to].id), mesh.route_all();
      if (random.below(60) == 0) mesh[from].rpc->keep_alive(mesh[to].id, random.below(2) == 0);
      mesh.sim.run_for(int64_t(random.below(uint64_t(30 * kMillisecond))));
    }
    mesh.sim.heal();
    mesh.sim.faults() = NetworkFaults{};
    mesh.sim.run_for(30 * kSecond);
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_TEST(ended.size() == next - 1);
      for (auto& [what, times] : ended) BOOST_REQUIRE(times == 1);
      for (auto& [what, result] : results) {
        int ran = mesh[result.first].runs[what];
        if (result.second == Code::ok) BOOST_REQUIRE(ran == 1);
        if (result.second == Code::unreachable) BOOST_REQUIRE(ran == 0);
        BOOST_REQUIRE(ran <= 1);
      }
      BOOST_TEST(codes[Code::ok] > 40);
      for (size_t i = 0; i < 3; ++i)
        BOOST_TEST(code_of(mesh.call(mesh[i], mesh[(i + 1) % 3], kEcho)) == Code::ok);
    }
  }
}

BOOST_AUTO_TEST_CASE(one_seed_twice_gives_one_trace) {
  auto run = [](uint64_t seed) {
    TestMesh mesh(seed, 3);
    mesh.sim.faults().break_chance = 0.01;
    mesh.route_all();
    for (int i = 0; i < 50; ++i) {
      mesh[size_t(i) % 3].rpc->call(mesh[size_t(i + 1) % 3].id, kEcho, {}, Bytes(5000), {},
                                    [](const auto&) {});
      mesh.sim.run_for(10 * kMillisecond);
    }
    mesh.sim.run_for(10 * kSecond);
    return mesh.sim.trace_hash();
  };
  BOOST_TEST(run(5) == run(5));
  BOOST_TEST(run(5) != run(6));
}

BOOST_AUTO_TEST_SUITE_END()
