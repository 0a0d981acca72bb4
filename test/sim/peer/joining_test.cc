// Joining: as many as an invite allows get in, all at once or one by one; one more is refused, and so is who
// comes after its end, whatever the own clock says, or with a clock that is ten minutes off. The register
// reaches everybody within seconds, also who was away; who is revoked is cut off everywhere.
#include <boost/test/unit_test.hpp>

#include "test/sim/peer/mesh.h"

using namespace efs;
using namespace efs::test;

namespace {
size_t many(uint64_t seed) {
  return long_form() ? 29 : 3 + seed % 7;
}
}  // namespace

BOOST_AUTO_TEST_CASE(peers_join_all_at_once) {
  for (const uint64_t seed : seeds(2)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      mesh.found();
      mesh.grow(many(seed));
      BOOST_CHECK(mesh.sim.run_until([&] { return mesh.registers_agree(); }, 5 * kSecond));
      BOOST_CHECK_EQUAL(mesh.host(0).state().peers().size(), mesh.size());
    }
  }
}

BOOST_AUTO_TEST_CASE(one_seed_run_twice_gives_the_same_trace) {
  auto run = [](uint64_t seed) {
    Mesh mesh(seed);
    mesh.found();
    mesh.grow(4);
    (void)mesh.create_volume(mesh.host(1), "/a/b", mesh.host(2).id());
    mesh.kill(mesh.host(2), true);
    mesh.sim.run_for(5 * kSecond);
    mesh.start(mesh.host(2));
    mesh.sim.run_for(20 * kSecond);
    return mesh.trace();
  };
  for (const uint64_t seed : seeds(1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_CHECK_EQUAL(run(seed), run(seed));
    }
  }
}

BOOST_AUTO_TEST_CASE(an_invite_admits_as_many_as_it_says) {
  for (const uint64_t seed : seeds(1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      mesh.found();
      const std::string invite = mesh.invite(mesh.host(0), {2, kHour});
      std::vector<Host*> hosts;
      for (int i = 0; i < 4; ++i) {  // at once: two of four
        hosts.push_back(&mesh.add_host());
        mesh.begin_join(*hosts.back(), invite);
      }
      size_t in = 0;
      for (Host* host : hosts) {
        BOOST_REQUIRE(mesh.sim.run_until([&] { return host->joined.has_value(); }, 2 * kMinute));
        if (*host->joined) {
          ++in;
        } else {
          const std::string why = to_text(host->joined->error());
          BOOST_CHECK_MESSAGE(why.find("used") != std::string::npos, why);
        }
        mesh.kill(*host);
      }
      BOOST_CHECK_EQUAL(in, 2);
      // Who was admitted and lost the answer asks again with the same key, and is not counted twice.
      for (Host* host : hosts) {
        if (!*host->joined) continue;
        mesh.start(*host);
        break;
      }
      BOOST_CHECK(!mesh.join(mesh.add_host(), invite));
    }
  }
}

BOOST_AUTO_TEST_CASE(an_ended_invite_and_a_wrong_clock_are_refused) {
  for (const uint64_t seed : seeds(1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      mesh.found();
      const std::string brief = mesh.invite(mesh.host(0), {10, kMinute});
      mesh.sim.run_for(2 * kMinute);
      for (const int64_t skew : {int64_t(0), -90 * kSecond, -4 * kMinute, -2 * kHour}) {
        Host& late = mesh.add_host();
        mesh.sim.jump_wall(late.address, skew);
        const Status joined = mesh.join(late, brief);
        BOOST_REQUIRE(!joined);
        BOOST_CHECK_MESSAGE(joined.error().code == Code::expired, to_text(joined.error()));
      }
      const std::string good = mesh.invite(mesh.host(0), {10, kHour});
      for (const int64_t skew : {-10 * kMinute, 10 * kMinute}) {
        Host& host = mesh.add_host();
        mesh.sim.jump_wall(host.address, skew);
        const Status joined = mesh.join(host, good);
        BOOST_REQUIRE(!joined);
        const std::string why = to_text(joined.error());
        BOOST_CHECK_MESSAGE(why.find("the clocks differ") != std::string::npos, why);
        // Set right, the same invite serves.
        mesh.sim.jump_wall(host.address, -skew);
        const Status again = mesh.join(host, good);
        BOOST_CHECK_MESSAGE(again.has_value(), (again ? std::string() : to_text(again.error())));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(joining_works_over_a_bad_network) {
  for (const uint64_t seed : seeds(3)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      mesh.found();
      mesh.sim.faults() = {5 * kMillisecond, 200 * kMillisecond, 0.01, 0.1, 0};
      const std::string invite = mesh.invite(mesh.host(0), {4, kHour});
      for (int i = 0; i < 4; ++i) {
        Host& host = mesh.add_host();
        Status joined = mesh.join(host, invite);
        for (int again = 0; again < 20 && !joined; ++again) joined = mesh.join(host, invite);
        BOOST_REQUIRE_MESSAGE(joined.has_value(), (joined ? std::string() : to_text(joined.error())));
      }
      // Tries that failed half-way have used the invite once each.
      BOOST_CHECK_EQUAL(mesh.host(0).state().peers().size(), 5);
      BOOST_CHECK(mesh.sim.run_until([&] { return mesh.registers_agree(); }, 30 * kSecond));
    }
  }
}

BOOST_AUTO_TEST_CASE(the_register_reaches_everybody_also_who_was_away) {
  for (const uint64_t seed : seeds(1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      mesh.found();
      mesh.grow(many(seed));
      Host& away = mesh.host(1);
      mesh.kill(away, true);
      check_ok(mesh.propose(mesh.host(0), new_user("alice", 2000, "")));
      BOOST_CHECK(mesh.sim.run_until([&] { return mesh.registers_agree(); }, 2 * kSecond));
      mesh.start(away);
      BOOST_CHECK(mesh.sim.run_until([&] { return away.state().user("alice") != nullptr; }, 5 * kSecond));
      BOOST_CHECK(mesh.registers_agree());
    }
  }
}

BOOST_AUTO_TEST_CASE(a_revoked_peer_is_cut_off_by_all) {
  for (const uint64_t seed : seeds(1)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Mesh mesh(seed);
      mesh.found();
      mesh.grow(many(seed));
      mesh.sim.run_for(15 * kSecond);  // everyone asks everyone how it is
      Host& bad = mesh.host(2);
      const PeerId id = bad.id();
      auto connected = [&] {
        size_t count = 0;
        for (Host* host : mesh.serving()) count += host != &bad && host->core().rpc.connected(id);
        return count;
      };
      BOOST_REQUIRE_EQUAL(connected(), mesh.size() - 1);
      check_ok(mesh.propose(mesh.host(0), RevokePeer{id}));
      BOOST_CHECK(mesh.sim.run_until([&] { return connected() == 0; }, 2 * kSecond));
      mesh.sim.run_for(kMinute);
      BOOST_CHECK_EQUAL(connected(), 0);
      for (Host* host : mesh.serving()) {
        if (host != &bad) BOOST_CHECK(host->state().peer(id)->standing == Standing::revoked);
      }
    }
  }
}
