// Entries of a directory as they are sent and kept.
#include "peer/volume/entry_list.h"

#include <boost/test/unit_test.hpp>

#include "peer/base/encoding.h"

using namespace efs;

BOOST_AUTO_TEST_SUITE(entry_list)

namespace {

Attributes attributes_of(InodeNumber inode) {
  Attributes attributes;
  attributes.inode = inode;
  attributes.mode = 0100644;
  attributes.size = uint64_t(1) << 62;
  attributes.mtime_ns = -1;
  attributes.xattr_bytes = 7;
  return attributes;
}

// A name, one with attributes, a junction, the longest name.
EntryList sample() {
  EntryList list;
  list.add({"a", 3, 10, 0100000, {}, {}});
  list.add({"b", 4, 11, 0100000, attributes_of(11), {}});
  list.add({"c", 5, 0, 0040000, {}, Junction{Id{9}, 77}});
  const std::string longest(kMaxName, 'x');
  list.add({longest, UINT64_MAX, 12, 0120000, attributes_of(12), {}});
  return list;
}

struct Packed {  // an EntryList, as whoever sends one may write it
  Bytes bytes;
  static constexpr auto fields() { return std::tuple{field("p", &Packed::bytes)}; }
};
Bytes bytes_of(const EntryList& list) {
  return decode<Packed>(encode(list))->bytes;
}
Result<EntryList> read(Bytes bytes) {
  return decode<EntryList>(encode(Packed{std::move(bytes)}));
}

std::string names_of(const EntryList& list) {
  std::string names;
  for (const DirectoryEntry entry : list) {
    BOOST_TEST(entry.name.data()[entry.name.size()] == '\0');
    names += std::string(entry.name.substr(0, 1));
  }
  return names;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_added_comes_back) {
  const EntryList list = sample();
  BOOST_TEST(list.size() == 4u);
  BOOST_TEST(names_of(list) == "abcx");
  auto at = list.begin();
  BOOST_TEST((*at).cookie == 3u);
  BOOST_TEST((*at).inode == 10u);
  BOOST_TEST((*at).mode == 0100000u);
  BOOST_TEST(!(*at).attributes);
  ++at;
  BOOST_REQUIRE((*at).attributes);
  BOOST_TEST((*(*at).attributes == attributes_of(11)));
  ++at;
  BOOST_REQUIRE((*at).junction);
  BOOST_TEST((*(*at).junction == Junction{Id{9}, 77}));
  BOOST_TEST(!(*at).attributes);
  BOOST_TEST(list.back().name.size() == kMaxName);
  BOOST_TEST(list.back().cookie == UINT64_MAX);
  const auto read_back = decode<EntryList>(encode(list));
  BOOST_REQUIRE(read_back);
  BOOST_TEST((*read_back == list));
  BOOST_TEST(EntryList().empty());
  BOOST_TEST(EntryList().size() == 0u);
}

BOOST_AUTO_TEST_CASE(the_end_is_cut_off_and_attributes_are_hidden) {
  EntryList list = sample();
  list.hide_attributes(++list.begin());
  BOOST_TEST(!(*++list.begin()).attributes);
  BOOST_TEST(!(++list.begin()).has_attributes());
  BOOST_TEST(list.back().attributes.has_value());
  BOOST_TEST(names_of(*decode<EntryList>(encode(list))) == "abcx");
  list.erase_from(++ ++list.begin());
  BOOST_TEST(names_of(list) == "ab");
  list.erase_from(list.begin());
  BOOST_TEST(list.empty());
}

BOOST_AUTO_TEST_CASE(impossible_names_are_left_out) {
  EntryList list;
  list.add({"", 3, 10, 0, {}, {}});
  list.add({std::string(kMaxName + 1, 'x'), 4, 10, 0, {}, {}});
  list.add({std::string_view("a\0b", 3), 5, 10, 0, {}, {}});
  BOOST_TEST(list.empty());
}

// Attributes that later programs append are passed over; those that earlier ones do not have are as they are
// by default.
BOOST_AUTO_TEST_CASE(lists_of_other_versions_are_read) {
  EntryList one;
  one.add({"b", 4, 11, 0100000, attributes_of(11), {}});
  const Bytes bytes = bytes_of(one);
  const size_t head = 23, after = bytes.size() - 2;  // "b" and its NUL
  Bytes later = bytes, earlier = bytes;
  later[1] = uint8_t(later[1] + 8);
  later.insert(later.begin() + ptrdiff_t(after), 8, 0xee);
  earlier[1] = uint8_t(earlier[1] - 4);
  earlier.erase(earlier.begin() + ptrdiff_t(after) - 4, earlier.begin() + ptrdiff_t(after));
  BOOST_TEST(size_t(bytes[1]) == after - head);
  const auto newer = read(later), older = read(earlier);
  BOOST_REQUIRE(newer);
  BOOST_REQUIRE(older);
  BOOST_TEST((*newer->back().attributes == attributes_of(11)));
  BOOST_TEST(newer->back().name == "b");
  Attributes without = attributes_of(11);
  without.xattr_bytes = 0;
  BOOST_TEST((*older->back().attributes == without));
  BOOST_TEST(older->back().name == "b");
}

BOOST_AUTO_TEST_CASE(what_is_no_list_is_refused) {
  const Bytes good = bytes_of(sample());
  BOOST_TEST(read(good).has_value());
  size_t boundaries = 0;
  for (size_t length = 0; length < good.size(); ++length) {
    const auto cut = read({good.begin(), good.begin() + ptrdiff_t(length)});
    boundaries += cut.has_value();
    if (!cut) BOOST_TEST((cut.error().code == Code::protocol));
  }
  BOOST_TEST(boundaries == 4u);  // none, and after each of the first three
  const auto changed = [&](size_t at, uint8_t to) {
    Bytes bytes = good;
    bytes[at] = to;
    return read(bytes).has_value();
  };
  BOOST_TEST(!changed(0, 0x80));  // a flag that is not known
  BOOST_TEST(!changed(2, 0));     // no name
  BOOST_TEST(!changed(23, 0));    // a NUL in it
  BOOST_TEST(!changed(24, 'x'));  // and none behind it
  BOOST_TEST(!changed(1, 0xff));  // attributes up to where no name is
  BOOST_TEST(changed(23, '/'));   // for who shows it to refuse
}

BOOST_AUTO_TEST_SUITE_END()
