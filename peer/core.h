// The parts of one peer, as its commands see them. References: all owned by Peer, all on its loop's thread.
#pragma once

#include "peer/data_directory.h"
#include "peer/locator.h"
#include "peer/membership/membership.h"
#include "peer/mounts.h"
#include "peer/options.h"
#include "peer/status.h"
#include "peer/volume_admin.h"
#include "peer/volume_host.h"

namespace efs {

struct Core {
  Runtime& runtime;
  DataDirectory& data;
  PeerOptions& options;
  const KeyPair& key;
  PeerId self{};
  Membership& membership;
  Rpc& rpc;
  Locator& locator;
  VolumeHost& volumes;
  VolumeAdmin& admin;
  Mounts& mounts;
  std::function<PeerStatus()> own_status;
  std::function<std::vector<std::string>()> own_reasons;  // for `efs status`
  std::function<void()> on_left;  // this peer is no member any more, as it asked: stop it
  bool leaving = false;           // it asks, and is to be answered before it stops
};

}  // namespace efs
