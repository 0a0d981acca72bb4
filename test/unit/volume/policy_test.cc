// A volume's compression: what is written from then on is packed outside of the apply lock, and the setting
// outlives restarts of every kind.
#include <boost/test/unit_test.hpp>

#include "fixture.h"

using namespace efs;
using namespace efs::test;

namespace {
std::string words(size_t size) {
  std::string out;
  while (out.size() < size) out += "some words that shrink " + std::to_string(out.size() % 997) + "\n";
  out.resize(size);
  return out;
}
std::map<size_t, Compression> forms(const TestPeer& peer) {  // by length
  std::map<size_t, Compression> out;
  for (const auto& [key, one] : peer.chunks.all) out[one.bytes.size()] = one.form;
  return out;
}
}  // namespace

BOOST_AUTO_TEST_SUITE(policy)

BOOST_AUTO_TEST_CASE(what_is_written_is_packed_where_it_helps) {
  TestPeer peer;
  BOOST_TEST(peer.write(peer.make("before"), 0, words(200'000)).code == Code::ok);
  BOOST_TEST(peer.call(SetPolicy{{Compression::lz4}}).reply.code == Code::ok);
  BOOST_TEST((peer.replica->policy().compression == Compression::lz4));
  const std::string large = words(300'000), middle = words(20'000), page = words(4096);
  std::string noise(100'000, 0);
  SeededRandom random(3);
  for (char& byte : noise) byte = char(random.u64());
  const auto file = peer.make("a");
  peer.write(file, 0, large);
  peer.write(file, 300'000, middle);
  peer.write(file, 320'000, page);
  peer.write(file, 324'096, noise);
  peer.write(peer.make("again"), 0, words(200'000));  // it is there
  const auto all = forms(peer);
  BOOST_TEST((all.at(200'000) == Compression::none));
  BOOST_TEST((all.at(300'000) == Compression::lz4));
  BOOST_TEST((all.at(20'000) == Compression::lz4));
  BOOST_TEST((all.at(4096) == Compression::none));
  BOOST_TEST((all.at(100'000) == Compression::none));
  BOOST_TEST(peer.read(file) == large + middle + page + noise);
  // Blocks are those of the content.
  BOOST_TEST(peer.call(GetAttributes{file}).reply.attributes.blocks == (424'096u + 4095) / 4096 * 8);
}

BOOST_AUTO_TEST_CASE(the_setting_outlives_kills_checkpoints_and_clean_stops) {
  TestPeer peer;
  const auto is = [&](Compression wanted) { return peer.replica->policy().compression == wanted; };
  BOOST_TEST(is(Compression::none));
  BOOST_TEST(peer.call(SetPolicy{{Compression::zstd}}).reply.code == Code::ok);
  peer.power_loss();  // it was durable before it was answered
  BOOST_TEST(is(Compression::zstd));
  peer.write(peer.make("a"), 0, words(100'000));
  BOOST_TEST((forms(peer).at(100'000) == Compression::zstd));
  BOOST_TEST(peer.call(SetPolicy{{Compression::lz4}}).reply.code == Code::ok);
  peer.kill();
  BOOST_TEST(is(Compression::lz4));
  peer.pass(2 * kSecond);
  peer.kill();
  BOOST_TEST(is(Compression::lz4));
  BOOST_TEST(peer.call(SetPolicy{{Compression::none}}).reply.code == Code::ok);
  peer.restart_cleanly();
  BOOST_TEST(is(Compression::none));
  BOOST_TEST(peer.read(peer.call(Lookup{kRootInode, "a"}).reply.attributes.inode) == words(100'000));
}

BOOST_AUTO_TEST_CASE(only_root_may_and_a_repeated_setting_is_not_set_again) {
  TestPeer peer;
  BOOST_TEST(peer.call(SetPolicy{{Compression::lz4}}, {}, user(7)).reply.code == Code::not_permitted);
  SessionId session{};
  session[0] = 1;
  peer.as(session, 0, Hello{});
  BOOST_TEST(peer.as(session, 1, SetPolicy{{Compression::lz4}}).reply.code == Code::ok);
  BOOST_TEST(peer.call(SetPolicy{{Compression::zstd}}).reply.code == Code::ok);
  BOOST_TEST(peer.as(session, 1, SetPolicy{{Compression::lz4}}).reply.code == Code::ok);
  BOOST_TEST((peer.replica->policy().compression == Compression::zstd));
}

BOOST_AUTO_TEST_SUITE_END()
