// What put, get and cp share. Private to tools/copy*.cc.
#pragma once

#include <functional>
#include <set>

#include "tools/copy.h"
#include "tools/progress.h"

namespace efs::tools {

// One Write or Read is this at most, and does not cross a multiple of it: then chunks are whole.
inline constexpr uint64_t kPiece = kMaxWrite;
inline constexpr size_t kMaxCopyDepth = 1000;

inline uint32_t piece_length(uint64_t offset, uint64_t end) {
  return uint32_t(std::min(kPiece - offset % kPiece, end - offset));
}

// The data of a file in order, hole by hole skipped: each(offset, bytes).
using EachPiece = std::function<Status(uint64_t offset, const Bytes& bytes)>;
Status each_piece(Tree& tree, const Node& file, const EachPiece& each);

// An empty file at `path`, writable until finish_target(). An existing one is emptied.
struct Target {
  Node node;
  bool made = false;
};
Result<Target> open_target(Tree& tree, const std::string& path, uint32_t mode);
// What the copy is to have in the end; `like` has its mode, owner, size and times.
Status finish_target(Tree& tree, const Target& target, const Attributes& like, uint64_t written_end,
                     const CopyOptions& options, uint32_t umask);
// A directory at `path`, made or found.
Result<Node> make_directory(Tree& tree, const std::string& path, uint32_t mode);
// Mode and times as `like`; owner and group too, where that is allowed.
Status preserve(Tree& tree, const Node& node, const Attributes& like);
std::string joined(const std::string& what, const std::string& from, const std::string& to);

}  // namespace efs::tools
