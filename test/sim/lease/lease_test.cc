// What one mount was answered to have changed, no mount is shown otherwise from then on: not by the owner,
// not by what it was leased, not by its kernel's caches; whatever of messages, connections, hosts and the
// owner fails meanwhile.
//
// Three mounts change and read a few names and files of one volume, all at once. After each answered change
// every read that begins later, on any mount, is held against it. Mounts that change the same place at the
// same time are answered before the others have forgotten (leases.h): that binds a moment later. Who is not
// cut off himself is answered within a lease's length, and at the end, when all is well again, everybody is.
#include <boost/test/unit_test.hpp>
#include <cstdio>

#include "peer/volume/service.h"
#include "test/seeds.h"
#include "test/sim/lease/mount.h"
#include "test/unit/volume/fixture.h"

using namespace efs;
using namespace efs::test;

namespace {

constexpr size_t kMounts = 3;

struct World {
  explicit World(uint64_t seed)
      : simulator(seed), random(seed + 7), environments(make_memory_environments()) {
    for (size_t i = 0; i <= kMounts; ++i) {
      disks.push_back(make_simulated_disk(seed * 10 + i));
      keys.push_back(KeyPair::generate(random));
      addresses.push_back("10.0.0." + std::to_string(i + 1));
    }
    id[0] = 1;
    truth.settling_ns = 100 * kMillisecond;
    truth.current = [this](InodeNumber inode) -> std::optional<uint64_t> {
      const auto found = look(GetAttributes{inode});
      return found && found->code == Code::ok ? std::optional(found->attributes.change) : std::nullopt;
    };
    start_owner();
    BOOST_REQUIRE(set->create(id, 3, {0777, 0, 0}));
    for (size_t i = 1; i <= kMounts; ++i) start_mount(i, seed);
  }
  ~World() {
    for (auto& mount : mounts) mount.reset();
    for (auto& remote : remotes) remote->close();
    remotes.clear();
    routers.clear();
    stop_owner(Stop::killed);
    rpcs.clear();
  }
  std::unique_ptr<Rpc> make_rpc(Runtime& runtime, const KeyPair& key) {
    return std::make_unique<Rpc>(runtime, key, Id{7}, Bytes(32, 5),
                                 [](const PeerId&, const PublicKey&) { return Admission::admitted; });
  }
  void start_owner() {
    Runtime& runtime = simulator.add_host(addresses[0], *disks[0]);
    VolumeSetOptions options;
    options.log_directory = "/data/log";
    options.log.file_bytes = 4 << 20;
    options.reserved_bytes = 0;
    auto opened = VolumeSet::open(
        {runtime.loop.clock(), runtime.random, disks[0]->files(), logger, chunks, *environments}, options);
    BOOST_REQUIRE_MESSAGE(opened, test::why(opened));
    set = std::move(*opened);
    owner_rpc = make_rpc(runtime, keys[0]);
    BOOST_REQUIRE(owner_rpc->listen(*Address::parse(addresses[0] + ":7400")));
    VolumeAccess access;
    access.may_act = [](const PeerId&, uint32_t) { return true; };
    access.may_administer = [](const PeerId&, const Request&) { return false; };
    service = std::make_unique<VolumeService>(runtime.loop, *owner_rpc, *set, access);
  }
  enum class Stop { cleanly, killed, power_lost };
  void stop_owner(Stop how) {
    service.reset();
    owner_rpc.reset();
    if (how == Stop::cleanly) BOOST_REQUIRE(set->close());
    set.reset();
    simulator.remove_host(addresses[0], how == Stop::power_lost);
    if (how != Stop::power_lost) return disks[0]->process_died();
    disks[0]->power_loss();
    chunks.power_loss(random);
  }
  std::optional<Reply> look(RequestBody body) {
    auto replica = set ? set->find(id) : nullptr;
    if (!replica) return std::nullopt;
    Request request;
    request.who = {0, 0, {}, true};
    request.body = std::move(body);
    return efs::read(*replica->rows(), request, false);
  }
  // What was answered and not durable is gone: from now on what is there binds, and nothing else.
  void forget_what_was_lost() {
    const int64_t from_ns = simulator.now_ns() + truth.settling_ns;
    for (auto& [name, of] : truth.names) {
      const auto found = look(Lookup{kRootInode, name});
      const InodeNumber inode = found && found->code == Code::ok ? found->attributes.inode : 0;
      truth.put(name, simulator.now_ns(), inode, false)->bound_ns = from_ns;
    }
    for (auto& [inode, one] : truth.inodes) {
      const auto now = truth.current(inode);
      one.changes.erase(now ? one.changes.upper_bound(*now) : one.changes.begin(), one.changes.end());
    }
    truth.forgotten_ns = from_ns;
    ++power_losses;
  }
  void start_mount(size_t number, uint64_t seed) {
    Runtime& runtime = simulator.add_host(addresses[number], *disks[number]);
    simulator.set_drift(addresses[number], double(random.below(2001)) - 1000);
    rpcs.push_back(make_rpc(runtime, keys[number]));
    rpcs.back()->set_route(peer_id_of(keys[0].public_key()), {*Address::parse(addresses[0] + ":7400")});
    VolumeLocator locator;
    locator.locate = [this](const VolumeId&) {
      return std::vector<PeerId>{peer_id_of(keys[0].public_key())};
    };
    routers.push_back(RecallRouter::make(runtime.loop, *rpcs.back()));
    remotes.push_back(std::make_shared<RemoteVolume>(runtime.loop, *rpcs.back(), runtime.random, locator, id,
                                                     3, 60 * kSecond, routers.back()));
    mounts.push_back(
        std::make_shared<Mount>(int(number), simulator, runtime, remotes.back(), truth, seed * 100 + number));
    mounts.back()->owner_whole_since_ns = &owner_whole_since_ns;
    mounts.back()->begin();
  }
  // One thing goes wrong for a while.
  void trouble() {
    truth.settling_ns = 2 * kLeaseTerm;
    for (auto& mount : mounts) mount->calm = false;
    const size_t victim = 1 + random.below(kMounts);
    const int64_t for_ns = int64_t(random.below(uint64_t(4 * kSecond)));
    auto out = [&](bool paused) {
      truth.whole_since_ns[int(victim)] = INT64_MAX;
      paused ? simulator.set_paused(addresses[victim], true) : simulator.set_partition(addresses[victim], 1);
      simulator.run_for(for_ns);
      paused ? simulator.set_paused(addresses[victim], false) : simulator.set_partition(addresses[victim], 0);
      truth.whole_since_ns[int(victim)] = simulator.now_ns() + 5 * kSecond;
    };
    const uint64_t kind = random.below(5);
    if (kind < 2) {
      out(kind == 1);
    } else if (kind == 2) {
      simulator.faults().break_chance = 0.02;
      owner_whole_since_ns = INT64_MAX;
      simulator.run_for(for_ns);
      simulator.faults().break_chance = 0;
      owner_whole_since_ns = simulator.now_ns() + 5 * kSecond;
    } else if (kind == 3) {
      owner_whole_since_ns = INT64_MAX;
      constexpr Stop kHow[] = {Stop::cleanly, Stop::killed, Stop::power_lost};
      const Stop how = kHow[random.below(3)];
      stop_owner(how);
      simulator.run_for(for_ns / 4);
      start_owner();
      if (how == Stop::power_lost) forget_what_was_lost();
      for (auto& by : truth.buffered) by.second.clear();  // what was not sent is sent late
      owner_whole_since_ns = simulator.now_ns() + 5 * kSecond;
    } else {
      simulator.faults().latency_max_ns = 100 * kMillisecond;
      owner_whole_since_ns = INT64_MAX;
      simulator.run_for(for_ns);
      simulator.faults().latency_max_ns = 2 * kMillisecond;
      owner_whole_since_ns = simulator.now_ns() + 2 * kSecond;
    }
    simulator.run_for(int64_t(random.below(uint64_t(2 * kSecond))));
  }
  void check(const std::string& when) {
    for (const auto& one : truth.violations) BOOST_ERROR(when + ": " + one);
    truth.violations.clear();
  }

  Simulator simulator;
  SeededRandom random;
  QuietLogger logger;
  MemoryChunks chunks;
  std::unique_ptr<VolumeEnvironments> environments;
  VolumeId id{};
  Truth truth;
  std::vector<std::unique_ptr<SimulatedDisk>> disks;
  std::vector<KeyPair> keys;
  std::vector<std::string> addresses;
  std::unique_ptr<VolumeSet> set;
  std::unique_ptr<Rpc> owner_rpc;
  std::unique_ptr<VolumeService> service;
  std::vector<std::unique_ptr<Rpc>> rpcs;
  std::vector<std::shared_ptr<RecallRouter>> routers;
  std::vector<std::shared_ptr<RemoteVolume>> remotes;
  std::vector<std::shared_ptr<Mount>> mounts;
  int64_t owner_whole_since_ns = 0;
  size_t power_losses = 0;
};

struct Total {
  size_t reads = 0, kernel = 0, changes = 0, bound = 0, fences = 0, listings = 0, losses = 0;
  int64_t longest_ns = 0;
  void add(const World& world) {
    const Truth& truth = world.truth;
    reads += truth.reads;
    kernel += truth.kernel_reads;
    changes += truth.changes;
    bound += truth.bound;
    fences += truth.fences;
    listings += truth.listings;
    losses += world.power_losses;
    longest_ns = std::max(longest_ns, truth.longest_ns);
  }
  void print(const char* what, size_t runs) const {
    std::printf(
        "figure %s: %zu runs, %zu reads (%zu by the kernel's caches), %zu listings, %zu changes (%zu alone "
        "in their place), %zu fences, %zu power losses of the owner, longest wait of who is not cut off %.3f "
        "s\n",
        what, runs, reads, kernel, listings, changes, bound, fences, losses, double(longest_ns) / 1e9);
    std::fflush(stdout);
  }
};

const bool kLong = std::getenv("EFS_LONG") != nullptr;

}  // namespace

BOOST_AUTO_TEST_CASE(no_mount_sees_less_than_was_answered) {
  Total total;
  auto all = seeds(kLong ? 500 : 8);
  all.push_back(67);  // a file that one mount removes and others have open
  for (uint64_t seed : all) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      World world(seed);
      world.simulator.run_for(30 * kSecond);
      world.check("calm, seed " + std::to_string(seed));
      BOOST_TEST(world.truth.reads > 100u);
      BOOST_TEST(world.truth.kernel_reads > 10u);
      BOOST_TEST(world.truth.bound > 10u);
      total.add(world);
    }
  }
  total.print("calm", all.size());
}

BOOST_AUTO_TEST_CASE(no_mount_sees_less_than_was_answered_whatever_fails) {
  Total total;
  const auto all = seeds(kLong ? 1000 : 12);
  for (uint64_t seed : all) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      World world(seed);
      world.simulator.run_for(3 * kSecond);
      for (int round = 0; round < 8; ++round) world.trouble();
      world.check("faults, seed " + std::to_string(seed));
      // All is well: whatever still waits is answered, and everybody goes on.
      world.simulator.run_for(10 * kSecond);
      for (auto& mount : world.mounts) mount->stop();
      auto idle = [&] {
        return std::all_of(world.mounts.begin(), world.mounts.end(), [](auto& one) { return one->idle(); });
      };
      BOOST_CHECK_MESSAGE(world.simulator.run_until(idle, 10 * kSecond),
                          "seed " << seed << ": something never ends");
      world.check("healed, seed " + std::to_string(seed));
      total.add(world);
    }
  }
  total.print("faults", all.size());
}

// A mount that is heard and never says that it has forgotten is waited for as long as that may take, then it
// loses its leases; what it was given has ended by then. All others go on.
BOOST_AUTO_TEST_CASE(who_never_forgets_is_not_waited_for_without_end) {
  for (uint64_t seed : seeds(4)) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      World world(seed);
      world.simulator.run_for(5 * kSecond);
      world.check("before");
      Mount& deaf = *world.mounts[1];
      deaf.deaf = true;
      world.truth.settling_ns = 2 * kLeaseTerm;
      world.truth.whole_since_ns[2] = INT64_MAX;  // what it has buffered may come late
      for (auto& mount : world.mounts)
        mount->patience_ns = kFlushPatience + 2 * kRecallPatience + 4 * kLeaseTerm;
      for (int i = 0; i < 30; ++i) {
        const size_t before = world.mounts[0]->done + world.mounts[2]->done;
        world.simulator.run_for(kFlushPatience + 2 * kRecallPatience);
        BOOST_TEST(world.mounts[0]->done + world.mounts[2]->done > before);
      }
      BOOST_TEST(deaf.lost_for_good > 0u);
      deaf.stop();
      for (auto& mount : world.mounts) mount->stop();
      auto idle = [&] {
        return std::all_of(world.mounts.begin(), world.mounts.end(), [](auto& one) { return one->idle(); });
      };
      BOOST_CHECK(world.simulator.run_until(idle, kMinute));
      world.check("deaf");
    }
  }
}
