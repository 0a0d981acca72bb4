// A peer's data directory: who it is, which mesh it belongs to, and that nobody else uses it now.
//
//   format        "efs data 1": a newer number is refused, nothing is guessed
//   lock          held while a process uses the directory
//   peer.key      its identity (mode 0600)
//   mesh.secret   32 bytes (mode 0600)
//   genesis       written last: a directory without it was never completed, and may be begun again
//   efs.yaml      the options that `init` and `join` were given
//   left          in place of `genesis` once the peer belongs to no mesh any more: why, for people
//   register/ dht/ chunk-index/ volumes/ID/   LMDB environments;  log/  the log;  chunks/  the default store
//
// Owned by the process's main thread; what it holds is handed out by reference.
#pragma once

#include <memory>
#include <string>

#include "peer/identity/genesis.h"
#include "peer/identity/key_file.h"
#include "peer/runtime/file.h"

namespace efs {

class DataDirectory {
 public:
  // Makes (mode 0700) or opens `path` and locks it. Code::busy: another process has it; Code::version: a
  // newer efs wrote it; Code::not_found: nothing is there, and `make` is not set.
  static Result<std::unique_ptr<DataDirectory>> open(FileSystem& files, const std::string& path, bool make);

  const std::string& path() const { return path_; }
  std::string at(std::string_view name) const { return path_ + "/" + std::string(name); }
  bool complete() const { return complete_; }

  // The peer's key: read, or made and kept, so that joining again after a failure is the same peer.
  Result<KeyPair> peer_key(Random& random);
  Result<Secret> mesh_secret() const;
  Result<SignedGenesis> genesis() const;
  Result<std::string> options() const;  // YAML; empty when there are none
  Status write_options(const std::string& yaml);
  // Completes the directory.
  Status establish(const SignedGenesis& genesis, const Secret& mesh_secret);

  // The peer left its mesh, or was removed: `run` refuses from now on, and tells `why`. The rest stays.
  Status mark_left(const std::string& why);
  std::optional<std::string> left() const;
  // Of a directory that was left: what belonged to that mesh goes; the peer's key stays.
  Status begin_again();
  // Everything that efs-peer wrote here and in `stores` (their directories) goes, the directories too where
  // nothing else is in them. What was left behind, for people: empty when nothing was.
  Result<std::string> erase(const std::vector<std::string>& stores);

 private:
  DataDirectory(FileSystem& files, std::string path) : files_(files), path_(std::move(path)) {}
  FileSystem& files_;
  std::string path_;
  std::shared_ptr<void> lock_;
  bool complete_ = false;
};

// A directory that is complete has a register with the entries that founded the mesh, at least. Its loss says
// nothing about who is a member.
Error lost_register(const std::string& data_directory);

}  // namespace efs
