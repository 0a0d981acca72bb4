// How a data directory comes to belong to a mesh, and how a peer leaves one. Main thread, before a Peer runs
// (or, for leave_mesh, beside it, through its socket).
#pragma once

#include <functional>

#include "peer/data_directory.h"
#include "peer/environments.h"
#include "peer/identity/invite.h"
#include "peer/joining.h"
#include "peer/options.h"

namespace efs {

struct FoundOptions {
  std::string mesh_name;
  std::string keys_directory;  // absolute; root.key and recovery.key go there; made with mode 0700
  Secret passphrase{};         // of both; empty: none
};
struct Founded {
  std::string seed;  // an invite: one hour, ten uses, every uid, not an operator
  std::string keys_directory;
};
// Makes genesis, root keys, the founder's register and the root volume. Code::exists: a peer lives here, or
// the key files are there already. What was cut short is gone on with.
Result<Founded> found_mesh(FileSystem& files, Random& random, const Clock& clock,
                           const OpenEnvironment& environments, DataDirectory& data, PeerOptions& options,
                           const FoundOptions& found);

struct JoinedMesh {
  std::string mesh_name;
  std::string name;  // under which this peer was admitted
};

// Dials the seed, which dials back; is admitted; reads the whole register; completes the data directory.
// `options.name` is the wish, and then what it became. The loop's thread only; destroying it gives up, and
// what was begun can be begun again.
class Joining {
 public:
  using Done = std::function<void(Result<JoinedMesh>)>;
  // References and `invite` outlive it. `done` runs once, on the loop, after start().
  static Result<std::unique_ptr<Joining>> open(Runtime& runtime, const OpenEnvironment& environments,
                                               DataDirectory& data, PeerOptions& options, const Seed& seed,
                                               Done done);
  void start() { task_->start(); }

 private:
  Joining(DataDirectory& data, PeerOptions& options, const Invite& invite, KeyPair key,
          std::unique_ptr<RegisterStore> store)
      : data_(data), options_(options), invite_(invite), key_(std::move(key)), store_(std::move(store)) {}
  Result<JoinedMesh> complete(const Result<JoinTask::Outcome>& outcome);

  DataDirectory& data_;
  PeerOptions& options_;
  const Invite& invite_;
  const KeyPair key_;
  std::unique_ptr<RegisterStore> store_;
  std::unique_ptr<JoinTask> task_;
};

// The whole of it on a runtime that runs for nothing else: blocks.
Result<JoinedMesh> join_mesh(RealRuntime& runtime, DataDirectory& data, PeerOptions& options,
                             const Seed& seed, const std::vector<std::string>& own);

// For a directory that belongs to a mesh: is it the one of this seed?
Status check_same_mesh(DataDirectory& data, const Seed& seed);

// Through the peer that serves `data`: it refuses while something is held here alone. Waits for its end,
// marks the directory as left, and deletes what efs wrote when asked to. What to tell the person.
Result<std::string> leave_mesh(const std::string& data, const std::string& socket, bool delete_data);

// Makes this peer, which serves at `socket`, the owner of new volumes; those that are there are left alone.
Status own_volumes(const std::string& socket, const std::vector<std::string>& prefixes);

// The addresses to put into an invite: those advertised, else those this machine listens at, loopback last.
std::vector<std::string> addresses_of(const PeerOptions& options);

}  // namespace efs
