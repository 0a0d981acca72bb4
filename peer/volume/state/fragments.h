// Where a file's content lies in many small pieces that are worth joining. Pure; any thread with the rows.
//
// A *run* is a row of extents that touch, of one file, inside one window (kRunWindow of file offsets). It
// is worth rewriting as one chunk when
//   - it has at least kRunFewest extents of kFragmentBytes or less on average, none holds more than half of
//   it
//     (so that what grows slowly is rewritten a logarithmic number of times, not again and again), and what
//     it gives back is at least 3/4 of what it takes; or
//   - it gives back twice what it takes, and kWorthBytes more: most of its chunks is overwritten elsewhere.
// What a run gives back: of each chunk that it names, the part that its own references are of all. So what
// other files share, or what is stored once and appears many times, is left alone. Joining one run after the
// other then never ends with more than 4/3 of what was stored.
//
// Holes are never filled; allocated zeros stay what they are.
#pragma once

#include "peer/volume/state/view.h"

namespace efs {

inline constexpr uint64_t kRunWindow = kMaxWrite;
inline constexpr uint64_t kFragmentBytes = 32 << 10;
inline constexpr size_t kRunFewest = 4;
inline constexpr size_t kRunMost = 512;  // extents: what one operation replaces
inline constexpr uint64_t kWorthBytes = 16 << 10;

struct FragmentRun {
  InodeNumber inode = 0;
  std::vector<ExtentRow> extents;
  uint64_t start() const { return extents.front().start; }
  uint64_t end() const { return extents.back().end; }
  uint64_t bytes() const { return end() - start(); }
};

// A place among all extents of the volume: those of `inode` that end behind `offset`, and what follows.
struct ExtentPlace {
  InodeNumber inode = 0;
  uint64_t offset = 0;
  auto operator<=>(const ExtentPlace&) const = default;
};

struct FragmentScan {
  std::vector<FragmentRun> runs;
  std::optional<ExtentPlace> next;  // where to go on; nothing: `until` was reached
  size_t extents = 0;               // that were looked at
};
// Looks at up to `limit` extents from `from` on, to `until` (exclusive). Files without a name are left out.
Result<FragmentScan> find_fragments(const ReadRows& rows, ExtentPlace from, ExtentPlace until, size_t limit);

// What a run was, for ReplaceExtents::was.
Id digest_of(const std::vector<ExtentRow>& extents);

}  // namespace efs
