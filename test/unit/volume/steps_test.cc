// Changes that concern many extents: made in steps, and as if they were not.
#include "fixture.h"
#include "peer/base/hash.h"
#include "peer/volume/check.h"
#include "peer/volume/state/view.h"

using namespace efs;
using namespace efs::test;

namespace {

constexpr uint64_t kPieces = 4 * kExtentsPerStep + 100, kPiece = 10, kApart = 100;  // one extent each
constexpr uint64_t kSize = (kPieces - 1) * kApart + kPiece;

struct Peer : TestPeer {
  InodeNumber file = make("file");
  std::string content;  // what the file is to hold

  Peer() { scatter(); }
  void scatter() {
    content.assign(kSize, '\0');
    for (uint64_t first = 0; first < kPieces; first += kWritePieces) {
      WriteScattered write;
      write.inode = file;
      const std::string piece(kPiece, char('a' + first / kWritePieces % 26));
      Bytes payload;
      for (uint64_t i = first; i < std::min(first + kWritePieces, kPieces); ++i) {
        write.pieces.push_back({i * kApart, uint32_t(kPiece)});
        append(payload, view(piece));
        content.replace(i * kApart, kPiece, piece);
      }
      BOOST_REQUIRE(call(write, payload).reply.code == Code::ok);
    }
  }
  SetAttributes truncation(uint64_t size) const {
    SetAttributes truncate;
    truncate.inode = file;
    truncate.size = size;
    return truncate;
  }
  Allocate allocation(uint64_t offset, uint64_t length) const {
    Allocate allocate;
    allocate.inode = file;
    allocate.offset = offset;
    allocate.length = length;
    return allocate;
  }
  std::string all() {
    std::string out;
    for (;;) {
      const std::string part = read(file, out.size());
      if (part.empty()) return out;
      out += part;
    }
  }
  uint64_t covered() const {
    const auto row = RowsView(*replica->rows()).inode(file);
    BOOST_REQUIRE(row);
    return row->covered;
  }
  // What is covered after it: whole blocks, and the pieces that lie outside.
  uint64_t allocated(const Allocate& allocate) const {
    const uint64_t from = block_start(allocate.offset), to = block_end(allocate.offset + allocate.length);
    uint64_t bytes = to - from;
    for (uint64_t start = 0; start < kPieces * kApart; start += kApart) {
      for (uint64_t at = start; at < start + kPiece; ++at) bytes += at < from || at >= to;
    }
    return bytes;
  }
  void check() {
    BOOST_TEST((all() == content));
    auto checked = check_volume(*replica->rows(), &chunks);
    BOOST_REQUIRE(checked);
    BOOST_REQUIRE_MESSAGE(checked->problems.empty(),
                          (checked->problems.empty() ? std::string() : checked->problems.front()));
  }
  // In that many operations.
  void change(const RequestBody& body, uint64_t operations, uint64_t covers) {
    BOOST_TEST(!replica->executes_inline(body, 0));
    const uint64_t before = replica->applied_index();
    const Reply reply = call(body).reply;
    BOOST_TEST(reply.code == Code::ok);
    BOOST_TEST(replica->applied_index() - before == operations);
    BOOST_TEST(reply.attributes.size == content.size());
    BOOST_TEST(covered() == covers);
    BOOST_TEST(reply.attributes.blocks == (covers + 4095) / 4096 * 8);
    check();
    kill();
    check();
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(steps)

BOOST_AUTO_TEST_CASE(a_truncation_to_nothing) {
  Peer peer;
  peer.content.clear();
  peer.change(peer.truncation(0), 5, 0);
  BOOST_TEST(peer.call(Usage{}).reply.usage.bytes == 0u);
}

BOOST_AUTO_TEST_CASE(a_truncation_to_the_middle_of_an_extent) {
  Peer peer;
  peer.content.resize(1000 * kApart + 5);
  peer.change(peer.truncation(peer.content.size()), 4, 1000 * kPiece + 5);
}

BOOST_AUTO_TEST_CASE(a_hole) {
  Peer peer;
  Allocate punch = peer.allocation(10 * kApart + 5, 8000 * kApart);  // leaves halves of two extents
  punch.punch = punch.keep_size = true;
  std::fill_n(peer.content.begin() + long(punch.offset), punch.length, '\0');
  peer.change(punch, 4, (kPieces - 8000) * kPiece);
}

BOOST_AUTO_TEST_CASE(zeros) {
  Peer peer;
  Allocate zero = peer.allocation(10 * kApart + 5, 8000 * kApart);
  zero.zero = true;
  std::fill_n(peer.content.begin() + long(zero.offset), zero.length, '\0');
  peer.change(zero, 4, peer.allocated(zero));
}

BOOST_AUTO_TEST_CASE(an_allocation_over_the_end) {
  Peer peer;
  const Allocate fill = peer.allocation(0, kSize + 1'000'000);
  peer.content.resize(fill.length);
  peer.change(fill, 5, peer.allocated(fill));
}

BOOST_AUTO_TEST_CASE(few_extents_are_one_operation) {
  Peer peer;
  const uint64_t before = peer.replica->applied_index();
  const RequestBody small = peer.truncation((kPieces - kExtentsPerStep) * kApart);
  BOOST_TEST(peer.replica->executes_inline(small, 0));
  BOOST_TEST(peer.replica->executes_inline(peer.truncation(kSize), 0));
  BOOST_TEST(peer.replica->executes_inline(peer.allocation(kSize, 1'000'000), 0));
  BOOST_TEST(peer.call(small).reply.code == Code::ok);
  BOOST_TEST(peer.replica->applied_index() == before + 1);
}

BOOST_AUTO_TEST_CASE(who_may_not_loses_no_byte) {
  Peer peer;
  Allocate punch = peer.allocation(0, kSize);
  punch.punch = punch.keep_size = true;
  const uint64_t before = peer.replica->applied_index();
  BOOST_TEST(peer.call(peer.truncation(0), {}, user(5)).reply.code == Code::access_denied);
  BOOST_TEST(peer.call(punch, {}, user(5)).reply.code == Code::access_denied);
  punch.keep_size = false;
  BOOST_TEST(peer.call(punch).reply.code == Code::unsupported);
  BOOST_TEST(peer.call(peer.allocation(kMaxFileSize, kSize)).reply.code == Code::too_large);
  BOOST_TEST(peer.replica->applied_index() == before);
  SetAttributes give;
  give.inode = peer.file;
  give.uid = 5;
  BOOST_TEST(peer.call(give).reply.code == Code::ok);
  give.size = 0;  // may truncate it, not give it away
  give.uid = 6;
  BOOST_TEST(peer.call(give, {}, user(5)).reply.code == Code::not_permitted);
  BOOST_TEST(peer.replica->applied_index() == before + 1);
  peer.check();
}

// A mount repeats what it has no answer to; meanwhile the file was written anew.
BOOST_AUTO_TEST_CASE(what_was_made_is_not_made_again) {
  Peer peer;
  const SessionId mount{9, 9};
  peer.as(mount, 0, Hello{});
  const Reply first = peer.as(mount, 1, peer.truncation(0)).reply;
  BOOST_TEST(first.code == Code::ok);
  peer.scatter();
  const uint64_t before = peer.replica->applied_index();
  const Reply again = peer.as(mount, 1, peer.truncation(0)).reply;
  BOOST_TEST(again.code == Code::ok);
  BOOST_TEST(again.attributes.change == first.attributes.change);
  BOOST_TEST(peer.replica->applied_index() == before);
  BOOST_TEST(peer.as(SessionId{8, 8}, 1, peer.truncation(0)).reply.code == Code::expired);
  peer.check();
}

// A mount that was fenced may send late what others' steps undo; not what its own do.
BOOST_AUTO_TEST_CASE(steps_are_of_who_asked) {
  Peer peer;
  const SessionId mount{9, 9};
  peer.as(mount, 0, Hello{});
  Leases& leases = peer.replica->leases();
  leases.attach(mount, [&](const Recall&, Leases::Then then) { then(); });
  BOOST_REQUIRE(leases.own(mount, peer.file));
  leases.fence(mount);
  const auto overtaken = [&] {
    const auto row = read_overtaken(*peer.replica->rows(), mount, peer.file);
    BOOST_REQUIRE(row);
    return row->bytes;
  };
  BOOST_TEST(peer.as(mount, 1, peer.truncation(10)).reply.code == Code::ok);
  BOOST_TEST(!overtaken());
  peer.scatter();
  BOOST_TEST(overtaken());
}

// What is heard on a loop lets it go on; it does so elsewhere.
BOOST_AUTO_TEST_CASE(what_has_waited_for_others_runs_apart) {
  Peer peer;
  std::vector<Leases::Then> apart;
  peer.set->run_apart_by([&](Leases::Then task) { apart.push_back(std::move(task)); });
  const SessionId writer{9, 9};
  Leases::Then forgotten;
  const auto forget = [&] {
    BOOST_REQUIRE(forgotten);
    std::exchange(forgotten, nullptr)();
  };
  Leases& leases = peer.replica->leases();
  leases.attach(writer, [&](const Recall&, Leases::Then then) { forgotten = std::move(then); });
  BOOST_REQUIRE(leases.own(writer, peer.file));
  Request request;
  request.volume = peer.id;
  request.body = peer.truncation(0);
  auto code = std::make_shared<std::optional<Code>>();
  peer.replica->execute(request, {}, [code](VolumeAnswer answer) { *code = answer.reply.code; });
  forget();
  BOOST_REQUIRE(apart.size() == 1u);
  peer.check();
  apart.front()();
  BOOST_TEST(!code->has_value());  // the writer still holds a shared lease
  forget();
  BOOST_TEST((*code == Code::ok));
  peer.content.clear();
  leases.detach(writer);
  peer.check();
}

// A write that is to be durable, or is large, and a read are not for a loop either; a small write is.
BOOST_AUTO_TEST_CASE(what_waits_for_a_disk_runs_apart_when_it_has_waited) {
  TestPeer peer;
  const InodeNumber file = peer.make("file");
  std::vector<Leases::Then> apart;
  peer.set->run_apart_by([&](Leases::Then task) { apart.push_back(std::move(task)); });
  const SessionId writer{9, 9};
  Leases& leases = peer.replica->leases();
  leases.attach(writer, [&](const Recall&, Leases::Then then) { then(); });
  const auto runs_apart = [&](RequestBody body, size_t bytes) {
    BOOST_REQUIRE(leases.own(writer, file));
    Request request;
    request.volume = peer.id;
    request.body = std::move(body);
    std::optional<Code> code;
    peer.replica->execute(request, Bytes(bytes, 1), [&](VolumeAnswer answer) { code = answer.reply.code; });
    const bool waits = !code;
    for (Leases::Then& task : std::exchange(apart, {})) task();
    BOOST_TEST((code == Code::ok));
    return waits;
  };
  Write write;
  write.inode = file;
  BOOST_TEST(!runs_apart(write, 100));
  BOOST_TEST(runs_apart(write, kMaxBytesInLog + 1));
  write.durable = true;
  BOOST_TEST(runs_apart(write, 100));
  BOOST_TEST(runs_apart(Read{file, 0, 100}, 0));
  leases.detach(writer);
}

// The disk fails after some of the steps, and the owner is killed: a beginning of the file is left. Who
// believed otherwise has heard of it.
BOOST_AUTO_TEST_CASE(a_crash_between_steps_leaves_a_shorter_file) {
  for (int steps = 0; steps < 4; ++steps) {
    Peer peer;
    const SessionId reader{9, 9};
    peer.as(reader, 0, Hello{});
    int heard = 0;
    peer.replica->leases().attach(reader, [&](const Recall& recall, Leases::Then forgotten) {
      for (const RecallItem& item : recall.items) heard += item.inode == peer.file && item.content;
      forgotten();
    });
    BOOST_REQUIRE(peer.replica->leases().share(reader, peer.file));
    peer.disk->fail_after(steps);
    BOOST_TEST(peer.call(peer.truncation(0)).reply.code == Code::io);
    BOOST_TEST(heard == (steps > 0 ? 1 : 0));
    const uint64_t size = steps == 0 ? kSize : uint64_t(5 - steps) * kExtentsPerStep * kApart;
    peer.content.resize(size);
    peer.check();
    peer.kill();
    peer.check();
    BOOST_TEST(peer.call(peer.truncation(0)).reply.code == Code::ok);
    peer.content.clear();
    peer.check();
  }
}

BOOST_AUTO_TEST_SUITE_END()
