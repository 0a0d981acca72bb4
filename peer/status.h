// How this peer, and the mesh as this peer sees it, fare.
//
// gather_status() asks every admitted peer at once and waits at most kStatusTimeout for those that do not
// answer; what it reports is what was answered now, not what a record said earlier. The loop's thread only.
#pragma once

#include <functional>
#include <map>

#include "peer/membership/membership.h"

namespace efs {

inline constexpr int64_t kStatusTimeout = 2 * kSecond;
inline constexpr int64_t kClockWarning = 2 * kSecond;

struct PeerView {
  PeerFacts facts;  // as the register had them when it was asked
  bool self = false;
  std::optional<PeerStatus> status;  // nothing: it did not answer
  std::string why;                   // then
  std::optional<int64_t> rtt_ns, wall_offset_ns;
  std::string address;
};
struct MeshView {
  std::vector<PeerView> peers;
  // Of a volume, by its owner.
  std::map<Id, VolumeStatus> volumes;
};

// `own` is this peer's own status. `done` runs once, on the loop.
void gather_status(Runtime& runtime, Membership& membership, Rpc& rpc, const PeerId& self, PeerStatus own,
                   std::function<void(MeshView)> done);

// The answer to kPeerStatus.
using OwnStatus = std::function<PeerStatus()>;
void serve_status(Rpc& rpc, OwnStatus own);

// The JSON of `efs status` (docs/commands.md): health, reasons, peers, volumes. `own_reasons` are this
// machine's: a root key left lying, a store that is not mounted. Text that is no UTF-8 is shown with U+FFFD.
std::string status_json(const MeshView& view, const RegisterState& state,
                        const std::vector<std::string>& own_reasons);

}  // namespace efs
