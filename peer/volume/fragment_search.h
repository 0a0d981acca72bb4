// Finds what compaction is to join, without looking everywhere.
//
// Windows (kRunWindow of a file) where small pieces were written lately are noted as they are written. A
// window is looked at once nothing was written there for kSettleTime, or kLongestNoted after it was noted.
// Notes are in memory: what they forget (a restart, more than kMaxNotedWindows), and chunks of which most was
// overwritten elsewhere, is found by a slow *pass* over all extents, kPassExtents a step. A pass begins only
// when content has changed since the last one began, so that a volume nobody writes to costs nothing; the
// first begins at a random place, so that restarts do not keep it from the far end.
//
// wrote(), changed() and due() from any thread; look() from one at a time.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <mutex>

#include "peer/runtime/clock.h"
#include "peer/volume/state/fragments.h"

namespace efs {

inline constexpr int64_t kSettleTime = 3 * kSecond;
inline constexpr int64_t kLongestNoted = 30 * kSecond;
inline constexpr size_t kMaxNotedWindows = 8192;
inline constexpr size_t kLookExtents = 2 * kRunMost;  // of a window, at a time
inline constexpr size_t kPassExtents = 1024;
inline constexpr int64_t kPassPause = kSecond;
inline constexpr int64_t kFirstPass = 2 * kMinute;  // after the start
inline constexpr int64_t kPassInterval = 60 * kMinute;

class FragmentSearch {
 public:
  explicit FragmentSearch(int64_t now_ns) : next_step_ns_(now_ns + kFirstPass) {}

  void wrote(InodeNumber inode, const std::vector<WritePiece>& pieces, int64_t now_ns);  // small pieces
  void changed() { changed_.store(true, std::memory_order_relaxed); }  // content, in any way
  bool due(int64_t now_ns) const;

  // Takes a step. Nothing: no step is due. `noted_only`: others have work to do; the pass waits.
  // `start`: any number, for where the first pass begins, among inodes below `inodes`.
  Result<std::optional<std::vector<FragmentRun>>> look(const ReadRows& rows, int64_t now_ns, bool noted_only);
  void begin_at(InodeNumber inode) { place_ = {inode, 0}; }

 private:
  struct Window {
    uint32_t pieces = 0;
    int64_t first_ns = 0, last_ns = 0;
  };
  std::optional<ExtentPlace> take(int64_t now_ns);
  void set_due();
  Result<std::vector<FragmentRun>> look_at_window(const ReadRows& rows);
  Result<std::vector<FragmentRun>> step(const ReadRows& rows, int64_t now_ns);

  std::atomic<int64_t> due_ns_{INT64_MAX};  // of the notes
  std::atomic<bool> changed_{false}, in_window_{false}, in_pass_{false};
  std::atomic<int64_t> next_step_ns_;

  std::mutex mutex_;  // the notes
  std::map<ExtentPlace, Window> windows_;
  std::deque<std::pair<int64_t, ExtentPlace>> order_;  // by the time at which each is looked at

  ExtentPlace window_, window_end_;  // being looked at
  ExtentPlace place_, pass_start_;   // the pass: where it is, where it began
  bool wrapped_ = false;
};

}  // namespace efs
