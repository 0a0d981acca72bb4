// Between two peers sits somebody who can garble, repeat, drop, swap, cut and invent records. Whatever he
// does, the connection ends with a reason that is counted, nothing false is delivered, and the peers meet
// again over a connection of their own.
#include <boost/test/unit_test.hpp>

#include "test/unit/net/mesh.h"

using namespace efs;

namespace {

using Records = std::vector<Bytes>;

// Forwards records from a host to a peer and back; `change` sees each record (with its length in front)
// that goes to the peer, and says what to send instead.
class Proxy {
 public:
  using Change = std::function<std::vector<Bytes>(size_t index, const Bytes& record)>;
  Proxy(Runtime& runtime, const Address& at, const Address& to, Change change)
      : runtime_(runtime), to_(to), change_(std::move(change)) {
    listener_ = std::move(*runtime.network.listen(at, [this](std::unique_ptr<Stream> stream) {
      auto link = std::make_shared<Link>();
      link->client = std::move(stream);
      links_.push_back(link);
      link->pending = runtime_.network.connect(to_, kSecond, [this, link](auto result) {
        if (!result) return;
        link->server = std::move(*result);
        link->server->start([link](ByteView data) { send(*link->client, to_bytes(data)); },
                            [link](const Error&) { link->ended = true; });
        link->client->start([this, link](ByteView data) { forward(*link, data); },
                            [link](const Error&) { link->ended = true; });
      });
    }));
  }
  bool ended() const { return !links_.empty() && links_.back()->ended; }
  // From now on the peer is sent so many bytes at a time.
  void slow_down(size_t bytes, int64_t every_ns) {
    slice_ = bytes;
    every_ns_ = every_ns;
  }
  void hang_up() {
    for (auto& link : links_) {  // their callbacks hold the link
      link->client.reset();
      link->server.reset();
    }
    links_.clear();
  }
  ~Proxy() { hang_up(); }

 private:
  struct Link {
    Network::Pending pending;
    Bytes partial;
    size_t index = 0;
    bool ended = false;
    Bytes waiting;  // when slowed down
    std::unique_ptr<Stream> client, server;
  };
  static void send(Stream& stream, Bytes bytes) {
    std::vector<Bytes> pieces;
    pieces.push_back(std::move(bytes));
    stream.write(std::move(pieces), {});
  }
  void forward(Link& link, ByteView data) {
    append(link.partial, data);
    while (link.partial.size() >= 2) {
      size_t whole = 2 + get_le<uint16_t>(link.partial.data());
      if (link.partial.size() < whole) return;
      Bytes record(link.partial.begin(), link.partial.begin() + ptrdiff_t(whole));
      link.partial.erase(link.partial.begin(), link.partial.begin() + ptrdiff_t(whole));
      for (Bytes& changed : change_(link.index++, record)) {
        if (slice_ == 0) {
          send(*link.server, std::move(changed));
        } else if (append(link.waiting, changed); link.waiting.size() == changed.size()) {
          trickle(links_.back());
        }
      }
    }
  }
  void trickle(const std::shared_ptr<Link>& link) {
    if (link->waiting.empty() || link->ended || !link->server) return;
    const auto end = link->waiting.begin() + ptrdiff_t(std::min(slice_, link->waiting.size()));
    send(*link->server, Bytes(link->waiting.begin(), end));
    link->waiting.erase(link->waiting.begin(), end);
    runtime_.loop.after(every_ns_, [this, link] { trickle(link); });
  }

  Runtime& runtime_;
  Address to_;
  Change change_;
  std::unique_ptr<Listener> listener_;
  std::vector<std::shared_ptr<Link>> links_;
  size_t slice_ = 0;
  int64_t every_ns_ = 0;
};

struct Outcome {
  int answered = 0, failed = 0;
  std::map<std::string, uint64_t> refusals;  // by the peer that was sent the damage
};

// 20 calls through the proxy, one after the other, each with its number, which must come back.
Outcome run(Proxy::Change change, bool hang_up_after = false) {
  TestMesh mesh(21, 3);
  mesh[2].rpc.reset();
  Address middle{mesh[2].host, 9000, false};
  Proxy proxy(*mesh[2].runtime, middle, mesh[1].address(), std::move(change));
  Outcome outcome;
  mesh[0].rpc->set_route(mesh[1].id, {middle});
  for (uint64_t i = 0; i < 20; ++i) {
    Bytes body;
    put_be<uint64_t>(body, i);
    auto answer = mesh.call(mesh[0], mesh[1], kEcho, body, Bytes(3000, uint8_t(i)), {.timeout_ns = kSecond});
    ++(answer ? outcome.answered : outcome.failed);
    if (answer) BOOST_TEST((answer->body == body));
    if (mesh[1].runs[i] > 1) BOOST_ERROR("a request ran twice");
    if (!answer) break;
  }
  if (hang_up_after) proxy.hang_up();
  mesh.sim.run_for(6 * kSecond);  // a handshake that lacks bytes ends then
  outcome.refusals = mesh[1].rpc->refusals();
  proxy.hang_up();
  mesh[0].rpc->set_route(mesh[1].id, {mesh[1].address()});
  for (int i = 0; i < 3; ++i) mesh.call(mesh[0], mesh[1], kEcho, {}, {}, {.timeout_ns = 15 * kSecond});
  BOOST_TEST(mesh.call(mesh[0], mesh[1], kEcho).has_value());
  return outcome;
}

constexpr size_t kFirstRecord = 2;  // after the initiator's two handshake messages

}  // namespace

BOOST_AUTO_TEST_SUITE(damage)

BOOST_AUTO_TEST_CASE(untouched) {
  auto outcome = run([](size_t, const Bytes& record) { return Records{record}; });
  BOOST_TEST(outcome.answered == 20);
  BOOST_TEST(outcome.refusals.empty());
}

BOOST_AUTO_TEST_CASE(garbled) {
  for (size_t at : {size_t(2), size_t(20), size_t(1000)}) {
    auto outcome = run([at](size_t index, Bytes record) {
      if (index == kFirstRecord + 5) record[at] ^= 1;
      return Records{record};
    });
    BOOST_TEST(outcome.answered == 5);
    BOOST_TEST(outcome.refusals["garbled record"] == 1u);
  }
}

BOOST_AUTO_TEST_CASE(replayed) {
  Bytes kept;
  auto outcome = run([&](size_t index, const Bytes& record) {
    if (index == kFirstRecord + 2) kept = record;
    if (index == kFirstRecord + 5) return Records{record, kept};
    return Records{record};
  });
  BOOST_TEST(outcome.answered >= 5);
  BOOST_TEST(outcome.refusals["garbled record"] == 1u);
}

BOOST_AUTO_TEST_CASE(reordered_and_dropped) {
  auto outcome = run([](size_t index, const Bytes& record) {
    if (index == kFirstRecord + 5) return Records{};  // the next comes in its place
    return Records{record};
  });
  BOOST_TEST(outcome.answered == 5);
  BOOST_TEST(outcome.refusals["garbled record"] == 1u);
}

BOOST_AUTO_TEST_CASE(truncated) {
  auto outcome = run(
      [](size_t index, Bytes record) {
        if (index == kFirstRecord + 5) record.resize(record.size() / 2);
        if (index > kFirstRecord + 5) record.clear();
        return Records{record};
      },
      true);
  BOOST_TEST(outcome.answered == 5);
  BOOST_TEST(outcome.refusals.size() == 1u);  // "truncated", or "connection lost" where the end is no end
}

BOOST_AUTO_TEST_CASE(length_changed) {
  auto outcome = run([](size_t index, Bytes record) {
    if (index == kFirstRecord + 5) put_le<uint16_t>(record.data(), uint16_t(record.size() - 2 - 100));
    return Records{record};
  });
  BOOST_TEST(outcome.answered == 5);
  BOOST_TEST(outcome.refusals["garbled record"] == 1u);
}

// One record of 64 KiB takes a quarter of a minute there: that is no reason to begin anew.
BOOST_AUTO_TEST_CASE(a_slow_line) {
  TestMesh mesh(21, 3);
  mesh[2].rpc.reset();
  const Address middle{mesh[2].host, 9000, false};
  Proxy proxy(*mesh[2].runtime, middle, mesh[1].address(),
              [](size_t, Bytes record) { return Records{record}; });
  mesh[0].rpc->set_route(mesh[1].id, {middle});
  BOOST_REQUIRE(mesh.call(mesh[0], mesh[1], kEcho).has_value());
  proxy.slow_down(1 << 10, kSecond / 4);
  std::optional<Result<Answer>> answer;
  mesh[0].rpc->call(mesh[1].id, kEcho, {}, Bytes(150'000, 'x'), {.timeout_ns = kMinute},
                    [&](Result<Answer> came) { answer = std::move(came); });
  for (int second = 0; second < 60 && !answer; ++second) {  // it hears the other side all the time
    mesh[1].rpc->call(mesh[0].id, kOneWay, {}, {}, {.timeout_ns = kMinute}, [](const Result<Answer>&) {});
    mesh.sim.run_for(kSecond);
  }
  BOOST_TEST((answer && answer->has_value()));
  BOOST_TEST(mesh[1].rpc->refusals()["stalled"] == 0u);
}

// Both go on sending: one waits for 64 KiB of that, the other believes that it is heard.
BOOST_AUTO_TEST_CASE(length_without_end) {
  TestMesh mesh(21, 3);
  mesh[2].rpc.reset();
  const Address middle{mesh[2].host, 9000, false};
  bool damaged = false;
  Proxy proxy(*mesh[2].runtime, middle, mesh[1].address(), [&](size_t index, Bytes record) {
    if (index == kFirstRecord + 5 && !std::exchange(damaged, true))
      put_le<uint16_t>(record.data(), UINT16_MAX);
    return Records{record};
  });
  mesh[0].rpc->set_route(mesh[1].id, {middle});
  int answered = 0;
  for (int i = 0; i < 20; ++i) {
    answered += mesh.call(mesh[0], mesh[1], kEcho, {}, {}, {.timeout_ns = kSecond}).has_value();
    mesh.call(mesh[1], mesh[0], kEcho, {}, {}, {.timeout_ns = kSecond});
  }
  BOOST_TEST(mesh[1].rpc->refusals()["stalled"] == 1u);
  BOOST_TEST(answered > 10);  // before, and over the connection after it
}

BOOST_AUTO_TEST_CASE(too_short_to_be_a_record) {
  auto outcome = run([](size_t index, Bytes record) {
    if (index == kFirstRecord + 5) {
      record.resize(12);
      put_le<uint16_t>(record.data(), 10);
    }
    return Records{record};
  });
  BOOST_TEST(outcome.answered == 5);
  BOOST_TEST(outcome.refusals["broken rules"] == 1u);
}

BOOST_AUTO_TEST_CASE(handshake_damaged) {
  for (size_t message : {size_t(0), size_t(1)}) {
    for (size_t at : {size_t(0), size_t(5), size_t(40)}) {
      auto outcome = run([&](size_t index, Bytes record) {
        if (index == message) record[at] ^= 0x40;
        return Records{record};
      });
      BOOST_TEST(outcome.answered == 0);
      BOOST_TEST(!outcome.refusals.empty());
    }
  }
}

BOOST_AUTO_TEST_CASE(random_damage) {
  TestRandom random(22);
  for (int round = 0; round < 40; ++round) {
    size_t when = random.below(20), where = random.below(1 << 16);
    uint8_t what = uint8_t(1 + random.below(255));
    auto outcome = run(
        [&](size_t index, Bytes record) {
          if (index == when) record[where % record.size()] ^= what;
          return Records{record};
        },
        true);
    BOOST_TEST(outcome.answered < 20);
  }
}

BOOST_AUTO_TEST_SUITE_END()
