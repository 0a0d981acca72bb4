// Listings that are asked for before they are wanted: which, how many, and when they are not to be believed.
#include "vfs/walk.h"

#include <sys/stat.h>

#include <boost/test/unit_test.hpp>

#include "test/unit/vfs/fake_volume.h"
#include "vfs/tree.h"

using namespace efs;

namespace {

constexpr InodeNumber kTop = 10;

struct Walk {
  ManualClock clock;
  std::shared_ptr<FakeVolume> volume = std::make_shared<FakeVolume>();
  std::shared_ptr<LeaseCache> cache = std::make_shared<LeaseCache>(volume, clock);
  Given given;
  TreeWalks walks{given};

  Walk() {
    volume->lease_until = clock.now + 10 * kSecond;
    volume->shape = [](const RequestBody& body, Reply& reply) {
      if (std::holds_alternative<ReadDirectory>(body)) reply.lease = kLeaseInode | kLeaseDirectory;
    };
    cache->on_recall([](const Recall&, auto forgotten) { forgotten(); }, {});
  }
  uint64_t node(InodeNumber inode) const { return global_inode(volume->number(), inode); }
  static EntryList directories(InodeNumber from, size_t count) {
    EntryList entries;
    for (InodeNumber inode = from; inode < from + count; ++inode) {
      const std::string name = "d" + std::to_string(inode);
      DirectoryEntry entry;
      entry.name = name;
      entry.inode = inode;
      entry.mode = S_IFDIR | 0755;
      entries.add(entry);
    }
    return entries;
  }
  ListingAheadPtr begin(InodeNumber inode) {
    auto begun = walks.begin(node(inode), *cache);
    walks.ask(begun.next, cache, {});
    return begun.ahead;
  }
  // As the listing of a directory with these subdirectories goes.
  ListingAheadPtr list(InodeNumber inode, InodeNumber first, size_t count) {
    auto ahead = begin(inode);
    TreeWalks::SiblingsPtr siblings;
    walks.ask(walks.listed(node(inode), directories(first, count), siblings), cache, {});
    return ahead;
  }
  // Of a directory that was asked for ahead.
  ListingAheadPtr ahead_of_one() {
    list(kTop, 100, 10);
    begin(100);
    auto ahead = begin(101);
    BOOST_REQUIRE(ahead);
    return ahead;
  }
  bool is_true(const ListingAhead& ahead) const { return TreeWalks::is_true(ahead, node(101), *cache); }
  // The directories that were asked for since the last time.
  std::vector<InodeNumber> asked() {
    std::vector<InodeNumber> inodes;
    for (const RequestBody& body : volume->seen) inodes.push_back(std::get<ReadDirectory>(body).inode);
    volume->seen.clear();
    return inodes;
  }
};
using Inodes = std::vector<InodeNumber>;

}  // namespace

BOOST_AUTO_TEST_SUITE(walk)

BOOST_AUTO_TEST_CASE(the_next_directories_are_asked_for_once_one_was_listed) {
  Walk walk;
  BOOST_TEST(!walk.list(kTop, 100, 50));
  BOOST_TEST(walk.asked().empty());  // nobody has listed one of them
  BOOST_TEST(!walk.begin(100));
  BOOST_TEST(walk.asked() == (Inodes{101, 102}));
  BOOST_TEST(walk.begin(101));  // it was wanted: twice as many
  BOOST_TEST(walk.asked() == (Inodes{103, 104, 105}));
  for (InodeNumber next = 102; next < 140; ++next) BOOST_TEST(walk.begin(next));
  BOOST_TEST(walk.begin(149));   // kMostAhead were reached
  BOOST_TEST(!walk.begin(101));  // each is there once
}

BOOST_AUTO_TEST_CASE(who_lists_some_of_many_has_few_asked_for_in_vain) {
  Walk walk;
  walk.list(kTop, 100, 1000);
  for (InodeNumber next = 100; next < 1100; next += 10) walk.begin(next);
  BOOST_TEST(walk.asked().size() == kFirstAhead);
}

BOOST_AUTO_TEST_CASE(the_first_directories_below_are_asked_for_where_somebody_walks) {
  Walk walk;
  walk.list(kTop, 100, 3);
  walk.list(100, 200, 5);
  BOOST_TEST(walk.asked() == (Inodes{101, 102, 200, 201}));
  walk.list(200, 300, 0);
  walk.list(201, 300, 0);
  BOOST_TEST(walk.asked() == (Inodes{202, 203, 204}));
}

BOOST_AUTO_TEST_CASE(a_second_walk_begins_as_the_first) {
  Walk walk;
  walk.list(kTop, 100, 10);
  for (InodeNumber next = 100; next < 110; ++next) walk.begin(next);
  walk.asked();
  walk.begin(100);
  BOOST_TEST(walk.asked() == (Inodes{101, 102}));
}

BOOST_AUTO_TEST_CASE(who_looks_at_one_again_and_again_has_no_others_asked_for) {
  Walk walk;
  walk.list(kTop, 100, 10);
  for (int i = 0; i < 5; ++i) walk.begin(103);
  BOOST_TEST(walk.asked().size() == kFirstAhead);
}

BOOST_AUTO_TEST_CASE(what_was_changed_since_is_not_believed) {
  Walk walk;
  const auto ahead = walk.ahead_of_one();
  BOOST_TEST(walk.is_true(*ahead));
  Recall elsewhere, there;
  elsewhere.items = {{103, false, false, "x"}};
  there.items = {{101, false, false, "x"}};
  walk.volume->recall(elsewhere, [] {});
  BOOST_TEST(walk.is_true(*ahead));
  const int64_t lease_until = std::exchange(walk.volume->lease_until, walk.clock.now);
  BOOST_TEST(!walk.is_true(*ahead));
  walk.volume->lease_until = lease_until;
  walk.volume->recall(there, [] {});
  BOOST_TEST(!walk.is_true(*ahead));
}

// Own changes, too.
BOOST_AUTO_TEST_CASE(what_this_mount_has_changed_since_is_not_believed) {
  Walk walk;
  const auto ahead = walk.ahead_of_one();
  Unlink unlink;
  unlink.parent = 101;
  unlink.name = "x";
  walk.cache->call({}, unlink, {}, {}, [](VolumeAnswer) {});
  BOOST_TEST(!walk.is_true(*ahead));
}

BOOST_AUTO_TEST_CASE(what_is_kept_is_bounded) {
  Walk walk;
  std::vector<ListingAheadPtr> all;
  InodeNumber next = 1000;
  for (int i = 0; i < 400; ++i) {
    walk.list(kTop + InodeNumber(i), next, 4);
    walk.begin(next);
    next += 4;
  }
  BOOST_TEST(walk.asked().size() == 800u);
  BOOST_TEST(!walk.begin(1001));     // let go of
  BOOST_TEST(walk.begin(next - 3));  // the last of them
  walk.list(5, 100'000, kWalkedOfMount + 10);
  BOOST_TEST(walk.begin(100'000 + kWalkedOfMount) == nullptr);
}

BOOST_AUTO_TEST_SUITE_END()
