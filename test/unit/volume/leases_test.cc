// The owner's table of leases alone: who is granted what, who is asked to forget, who waits for whom.
#include "peer/volume/leases.h"

#include <boost/test/unit_test.hpp>
#include <deque>

using namespace efs;

namespace {

constexpr InodeNumber kDirectory = 10, kFile = 20, kOther = 30;

// A session that can be asked; it forgets when the test says so.
struct Asked {
  Recall recall;
  Leases::Then forgotten;
};
struct Mount {
  SessionId id{};
  std::deque<Asked> asked;
  bool at_once = false;

  explicit Mount(uint8_t number, bool own = false) {
    if (!own) id[0] = 1;
    id.back() = number;
  }
  void attach(Leases& leases, Leases::Knows knows = {}) {
    leases.attach(
        id,
        [this](const Recall& recall, Leases::Then forgotten) {
          asked.push_back({recall, std::move(forgotten)});
          if (at_once) forget();
        },
        std::move(knows));
  }
  void forget() {
    BOOST_REQUIRE(!asked.empty());
    auto then = std::move(asked.front().forgotten);
    asked.pop_front();
    then();
  }
};

struct Table {
  std::shared_ptr<Leases> leases = std::make_shared<Leases>();
  Mount a{1}, b{2}, c{3};
  Table() {
    for (Mount* one : {&a, &b, &c}) one->attach(*leases);
  }
  // A change; the flag rises when it may be answered.
  std::shared_ptr<bool> change(Mount& by, std::vector<VolumeClient::Change> rows) {
    auto answered = std::make_shared<bool>(false);
    leases->announce(by.id, rows, [answered] {
      BOOST_CHECK(!*answered);
      *answered = true;
    });
    return answered;
  }
  std::shared_ptr<bool> write(Mount& by, InodeNumber inode) { return change(by, {{inode, true, 0, {}}}); }
  std::shared_ptr<bool> chmod(Mount& by, InodeNumber inode) { return change(by, {{inode, false, 0, {}}}); }
  std::shared_ptr<bool> name(Mount& by, InodeNumber parent, std::string name) {
    return change(by, {{0, false, parent, std::move(name)}});
  }
  std::shared_ptr<bool> take_back(Mount& by, std::vector<InodeNumber> inodes, bool locks_pages = false) {
    auto done = std::make_shared<bool>(false);
    leases->take_back(by.id, inodes, locks_pages, [done] { *done = true; });
    return done;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(leases)

BOOST_AUTO_TEST_CASE(only_who_can_be_asked_is_granted_anything) {
  Table table;
  Mount stranger(9);
  BOOST_TEST(!table.leases->share(stranger.id, kFile));
  BOOST_TEST(!table.leases->own(stranger.id, kFile));
  BOOST_TEST(table.leases->share(table.a.id, kFile));
  BOOST_TEST(table.leases->share(table.b.id, kFile));
  BOOST_TEST(table.leases->granted() == 2u);
  BOOST_TEST(table.leases->holders(kFile).size() == 2u);
  BOOST_TEST(table.leases->share(table.a.id, kFile));  // again: still one
  BOOST_TEST(table.leases->granted() == 2u);
}

BOOST_AUTO_TEST_CASE(an_exclusive_lease_excludes_all_others) {
  Table table;
  BOOST_TEST(table.leases->own(table.a.id, kFile));
  BOOST_TEST(table.leases->owns(table.a.id, kFile));
  BOOST_TEST(!table.leases->share(table.b.id, kFile));
  BOOST_TEST(!table.leases->own(table.b.id, kFile));
  BOOST_TEST(table.leases->share(table.a.id, kFile));
  BOOST_TEST(table.leases->owns(table.a.id, kFile));
  BOOST_TEST(table.leases->owned_elsewhere(table.b.id, kFile));
  BOOST_TEST(!table.leases->owned_elsewhere(table.a.id, kFile));
  table.leases->disown(table.a.id, kFile);
  BOOST_TEST(!table.leases->owns(table.a.id, kFile));
  BOOST_TEST(table.leases->share(table.b.id, kFile));  // the first keeps a shared one
  BOOST_TEST(!table.leases->own(table.a.id, kFile));
  BOOST_TEST(!table.leases->own(table.b.id, kFile));
}

BOOST_AUTO_TEST_CASE(a_change_is_answered_when_all_others_have_forgotten) {
  Table table;
  for (Mount* one : {&table.a, &table.b, &table.c}) table.leases->share(one->id, kFile);
  table.leases->share(table.c.id, kOther);
  auto answered = table.write(table.a, kFile);
  BOOST_TEST(!*answered);
  BOOST_TEST(table.a.asked.empty());
  BOOST_REQUIRE(table.b.asked.size() == 1u);
  BOOST_REQUIRE(table.c.asked.size() == 1u);
  const RecallItem& item = table.b.asked.front().recall.items.at(0);
  BOOST_TEST(item.inode == kFile);
  BOOST_TEST(item.content);
  BOOST_TEST(!item.flush);
  table.b.forget();
  BOOST_TEST(!*answered);
  table.c.forget();
  BOOST_TEST(*answered);
  // Told once, they are not asked again before they have asked themselves.
  BOOST_TEST(*table.write(table.a, kFile));
  BOOST_TEST(table.leases->holders(kFile).size() == 1u);
  BOOST_TEST(*table.write(table.b, kOther) == false);
  BOOST_TEST(table.c.asked.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_name_leaves_the_rest_of_its_directory_leased) {
  Table table;
  table.leases->share(table.b.id, kDirectory, true);
  auto answered = table.name(table.a, kDirectory, "x");
  BOOST_REQUIRE(table.b.asked.size() == 1u);
  BOOST_TEST(table.b.asked.front().recall.items.at(0).name == "x");
  table.b.forget();
  BOOST_TEST(*answered);
  table.name(table.a, kDirectory, "y");
  BOOST_TEST(table.b.asked.size() == 1u);
}

// A mount that is told of a directory's mode or times keeps its entries: it is to hear of the next ones.
BOOST_AUTO_TEST_CASE(a_directory_whose_attributes_change_stays_leased_for_its_names) {
  Table table;
  table.leases->share(table.b.id, kDirectory, true);
  auto answered = table.chmod(table.a, kDirectory);
  table.b.forget();
  BOOST_TEST(*answered);
  auto named = table.name(table.a, kDirectory, "x");
  BOOST_TEST(!*named);
  BOOST_TEST(table.b.asked.size() == 1u);
}

// Somebody renames or links a file that another writes to: its bytes are still with the writer.
BOOST_AUTO_TEST_CASE(an_exclusive_lease_survives_news_of_the_attributes) {
  Table table;
  table.leases->own(table.b.id, kFile);
  auto answered = table.chmod(table.a, kFile);
  table.b.forget();
  BOOST_TEST(*answered);
  BOOST_TEST(table.leases->owned_elsewhere(table.a.id, kFile));
}

BOOST_AUTO_TEST_CASE(what_is_granted_during_a_recall_survives_its_end) {
  Table table;
  table.leases->share(table.b.id, kFile);
  auto answered = table.write(table.a, kFile);
  table.leases->share(table.b.id, kFile);  // it has read the new state
  table.b.forget();
  BOOST_TEST(*answered);
  auto again = table.write(table.a, kFile);
  BOOST_TEST(!*again);
  BOOST_TEST(table.b.asked.size() == 1u);
}

// Who got a lease then would open what is unlinked without asking, and the owner would not keep it for him.
BOOST_AUTO_TEST_CASE(what_loses_its_name_is_leased_to_nobody_else) {
  Table table;
  table.leases->share(table.b.id, kFile);
  BOOST_TEST((table.leases->begin_unnaming(kFile) == std::vector{table.b.id}));
  BOOST_TEST(!table.leases->share(table.c.id, kFile));
  BOOST_TEST(!table.leases->own(table.c.id, kFile));
  BOOST_TEST(table.leases->share(table.c.id, kOther));
  table.leases->end_unnaming();
  BOOST_TEST(table.leases->share(table.c.id, kFile));
}

BOOST_AUTO_TEST_CASE(what_is_let_go_is_not_what_was_granted_since) {
  Table table;
  table.leases->share(table.a.id, kFile);
  const uint64_t mark = table.leases->mark();
  table.leases->share(table.a.id, kOther);
  table.leases->drop(table.a.id, {kFile, kOther, 999}, mark);
  BOOST_TEST(table.leases->holders(kFile).empty());
  BOOST_TEST(table.leases->holders(kOther).size() == 1u);
}

BOOST_AUTO_TEST_CASE(buffered_bytes_are_called_back_before_an_answer) {
  Table table;
  BOOST_TEST(*table.take_back(table.b, {kFile}));  // nobody has any
  table.leases->own(table.a.id, kFile);
  BOOST_TEST(*table.take_back(table.a, {kFile}));  // its own
  auto done = table.take_back(table.b, {kFile});
  BOOST_TEST(!*done);
  BOOST_REQUIRE(table.a.asked.size() == 1u);
  BOOST_TEST(table.a.asked.front().recall.items.at(0).flush);
  // While it hands in, it is not given the lease anew; nor is anybody else.
  BOOST_TEST(!table.leases->own(table.a.id, kFile));
  BOOST_TEST(*table.write(table.a, kFile));
  table.a.forget();
  BOOST_TEST(*done);
  BOOST_TEST(!table.leases->owned_elsewhere(table.b.id, kFile));
  BOOST_TEST(table.leases->own(table.a.id, kFile));
}

// Both change one directory at once: the kernel of each cannot forget before its own change is answered. The
// one that came first waits.
BOOST_AUTO_TEST_CASE(two_that_change_one_directory_do_not_wait_for_each_other) {
  Table table;
  table.leases->share(table.a.id, kDirectory, true);
  table.leases->share(table.b.id, kDirectory, true);
  auto first = table.name(table.a, kDirectory, "x");
  auto second = table.name(table.b, kDirectory, "y");
  BOOST_TEST(!*first);
  BOOST_TEST(*second);
  BOOST_TEST(table.a.asked.size() == 1u);
  BOOST_TEST(table.b.asked.size() == 1u);
  // Nobody waits for a third one there: it waits for both.
  auto third = table.name(table.c, kDirectory, "z");
  BOOST_TEST(!*third);
  table.b.forget();
  BOOST_TEST(*first);
  table.a.forget();
  table.b.forget();
  BOOST_TEST(!*third);
  table.a.forget();
  BOOST_TEST(*third);
  // Nobody waits for anybody any more: they wait again.
  BOOST_TEST(!*table.name(table.a, kDirectory, "x"));
}

BOOST_AUTO_TEST_CASE(two_that_write_one_file_do_not_wait_for_each_other) {
  Table table;
  table.leases->share(table.a.id, kFile);
  table.leases->share(table.b.id, kFile);
  auto first = table.write(table.a, kFile);
  auto second = table.write(table.b, kFile);
  BOOST_TEST(!*first);
  BOOST_TEST(*second);
  // Elsewhere they wait as ever, and so does news of what locks nothing.
  table.leases->share(table.a.id, kOther);
  table.leases->share(table.b.id, kOther);
  BOOST_TEST(!*table.write(table.a, kOther));
  BOOST_TEST(!*table.chmod(table.b, kFile));
  table.b.forget();
  BOOST_TEST(*first);
}

// What it is answered itself after that must find it told: else it would believe what it knew before, with
// the change already answered.
BOOST_AUTO_TEST_CASE(who_is_not_waited_for_is_asked_before_the_answer) {
  Table table;
  table.leases->share(table.a.id, kFile);
  table.leases->share(table.b.id, kFile);
  auto first = table.write(table.a, kFile);
  size_t asked = 0;
  table.leases->announce(table.b.id, {{kFile, true, 0, {}}}, [&] { asked = table.a.asked.size(); });
  BOOST_TEST(asked == 1u);
  BOOST_TEST(!*first);
}

// Who holds what was unlinked says so when it is asked to forget: until all have been heard, also those that
// nobody waits for.
BOOST_AUTO_TEST_CASE(all_have_been_heard_later_than_the_answer) {
  Table table;
  table.leases->share(table.a.id, kDirectory, true);
  table.leases->share(table.b.id, kDirectory, true);
  auto first = table.name(table.a, kDirectory, "x");
  bool answered = false, all = false;
  table.leases->announce(
      table.b.id, {{0, false, kDirectory, "y"}}, [&] { answered = true; }, [&] { all = true; });
  BOOST_TEST(answered);
  BOOST_TEST(!all);
  table.a.forget();
  BOOST_TEST(all);
  table.b.forget();
  BOOST_TEST(*first);
}

// Only for whom that would close the circle: the others forget before it is answered.
BOOST_AUTO_TEST_CASE(who_is_not_waited_for_by_one_is_waited_for_by_another) {
  Table table;
  for (Mount* one : {&table.a, &table.b, &table.c}) table.leases->share(one->id, kDirectory, true);
  auto first = table.name(table.a, kDirectory, "x");
  auto second = table.name(table.b, kDirectory, "y");
  BOOST_TEST(table.a.asked.size() == 1u);
  BOOST_TEST(table.b.asked.size() == 1u);
  BOOST_TEST(table.c.asked.size() == 2u);
  table.c.forget();
  BOOST_TEST(!*second);
  table.c.forget();
  BOOST_TEST(*second);
  BOOST_TEST(!*first);
  table.b.forget();
  BOOST_TEST(*first);
}

// A waits for B in one directory, B for C in another that B has locked with it, C changes what is locked in
// A.
BOOST_AUTO_TEST_CASE(a_circle_of_three_over_several_places_is_not_closed) {
  Table table;
  constexpr InodeNumber kFirst = 11, kSecond = 12, kThird = 13;
  table.leases->share(table.b.id, kFirst, true);
  table.leases->share(table.c.id, kSecond, true);
  table.leases->share(table.a.id, kThird, true);
  const auto move = [&](Mount& by, InodeNumber from, InodeNumber to) {
    return table.change(by, {{kFile, false, from, "x"}, {kFile, false, to, "x"}});
  };
  auto first = move(table.a, kFirst, kThird);
  auto second = move(table.b, kSecond, kFirst);
  BOOST_TEST(!*first);
  BOOST_TEST(!*second);
  auto third = move(table.c, kThird, kSecond);
  BOOST_TEST(*third);
  BOOST_TEST(!*second);
  table.c.forget();
  BOOST_TEST(*second);
  BOOST_TEST(!*first);
  table.b.forget();
  BOOST_TEST(*first);
}

// A directory that is moved or whose mode is set is locked, too: who makes something in it and is waited for
// elsewhere by the same is not kept for ever.
BOOST_AUTO_TEST_CASE(a_directory_that_is_itself_changed_is_locked) {
  Table table;
  constexpr InodeNumber kMoved = 14;
  table.leases->share(table.a.id, kMoved, true);
  table.leases->share(table.b.id, kDirectory, true);
  auto made = table.change(table.b, {{kFile, false, kMoved, "x"}, {kOther, false, kDirectory, "y"}});
  BOOST_TEST(!*made);
  auto moved = table.change(table.a, {{kMoved, false, kDirectory, "m"}});
  BOOST_TEST(*moved);
  table.a.forget();
  BOOST_TEST(*made);
}

// Who asks for bytes keeps pages locked, and cannot do without them: what brings them does not wait for it.
BOOST_AUTO_TEST_CASE(what_is_called_back_does_not_wait_for_who_called_it) {
  for (const bool before : {false, true}) {
    auto leases = std::make_shared<Leases>();
    Mount own(0, true), remote(2);
    bool known = false;
    own.attach(*leases, [&](InodeNumber) { return known; });
    remote.attach(*leases);
    BOOST_TEST(leases->own(remote.id, kFile));
    known = true;
    bool read = false, written = false;
    const auto write = [&] { leases->announce(remote.id, {{kFile, true, 0, {}}}, [&] { written = true; }); };
    if (before) write();
    BOOST_TEST(!written);
    leases->take_back(own.id, {kFile}, true, [&] { read = true; });
    if (!before) write();
    BOOST_TEST(written);
    remote.forget();
    BOOST_TEST(read);
    BOOST_TEST(own.asked.size() == 1u);
    own.forget();
  }
}

// Else its bytes could come after those that were buffered meanwhile, and be the older ones.
BOOST_AUTO_TEST_CASE(what_is_being_changed_is_given_to_nobody_else) {
  Table table;
  const Leases::Inodes both{kFile, kOther};
  BOOST_TEST(table.leases->begin_change(table.b.id, both));
  BOOST_TEST(table.leases->begin_change(table.c.id, {kFile, 0}));
  BOOST_TEST(!table.leases->own(table.a.id, kFile));
  BOOST_TEST(!table.leases->own(table.b.id, kFile));
  table.leases->end_change(table.c.id, {kFile, 0});
  BOOST_TEST(table.leases->own(table.b.id, kFile));  // its own
  BOOST_TEST(!table.leases->own(table.a.id, kOther));
  table.leases->end_change(table.b.id, both);
  BOOST_TEST(table.leases->own(table.a.id, kOther));
  BOOST_TEST(!table.leases->begin_change(table.c.id, both));
  BOOST_TEST(table.leases->begin_change(table.c.id, {kDirectory, 0}));
  table.leases->end_change(table.c.id, {kDirectory, 0});
}

// It may be any of those that wait; not one whose question waits: that was not made before.
BOOST_AUTO_TEST_CASE(what_is_asked_for_again_waits_for_all_that_waits) {
  Table table;
  bool again = false;
  table.leases->join(table.b.id, [&] { again = true; });
  BOOST_TEST(std::exchange(again, false));
  table.leases->share(table.a.id, kFile);
  table.leases->share(table.c.id, kOther);
  table.leases->own(table.c.id, kDirectory);
  auto first = table.write(table.b, kFile), second = table.write(table.b, kOther);
  auto question = table.take_back(table.b, {kDirectory});
  table.leases->join(table.b.id, [&] { again = true; });
  table.c.forget();
  BOOST_TEST(*second);
  BOOST_TEST(!again);
  table.a.forget();
  BOOST_TEST(*first);
  BOOST_TEST(again);
  BOOST_TEST(!*question);
}

BOOST_AUTO_TEST_CASE(who_is_fenced_holds_nothing_and_learns_of_it) {
  Table table;
  const uint64_t before = table.leases->lost(table.b.id), others = table.leases->lost(table.a.id);
  table.leases->share(table.b.id, kOther);
  table.leases->own(table.b.id, kFile);
  auto done = table.take_back(table.a, {kFile});
  BOOST_TEST(!*done);
  table.leases->fence(table.b.id);
  table.b.forget();  // as whoever asks does then
  BOOST_TEST(*done);
  BOOST_TEST(table.leases->granted() == 0u);
  BOOST_TEST(table.leases->lost(table.b.id) > before);
  BOOST_TEST(table.leases->lost(table.a.id) == others);
  BOOST_TEST(table.leases->own(table.a.id, kFile));
  // It may be leased anew; a session that is not there leaves nothing behind.
  BOOST_TEST(table.leases->share(table.b.id, kOther));
  table.leases->detach(table.b.id);
  table.leases->fence(table.b.id);
  BOOST_TEST(table.leases->lost(table.b.id) == Leases().lost(table.b.id));
}

// One that is heard learns of it before nobody waits for it any more, and is given nothing in between.
BOOST_AUTO_TEST_CASE(who_ends_is_waited_for_until_it_is_fenced) {
  Table table;
  table.leases->share(table.b.id, kOther);
  const uint64_t before = table.leases->lost(table.b.id);
  BOOST_TEST(table.leases->ends_ns(table.b.id) == 0);
  table.leases->end(table.b.id, 7);
  table.leases->end(table.b.id, 8);
  BOOST_TEST(table.leases->ends_ns(table.b.id) == 7);
  const uint64_t after = table.leases->lost(table.b.id);
  BOOST_TEST(after > before);
  BOOST_TEST(!table.leases->share(table.b.id, kFile));
  BOOST_TEST(!table.leases->own(table.b.id, kFile));
  BOOST_TEST(!*table.write(table.a, kOther));
  table.leases->fence(table.b.id);
  BOOST_TEST(table.leases->ends_ns(table.b.id) == 0);  // whoever was to fence it then does not
  BOOST_TEST(table.leases->lost(table.b.id) == after);
  BOOST_TEST(*table.write(table.a, kOther));
  BOOST_TEST(table.leases->share(table.b.id, kFile));
}

// What it writes from then on is new, whatever others have written meanwhile.
BOOST_AUTO_TEST_CASE(who_has_sent_all_before_it_is_fenced_is_not_overtaken) {
  for (const bool sent : {true, false}) {
    Table table;
    table.leases->own(table.b.id, kFile);
    table.leases->end(table.b.id, 7);
    if (sent) table.leases->forgive(table.b.id, kFile);
    table.leases->fence(table.b.id);
    BOOST_TEST(!table.leases->overtaken(table.b.id, kFile, Leases::Part::bytes));
    table.leases->overtake(table.a.id, {{kFile, true, 0, {}}}, false);
    BOOST_TEST(table.leases->overtaken(table.b.id, kFile, Leases::Part::bytes) == !sent);
    BOOST_TEST(!table.leases->overtaken(table.b.id, kFile, Leases::Part::attributes));
    table.leases->overtake(table.a.id, {{kFile, false, 0, {}}}, true);
    BOOST_TEST(table.leases->overtaken(table.b.id, kFile, Leases::Part::attributes) == !sent);
    BOOST_TEST(!table.leases->overtaken(table.a.id, kFile, Leases::Part::bytes));
  }
}

// Silent for so long that the owner has forgotten it, a mount must not go on where it was.
BOOST_AUTO_TEST_CASE(who_comes_back_after_it_expired_has_lost_its_leases) {
  Table table;
  table.leases->own(table.b.id, kFile);
  const uint64_t before = table.leases->lost(table.b.id);
  table.leases->expire(table.b.id);
  table.leases->overtake(table.a.id, {{kFile, true, 0, {}}}, false);
  table.b.attach(*table.leases);
  BOOST_TEST(table.leases->lost(table.b.id) != before);
  BOOST_TEST(table.leases->overtaken(table.b.id, kFile, Leases::Part::bytes));
  BOOST_TEST(!table.leases->owns(table.b.id, kFile));
  table.leases->detach(table.b.id);
  BOOST_TEST(!table.leases->overtaken(table.b.id, kFile, Leases::Part::bytes));
}

// While somebody's late changes may come, nobody is alone: each change is compared with them.
BOOST_AUTO_TEST_CASE(who_was_fenced_is_watched_until_it_is_forgiven) {
  auto leases = std::make_shared<Leases>();
  Mount own(0, true), remote(2);
  own.attach(*leases, [](InodeNumber) { return false; });
  BOOST_TEST(leases->alone(own.id));
  leases->expect_late(remote.id, kFile, false, false);
  BOOST_TEST(!leases->alone(own.id));
  leases->forgive(remote.id, kFile);
  BOOST_TEST(leases->alone(own.id));
}

BOOST_AUTO_TEST_CASE(who_gives_all_back_keeps_what_is_newer_and_what_it_may_have_changed) {
  Table table;
  table.leases->share(table.b.id, kOther);
  table.leases->own(table.b.id, kFile);
  const uint64_t mark = table.leases->mark();
  table.leases->share(table.b.id, kDirectory);
  table.leases->share(table.a.id, kOther);
  table.leases->drop_all(table.b.id, mark);
  BOOST_TEST((table.leases->holders(kOther) == std::vector{table.a.id}));
  BOOST_TEST(table.leases->owns(table.b.id, kFile));
  BOOST_TEST(table.leases->holders(kDirectory).size() == 1u);
}

BOOST_AUTO_TEST_CASE(what_waits_for_the_end_of_a_hold_runs_then) {
  Table table;
  bool ran = false;
  BOOST_TEST(!table.leases->after_hold([&] { ran = true; }));
  table.leases->hold(true);
  BOOST_TEST(!table.leases->own(table.a.id, kFile));
  BOOST_TEST(table.leases->after_hold([&] { ran = true; }));
  BOOST_TEST(!ran);
  table.leases->hold(false);
  BOOST_TEST(ran);
  BOOST_TEST(table.leases->own(table.a.id, kFile));
}

BOOST_AUTO_TEST_CASE(lost_differs_after_a_restart) {
  Leases before(100), after(200);
  const Mount mount(1);
  BOOST_TEST(before.lost(mount.id) != after.lost(mount.id));
}

BOOST_AUTO_TEST_CASE(who_goes_while_he_is_waited_for_leaves_nothing) {
  Table table;
  table.leases->share(table.b.id, kFile);
  table.leases->share(table.b.id, kDirectory, true);
  auto answered = table.write(table.a, kFile);
  table.leases->detach(table.b.id);
  BOOST_TEST(table.leases->granted() == 0u);
  BOOST_TEST(*table.name(table.a, kDirectory, "x"));
  BOOST_TEST(!*answered);
  table.b.forget();
  BOOST_TEST(*answered);
  // One that comes again under the same name is another.
  table.b.attach(*table.leases);
  table.leases->share(table.b.id, kFile);
  BOOST_TEST(!*table.write(table.a, kFile));
}

BOOST_AUTO_TEST_CASE(an_answer_may_come_after_the_table_is_gone) {
  auto table = std::make_unique<Table>();
  table->leases->share(table->b.id, kFile);
  table->write(table->a, kFile);
  table->leases.reset();
  table->b.forget();
}

BOOST_AUTO_TEST_CASE(while_held_back_no_change_is_answered) {
  Table table;
  table.leases->hold(true);
  auto unshared = table.write(table.a, kFile);
  BOOST_TEST(!*unshared);
  table.leases->share(table.b.id, kOther);
  auto shared = table.write(table.a, kOther);
  table.b.forget();
  BOOST_TEST(!*shared);
  auto later = table.write(table.a, kDirectory);
  table.leases->share(table.b.id, kDirectory, true);
  auto waits = table.name(table.a, kDirectory, "x");
  table.leases->hold(false);
  BOOST_TEST(*unshared);
  BOOST_TEST(*shared);
  BOOST_TEST(*later);
  BOOST_TEST(!*waits);
  table.b.forget();
  BOOST_TEST(*waits);
  BOOST_TEST(*table.write(table.a, kFile));
}

BOOST_AUTO_TEST_CASE(while_held_back_who_has_not_looked_a_name_up_may_err_about_it) {
  Table table;
  table.leases->hold(true);
  BOOST_TEST(table.leases->may_err(table.a.id, kDirectory, "x"));
  BOOST_TEST(!table.leases->may_err(Mount(0, true).id, kDirectory, "x"));  // as young as this owner
  table.leases->looked_up(table.a.id, kDirectory, "x");
  BOOST_TEST(!table.leases->may_err(table.a.id, kDirectory, "x"));
  BOOST_TEST(table.leases->may_err(table.a.id, kDirectory, "y"));
  BOOST_TEST(table.leases->may_err(table.b.id, kDirectory, "x"));
  table.leases->hold(false);
  BOOST_TEST(!table.leases->may_err(table.b.id, kDirectory, "x"));
}

BOOST_AUTO_TEST_CASE(a_mount_of_this_process_knows_best_what_it_was_given) {
  auto leases = std::make_shared<Leases>();
  Mount own(0, true), remote(2);
  bool known = true;
  own.attach(*leases, [&](InodeNumber inode) { return known && inode == kFile; });
  BOOST_TEST(leases->alone(own.id));
  remote.attach(*leases);
  BOOST_TEST(!leases->alone(own.id));
  BOOST_TEST(!leases->alone(remote.id));
  // It counts as one that shares everything: told of every change, granted without an entry.
  BOOST_TEST(leases->share(own.id, kOther));
  BOOST_TEST(leases->granted() == 0u);
  bool answered = false;
  leases->announce(remote.id, {{kOther, true, 0, {}}}, [&] { answered = true; });
  BOOST_TEST(!answered);
  own.forget();
  BOOST_TEST(answered);
  BOOST_TEST(!leases->own(remote.id, kFile));
  BOOST_TEST(!leases->owns(remote.id, kFile));
  known = false;
  BOOST_TEST(leases->own(remote.id, kFile));
  BOOST_TEST(!leases->share(own.id, kFile));
  leases->detach(remote.id);
  BOOST_TEST(leases->alone(own.id));
  // What it owns itself goes when it gives it back.
  BOOST_TEST(leases->own(own.id, kFile));
  BOOST_TEST(leases->granted() == 1u);
  leases->disown(own.id, kFile);
  BOOST_TEST(leases->granted() == 0u);
}

BOOST_AUTO_TEST_CASE(a_session_holds_no_more_than_its_bound) {
  Table table;
  for (InodeNumber inode = 1; inode <= kMaxLeases; ++inode)
    if (!table.leases->share(table.a.id, inode)) BOOST_FAIL("refused below the bound");
  BOOST_TEST(!table.leases->share(table.a.id, kMaxLeases + 1));
  BOOST_TEST(table.leases->share(table.a.id, 1));  // one that it has
  BOOST_TEST(table.leases->share(table.b.id, kMaxLeases + 1));
  table.leases->drop(table.a.id, {1}, UINT64_MAX);
  BOOST_TEST(table.leases->share(table.a.id, kMaxLeases + 1));
  table.leases->fence(table.a.id);
  BOOST_TEST(table.leases->granted() == 1u);
}

BOOST_AUTO_TEST_CASE(sessions_beyond_the_bound_get_no_leases) {
  auto leases = std::make_shared<Leases>();
  std::deque<Mount> mounts;
  for (size_t i = 0; i < kMaxLeaseSessions + 1; ++i) {
    Mount& one = mounts.emplace_back(uint8_t(i));
    put_le<uint16_t>(one.id.data() + 1, uint16_t(i));
    one.attach(*leases);
  }
  BOOST_TEST(leases->share(mounts.front().id, kFile));
  BOOST_TEST(!leases->share(mounts.back().id, kFile));
}

BOOST_AUTO_TEST_SUITE_END()
