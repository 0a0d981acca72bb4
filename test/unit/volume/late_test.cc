// What a mount sends late, when its owner was started anew meanwhile: it comes over nothing newer.
#include "fixture.h"

using namespace efs;
using namespace efs::test;

namespace {
// A mount with a file of one volume open. It is away over runs of the owner, and back, and sends what it has
// kept meanwhile.
struct Away {
  TestPeer& peer;
  InodeNumber file;
  SessionId id;
  std::optional<SessionMark> known = {};
  uint64_t sequence = 0;

  Away(TestPeer& of, InodeNumber inode, uint8_t number = 9) : peer(of), file(inode), id{number, number} {
    greet();
    BOOST_TEST(peer.as(id, 0, Open{file, W_OK}).reply.code == Code::ok);
  }
  void greet() {
    Hello hello{{file}};
    hello.known = known;
    const Reply reply = peer.as(id, 0, hello).reply;
    BOOST_TEST(reply.code == Code::ok);
    known = reply.session;
  }
  // It was to hand in what it had written under a lease, and was not heard.
  void lose_its_lease() {
    Leases& leases = peer.replica->leases();
    leases.attach(id, [](const Recall&, Leases::Then then) { then(); });
    BOOST_REQUIRE(leases.own(id, file));
    leases.fence(id);
  }
  Code send_late(const std::string& bytes, int64_t mtime_ns = 0) {
    Write write;
    write.inode = file;
    write.mtime_ns = mtime_ns;
    return send_late(write, to_bytes(view(bytes)));
  }
  Code send_late(RequestBody body, Payload payload = {}) {
    Request request;
    request.volume = peer.id;
    request.session = id;
    request.sequence = request.acknowledged = ++sequence;
    request.late = true;
    request.body = std::move(body);
    std::optional<Code> code;
    peer.replica->execute(request, std::move(payload),
                          [&](VolumeAnswer answer) { code = answer.reply.code; });
    BOOST_REQUIRE(code);
    return *code;
  }
  void has_sent_all() { peer.as(id, 0, DropLeases{{file}, 0, false, true}); }
};
}  // namespace

BOOST_AUTO_TEST_SUITE(late)

// What others have written and synced while a mount was cut off stays, whatever becomes of the owner.
BOOST_AUTO_TEST_CASE(what_was_overtaken_before_a_restart_is_refused_after_it) {
  for (const bool power : {false, true}) {
    TestPeer peer;
    const InodeNumber file = peer.make("a");
    const auto restart = [&] { power ? peer.power_loss() : peer.kill(); };
    Away mount(peer, file);
    BOOST_TEST(mount.send_late("first") == Code::ok);
    mount.lose_its_lease();
    BOOST_TEST(peer.write(file, 0, "newer", true).code == Code::ok);
    restart();
    mount.greet();
    BOOST_TEST(mount.send_late("older") == Code::io);
    BOOST_TEST(peer.call(Sync{}).reply.code == Code::ok);
    restart();  // before it has said that this was all
    mount.greet();
    BOOST_TEST(mount.send_late("older") == Code::io);
    BOOST_TEST(peer.read(file) == "newer");
    mount.has_sent_all();
    BOOST_TEST(mount.send_late("again") == Code::ok);
    BOOST_TEST(peer.call(Sync{}).reply.code == Code::ok);
    restart();
    mount.greet();
    BOOST_TEST(mount.send_late("newest") == Code::ok);
    BOOST_TEST(peer.read(file) == "newest");
  }
}

// Nobody else has changed the file: however it was fenced, and its owner restarted.
BOOST_AUTO_TEST_CASE(what_nobody_has_overtaken_is_taken_after_a_restart) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  Away mount(peer, file);
  mount.lose_its_lease();
  BOOST_TEST(mount.send_late("one") == Code::ok);
  peer.kill();
  mount.greet();
  BOOST_TEST(mount.send_late("two") == Code::ok);
  peer.make("b");
  peer.kill();
  peer.make("c");
  peer.kill();
  mount.greet();
  BOOST_TEST(mount.send_late("three") == Code::ok);
  BOOST_TEST(peer.read(file) == "three");
}

// Whatever was noted of it in an earlier run: it has handed in all of that file, and opens it anew.
BOOST_AUTO_TEST_CASE(who_closes_a_file_is_not_late_with_it_any_more) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  Away mount(peer, file);
  mount.lose_its_lease();
  peer.write(file, 0, "newer");
  peer.kill();
  Hello elsewhere;  // its program has closed the file meanwhile
  elsewhere.known = mount.known;
  mount.known = peer.as(mount.id, 0, elsewhere).reply.session;
  peer.as(mount.id, 0, Close{{file}});
  BOOST_TEST(peer.as(mount.id, 0, Open{file, W_OK}).reply.code == Code::ok);
  BOOST_TEST(mount.send_late("mine") == Code::ok);
  peer.kill();
  mount.greet();
  BOOST_TEST(mount.send_late("mine, too") == Code::ok);
}

// It cannot be noted that a mount has sent all: then it is not taken so in this run, either.
BOOST_AUTO_TEST_CASE(what_cannot_be_forgiven_stays_refused) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  Away mount(peer, file);
  mount.lose_its_lease();
  peer.write(file, 0, "newer");
  peer.disk->fail_after(0);
  mount.has_sent_all();
  BOOST_TEST(peer.replica->leases().overtaken(mount.id, file, Leases::Part::bytes));
  peer.kill();
  mount.greet();
  mount.has_sent_all();
  BOOST_TEST(mount.send_late("newest") == Code::ok);
}

// It is not waited for it for ever: from then on the owner's own programs change files without a look.
BOOST_AUTO_TEST_CASE(what_may_come_late_is_not_kept_for_ever) {
  for (const bool restarted : {false, true}) {
    TestPeer peer;
    const InodeNumber file = peer.make("a");
    Away mount(peer, file);
    mount.lose_its_lease();
    peer.write(file, 0, "new");
    peer.pass(kSessionSilence + kMinute);
    if (restarted) peer.kill();
    BOOST_TEST(!peer.replica->leases().alone({}));
    peer.clock.now += 25 * kHour;
    peer.pass(kSecond);
    BOOST_TEST(peer.replica->leases().alone({}));
    peer.kill();
    BOOST_TEST(peer.replica->leases().alone({}));
  }
}

// Mode, owner and times apart from the bytes; and what was made in steps.
BOOST_AUTO_TEST_CASE(what_was_overtaken_in_part_is_refused_in_part) {
  for (const bool bytes : {false, true}) {
    TestPeer peer;
    const InodeNumber file = peer.make("a");
    Away mount(peer, file);
    mount.lose_its_lease();
    SetAttributes set;
    set.inode = file;
    set.mode = 0600;
    if (bytes) {
      peer.write(file, 0, "new");
    } else {
      peer.call(set);
    }
    peer.kill();
    mount.greet();
    BOOST_TEST(mount.send_late("old") == (bytes ? Code::io : Code::ok));
    BOOST_TEST(mount.send_late(set) == Code::io);
  }
}

// A session that was silent has ended, and comes back in the owner's next run.
BOOST_AUTO_TEST_CASE(what_was_overtaken_stays_so_over_the_sessions_end) {
  for (const bool known : {true, false}) {  // not: it came back in a day
    TestPeer peer;
    const InodeNumber file = peer.make("a");
    Away mount(peer, file);
    mount.lose_its_lease();
    peer.write(file, 0, "new");
    peer.pass(kSessionSilence + kMinute);
    BOOST_TEST(peer.as(mount.id, 0, Sync{}).reply.code == Code::recalled);
    if (!known) peer.clock.now += 25 * kHour;
    peer.kill();
    peer.pass(kSecond);
    mount.greet();
    BOOST_TEST(mount.send_late("old") == (known ? Code::io : Code::ok));
    // One that says goodbye leaves nothing.
    BOOST_TEST(peer.as(mount.id, 0, Goodbye{}).reply.code == Code::ok);
    size_t left = 0;
    BOOST_TEST(bool(peer.replica->rows()->scan(kOvertaken, "", [&](std::string_view, std::string_view) {
      ++left;
      return true;
    })));
    BOOST_TEST(left == 0u);
  }
}

BOOST_AUTO_TEST_CASE(who_was_away_for_several_runs_of_the_owner_is_late) {
  for (const size_t runs : {size_t(1), kMaxRuns + 2}) {
    for (const bool changed : {true, false}) {
      TestPeer peer;
      const InodeNumber file = peer.make("a");
      Away mount(peer, file);
      peer.kill();
      if (changed) peer.write(file, 0, "new");
      for (size_t i = 0; i < runs; ++i) {
        peer.kill();
        peer.make(std::to_string(i));
      }
      mount.greet();
      const bool refused = changed || runs > kMaxRuns;  // then nobody knows who had changed it
      BOOST_TEST(mount.send_late("old") == (refused ? Code::io : Code::ok));
    }
  }
}

// As many files as do not go into one Hello: until the last nothing else is answered.
BOOST_AUTO_TEST_CASE(a_mount_that_says_in_parts_what_it_has_open_is_late_with_all) {
  for (const bool tells : {true, false}) {  // which run it knew
    TestPeer peer;
    const InodeNumber first = peer.make("a"), second = peer.make("b");
    Away mount(peer, second);
    BOOST_TEST(peer.as(mount.id, 0, Open{first, W_OK}).reply.code == Code::ok);
    peer.kill();
    peer.write(second, 0, "new");
    Hello hello{{first}};
    if (tells) hello.known = mount.known;
    hello.more = true;
    BOOST_TEST(peer.as(mount.id, 0, hello).reply.code == Code::ok);
    BOOST_TEST(peer.as(mount.id, 0, GetAttributes{first}).reply.code == Code::recalled);
    hello.open = {second, second};
    hello.more = false;
    BOOST_TEST(peer.as(mount.id, 0, hello).reply.code == Code::ok);
    BOOST_TEST(mount.send_late("old") == Code::io);
    BOOST_TEST(peer.read(second) == "new");
  }
}

// However many files were changed since the run that a mount says it knew.
BOOST_AUTO_TEST_CASE(no_more_is_noted_than_is_kept_in_memory) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  for (size_t i = 0; i < kMaxFenced; ++i) peer.replica->leases().expect_late({8}, 1000 + i, false, false);
  SessionId session{9, 9};
  Hello hello{{file}};
  hello.known = SessionMark{1, 1};
  BOOST_TEST(peer.as(session, 0, hello).reply.code == Code::ok);
  const auto noted = [&] {
    return peer.replica->rows()->get(kOvertaken, session_key(session, file))->has_value();
  };
  BOOST_TEST(!noted());
  peer.replica->leases().detach({8});
  session[0] = 10;
  BOOST_TEST(peer.as(session, 0, hello).reply.code == Code::ok);
  BOOST_TEST(noted());
}

// It is asked again by the next run, what it has not heard of.
BOOST_AUTO_TEST_CASE(a_mount_is_not_told_of_a_run_that_cannot_note_what_is_late) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  Away mount(peer, file);
  peer.kill();
  peer.write(file, 0, "new");
  peer.disk->fail_after(0);
  Hello hello{{file}};
  hello.known = mount.known;
  const Reply reply = peer.as(mount.id, 0, hello).reply;
  BOOST_TEST(reply.code == Code::ok);
  BOOST_TEST(!reply.session);
  BOOST_TEST(!peer.as(mount.id, 0, hello).reply.session);  // nor when it asks again
  BOOST_TEST(mount.send_late("old") == Code::io);
  peer.kill();
  mount.greet();
  BOOST_TEST(mount.send_late("old") == Code::io);
  BOOST_TEST(peer.read(file) == "new");
}

// Or the next run would compare with less than it has missed.
BOOST_AUTO_TEST_CASE(a_mount_that_is_told_of_a_run_is_known_to_be_late_after_a_power_loss) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    TestPeer peer(seed);
    const InodeNumber file = peer.make("a");
    Away mount(peer, file);
    peer.kill();
    BOOST_TEST(peer.write(file, 0, "new", true).code == Code::ok);
    Hello hello{{file}};
    hello.known = mount.known;
    BOOST_TEST(!peer.replica->executes_inline(hello, 0));  // it waits for a sync
    BOOST_TEST(!peer.replica->executes_inline(Hello{{file}}, 0));
    mount.greet();
    peer.power_loss();
    mount.greet();
    BOOST_TEST(peer.replica->executes_inline(Hello{}, 0));
    BOOST_TEST(mount.send_late("old") == Code::io);
    BOOST_TEST(peer.read(file) == "new");
  }
}

// What was written before a restart and comes after it, by a mount that is back sooner, is newer all the
// same.
BOOST_AUTO_TEST_CASE(what_is_late_itself_is_not_overwritten_by_what_comes_later) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  Away first(peer, file, 8), second(peer, file, 9);
  peer.pass(kSecond);
  const int64_t written_ns = peer.clock.wall_ns();
  peer.pass(kSecond);
  peer.kill();
  first.greet();
  BOOST_TEST(first.send_late("new", written_ns) == Code::ok);
  BOOST_TEST(peer.call(GetAttributes{file}).reply.attributes.mtime_ns == written_ns);
  second.greet();
  BOOST_TEST(second.send_late("old", written_ns) == Code::io);
  BOOST_TEST(peer.read(file) == "new");
  peer.kill();
  second.greet();
  BOOST_TEST(second.send_late("old", written_ns) == Code::io);
  first.greet();
  BOOST_TEST(first.send_late("newest") == Code::ok);
}

// It names a mark of the run before. What this run has granted since is recalled all the same.
BOOST_AUTO_TEST_CASE(what_a_mount_let_go_of_before_a_restart_leaves_later_leases) {
  TestPeer peer;
  const SessionId id{9, 9};
  const auto grant = [&](InodeNumber inode) {
    peer.as(id, 0, Hello{});
    peer.replica->leases().attach(id, [](const Recall&, Leases::Then then) { then(); });
    BOOST_TEST(peer.replica->leases().share(id, inode));
    return peer.replica->leases().mark();
  };
  const InodeNumber file = peer.make("a");
  for (int i = 0; i < 5; ++i) grant(file);
  const uint64_t mark = grant(file);
  peer.clock.now += kSecond;
  peer.kill();
  BOOST_TEST(grant(file) > mark);
  peer.as(id, 0, DropLeases{{file}, mark, true});
  BOOST_TEST(peer.replica->leases().holders(file).size() == 1u);
}

BOOST_AUTO_TEST_SUITE_END()
