#include "peer/runtime/wakefulness.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <thread>

namespace efs {

namespace {
// Of those that ask and answer each other most wait at any time: one more than there are processors is no
// crowd.
constexpr unsigned kSpare = 1;
constexpr int64_t kCountAgain = 2 * kMillisecond, kCountCrowdAgain = 20 * kMillisecond;
}  // namespace

Wakefulness::Wakefulness(const Clock& clock, int64_t patience_ns)
    : clock_(clock), patience_ns_(patience_ns), processors_(std::thread::hardware_concurrency()) {
  if (processors_ > 1 && patience_ns > 0) running_file_ = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  if (running_file_ < 0) patience_ns_ = 0;
}

Wakefulness::~Wakefulness() {
  if (running_file_ >= 0) close(running_file_);
}

void Wakefulness::found() {
  if (patience_ns_ == 0) return;
  const int64_t now_ns = clock_.now_ns();
  until_ns_ = is_crowded(now_ns) ? 0 : now_ns + patience_ns_;
}

void Wakefulness::found_nothing() {
  if (until_ns_ == 0) return;
  if (clock_.now_ns() < until_ns_) {
    sched_yield();
  } else {
    until_ns_ = 0;
  }
}

// proc(5): three averages, then how many want to run now, a slash, and how many there are.
bool Wakefulness::is_crowded(int64_t now_ns) {
  if (counted_ns_ != 0 && now_ns - counted_ns_ < (crowded_ ? kCountCrowdAgain : kCountAgain)) return crowded_;
  counted_ns_ = now_ns;
  char text[128];
  const ssize_t length = pread(running_file_, text, sizeof text - 1, 0);
  text[length > 0 ? length : 0] = 0;
  const char* at = text;
  for (int field = 0; field < 3 && at != nullptr; ++field) {
    at = std::strchr(at, ' ');
    if (at != nullptr) ++at;
  }
  crowded_ = at == nullptr || std::strtoul(at, nullptr, 10) > processors_ + kSpare;
  return crowded_;
}

}  // namespace efs
