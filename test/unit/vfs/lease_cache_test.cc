// What a mount was leased: when it answers for the owner, and when it must not.
#include "vfs/lease_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <set>

#include "test/unit/vfs/fake_volume.h"
#include "vfs/limits.h"

namespace efs {
inline std::ostream& boost_test_print_type(std::ostream& out, Code code) {
  return out << name_of(code);
}
}  // namespace efs
using namespace efs;

namespace {

constexpr InodeNumber kRoot = 1, kFile = 9, kDirectory = 40;

// A root directory (1) with files in it, all of it leased to whoever asks.
struct Cached {
  ManualClock clock;
  std::shared_ptr<FakeVolume> volume = std::make_shared<FakeVolume>();
  std::shared_ptr<LeaseCache> cache = std::make_shared<LeaseCache>(volume, clock);
  std::map<std::string, InodeNumber> names{{"f", kFile}};
  std::map<InodeNumber, Attributes> inodes;
  uint8_t lease = kLeaseInode | kLeaseDirectory;
  uint64_t marks = 0;
  InodeNumber next = 100;
  std::vector<std::pair<Recall, VolumeClient::Forgotten>> told;  // what the mount above is asked
  int lost_for_good = 0, lapsed = 0;

  Cached() {
    put(kRoot, S_IFDIR | 0755);
    put(kFile, S_IFREG | 0644);
    put(kDirectory, S_IFDIR | 0755);
    volume->lease_until = clock.now + 10 * kSecond;
    volume->shape = [this](const RequestBody& body, Reply& reply) { shape(body, reply); };
    cache->on_recall([this](const Recall& recall,
                            VolumeClient::Forgotten forgotten) { told.emplace_back(recall, forgotten); },
                     {});
    cache->on_leases_lost([this](bool for_good) { ++(for_good ? lost_for_good : lapsed); });
  }
  void put(InodeNumber inode, uint32_t mode, uint64_t change = 1) {
    Attributes& one = inodes[inode];
    one.inode = inode;
    one.mode = mode;
    one.nlink = 1;
    one.change = change;
  }
  void shape(const RequestBody& body, Reply& reply) {
    reply.lease = std::holds_alternative<Close>(body) ? 0 : lease;
    reply.lease_mark = ++marks;
    if (const auto* lookup = std::get_if<Lookup>(&body)) {
      auto found = names.find(lookup->name);
      reply.code = found == names.end() ? Code::not_found : Code::ok;
      if (found != names.end()) reply.attributes = inodes[found->second];
    } else if (const auto* get = std::get_if<GetAttributes>(&body)) {
      reply.attributes = inodes[get->inode];
    } else if (const auto* open = std::get_if<Open>(&body)) {
      reply.attributes = inodes[open->inode];
      if ((open->want & W_OK) != 0) reply.lease |= kLeaseExclusive;
    } else if (const auto* create = std::get_if<Create>(&body)) {
      names[create->name] = ++next;
      put(next, create->mode);
      reply.created = true;
      reply.attributes = inodes[next];
      reply.parent = inodes[create->parent];
    } else if (const auto* unlink = std::get_if<Unlink>(&body)) {
      reply.attributes = inodes[names[unlink->name]];
      reply.parent = inodes[unlink->parent];
      names.erase(unlink->name);
    } else if (const auto* rename = std::get_if<Rename>(&body)) {
      ++inodes[names[rename->name]].change;
      reply.attributes = inodes[names[rename->name]];
      reply.parent = inodes[rename->new_parent];
      names[rename->new_name] = names[rename->name];
      names.erase(rename->name);
    } else if (const auto* listing = std::get_if<ReadDirectory>(&body)) {
      list(*listing, reply);
    } else if (const auto* mark = std::get_if<MarkAccess>(&body)) {
      inodes[mark->inode].atime_ns = clock.now;
      reply.attributes = inodes[mark->inode];
    } else if (const auto* set = std::get_if<SetAttributes>(&body)) {
      ++inodes[set->inode].change;
      reply.attributes = inodes[set->inode];
    }
  }
  void list(const ReadDirectory& listing, Reply& reply) {
    uint64_t cookie = kFirstCookie;
    reply.end = true;
    for (const auto& [name, inode] : names) {
      if (++cookie <= listing.cookie) continue;
      if (reply.entries.size() == listing.limit) {
        reply.end = false;
        return;
      }
      DirectoryEntry entry;
      entry.name = name;
      entry.inode = inode;
      entry.cookie = cookie;
      if (listing.with_attributes) entry.attributes = inodes[inode];
      reply.entries.add(entry);
    }
  }

  std::shared_ptr<std::optional<VolumeAnswer>> begin(RequestBody body) {
    auto out = std::make_shared<std::optional<VolumeAnswer>>();
    cache->call({}, std::move(body), {}, {}, [out](VolumeAnswer answer) {
      BOOST_REQUIRE(!*out);
      *out = std::move(answer);
    });
    return out;
  }
  Reply call(RequestBody body) {
    auto out = begin(std::move(body));
    BOOST_REQUIRE(out->has_value());
    return (*out)->reply;
  }
  // Whether the owner was asked.
  bool asks(RequestBody body) {
    const size_t before = volume->seen.size();
    call(std::move(body));
    return volume->seen.size() != before;
  }
  Code look(const std::string& name, InodeNumber parent = kRoot) { return call(Lookup{parent, name}).code; }
  Create create(const std::string& name, uint32_t mode = S_IFREG | 0644, bool open = false) {
    Create out;
    out.parent = kRoot;
    out.name = name;
    out.mode = mode;
    out.open = open;
    return out;
  }
  // The owner asks; true once it has its answer.
  std::shared_ptr<bool> recall(RecallItem item) {
    auto answered = std::make_shared<bool>(false);
    Recall all;
    all.items.push_back(std::move(item));
    volume->recall(all, [answered] { *answered = true; });
    return answered;
  }
  void forget() {
    BOOST_REQUIRE(!told.empty());
    auto then = std::move(told.front().second);
    told.erase(told.begin());
    then();
  }
  template <typename Body>
  const Body* last() const {
    return volume->seen.empty() ? nullptr : std::get_if<Body>(&volume->seen.back());
  }
};

const RequestBody kStat = GetAttributes{kFile}, kOpen = Open{kFile, R_OK}, kOpenToWrite = Open{kFile, W_OK},
                  kClose = Close{{kFile}}, kFind = Lookup{kRoot, "f"}, kMiss = Lookup{kRoot, "none"};

}  // namespace

BOOST_AUTO_TEST_SUITE(lease_cache)

BOOST_AUTO_TEST_CASE(what_was_leased_is_answered_here) {
  Cached mount;
  for (const RequestBody& body : {kStat, kFind, kMiss}) {
    BOOST_TEST(mount.asks(body));
    BOOST_TEST(!mount.asks(body));
  }
  BOOST_TEST(mount.look("f") == Code::ok);
  BOOST_TEST(mount.call(kFind).attributes.inode == kFile);
  BOOST_TEST(mount.call(kFind).lease == (kLeaseInode | kLeaseDirectory));
  BOOST_TEST(mount.look("none") == Code::not_found);
  BOOST_TEST(!mount.asks(kOpen));
  for (const RequestBody& body :
       {kOpenToWrite, RequestBody(Open{kRoot, R_OK}), RequestBody(Lookup{kRoot, ".."}),
        RequestBody(Read{kFile, 0, 10}), RequestBody(GetXattr{kFile, "user.x"})})
    BOOST_TEST(mount.asks(body));
}

BOOST_AUTO_TEST_CASE(what_was_not_leased_is_not) {
  Cached mount;
  mount.lease = 0;
  for (const RequestBody& body : {kStat, kFind, kMiss, kOpen}) {
    BOOST_TEST(mount.asks(body));
    BOOST_TEST(mount.asks(body));
  }
  // Without anybody who listens to recalls, nothing is believed.
  auto volume = std::make_shared<FakeVolume>();
  ManualClock clock;
  volume->lease_until = 100 * kSecond;
  volume->shape = [](const RequestBody&, Reply& reply) { reply.lease = kLeaseInode; };
  auto cache = std::make_shared<LeaseCache>(volume, clock);
  for (int i = 0; i < 2; ++i) cache->call({}, GetAttributes{kFile}, {}, {}, [](VolumeAnswer) {});
  BOOST_TEST(volume->seen.size() == 2u);
}

BOOST_AUTO_TEST_CASE(leases_end_by_time_and_are_there_again_when_renewed) {
  Cached mount;
  mount.call(kStat);
  mount.clock.now = mount.volume->lease_until;
  BOOST_TEST(mount.asks(kStat));
  BOOST_TEST(!mount.cache->keep_listing(kRoot));
  mount.volume->lost(false);
  BOOST_TEST(mount.lapsed == 1);
  mount.volume->lease_until += kSecond;
  BOOST_TEST(!mount.asks(kStat));
}

BOOST_AUTO_TEST_CASE(what_is_recalled_is_asked_anew) {
  Cached mount;
  for (const RequestBody& body : {kStat, kFind, kMiss}) mount.call(body);
  auto answered = mount.recall({kFile, true, false, {}});
  BOOST_REQUIRE(mount.told.size() == 1u);
  BOOST_TEST(!*answered);
  BOOST_TEST(mount.asks(kStat));
  mount.forget();
  BOOST_TEST(*answered);
  BOOST_TEST(!mount.asks(kMiss));
  mount.recall({kRoot, false, false, "none"});
  mount.names["none"] = kFile;
  BOOST_TEST(mount.asks(kMiss));
  BOOST_TEST(mount.look("none") == Code::ok);
  BOOST_TEST(!mount.asks(kFind));
  // Of a directory's attributes: its names stay.
  mount.recall({kRoot, false, false, {}});
  BOOST_TEST(mount.asks(GetAttributes{kRoot}));
  BOOST_TEST(!mount.asks(kFind));
}

BOOST_AUTO_TEST_CASE(an_answer_that_a_recall_overtook_is_not_believed) {
  Cached mount;
  for (const RequestBody& body : {kStat, kFind, kMiss, kOpenToWrite}) {
    mount.volume->deferred = true;
    auto answer = mount.begin(body);
    mount.recall({kFile, true, false, {}});
    mount.recall({kRoot, false, false, "none"});
    mount.volume->step();
    BOOST_TEST(answer->has_value());
    mount.volume->deferred = false;
    BOOST_TEST(mount.asks(body));
    BOOST_TEST(mount.asks(body) == (std::get_if<Open>(&body) != nullptr));
    mount.volume->lost(true);
  }
  // Bytes are not kept back either.
  mount.call(kClose);
  mount.volume->deferred = true;
  mount.begin(kOpenToWrite);
  mount.recall({kFile, false, true, {}});
  mount.volume->step();
  BOOST_TEST(!mount.cache->may_buffer(kFile));
}

BOOST_AUTO_TEST_CASE(own_changes_are_seen_at_once) {
  Cached mount;
  BOOST_TEST(mount.look("new") == Code::not_found);
  const Reply made = mount.call(mount.create("new"));
  BOOST_TEST(!mount.asks(Lookup{kRoot, "new"}));
  BOOST_TEST(mount.call(Lookup{kRoot, "new"}).attributes.inode == made.attributes.inode);
  mount.call(Rename{kRoot, "new", kRoot, "other", false, false});
  BOOST_TEST(mount.look("new") == Code::not_found);
  BOOST_TEST(!mount.asks(Lookup{kRoot, "other"}));
  BOOST_TEST(mount.call(Lookup{kRoot, "other"}).attributes.change == made.attributes.change + 1);
  mount.call(Unlink{kRoot, "other", false});
  BOOST_TEST(mount.look("other") == Code::not_found);
  BOOST_TEST(mount.call(kStat).attributes.change == 1u);
  SetAttributes set;
  set.inode = kFile;
  mount.call(set);
  BOOST_TEST(!mount.asks(kStat));
  BOOST_TEST(mount.call(kStat).attributes.change == 2u);
}

BOOST_AUTO_TEST_CASE(a_time_of_access_is_known_once_it_is_answered) {
  Cached mount;
  mount.call(kStat);
  mount.volume->deferred = true;
  mount.begin(MarkAccess{kFile});
  const auto stat = mount.begin(kStat);  // asks: what was known is older
  BOOST_TEST(!stat->has_value());
  mount.volume->step(1);
  mount.volume->step();
  mount.volume->deferred = false;
  BOOST_TEST(!mount.asks(kStat));
  mount.clock.now += kSecond;
  mount.call(MarkAccess{kFile});
  BOOST_TEST(!mount.asks(kStat));
  BOOST_TEST(mount.call(kStat).attributes.atime_ns == mount.clock.now);
}

// What a question on its way beside an own change will answer is of before or after: not to be kept.
BOOST_AUTO_TEST_CASE(own_changes_overtake_questions_too) {
  Cached mount;
  mount.volume->deferred = true;
  auto stat = mount.begin(kStat);
  auto miss = mount.begin(Lookup{kRoot, "new"});
  mount.begin(mount.create("new"));
  SetAttributes set;
  set.inode = kFile;
  mount.begin(set);
  mount.volume->step(3);
  mount.volume->step(2);
  mount.names.erase("new");  // as if the questions had been answered before
  mount.volume->step(0);
  mount.volume->step(0);
  mount.volume->deferred = false;
  BOOST_TEST(mount.look("new") == Code::ok);
  BOOST_TEST(mount.asks(kStat));
}

// The name was recalled while the own change of it was on its way: which was last is for the owner to say.
BOOST_AUTO_TEST_CASE(own_changes_that_a_recall_overtook_leave_nothing) {
  for (int what = 0; what < 3; ++what) {
    Cached mount;
    mount.call(Lookup{kRoot, "new"});  // known to be absent
    mount.volume->deferred = true;
    if (what == 0) mount.begin(mount.create("new"));
    if (what == 1) mount.begin(Unlink{kRoot, "f", false});
    if (what == 2) mount.begin(Rename{kRoot, "f", kRoot, "new", false, false});
    mount.recall({kRoot, false, false, "elsewhere"});
    mount.volume->step();
    mount.volume->deferred = false;
    BOOST_TEST(mount.asks(Lookup{kRoot, "new"}) == (what != 1));
    BOOST_TEST(mount.look("new") == (what == 1 ? Code::not_found : Code::ok));
    BOOST_TEST(mount.asks(kFind));
  }
}

// Whoever opens what has lost its name, or is losing it by an own change under way, is known to the owner: it
// keeps the inode for nobody else.
BOOST_AUTO_TEST_CASE(what_loses_its_name_is_opened_at_the_owner) {
  for (const RequestBody& body : {RequestBody(Unlink{kRoot, "f", false}),
                                  RequestBody(Rename{kRoot, "new", kRoot, "f", false, false})}) {
    Cached mount;
    mount.look("f");
    BOOST_TEST(!mount.asks(kOpen));
    mount.call(kClose);
    mount.volume->deferred = true;
    mount.begin(body);
    mount.volume->deferred = false;
    mount.call(kStat);  // learned anew, beside it
    BOOST_TEST(!mount.asks(kStat));
    BOOST_TEST(mount.asks(kOpen));
    mount.volume->step();
  }
  Cached mount;
  mount.inodes[kFile].nlink = 0;
  mount.call(kStat);
  BOOST_TEST(!mount.asks(kStat));
  BOOST_TEST(mount.asks(kOpen));
  mount.call(kClose);  // what nobody has open here is not leased any more
  BOOST_TEST(mount.asks(kStat));
}

BOOST_AUTO_TEST_CASE(a_change_that_failed_leaves_nothing) {
  Cached mount;
  mount.look("new");
  mount.call(kFind);
  mount.volume->refuse = [](const RequestBody& body) { return changes(body) ? Code::unreachable : Code::ok; };
  mount.call(mount.create("new"));
  BOOST_TEST(mount.asks(Lookup{kRoot, "new"}));
  mount.call(Unlink{kRoot, "f", false});
  BOOST_TEST(mount.asks(kFind));
  mount.call(Rename{kRoot, "f", kRoot, "new", false, false});
  BOOST_TEST(mount.asks(Lookup{kRoot, "new"}));
  BOOST_TEST(mount.asks(kFind));
  SetAttributes set;
  set.inode = kFile;
  mount.call(set);
  BOOST_TEST(mount.asks(kStat));
}

BOOST_AUTO_TEST_CASE(two_names_of_one_file_both_stay_when_one_is_renamed_to_the_other) {
  Cached mount;
  mount.names["g"] = kFile;
  mount.look("f");
  mount.look("g");
  mount.volume->shape = [](const RequestBody&, Reply& reply) { reply.attributes.inode = kFile; };
  mount.call(Rename{kRoot, "f", kRoot, "g", false, false});
  BOOST_TEST(mount.asks(kFind));
}

BOOST_AUTO_TEST_CASE(a_directory_that_was_listed_whole_has_no_other_names) {
  Cached mount;
  mount.names["g"] = kFile;
  mount.names["h"] = kFile;
  ReadDirectory page{kRoot, 0, 2, true};
  Reply first = mount.call(page);
  BOOST_TEST(!first.end);
  BOOST_TEST(mount.asks(Lookup{kRoot, "x"}));
  page.cookie = first.entries.back().cookie;
  BOOST_TEST(mount.call(page).end);
  BOOST_TEST(!mount.asks(Lookup{kRoot, "y"}));
  BOOST_TEST(mount.look("y") == Code::not_found);
  BOOST_TEST(!mount.asks(Lookup{kRoot, "g"}));
  BOOST_TEST(!mount.asks(kStat));  // it came along
  mount.call(mount.create("new"));
  BOOST_TEST(!mount.asks(Lookup{kRoot, "new"}));
  BOOST_TEST(!mount.asks(Lookup{kRoot, "z"}));
  mount.recall({kRoot, false, false, "from afar"});
  BOOST_TEST(mount.asks(Lookup{kRoot, "from afar"}));  // and, being the second, brings all names
  BOOST_TEST(!mount.asks(Lookup{kRoot, "and all else"}));
  mount.recall({kRoot, false, false, "from afar"});
  BOOST_TEST(mount.asks(Lookup{kRoot, "and all else"}));
}

BOOST_AUTO_TEST_CASE(who_looks_at_a_second_name_is_given_the_first_page) {
  Cached mount;
  for (int i = 0; i < 300; ++i) mount.names["n" + std::to_string(1000 + i)] = kFile;
  const auto listings = [&] {
    std::vector<std::pair<uint64_t, uint32_t>> all;
    for (const RequestBody& body : mount.volume->seen) {
      if (const auto* listing = std::get_if<ReadDirectory>(&body))
        all.emplace_back(listing->cookie, listing->limit);
    }
    return all;
  };
  mount.call(GetAttributes{kRoot});
  mount.call(Lookup{kRoot, "n1000"});
  BOOST_TEST(listings().empty());
  mount.call(Lookup{kRoot, "n1001"});
  BOOST_REQUIRE(listings().size() == 1u);
  BOOST_TEST(listings()[0].second == kFirstListing);
  BOOST_TEST(!mount.asks(Lookup{kRoot, "n1050"}));
  for (int i = 0; i < 8; ++i) {
    BOOST_TEST(listings().size() == 1u);
    BOOST_TEST(mount.asks(Lookup{kRoot, "n" + std::to_string(1280 + i)}));
  }
  BOOST_REQUIRE(listings().size() == 2u);
  BOOST_TEST(listings()[1].first != 0u);
  BOOST_TEST(listings()[1].second == kListingPage);
  BOOST_TEST(!mount.asks(Lookup{kRoot, "n1299"}));
}

BOOST_AUTO_TEST_CASE(a_listing_with_a_gap_or_news_is_not_whole) {
  for (int what = 0; what < 4; ++what) {
    Cached mount;
    mount.names["g"] = kFile;
    mount.names["h"] = kFile;
    ReadDirectory page{kRoot, 0, 1, true};
    uint64_t cookie = mount.call(page).entries.back().cookie;
    page.cookie = what == 0 ? cookie + 1 : cookie;
    page.limit = 10;
    if (what == 1) mount.recall({kRoot, false, false, "news"});
    if (what == 2) mount.call(mount.create("own"));
    if (what == 3) mount.volume->lost(true);
    mount.call(page);
    BOOST_TEST(mount.asks(Lookup{kRoot, "none"}), "case " << what);
  }
}

// A page that was asked for before there was news does not end a listing that began after it.
BOOST_AUTO_TEST_CASE(listings_that_overlap_make_no_whole) {
  Cached mount;
  mount.names["g"] = kFile;
  ReadDirectory first{kRoot, 0, 1, true}, second{kRoot, 0, 10, true};
  second.cookie = mount.call(first).entries.back().cookie;
  mount.volume->deferred = true;
  mount.begin(second);
  mount.recall({kRoot, false, false, "news"});
  mount.begin(first);
  mount.volume->step(1);
  mount.volume->step(0);
  mount.volume->deferred = false;
  BOOST_TEST(mount.asks(Lookup{kRoot, "g"}));
  BOOST_TEST(mount.look("g") == Code::ok);
}

// It is leased, and true as far as it goes.
BOOST_AUTO_TEST_CASE(a_page_out_of_turn_is_known) {
  Cached mount;
  mount.names["g"] = kDirectory;
  const uint64_t cookie = mount.call(ReadDirectory{kRoot, 0, 1, true}).entries.back().cookie;
  mount.volume->lost(true);
  mount.call(ReadDirectory{kRoot, cookie, 10, true});
  BOOST_TEST(!mount.asks(Lookup{kRoot, "g"}));
  BOOST_TEST(mount.asks(Lookup{kRoot, "none"}));
}

BOOST_AUTO_TEST_CASE(what_is_removed_and_still_leased_is_let_go_of) {
  for (const bool leased : {false, true}) {
    Cached mount;
    mount.call(kFind);
    mount.inodes[kFile].nlink = 0;
    if (!leased) mount.lease = 0;
    mount.call(Unlink{kRoot, "f", false});
    mount.lease = kLeaseInode | kLeaseDirectory;
    mount.clock.now += 2 * kLeaseTerm;
    mount.volume->lease_until = mount.clock.now + kMinute;
    mount.volume->seen.clear();
    mount.look("none");
    const bool dropped =
        std::any_of(mount.volume->seen.begin(), mount.volume->seen.end(), [](const auto& body) {
          const auto* drop = std::get_if<DropLeases>(&body);
          return drop != nullptr && drop->inodes == std::vector<InodeNumber>{kFile};
        });
    BOOST_TEST(dropped == leased);
  }
}

BOOST_AUTO_TEST_CASE(a_directory_made_here_is_empty) {
  Cached mount;
  const Reply made = mount.call(mount.create("d", S_IFDIR | 0755));
  BOOST_TEST(!mount.asks(Lookup{made.attributes.inode, "x"}));
  BOOST_TEST(mount.asks(Lookup{kDirectory, "x"}));
}

BOOST_AUTO_TEST_CASE(the_kernels_listing_is_kept_until_there_is_news) {
  Cached mount;
  mount.call(ReadDirectory{kRoot, 0, 10, false});
  BOOST_TEST(!mount.cache->keep_listing(kRoot));
  BOOST_TEST(mount.cache->keep_listing(kRoot));
  mount.recall({kRoot, false, false, "x"});
  BOOST_TEST(!mount.cache->keep_listing(kRoot));
  BOOST_TEST(mount.cache->keep_listing(kRoot));
  mount.volume->lost(false);
  BOOST_TEST(!mount.cache->keep_listing(kRoot));
  BOOST_TEST(!mount.cache->keep_listing(kDirectory));
}

BOOST_AUTO_TEST_CASE(after_a_loss_nothing_is_believed) {
  Cached mount;
  for (const RequestBody& body : {kStat, kFind, kMiss, kOpenToWrite}) mount.call(body);
  mount.volume->deferred = true;
  mount.begin(GetAttributes{kDirectory});
  mount.volume->lost(true);
  mount.volume->step();
  mount.volume->deferred = false;
  BOOST_TEST(mount.lost_for_good == 1);
  BOOST_TEST(!mount.cache->may_buffer(kFile));
  BOOST_TEST(mount.asks(GetAttributes{kDirectory}));
  for (const RequestBody& body : {kStat, kFind, kMiss}) BOOST_TEST(mount.asks(body));
}

// ---- opens that the owner was not told of ----

BOOST_AUTO_TEST_CASE(an_open_answered_here_is_closed_here) {
  Cached mount;
  mount.call(kStat);
  BOOST_TEST(!mount.asks(kOpen));
  BOOST_TEST(!mount.asks(kClose));
  BOOST_TEST(mount.asks(kClose));  // it knows of no open: for the owner
}

BOOST_AUTO_TEST_CASE(what_the_owner_knows_to_be_open_is_closed_there) {
  Cached mount;
  mount.call(kOpenToWrite);
  BOOST_TEST(!mount.asks(kOpen));
  BOOST_TEST(mount.asks(kClose));
  mount.call(kOpenToWrite);
  BOOST_TEST(mount.cache->may_buffer(kFile));
  mount.call(kClose);
  BOOST_TEST(!mount.cache->may_buffer(kFile));
  const InodeNumber made = mount.call(mount.create("new", S_IFREG | 0644, true)).attributes.inode;
  BOOST_TEST(!mount.asks(Open{made, R_OK}));
  BOOST_TEST(mount.asks(Close{{made}}));
  // The other way around.
  BOOST_TEST(!mount.asks(kOpen));
  mount.call(kOpenToWrite);
  BOOST_TEST(mount.asks(kClose));
  // The answer to an open did not come: it may be open there.
  BOOST_TEST(!mount.asks(kOpen));
  mount.volume->refuse = [](const RequestBody&) { return Code::unreachable; };
  mount.call(kOpenToWrite);
  mount.volume->refuse = nullptr;
  BOOST_TEST(mount.asks(kClose));
  // Of several, only what is its business.
  mount.call(kOpen);
  mount.call(Open{kDirectory, R_OK});
  mount.call(Close{{kFile, kDirectory}});
  BOOST_REQUIRE(mount.last<Close>());
  BOOST_TEST(mount.last<Close>()->inodes == std::vector<InodeNumber>{kDirectory});
}

BOOST_AUTO_TEST_CASE(the_owner_is_told_of_opens_before_a_recall_is_answered) {
  Cached mount;
  mount.call(kStat);
  mount.call(kOpen);
  mount.volume->deferred = true;
  auto answered = mount.recall({kFile, false, false, {}});
  BOOST_REQUIRE(mount.last<Hello>());
  BOOST_TEST(mount.last<Hello>()->open == std::vector<InodeNumber>{kFile});
  BOOST_TEST(mount.last<Hello>()->renew);  // an owner that has started anew wants to hear of locks first
  // The mount itself has the news before: what else the owner says may come before its answer to that.
  mount.forget();
  BOOST_TEST(!*answered);
  mount.volume->step();
  BOOST_TEST(*answered);
  mount.volume->deferred = false;
  const size_t before = mount.volume->seen.size();
  mount.recall({kFile, false, false, {}});  // it knows
  BOOST_TEST(mount.volume->seen.size() == before);
  BOOST_TEST(mount.asks(kClose));
}

// Else the report could come after it, and leave the file open at the owner.
BOOST_AUTO_TEST_CASE(a_close_waits_for_the_report_of_its_open) {
  Cached mount;
  mount.call(kStat);
  mount.call(kOpen);
  mount.volume->deferred = true;
  mount.recall({kFile, false, false, {}});
  mount.recall({kFile, false, false, {}});
  const auto closed = mount.begin(kClose);
  BOOST_TEST(!mount.last<Close>());
  mount.volume->step();
  BOOST_TEST(!mount.last<Close>());
  mount.volume->step();
  BOOST_TEST(mount.last<Close>());
  BOOST_TEST(!closed->has_value());
  mount.volume->step();
  BOOST_TEST(closed->has_value());
}

BOOST_AUTO_TEST_CASE(the_owner_is_told_of_opens_before_their_name_goes) {
  for (int what = 0; what < 4; ++what) {
    Cached mount;
    mount.names["g"] = kDirectory;
    mount.call(kStat);
    mount.call(kOpen);
    if (what != 2) mount.call(kFind);  // else it may be any
    if (what == 3) mount.look("g");
    mount.volume->seen.clear();
    if (what == 0 || what == 2) mount.call(Unlink{kRoot, "f", false});
    if (what == 1) mount.call(Rename{kRoot, "g", kRoot, "f", false, false});
    if (what == 3) mount.call(Unlink{kRoot, "g", false});
    const bool told = std::holds_alternative<Hello>(mount.volume->seen.front());
    BOOST_TEST(told == (what != 3), "case " << what);
    BOOST_TEST(mount.volume->seen.size() == (told ? 2u : 1u));
    BOOST_TEST(mount.asks(kClose) == told);
  }
}

BOOST_AUTO_TEST_CASE(the_owner_is_told_of_opens_after_a_loss) {
  Cached mount;
  mount.call(kStat);
  mount.call(kOpen);
  mount.volume->lost(true);
  BOOST_REQUIRE(mount.last<Hello>());
  BOOST_TEST(mount.last<Hello>()->open == std::vector<InodeNumber>{kFile});
  const size_t before = mount.volume->seen.size();
  mount.volume->lost(true);
  BOOST_TEST(mount.volume->seen.size() == before);
}

// Most are closed again before.
BOOST_AUTO_TEST_CASE(the_owner_is_told_of_opens_that_last) {
  Cached mount;
  mount.call(kStat);
  mount.call(kOpen);
  mount.volume->renewed();
  BOOST_TEST(!mount.last<Hello>());
  mount.volume->renewed();
  BOOST_REQUIRE(mount.last<Hello>());
  BOOST_TEST(mount.last<Hello>()->open == std::vector<InodeNumber>{kFile});
  const size_t before = mount.volume->seen.size();
  mount.volume->renewed();
  BOOST_TEST(mount.volume->seen.size() == before);
  BOOST_TEST(mount.asks(kClose));
}

// A request has room for so many.
BOOST_AUTO_TEST_CASE(the_owner_is_told_of_a_great_many_opens_in_parts) {
  Cached mount;
  for (InodeNumber inode = 1000; inode < 1000 + kInodesPerHello + 1; ++inode) {
    mount.put(inode, S_IFREG | 0644);
    mount.call(GetAttributes{inode});
    mount.call(Open{inode, R_OK});
  }
  mount.volume->seen.clear();
  mount.volume->lost(true);
  std::set<InodeNumber> told;
  BOOST_TEST(mount.volume->seen.size() == 2u);
  for (const RequestBody& body : mount.volume->seen) {
    const auto& open = std::get<Hello>(body).open;
    BOOST_TEST(open.size() <= kInodesPerHello);
    told.insert(open.begin(), open.end());
  }
  BOOST_TEST(told.size() == kInodesPerHello + 1);
}

BOOST_AUTO_TEST_CASE(bytes_may_be_kept_back_until_they_are_called_for) {
  Cached mount;
  BOOST_TEST(!mount.cache->may_buffer(kFile));
  mount.call(kOpenToWrite);
  BOOST_TEST(mount.cache->may_buffer(kFile));
  mount.recall({kFile, false, false, {}});  // only its attributes
  BOOST_TEST(mount.cache->may_buffer(kFile));
  auto answered = mount.recall({kFile, false, true, {}});
  BOOST_TEST(!mount.cache->may_buffer(kFile));
  BOOST_TEST(!*answered);
  mount.told.erase(mount.told.begin());
  mount.forget();
  BOOST_TEST(*answered);
}

// Once it has sent what it kept, its owner is to let go of what it held then, and of nothing newer.
BOOST_AUTO_TEST_CASE(what_is_let_go_of_after_a_loss_is_what_was_held_then) {
  Cached mount;
  mount.call(kOpenToWrite);
  const uint64_t held = mount.marks;
  mount.volume->lost(true);
  mount.call(kOpenToWrite);
  mount.volume->seen.clear();
  mount.call(DropLeases{{kFile}, 0, false, true});
  BOOST_REQUIRE(mount.volume->seen.size() == 1u);
  BOOST_TEST(std::get<DropLeases>(mount.volume->seen[0]).mark == held);
  BOOST_TEST(mount.cache->may_buffer(kFile));
}

// ---- bounds ----

// What is let go is told to the owner once the kernel cannot believe it any more; names of a directory that
// was let go are not known any more, even if it is asked about again.
BOOST_AUTO_TEST_CASE(what_is_not_used_is_let_go) {
  Cached mount;
  mount.call(kMiss);
  mount.call(kOpenToWrite);
  mount.call(GetAttributes{kDirectory});
  auto flood = [&](InodeNumber from) {
    for (InodeNumber inode = from; inode < from + kCachedInodes; ++inode) {
      mount.put(inode, S_IFREG | 0644);
      mount.call(GetAttributes{inode});
      mount.inodes.erase(inode);
    }
    mount.volume->seen.clear();
  };
  flood(1'000'000);
  const int64_t gone_at_ns = mount.clock.now;
  BOOST_TEST(mount.cache->may_buffer(kFile));  // open: kept
  mount.clock.now += kLeaseTerm / 2;
  flood(2'000'000);
  BOOST_TEST(mount.asks(kMiss));
  BOOST_TEST(!mount.asks(kMiss));
  auto dropped = [&] {
    std::vector<InodeNumber> all;
    mount.volume->seen.clear();
    mount.call(GetXattr{kFile, "x"});
    for (const RequestBody& body : mount.volume->seen) {
      if (const auto* drop = std::get_if<DropLeases>(&body))
        all.insert(all.end(), drop->inodes.begin(), drop->inodes.end());
    }
    std::sort(all.begin(), all.end());
    return all;
  };
  BOOST_TEST(dropped().empty());
  mount.clock.now = gone_at_ns + kLeaseTerm;
  const auto first = dropped();
  BOOST_TEST(!first.empty());
  BOOST_TEST(std::binary_search(first.begin(), first.end(), kDirectory));
  BOOST_TEST(!std::binary_search(first.begin(), first.end(), kRoot));  // in use again
  BOOST_TEST(!std::binary_search(first.begin(), first.end(), kFile));
  BOOST_TEST(first.back() < 2'000'000u);  // these a moment later
  mount.clock.now += kLeaseTerm;
  BOOST_TEST(!dropped().empty());
  BOOST_TEST(dropped().empty());
}

BOOST_AUTO_TEST_CASE(a_directory_larger_than_the_cache_is_never_whole) {
  Cached mount;
  mount.names.clear();
  for (size_t i = 0; i < kCachedEntries + 10; ++i) mount.names["n" + std::to_string(i)] = kFile;
  mount.volume->shape = [&](const RequestBody& body, Reply& reply) {
    if (const auto* listing = std::get_if<ReadDirectory>(&body)) {
      reply.lease = mount.lease;
      for (auto at = mount.names.begin(); at != mount.names.end(); ++at) {
        DirectoryEntry entry;
        entry.name = at->first;
        entry.inode = kFile;
        entry.cookie = listing->cookie + 1;
        reply.entries.add(entry);
      }
      reply.end = true;
    } else {
      mount.shape(body, reply);
    }
  };
  mount.call(ReadDirectory{kRoot, 0, UINT32_MAX, true});
  BOOST_TEST(mount.look(mount.names.begin()->first) == Code::ok);
  BOOST_TEST(mount.asks(kMiss));
}

BOOST_AUTO_TEST_SUITE_END()
