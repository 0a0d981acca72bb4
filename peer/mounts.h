// The mounts of this peer. Mounting and unmounting block, and run on the pool; the loop's thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "peer/options.h"
#include "peer/runtime/jobs.h"
#include "peer/runtime/runtime.h"
#include "vfs/mount.h"

namespace efs {

class Mounts {
 public:
  // Each mount has a directory of volumes of its own; references outlive this.
  using MakeDirectory = std::function<std::shared_ptr<VolumeDirectory>()>;
  Mounts(Runtime& runtime, MakeDirectory make_directory, const PeerOptions& options)
      : runtime_(runtime),
        make_directory_(std::move(make_directory)),
        options_(options),
        jobs_(runtime.loop),
        alive_(std::make_shared<bool>(true)) {}
  ~Mounts();

  using Done = std::function<void(Status)>;
  void mount(const std::string& at, bool read_only, Done done);
  // Code::not_found when nothing of this peer is mounted there.
  void unmount(const std::string& at, Done done);
  // Nothing can be mounted from now on; `done` once nothing is mounted, being mounted or unmounted. Then, or
  // never, this may be destroyed.
  void unmount_all(std::function<void()> done);
  std::map<std::string, bool> list() const;  // directory -> read-only

 private:
  struct Entry {
    std::shared_ptr<VolumeDirectory> directory;  // outlives the mount
    std::unique_ptr<Mount> mount;                // empty while it is being mounted
    bool read_only = false;
    uint64_t number = 0;
  };
  void ended(const std::string& at, uint64_t number, const std::string& reason);
  void destroy(Entry entry, std::function<void()> done);

  Runtime& runtime_;
  MakeDirectory make_directory_;
  const PeerOptions& options_;
  Jobs jobs_;
  bool closing_ = false;
  std::map<std::string, Entry> mounts_;
  uint64_t last_number_ = 0;
  std::shared_ptr<bool> alive_;
};

}  // namespace efs
