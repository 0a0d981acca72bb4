// Who a session is taken for, and who may ask what of membership.
#include "peer/membership/membership.h"

#include <boost/test/unit_test.hpp>

#include "peer/runtime/simulated.h"
#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

// One peer of a TestMesh, with its register, in the simulator.
struct Member {
  Member(Simulator& sim, TestMesh& mesh_, const KeyPair& key_, const std::string& host)
      : mesh(mesh_),
        key(key_),
        disk(make_simulated_disk(1)),
        runtime(sim.add_host(host, *disk)),
        store(*RegisterStore::open(make_memory_environment(RegisterStore::options()))) {
    check_ok(store->append(mesh.entries));
    self = store->state().peer_by_key(key.public_key())->id;
    membership = std::make_unique<Membership>(runtime, *store, key, self);
    open(self);
  }
  // Says that it is `id`, whatever its key.
  void open(const PeerId& id) {
    RpcOptions options;
    options.id = id;
    rpc = std::make_unique<Rpc>(
        runtime, key, mesh.state.mesh(), mesh.secret.reveal(),
        [this](const PeerId& peer, const PublicKey& theirs) {
          return membership->admission_of(peer, theirs);
        },
        options);
    membership->attach(*rpc);
  }
  TestMesh& mesh;
  const KeyPair& key;
  std::unique_ptr<SimulatedDisk> disk;
  Runtime& runtime;
  std::unique_ptr<RegisterStore> store;
  PeerId self{};
  std::unique_ptr<Membership> membership;
  std::unique_ptr<Rpc> rpc;
};

BOOST_AUTO_TEST_CASE(a_members_key_under_anothers_id_is_nobody) {
  TestMesh mesh;
  const KeyPair second = mesh.admitted("second");
  const KeyPair stranger = KeyPair::generate(mesh.random);
  Simulator sim(1);
  Member first(sim, mesh, mesh.founder, "10.0.0.1");
  const PeerId second_id = peer_id_of(second.public_key());
  const Membership& here = *first.membership;
  BOOST_CHECK(here.admission_of(second_id, second.public_key()) == Admission::admitted);
  BOOST_CHECK(here.admission_of(first.self, second.public_key()) == Admission::unknown);
  BOOST_CHECK(here.admission_of(second_id, stranger.public_key()) == Admission::unknown);
  check_ok(mesh.change(RevokePeer{second_id}));
  check_ok(first.membership->take({mesh.entries.back()}));
  BOOST_CHECK(here.admission_of(second_id, second.public_key()) == Admission::revoked);
  BOOST_CHECK(here.admission_of(first.self, second.public_key()) == Admission::revoked);
}

// A member that says it is the founder gets no session, so none of the founder's rights.
BOOST_AUTO_TEST_CASE(who_says_to_be_another_gets_no_session) {
  TestMesh mesh;
  const KeyPair second = mesh.admitted("second");
  Simulator sim(2);
  Member first(sim, mesh, mesh.founder, "10.0.0.1"), other(sim, mesh, second, "10.0.0.2");
  const KeyPair third_key = KeyPair::generate(mesh.random);
  BOOST_REQUIRE(first.rpc->listen({"10.0.0.1", 7400, false}));
  auto dial = [&] {
    std::optional<Result<PeerId>> result;
    other.runtime.loop.post([&] {
      other.rpc->dial({"10.0.0.1", 7400, false}, [&](Result<PeerId> peer) { result = std::move(peer); });
    });
    sim.run_for(20 * kSecond);
    BOOST_REQUIRE(result.has_value());
    return *result;
  };
  check_ok(dial());
  other.rpc.reset();
  PeerId somebody{};
  mesh.random.fill(somebody);
  other.open(somebody);
  check_refused(dial(), Code::unauthorized, "");
  BOOST_CHECK(!first.rpc->connected(somebody));
  const KeyPair third = mesh.admitted("third");
  check_ok(first.membership->take({mesh.entries.back()}));
  other.rpc.reset();
  other.open(peer_id_of(third.public_key()));
  check_refused(dial(), Code::unauthorized, "");
  BOOST_CHECK(!first.rpc->connected(peer_id_of(third.public_key())));
}

}  // namespace
}  // namespace efs
