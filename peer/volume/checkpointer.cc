#include "peer/volume/checkpointer.h"

#include <malloc.h>

namespace efs {

namespace {
constexpr auto kTick = std::chrono::milliseconds(100);
constexpr int64_t kUpkeepInterval = kSecond;
constexpr int64_t kCollectInterval = 5 * kSecond;
constexpr int64_t kReportInterval = 10 * kSecond;
constexpr int64_t kTrimIdle = 3 * kSecond;       // after the last checkpoint
constexpr int64_t kTrimInterval = 30 * kSecond;  // at most, under load
constexpr int kUpkeepSteps = 64;                 // of one volume at a time
}  // namespace

void Checkpointer::start() {
  compactor_.start();
  thread_ = std::thread([this] { run(); });
}

void Checkpointer::stop() {
  compactor_.stop();
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Checkpointer::run() {
  last_work_ns_ = clock_.now_ns();  // logs were replayed
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    work();
    compactor_.wake_when_due();
    trim_memory();
    lock.lock();
    wake_.wait_for(lock, kTick, [&] { return stopping_; });
  }
}

void Checkpointer::tick() {
  work();
  compactor_.round();
}

void Checkpointer::work() {
  const int64_t now_ns = clock_.now_ns();
  const auto volumes = volumes_.all();
  for (const auto& volume : volumes) {
    if (volume->checkpoint_due(now_ns) && !volume->failed()) {
      last_work_ns_ = now_ns;
      report(volume->checkpoint(), "a checkpoint failed and will be tried again");
    }
  }
  if (now_ns - last_sync_ns_ >= kLogSyncInterval) {
    last_sync_ns_ = now_ns;
    if (volumes_.log().dirty()) report(volumes_.sync(), "the log could not be synced");
  }
  if (now_ns - last_upkeep_ns_ >= kUpkeepInterval) {
    last_upkeep_ns_ = now_ns;
    volumes_.measure_room();
    for (const auto& volume : volumes) {
      for (int i = 0; i < kUpkeepSteps && volume->upkeep(); ++i) {
      }
    }
  }
  if (more_to_collect_ || now_ns - last_collect_ns_ >= kCollectInterval) {
    last_collect_ns_ = now_ns;
    const auto collected = volumes_.chunks().collect();
    more_to_collect_ = collected && *collected;
    if (!collected) report(fail(collected.error()), "freed space could not be given back");
  }
}

// Once after work: when there was none for a while, or after long enough of it.
void Checkpointer::trim_memory() {
  const int64_t now_ns = clock_.now_ns();
  if (last_trim_ns_ >= last_work_ns_) return;
  if (now_ns - last_work_ns_ < kTrimIdle && now_ns - last_trim_ns_ < kTrimInterval) return;
  last_trim_ns_ = now_ns;
  malloc_trim(0);
}

void Checkpointer::report(const Status& status, std::string_view what) {
  if (status) return;
  const int64_t now_ns = clock_.now_ns();
  if (last_report_ns_ != 0 && now_ns - last_report_ns_ < kReportInterval) return;
  last_report_ns_ = now_ns;
  logger_.error("{}: {}", what, to_text(status.error()));
}

}  // namespace efs
