// The owned volumes' requests from other peers: message kind kVolumeCall, the body a Request, the payload
// that of Write; the answer's body a Reply, its payload that of Read.
//
// Who may call: admitted peers, for the uids that `may_act` allows them; junctions and register entries only
// with `may_administer`. A caller's session ids are its own: another peer that learns one cannot use it.
// A volume that is not owned here answers Code::not_owner.
//
// The loop's thread only. What must not block the loop runs on its pool: VolumeSet outlives such work, which
// close() waits for.
#pragma once

#include "peer/net/rpc.h"
#include "peer/runtime/jobs.h"
#include "peer/volume/volume_set.h"

namespace efs {

inline constexpr uint16_t kVolumeCall = kVolumeKinds;

struct VolumeAccess {
  std::function<bool(const PeerId& caller, uint32_t uid)> may_act;
  std::function<bool(const PeerId& caller, const Request& request)> may_administer;
};

class VolumeService {
 public:
  VolumeService(Loop& loop, Rpc& rpc, VolumeSet& volumes, VolumeAccess access);
  ~VolumeService();
  // Refuses what comes from now on; `closed` once nothing is under way.
  void close(Task closed);

 private:
  void serve(const Caller& caller, const Bytes& body, Bytes payload, Responder responder);
  Reply refuse(const Caller& caller, const Request& request) const;

  Rpc& rpc_;
  VolumeSet& volumes_;
  Jobs jobs_;
  const VolumeAccess access_;
};

}  // namespace efs
