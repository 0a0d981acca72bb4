// One lookup, told by hand what came back.
#include "dht/lookup.h"

#include <set>

#include "test/unit/dht/common.h"

namespace efs::dht {
namespace {

std::vector<Contact> contacts_of(std::initializer_list<int> firsts) {
  std::vector<Contact> contacts;
  for (int first : firsts) contacts.push_back(contact_of(id_of(uint8_t(first))));
  return contacts;
}
std::vector<int> ask(Lookup& lookup) {
  std::vector<int> asked;
  while (auto contact = lookup.next()) asked.push_back(contact->id[0]);
  return asked;
}
const Id kSelf = id_of(0xff);
const std::vector<Contact> kNobody;

BOOST_AUTO_TEST_CASE(asks_the_closest_three_at_a_time) {
  Lookup lookup(kSelf, id_of(0), 2, 0);
  lookup.add_known(contacts_of({0x40, 0x08, 0x20, 0x80}));
  BOOST_TEST(ask(lookup) == (std::vector<int>{0x08, 0x20}), boost::test_tools::per_element());
  lookup.answered(id_of(0x08), contacts_of({0x04, 0x02, 0x10, 0xff}));
  // 0x20 is still out: one of two places; then the closer ones that were named, ourselves never.
  BOOST_TEST(ask(lookup) == (std::vector<int>{0x02, 0x04}), boost::test_tools::per_element());
  lookup.answered(id_of(0x20), kNobody);
  lookup.answered(id_of(0x02), kNobody);
  BOOST_TEST(!lookup.finished());
  lookup.answered(id_of(0x04), kNobody);
  BOOST_TEST(ask(lookup).empty());
  BOOST_TEST(lookup.finished());
  const auto closest = lookup.closest();
  BOOST_REQUIRE(closest.size() == 2u);
  BOOST_TEST((closest[0].id == id_of(0x02)));
  BOOST_TEST((closest[1].id == id_of(0x04)));
  BOOST_TEST(lookup.hops() == 2);
  BOOST_TEST(lookup.requests() == 4u);
}

BOOST_AUTO_TEST_CASE(slow_ones_make_way_and_are_still_welcome) {
  Lookup lookup(kSelf, id_of(0), 3, 0);
  lookup.add_known(contacts_of({1, 2, 3, 4}));
  BOOST_TEST(ask(lookup).size() == 3u);
  lookup.slow(id_of(1));
  BOOST_TEST(ask(lookup) == (std::vector<int>{4}), boost::test_tools::per_element());
  lookup.answered(id_of(2), kNobody);
  lookup.answered(id_of(3), kNobody);
  BOOST_TEST(!lookup.finished());
  lookup.answered(id_of(1), kNobody);
  lookup.failed(id_of(4));
  BOOST_TEST(lookup.finished());
  BOOST_TEST((lookup.closest()[0].id == id_of(1)));
  lookup.answered(id_of(4), kNobody);  // after its failure: nothing
  BOOST_TEST(lookup.closest().size() == 3u);
}

BOOST_AUTO_TEST_CASE(when_all_are_slow_it_waits) {
  Lookup lookup(kSelf, id_of(0), 20, 3);
  lookup.add_known(contacts_of({1, 2}));
  ask(lookup);
  lookup.slow(id_of(1));
  lookup.slow(id_of(2));
  BOOST_TEST(!lookup.finished());
  lookup.failed(id_of(1));
  lookup.failed(id_of(2));
  BOOST_TEST(lookup.finished());
  BOOST_TEST(lookup.answers() == 0u);
}

BOOST_AUTO_TEST_CASE(the_highest_version_of_three_answers) {
  Lookup lookup(kSelf, id_of(0), 20, 3);
  lookup.add_known(contacts_of({1, 2, 3, 4, 5}));
  BOOST_TEST(ask(lookup).size() == 3u);
  lookup.answered(id_of(1), record_of(id_of(0), 4));
  lookup.answered(id_of(2), record_of(id_of(0), 6));
  lookup.answered(id_of(3), std::vector<Contact>{});
  BOOST_TEST(!lookup.finished());
  ask(lookup);
  lookup.answered(id_of(4), record_of(id_of(0), 5));
  BOOST_TEST(lookup.finished());
  BOOST_TEST(lookup.best()->version == 6u);
  const auto outdated = lookup.outdated();
  BOOST_REQUIRE(outdated.size() == 2u);
  BOOST_TEST((outdated[0].id == id_of(1)));
  BOOST_TEST((outdated[1].id == id_of(4)));
  BOOST_TEST((lookup.closest()[0].id == id_of(3)));  // on the way, without it
  BOOST_TEST(lookup.hops() == 1);
}

BOOST_AUTO_TEST_CASE(who_names_the_dead_loses_its_say) {
  Lookup lookup(kSelf, id_of(0), 4, 0);
  lookup.add_known(contacts_of({0x80, 0x81, 0x82, 0x83}));
  BOOST_TEST(ask(lookup).size() == 3u);
  std::vector<Contact> invented;
  for (uint8_t i = 1; i <= 20; ++i) invented.push_back(contact_of(id_of(0, i)));
  lookup.answered(id_of(0x80), invented);
  size_t wasted = 0;
  std::set<Id> answered;
  for (int round = 0; round < 100 && !lookup.finished(); ++round) {
    while (auto contact = lookup.next()) {
      if (contact->id[0] == 0) {
        ++wasted;
        lookup.slow(contact->id);
      } else {
        lookup.answered(contact->id, std::vector<Contact>{});
      }
    }
    lookup.answered(id_of(0x81), std::vector<Contact>{});
    lookup.answered(id_of(0x82), std::vector<Contact>{});
  }
  BOOST_TEST(lookup.finished());
  BOOST_TEST(wasted == 3u);
  BOOST_TEST(lookup.closest().size() == 4u);
}

BOOST_AUTO_TEST_CASE(another_address_is_another_chance) {
  Lookup lookup(kSelf, id_of(0), 3, 0);
  lookup.add_known({{id_of(1), "wrong"}, {id_of(2), "right"}});
  ask(lookup);
  lookup.failed(id_of(1));
  lookup.answered(id_of(2), std::vector<Contact>{{id_of(1), "moved"}});
  const auto contact = lookup.next();
  BOOST_REQUIRE(contact);
  BOOST_TEST(contact->address == "moved");
}

BOOST_AUTO_TEST_CASE(it_is_bounded) {
  Lookup lookup(kSelf, id_of(0), 20, 3);
  TestRandom random;
  auto more = [&] {
    std::vector<Contact> contacts;
    for (int i = 0; i < 20; ++i) {
      Id id;
      random.fill(id);
      contacts.push_back(contact_of(id));
    }
    return contacts;
  };
  lookup.add_known(more());
  size_t asked = 0;
  // Everybody answers at once with somebody closer yet.
  for (int bits = 1; !lookup.finished(); ++bits) {
    BOOST_REQUIRE(asked < 1000u);
    while (auto contact = lookup.next()) {
      ++asked;
      lookup.answered(
          contact->id,
          std::vector<Contact>{contact_of(random_id_at(id_of(0), std::min(bits + int(asked), 255), random))});
    }
  }
  BOOST_TEST(asked <= kMaxLookupRequests);
  BOOST_TEST(!lookup.best().has_value());
}

}  // namespace
}  // namespace efs::dht
