#include "peer/volume/compactor.h"

namespace efs {

namespace {
constexpr uint64_t kStepBytes = 1 << 20;  // of one volume, between looks at whether to stop
}

void Compactor::start() {
  thread_ = std::thread([this] { run(); });
}

void Compactor::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Compactor::due() const {
  const int64_t now_ns = clock_.now_ns();
  for (const auto& volume : volumes_.all()) {
    if (volume->compaction_due(now_ns)) return true;
  }
  return false;
}

void Compactor::wake_when_due() {
  if (!due()) return;
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_all();
}

void Compactor::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    wake_.wait(lock, [&] { return woken_ || stopping_; });
    woken_ = false;
    lock.unlock();
    measure();
    lock.lock();
    while (!stopping_) {
      wake_.wait_for(lock, std::chrono::nanoseconds(kCompactPause), [&] { return stopping_; });
      if (stopping_) break;
      lock.unlock();
      round();
      const bool more = due();
      lock.lock();
      if (!more) break;
    }
  }
}

void Compactor::measure() {
  uint64_t requests = 0;
  for (const auto& volume : volumes_.all()) requests += volume->requests();
  const int64_t now_ns = clock_.now_ns();
  const int64_t passed_ns = std::max(now_ns - measured_ns_, kMillisecond);
  const uint64_t came = requests > requests_ ? requests - requests_ : 0;  // a volume may have gone
  busy_ = double(came) / double(passed_ns) * double(kSecond) > double(kBusyRate);
  requests_ = requests;
  measured_ns_ = now_ns;
}

void Compactor::round() {
  measure();
  const int64_t now_ns = clock_.now_ns();
  if (busy_ && now_ns - last_round_ns_ < kBusyPause) return;
  last_round_ns_ = now_ns;
  uint64_t left = busy_ ? kBusyRound : kCompactRound;
  const auto volumes = volumes_.all();
  ++first_;
  for (size_t i = 0; i < volumes.size(); ++i) {
    SoleReplica& volume = *volumes[(first_ + i) % volumes.size()];
    while (left > 0 && volume.compaction_due(now_ns)) {
      {
        std::lock_guard lock(mutex_);
        if (stopping_) return;
      }
      const uint64_t joined = volume.compact(std::min(left, kStepBytes), busy_);
      if (joined == 0) break;
      left -= std::min(left, joined);
    }
  }
}

}  // namespace efs
