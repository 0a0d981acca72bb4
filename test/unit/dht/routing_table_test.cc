// Distances, buckets, replacement, closest, the estimate of the mesh's size.
#include "dht/routing_table.h"

#include <algorithm>

#include "test/unit/dht/common.h"

namespace efs::dht {
namespace {

BOOST_AUTO_TEST_CASE(distances) {
  BOOST_TEST(common_prefix_bits(id_of(0x80), id_of(0x00)) == 0);
  BOOST_TEST(common_prefix_bits(id_of(0x81), id_of(0x80)) == 7);
  BOOST_TEST(common_prefix_bits(id_of(1, 1), id_of(1, 0)) == 255);
  BOOST_TEST(common_prefix_bits(id_of(1), id_of(1)) == 256);
  BOOST_TEST(closer(id_of(0x10), id_of(0x11), id_of(0x13)));
  BOOST_TEST(!closer(id_of(0x10), id_of(0x13), id_of(0x11)));
  BOOST_TEST(!closer(id_of(0x10), id_of(0x11), id_of(0x11)));
  BOOST_TEST(distance_fraction(id_of(0x80), id_of(0)) == 0.5);
  TestRandom random;
  for (int bits : {0, 1, 7, 8, 63, 64, 200, 255})
    BOOST_TEST(common_prefix_bits(id_of(0x5a, 7), random_id_at(id_of(0x5a, 7), bits, random)) == bits);
}

BOOST_AUTO_TEST_CASE(closest_is_what_sorting_everybody_gives) {
  TestRandom random;
  Id self;
  random.fill(self);
  RoutingTable table(self);
  std::vector<Id> all;
  for (int i = 0; i < 600; ++i) {
    Id id;
    random.fill(id);
    if (i % 3 == 0) id = random_id_at(self, 4 + i % 9, random);
    if (table.seen(contact_of(id), 0) == RoutingTable::Seen::added) all.push_back(id);
  }
  BOOST_TEST(table.size() == all.size());
  for (int i = 0; i < 200; ++i) {
    Id target;
    random.fill(target);
    if (i % 2 == 0) target = random_id_at(self, i / 2, random);
    std::sort(all.begin(), all.end(), [&](const Id& a, const Id& b) { return closer(target, a, b); });
    const auto found = table.closest(target, 20);
    BOOST_REQUIRE(found.size() == 20u);
    for (size_t j = 0; j < found.size(); ++j) BOOST_TEST((found[j].id == all[j]));
    const auto nearer =
        size_t(std::count_if(all.begin(), all.end(), [&](const Id& id) { return closer(target, id, self); }));
    BOOST_TEST(table.closer_than_self(target, 1000) == nearer);
    BOOST_TEST(table.closer_than_self(target, 5) == std::min<size_t>(nearer, 5));
    BOOST_TEST(table.closer_than(all[30], target, 1000) == 30u + (closer(target, self, all[30]) ? 1 : 0));
  }
  BOOST_TEST(table.closest(self, 10000).size() == all.size());
}

BOOST_AUTO_TEST_CASE(a_full_bucket_keeps_whom_it_knows) {
  RoutingTable table(id_of(0));
  TestRandom random;
  std::vector<Contact> contacts;
  for (size_t i = 0; i < kBucketSize + 2; ++i)
    contacts.push_back(contact_of(random_id_at(id_of(0), 0, random)));
  for (size_t i = 0; i < kBucketSize; ++i)
    BOOST_TEST(bool(table.seen(contacts[i], int64_t(i)) == RoutingTable::Seen::added));
  const auto& newcomer = contacts[kBucketSize];
  BOOST_TEST(bool(table.seen(newcomer, 1000) == RoutingTable::Seen::waits));
  BOOST_TEST(!table.contains(newcomer.id));
  BOOST_TEST(!table.has_room(newcomer.id));

  // The oldest is to be pinged, once it has been silent for long; an answer keeps it.
  BOOST_TEST(!table.oldest(newcomer.id, kMinute).has_value());
  BOOST_REQUIRE(table.oldest(newcomer.id, kHour).has_value());
  BOOST_TEST((table.oldest(newcomer.id, kHour)->id == contacts[0].id));
  BOOST_TEST(bool(table.seen(contacts[0], kHour) == RoutingTable::Seen::known));
  BOOST_TEST((table.oldest(newcomer.id, kHour)->id == contacts[1].id));

  // Failing once is forgiven; twice gives the place to who waits.
  BOOST_TEST(!table.failed(contacts[1].id).has_value());
  BOOST_TEST(bool(table.seen(contacts[1], kHour) == RoutingTable::Seen::recovered));
  BOOST_TEST(!table.failed(contacts[1].id).has_value());
  BOOST_REQUIRE(table.failed(contacts[1].id).has_value());
  BOOST_TEST(!table.contains(contacts[1].id));
  BOOST_TEST(table.contains(newcomer.id));
  BOOST_TEST(table.size() == kBucketSize);

  // One that has failed makes way at once.
  table.failed(contacts[2].id);
  BOOST_TEST(bool(table.seen(contacts[kBucketSize + 1], kHour) == RoutingTable::Seen::added));
  BOOST_TEST(!table.contains(contacts[2].id));
}

BOOST_AUTO_TEST_CASE(who_cannot_be_dialled_is_in_no_table) {
  RoutingTable table(id_of(1));
  BOOST_TEST(bool(table.seen({id_of(2), ""}, 0) == RoutingTable::Seen::refused));
  BOOST_TEST(
      bool(table.seen({id_of(2), std::string(kMaxAddressBytes + 1, 'a')}, 0) == RoutingTable::Seen::refused));
  BOOST_TEST(bool(table.seen(contact_of(id_of(1)), 0) == RoutingTable::Seen::refused));
  BOOST_TEST(bool(table.seen(contact_of(Id{}), 0) == RoutingTable::Seen::refused));
  BOOST_TEST(table.size() == 0u);
}

BOOST_AUTO_TEST_CASE(the_size_of_the_mesh_is_estimated) {
  TestRandom random;
  Id self;
  random.fill(self);
  RoutingTable table(self);
  BOOST_TEST(table.mesh_size() == 1u);
  for (int i = 0; i < 20000; ++i) {
    Id id;
    random.fill(id);
    table.seen(contact_of(id), 0);
    if (i == 11) BOOST_TEST(table.mesh_size() == 13u);
  }
  BOOST_TEST(table.size() < 3000u);  // buckets are full
  BOOST_TEST(table.mesh_size() > 10000u);
  BOOST_TEST(table.mesh_size() < 40000u);
}

BOOST_AUTO_TEST_CASE(silent_contacts_and_old_buckets_come_up) {
  TestRandom random;
  RoutingTable table(id_of(0));
  table.seen(contact_of(id_of(0x80)), 0);
  table.seen(contact_of(id_of(0x40)), kHour);
  BOOST_TEST(!table.sample_stale(kMinute, random).has_value());
  BOOST_REQUIRE(table.sample_stale(kHour, random).has_value());
  BOOST_TEST((table.sample_stale(kHour, random)->id == id_of(0x80)));
  table.seen(contact_of(id_of(0x80)), kHour);
  BOOST_TEST(!table.sample_stale(kHour, random).has_value());
  table.doubt(id_of(0x40));
  BOOST_TEST((table.sample_stale(kHour, random)->id == id_of(0x40)));

  BOOST_TEST(table.bucket_to_refresh(kHour, 1).value() == 0);
  BOOST_TEST(table.bucket_to_refresh(kHour, 1).value() == 1);
  BOOST_TEST(!table.bucket_to_refresh(kHour, 1).has_value());
  table.refreshed(id_of(0x80), kHour + kMinute);
  BOOST_TEST(table.bucket_to_refresh(2 * kHour, 1).value() == 1);
  BOOST_TEST(!table.bucket_to_refresh(2 * kHour, 1).has_value());
}

}  // namespace
}  // namespace efs::dht
