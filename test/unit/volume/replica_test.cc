// A volume's sole owner: what is kept across kills, restarts and power loss; sessions; freeing.
#include "fixture.h"
#include "peer/base/hash.h"
#include "peer/volume/session_trust.h"

using namespace efs;
using namespace efs::test;

BOOST_AUTO_TEST_SUITE(replica)

BOOST_AUTO_TEST_CASE(what_was_answered_survives_a_kill) {
  TestPeer peer;
  auto small = peer.make("small");
  peer.write(small, 0, "hello");
  auto large = peer.make("large");
  const std::string bytes = std::string(300'000, 'x') + std::string(1000, 'y');
  BOOST_TEST(peer.write(large, 5, bytes).code == Code::ok);
  const auto verifier = peer.replica->verifier();
  peer.kill();
  BOOST_TEST(peer.read(small) == "hello");
  BOOST_TEST(peer.read(large) == std::string(5, '\0') + bytes);
  BOOST_TEST(peer.replica->verifier() != verifier);
  peer.pass(2 * kSecond);
  peer.kill();
  BOOST_TEST(peer.read(large, 300'000, 10) == "xxxxxyyyyy");
}

BOOST_AUTO_TEST_CASE(a_read_that_must_wait_for_nothing) {
  TestPeer peer;
  const auto file = peer.make("file");
  BOOST_TEST(peer.write(file, 0, std::string(300'000, 'x')).code == Code::ok);
  const SessionId reader{1}, writer{3};
  for (const SessionId& session : {reader, writer}) {
    peer.as(session, 0, Hello{});
    peer.replica->leases().attach(session, [](const Recall&, Leases::Then) {});
  }
  Request request;
  request.session = reader;
  request.who = user(0);
  request.leases = true;
  request.body = Read{file, 5, 10};
  const auto found = peer.replica->read_cached(request);
  BOOST_REQUIRE(found);
  BOOST_TEST(text(found->payload) == "xxxxxxxxxx");
  BOOST_TEST((found->reply.lease & kLeaseInode) != 0);
  BOOST_TEST(found->reply.verifier == peer.replica->verifier());

  peer.chunks.on_disk = true;
  BOOST_TEST(!peer.replica->read_cached(request));
  BOOST_TEST(peer.read(file, 5, 3) == "xxx");
  peer.chunks.on_disk = false;
  peer.replica->leases().drop_all(reader, UINT64_MAX);
  BOOST_REQUIRE(peer.replica->leases().own(writer, file));  // and may have buffered what is asked for
  BOOST_TEST(!peer.replica->read_cached(request));
}

BOOST_AUTO_TEST_CASE(scattered_pieces_are_kept_or_wholly_gone) {
  for (uint64_t seed = 1; seed < 30; ++seed) {
    TestPeer peer(seed);
    auto file = peer.make("file");
    peer.write(file, 0, std::string(400'000, 'o'), true);
    for (const size_t length : {size_t(1000), size_t(50'000)}) {  // in the log, in a chunk
      WriteScattered write;
      write.inode = file;
      Bytes payload;
      std::string expected = peer.read(file);
      for (uint64_t at : {uint64_t(100), uint64_t(100'000), uint64_t(300'000)}) {
        write.pieces.push_back({at, uint32_t(length)});
        const std::string piece(length, char('a' + at % 7));
        append(payload, view(piece));
        expected.replace(at, length, piece);
      }
      write.crc = crc32c(payload) + 1;
      BOOST_TEST(peer.call(write, payload).reply.code == Code::corrupt);
      write.crc -= 1;
      BOOST_TEST(peer.call(write, payload).reply.code == Code::ok);
      peer.kill();
      BOOST_TEST((peer.read(file) == expected));
      const std::string before = expected;
      write.pieces[1].offset += 5000;
      expected.replace(105'000, length, expected.substr(100'000, length));
      write.durable = seed % 2 != 0;
      BOOST_TEST(peer.call(write, payload).reply.code == Code::ok);
      peer.power_loss();
      const std::string found = peer.read(file);
      BOOST_TEST((found == expected || (!write.durable && found == before)));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_clean_restart_keeps_the_verifier) {
  TestPeer peer;
  peer.make("a");
  peer.kill();
  const auto verifier = peer.replica->verifier();
  peer.restart_cleanly();
  BOOST_TEST(peer.replica->verifier() == verifier);
  BOOST_TEST(peer.lookup("a") == Code::ok);
}

BOOST_AUTO_TEST_CASE(what_was_synced_survives_power_loss) {
  for (uint64_t seed = 1; seed < 30; ++seed) {
    TestPeer peer(seed);
    auto file = peer.make("file");
    const std::string big(200'000, 'b');
    peer.write(file, 0, big);
    peer.write(file, 200'000, "small");
    BOOST_TEST(peer.call(Sync{}).reply.code == Code::ok);
    auto other = peer.make("other");
    BOOST_TEST(peer.write(other, 0, "durable", true).code == Code::ok);
    const auto later = peer.make("later");
    auto last = peer.make("last");
    peer.write(last, 0, std::string(100'000, 'c'));
    peer.power_loss();
    BOOST_TEST(peer.read(file) == big + "small");
    BOOST_TEST(peer.read(other) == "durable");
    // The rest is a prefix.
    if (peer.lookup("last") == Code::ok) BOOST_TEST(peer.lookup("later") == Code::ok);
    const bool lost = peer.lookup("later") != Code::ok;
    BOOST_TEST(peer.call(Sync{later}).reply.code == (lost ? Code::stale : Code::ok));
    BOOST_TEST(peer.call(Sync{kRootInode}).reply.code == Code::ok);
    auto fresh = peer.make("fresh");
    BOOST_TEST(fresh > last);
  }
}

BOOST_AUTO_TEST_CASE(the_log_is_synced_within_half_a_second) {
  TestPeer peer;
  peer.make("a");
  peer.pass(kLogSyncInterval);
  peer.power_loss();
  BOOST_TEST(peer.lookup("a") == Code::ok);
}

BOOST_AUTO_TEST_CASE(a_failed_operation_leaves_nothing) {
  TestPeer peer;
  auto file = peer.make("a");
  const auto index = peer.replica->applied_index();
  BOOST_TEST(peer.call(Unlink{kRootInode, "none", false}).reply.code == Code::not_found);
  peer.chunks.full = true;
  BOOST_TEST(peer.write(file, 0, std::string(10'000, 'x')).code == Code::no_space);
  BOOST_TEST(peer.write(file, 0, std::string(100'000, 'x')).code == Code::no_space);
  BOOST_TEST(peer.replica->applied_index() == index);
  BOOST_TEST(peer.call(Unlink{kRootInode, "a", false}).reply.code == Code::ok);
  peer.kill();
  BOOST_TEST(peer.lookup("a") == Code::not_found);
}

// Its disk is nearly full: statfs says so, and what needs no more of it goes on.
BOOST_AUTO_TEST_CASE(without_room_for_metadata_what_is_there_can_be_changed) {
  TestPeer peer;
  const auto file = peer.make("a");
  BOOST_REQUIRE(peer.write(file, 0, std::string(100'000, 'x')).code == Code::ok);
  Reply usage = peer.call(Usage{}).reply;
  BOOST_TEST(usage.available_bytes > 0u);
  BOOST_TEST(usage.available_inodes.value_or(0) > 0u);
  peer.reserved_bytes = UINT64_MAX;
  peer.restart_cleanly();
  usage = peer.call(Usage{}).reply;
  BOOST_TEST(usage.available_bytes == 0u);
  BOOST_TEST(usage.available_inodes.value_or(1) == 0u);
  Create create;
  create.parent = kRootInode;
  create.name = "new";
  create.mode = 0100644;
  BOOST_TEST(peer.call(create).reply.code == Code::no_space);
  BOOST_TEST(peer.write(file, 0, "y").code == Code::no_space);
  Rename rename;
  rename.parent = rename.new_parent = kRootInode;
  rename.name = "a";
  rename.new_name = "b";
  rename.whiteout = true;
  BOOST_TEST(peer.call(rename).reply.code == Code::no_space);
  rename.whiteout = false;
  BOOST_TEST(peer.call(rename).reply.code == Code::ok);
  SetAttributes set;
  set.inode = file;
  set.mode = 0600;
  BOOST_TEST(peer.call(set).reply.code == Code::ok);
  BOOST_TEST(peer.call(Unlink{kRootInode, "b", false}).reply.code == Code::ok);
}

BOOST_AUTO_TEST_CASE(allocating_what_is_there_takes_no_room) {
  TestPeer peer;
  const auto file = peer.make("a");
  BOOST_REQUIRE(peer.write(file, 0, std::string(100'000, 'x')).code == Code::ok);
  peer.chunks.full = true;
  Allocate allocate;
  allocate.inode = file;
  allocate.length = 100'000;
  BOOST_TEST(peer.call(allocate).reply.code == Code::ok);
  allocate.offset = 50'000;
  allocate.length = 50'000;
  BOOST_TEST(peer.call(allocate).reply.code == Code::ok);
  allocate.length = 60'000;
  BOOST_TEST(peer.call(allocate).reply.code == Code::no_space);
}

BOOST_AUTO_TEST_CASE(a_refused_write_leaves_no_chunk) {
  TestPeer peer;
  auto file = peer.make("a");
  Write write;
  write.inode = file;
  BOOST_TEST(peer.call(write, Bytes(100'000, 1), user(5)).reply.code == Code::access_denied);
  write.crc = 1;
  BOOST_TEST(peer.call(write, Bytes(100'000, 1)).reply.code == Code::corrupt);
  peer.make("b");
  peer.pass(2 * kSecond);
  BOOST_TEST(peer.chunks.all.empty());
}

// Of small content that grows: the first of two chunks was stored when there was no room for the second.
BOOST_AUTO_TEST_CASE(a_write_that_finds_no_room_leaves_no_chunk) {
  TestPeer peer;
  auto file = peer.make("a");
  peer.write(file, 0, std::string(2000, 'x'));
  peer.chunks.before_put = [&] { peer.chunks.before_put = [&] { peer.chunks.full = true; }; };
  BOOST_TEST(peer.write(file, 2000, std::string(3000, 'y')).code == Code::no_space);
  peer.chunks.full = false;
  BOOST_TEST(peer.chunks.all.size() == 1u);
  peer.make("b");
  peer.pass(2 * kSecond);
  BOOST_TEST(peer.chunks.all.empty());
  BOOST_TEST(peer.write(file, 2000, std::string(3000, 'y')).code == Code::ok);
  BOOST_TEST(peer.read(file) == std::string(2000, 'x') + std::string(3000, 'y'));
}

// A mount repeats what it has no answer to; meanwhile others have cut the file.
BOOST_AUTO_TEST_CASE(a_repeated_write_leaves_no_chunk) {
  TestPeer peer;
  const SessionId mount{9, 9};
  peer.as(mount, 0, Hello{});
  Write write;
  write.inode = peer.make("a");
  BOOST_TEST(peer.as(mount, 1, write, Bytes(100'000, 1)).reply.code == Code::ok);
  SetAttributes cut;
  cut.inode = write.inode;
  cut.size = 0;
  peer.call(cut);
  peer.pass(2 * kSecond);
  peer.pass(2 * kSecond);
  BOOST_TEST(peer.chunks.all.empty());
  BOOST_TEST(peer.as(mount, 1, write, Bytes(100'000, 1)).reply.code == Code::ok);
  peer.make("b");
  peer.pass(2 * kSecond);
  BOOST_TEST(peer.chunks.all.empty());
}

BOOST_AUTO_TEST_CASE(freed_chunks_go_after_a_checkpoint) {
  TestPeer peer;
  auto file = peer.make("a");
  peer.write(file, 0, std::string(100'000, 'x'));
  peer.pass(2 * kSecond);
  BOOST_TEST(peer.chunks.all.size() == 1u);
  peer.call(Unlink{kRootInode, "a", false});
  peer.pass(2 * kSecond);
  peer.pass(2 * kSecond);
  BOOST_TEST(peer.chunks.all.empty());
  BOOST_TEST(peer.call(Usage{}).reply.usage.stored_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(a_chunk_that_is_stored_again_before_it_is_reaped_stays) {
  TestPeer peer;
  auto file = peer.make("a");
  const std::string bytes(100'000, 'x');
  peer.write(file, 0, bytes);
  peer.call(Unlink{kRootInode, "a", false});
  peer.replica->upkeep();
  auto again = peer.make("b");
  peer.write(again, 0, bytes);
  peer.kill();
  peer.pass(2 * kSecond);
  peer.pass(2 * kSecond);
  auto found = peer.call(Lookup{kRootInode, "b"}).reply.attributes.inode;
  BOOST_TEST(peer.read(found) == bytes);
}

// Freed, named again, and, behind what the checkpoint holds, freed again: it is still what the checkpoint
// names.
BOOST_AUTO_TEST_CASE(what_a_checkpoint_names_is_not_reaped_for_what_comes_behind_it) {
  TestPeer peer;
  const std::string bytes(100'000, 'x');
  peer.write(peer.make("a"), 0, bytes);
  peer.call(Unlink{kRootInode, "a", false});
  peer.replica->upkeep();
  peer.write(peer.make("b"), 0, bytes);
  peer.chunks.before_checkpoint = [&] {
    peer.call(Unlink{kRootInode, "b", false});
    peer.replica->upkeep();
  };
  BOOST_REQUIRE(peer.replica->checkpoint());
  BOOST_TEST(peer.chunks.all.size() == 1u);
  BOOST_REQUIRE(peer.replica->checkpoint());
  BOOST_TEST(peer.chunks.all.empty());
}

BOOST_AUTO_TEST_CASE(open_files_outlive_their_names) {
  TestPeer peer;
  auto file = peer.make("a", true);
  peer.write(file, 0, "kept");
  BOOST_TEST(peer.call(Unlink{kRootInode, "a", false}).reply.attributes.nlink == 0u);
  BOOST_TEST(peer.read(file) == "kept");
  BOOST_TEST(peer.write(file, 4, "!").code == Code::ok);
  BOOST_TEST(peer.call(Close{{file}}).reply.code == Code::ok);
  BOOST_TEST(peer.call(GetAttributes{file}).reply.code == Code::stale);
  auto second = peer.make("b");
  BOOST_TEST(peer.call(Open{second, 4}).reply.code == Code::ok);
  peer.call(Unlink{kRootInode, "b", false});
  BOOST_TEST(peer.call(Open{second, 4}, {}).reply.code == Code::ok);
  peer.kill();  // this process's own are gone with it
  BOOST_TEST(peer.call(GetAttributes{second}).reply.code == Code::stale);
  BOOST_TEST(peer.call(Usage{}).reply.usage.files == 1u);
}

BOOST_AUTO_TEST_CASE(what_a_mount_of_this_process_held_ends_with_it) {
  TestPeer peer;
  LocalVolume mount(peer.replica, 1);
  const auto opens = [&](InodeNumber inode) {
    Code code = Code::io;
    mount.call(user(0), Open{inode, R_OK}, {}, {}, [&](VolumeAnswer answer) { code = answer.reply.code; });
    return code;
  };
  const InodeNumber before = peer.make("before"), after = peer.make("after");
  BOOST_TEST(opens(before) == Code::ok);
  BOOST_TEST(opens(after) == Code::ok);
  peer.call(Unlink{kRootInode, "before", false});
  BOOST_TEST(peer.call(Usage{}).reply.usage.files == 3u);
  mount.close();
  mount.close();
  BOOST_TEST(peer.call(Usage{}).reply.usage.files == 2u);
  peer.call(Unlink{kRootInode, "after", false});
  BOOST_TEST(peer.call(Usage{}).reply.usage.files == 1u);
}

// Who gave up waiting for an answer closes what it asked for before the owner has opened it.
BOOST_AUTO_TEST_CASE(what_is_closed_while_its_open_waits_is_not_held) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  const SessionId writer{9, 9}, reader{8, 8};
  peer.as(reader, 0, Hello{});
  Leases::Then forgotten;
  Leases& leases = peer.replica->leases();
  leases.attach(writer, [&](const Recall&, Leases::Then then) { forgotten = std::move(then); });
  BOOST_REQUIRE(leases.own(writer, file));
  Request open;
  open.session = reader;
  open.body = Open{file, R_OK};
  auto answered = std::make_shared<bool>(false);
  peer.replica->execute(open, {}, [answered](VolumeAnswer) { *answered = true; });
  BOOST_REQUIRE(forgotten);
  BOOST_TEST(!*answered);
  BOOST_TEST(peer.as(reader, 0, Close{{file}}).reply.code == Code::ok);
  forgotten();
  BOOST_TEST(*answered);
  leases.detach(writer);
  peer.call(Unlink{kRootInode, "a", false});
  BOOST_TEST(peer.call(Usage{}).reply.usage.files == 1u);
}

// The owner was killed while it asked a mount whether that has open what was just unlinked.
BOOST_AUTO_TEST_CASE(what_nobody_says_to_have_open_after_a_kill_goes) {
  for (const bool has_it_open : {false, true}) {
    TestPeer peer;
    const InodeNumber file = peer.make("a");
    const SessionId mount{9, 9};
    peer.as(mount, 0, Hello{});
    Leases& leases = peer.replica->leases();
    leases.attach(mount, [](const Recall&, Leases::Then) {});
    BOOST_REQUIRE(leases.share(mount, file));
    Request unlink;
    unlink.body = Unlink{kRootInode, "a", false};
    peer.replica->execute(unlink, {}, [](VolumeAnswer) {});
    leases.close();  // what waits keeps the replica
    peer.kill();
    BOOST_TEST(peer.as(mount, 0, Hello{}).reply.code == Code::ok);
    if (has_it_open) BOOST_TEST(peer.as(mount, 0, Hello{{file}}).reply.code == Code::ok);
    BOOST_TEST(peer.call(Usage{}).reply.usage.files == 2u);
    for (int i = 0; i < 5; ++i) {
      peer.pass(kSessionGrace / 2);
      BOOST_TEST(peer.as(mount, 0, Hello{.open = {}, .renew = true}).reply.code == Code::ok);
    }
    BOOST_TEST(peer.call(Usage{}).reply.usage.files == (has_it_open ? 2u : 1u));
  }
}

BOOST_AUTO_TEST_CASE(what_lost_its_name_is_opened_by_nobody_else) {
  TestPeer peer;
  const SessionId mount{9, 9};
  BOOST_TEST(peer.as(mount, 0, Hello{}).reply.code == Code::ok);
  auto file = peer.make("a", true);
  peer.write(file, 0, "kept");
  peer.call(Unlink{kRootInode, "a", false});
  BOOST_TEST(peer.as(mount, 0, Open{file, 4}).reply.code == Code::stale);  // it came by the old name
  BOOST_TEST(peer.call(Open{file, 4}).reply.code == Code::ok);             // by /proc/self/fd
  BOOST_TEST(peer.read(file) == "kept");
  BOOST_TEST(peer.call(Close{{file}}).reply.code == Code::ok);
  BOOST_TEST(peer.call(GetAttributes{file}).reply.code == Code::stale);
}

BOOST_AUTO_TEST_CASE(who_has_a_file_open_may_go_on_using_it) {
  TestPeer peer;
  auto file = peer.make("a");
  SetAttributes own;
  own.inode = file;
  own.uid = 5;
  peer.call(own);
  BOOST_TEST(peer.call(Open{file, 6}, {}, user(6)).reply.code == Code::access_denied);
  BOOST_TEST(peer.call(Open{file, 6}, {}, user(5)).reply.code == Code::ok);
  SetAttributes close;
  close.inode = file;
  close.mode = 0;
  BOOST_TEST(peer.call(close, {}, user(5)).reply.code == Code::ok);
  Write write;
  write.inode = file;
  BOOST_TEST(peer.call(write, Bytes{1}, user(5)).reply.code == Code::ok);
  BOOST_TEST(peer.call(Read{file, 0, 10}, {}, user(5)).reply.code == Code::ok);
  peer.call(Close{{file}});
  BOOST_TEST(peer.call(write, Bytes{1}, user(5)).reply.code == Code::access_denied);
}

// Whoever holds a file while its directory is locked must not wait for a mount that may wait for that lock.
BOOST_AUTO_TEST_CASE(who_only_holds_a_file_waits_for_nobody) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  const SessionId writer{9, 9};
  std::vector<std::function<void()>> asked;
  peer.replica->leases().attach(
      writer, [&](const Recall&, std::function<void()> forgotten) { asked.push_back(std::move(forgotten)); });
  BOOST_REQUIRE(peer.replica->leases().own(writer, file));
  const auto opened = [&](uint32_t want) {
    auto out = std::make_shared<std::optional<Code>>();
    Request request;
    request.volume = peer.id;
    request.body = Open{file, want};
    peer.replica->execute(request, {}, [out](VolumeAnswer answer) { *out = answer.reply.code; });
    return out;
  };
  const auto held = opened(0);
  BOOST_TEST((*held == Code::ok));
  BOOST_TEST(asked.empty());
  const auto read = opened(R_OK);
  BOOST_TEST(!read->has_value());
  BOOST_REQUIRE_EQUAL(asked.size(), 1u);
  asked[0]();
  BOOST_TEST((*read == Code::ok));
}

// Who asks for what is durable means what others have written, too, as far as their calls have returned.
BOOST_AUTO_TEST_CASE(a_sync_calls_back_what_others_have_buffered) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  const SessionId writer{9, 9};
  std::vector<Leases::Then> asked;
  peer.replica->leases().attach(writer,
                                [&](const Recall&, Leases::Then then) { asked.push_back(std::move(then)); });
  BOOST_REQUIRE(peer.replica->leases().own(writer, file));
  const auto synced = [&](InodeNumber inode) {
    auto out = std::make_shared<std::optional<Code>>();
    Request request;
    request.volume = peer.id;
    request.leases = true;
    request.body = Sync{inode};
    peer.replica->execute(request, {}, [out](VolumeAnswer answer) { *out = answer.reply.code; });
    return out;
  };
  BOOST_TEST((*synced(0) == Code::ok));  // of no file
  const auto done = synced(file);
  BOOST_TEST(!done->has_value());
  BOOST_REQUIRE_EQUAL(asked.size(), 1u);
  asked[0]();
  BOOST_TEST((*done == Code::ok));
  BOOST_TEST(asked.size() == 1u);
}

BOOST_AUTO_TEST_CASE(sessions_repeat_and_end) {
  TestPeer peer;
  const SessionId mount{9, 9};
  Create create;
  create.parent = kRootInode;
  create.name = "a";
  create.mode = 0100644;
  create.open = true;
  BOOST_TEST(peer.as(mount, 1, create).reply.code == Code::expired);
  BOOST_TEST(peer.as(mount, 0, Hello{}).reply.code == Code::ok);
  auto first = peer.as(mount, 1, create).reply;
  BOOST_TEST(first.created);
  BOOST_TEST(peer.as(mount, 1, create).reply.created);
  BOOST_TEST(peer.as(mount, 2, create).reply.code == Code::exists);
  peer.call(Unlink{kRootInode, "a", false});
  BOOST_TEST(peer.as(mount, 2, create).reply.code == Code::exists);  // as it was answered
  peer.kill();
  BOOST_TEST(peer.as(mount, 1, create).reply.code == Code::recalled);
  BOOST_TEST(peer.as(mount, 0, Hello{{first.attributes.inode}}).reply.code == Code::ok);
  BOOST_TEST(peer.as(mount, 1, create).reply.created);
  BOOST_TEST(peer.call(GetAttributes{first.attributes.inode}).reply.code == Code::ok);
  BOOST_TEST(peer.as(mount, 0, Sync{first.attributes.inode}).reply.code == Code::ok);
  peer.pass(kSessionGrace / 2);
  BOOST_TEST(peer.as(mount, 0, Hello{{first.attributes.inode}}).reply.code == Code::ok);
  peer.pass(kSessionGrace);
  BOOST_TEST(peer.call(GetAttributes{first.attributes.inode}).reply.code == Code::ok);
  peer.pass(kSessionSilence + kSecond);
  BOOST_TEST(peer.call(GetAttributes{first.attributes.inode}).reply.code == Code::stale);
  BOOST_TEST(peer.as(mount, 3, create).reply.code == Code::expired);
}

BOOST_AUTO_TEST_CASE(an_owner_that_did_not_run_hears_everybody_first) {
  TestPeer peer;
  const SessionId mount{9, 9};
  peer.as(mount, 0, Hello{});
  peer.pass(kSecond);
  peer.stand_still(2 * kSessionSilence);
  BOOST_TEST(peer.as(mount, 0, Sync{}).reply.code == Code::ok);
  peer.stand_still(2 * kSessionSilence);
  peer.pass(kSessionSilence + kMinute);
  BOOST_TEST(peer.as(mount, 0, Sync{}).reply.code == Code::recalled);
}

// As git makes its objects: whoever may not act for everybody makes a file that nobody may write, and writes
// it. What others own is not believed to be open.
BOOST_AUTO_TEST_CASE(who_acts_for_some_users_holds_open_what_is_theirs) {
  TestPeer peer;
  SetAttributes shared;
  shared.inode = kRootInode;
  shared.mode = 0777;
  peer.call(shared);
  SessionId mount{9, 9};
  set_limited(mount, true);
  peer.as(mount, 0, Hello{});
  const auto as = [&](uint32_t uid, uint64_t sequence, RequestBody body, Payload payload = {}) {
    Request request;
    request.session = mount;
    request.sequence = sequence;
    request.acknowledged = 1;
    request.who = user(uid);
    request.body = std::move(body);
    VolumeAnswer out;
    peer.replica->execute(request, std::move(payload), [&](VolumeAnswer answer) { out = std::move(answer); });
    return out;
  };
  Create create;
  create.parent = kRootInode;
  create.name = "object";
  create.mode = 0100444;
  create.open = true;
  const InodeNumber file = as(1000, 1, create).reply.attributes.inode;
  Write write;
  write.inode = file;
  BOOST_TEST(as(1000, 2, write, to_bytes(view("blob"))).reply.code == Code::ok);
  BOOST_TEST(as(1001, 3, write, to_bytes(view("evil"))).reply.code == Code::access_denied);
  SetAttributes shorten;
  shorten.inode = file;
  shorten.size = 2;
  shorten.has_write_handle = true;
  BOOST_TEST(as(1001, 4, shorten).reply.code == Code::access_denied);
  BOOST_TEST(as(1000, 5, shorten).reply.code == Code::ok);
  BOOST_TEST(peer.read(file, 0, 9) == "bl");
  as(1000, 0, Close{{file}});
  BOOST_TEST(as(1000, 6, write, to_bytes(view("more"))).reply.code == Code::access_denied);
}

// What a mount repeats after a restart comes before what is new, or not at all.
BOOST_AUTO_TEST_CASE(what_is_late_after_a_restart_undoes_nothing) {
  for (const bool in_time : {true, false}) {
    TestPeer peer;
    const SessionId mount{9, 9};
    const InodeNumber file = peer.make("a");
    peer.as(mount, 0, Hello{});
    BOOST_TEST(peer.as(mount, 0, Open{file, W_OK}).reply.code == Code::ok);
    peer.kill();
    peer.replica->leases().hold(true);  // as the service does until leases of before have ended
    const auto write = [&](const SessionId& by, uint64_t sequence, bool late, std::string bytes) {
      auto out = std::make_shared<std::optional<Code>>();
      Request request;
      request.volume = peer.id;
      request.session = by;
      request.sequence = sequence;
      request.late = late;
      Write body;
      body.inode = file;
      request.body = body;
      peer.replica->execute(request, to_bytes(view(bytes)),
                            [out](VolumeAnswer answer) { *out = answer.reply.code; });
      return out;
    };
    const auto content = [&] {
      const auto read = peer.call(Read{file, 0, 10});
      return std::string(text(read.payload));
    };
    const auto fresh = write({}, 0, false, "new");
    BOOST_TEST(!fresh->has_value());
    BOOST_TEST(content() == "");
    if (in_time) {
      BOOST_TEST(peer.as(mount, 0, Hello{{file}}).reply.code == Code::ok);
      write(mount, 1, true, "old");
      BOOST_TEST(content() == "old");
    }
    peer.replica->leases().hold(false);
    BOOST_TEST((*fresh == Code::ok));
    if (!in_time) BOOST_TEST(peer.as(mount, 0, Hello{{file}}).reply.code == Code::ok);
    BOOST_TEST(content() == "new");
    BOOST_TEST((*write(mount, 2, true, "old") == Code::io));
    if (in_time) BOOST_TEST((*write(mount, 1, true, "old") == Code::ok));  // was made
    BOOST_TEST(content() == "new");
    BOOST_TEST((*write(mount, 3, false, "now") == Code::ok));
    BOOST_TEST(content() == "now");
    peer.as(mount, 0, DropLeases{{file}, 0, false, true});  // it has sent all
    BOOST_TEST((*write(mount, 4, true, "new") == Code::ok));
  }
}

// Others may believe what the owner had not told them before its restart.
BOOST_AUTO_TEST_CASE(what_is_repeated_after_a_restart_is_answered_when_old_leases_have_ended) {
  TestPeer peer;
  const SessionId mount{9, 9};
  const InodeNumber file = peer.make("a");
  peer.as(mount, 0, Hello{});
  SetAttributes set;
  set.inode = file;
  set.mode = 0600;
  BOOST_TEST(peer.as(mount, 1, set).reply.code == Code::ok);
  peer.kill();
  peer.replica->leases().hold(true);
  peer.as(mount, 0, Hello{{file}});
  Request request;
  request.volume = peer.id;
  request.session = mount;
  request.sequence = 1;
  request.late = true;  // the others wait before they are made
  request.body = set;
  std::optional<Code> code;
  peer.replica->execute(request, {}, [&](VolumeAnswer answer) { code = answer.reply.code; });
  BOOST_TEST(!code);
  peer.replica->leases().hold(false);
  BOOST_TEST((code == Code::ok));
}

// By whatever it hears first: what is not lost is not sent again.
BOOST_AUTO_TEST_CASE(a_new_run_says_what_it_has_found_of_the_log) {
  TestPeer peer;
  const SessionId mount{9, 9};
  const InodeNumber file = peer.make("a");
  const Reply before = peer.as(mount, 0, Hello{}).reply;
  SetAttributes set;
  set.inode = file;
  set.mode = 0600;
  const Reply written = peer.as(mount, 1, set).reply;
  BOOST_TEST(written.logged > before.logged);
  BOOST_TEST(written.durable < written.logged);
  BOOST_TEST(peer.as(mount, 0, Sync{}).reply.durable >= written.logged);
  peer.kill();
  const auto tells = [&](const VolumeAnswer& answer, Code code) {
    BOOST_TEST((answer.reply.code == code));
    BOOST_TEST(answer.reply.verifier != before.verifier);
    BOOST_TEST(answer.reply.verifier_before == before.verifier);
    BOOST_TEST(answer.reply.recovered >= written.logged);
  };
  tells(peer.as(mount, 0, GetAttributes{file}), Code::recalled);
  tells(peer.as(mount, 0, GetLock{{file, false, 1, kReadLock, 0, 0, 0}}), Code::recalled);
  tells(peer.as(SessionId{8, 8}, 1, set), Code::expired);
  tells(peer.as(mount, 0, Hello{}), Code::ok);
}

// Nor does what comes from a mount whose session has ended, too, since the restart.
BOOST_AUTO_TEST_CASE(who_is_back_after_a_restart_and_its_sessions_end_is_late) {
  for (const bool ended : {false, true}) {
    TestPeer peer;
    const SessionId mount{9, 9};
    const InodeNumber file = peer.make("a");
    const auto first = peer.as(mount, 0, Hello{}).reply.session;
    BOOST_REQUIRE(first);
    BOOST_TEST(peer.as(mount, 0, Open{file, W_OK}).reply.code == Code::ok);
    BOOST_TEST((peer.as(mount, 0, Hello{{file}}).reply.session == first));
    peer.kill();
    if (ended) peer.pass(kSessionSilence + kMinute);
    BOOST_TEST(peer.write(file, 0, "new").code == Code::ok);
    Hello back{{file}};
    back.known = first;
    const auto again = peer.as(mount, 0, back).reply.session;
    BOOST_REQUIRE(again);
    BOOST_TEST((again->began_ns != first->began_ns) == ended);
    BOOST_TEST(again->owner_ns != first->owner_ns);
    Request request;
    request.volume = peer.id;
    request.session = mount;
    request.sequence = request.acknowledged = 1;
    request.late = true;
    Write write;
    write.inode = file;
    request.body = write;
    std::optional<Code> code;
    peer.replica->execute(request, to_bytes(view("old")),
                          [&](VolumeAnswer answer) { code = answer.reply.code; });
    BOOST_TEST((code == Code::io));
    BOOST_TEST(peer.read(file) == "new");
  }
}

BOOST_AUTO_TEST_CASE(mounts_of_this_process_hear_what_others_change) {
  TestPeer peer;
  std::vector<RecallItem> heard;
  std::vector<std::function<void()>> answers;
  SessionId mount{};
  mount.back() = 7;
  auto listener = [&](const Recall& recall, std::function<void()> forgotten) {
    heard.insert(heard.end(), recall.items.begin(), recall.items.end());
    answers.push_back(std::move(forgotten));
  };
  peer.replica->leases().attach(mount, listener, [](InodeNumber) { return true; });
  Request request;
  request.volume = peer.id;
  request.body = Create{kRootInode, "a", 0100644, 0, {}, true, false};
  InodeNumber made = 0;
  peer.replica->execute(request, {}, [&](VolumeAnswer answer) { made = answer.reply.attributes.inode; });
  BOOST_REQUIRE_EQUAL(heard.size(), 1u);
  BOOST_TEST(heard[0].name == "a");
  BOOST_TEST(made == 0u);  // not answered before the mount has forgotten
  answers[0]();
  BOOST_TEST(made != 0u);
  request.session = mount;  // what it changes itself is no news to it
  request.body = SetAttributes{made, 0100600, {}, {}, {}, {}, {}, false, false, false, false};
  bool done = false;
  peer.replica->execute(request, {}, [&](VolumeAnswer) { done = true; });
  BOOST_TEST(done);
  BOOST_TEST(heard.size() == 1u);
  peer.replica->leases().detach(mount);
}

// A kernel that takes a directory for removed does not ask for anything in it again: so nothing is removed or
// replaced for one that may mean another directory by that name.
BOOST_AUTO_TEST_CASE(who_has_not_heard_of_a_name_replaces_nothing_by_it) {
  TestPeer peer;
  std::vector<std::function<void()>> unsaid;
  SessionId mount{};
  mount.back() = 7;
  const auto listener = [&](const Recall&, std::function<void()> forgotten) {
    unsaid.push_back(std::move(forgotten));
  };
  const auto say_all = [&] {
    for (auto& say : std::exchange(unsaid, {})) say();
  };
  peer.replica->leases().attach(mount, listener, [](InodeNumber) { return true; });
  const auto ask = [&](const SessionId& session, RequestBody body) {
    Request request;
    request.volume = peer.id;
    request.session = session;
    request.leases = true;
    request.body = std::move(body);
    auto code = std::make_shared<std::optional<Code>>();
    peer.replica->execute(request, {}, [code](VolumeAnswer answer) { *code = answer.reply.code; });
    return code;
  };
  const auto move = [](const char* from, const char* to) {
    Rename rename;
    rename.parent = rename.new_parent = kRootInode;
    rename.name = from;
    rename.new_name = to;
    return rename;
  };
  for (const char* name : {"d", "e", "f"}) ask({}, Create{kRootInode, name, 040755, 0, {}, false, false});
  say_all();
  const auto moved = ask({}, move("d", "g"));
  BOOST_TEST(!moved->has_value());  // the mount has not forgotten yet
  BOOST_CHECK(**ask(mount, move("e", "d")) == Code::stale);
  BOOST_CHECK(**ask(mount, move("g", "h")) == Code::stale);
  BOOST_CHECK(**ask(mount, Unlink{kRootInode, "d", true}) == Code::stale);
  BOOST_CHECK(**ask(mount, Unlink{kRootInode, "f", true}) == Code::ok);  // of another name
  BOOST_CHECK(**ask(mount, Lookup{kRootInode, "d"}) == Code::not_found);
  BOOST_CHECK(**ask(mount, move("e", "d")) == Code::ok);  // it has looked
  BOOST_CHECK(**ask(mount, move("g", "h")) == Code::stale);
  say_all();
  BOOST_CHECK(moved->value() == Code::ok);
  BOOST_CHECK(**ask(mount, move("g", "h")) == Code::ok);  // it has heard
  // Files: only what is moved has to be known.
  for (const char* name : {"1", "2", "3", "4"})
    ask({}, Create{kRootInode, name, 0100644, 0, {}, false, false});
  say_all();
  const auto replaced = ask({}, move("1", "2"));
  BOOST_TEST(!replaced->has_value());
  BOOST_CHECK(**ask(mount, move("3", "2")) == Code::ok);
  BOOST_CHECK(**ask(mount, move("h", "2")) == Code::stale);
  Rename exchange = move("4", "2");
  exchange.exchange = true;
  BOOST_CHECK(**ask(mount, exchange) == Code::stale);
  BOOST_CHECK(**ask(mount, move("1", "4")) == Code::stale);
  say_all();
  peer.replica->leases().detach(mount);
}

// A real chunk store, whose index forgets what was not checkpointed: what was freed, too.
BOOST_AUTO_TEST_CASE(what_was_freed_stays_so_over_a_restart) {
  for (const bool removed : {false, true}) {
    auto disk = make_simulated_disk(1);
    auto environments = make_memory_environments();
    auto index = make_memory_environment(chunk_index_options());
    ManualClock clock;
    SeededRandom random(1);
    QuietLogger logger;
    const VolumeId id{1};
    const auto run = [&](const std::function<void(VolumeSet&)>& body) {
      auto chunks = ChunkStore::open(disk->files(), index, {{"/data/chunks", 1 << 30}}, true, logger);
      BOOST_REQUIRE_MESSAGE(chunks, test::why(chunks));
      VolumeSetOptions options;
      options.log_directory = "/data/log";
      options.reserved_bytes = 0;
      auto set = VolumeSet::open({clock, random, disk->files(), logger, **chunks, *environments}, options);
      BOOST_REQUIRE_MESSAGE(set, test::why(set));
      body(**set);
      set->reset();
      chunks->reset();
      disk->process_died();
    };
    run([&](VolumeSet& set) {
      auto replica = set.create(id, 3, {});
      BOOST_REQUIRE(replica);
      const auto call = [&](RequestBody body, Payload payload = {}) {
        Reply reply;
        Request request;
        request.body = std::move(body);
        (*replica)->execute(request, std::move(payload), [&](VolumeAnswer answer) { reply = answer.reply; });
        BOOST_REQUIRE(reply.code == Code::ok);
        return reply;
      };
      Create create;
      create.parent = kRootInode;
      create.name = "a";
      Write write;
      write.inode = call(create).attributes.inode;
      call(write, Bytes(100'000, 1));
      BOOST_REQUIRE((*replica)->checkpoint());
      call(Unlink{kRootInode, "a", false});
      (*replica)->upkeep();
      BOOST_TEST(set.chunks().stored(3).chunks == 1u);
      if (removed) {
        BOOST_REQUIRE(set.remove(id));  // and killed
      } else {
        BOOST_REQUIRE(set.close());
      }
    });
    run([&](VolumeSet& set) { BOOST_TEST(set.chunks().stored(3).chunks == 0u); });
  }
}

BOOST_AUTO_TEST_CASE(volumes_are_made_found_and_removed) {
  TestPeer peer;
  VolumeId other{2};
  BOOST_TEST(!peer.set->create(other, 3, {}));
  BOOST_TEST(!peer.set->create(peer.id, 4, {}));
  BOOST_TEST(bool(peer.set->create(other, 4, {})));
  BOOST_TEST(peer.set->find(VolumeNumber(4))->id() == other);
  peer.kill();
  BOOST_TEST(peer.set->all().size() == 2u);
  BOOST_TEST(bool(peer.set->remove(other)));
  peer.kill();
  BOOST_TEST(peer.set->all().size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_disk_that_fails_stops_changes_not_reads) {
  TestPeer peer;
  auto file = peer.make("a");
  peer.write(file, 0, "x");
  peer.disk->fail_after(0);
  BOOST_TEST(peer.call(Sync{}).reply.code == Code::io);
  Create create;
  create.parent = kRootInode;
  create.name = "b";
  BOOST_TEST(peer.call(create).reply.code == Code::io);
  BOOST_TEST(peer.read(file) == "x");
  peer.kill();
  BOOST_TEST(peer.read(file) == "x");
}

BOOST_AUTO_TEST_CASE(checkpoints_let_go_of_the_log) {
  TestPeer peer;
  auto file = peer.make("a");
  for (int i = 0; i < 400; ++i) {
    peer.write(file, 0, std::string(60'000, char('a' + i % 26)) + std::to_string(i));
    if (i % 10 == 0) peer.pass(2 * kSecond);
  }
  BOOST_TEST(peer.set->log().bytes_on_disk() <= uint64_t(5) * (4 << 20));
  peer.pass(10 * kSecond);
  peer.pass(10 * kSecond);
  BOOST_TEST(peer.chunks.all.size() <= 3u);
}

BOOST_AUTO_TEST_SUITE_END()
