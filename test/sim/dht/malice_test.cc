// What it shows: what a peer may not do has no effect. Forged, older, expired and oversized records are
// refused by every holder; bytes that are no message, truncated and flipped ones among them, change nothing
// and crash nothing; peers that invent contacts, keep nothing of what they are given or answer garbage
// cannot keep lookups from succeeding.
// How: a mesh of 76 peers, a fifth of them malicious, and requests written by hand to honest peers.
#include <boost/test/unit_test.hpp>
#include <cstdio>

#include "test/sim/dht/mesh.h"

namespace efs::dht {
namespace {

struct World {
  Mesh mesh;
  World(uint64_t seed, size_t honest, size_t liars, size_t babblers) : mesh(seed) {
    std::printf("malice_seed %lu\n", seed);
    std::fflush(stdout);
    for (size_t i = 0; i < honest + liars + babblers; ++i) {
      const auto nature = i < 5 || i % 5 != 0            ? Mesh::Nature::honest
                          : i % 10 == 0 && babblers != 0 ? Mesh::Nature::babbler
                          : liars != 0                   ? Mesh::Nature::liar
                                                         : Mesh::Nature::honest;
      mesh.at(int64_t(i) * 200 * kMillisecond, [this, nature] {
        std::vector<Contact> seeds;
        if (!mesh.hosts().empty()) seeds.push_back(mesh.random_up().contact);
        mesh.start(mesh.add(nature), seeds);
      });
    }
    mesh.run_for(10 * kMinute);
    for (auto& host : mesh.hosts()) {
      if (host->nature == Mesh::Nature::honest) mesh.publish(*host);
    }
    mesh.run_for(kMinute);
  }
  // As if `from` had asked; the answer.
  Answer ask(Mesh::Host& host, const Id& from, const RequestBody& body) {
    const auto bytes = host.node->on_request(from, encode(Request{"", body}), mesh.instant(host));
    auto answer = decode_answer(bytes);
    BOOST_REQUIRE(answer);
    return *std::move(answer);
  }
  Code store(Mesh::Host& host, const Record& record) {
    const auto answer = ask(host, mesh.hosts()[0]->contact.id, Store{{record}, false});
    const auto* stored = std::get_if<Stored>(&answer);
    BOOST_REQUIRE(stored != nullptr);
    BOOST_REQUIRE(stored->codes.size() == 1);
    return Code(stored->codes[0]);
  }
  std::optional<Record> held(Mesh::Host& host, const Id& key) {
    return host.node->holdings().get(key, mesh.instant(host));
  }
};

BOOST_AUTO_TEST_CASE(records_without_right_are_refused) {
  World world(4, 30, 0, 0);
  auto& mesh = world.mesh;
  auto& host = *mesh.hosts()[7];
  auto& victim = *mesh.hosts()[9];
  const Id key = key_of(victim.contact.id);
  const int64_t expires = mesh.wall_ns() + kHour;
  const auto good = sign(victim.contact.id, 10, expires);
  BOOST_TEST(bool(world.store(host, good) == Code::ok));

  auto forged = sign(victim.contact.id, 11, expires);
  forged.body.back() ^= 1;
  BOOST_TEST(bool(world.store(host, forged) == Code::unauthorized));
  auto raised = good;  // the signature covers version, expiry and removal
  raised.version = 12;
  BOOST_TEST(bool(world.store(host, raised) == Code::unauthorized));
  raised = good;
  raised.removed = true;
  BOOST_TEST(bool(world.store(host, raised) == Code::unauthorized));
  auto foreign = sign(mesh.hosts()[3]->contact.id, 13, expires);  // rightly signed, for another key
  foreign.key = key;
  BOOST_TEST(bool(world.store(host, foreign) == Code::unauthorized));
  BOOST_TEST(bool(world.store(host, sign(victim.contact.id, 9, expires)) == Code::conflict));
  BOOST_TEST(bool(world.store(host, sign(victim.contact.id, 14, mesh.wall_ns() - kHour)) == Code::expired));
  BOOST_TEST(bool(world.store(host, sign(victim.contact.id, 14, mesh.wall_ns() + 2 * kMaxTtl)) ==
                  Code::invalid_argument));
  const std::string large(kMaxRecordBytes + 1, 'x');
  BOOST_TEST(bool(world.store(host, sign(victim.contact.id, 15, expires, false, large)) == Code::too_large));

  BOOST_REQUIRE(world.held(host, key));
  BOOST_TEST((*world.held(host, key) == good));
  BOOST_TEST(host.node->stats().refused_records == 7u);

  // Neither does the right of caching go further.
  const auto answer = world.ask(host, mesh.hosts()[0]->contact.id, Store{{forged}, true});
  BOOST_TEST(bool(Code(std::get<Stored>(answer).codes[0]) == Code::unauthorized));
}

void garbage_run(uint64_t seed) {
  World world(seed, 30, 0, 0);
  auto& mesh = world.mesh;
  auto& random = mesh.random();
  auto& host = *mesh.hosts()[7];
  auto& other = *mesh.hosts()[9];
  const auto record = sign(other.contact.id, 100, mesh.wall_ns() + kHour);
  const std::vector<Bytes> samples = {
      encode(Request{"h9", Ping{}}),
      encode(Request{"h9", FindNode{record.key}}),
      encode(Request{"h9", FindValue{record.key, true}}),
      encode(Request{"h9", Store{{record, record}, false}}),
      encode(Request{"h9", Offer{{{record.key, 3, 4}, {host.contact.id, 1, 2}}}}),
      encode(Answer(Nodes{{other.contact, host.contact}})),
      encode(Answer(Found{record, {}})),
      encode(Answer(Wanted{{record.key}, {record}})),
      encode(Answer(Stored{{0, 1}})),
  };
  const size_t held = host.node->holdings().size();
  const size_t known = host.node->known();
  auto now = mesh.instant(host);
  const int rounds = long_form() ? 200000 : 3000;
  for (int i = 0; i < rounds; ++i) {
    Bytes bytes = samples[random.below(samples.size())];
    switch (random.below(3)) {
      case 0:
        bytes.resize(random.below(bytes.size()));
        break;
      case 1:
        for (uint64_t flips = 1 + random.below(4); flips > 0; --flips)
          bytes[random.below(bytes.size())] ^= uint8_t(1 << random.below(8));
        break;
      default:
        bytes.resize(random.below(400));
        random.fill(bytes);
    }
    Id from = other.contact.id;
    now.now_ns += 10 * kMillisecond;
    BOOST_REQUIRE(decode_answer(host.node->on_request(from, bytes, now)));
    host.node->on_reply(random.below(100000), bytes, now);  // to a request of ours or to none
  }
  // A flipped bit can leave a request whole: it may have taken the one record that was rightly signed, and
  // another address of its sender; nobody else's.
  BOOST_TEST(host.node->holdings().size() <= held + 1);
  BOOST_TEST(host.node->known() <= known + 1);
  for (const auto& [key, item] : host.node->holdings().index()) {
    BOOST_TEST(bool(check_record(*host.node->holdings().get(key, now))));
  }
}

BOOST_AUTO_TEST_CASE(garbage_changes_nothing) {
  garbage_run(5);
  garbage_run(fresh_seed());
}

BOOST_AUTO_TEST_CASE(liars_cannot_stop_lookups) {
  World world(6, 60, 8, 8);
  auto& mesh = world.mesh;
  size_t found = 0, asked = 0;
  int64_t slowest_ns = 0;
  for (int i = 0; i < 200; ++i) {
    auto& asker = mesh.random_up();
    auto& publisher = mesh.random_up();
    ++asked;
    mesh.with(asker, [&](Node& node, Instant now) {
      node.lookup(
          key_of(publisher.contact.id), {.fresh = true},
          [&, began = mesh.now_ns()](const LookupResult& result) {
            found += result.record.has_value();
            slowest_ns = std::max(slowest_ns, mesh.now_ns() - began);
          },
          now);
    });
    mesh.run_for(kSecond);
  }
  mesh.run_for(kMinute);
  std::printf("malice_lookups %zu\nmalice_success %.4f\nmalice_slowest_ms %ld\n", asked,
              double(found) / double(asked), long(slowest_ns / kMillisecond));
  std::fflush(stdout);
  BOOST_TEST(found >= asked * 999 / 1000);
  BOOST_TEST(slowest_ns <= 30 * kSecond);
  uint64_t bad = 0;
  for (auto& host : mesh.hosts()) bad += host->node->stats().bad_answers;
  BOOST_TEST(bad > 0u);  // and they were counted
}

BOOST_AUTO_TEST_CASE(one_sender_cannot_take_all_of_a_peers_time) {
  World world(7, 10, 0, 0);
  auto& host = *world.mesh.hosts()[3];
  size_t refused = 0;
  for (size_t i = 0; i < 3000; ++i) {
    const auto answer = world.ask(host, world.mesh.hosts()[1]->contact.id, Ping{});
    refused += std::holds_alternative<Refused>(answer);
  }
  BOOST_TEST(refused >= 1900u);
  BOOST_TEST(std::holds_alternative<Pong>(world.ask(host, world.mesh.hosts()[2]->contact.id, Ping{})));
}

}  // namespace
}  // namespace efs::dht
