// The whole tree over its volumes: which client serves an inode, what a name leads to, what a path is.
//
// A name that leads to another volume is a junction: its inode is the root (1) of that volume. While the
// owner of a volume cannot be reached, the register still says where other volumes hang below it: the
// directories on the way to them are answered from their charters (with the attributes last seen, or plain
// ones).
//
// Thread-safe. `done` runs exactly once, inside the call when the owners are here, else on a client's thread.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "peer/runtime/clock.h"
#include "peer/volume/client.h"

namespace efs {

// Where a volume hangs, as the register says.
struct VolumePlace {
  VolumeId id{};
  VolumeNumber number = 0;
  std::vector<std::string> path;  // components of its prefix, from the mesh's root; none: the root volume
  VolumeNumber parent = 0;        // the volume that its junction is in
  // The inodes of the directories from the parent's root to the one with the junction, both included.
  std::vector<InodeNumber> ancestors;
};

struct MeshSpace {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;
};

// What the peer tells the tree. Thread-safe; answers at once, from what it knows.
class VolumeDirectory {
 public:
  virtual ~VolumeDirectory() = default;
  // The same object every time while it serves; nullptr: the register has no such volume.
  virtual std::shared_ptr<VolumeClient> client(VolumeNumber number) = 0;
  using Places = std::shared_ptr<const std::vector<VolumePlace>>;
  virtual Places places() = 0;  // never null
  virtual MeshSpace space() = 0;
};

// An inode of the tree.
struct TreeNode {
  std::shared_ptr<VolumeClient> volume;
  Attributes attributes;
  // Answered from the register: the owner could not be asked.
  bool assumed = false;
  uint8_t lease = 0;  // kLease...: what was leased of it, and of the directory that it was looked up in
  InodeNumber inode() const { return attributes.inode; }
  uint64_t global() const { return global_inode(volume->number(), attributes.inode); }
};

struct ResolvedPath {
  TreeNode node;
  std::string path;  // canonical: from the mesh's root, no symbolic links, "." or ".."
};
struct ResolvedParent {
  TreeNode directory;
  std::string path;  // of the directory
  std::string name;  // what is or is to be in it
};

class VolumeTree {
 public:
  VolumeTree(VolumeDirectory& directory, const Clock& clock) : directory_(directory), clock_(clock) {}

  VolumeDirectory& directory() { return directory_; }
  std::shared_ptr<VolumeClient> client(uint64_t global) { return directory_.client(volume_of(global)); }
  // The directory that this root of a volume hangs in; nothing: it is the mesh's root, or no volume's.
  std::optional<uint64_t> above(uint64_t global);

  using NodeDone = std::function<void(Result<TreeNode>)>;
  using Options = VolumeClient::Options;
  // One name in one directory; crosses junctions. A name that is not there is a node without volume.
  void lookup(const Credentials& who, uint64_t directory, const std::string& name, const Options& options,
              NodeDone done);
  void attributes(const Credentials& who, uint64_t node, const Options& options, NodeDone done);

  // A path from the mesh's root ("/a/b"; relative ones are taken from there too). Symbolic links on the way
  // are followed, the last component if `follow`; absolute targets count from the mesh's root. Code::loop
  // beyond kMaxSymlinks.
  void resolve(const std::string& path, const Credentials& who, bool follow, const Options& options,
               std::function<void(Result<ResolvedPath>)> done);
  // For what creates, removes or renames: all but the last component. invalid_argument for "/".
  void resolve_parent(const std::string& path, const Credentials& who, const Options& options,
                      std::function<void(Result<ResolvedParent>)> done);

 private:
  struct Walk;
  // What the register says of `name` in this directory: the next directory, or a junction.
  struct Bridge {
    std::optional<Junction> junction;
    InodeNumber inode = 0;
  };
  std::optional<Bridge> bridge(VolumeNumber volume, InodeNumber directory, const std::string& name);
  bool on_the_way(VolumeNumber volume, InodeNumber inode);
  void enter(const Credentials& who, const Junction& junction, const Options& options, NodeDone done);
  TreeNode assume(std::shared_ptr<VolumeClient> volume, InodeNumber inode);
  void remember(VolumeNumber volume, const Attributes& attributes);
  bool is_down(VolumeNumber volume);
  void set_down(VolumeNumber volume, bool down);
  static void step(const std::shared_ptr<Walk>& walk);
  static void arrived(const std::shared_ptr<Walk>& walk, std::string name, bool last, TreeNode node);
  static void follow_link(const std::shared_ptr<Walk>& walk, const TreeNode& link);

  VolumeDirectory& directory_;
  const Clock& clock_;
  std::mutex mutex_;
  std::unordered_map<VolumeNumber, int64_t> down_until_;
  std::unordered_map<uint64_t, Attributes>
      last_seen_;  // directories on the way to volumes: as many as charters say
};

// "/a//b/./c/" -> a, b, c; ".." stays. Code::too_large and name_too_long as the limits say.
Result<std::vector<std::string>> split_path(const std::string& path);
std::string join_path(const std::vector<std::string>& names);

}  // namespace efs
