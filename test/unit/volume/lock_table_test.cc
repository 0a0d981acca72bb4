// Locks of files: what is granted, joined and split, who waits and for how long, who is found to wait for
// himself; and at the owner: who is gone, and what a restart leaves.
#include "fixture.h"
#include "peer/volume/locks.h"

using namespace efs;
using namespace efs::test;

namespace {

SessionId session_of(uint8_t number) {
  SessionId id{};
  id[0] = number;  // of another process
  return id;
}

struct Locked {
  // The answer, or nothing while it waits.
  using Answer = std::shared_ptr<std::optional<Code>>;
  Answer set(uint8_t session, uint64_t owner, uint8_t type, uint64_t start, uint64_t end, bool wait = false,
             bool flock = false, InodeNumber inode = 7, uint64_t ticket = 0) {
    auto out = std::make_shared<std::optional<Code>>();
    LockTable::Ready ready;
    SetLock request;
    request.lock = {inode, flock, owner, type, start, end, uint32_t(owner)};
    request.wait = wait;
    request.ticket = ticket != 0 ? ticket : ++tickets;
    table.set(
        session_of(session), request,
        [out](Code code) {
          BOOST_REQUIRE(!*out);
          *out = code;
        },
        ready);
    for (auto& task : ready) task();
    return out;
  }
  Code now(uint8_t session, uint64_t owner, uint8_t type, uint64_t start, uint64_t end) {
    auto out = set(session, owner, type, start, end);
    BOOST_REQUIRE(*out);
    return **out;
  }
  void unlock(uint8_t session, uint64_t owner, uint64_t start = 0, uint64_t end = kLockEnd) {
    BOOST_REQUIRE(now(session, owner, kUnlocked, start, end) == Code::ok);
  }
  Locked::Answer flock(uint8_t session, uint64_t owner, uint8_t type, bool wait = false) {
    return set(session, owner, type, 0, kLockEnd, wait, true);
  }
  // "r0-4 w5-9": what a session has of inode 7, by place.
  std::string held(uint8_t session) {
    auto locks = table.of(session_of(session));
    std::sort(locks.begin(), locks.end(),
              [](const FileLock& a, const FileLock& b) { return a.start < b.start; });
    std::string out;
    for (const FileLock& one : locks) {
      if (!out.empty()) out += ' ';
      out += one.type == kReadLock ? 'r' : 'w';
      out += std::to_string(one.start) + "-" + (one.end == kLockEnd ? "" : std::to_string(one.end));
    }
    return out;
  }
  LockTable table;
  uint64_t tickets = 0;
};

constexpr uint8_t R = kReadLock, W = kWriteLock, U = kUnlocked;
}  // namespace

BOOST_AUTO_TEST_SUITE(lock_table)

BOOST_AUTO_TEST_CASE(ranges_split_join_and_change_their_type) {
  Locked t;
  BOOST_TEST(t.now(1, 1, W, 0, 99) == Code::ok);
  t.unlock(1, 1, 40, 59);
  BOOST_TEST(t.held(1) == "w0-39 w60-99");
  BOOST_TEST(t.now(1, 1, R, 30, 69) == Code::ok);
  BOOST_TEST(t.held(1) == "w0-29 r30-69 w70-99");
  BOOST_TEST(t.now(1, 1, W, 30, 69) == Code::ok);
  BOOST_TEST(t.held(1) == "w0-99");
  BOOST_TEST(t.now(1, 1, R, 100, kLockEnd) == Code::ok);
  BOOST_TEST(t.held(1) == "w0-99 r100-");
  BOOST_TEST(t.now(1, 1, W, 100, 100) == Code::ok);
  BOOST_TEST(t.held(1) == "w0-100 r101-");
  t.unlock(1, 1, 0, 0);
  t.unlock(1, 1, 101, kLockEnd);
  BOOST_TEST(t.held(1) == "w1-100");
  t.unlock(1, 1);
  BOOST_TEST(t.table.empty());
}

BOOST_AUTO_TEST_CASE(what_conflicts_is_refused_and_named) {
  Locked t;
  BOOST_TEST(t.now(1, 1, R, 0, 9) == Code::ok);
  BOOST_TEST(t.now(2, 1, R, 5, 20) == Code::ok);  // the same number, another session: another owner
  BOOST_TEST(t.now(2, 1, W, 0, 4) == Code::conflict);
  BOOST_TEST(t.now(1, 2, W, 9, 9) == Code::conflict);
  BOOST_TEST(t.now(1, 2, W, 21, 30) == Code::ok);
  auto found = t.table.conflict(session_of(3), {7, false, 1, R, 25, 40, 0});
  BOOST_REQUIRE(found);
  BOOST_TEST(found->type == W);
  BOOST_TEST(found->start == 21u);
  BOOST_TEST(found->end == 30u);
  BOOST_TEST(found->pid == 2u);
  BOOST_TEST(!t.table.conflict(session_of(3), {7, false, 1, R, 0, 20, 0}));
  // A failed upgrade leaves what was held; a downgrade lets others in.
  BOOST_TEST(t.now(1, 1, W, 0, 9) == Code::conflict);
  BOOST_TEST(t.now(2, 1, U, 5, 9) == Code::ok);
  BOOST_TEST(t.now(1, 1, W, 0, 9) == Code::ok);
  BOOST_TEST(t.now(2, 1, R, 0, 9) == Code::conflict);
  BOOST_TEST(t.now(1, 1, R, 0, 9) == Code::ok);
  BOOST_TEST(t.now(2, 1, R, 0, 9) == Code::ok);
}

BOOST_AUTO_TEST_CASE(who_waits_is_served_in_turn) {
  Locked t;
  t.set(1, 1, W, 0, kLockEnd);
  auto a = t.set(2, 1, W, 0, 9, true), b = t.set(3, 1, R, 5, 9, true), c = t.set(4, 1, R, 0, 4, true);
  auto d = t.set(5, 1, W, 50, 59, true);
  BOOST_TEST((!*a && !*b && !*c && !*d));
  t.unlock(1, 1);
  BOOST_TEST((*a == Code::ok && !*b && !*c && *d == Code::ok));
  t.unlock(2, 1, 5, 9);
  BOOST_TEST((*b == Code::ok && !*c));
  t.unlock(2, 1);
  BOOST_TEST((*c == Code::ok));
  // A whole convoy of writers: each gets it once, in order.
  std::vector<Locked::Answer> convoy;
  t.set(1, 9, W, 100, 100);
  for (uint8_t i = 0; i < 50; ++i) convoy.push_back(t.set(uint8_t(10 + i), 1, W, 100, 100, true));
  t.unlock(1, 9);
  for (uint8_t i = 0; i < 50; ++i) {
    for (uint8_t other = 0; other < 50; ++other) BOOST_TEST(convoy[other]->has_value() == (other <= i));
    t.unlock(uint8_t(10 + i), 1);
  }
}

BOOST_AUTO_TEST_CASE(a_wait_is_cancelled_repeated_and_ended) {
  Locked t;
  t.set(1, 1, W, 0, 9);
  auto a = t.set(2, 1, W, 0, 9, true, false, 7, 100);
  LockTable::Ready ready;
  t.table.cancel(session_of(2), 99, ready);
  BOOST_TEST(ready.empty());
  t.table.cancel(session_of(2), 100, ready);
  for (auto& task : ready) task();
  BOOST_TEST((*a == Code::interrupted));
  // Over another connection: the first is answered, the place in the queue stays.
  auto b = t.set(2, 1, W, 0, 9, true, false, 7, 101), later = t.set(3, 1, W, 0, 9, true);
  auto again = t.set(2, 1, W, 0, 9, true, false, 7, 101);
  BOOST_TEST((*b == Code::cancelled && !*again));
  t.unlock(1, 1);
  BOOST_TEST((*again == Code::ok && !*later));
  // Granted, and asked again since the answer was lost.
  BOOST_TEST((*t.set(2, 1, W, 0, 9, true, false, 7, 101) == Code::ok));
  ready.clear();
  auto waits = t.set(2, 2, W, 0, 9, true);
  t.table.end(session_of(2), Code::recalled, ready);
  for (auto& task : ready) task();
  BOOST_TEST((*waits == Code::recalled && *later == Code::ok));
  BOOST_TEST(t.held(2) == "");
  t.unlock(3, 1);
  BOOST_TEST(t.table.empty());
}

BOOST_AUTO_TEST_CASE(a_deadlock_is_refused) {
  Locked t;
  for (uint8_t i = 1; i <= 3; ++i) t.set(i, 1, W, i, i);
  auto a = t.set(1, 1, W, 2, 2, true), b = t.set(2, 1, W, 3, 3, true);
  BOOST_TEST((*t.set(3, 1, W, 1, 1, true) == Code::loop));
  BOOST_TEST((*t.set(3, 1, W, 1, 1, false) == Code::conflict));
  BOOST_TEST(t.held(3) == "w3-3");
  t.unlock(3, 1);
  BOOST_TEST((*b == Code::ok && !*a));
  t.unlock(2, 1);
  BOOST_TEST((*a == Code::ok));
  // Over two files, and of two who want to upgrade.
  Locked files;
  files.set(1, 1, W, 0, 0, false, false, 1);
  files.set(2, 1, W, 0, 0, false, false, 2);
  auto over = files.set(1, 1, R, 0, 0, true, false, 2);
  BOOST_TEST((*files.set(2, 1, R, 0, 0, true, false, 1) == Code::loop));
  Locked upgrade;
  upgrade.set(1, 1, R, 0, 9);
  upgrade.set(2, 1, R, 0, 9);
  auto first = upgrade.set(1, 1, W, 0, 9, true);
  BOOST_TEST((!*first && *upgrade.set(2, 1, W, 0, 9, true) == Code::loop));
  // Who waits for somebody that waits for nobody is no deadlock.
  BOOST_TEST(!*upgrade.set(3, 1, W, 0, 9, true));
}

BOOST_AUTO_TEST_CASE(flock_is_of_the_whole_file_and_apart) {
  Locked t;
  BOOST_TEST(t.now(1, 1, W, 0, kLockEnd) == Code::ok);
  BOOST_TEST((*t.flock(2, 1, R) == Code::ok));
  BOOST_TEST((*t.flock(3, 1, R) == Code::ok));
  // Two that convert: each gives up what it has first, so neither waits for itself.
  auto a = t.flock(2, 1, W, true);
  BOOST_TEST(!*a);
  BOOST_TEST(t.held(2) == "");
  BOOST_TEST((*t.flock(3, 1, W, true) == Code::ok));
  BOOST_TEST((*t.flock(4, 1, R) == Code::conflict));
  BOOST_TEST((*t.flock(3, 1, U) == Code::ok && *a == Code::ok));
  BOOST_TEST((*t.flock(3, 1, R) == Code::conflict));
  BOOST_TEST((*t.flock(2, 1, U) == Code::ok));
  BOOST_TEST((*t.flock(3, 1, W) == Code::ok));
}

BOOST_AUTO_TEST_CASE(bounds) {
  Locked t;
  t.set(1, 1, W, 0, kLockEnd);
  std::vector<Locked::Answer> waits;
  for (size_t i = 0; i < kMaxLockWaits; ++i) waits.push_back(t.set(2, i, W, 0, 0, true));
  BOOST_TEST((*t.set(2, 99'999, W, 0, 0, true) == Code::conflict));
  BOOST_TEST(!*t.set(3, 1, W, 0, 0, true));
  for (auto& one : waits) BOOST_TEST(!*one);
}

// Letting go of the middle of a lock leaves one more.
BOOST_AUTO_TEST_CASE(a_session_holds_no_more_locks_than_its_bound) {
  Locked t;
  for (size_t i = 1; i < kMaxLocks; ++i)
    BOOST_REQUIRE((*t.set(1, 1, W, 0, kLockEnd, false, false, 100 + i) == Code::ok));
  BOOST_TEST(t.now(1, 1, W, 0, 9) == Code::ok);
  BOOST_TEST(t.now(1, 2, R, 20, 20) == Code::overloaded);
  BOOST_TEST(t.now(1, 1, U, 4, 5) == Code::overloaded);
  BOOST_TEST(t.now(2, 1, W, 4, 4) == Code::conflict);
  t.unlock(1, 1, 5, 9);
  t.unlock(1, 1);
  BOOST_TEST(t.now(1, 2, R, 20, 20) == Code::ok);
}

// Ranges against an array of bytes, for three owners.
BOOST_AUTO_TEST_CASE(as_a_model_of_bytes) {
  constexpr uint64_t kBytes = 24;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SeededRandom random(seed);
    Locked t;
    std::array<std::array<uint8_t, kBytes>, 3> model{};
    for (int step = 0; step < 500; ++step) {
      const auto who = uint8_t(random.below(3)), type = uint8_t(random.below(3));
      uint64_t start = random.below(kBytes), end = random.below(kBytes);
      if (start > end) std::swap(start, end);
      bool free = true;
      for (uint64_t at = start; at <= end; ++at) {
        for (uint8_t other = 0; other < 3; ++other)
          free &= other == who || type == U || model[other][at] == U || (type == R && model[other][at] == R);
      }
      BOOST_REQUIRE(t.now(uint8_t(who + 1), 1, type, start, end) == (free ? Code::ok : Code::conflict));
      if (free)
        std::fill(model[who].begin() + ptrdiff_t(start), model[who].begin() + ptrdiff_t(end) + 1, type);
    }
    for (uint8_t who = 0; who < 3; ++who) {
      std::array<uint8_t, kBytes> seen{};
      uint64_t pieces = 0, runs = 0;
      for (const FileLock& one : t.table.of(session_of(uint8_t(who + 1)))) {
        ++pieces;
        for (uint64_t at = one.start; at <= one.end; ++at) {
          BOOST_REQUIRE(seen[at] == U);
          seen[at] = one.type;
        }
      }
      for (uint64_t at = 0; at < kBytes; ++at)
        runs += model[who][at] != U && (at == 0 || model[who][at] != model[who][at - 1]);
      BOOST_TEST((seen == model[who]));
      BOOST_TEST(pieces == runs);  // neighbours were joined
    }
  }
}

// ---- at the owner ----

BOOST_AUTO_TEST_CASE(a_silent_holder_loses_to_who_asks) {
  ManualClock clock;
  std::map<SessionId, int64_t> heard;
  std::vector<SessionId> taken;
  Locks locks(
      clock, [&](const SessionId& session) { return heard[session]; },
      [&](const SessionId& session) { taken.push_back(session); });
  std::vector<Code> answers;
  const auto set = [&](uint8_t session, bool wait) {
    SetLock request;
    request.lock = {7, false, 1, W, 0, 9, 0};
    request.wait = wait;
    request.ticket = 1;
    locks.set(session_of(session), request, [&](Reply reply) { answers.push_back(reply.code); });
  };
  const auto pass = [&](int64_t ns, bool alive) {
    for (int64_t at = 0; at < ns; at += kLockTick) {
      clock.now += kLockTick;
      if (alive) heard[session_of(1)] = clock.now;
      heard[session_of(2)] = clock.now;
      locks.tick();
    }
  };
  heard[session_of(1)] = heard[session_of(2)] = clock.now;
  set(1, false);
  BOOST_TEST(locks.busy());
  pass(10 * kSecond, true);
  set(2, true);
  pass(10 * kSecond, true);
  BOOST_TEST(answers.size() == 1u);  // held by one who is there: for as long as it takes
  // The owner itself stood still: nobody is to blame.
  clock.now += kMinute;
  locks.tick();
  pass(kSecond, true);
  BOOST_TEST(answers.size() == 1u);
  pass(kLockTerm + 2 * kLockTick, false);
  BOOST_TEST((answers == std::vector<Code>{Code::ok, Code::ok}));
  BOOST_TEST((taken == std::vector<SessionId>{session_of(1)}));
  // Silent, and nobody asks: it keeps them.
  locks.end(session_of(2));
  set(1, false);
  pass(kMinute, false);
  heard[session_of(1)] = clock.now;
  locks.tick();
  set(2, false);
  BOOST_TEST(answers.back() == Code::conflict);
  pass(kLockTerm + 2 * kLockTick, false);
  // Heard again just now, it keeps them, whatever the last tick has found.
  heard[session_of(1)] = clock.now;
  set(2, false);
  BOOST_TEST(answers.back() == Code::conflict);
  BOOST_TEST(taken.size() == 1u);
  pass(kLockTerm + 2 * kLockTick, false);
  set(2, false);
  BOOST_TEST(answers.back() == Code::ok);
}

BOOST_AUTO_TEST_CASE(after_a_restart_those_who_held_come_first) {
  ManualClock clock;
  Locks locks(
      clock, [&](const SessionId&) { return clock.now_ns(); }, [](const SessionId&) {});
  std::vector<Code> answers;
  const auto set = [&](uint8_t session, uint64_t start) {
    SetLock request;
    request.lock = {7, false, 1, W, start, start, 0};
    request.ticket = start + 1;
    locks.set(session_of(session), request, [&](Reply reply) { answers.push_back(reply.code); });
  };
  locks.expect({session_of(1), session_of(2)});
  set(3, 0);
  set(3, 1);
  bool found = false;
  locks.get(session_of(3), {{7, false, 1, R, 0, 0, 0}}, [&](Reply reply) { found = reply.lock.has_value(); });
  BOOST_TEST(locks.claim(session_of(1), {{7, false, 1, W, 0, 0, 0}}, true) == 0u);
  BOOST_TEST(locks.claim(session_of(5), {{8, false, 1, W, 0, 0, 0}}, true) == 0u);  // was not there before
  locks.claimed(session_of(1));
  BOOST_TEST(answers.empty());
  BOOST_TEST(locks.claim(session_of(2), {{7, false, 1, W, 0, 0, 0}}) == 1u);
  locks.claimed(session_of(2));
  BOOST_TEST((answers == std::vector<Code>{Code::conflict, Code::ok}));
  BOOST_TEST(found);
  bool taken = false;
  locks.get(session_of(3), {{8, false, 1, R, 0, 0, 0}}, [&](Reply reply) { taken = reply.lock.has_value(); });
  BOOST_TEST(!taken);
  // Who does not come is waited for no longer than kLockGrace; who gives up is not.
  locks.expect({session_of(4)});
  answers.clear();
  set(3, 5);
  set(3, 6);
  locks.cancel(session_of(3), 6);
  BOOST_TEST((answers == std::vector<Code>{Code::interrupted}));
  clock.now += kLockGrace - kSecond;
  locks.tick();
  BOOST_TEST(answers.size() == 1u);
  clock.now += kSecond;
  locks.tick();
  BOOST_TEST((answers == std::vector<Code>{Code::interrupted, Code::ok}));
  locks.close(Code::not_owner);
  set(3, 8);
  BOOST_TEST(answers.back() == Code::not_owner);
}

BOOST_AUTO_TEST_CASE(a_lock_needs_the_rights_of_an_open) {
  TestPeer peer;
  const InodeNumber inode = peer.make("f");  // root's, 0644
  const auto code = [&](uint8_t type, bool flock, uint32_t uid) {
    SetLock request;
    request.lock = {inode, flock, 1, type, 0, kLockEnd, 0};
    return peer.call(request, {}, user(uid)).reply.code;
  };
  BOOST_TEST(code(R, false, 1000) == Code::ok);
  BOOST_TEST(code(W, false, 1000) == Code::access_denied);
  BOOST_TEST(code(W, true, 1000) == Code::ok);
  SetAttributes chmod;
  chmod.inode = inode;
  chmod.mode = 0600;
  BOOST_TEST(peer.call(chmod).reply.code == Code::ok);
  BOOST_TEST(code(R, false, 1000) == Code::access_denied);
  BOOST_TEST(code(W, true, 1000) == Code::access_denied);
  BOOST_TEST(code(U, false, 1000) == Code::ok);
  BOOST_TEST(peer.call(Open{inode, 6}).reply.code == Code::ok);
  BOOST_TEST(code(W, false, 1000) == Code::ok);  // the session has it open
  SetLock odd;
  odd.lock = {inode, false, 1, W, 9, 3, 0};
  BOOST_TEST(peer.call(odd).reply.code == Code::invalid_argument);
  odd.lock.inode = 12345;
  BOOST_TEST(peer.call(odd).reply.code == Code::stale);
}

BOOST_AUTO_TEST_SUITE_END()
