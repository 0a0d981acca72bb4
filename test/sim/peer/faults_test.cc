// The whole mesh at work, in two phases. While there are faults (latency, broken connections, partitions,
// kills, power losses) nothing wrong may happen: nothing runs twice, nothing that was promised is lost.
// Then all heals, and something right must happen within a bound: every volume answers everybody, the
// registers agree, every record is found, and what was promised reads the same everywhere.
#include <boost/test/unit_test.hpp>

#include "test/sim/peer/worker.h"

using namespace efs;
using namespace efs::test;

namespace {

constexpr int64_t kHealed = 30 * kSecond;  // until everything answers again

class Scene {
 public:
  Scene(uint64_t seed, size_t peers, size_t volumes) : mesh(seed) {
    mesh.found();
    mesh.grow(peers - 1);
    BOOST_REQUIRE(mesh.sim.run_until([&] { return mesh.registers_agree(); }, 10 * kSecond));
    volumes_.push_back(mesh.host(0).state().root_volume()->id);
    for (size_t i = 1; i <= volumes; ++i) {
      auto made =
          mesh.create_volume(mesh.host(i % peers), fmt::format("/v{}", i), mesh.host((i * 2) % peers).id());
      BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? std::string() : to_text(made.error())));
      volumes_.push_back(*made);
    }
    check_ok(mesh.propose(mesh.host(0), new_user("alice", 2000, "/v1")));
    BOOST_REQUIRE(mesh.sim.run_until([&] { return mesh.registers_agree(); }, 10 * kSecond));
  }

  // One worker a peer and volume, where there is none that lives.
  void employ(double share = 1, int64_t pause_ns = 200 * kMillisecond) {
    for (Host* host : mesh.serving()) {
      for (const VolumeId& volume : volumes_) {
        auto& worker = current_[{host->index, volume}];
        if (worker && !worker->dead() && !worker->idle()) continue;
        if (!mesh.random.chance(share)) continue;
        worker = std::make_shared<Worker>(mesh, *host, volume, fmt::format("w{}", ++last_worker_), pause_ns);
        workers_.push_back(worker);
        worker->begin();
      }
    }
  }

  void disturb() {
    Host& host = mesh.host(size_t(mesh.random.between(0, int64_t(mesh.size()) - 1)));
    switch (mesh.random.next() % 8) {
      case 0:
      case 1:
        if (host.peer) mesh.kill(host);
        break;
      case 2:
      case 3:
        if (host.peer) mesh.kill(host, true);
        break;
      case 4:
        mesh.sim.set_partition(host.address, int(1 + mesh.random.next() % 2));
        break;
      case 5:
        mesh.sim.heal();
        break;
      case 6:
        mesh.sim.faults() = {kMillisecond, mesh.random.between(2, 300) * kMillisecond,
                             double(mesh.random.next() % 4) * 0.002, double(mesh.random.next() % 4) * 0.05,
                             0};
        break;
      default:
        mesh.sim.set_drift(host.address, double(mesh.random.between(-300, 300)));
    }
    for (size_t i = 0; i < mesh.size(); ++i) {
      if (!mesh.host(i).peer && mesh.random.chance(0.4)) mesh.serve(mesh.host(i));
    }
  }

  void heal() {
    mesh.sim.heal();
    mesh.sim.faults() = {};
    for (size_t i = 0; i < mesh.size(); ++i) {
      if (!mesh.host(i).peer) mesh.serve(mesh.host(i));
    }
  }

  // Everything that must be right, kHealed after heal().
  void must_be_right() {
    const int64_t began = mesh.sim.now_ns();
    bool all_up = mesh.sim.run_until([&] { return mesh.serving().size() == mesh.size(); }, kHealed);
    BOOST_REQUIRE_MESSAGE(all_up, "not every peer serves again");
    BOOST_CHECK(mesh.sim.run_until([&] { return mesh.registers_agree(); }, kHealed));
    auto answered = std::make_shared<size_t>(0);
    size_t asked = 0;
    for (Host* host : mesh.serving()) {
      for (const VolumeId& volume : volumes_) {
        auto client = host->view->client(volume);
        BOOST_REQUIRE(client != nullptr);
        ++asked;
        client->call(kRootUser, Usage{}, {}, {},
                     [answered](const VolumeAnswer& answer) { *answered += answer.reply.code == Code::ok; });
      }
    }
    mesh.sim.run_until([&] { return *answered == asked; }, kHealed);
    BOOST_CHECK_EQUAL(*answered, asked);
    const int64_t took = mesh.sim.now_ns() - began;
    BOOST_CHECK_LE(took, kHealed);
    longest_ns_ = std::max(longest_ns_, took);
  }

  // Ends the work, and reads what was promised through everybody (or through one of them).
  void settle(bool by_everybody) {
    for (auto& worker : workers_) worker->stop();
    mesh.sim.run_until(
        [&] {
          return std::all_of(workers_.begin(), workers_.end(),
                             [](const auto& worker) { return worker->idle() || worker->dead(); });
        },
        2 * kMinute);
    for (const auto& worker : workers_) {
      for (const auto& violation : worker->violations()) BOOST_ERROR(violation);
      const auto readers = mesh.serving();
      for (size_t i = 0; i < readers.size(); ++i) {
        if (!by_everybody && i != size_t(mesh.random.next() % readers.size())) continue;
        for (const auto& wrong : worker->check(*readers[i])) BOOST_ERROR(wrong);
      }
      rounds_ += worker->rounds();
      failures_ += worker->failures();
    }
    people_ += workers_.size();
    workers_.clear();
    current_.clear();
    for (const auto& wrong : mesh.inconsistencies()) BOOST_ERROR(wrong);
    for (const auto& wrong : mesh.not_located()) BOOST_ERROR(wrong);
  }

  void report(const std::string& name) {
    std::printf("figure %s: %zu peers, %zu workers, %zu rounds kept, %zu requests failed, healed in %.1f s\n",
                name.c_str(), mesh.size(), people_, rounds_, failures_, double(longest_ns_) / 1e9);
    BOOST_CHECK_GT(rounds_, 0);
  }

  Mesh mesh;

 private:
  std::vector<VolumeId> volumes_;
  std::map<std::pair<size_t, VolumeId>, std::shared_ptr<Worker>> current_;
  std::vector<std::shared_ptr<Worker>> workers_;
  size_t rounds_ = 0, failures_ = 0, people_ = 0, last_worker_ = 0;
  int64_t longest_ns_ = 0;
};

}  // namespace

BOOST_AUTO_TEST_CASE(work_goes_on_through_faults_and_all_is_right_after_them) {
  for (const uint64_t seed : seeds(long_form() ? 60 : 1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Scene scene(seed, 3 + seed % 3, 3);
      for (int phase = 0; phase < 2; ++phase) {
        for (int i = 0; i < 12; ++i) {
          scene.employ();
          scene.disturb();
          scene.mesh.sim.run_for(scene.mesh.random.between(kMillisecond, 6 * kSecond));
        }
        scene.heal();
        scene.must_be_right();
      }
      scene.employ();
      scene.mesh.sim.run_for(5 * kSecond);
      scene.settle(true);
      scene.report("faults");
    }
  }
}

// The power of the room goes: every peer at once, in the middle of work. Switched on again in any order,
// all serve by themselves.
BOOST_AUTO_TEST_CASE(the_power_of_the_room_fails) {
  for (const uint64_t seed : seeds(1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Scene scene(seed, 5, 4);
      for (int i = 0; i < 3; ++i) {
        scene.employ();
        scene.mesh.sim.run_for(scene.mesh.random.between(kSecond, 5 * kSecond));
        for (size_t j = 0; j < scene.mesh.size(); ++j) scene.mesh.kill(scene.mesh.host(j), true);
        scene.mesh.sim.run_for(kMinute);
        for (size_t j = scene.mesh.size(); j-- > 0;) {
          scene.mesh.serve(scene.mesh.host(j));
          scene.mesh.sim.run_for(scene.mesh.random.between(0, 2 * kSecond));
        }
        scene.must_be_right();
      }
      scene.settle(true);
      scene.report("power");
    }
  }
}

// Halves that do not see each other for ten minutes. Afterwards both agree by themselves.
BOOST_AUTO_TEST_CASE(a_partition_heals_by_itself) {
  for (const uint64_t seed : seeds(1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Scene scene(seed, 6, 3);
      scene.employ(0.5, 10 * kSecond);
      for (size_t i = 3; i < 6; ++i) scene.mesh.sim.set_partition(scene.mesh.host(i).address, 1);
      check_ok(scene.mesh.propose(scene.mesh.host(0), new_user("bob", 2001, "/v2")));
      const Status cut_off = scene.mesh.propose(scene.mesh.host(4), AddGroup{"crew", 0});
      BOOST_CHECK(!cut_off);  // an error that says so, not a second register
      scene.mesh.sim.run_for(10 * kMinute);
      BOOST_CHECK(!scene.mesh.registers_agree());
      scene.heal();
      scene.must_be_right();
      scene.mesh.sim.run_for(kMinute);
      scene.settle(true);
      scene.report("partition");
    }
  }
}

// EFS_LONG: thirty peers for a virtual week (EFS_HOURS: other than 168) of light load and rare faults.
BOOST_AUTO_TEST_CASE(thirty_peers_for_a_week) {
  if (!long_form()) return;
  const char* given = std::getenv("EFS_HOURS");
  const int64_t hours = given != nullptr ? std::atoll(given) : 168;
  for (const uint64_t seed : seeds(0)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Scene scene(seed, 30, 5);
      for (int64_t hour = 0; hour < hours; ++hour) {
        scene.employ(0.02, kSecond);
        scene.mesh.sim.run_for(20 * kSecond);
        scene.disturb();
        scene.mesh.sim.run_for(40 * kSecond);
        scene.heal();
        scene.must_be_right();
        scene.settle(false);
        scene.mesh.sim.run_for(kHour - kMinute);
        if (hour % 24 == 23) scene.report(fmt::format("day {}", hour / 24 + 1));
      }
    }
  }
}
