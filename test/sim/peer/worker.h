// Somebody at work in one volume through one peer's clients, and what must be true of what was answered.
//
// Round after round, one request at a time: a file is created under a name never used before, written,
// appended to, synced, renamed, and its name synced. What two syncs with one verifier have covered is
// promised: it must be there for good, with its bytes, for every peer. A round in which an error came, or
// the owner lost power, promises nothing, but may not have run any of its requests twice.
//   created `exists`        the request ran twice
//   append at a wrong offset, or a wrong size in the end: likewise
#pragma once

#include <set>

#include "test/sim/peer/mesh.h"

namespace efs::test {

class Worker : public std::enable_shared_from_this<Worker> {
 public:
  // `name` is used by nobody else, ever. Its directory in the volume's root is its own.
  Worker(Mesh& mesh, Host& host, const VolumeId& volume, std::string name, int64_t pause_ns)
      : mesh_(mesh),
        host_(host),
        starts_(host.starts),
        volume_(volume),
        name_(std::move(name)),
        pause_ns_(pause_ns) {}
  void begin();
  void stop() { stopping_ = true; }
  bool idle() const { return idle_; }
  // A process that ended takes its workers with it: they answer nobody any more.
  bool dead() const { return !host_.serves() || host_.starts != starts_; }

  const VolumeId& volume() const { return volume_; }
  size_t rounds() const { return rounds_; }
  size_t failures() const { return failures_; }
  const std::vector<std::string>& violations() const { return violations_; }
  // Reads everything that was promised through this host. Says what is not as it was promised.
  std::vector<std::string> check(Host& reader) const;

 private:
  using Next = void (Worker::*)(Reply);
  void ask(RequestBody body, Payload payload, Next next);
  void answered(const VolumeAnswer& answer, Next next);
  void violate(const std::string& what);
  void round();
  void created(Reply reply);
  void written(Reply reply);
  void appended(Reply reply);
  void synced(Reply reply);
  void renamed(Reply reply);
  void kept(Reply reply);
  void unlinked(Reply reply);
  void made_directory(Reply reply);
  Bytes content() const;
  std::string temporary() const { return "t" + std::to_string(number_); }
  std::string final_name() const { return "f" + std::to_string(number_); }

  Mesh& mesh_;
  Host& host_;
  const uint32_t starts_;
  const VolumeId volume_;
  const std::string name_;
  const int64_t pause_ns_;              // between rounds
  std::weak_ptr<VolumeClient> client_;  // the process owns it
  InodeNumber directory_ = 0, inode_ = 0;
  uint64_t number_ = 0;  // of the round
  uint64_t size_ = 0, appends_ = 0;
  bool disturbed_ = false;  // an error, or a new verifier, in this round
  bool stopping_ = false, idle_ = false;
  size_t rounds_ = 0, failures_ = 0;
  std::map<std::string, Bytes> promised_;  // name in its directory -> content
  std::vector<std::string> violations_;
};

}  // namespace efs::test
