// Compaction at the owner: when it runs, what it leaves, and what goes on meanwhile.
#include <algorithm>
#include <numeric>
#include <random>

#include "fixture.h"
#include "peer/base/hash.h"
#include "peer/volume/check.h"
#include "peer/volume/state/view.h"

using namespace efs;
using namespace efs::test;

namespace {

struct Peer : TestPeer {
  explicit Peer(uint64_t seed = 1) : TestPeer(seed), numbers(seed) {}
  std::string block(size_t length = 4096) {
    std::string bytes(length, 0);
    for (auto& byte : bytes) byte = char(numbers());
    return bytes;
  }
  // Every block once, in random order, without being busy.
  std::string scatter(InodeNumber file, uint64_t blocks) {
    std::vector<uint64_t> order(blocks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), numbers);
    std::string content(blocks * 4096, 0);
    for (uint64_t i : order) {
      const auto bytes = block();
      content.replace(i * 4096, 4096, bytes);
      BOOST_REQUIRE(write(file, i * 4096, bytes).code == Code::ok);
      clock.now += 4 * kMillisecond;
    }
    return content;
  }
  size_t extents(InodeNumber file) {
    size_t count = 0;
    BOOST_REQUIRE(RowsView(*replica->rows()).extents(file, 0, [&](const ExtentRow&) { return ++count > 0; }));
    return count;
  }
  std::string all(InodeNumber file) {
    std::string content;
    for (;;) {
      const auto part = read(file, content.size());
      if (part.empty()) return content;
      content += part;
    }
  }
  Attributes attributes(InodeNumber file) { return call(GetAttributes{file}).reply.attributes; }
  void settle(int seconds = 12) {
    for (int i = 0; i < seconds; ++i) pass(kSecond);
  }
  void check() {
    auto checked = check_volume(*replica->rows(), &chunks);
    BOOST_REQUIRE(checked);
    BOOST_REQUIRE_MESSAGE(checked->problems.empty(),
                          (checked->problems.empty() ? std::string() : checked->problems.front()));
  }
  std::mt19937_64 numbers;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(compaction)

BOOST_AUTO_TEST_CASE(scattered_writes_are_joined_when_they_are_over) {
  Peer peer;
  const auto file = peer.make("file");
  const auto content = peer.scatter(file, 1024);
  const auto before = peer.attributes(file);
  BOOST_TEST(peer.extents(file) == 1024u);
  BOOST_TEST(peer.replica->joined_runs() == 0u);
  peer.settle();
  BOOST_TEST(peer.extents(file) == 4u);
  BOOST_TEST((peer.all(file) == content));
  BOOST_TEST((peer.attributes(file) == before));
  BOOST_TEST(peer.call(Usage{}).reply.usage.stored_bytes == content.size());
  BOOST_TEST(peer.chunks.all.size() == 4u);  // the space is given back
  peer.check();
  peer.kill();
  BOOST_TEST(peer.extents(file) == 4u);
  BOOST_TEST((peer.all(file) == content));
  BOOST_TEST((peer.attributes(file) == before));
}

BOOST_AUTO_TEST_CASE(nothing_is_done_when_there_is_nothing_to_do) {
  Peer peer;
  const auto file = peer.make("file");
  peer.scatter(file, 300);
  peer.settle(30);
  const auto joined = peer.replica->joined_runs();
  BOOST_TEST(joined == 2u);
  // One pass over everything, since content had changed; then never again.
  for (int i = 0; i < 20; ++i) peer.pass(kMinute);
  for (int hour = 0; hour < 100; ++hour) {
    peer.clock.now += 60 * kMinute;
    BOOST_TEST(!peer.replica->compaction_due(peer.clock.now));
  }
  BOOST_TEST(peer.replica->joined_runs() == joined);
}

BOOST_AUTO_TEST_CASE(kills_and_power_loss_at_any_moment) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Peer peer(seed);
    const auto file = peer.make("file");
    const auto content = peer.scatter(file, 300);
    BOOST_REQUIRE(peer.call(Sync{}).reply.code == Code::ok);
    for (int i = 0; i < 6; ++i) {
      peer.settle(int(seed + uint64_t(i)) % 5);
      seed % 2 ? peer.kill() : peer.power_loss();
      BOOST_REQUIRE((peer.all(file) == content));
      peer.check();
    }
  }
}

// A read that looked up its extents before they were joined, and reads after their chunks are gone.
BOOST_AUTO_TEST_CASE(a_read_under_way_does_not_miss_its_chunks) {
  Peer peer;
  const auto file = peer.make("file");
  const auto content = peer.scatter(file, 200);
  bool ran = false;
  peer.chunks.before_read = [&] {
    ran = true;
    peer.settle();
    BOOST_REQUIRE_EQUAL(peer.chunks.all.size(), 1u);
  };
  BOOST_TEST((peer.all(file) == content));
  BOOST_TEST(ran);
  BOOST_TEST(peer.extents(file) == 1u);
}

// What is written while a run is being joined is what stays.
BOOST_AUTO_TEST_CASE(a_write_under_way_wins) {
  Peer peer;
  const auto file = peer.make("file");
  auto content = peer.scatter(file, 200);
  const auto late = peer.block(100);
  peer.chunks.before_put = [&] { BOOST_REQUIRE(peer.write(file, 50'000, late).code == Code::ok); };
  content.replace(50'000, 100, late);
  peer.settle(5);
  BOOST_TEST(!peer.chunks.before_put);
  BOOST_TEST(peer.replica->joined_runs() == 0u);
  BOOST_TEST((peer.all(file) == content));
  peer.check();
  // The chunk that was stored for nothing is gone; joining is tried again when there is reason to.
  for (int i = 0; i < 5; ++i) peer.pass(kMinute);
  BOOST_TEST(peer.replica->joined_runs() == 1u);
  BOOST_TEST((peer.all(file) == content));
  BOOST_TEST(peer.chunks.all.size() == 1u);
}

BOOST_AUTO_TEST_CASE(the_slow_pass_finds_what_a_restart_forgot) {
  Peer peer;
  std::map<InodeNumber, std::string> files;
  for (int i = 0; i < 10; ++i) {
    const auto file = peer.make("file" + std::to_string(i));
    files[file] = peer.scatter(file, 20);
  }
  peer.kill();
  for (int i = 0; i < 10; ++i) peer.pass(kMinute);
  BOOST_TEST(peer.replica->joined_runs() == 0u);  // nothing has changed since the restart
  const auto other = peer.make("other");
  peer.write(other, 0, peer.block());
  for (int i = 0; i < 5; ++i) peer.pass(kMinute);
  for (const auto& [file, content] : files) {
    BOOST_TEST(peer.extents(file) == 1u);
    BOOST_TEST((peer.all(file) == content));
  }
  peer.check();
}

BOOST_AUTO_TEST_CASE(it_gives_way_to_others) {
  Peer peer;
  const auto file = peer.make("file");
  const auto content = peer.scatter(file, 8 * 256);
  Compactor compactor(*peer.set, peer.clock);
  peer.clock.now += 4 * kSecond;
  compactor.round();
  const auto idle = peer.replica->joined_runs();
  BOOST_TEST(idle == kCompactRound / kRunWindow);
  for (int i = 0; i < 10; ++i) {
    for (int j = 0; j < 100; ++j) peer.attributes(file);
    peer.clock.now += 100 * kMillisecond;
    compactor.round();
  }
  const auto busy = peer.replica->joined_runs() - idle;
  BOOST_TEST(busy >= 2u);
  BOOST_TEST(busy <= 4u);
  peer.settle();
  BOOST_TEST(peer.extents(file) == 8u);
  BOOST_TEST((peer.all(file) == content));
}

BOOST_AUTO_TEST_CASE(without_room_nothing_is_joined_and_nothing_breaks) {
  Peer peer;
  const auto file = peer.make("file");
  const auto content = peer.scatter(file, 300);
  peer.chunks.full = true;
  peer.settle();
  BOOST_TEST(peer.replica->joined_runs() == 0u);
  BOOST_TEST((peer.all(file) == content));
  peer.chunks.full = false;
  peer.settle();
  for (int i = 0; i < 5; ++i) peer.pass(kMinute);
  BOOST_TEST(peer.extents(file) == 2u);
  BOOST_TEST((peer.all(file) == content));
}

BOOST_AUTO_TEST_SUITE_END()
