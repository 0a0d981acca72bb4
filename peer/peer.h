// One peer: everything that a server of the mesh is, as one object.
//
// start(): the register and the owned volumes are opened (the log replayed), the network listened to, the
// control socket opened, the tree mounted; then it serves. stop(): unmounts, says goodbye, syncs, closes,
// within 5 s. Destroying it without stop() is what a crash is; the disk is left as it is.
// Made, called and destroyed on its loop's thread.
#pragma once

#include <functional>
#include <memory>

#include "peer/data_directory.h"
#include "peer/environments.h"
#include "peer/options.h"
#include "peer/volume/volume_set.h"

namespace efs {

struct Core;

// What a peer is given beside its runtime: simulated ones have no kernel to mount into.
struct PeerParts {
  OpenEnvironment environments;
  std::shared_ptr<VolumeEnvironments> volumes;
  bool kernel = true;  // control socket and mounts
};
PeerParts real_peer_parts(const std::string& data_directory);

class Peer {
 public:
  // References outlive it. `data` is complete.
  Peer(Runtime& runtime, DataDirectory& data, const PeerOptions& options, PeerParts parts);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // `started` runs once: it serves and is mounted, or why not.
  void start(std::function<void(Status)> started);
  void stop(std::function<void()> stopped);
  // This peer is no member of the mesh any more: it is to be stopped, and its directory marked as left. `why`
  // is for people. May run before `started`, and more than once.
  void on_left(std::function<void(const std::string& why)> left);
  // Its parts, from when `started` had no error until it is destroyed.
  Core& core();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace efs
