// What it shows: with 20% of the peers leaving and joining every hour, at least 99.9% of the lookups of
// records whose publishers live succeed, in a median of at most 4 hops; and a partition of an hour heals by
// itself: afterwards both sides find each other's records, those published meanwhile included.
// How: crashes without goodbye and joins at random moments, half of the joins new peers, half old ones that
// come back with what they held; 1% of messages lost; clocks up to two minutes apart. Lookups from random
// peers for random live publishers that have been in the mesh for a minute.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <numeric>

#include "test/sim/dht/mesh.h"

namespace efs::dht {
namespace {

struct Tally {
  size_t asked = 0, found = 0, stale = 0;
  std::vector<int> hops;
  double success() const { return asked == 0 ? 0 : double(found) / double(asked); }
  int percentile(double part) {
    if (hops.empty()) return 0;
    std::sort(hops.begin(), hops.end());
    return hops[std::min(hops.size() - 1, size_t(double(hops.size()) * part))];
  }
};

class Churn {
 public:
  Churn(uint64_t seed, size_t peers) : mesh_(seed), peers_(peers) {}

  void grow() {
    for (size_t i = 0; i < peers_; ++i) {
      mesh_.at(int64_t(i) * 300 * kMillisecond, [this] { join(mesh_.add()); });
    }
    mesh_.run_for(int64_t(peers_) * 300 * kMillisecond + 10 * kMinute);
  }

  // `per_hour` of the peers leave, and as many join, at random moments of this hour.
  void schedule_hour(double per_hour) {
    const auto moment = [&] { return mesh_.now_ns() + int64_t(mesh_.random().below(uint64_t(kHour))); };
    for (size_t i = 0; i < size_t(double(peers_) * per_hour); ++i) {
      mesh_.at(moment(), [this] {
        auto& host = mesh_.random_up();
        gone_.push_back(host.index);
        mesh_.stop(host);
      });
      mesh_.at(moment(), [this] {
        if (gone_.size() < 20 || mesh_.random().chance(0.5)) return join(mesh_.add());
        const size_t pick = mesh_.random().below(gone_.size());
        auto& host = *mesh_.hosts()[gone_[pick]];
        gone_.erase(gone_.begin() + std::ptrdiff_t(pick));
        join(host);
      });
    }
  }

  void schedule_lookups(size_t count, int64_t within_ns, Tally& tally, bool across = false) {
    for (size_t i = 0; i < count; ++i) {
      const int64_t at = mesh_.now_ns() + int64_t(mesh_.random().below(uint64_t(within_ns)));
      mesh_.at(at, [this, &tally, across] { look(tally, across); });
    }
  }

  void look(Tally& tally, bool across) {
    for (int tries = 0; tries < 1000; ++tries) {
      auto& publisher = mesh_.random_up();
      auto& asker = mesh_.random_up();
      if (publisher.version == 0 || publisher.started_ns + kMinute > mesh_.now_ns()) continue;
      if (across && side_[publisher.index % 2] == side_[asker.index % 2]) continue;
      ++tally.asked;
      mesh_.with(asker, [&](Node& node, Instant now) {
        node.lookup(
            key_of(publisher.contact.id), {},
            [&tally, version = publisher.version](const LookupResult& result) {
              if (!result.record) return;
              ++tally.found;
              tally.stale += result.record->version < version ? 1 : 0;
              tally.hops.push_back(result.hops);
            },
            now);
      });
      return;
    }
  }

  void split(bool apart) {
    for (auto& host : mesh_.hosts()) host->group = apart ? int(host->index % 2) : 0;
  }

  Mesh& mesh() { return mesh_; }

 private:
  std::vector<Contact> some_contacts() {
    std::vector<Contact> seeds;
    for (auto& host : mesh_.hosts()) {
      if (host->node && host->node->known() > 0) seeds.push_back(host->contact);
    }
    std::vector<Contact> chosen;
    for (int i = 0; i < 3 && !seeds.empty(); ++i) chosen.push_back(seeds[mesh_.random().below(seeds.size())]);
    if (chosen.empty()) {
      for (auto& host : mesh_.hosts()) {
        if (host->node) chosen.push_back(host->contact);
      }
    }
    return chosen;
  }

  void join(Mesh::Host& host) {
    mesh_.start(host, some_contacts());
    host.group = 0;
    renew(host, host.run, 5 * kSecond);
  }
  // A publisher renews its record well before it ends.
  void renew(Mesh::Host& host, uint32_t run, int64_t after_ns) {
    mesh_.at(mesh_.now_ns() + after_ns, [this, &host, run] {
      if (!host.node || host.run != run) return;
      mesh_.publish(host);
      renew(host, run, host.node->record_ttl_ns() / 3);
    });
  }

  Mesh mesh_;
  size_t peers_;
  std::vector<size_t> gone_;
  int side_[2] = {0, 1};
};

void print(const char* name, Tally& tally) {
  std::printf("%s_lookups %zu\n%s_success %.5f\n%s_stale %zu\n", name, tally.asked, name, tally.success(),
              name, tally.stale);
  std::printf("%s_hops_median %d\n%s_hops_p99 %d\n", name, tally.percentile(0.5), name,
              tally.percentile(0.99));
}

uint64_t churn_run(uint64_t seed, size_t peers, int hours, size_t lookups_an_hour) {
  std::printf("churn_seed %lu\nchurn_peers %zu\nchurn_hours %d\n", seed, peers, hours);
  Churn churn(seed, peers);
  churn.grow();
  auto& mesh = churn.mesh();
  const uint64_t messages = mesh.messages(), bytes = mesh.bytes();
  Tally tally;
  for (int hour = 0; hour < hours; ++hour) {
    churn.schedule_hour(0.2);
    churn.schedule_lookups(lookups_an_hour, kHour - 10 * kSecond, tally);
    mesh.run_for(kHour);
  }
  print("churn", tally);
  const double peer_seconds = double(peers) * hours * 3600;
  size_t held = 0, known = 0, up = 0;
  uint64_t sent[8] = {};
  for (auto& host : mesh.hosts()) {
    if (!host->node) continue;
    ++up;
    held += host->node->holdings().size();
    known += host->node->known();
    for (size_t kind = 0; kind < 8; ++kind) sent[kind] += host->node->stats().sent[kind];
  }
  const double sum = double(std::accumulate(sent, sent + 8, uint64_t(0)));
  const char* names[] = {"", "ping", "find_node", "find_value", "store", "offer"};
  for (size_t kind = 1; kind <= 5; ++kind)
    std::printf("churn_share_of_%s %.3f\n", names[kind], double(sent[kind]) / sum);
  std::printf("churn_messages_per_peer_second %.3f\nchurn_bytes_per_peer_second %.1f\n",
              double(mesh.messages() - messages) / peer_seconds, double(mesh.bytes() - bytes) / peer_seconds);
  std::printf("churn_records_held_mean %.1f\nchurn_contacts_known_mean %.1f\n", double(held) / double(up),
              double(known) / double(up));
  std::printf("churn_trace %016lx\n", mesh.trace_hash());
  std::fflush(stdout);
  BOOST_TEST(tally.asked >= lookups_an_hour * size_t(hours) * 9 / 10);
  BOOST_TEST(tally.success() >= 0.999);
  BOOST_TEST(tally.percentile(0.5) <= 4);
  return mesh.trace_hash();
}

BOOST_AUTO_TEST_CASE(lookups_succeed_under_churn) {
  if (long_form()) {
    churn_run(1, 1000, 24, 2000);
  } else {
    churn_run(1, 80, 2, 300);
    churn_run(fresh_seed(), 60, 2, 300);
  }
}

BOOST_AUTO_TEST_CASE(one_seed_gives_one_trace) {
  const uint64_t seed = fresh_seed();
  BOOST_TEST(churn_run(seed, 25, 1, 50) == churn_run(seed, 25, 1, 50));
  BOOST_TEST(churn_run(seed, 25, 1, 50) != churn_run(seed + 1, 25, 1, 50));
}

void partition_run(uint64_t seed, size_t peers, int64_t heal_within_ns) {
  std::printf("partition_seed %lu\npartition_peers %zu\n", seed, peers);
  Churn churn(seed, peers);
  churn.grow();
  auto& mesh = churn.mesh();
  churn.split(true);
  // Everybody publishes a new version in the hour: known on its own side only.
  for (auto& host : mesh.hosts()) {
    mesh.at(mesh.now_ns() + int64_t(mesh.random().below(uint64_t(kHour))),
            [&mesh, host = host.get()] { mesh.publish(*host); });
  }
  mesh.run_for(kHour);
  churn.split(false);
  // How long until the sides see each other: a minute at a time.
  int64_t healed_ns = 0;
  for (; healed_ns < heal_within_ns; healed_ns += kMinute) {
    Tally tally;
    churn.schedule_lookups(300, 30 * kSecond, tally, true);
    mesh.run_for(kMinute);
    if (tally.success() >= 0.999 && tally.stale == 0) break;
  }
  std::printf("partition_healed_after_minutes %ld\n", long(healed_ns / kMinute));
  BOOST_TEST(healed_ns < heal_within_ns);
  Tally after;
  churn.schedule_lookups(1000, 5 * kMinute, after, true);
  mesh.run_for(6 * kMinute);
  print("partition_after", after);
  std::fflush(stdout);
  BOOST_TEST(after.success() >= 0.999);
  BOOST_TEST(after.stale <= after.asked / 1000);
}

BOOST_AUTO_TEST_CASE(a_partition_heals_by_itself) {
  if (long_form()) {
    partition_run(2, 1000, 60 * kMinute);
  } else {
    partition_run(2, 60, 60 * kMinute);
  }
}

}  // namespace
}  // namespace efs::dht
