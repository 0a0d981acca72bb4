// What it shows: a mesh of 10,000 peers forms from one seed, each joining through a peer that it was told of;
// afterwards lookups of random ids end at the peers that really are closest.
// How: ten joins a second, then ten minutes; hops, messages and bytes are measured and printed.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdio>

#include "test/sim/dht/mesh.h"

namespace efs::dht {
namespace {

void bootstrap_run(uint64_t seed, size_t peers, size_t lookups) {
  std::printf("bootstrap_seed %lu\nbootstrap_peers %zu\n", seed, peers);
  Mesh mesh(seed);
  for (size_t i = 0; i < peers; ++i) {
    mesh.at(int64_t(i) * 100 * kMillisecond, [&mesh] {
      std::vector<Contact> seeds;
      if (!mesh.hosts().empty()) seeds.push_back(mesh.random_up().contact);
      mesh.start(mesh.add(), seeds);
    });
  }
  mesh.run_for(int64_t(peers) * 100 * kMillisecond);
  std::printf("bootstrap_messages_per_join %.1f\n", double(mesh.messages()) / double(peers));
  mesh.run_for(10 * kMinute);
  std::printf("bootstrap_messages_per_peer_after_10_minutes %.1f\n", double(mesh.messages()) / double(peers));
  std::printf("bootstrap_bytes_per_peer_after_10_minutes %.0f\n", double(mesh.bytes()) / double(peers));

  std::vector<int> hops;
  size_t exact = 0, requests = 0, joined = 0, known = 0;
  double estimate = 0;
  for (auto& host : mesh.hosts()) {
    joined += host->node->joined();
    known += host->node->known();
    estimate += double(host->node->mesh_size());
  }
  for (size_t i = 0; i < lookups; ++i) {
    Id target;
    mesh.random().fill(target);
    auto& asker = mesh.random_up();
    std::vector<Id> truth;
    for (auto& host : mesh.hosts()) {
      if (host.get() != &asker) truth.push_back(host->contact.id);
    }
    std::partial_sort(truth.begin(), truth.begin() + kReplicas, truth.end(),
                      [&](const Id& a, const Id& b) { return closer(target, a, b); });
    truth.resize(kReplicas);
    mesh.with(asker, [&](Node& node, Instant now) {
      node.find_closest(
          target,
          [&, truth](const NodeResult& result) {
            hops.push_back(result.hops);
            requests += result.requests;
            for (const auto& contact : result.closest)
              exact += size_t(std::count(truth.begin(), truth.end(), contact.id));
          },
          now);
    });
    mesh.run_for(50 * kMillisecond);
  }
  mesh.run_for(30 * kSecond);
  std::sort(hops.begin(), hops.end());
  BOOST_REQUIRE_EQUAL(hops.size(), lookups);
  std::printf("bootstrap_lookups %zu\nbootstrap_k_closest_found %.4f\n", lookups,
              double(exact) / double(lookups * kReplicas));
  std::printf("bootstrap_hops_median %d\nbootstrap_hops_p99 %d\nbootstrap_requests_per_lookup %.1f\n",
              hops[hops.size() / 2], hops[hops.size() * 99 / 100], double(requests) / double(lookups));
  std::printf("bootstrap_contacts_known_mean %.1f\nbootstrap_estimate_mean %.0f\nbootstrap_trace %016lx\n",
              double(known) / double(peers), estimate / double(peers), mesh.trace_hash());
  std::fflush(stdout);
  BOOST_TEST(joined == peers);
  // One request in fifty is lost, and whoever does not answer is not among the closest.
  BOOST_TEST(double(exact) >= 0.95 * double(lookups * kReplicas));
  BOOST_TEST(hops[hops.size() / 2] <= 4);
  BOOST_TEST(estimate / double(peers) > 0.7 * double(peers));
  BOOST_TEST(estimate / double(peers) < 1.5 * double(peers));
}

BOOST_AUTO_TEST_CASE(a_large_mesh_forms) {
  bootstrap_run(3, long_form() ? 10000 : 150, long_form() ? 2000 : 200);
}

}  // namespace
}  // namespace efs::dht
