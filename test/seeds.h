// The seeds of a simulation's short form: fixed ones and a fresh one, or the one in EFS_SEED. The last is
// printed as "seed N". For test programs alone; std::getenv: no other thread changes the environment.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace efs::test {

inline std::vector<uint64_t> seeds(size_t fixed) {
  std::vector<uint64_t> all;
  if (const char* one = std::getenv("EFS_SEED")) {
    all.push_back(std::strtoull(one, nullptr, 10));
  } else {
    for (uint64_t seed = 1; seed <= fixed; ++seed) all.push_back(seed);
    all.push_back(std::random_device()());
  }
  std::printf("seed %llu\n", static_cast<unsigned long long>(all.back()));
  std::fflush(stdout);
  return all;
}

}  // namespace efs::test
