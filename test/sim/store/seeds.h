// Which seeds a property test runs: 100 fixed ones and a fresh one (EFS_LONG=1: 1,000 and 20), or the one
// in EFS_SEED. A failure prints its seed; EFS_SEED=... runs it again.
#pragma once

#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

namespace efs::test {

inline std::vector<uint64_t> seeds() {
  if (const char* one = std::getenv("EFS_SEED")) return {std::strtoull(one, nullptr, 10)};
  bool longer = std::getenv("EFS_LONG") != nullptr;
  std::vector<uint64_t> all;
  for (uint64_t seed = 1; seed <= (longer ? 1000u : 100u); ++seed) all.push_back(seed);
  std::random_device fresh;
  for (int i = 0; i < (longer ? 20 : 1); ++i) all.push_back(fresh());
  BOOST_TEST_MESSAGE("fresh seed: " << all.back());
  return all;
}

// Choices of a test, from its seed.
class Choice {
 public:
  explicit Choice(uint64_t seed) : engine_(seed) {}
  uint64_t below(uint64_t bound) { return engine_() % bound; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace efs::test
