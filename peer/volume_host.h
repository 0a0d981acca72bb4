// The volumes as this peer sees them: those that it owns, and clients for every one of the mesh.
//
// The register says which volumes there are and who owns each. Owned ones are opened at start, made when
// their charter arrives (once: a volume that was made and whose rows are gone is reported, never made anew),
// and dropped when the register drops them.
//
// A VolumeView is one user's clients, one a volume, for as long as it lives: each mount has its own, because
// what is held open, cached and unacknowledged is counted by client; the tools share one.
//
// Threads: what VolumeDirectory declares from any; the rest on the loop's.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "peer/junctions.h"
#include "peer/membership/membership.h"
#include "peer/options.h"
#include "peer/volume/checkpointer.h"
#include "peer/volume/remote_client.h"
#include "peer/volume/service.h"
#include "peer/volume/volume_set.h"
#include "vfs/tree.h"

namespace efs {

// Who asks when the peer itself does.
inline Credentials root_credentials() {
  return {0, 0, {}, true};
}

// The file `volumes-made` of a data directory: volumes that were ever made here, so that one whose metadata
// is lost is not made anew. Code::corrupt, Code::io.
Result<std::set<VolumeId>> read_volumes_made(FileSystem& files, const std::string& data_directory);

class VolumeHost;
inline constexpr int64_t kOrphanAfter = kMinute;

class VolumeView final : public VolumeDirectory {
 public:
  VolumeView(VolumeHost& host, uint8_t number) : host_(host), number_(number) {}
  ~VolumeView() override;  // closes its clients
  std::shared_ptr<VolumeClient> client(VolumeNumber number) override;
  std::shared_ptr<VolumeClient> client(const VolumeId& id);
  Places places() override;
  MeshSpace space() override;

 private:
  friend class VolumeHost;
  VolumeHost& host_;
  void follow();  // the loop's thread
  void close();   // likewise
  const uint8_t number_;
  std::mutex mutex_;
  std::map<VolumeNumber, std::shared_ptr<VolumeClient>> clients_;
};

struct VolumeHostParts {
  Runtime& runtime;
  Membership& membership;
  Rpc& rpc;
  PeerId self{};
  const PeerOptions& options;
  std::string data;  // the directory
  std::shared_ptr<MetaEnvironment> chunk_index;
  VolumeEnvironments& environments;
  bool threads = true;                              // false: ticked by a timer (simulation)
  std::function<void(const PeerId&)> ensure_route;  // asked for when a volume's owner is to be called
  RootAttributes root;  // of volumes made here: a peer that is not root's makes them its user's
};

class VolumeHost {
 public:
  // Opens stores, log and owned volumes, replaying the log. What `parts` refers to outlives it.
  static Result<std::unique_ptr<VolumeHost>> open(VolumeHostParts parts);
  ~VolumeHost();

  // The view is destroyed on the loop's thread, and before this.
  std::shared_ptr<VolumeView> make_view();
  std::vector<std::shared_ptr<SoleReplica>> owned() const { return volumes_->all(); }
  // The tools' own.
  std::shared_ptr<VolumeClient> client(const VolumeId& id) { return view_->client(id); }
  // Asks a volume without blocking the loop, wherever its owner is; `done` on the loop.
  void call(const VolumeId& id, const Credentials& who, RequestBody body, Payload payload,
            const VolumeClient::Options& options, VolumeClient::Done done);
  void resolve(const std::string& path, const Credentials& who, bool follow,
               std::function<void(Result<ResolvedPath>)> done);

  // After the register changed, and once after open().
  void follow_register();
  void on_peer_up(const PeerId& peer);
  // Entries of the register that the root volume holds from `from` on, if it is owned here.
  Result<std::vector<Bytes>> register_entries(uint64_t from);
  // Membership::Order: makes an entry durable in the root volume.
  void order(uint64_t index, Bytes entry, std::function<void(Status)> done);
  // Refuses requests for a while, if the volume is empty. Code::not_empty, not_found.
  Status close_for_removal(const VolumeId& id);
  void set_mesh_space(const MeshSpace& space);
  // Now and then: junctions in owned volumes whose volume has not been in the register for kOrphanAfter (who
  // made or removed it died on the way) are removed, after the root volume's owner was asked.
  void sweep_junctions();

  ChunkStore& chunks() { return *chunks_; }
  std::vector<VolumeStatus> statuses();
  std::vector<StoreStatus> stores();
  uint64_t available_bytes() { return chunks_->available_bytes(); }
  // Answers what waits for other owners with Code::closed, and asks them no more.
  void close_clients();
  // Refuses requests, waits for those under way, checkpoints, syncs and closes what is owned; `done` on the
  // loop. Then destroy it, before the Rpc.
  void stop(std::function<void()> done);

 private:
  friend class VolumeView;
  explicit VolumeHost(VolumeHostParts parts);
  Status start();
  VolumeAccess access();
  Status make_owned(const VolumeFacts& volume);
  Status note_made(const VolumeId& id);
  void follow_owners(const std::set<PeerId>& owners);
  void drop_removed(const std::map<VolumeId, VolumeNumber>& there);
  std::shared_ptr<VolumeClient> make_client(VolumeNumber number, uint8_t view);
  uint8_t free_view_number() const;
  bool stopping_ = false;
  void tick();

  VolumeHostParts parts_;
  Jobs jobs_;
  std::unique_ptr<ChunkStore> chunks_;
  std::unique_ptr<VolumeSet> volumes_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::shared_ptr<RecallRouter> router_;
  std::unique_ptr<VolumeService> service_;
  Timer tick_timer_;
  std::set<VolumeId> made_;               // that were ever made here
  std::set<PeerId> kept_alive_;           // owners of volumes
  std::map<VolumeId, std::string> lost_;  // owned, and why not served
  std::map<VolumeId, int64_t> orphans_;   // junctions to nowhere -> first seen (monotonic)
  bool sweeping_ = false;
  using FoundJunctions = std::vector<std::pair<VolumeId, std::vector<FoundJunction>>>;  // in the volume
  void judge_junctions(const FoundJunctions& found);
  void remove_orphan(const VolumeId& parent, const FoundJunction& junction);

  struct Facts {
    VolumeId id{};
    std::vector<PeerId> owners;
  };
  std::map<VolumeNumber, Facts> facts_;
  std::mutex facts_mutex_;  // what stands below: views read it from any thread
  std::map<VolumeId, VolumeNumber> numbers_;
  VolumeDirectory::Places places_ = std::make_shared<const std::vector<VolumePlace>>();
  MeshSpace space_;

  std::vector<std::weak_ptr<VolumeView>> views_;
  std::shared_ptr<VolumeView> view_;
  std::unique_ptr<VolumeTree> tree_;
};

}  // namespace efs
