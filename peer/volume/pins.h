// Chunks that were stored and are not named yet are not to be freed. Of one thread.
#pragma once

#include "peer/volume/sole_replica.h"

namespace efs {

struct SoleReplica::Pins {
  explicit Pins(SoleReplica& owner) : replica(owner) {}
  Pins(const Pins&) = delete;
  Pins& operator=(const Pins&) = delete;
  ~Pins() { release(); }
  void add(const ChunkId& chunk) {
    std::lock_guard lock(replica.pin_mutex_);
    ++replica.pins_[chunk];
    chunks.push_back(chunk);
  }
  void release() {
    std::lock_guard lock(replica.pin_mutex_);
    for (const ChunkId& chunk : chunks) {
      auto found = replica.pins_.find(chunk);
      if (--found->second == 0) replica.pins_.erase(found);
    }
    chunks.clear();
  }
  SoleReplica& replica;
  std::vector<ChunkId> chunks;
};

}  // namespace efs
