// The register between peers, in the simulator: one orders, all have it; who was away catches up; who has
// another history is not believed; who waits is told.
#include "peer/membership/membership.h"

#include "peer/runtime/simulated.h"
#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

struct Member {
  Member(Simulator& simulator, TestMesh& mesh, const KeyPair& its_key, int number)
      : key(KeyPair::from_seed(its_key.seed().clone())),
        id(peer_id_of(key.public_key())),
        address("10.0.0." + std::to_string(number)),
        disk(make_simulated_disk(uint64_t(number))),
        runtime(simulator.add_host(address, *disk)) {
    auto opened = RegisterStore::open(make_memory_environment(RegisterStore::options()));
    check_ok(opened);
    store = std::move(*opened);
    check_ok(store->append(mesh.entries));
    membership = std::make_unique<Membership>(runtime, *store, key, id);
    RpcOptions options;
    options.register_mark = [this] { return membership->mark(); };
    options.on_register_mark = [this](const PeerId& peer, const RegisterMark& mark) {
      membership->on_mark(peer, mark);
    };
    options.on_peer_up = [this](const PeerInfo& peer) { membership->on_peer_up(peer); };
    rpc = std::make_unique<Rpc>(
        runtime, key, store->state().mesh(), mesh.secret.reveal(),
        [this](const PeerId& peer, const PublicKey& of) { return membership->admission_of(peer, of); },
        options);
    membership->attach(*rpc);
    check_ok(rpc->listen(*Address::parse(address + ":7400")));
  }
  ~Member() { rpc.reset(); }

  KeyPair key;
  PeerId id;
  std::string address;
  std::unique_ptr<SimulatedDisk> disk;
  Runtime& runtime;
  std::unique_ptr<RegisterStore> store;
  std::unique_ptr<Membership> membership;
  std::unique_ptr<Rpc> rpc;
};

struct Fixture {
  Fixture() {
    mesh.now = kBegin;
    std::vector<KeyPair> keys;
    keys.push_back(mesh.admitted("second"));
    keys.push_back(mesh.admitted("third"));
    members.push_back(std::make_unique<Member>(simulator, mesh, mesh.founder, 1));
    members.push_back(std::make_unique<Member>(simulator, mesh, keys[0], 2));
    members.push_back(std::make_unique<Member>(simulator, mesh, keys[1], 3));
    owner().set_order([this](uint64_t index, Bytes entry, std::function<void(Status)> done) {
      BOOST_CHECK_EQUAL(index, durable.size() + 3);
      if (refuse_order) return done(fail(Code::no_space, "the disk is full"));
      durable.push_back(std::move(entry));
      done({});
    });
    for (auto& member : members) {
      for (auto& other : members) {
        if (other == member) continue;
        member->rpc->set_route(other->id, {*Address::parse(other->address + ":7400")});
        member->rpc->keep_alive(other->id, true);
      }
    }
    simulator.run_for(3 * kSecond);
  }
  ~Fixture() {
    for (auto& member : members) {
      const std::string address = member->address;
      member.reset();
      simulator.remove_host(address);
    }
  }
  Membership& owner() { return *members[0]->membership; }
  static AddUser user(uint32_t number) {
    AddUser out;
    out.name = numbered("user", number);
    out.uid = out.gid = 1000 + number;
    return out;
  }
  std::shared_ptr<std::optional<Result<uint64_t>>> propose(size_t by, Change change) {
    auto out = std::make_shared<std::optional<Result<uint64_t>>>();
    members[by]->membership->propose_change(std::move(change), [out](Result<uint64_t> index) {
      BOOST_REQUIRE(!*out);  // once
      *out = std::move(index);
    });
    return out;
  }
  Result<uint64_t> wait(const std::shared_ptr<std::optional<Result<uint64_t>>>& out) {
    BOOST_REQUIRE(simulator.run_until([&] { return out->has_value(); }, kMinute));
    return **out;
  }
  bool all_have(uint64_t version) {
    for (auto& member : members) {
      if (member->store->state().version() != version ||
          member->store->state().head() != owner().state().head())
        return false;
    }
    return true;
  }

  static constexpr int64_t kBegin = TestMesh::kStart;
  Simulator simulator{7};
  TestMesh mesh;
  std::vector<std::unique_ptr<Member>> members;
  std::vector<Bytes> durable;
  bool refuse_order = false;
};

BOOST_FIXTURE_TEST_CASE(what_is_proposed_anywhere_stands_everywhere, Fixture) {
  auto by_owner = wait(propose(0, user(0)));
  check_ok(by_owner);
  BOOST_CHECK_EQUAL(*by_owner, 3);
  // A peer may say that it leaves: what another peer proposes for itself.
  auto leaving = wait(propose(2, ForgetPeer{members[2]->id}));
  check_ok(leaving);
  BOOST_CHECK(members[2]->store->state().peer(members[2]->id)->standing == Standing::forgotten);
  BOOST_CHECK(simulator.run_until([&] { return all_have(5); }, 5 * kSecond));
  BOOST_CHECK_EQUAL(durable.size(), 2);
}

BOOST_FIXTURE_TEST_CASE(many_at_once_are_ordered_one_after_another, Fixture) {
  std::vector<std::shared_ptr<std::optional<Result<uint64_t>>>> waiting;
  for (uint32_t i = 0; i < 50; ++i) waiting.push_back(propose(0, user(i)));
  waiting.push_back(propose(0, user(0)));  // there already
  std::set<uint64_t> given;
  for (size_t i = 0; i < 50; ++i) given.insert(*wait(waiting[i]));
  BOOST_CHECK_EQUAL(given.size(), 50);
  check_refused(wait(waiting[50]), Code::exists, "user0");
  BOOST_CHECK(simulator.run_until([&] { return all_have(53); }, 5 * kSecond));
}

BOOST_FIXTURE_TEST_CASE(who_may_not_is_refused_with_the_reason, Fixture) {
  auto refused = wait(propose(1, user(0)));
  BOOST_REQUIRE(!refused);
  BOOST_CHECK(refused.error().code == Code::unauthorized);
  BOOST_CHECK(!refused.error().message.empty());
  BOOST_CHECK_EQUAL(durable.size(), 0);
}

BOOST_FIXTURE_TEST_CASE(what_the_root_volume_cannot_keep_does_not_count, Fixture) {
  refuse_order = true;
  check_refused(wait(propose(0, user(0))), Code::no_space, "the disk is full");
  BOOST_CHECK(all_have(3));
  refuse_order = false;
  check_ok(wait(propose(0, user(0))));
}

BOOST_FIXTURE_TEST_CASE(who_was_away_catches_up, Fixture) {
  simulator.set_partition("10.0.0.3", 1);
  for (uint32_t i = 0; i < 300; ++i) check_ok(wait(propose(0, user(i))));  // more than a message takes
  BOOST_CHECK_EQUAL(members[2]->store->state().version(), 3);
  simulator.heal();
  BOOST_CHECK(simulator.run_until([&] { return all_have(303); }, kMinute));
}

BOOST_FIXTURE_TEST_CASE(the_owner_away_is_said, Fixture) {
  simulator.set_partition("10.0.0.1", 1);
  check_refused(wait(propose(1, ForgetPeer{members[1]->id})), Code::unreachable, "the owner of '/', first");
}

BOOST_FIXTURE_TEST_CASE(another_history_is_refused_and_reported, Fixture) {
  // The third gets an entry that the owner never ordered (its disk was restored from elsewhere, say).
  TestMesh other;  // the same seed: the same mesh up to here
  other.now = kBegin;
  other.admitted("second");
  other.admitted("third");
  BOOST_REQUIRE(other.state.head() == mesh.state.head());
  check_ok(other.change(user(77)));
  simulator.set_partition("10.0.0.3",
                          1);  // else it passes that on, and with the owner's signature it would stand
  check_ok(members[2]->membership->take({other.entries.back()}));
  check_ok(wait(propose(0, user(0))));
  BOOST_CHECK(
      simulator.run_until([&] { return members[1]->store->state().user("user0") != nullptr; }, kMinute));
  simulator.heal();
  auto reported = [](const Member& by, std::string_view whom) {
    for (const auto& one : by.membership->troubles()) {
      if (one.find(whom) != std::string::npos) return true;
    }
    return false;
  };
  BOOST_CHECK(simulator.run_until([&] { return reported(*members[0], "third"); }, kMinute));
  BOOST_CHECK(simulator.run_until([&] { return reported(*members[2], "first"); }, kMinute));
  BOOST_CHECK(members[1]->store->state().user("user77") == nullptr);
  BOOST_CHECK(members[2]->store->state().user("user0") == nullptr);
}

}  // namespace
}  // namespace efs
