// A Node by itself, its events given by hand; messages and their limits.
#include "dht/node.h"

#include "test/unit/dht/common.h"

namespace efs::dht {
namespace {

Result<Id> anything(const Record& record) {
  if (record.body.empty()) return fail(Code::unauthorized);
  return record.key;
}

struct Fixture {
  std::unique_ptr<RecordStore> store = make_memory_record_store();
  Outbox outbox;
  TestRandom random;
  Instant now{kHour, kWall};
  NodeConfig config{.self = contact_of(id_of(0xff)), .checker = anything};
  std::unique_ptr<Node> node = *Node::create(config, *store, outbox, random, now);

  void pass(int64_t duration_ns) {
    const int64_t until = now.now_ns + duration_ns;
    while (node->next_tick_ns() <= until) {
      const int64_t next = std::max(now.now_ns + 1, node->next_tick_ns());
      now.wall_ns += next - now.now_ns;
      now.now_ns = next;
      node->tick(now);
    }
    now.wall_ns += until - now.now_ns;
    now.now_ns = until;
  }
  void reply(const Outbox::Sent& sent, const Answer& answer) {
    node->on_reply(sent.request_id, encode(answer), now);
  }
  Answer ask(const Id& from, const RequestBody& body, const std::string& address = "there") {
    return *decode_answer(node->on_request(from, encode(Request{address, body}), now));
  }
  // The requests of one kind among those sent.
  template <typename Body>
  std::vector<Outbox::Sent> sent() {
    std::vector<Outbox::Sent> result;
    for (auto& item : outbox.take()) {
      if (std::holds_alternative<Body>(item.request.body)) result.push_back(item);
    }
    return result;
  }
};

BOOST_FIXTURE_TEST_CASE(requests_bring_contacts_that_can_be_dialled, Fixture) {
  ask(id_of(1), Ping{});
  ask(id_of(2), Ping{}, "");
  BOOST_TEST(node->known() == 1u);
  const auto nodes = std::get<Nodes>(ask(id_of(3), FindNode{id_of(1)}));
  BOOST_REQUIRE(nodes.contacts.size() == 1u);  // the asker is not told of itself
  BOOST_TEST(nodes.contacts[0].address == "there");
}

BOOST_FIXTURE_TEST_CASE(who_may_not_be_in_the_mesh_is_nowhere, Fixture) {
  config.admitted = [](const Id& id) { return id[0] != 9; };
  node = *Node::create(config, *store, outbox, random, now);
  BOOST_TEST(std::holds_alternative<Refused>(ask(id_of(9), Ping{})));
  node->on_peer_up(contact_of(id_of(9)), now);
  BOOST_TEST(node->known() == 0u);
  node->on_peer_up(contact_of(id_of(1)), now);
  pass(0);
  const auto asked = sent<FindNode>();
  BOOST_REQUIRE(!asked.empty());
  reply(asked[0], Nodes{{contact_of(id_of(9)), contact_of(id_of(8))}});
  const auto next = sent<FindNode>();
  BOOST_REQUIRE(next.size() == 1u);
  BOOST_TEST((next[0].to.id == id_of(8)));
  node->on_peer_removed(id_of(1));
  BOOST_TEST(node->known() == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_value_is_looked_up_checked_and_repaired, Fixture) {
  for (uint8_t i = 1; i <= 4; ++i) node->on_peer_up(contact_of(id_of(i)), now);
  std::optional<LookupResult> result;
  node->lookup(
      id_of(0), {}, [&](LookupResult got) { result = std::move(got); }, now);
  auto asked = sent<FindValue>();
  BOOST_REQUIRE(asked.size() == 3u);
  auto forged = record_of(id_of(0), 99);
  forged.body.clear();
  reply(asked[0], Found{forged, {}});
  BOOST_TEST(node->stats().bad_answers == 1u);
  reply(asked[1], Found{record_of(id_of(0), 4), {}});
  reply(asked[2], Found{record_of(id_of(0), 5), {}});
  BOOST_TEST(!result.has_value());
  asked = sent<FindValue>();
  BOOST_REQUIRE(asked.size() == 1u);
  reply(asked[0], Found{{}, {}});
  BOOST_REQUIRE(result.has_value());
  BOOST_REQUIRE(result->record);
  BOOST_TEST(result->record->version == 5u);
  BOOST_TEST(result->hops == 1);
  // The one who had version 4, and the one on the way who had none.
  const auto stores = sent<Store>();
  BOOST_REQUIRE(stores.size() == 2u);
  BOOST_TEST((stores[0].to.id == id_of(2)));
  BOOST_TEST(!std::get<Store>(stores[0].request.body).cache);
  BOOST_TEST((stores[1].to.id == id_of(4)));
  BOOST_TEST(std::get<Store>(stores[1].request.body).cache);
}

BOOST_FIXTURE_TEST_CASE(silence_ends_a_lookup, Fixture) {
  node->on_peer_up(contact_of(id_of(1)), now);
  std::optional<LookupResult> result;
  node->lookup(
      id_of(0), {}, [&](LookupResult got) { result = std::move(got); }, now);
  pass(kRequestTimeout - kSecond);
  BOOST_TEST(!result.has_value());
  pass(kSecond);
  BOOST_REQUIRE(result.has_value());
  BOOST_TEST(bool(result->record.error().code == Code::timed_out));
}

BOOST_FIXTURE_TEST_CASE(the_transport_may_know_earlier, Fixture) {
  node->on_peer_up(contact_of(id_of(1)), now);
  std::optional<LookupResult> result;
  node->lookup(
      id_of(0), {}, [&](LookupResult got) { result = std::move(got); }, now);
  const auto asked = sent<FindValue>();
  BOOST_REQUIRE(asked.size() == 1u);
  node->on_failed(asked[0].request_id, now);
  BOOST_TEST(result.has_value());
  node->on_failed(asked[0].request_id, now);  // twice is once
  BOOST_TEST(node->stats().failed_requests == 1u);
}

BOOST_FIXTURE_TEST_CASE(an_operation_may_start_another_when_it_ends, Fixture) {
  int ended = 0;
  std::function<void(LookupResult)> again = [&](const LookupResult&) {
    if (++ended < 5) node->lookup(id_of(0), {}, again, now);
  };
  node->lookup(id_of(0), {}, again, now);
  BOOST_TEST(ended == 5);
}

BOOST_FIXTURE_TEST_CASE(lookups_at_once_are_bounded, Fixture) {
  node->on_peer_up(contact_of(id_of(1)), now);
  size_t overloaded = 0;
  for (size_t i = 0; i < kMaxLookups + 10; ++i) {
    node->lookup(
        id_of(0), {},
        [&](const LookupResult& got) {
          overloaded += !got.record && got.record.error().code == Code::overloaded;
        },
        now);
  }
  BOOST_TEST(overloaded == 10u);
}

BOOST_FIXTURE_TEST_CASE(a_record_is_put_at_the_closest, Fixture) {
  for (uint8_t i = 1; i <= 2; ++i) node->on_peer_up(contact_of(id_of(i)), now);
  std::optional<PutResult> result;
  node->put(
      record_of(id_of(0), 3), [&](PutResult got) { result = std::move(got); }, now);
  for (const auto& asked : sent<FindNode>()) reply(asked, Nodes{});
  const auto stores = sent<Store>();
  BOOST_REQUIRE(stores.size() == 2u);
  reply(stores[0], Stored{{uint16_t(Code::ok)}});
  BOOST_TEST(!result.has_value());
  reply(stores[1], Stored{{uint16_t(Code::conflict)}});
  BOOST_REQUIRE(result.has_value());
  BOOST_TEST(result->holders == 1u);
  BOOST_TEST(bool(result->status.error().code == Code::conflict));

  auto unsigned_record = record_of(id_of(0), 4);
  unsigned_record.body.clear();
  node->put(
      unsigned_record, [&](PutResult got) { result = std::move(got); }, now);
  BOOST_TEST(bool(result->status.error().code == Code::unauthorized));
}

BOOST_FIXTURE_TEST_CASE(offers_bring_what_is_missing_and_give_what_is_newer, Fixture) {
  ask(id_of(1), Store{{record_of(id_of(10), 5), record_of(id_of(11), 5), record_of(id_of(12), 5)}, false});
  const uint32_t sum = crc32c(record_of(id_of(12), 5).body);
  const auto wanted = std::get<Wanted>(
      ask(id_of(2), Offer{{{id_of(10), 6, 0}, {id_of(11), 4, 0}, {id_of(12), 5, sum}, {id_of(13), 1, 0}}}));
  BOOST_REQUIRE(wanted.keys.size() == 2u);
  BOOST_TEST((wanted.keys[0] == id_of(10)));
  BOOST_TEST((wanted.keys[1] == id_of(13)));
  BOOST_REQUIRE(wanted.newer.size() == 1u);
  BOOST_TEST((wanted.newer[0] == record_of(id_of(11), 5)));
}

BOOST_FIXTURE_TEST_CASE(a_peer_that_joins_is_offered_what_is_held, Fixture) {
  ask(id_of(1), Store{{record_of(id_of(10), 5)}, false}, "");
  node->on_peer_up(contact_of(id_of(2)), now);
  pass(kSecond);
  const auto offers = sent<Offer>();
  BOOST_REQUIRE(offers.size() == 1u);
  BOOST_TEST((offers[0].to.id == id_of(2)));
  reply(offers[0], Wanted{{id_of(10)}, {}});
  const auto stores = sent<Store>();
  BOOST_REQUIRE(stores.size() == 1u);
  BOOST_TEST((std::get<Store>(stores[0].request.body).records.at(0) == record_of(id_of(10), 5)));
}

BOOST_FIXTURE_TEST_CASE(caches_hold_for_minutes_and_not_for_who_asks_afresh, Fixture) {
  ask(id_of(1), Store{{record_of(id_of(10), 5)}, true});
  BOOST_TEST(node->holdings().size() == 0u);
  BOOST_TEST(std::get<Found>(ask(id_of(2), FindValue{id_of(10), false})).record.has_value());
  BOOST_TEST(!std::get<Found>(ask(id_of(2), FindValue{id_of(10), true})).record.has_value());
  pass(kCacheTime);
  BOOST_TEST(!std::get<Found>(ask(id_of(2), FindValue{id_of(10), false})).record.has_value());
}

BOOST_FIXTURE_TEST_CASE(who_cannot_be_dialled_holds_nothing_for_others, Fixture) {
  config.self.address.clear();
  node = *Node::create(config, *store, outbox, random, now);
  const auto stored = std::get<Stored>(ask(id_of(1), Store{{record_of(id_of(10), 5)}, false}));
  BOOST_TEST(bool(Code(stored.codes.at(0)) == Code::unsupported));
}

BOOST_FIXTURE_TEST_CASE(contacts_that_do_not_answer_are_forgotten_and_tried_again, Fixture) {
  node->on_peer_up(contact_of(id_of(1)), now);
  pass(kStaleAfter + 2 * kMinute);  // the lookup of our own id failed, and so did a ping
  BOOST_TEST(node->known() == 0u);
  outbox.take();
  pass(kMinute);
  const auto pings = sent<Ping>();
  BOOST_REQUIRE(!pings.empty());
  reply(pings.back(), Pong{});
  BOOST_TEST(node->known() == 1u);
}

BOOST_AUTO_TEST_CASE(messages_have_limits) {
  BOOST_TEST(bool(decode_request(Bytes{}).error().code == Code::protocol));
  BOOST_TEST(!decode_request(Bytes(kMaxMessageBytes + 1)));
  Offer offer;
  offer.names.resize(kMaxOffers);
  BOOST_TEST(bool(decode_request(encode(Request{"", offer}))));
  offer.names.resize(kMaxOffers + 1);
  BOOST_TEST(bool(decode_request(encode(Request{"", offer})).error().code == Code::too_large));
  BOOST_TEST(!decode_request(encode(Request{std::string(kMaxAddressBytes + 1, 'a'), Ping{}})));
  Store store;
  store.records.assign(kMaxBatchRecords + 1, record_of(id_of(1), 1));
  BOOST_TEST(!decode_request(encode(Request{"", store})));
  Nodes nodes;
  nodes.contacts.assign(kReplicas + 1, contact_of(id_of(1)));
  BOOST_TEST(!decode_answer(encode(Answer(nodes))));
  BOOST_TEST(!decode_answer(encode(Answer(Stored{std::vector<uint16_t>(kMaxBatchRecords + 1)}))));
}

BOOST_AUTO_TEST_CASE(messages_have_golden_bytes) {
  // A released encoding never changes (docs/dht.md).
  BOOST_TEST(to_hex(encode(Request{"a:1", Ping{}})) == "81a161a3613a31");
}

}  // namespace
}  // namespace efs::dht
