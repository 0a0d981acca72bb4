// The tree through the peer of this machine: what a mount does, for programs without one. Every call acts
// as the caller, checked by the volume's owner; errors have no words in front (see about()). Blocks.
#pragma once

#include <functional>
#include <optional>

#include "tools/peer_client.h"

namespace efs::tools {

// A file or directory and where it is.
struct Node {
  std::string path;
  VolumeId volume{};
  VolumeNumber number = 0;
  Attributes attributes;
  bool is_directory() const;
  bool is_file() const;
  bool is_symlink() const;
};

// What a directory has. A junction whose volume cannot be reached has an error and no attributes.
struct TreeEntry {
  std::string name;
  Node node;
  bool junction = false;
  std::optional<Error> error;
};

class Tree {
 public:
  explicit Tree(PeerClient& peer) : peer_(peer) {}

  Result<Node> find(const std::string& path, bool follow = true);
  // As find, where absence is an answer.
  Result<std::optional<Node>> look(const std::string& path, bool follow = true);
  // Sorted by name; without "." and "..".
  Result<std::vector<TreeEntry>> list(const Node& directory);

  Result<std::string> read_link(const Node& link);
  // At most kMaxWrite bytes; fewer only at the end.
  Result<Bytes> read(const Node& file, uint64_t offset, uint32_t length);
  Status write(const Node& file, uint64_t offset, const Bytes& bytes);
  // The next data from `offset` on: begin and end; nothing when only a hole follows.
  Result<std::optional<std::pair<uint64_t, uint64_t>>> next_data(const Node& file, uint64_t offset);
  Status sync(const VolumeId& volume, InodeNumber inode = 0);

  // What is made has `mode` as it is given: the caller applies its umask. `exclusive` false: an existing
  // regular file is answered.
  Result<Node> create(const std::string& path, uint32_t mode, bool exclusive = true,
                      const std::string& target = "");
  Status set(const Node& node, SetAttributes change);
  Status remove(const std::string& path, bool directory);
  // Code::cross_volume when the parents are in different volumes.
  Status rename(const std::string& from, const std::string& to);
  Status link(const Node& file, const std::string& path);

  PeerClient& peer() { return peer_; }

 private:
  PeerClient& peer_;
};

}  // namespace efs::tools
