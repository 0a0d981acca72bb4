// The volumes that this peer owns, on one log and one chunk store.
//
// open() finds the volumes that have rows here, replays the shared log over them, and serves. A volume that
// cannot be opened does not keep the others from serving: failures() says which and why.
//
// Threads: any. What is handed in outlives it. Crash: see sole_replica.h; close() makes the next start clean.
#pragma once

#include <set>
#include <shared_mutex>

#include "peer/volume/sole_replica.h"

namespace efs {

// Where the rows of each volume live: LMDB below a directory, or memory under simulation.
class VolumeEnvironments {
 public:
  virtual ~VolumeEnvironments() = default;
  virtual Result<std::shared_ptr<MetaEnvironment>> open(const VolumeId& id) = 0;  // made if missing
  virtual Result<std::vector<VolumeId>> list() = 0;
  virtual Status remove(const VolumeId& id) = 0;
};
// `directory`/<id in hex>/
std::unique_ptr<VolumeEnvironments> make_lmdb_environments(FileSystem& files, const std::string& directory);
// Outlives VolumeSets: what a simulated crash leaves.
std::unique_ptr<VolumeEnvironments> make_memory_environments();

struct VolumeSetParts {
  const Clock& clock;
  Random& random;
  FileSystem& files;
  Logger& logger;
  ChunkStore& chunks;
  VolumeEnvironments& environments;
};
struct VolumeSetOptions {
  std::string log_directory;
  LogOptions log;
  // Below this on the log's disk, only what needs no more of it is taken.
  uint64_t reserved_bytes = 64 << 20;
};

class VolumeSet {
 public:
  static Result<std::unique_ptr<VolumeSet>> open(const VolumeSetParts& parts,
                                                 const VolumeSetOptions& options);
  ~VolumeSet();

  // Durable when it returns. Code::exists: the id or number is here already.
  Result<std::shared_ptr<SoleReplica>> create(const VolumeId& id, VolumeNumber number,
                                              const RootAttributes& root);
  // Its rows and its chunks go. Who still holds the replica gets errors from it.
  Status remove(const VolumeId& id);

  // The log's records of volumes that are none of `there`, nor here, are let go of: they were removed in an
  // earlier run.
  void release_removed(const std::set<VolumeNumber>& there);

  std::shared_ptr<SoleReplica> find(const VolumeId& id) const;
  std::shared_ptr<SoleReplica> find(VolumeNumber number) const;
  std::vector<std::shared_ptr<SoleReplica>> all() const;
  // Volumes that have rows here and cannot be served.
  std::vector<std::pair<VolumeId, Error>> failures() const;
  Log& log() { return *log_; }
  ChunkStore& chunks() { return parts_.chunks; }

  // What takes long and comes up where nobody may wait is run so from now on.
  void run_apart_by(std::function<void(Leases::Then)> run);

  // Everything answered before is durable, in every volume.
  Status sync();
  // Checkpoints all and closes the log cleanly. Nothing may be executing or come afterwards.
  Status close();
  // What the disk has left, looked at by the checkpointer.
  void measure_room();

 private:
  VolumeSet(const VolumeSetParts& parts, const VolumeSetOptions& options)
      : parts_(parts), options_(options), opened_ns_(parts.clock.now_ns()) {}
  Status start();
  ReplicaParts replica_parts();

  const VolumeSetParts parts_;
  const VolumeSetOptions options_;
  const int64_t opened_ns_;
  std::unique_ptr<Log> log_;
  mutable std::shared_mutex mutex_;  // the four below
  std::map<VolumeId, std::shared_ptr<SoleReplica>> volumes_;
  std::vector<std::pair<VolumeId, Error>> failures_;
  std::function<void(Leases::Then)> run_apart_;
  std::vector<VolumeNumber> unclaimed_;  // of which the log has records, and no volume was found
};

}  // namespace efs
