// What keeps owned volumes bounded: checkpoints, the log's periodic sync, upkeep, the chunk store's
// collecting; and compaction, on a thread of its own (compactor.h), which is woken here. Threads when
// started, or tick() by a timer under simulation; never both. The thread also gives the allocator's free
// pages back to the kernel: what a replayed log or a large batch took stays with it otherwise.
#pragma once

#include <condition_variable>
#include <thread>

#include "peer/volume/compactor.h"

namespace efs {

class Checkpointer {
 public:
  Checkpointer(VolumeSet& volumes, const Clock& clock, Logger& logger)
      : volumes_(volumes), clock_(clock), logger_(logger), compactor_(volumes, clock) {}
  ~Checkpointer() { stop(); }

  void start();
  void stop();  // waits for what it does; then volumes may be closed
  // Does what is due. Not while the thread runs.
  void tick();

 private:
  void run();
  void work();
  void trim_memory();
  void report(const Status& status, std::string_view what);

  VolumeSet& volumes_;
  const Clock& clock_;
  Logger& logger_;
  Compactor compactor_;
  int64_t last_sync_ns_ = 0, last_upkeep_ns_ = 0, last_collect_ns_ = 0, last_report_ns_ = 0;
  int64_t last_work_ns_ = 0, last_trim_ns_ = 0;  // last_work_ns_: a checkpoint was made
  bool more_to_collect_ = false;                 // at the next look, not after the usual pause
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;  // mutex_
  std::thread thread_;
};

}  // namespace efs
