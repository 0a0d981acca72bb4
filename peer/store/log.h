// The log of a peer: what every group (volume) appended, in one sequence of files, with one sync for all.
//
// Files are prewritten and recycled (a sync of a file that does not grow costs one flush). A record is
// header {format, length, CRC32C, file sequence, group, term, index} and payload; a record of an earlier
// use of the file never passes for a new one. Group commit: sync() calls that overlap share one fdatasync.
//
// append() returns when the bytes are in the kernel: they survive a kill of the process, and power loss
// after a sync() that began later. Replay yields, for every group, what was appended and not yet released,
// in order; it ends at the first record that is not whole, and says so when that lies below a mark that was
// known to be synced (then the disk lost what it had promised: Code::corrupt, nothing is cut off).
//
// Threads: all of it from any thread. Limits: payload 8 MiB.
#pragma once

#include <functional>
#include <memory>

#include "peer/runtime/clock.h"
#include "peer/runtime/file.h"

namespace efs {

struct LogOptions {
  uint64_t file_bytes = 64 << 20;
  uint32_t spare_files = 2;  // kept for reuse beyond what is live
  // Prepare the next file on a thread of the log's own, so that no append() waits for it (64 MiB of zeros
  // take some 50 ms). Off: the append() that needs it does it, in the order of events that a simulation
  // wants.
  bool background = false;
  // Draws the distance from one file's sequence to the next. What programs write stands in records as it is,
  // and later behind them, in a file that is used again: whoever could tell that use's sequence could write
  // records of it. Without one they are numbered from 1. Any thread's.
  Random* random = nullptr;
};

class Log {
 public:
  struct Record {
    uint32_t group = 0;  // volume number
    uint64_t term = 0;
    uint64_t index = 0;  // within the group, rising; a lower one supersedes what follows it (Raft truncation)
    ByteView payload;
  };
  // `directory` is made if missing; `replay` is called for every live record, and for some that were
  // released (what was released is not written down: the caller knows its checkpoint, skips what that has,
  // and releases it again). A clean close is marked, so that unclean_start() is true after a kill or power
  // loss. Code::corrupt: lost what was synced, nothing was changed; Code::version: of a newer program.
  static Result<std::unique_ptr<Log>> open(FileSystem& files, const std::string& directory,
                                           const LogOptions& options,
                                           const std::function<Status(const Record&)>& replay);
  virtual ~Log() = default;

  // Fails with nothing appended (of a span: the first records may be), or, when the disk failed in the
  // middle, with a record that a replay may still find unless another one is appended after it.
  // Code::no_space, Code::io, Code::too_large, Code::closed.
  virtual Status append(const Record& record) = 0;
  virtual Status append(std::span<const Record> records) = 0;
  // Everything whose append() returned before this call is durable. Blocks for one or two flushes. When it
  // fails, all that follows fails with Code::io until the log is opened again.
  virtual Status sync() = 0;
  virtual bool dirty() const = 0;  // something was appended since the last sync began
  // Records of `group` up to `index` are not needed any more (they are in a checkpoint): files that hold
  // nothing else become spares. May remove a file: not for a thread that must not wait.
  virtual void release(uint32_t group, uint64_t index) = 0;
  virtual Status close_cleanly() = 0;
  virtual bool unclean_start() const = 0;
  virtual uint64_t bytes_on_disk() const = 0;
};

}  // namespace efs
