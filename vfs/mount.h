// The tree as a directory of this machine: a FUSE mount.
//
// Constructed by start() on any thread; from then on its own threads serve the kernel (docs/vfs.md has the
// table). Destroying it unmounts: what is buffered is sent (at most kUnmountPatience), calls that still wait
// are answered EINTR, files that programs hold open there fail from then on. It never hangs on an owner.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "peer/runtime/logger.h"
#include "peer/runtime/loop.h"
#include "vfs/tree.h"

namespace efs {

inline constexpr int64_t kUnmountPatience = 3 * kSecond;

struct MountOptions {
  std::string directory;
  bool read_only = false;
  bool allow_other = true;        // as root; others mount for themselves alone
  bool suid_and_devices = false;  // off: nosuid,nodev
  unsigned threads = 4;           // 1..kMaxThreads
  // A thread looks for the next request this long before it sleeps (and only one does): faster, at the price
  // of a processor for that long after each request. 0: sleep at once.
  int64_t poll_ns = 30 * kMicrosecond;
  int64_t unreachable_timeout_ns = 60 * kSecond;  // what operations wait for an owner; 0: for ever
  // The most that the kernel may believe entries and attributes under a lease: what others change is
  // recalled, so this is the backstop.
  int64_t owner_timeout_ns = 5 * kSecond;
  // Where the answers of other peers come: while it is awake it looks for requests, too. Outlives the mount.
  Loop* loop = nullptr;
};

class Mount {
 public:
  // Why a mount ended: the empty text when it was asked to, else what happened, for people.
  using Ended = std::function<void(const std::string& reason)>;

  // Mounts and serves. A stale mount of efs at the path (its peer was killed) is replaced. A missing
  // directory is created when its parent is there and we are root. Errors: not_found, not_directory,
  // not_empty, busy (something else is mounted there), not_permitted, io; the message says what to do.
  // `ended` runs once on a thread of the mount, also when somebody unmounts it from outside; it may post, and
  // must not destroy the Mount there.
  static Result<std::unique_ptr<Mount>> start(const MountOptions& options, VolumeDirectory& directory,
                                              const Clock& clock, Logger& log, Ended ended);
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  // Begins to unmount and returns; `ended` tells when it is done. Any thread.
  void unmount();
  const std::string& directory() const;

 private:
  struct Impl;
  explicit Mount(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace efs
