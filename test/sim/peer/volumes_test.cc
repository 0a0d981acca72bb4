// Volumes made and removed from anywhere, also at once and half-way: of two with one prefix exactly one is
// made; afterwards there is no junction without a volume and no volume without its junction, whoever died
// in between and whichever answer was lost.
#include <boost/test/unit_test.hpp>

#include "peer/junctions.h"
#include "test/sim/peer/mesh.h"
#include "test/why.h"

using namespace efs;
using namespace efs::test;

namespace {

// Of peers that all know each other.
void grow(Mesh& mesh, size_t others) {
  mesh.found();
  mesh.grow(others);
  BOOST_REQUIRE(mesh.sim.run_until([&] { return mesh.registers_agree(); }, 10 * kSecond));
}

void check_consistent(Mesh& mesh) {
  for (const auto& problem : mesh.inconsistencies()) BOOST_ERROR(problem);
}

// A junction as VolumeAdmin makes it, whose charter is never proposed.
void leave_stray(Mesh& mesh, Host& by, const std::vector<std::string>& path) {
  MakeJunction make;
  make.path = path;
  mesh.random.fill(make.junction.volume);
  make.junction.number = 77;
  const VolumeFacts* root = by.state().root_volume();
  const VolumeAnswer made = mesh.call(by, root->id, make);
  BOOST_REQUIRE_EQUAL(name_of(made.reply.code), name_of(Code::ok));
}

}  // namespace

BOOST_AUTO_TEST_CASE(of_two_volumes_with_one_prefix_one_is_made) {
  for (const uint64_t seed : seeds(2)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      grow(mesh, 4);
      for (int round = 0; round < 6; ++round) {
        const std::string prefix = "/deep/er/v" + std::to_string(round);
        std::vector<std::optional<Result<VolumeId>>> made(mesh.size());
        for (size_t i = 0; i < mesh.size(); ++i) {
          Host& host = mesh.host(i);
          host.core().admin.create({prefix, mesh.host((i + round) % mesh.size()).id()},
                                   [&made, i](Result<VolumeId> result) { made[i] = std::move(result); });
          if (seed % 2 == 0) mesh.sim.run_for(int64_t(mesh.random.next() % 3) * kMillisecond);
        }
        BOOST_REQUIRE(mesh.sim.run_until(
            [&] {
              return std::all_of(made.begin(), made.end(), [](const auto& one) { return one.has_value(); });
            },
            2 * kMinute));
        size_t won = 0;
        for (auto& one : made) {
          won += one->has_value();
          if (!*one) BOOST_CHECK_MESSAGE(one->error().code == Code::exists, to_text(one->error()));
        }
        BOOST_CHECK_EQUAL(won, 1);
      }
      mesh.sim.run_for(2 * kMinute);
      check_consistent(mesh);
      BOOST_CHECK_EQUAL(mesh.host(0).state().volumes().size(), 7);
      // And all of them are removed again, by whoever.
      for (int round = 0; round < 6; ++round) {
        const Status removed =
            mesh.remove_volume(mesh.host(size_t(round) % mesh.size()), "/deep/er/v" + std::to_string(round));
        BOOST_CHECK_MESSAGE(removed.has_value(), (removed ? std::string() : to_text(removed.error())));
      }
      BOOST_CHECK(mesh.sim.run_until([&] { return mesh.registers_agree(); }, 5 * kSecond));
      check_consistent(mesh);
      BOOST_CHECK_EQUAL(mesh.host(0).state().volumes().size(), 1);
    }
  }
}

// Each from a peer that may not have heard yet of the volume above.
BOOST_AUTO_TEST_CASE(a_volume_is_made_below_one_made_a_moment_ago) {
  for (const uint64_t seed : seeds(2)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      grow(mesh, 3);
      for (size_t round = 0; round < 6; ++round) {
        const std::string above = "/v" + std::to_string(round);
        for (const std::string& prefix : {above, above + "/below"}) {
          auto made =
              mesh.create_volume(mesh.host(prefix == above ? 0 : 1 + round % 3), prefix, mesh.host(0).id());
          BOOST_CHECK_MESSAGE(made, why(made));
        }
      }
      mesh.sim.run_for(kMinute);
      check_consistent(mesh);
    }
  }
}

// The maker dies between the junction and the charter: the parent's owner removes the junction, not before a
// minute and soon after it, and the name is free again.
BOOST_AUTO_TEST_CASE(a_junction_without_a_volume_is_removed_after_a_minute) {
  for (const uint64_t seed : seeds(2)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      grow(mesh, 3);
      auto kept = mesh.create_volume(mesh.host(1), "/kept/here", mesh.host(2).id());
      BOOST_REQUIRE_MESSAGE(kept, why(kept));
      leave_stray(mesh, mesh.host(1), {"kept", "lost"});
      leave_stray(mesh, mesh.host(2), {"gone"});
      mesh.kill(mesh.host(1));
      mesh.sim.run_for(50 * kSecond);
      BOOST_CHECK_EQUAL(mesh.inconsistencies().size(), 2);
      BOOST_CHECK(mesh.sim.run_until([&] { return mesh.inconsistencies().empty(); }, kMinute + 20 * kSecond));
      check_consistent(mesh);
      BOOST_CHECK(mesh.create_volume(mesh.host(0), "/kept/lost", mesh.host(3).id()));
      BOOST_CHECK(mesh.host(0).state().volume_at("/kept/here") != nullptr);
      check_consistent(mesh);
    }
  }
}

// In a volume that is not the root's, owned by a peer that cannot ask the root's owner: nothing is removed
// until it can.
BOOST_AUTO_TEST_CASE(nothing_is_removed_on_the_word_of_an_old_register) {
  for (const uint64_t seed : seeds(1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      grow(mesh, 3);
      auto parent = mesh.create_volume(mesh.host(0), "/p", mesh.host(1).id());
      BOOST_REQUIRE_MESSAGE(parent, why(parent));
      // The parent's owner sees the junction made, and is then cut off from the register.
      std::optional<Result<VolumeId>> made;
      mesh.host(2).core().admin.create({"/p/child", mesh.host(2).id()},
                                       [&](Result<VolumeId> result) { made = std::move(result); });
      Host& owner = mesh.host(1);
      auto junctions = [&] {
        auto count = count_junctions(*owner.core().volumes.owned().front()->rows());
        return count.value_or(0);
      };
      BOOST_REQUIRE(mesh.sim.run_until([&] { return junctions() == 1; }, 10 * kSecond));
      mesh.sim.set_partition(owner.address, 1);
      mesh.sim.run_for(5 * kMinute);
      BOOST_CHECK_EQUAL(junctions(), 1);
      BOOST_CHECK(made.has_value());
      mesh.sim.heal();
      mesh.sim.run_for(3 * kMinute);
      check_consistent(mesh);
      BOOST_CHECK(mesh.registers_agree());
    }
  }
}

// Makers, founders and owners of parents are killed, lose power and are cut off at any moment of the making
// and removing of volumes. Then all heals, and within two minutes everything is consistent.
BOOST_AUTO_TEST_CASE(volumes_stay_consistent_whoever_dies) {
  const auto all = seeds(long_form() ? 100 : 3);
  for (const uint64_t seed : all) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      grow(mesh, 4);
      for (int round = 0; round < 6; ++round) {
        auto pick = [&]() -> Host& { return mesh.host(size_t(mesh.random.between(0, 4))); };
        for (int i = 0; i < 3; ++i) {
          Host& by = pick();
          const std::string prefix = fmt::format("/a{}/b{}", mesh.random.next() % 2, mesh.random.next() % 3);
          if (!by.serves()) continue;
          if (by.state().volume_at(prefix) != nullptr && mesh.random.chance(0.5)) {
            by.core().admin.remove(prefix, [](Status) {});
          } else if (mesh.host(0).serves()) {
            by.core().admin.create(
                {prefix, mesh.host(size_t(mesh.random.between(0, 4))).serves() ? mesh.host(0).id() : by.id()},
                [](Result<VolumeId>) {});
          }
        }
        mesh.sim.run_for(mesh.random.between(0, 30 * kMillisecond));
        Host& victim = pick();
        switch (mesh.random.next() % 3) {
          case 0:
            mesh.kill(victim, mesh.random.chance(0.5));
            break;
          case 1:
            mesh.sim.set_partition(victim.address, 1);
            break;
          default:
            break;
        }
        mesh.sim.run_for(mesh.random.between(0, 40 * kSecond));
        mesh.sim.heal();
        for (size_t i = 0; i < mesh.size(); ++i) {
          if (!mesh.host(i).peer) mesh.start(mesh.host(i));
        }
      }
      mesh.sim.run_for(2 * kMinute);
      BOOST_CHECK(mesh.registers_agree());
      check_consistent(mesh);
      // Each of them answers, from everywhere.
      for (Host* host : mesh.serving()) {
        for (const VolumeFacts* volume : host->state().volumes()) {
          const VolumeAnswer usage = mesh.call(*host, volume->id, Usage{});
          BOOST_CHECK_MESSAGE(usage.reply.code == Code::ok, volume->prefix << ": " << usage.reply.message);
        }
      }
    }
  }
}
