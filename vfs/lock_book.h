// What a mount has to let go of: which owners (as the kernel names them) may hold locks of which files, and
// which wait for one. The volumes' owners know what exactly is held.
//
// An owner is noted when it first asks, and forgotten when the kernel says that it let go of the file. Files
// that were locked once are remembered for a while: only their closes need a word from the kernel
// (FOPEN_NOFLUSH). Any thread. Bounds: the programs' own; kLockedFiles.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "peer/volume/client.h"

namespace efs {

inline constexpr size_t kLockedFiles = 1 << 14;  // by node modulo its size: a cache

class LockBook {
 public:
  struct Holder {
    uint64_t node = 0;
    bool flock = false;
    uint64_t owner = 0;
    auto operator<=>(const Holder&) const = default;
  };
  struct Wait {
    std::shared_ptr<VolumeClient> client;
    uint64_t ticket = 0;
  };

  // It asks for a lock: the ticket for that. `answered` when it has got it, or not: what it let go of while
  // it waited was not this one.
  uint64_t ask(const Holder& holder, const std::shared_ptr<VolumeClient>& client);
  void answered(uint64_t ticket, bool granted);
  // It lets go of all it has: true when it may have any.
  bool take(const Holder& holder);
  bool was_locked(uint64_t node) const;
  bool has(const Holder& holder) const;  // it may have any

  // The mount ends: everything, once.
  std::map<Holder, std::shared_ptr<VolumeClient>> take_all();
  std::vector<Wait> take_waits();

 private:
  mutable std::mutex mutex_;
  uint64_t last_ticket_ = 0;
  std::map<Holder, std::shared_ptr<VolumeClient>> holders_;
  std::map<uint64_t, std::pair<Holder, std::shared_ptr<VolumeClient>>> waits_;
  std::vector<uint64_t> locked_ = std::vector<uint64_t>(kLockedFiles);
};

}  // namespace efs
