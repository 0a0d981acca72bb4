// A volume's settings, and the format level that their operation needs.
#include <boost/test/unit_test.hpp>

#include "map_rows.h"

using namespace efs;
using namespace efs::test;

BOOST_AUTO_TEST_SUITE(policy)

BOOST_AUTO_TEST_CASE(a_volume_is_raised_before_it_takes_settings) {
  TestVolume volume(1);
  const SetPolicy lz4{{Compression::lz4}};
  BOOST_TEST((read_policy(volume.rows)->compression == Compression::none));
  BOOST_TEST((*read_charter(volume.rows))->format_level == 1u);
  BOOST_TEST(volume.run(lz4).code == Code::version);
  BOOST_TEST(volume.run(RaiseLevel{kFormatLevel + 1}).code == Code::invalid_argument);
  BOOST_TEST(volume.run(RaiseLevel{2}).code == Code::ok);
  BOOST_TEST(volume.run(RaiseLevel{2}).code == Code::invalid_argument);
  BOOST_TEST(volume.run(RaiseLevel{1}).code == Code::invalid_argument);
  BOOST_TEST((*read_charter(volume.rows))->format_level == 2u);
  BOOST_TEST(volume.run(lz4).code == Code::ok);
  BOOST_TEST((read_policy(volume.rows)->compression == Compression::lz4));
  BOOST_TEST(volume.run(SetPolicy{{Compression::none}}).code == Code::ok);
  BOOST_TEST((read_policy(volume.rows)->compression == Compression::none));
}

BOOST_AUTO_TEST_CASE(only_root_sets_it_and_only_to_what_is_known) {
  TestVolume volume(1);
  BOOST_TEST(volume.run(RaiseLevel{2}).code == Code::ok);
  BOOST_TEST(volume.run(SetPolicy{{Compression::zstd}}, user(5)).code == Code::not_permitted);
  BOOST_TEST(volume.run(SetPolicy{{Compression(9)}}).code == Code::invalid_argument);
  BOOST_TEST((read_policy(volume.rows)->compression == Compression::none));
}

// What the bytes of an operation became is known to whoever packed them before.
BOOST_AUTO_TEST_CASE(a_chunk_of_all_that_was_sent_says_so) {
  TestVolume volume(1);
  const auto file = volume.make(kRootInode, "f", 0100644);
  volume.write(file, 0, std::string(1000, 'x'));
  volume.write(file, 1000, std::string(5000, 'y'));
  BOOST_REQUIRE(volume.effects.store.size() == 2u);
  BOOST_TEST(!volume.effects.store[0].as_sent);  // the small content that was in the inode
  BOOST_TEST(volume.effects.store[1].as_sent);
  BOOST_TEST(volume.effects.store[1].bytes.size() == 5000u);
}

// Rows of before there were levels: a charter that does not name its level has level 1 for ever.
BOOST_AUTO_TEST_CASE(a_charter_without_a_level_has_the_first) {
  VolumeCharter charter;
  charter.number = 3;
  const Bytes bytes = encode(charter);
  BOOST_TEST(text(bytes).find("\xa1"
                              "f") == std::string_view::npos);
  BOOST_TEST(decode<VolumeCharter>(bytes)->format_level == 1u);
}

BOOST_AUTO_TEST_SUITE_END()
