// Making and removing volumes, from whichever peer it is asked.
//
// Making: the parent volume creates the junction exclusively; the register takes the charter; the founder
// sees it and makes the volume; it answers. What fails half-way is taken back, and what is not taken back
// (this peer dies in between) is a junction whose volume is not in the register: the parent's owner removes
// those after a minute. Removing runs backwards.
// The loop's thread only; `done` runs once, on it.
#pragma once

#include <functional>

#include "peer/membership/membership.h"
#include "peer/volume_host.h"

namespace efs {

struct NewVolume {
  std::string prefix;  // canonical
  PeerId owner{};
  VolumePolicy policy{};
};

class VolumeAdmin {
 public:
  VolumeAdmin(Runtime& runtime, Membership& membership, VolumeHost& volumes, Rpc& rpc, const PeerId& self)
      : runtime_(runtime), membership_(membership), volumes_(volumes), rpc_(rpc), self_(self) {}

  using Done = std::function<void(Result<VolumeId>)>;
  void create(const NewVolume& wanted, Done done);
  void remove(const std::string& prefix, std::function<void(Status)> done);
  // Of what is written from then on.
  void set_policy(const std::string& prefix, const VolumePolicy& policy, std::function<void(Status)> done);

  // kDropVolume: the owner's part in a removal.
  void serve();

 private:
  struct Creation;
  void make_junction(std::shared_ptr<Creation> creation);
  void look_for_parent(std::shared_ptr<Creation> creation, Error error);
  void make_charter(std::shared_ptr<Creation> creation);
  void await_volume(std::shared_ptr<Creation> creation);
  void finish(std::shared_ptr<Creation> creation);
  void take_back(std::shared_ptr<Creation> creation, Error error);
  void unlink_junction(const VolumeFacts& volume, std::function<void(Status)> done);

  Runtime& runtime_;
  Membership& membership_;
  VolumeHost& volumes_;
  Rpc& rpc_;
  const PeerId self_;
};

}  // namespace efs
