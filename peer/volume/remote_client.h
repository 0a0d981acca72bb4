// A volume that another peer owns, over Rpc.
//
// A request goes out as soon as the session with the owner stands (Hello with what is held open); it is sent
// again, under the same sequence, when its connection breaks or its owner restarts, until its deadline.
//   no owner answers         waits, asks `locate` again, then Code::unreachable
//   the owner has restarted  Hello, then again; a new verifier is told first
//   the session has ended    Hello begins it anew; a change that was sent before and not answered then
//                            answers Code::unreachable, since nobody knows whether it was made
//   leases                   renewed every kLeaseRenewal as long as some were given and used lately; lost
//   with
//                            the session, the owner, or its restart
//   locks                    said again to an owner that has restarted; renewed as leases are. Waiting for
//                            one ends with its deadline only while the owner does not answer
//   interrupted              at once what is not sent or only reads; a change on its way is given
//                            kInterruptGrace for its answer. What a Create has opened that was given up is
//                            closed
//
// call() and poke() from any thread; callbacks on the loop's. Constructed and destroyed on the loop's
// thread; what is unanswered then gets Code::closed. Bound: kMaxPendingCalls.
#pragma once

#include <map>

#include "peer/net/rpc.h"
#include "peer/volume/client.h"

namespace efs {

inline constexpr size_t kMaxPendingCalls = 1 << 16;
inline constexpr int64_t kInterruptGrace = 2 * kSecond;

struct VolumeLocator {
  // The owners as far as known here, the likeliest first.
  std::function<std::vector<PeerId>(const VolumeId&)> locate;
  // Those did not answer, or are not the owners: find out anew, in the background. May be empty.
  std::function<void(const VolumeId&)> refresh;
};

// Takes the owners' recalls (kVolumeRecall) to the sessions that they are for, and to all of them that a peer
// is connected anew. One a peer; the loop's thread.
class RecallRouter {
 public:
  using Handler = std::function<void(const PeerId& from, const Recall&, std::function<void()> forgotten)>;
  using UpHandler = std::function<void(const PeerId&)>;
  static std::shared_ptr<RecallRouter> make(Loop& loop, Rpc& rpc);
  void add(const SessionId& session, Handler handler, UpHandler up);
  void remove(const SessionId& session);
  void on_peer_up(const PeerId& peer);

 private:
  struct Handlers {
    Handler recall;
    UpHandler up;
  };
  std::map<SessionId, Handlers> handlers_;
};

class RemoteVolume final : public VolumeClient {
 public:
  // `timeout_ns`: of calls that name none; 0: for ever. Without a router it is never leased anything.
  RemoteVolume(Loop& loop, Rpc& rpc, Random& random, VolumeLocator locator, const VolumeId& id,
               VolumeNumber number, int64_t timeout_ns, std::shared_ptr<RecallRouter> router = nullptr);
  ~RemoteVolume() override;

  void call(const Credentials& who, RequestBody body, Payload payload, const Options& options,
            Done done) override;
  void poke() override;
  void close() override;
  const VolumeId& id() const override;
  VolumeNumber number() const override;
  bool local() const override { return false; }
  // Once, before the first call that is to be leased anything.
  void on_recall(RecallListener listener, std::function<bool(InodeNumber)> knows) override;
  void on_leases_lost(std::function<void(bool for_good)> listener) override;
  void use_leases() override;
  void on_renewal(std::function<void()> listener) override;
  int64_t lease_until_ns() const override;
  bool may_buffer(InodeNumber) override { return false; }  // LeaseCache knows
  void on_new_verifier(std::function<void(Resending)> listener) override;
  OwnersLog owners_log() const override;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace efs
