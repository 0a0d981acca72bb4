// Whether a volume's rows agree with each other and with the chunk store: for efs-peer check and for tests.
//
// Problems come as text for people, at most kMaxProblems of them. Memory grows with the number of inodes and
// chunks (about 100 bytes each). Nothing else may change the rows meanwhile.
#pragma once

#include "peer/store/chunk_store.h"
#include "peer/volume/state/schema.h"

namespace efs {

inline constexpr size_t kMaxProblems = 1000;

struct VolumeCheck {
  std::vector<std::string> problems;
  size_t repaired = 0;  // of them
};
// `chunks` may be null: then the bytes are not looked for. With `repair` (of the same rows), what can be
// mended is: link counts, usage, references, dangling rows; inodes without a name come back in the root as
// "lost-NUMBER". The caller commits.
Result<VolumeCheck> check_volume(const ReadRows& rows, const ChunkStore* chunks, WriteRows* repair = nullptr);

}  // namespace efs
