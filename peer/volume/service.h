// The owned volumes' requests from other peers: message kind kVolumeCall, the body a Request, the payload
// that of Write; the answer's body a Reply, its payload that of Read.
//
// Who may call: admitted peers, for the uids that `may_act` allows them; junctions and register entries only
// with `may_administer`. A caller's session ids are its own: another peer that learns one cannot use it; and
// it has kMaxSessionsOfPeer of a volume at most, of those that all peers share. A session whose Hello was
// answered and that can be asked to forget is asked over its peer's connection; one that does not answer is
// fenced once its leases must have ended. After a restart no change is answered before the leases of before
// must have ended. Locks of mounts that are gone are freed for others (Locks::tick). A volume that is not
// owned here answers Code::not_owner.
//
// The loop's thread only. What must not block the loop runs on its pool: VolumeSet outlives such work, which
// close() waits for.
#pragma once

#include <map>

#include "peer/net/rpc.h"
#include "peer/runtime/jobs.h"
#include "peer/volume/inline_reads.h"
#include "peer/volume/volume_set.h"

namespace efs {

inline constexpr uint16_t kVolumeCall = kVolumeKinds;
inline constexpr uint16_t kVolumeRecall =
    kVolumeKinds + 1;  // from the owner: a Recall; answered when forgotten

// A session that is heard and does not forget, or was asked for its bytes and sends none, is fenced after
// this.
inline constexpr int64_t kRecallPatience = 2 * kLeaseTerm;
inline constexpr int64_t kFlushPatience = 10 * kSecond;
inline constexpr int64_t kLongestFlush = 5 * kMinute;  // then it is fenced, whatever it still sends

inline constexpr size_t kMaxSessionsOfPeer = 64;  // of one volume

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
  void serve(const Caller& caller, const Bytes& body, Payload payload, Responder responder);
  std::optional<VolumeAnswer> read_cached(SoleReplica& replica, const Request& request);
  Reply refuse(const Caller& caller, const Request& request) const;
  bool may_begin(const PeerId& caller, const SessionId& session, const SoleReplica& replica);
  void attach(const PeerId& caller, const SessionId& named, const SessionId& session,
              const std::shared_ptr<SoleReplica>& replica);
  void wait_out_old_leases();
  void tick_locks();

  Loop& loop_;
  Rpc& rpc_;
  VolumeSet& volumes_;
  Jobs jobs_;
  const VolumeAccess access_;
  struct Recalls;
  std::shared_ptr<Recalls> recalls_;
  // How many Hellos of each session are under way; also of some that have ended.
  std::map<std::pair<PeerId, VolumeId>, std::map<SessionId, unsigned>> sessions_;
  InlineReads inline_reads_;
  Timer old_leases_, lock_tick_;
};

}  // namespace efs
