// What an owner finds when it starts again: bytes that it cannot look for, a full disk, sessions that have
// not come back yet, requests that are repeated, records of volumes that were removed.
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>

#include "test/unit/volume/fixture.h"

using namespace efs;
using namespace efs::test;

namespace {

const SessionId kMount{9, 9};

uint64_t files(TestPeer& peer) {
  return peer.call(Usage{}).reply.usage.files - 1;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(restart)

// A store that is not mounted, a disk that does not read: nobody can tell that the bytes were lost.
BOOST_AUTO_TEST_CASE(what_cannot_be_looked_for_is_not_taken_for_lost) {
  for (const Code code : {Code::io, Code::not_found}) {
    TestPeer peer;
    const InodeNumber file = peer.make("a");
    BOOST_TEST(peer.write(file, 0, std::string(100'000, 'x'), true).code == Code::ok);
    peer.chunks.store_missing = code == Code::not_found;
    peer.chunks.unreadable = code;
    peer.kill();
    BOOST_TEST(peer.make("b") != 0u);
    BOOST_TEST(peer.call(Read{file, 0, 10}).reply.code != Code::ok);
    peer.chunks.store_missing = false;
    peer.chunks.unreadable = Code::ok;
    peer.kill();
    BOOST_TEST(peer.read(file, 0, 3) == "xxx");
  }
}

BOOST_AUTO_TEST_CASE(what_was_taken_is_stored_again_on_a_full_disk) {
  TestPeer peer;
  std::vector<InodeNumber> inodes;
  for (char name = 'a'; name <= 'h'; ++name) {
    inodes.push_back(peer.make({name}));
    BOOST_TEST(peer.write(inodes.back(), 0, std::string(10'000, name)).code == Code::ok);
  }
  BOOST_TEST(peer.call(Sync{}).reply.code == Code::ok);
  peer.chunks.full = true;
  peer.power_loss();
  for (size_t i = 0; i < inodes.size(); ++i)
    BOOST_TEST(peer.read(inodes[i]) == std::string(10'000, char('a' + i)));
}

BOOST_AUTO_TEST_CASE(what_was_made_is_answered_again_on_a_full_disk) {
  for (const bool of_chunks_alone : {false, true}) {
    TestPeer peer;
    peer.as(kMount, 0, Hello{});
    const Reply made = peer.as(kMount, 1, new_file("a")).reply;
    BOOST_TEST(made.created);
    Write write;
    write.inode = made.attributes.inode;
    const Bytes bytes(100'000, 'x');
    BOOST_TEST(peer.as(kMount, 2, write, bytes).reply.code == Code::ok);
    SetAttributes cut;
    cut.inode = write.inode;
    cut.size = 0;
    BOOST_TEST(peer.as(kMount, 3, cut).reply.code == Code::ok);
    peer.pass(kMinute);  // its chunk is gone
    if (!of_chunks_alone) peer.reserved_bytes = UINT64_MAX;
    peer.chunks.full = true;
    peer.kill();
    peer.as(kMount, 0, Hello{});
    BOOST_TEST(peer.as(kMount, 1, new_file("a")).reply.created);
    BOOST_TEST(peer.as(kMount, 2, write, bytes).reply.code == Code::ok);
    BOOST_TEST((peer.as(kMount, 4, new_file("b")).reply.code == Code::no_space) == !of_chunks_alone);
    BOOST_TEST(peer.as(kMount, 5, write, bytes).reply.code == Code::no_space);
    BOOST_TEST(peer.read(write.inode).empty());
  }
}

// A mount that has no answer to its Create cannot name the file when it is back: it repeats that, and has it
// open.
BOOST_AUTO_TEST_CASE(what_was_made_and_opened_is_open_again_on_a_full_disk) {
  TestPeer peer;
  peer.as(kMount, 0, Hello{});
  const InodeNumber file = peer.as(kMount, 1, new_file("a", true)).reply.attributes.inode;
  peer.reserved_bytes = UINT64_MAX;
  peer.kill();
  peer.as(kMount, 0, Hello{});
  BOOST_TEST(peer.as(kMount, 1, new_file("a", true)).reply.created);
  peer.pass(2 * kMinute);  // nobody else is expected any more
  peer.reserved_bytes = 0;
  peer.as(kMount, 0, Hello{});
  peer.call(Unlink{kRootInode, "a", false});
  BOOST_TEST(peer.as(kMount, 0, GetAttributes{file}).reply.code == Code::ok);
  peer.as(kMount, 0, Close{{file}});
  BOOST_TEST(peer.call(GetAttributes{file}).reply.code == Code::stale);
}

// It may have it open.
BOOST_AUTO_TEST_CASE(what_is_unlinked_before_a_mount_has_come_back_stays_for_it) {
  for (const bool has_it_open : {false, true}) {
    TestPeer peer;
    const InodeNumber file = peer.make("a");
    peer.write(file, 0, "kept");
    peer.as(kMount, 0, Hello{});
    BOOST_TEST(peer.as(kMount, 0, Open{file, 4}).reply.code == Code::ok);
    peer.kill();
    BOOST_TEST(peer.call(Unlink{kRootInode, "a", false}).reply.code == Code::ok);
    Hello hello;
    if (has_it_open) hello.open = {file};
    BOOST_TEST(peer.as(kMount, 0, hello).reply.code == Code::ok);
    peer.pass(2 * kLeaseTerm);
    peer.make("b");  // it is back: nothing is kept for it any more that it does not hold
    BOOST_TEST(peer.call(Unlink{kRootInode, "b", false}).reply.code == Code::ok);
    BOOST_TEST(files(peer) == 1u);
    for (int i = 0; i < 5; ++i) {
      peer.pass(kSessionGrace / 2);
      BOOST_TEST(peer.as(kMount, 0, Hello{.open = {}, .renew = true}).reply.code == Code::ok);
    }
    BOOST_TEST(files(peer) == size_t(has_it_open));
    if (has_it_open) BOOST_TEST(text(peer.as(kMount, 0, Read{file, 0, 10}).payload) == "kept");
  }
}

// What it has opened by itself it says after that.
BOOST_AUTO_TEST_CASE(what_is_unlinked_just_after_a_mount_has_come_back_stays_for_it) {
  TestPeer peer;
  const InodeNumber file = peer.make("a");
  peer.as(kMount, 0, Hello{});
  peer.kill();
  BOOST_TEST(peer.as(kMount, 0, Hello{}).reply.code == Code::ok);
  BOOST_TEST(peer.call(Unlink{kRootInode, "a", false}).reply.code == Code::ok);
  BOOST_TEST(peer.as(kMount, 0, Hello{.open = {file}, .renew = true}).reply.code == Code::ok);
  for (int i = 0; i < 5; ++i) {
    peer.pass(kSessionGrace / 2);
    BOOST_TEST(peer.as(kMount, 0, Hello{.open = {}, .renew = true}).reply.code == Code::ok);
  }
  BOOST_TEST(files(peer) == 1u);
}

BOOST_AUTO_TEST_CASE(what_is_not_removed_after_all_is_kept_for_nobody) {
  TestPeer peer;
  Create create = new_file("d");
  create.mode = S_IFDIR | 0755;
  create.parent = peer.call(create).reply.attributes.inode;
  BOOST_TEST(peer.call(create).reply.code == Code::ok);
  peer.as(kMount, 0, Hello{});
  peer.kill();
  BOOST_TEST(peer.call(Unlink{kRootInode, "d", true}).reply.code == Code::not_empty);
  peer.pass(kSessionGrace / 2);
  BOOST_TEST(peer.as(kMount, 0, Hello{}).reply.code == Code::ok);
  const uint64_t before = peer.replica->applied_index();
  for (int i = 0; i < 5; ++i) {
    peer.pass(kSessionGrace / 2);
    BOOST_TEST(peer.as(kMount, 0, Hello{.open = {}, .renew = true}).reply.code == Code::ok);
  }
  BOOST_TEST(peer.replica->applied_index() == before);  // there is nothing to release
}

BOOST_AUTO_TEST_CASE(who_does_not_come_back_is_waited_for_as_long_as_that) {
  TestPeer peer;
  peer.clock.now += kSessionSilence;
  peer.kill();
  peer.as(kMount, 0, Hello{});
  peer.kill();
  peer.pass(kSessionGrace - kSecond);
  BOOST_TEST(peer.replica->heard_ns(kMount) != 0);
  peer.pass(2 * kSecond);
  BOOST_TEST(peer.replica->heard_ns(kMount) == 0);
}

BOOST_AUTO_TEST_CASE(a_session_ends_with_all_that_it_has_open) {
  TestPeer peer;
  peer.as(kMount, 0, Hello{});
  for (uint64_t i = 1; i <= 300; ++i) {
    BOOST_TEST(peer.as(kMount, i, new_file("a", true)).reply.created);
    peer.call(Unlink{kRootInode, "a", false});
  }
  BOOST_TEST(files(peer) == 300u);
  BOOST_TEST(peer.as(kMount, 0, Goodbye{}).reply.code == Code::ok);
  BOOST_TEST(files(peer) == 0u);
}

BOOST_AUTO_TEST_CASE(a_removed_volumes_records_are_let_go_of) {
  TestPeer peer;
  const VolumeId other{2};
  uint64_t before = 0;
  for (int run = 0; run < 6; ++run) {
    BOOST_REQUIRE(peer.set->create(other, VolumeNumber(4 + run), {0777, 0, 0}));
    LocalVolume volume(peer.set->find(other));
    for (int i = 0; i < 100; ++i) {
      Code code = Code::io;
      volume.call(user(0), new_file(std::to_string(run) + "-" + std::to_string(i)), {}, {},
                  [&](VolumeAnswer answer) { code = answer.reply.code; });
      BOOST_TEST(code == Code::ok);
    }
    BOOST_TEST(bool(peer.set->remove(other)));
    peer.kill();
    peer.set->release_removed({3});
    peer.pass(kMinute);  // of the other one, all is in a checkpoint
    if (run == 2) before = peer.set->log().bytes_on_disk();
  }
  BOOST_TEST(peer.set->log().bytes_on_disk() <= before);
}

// The owner's room for leases is limited, and nobody says that a dead one is not needed.
BOOST_AUTO_TEST_CASE(what_is_unlinked_is_not_leased) {
  TestPeer peer;
  const SessionId another{8, 8};
  Leases& leases = peer.replica->leases();
  for (const SessionId& session : {kMount, another}) {
    peer.as(session, 0, Hello{});
    leases.attach(session, [](const Recall&, Leases::Then then) { then(); });
  }
  const auto ask = [&](const SessionId& session, uint64_t sequence, RequestBody body) {
    Request request;
    request.session = session;
    request.sequence = sequence;
    request.acknowledged = 1;
    request.leases = true;
    request.body = std::move(body);
    Reply reply;
    peer.replica->execute(request, {}, [&](VolumeAnswer answer) { reply = answer.reply; });
    return reply;
  };
  BOOST_TEST(ask(kMount, 1, new_file("a")).created);
  const size_t granted = leases.granted();
  for (uint64_t i = 2; i < 20; i += 2) {
    const bool directory = i % 4 == 0, shared = i % 6 == 0;
    Create create = new_file("b");
    if (directory) create.mode = S_IFDIR | 0755;
    const Reply made = ask(kMount, i, create);
    BOOST_TEST((made.lease & kLeaseInode) != 0);
    const InodeNumber inode = made.attributes.inode;
    if (shared) BOOST_TEST((ask(another, 0, GetAttributes{inode}).lease & kLeaseInode) != 0);
    const Reply removed = ask(kMount, i + 1, Unlink{kRootInode, "b", directory});
    BOOST_TEST(removed.code == Code::ok);
    // What others have open goes on changing: who removed it is told, and lets go of it itself.
    BOOST_TEST(((removed.lease & kLeaseInode) != 0) == leases.holds(kMount, inode));
    BOOST_TEST(leases.holds(kMount, inode) == shared);
    if (shared) leases.drop(kMount, {inode}, UINT64_MAX);
    leases.drop(another, {inode}, UINT64_MAX);
    BOOST_TEST(leases.granted() == granted);
  }
}

BOOST_AUTO_TEST_SUITE_END()
