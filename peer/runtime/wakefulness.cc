#include "peer/runtime/wakefulness.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

namespace efs {

namespace {
// Of those that ask and answer each other most wait at any time: one more than there are processors is no
// crowd.
constexpr unsigned kSpare = 1;
constexpr int64_t kCountAgain = 2 * kMillisecond, kCountCrowdAgain = 20 * kMillisecond;
constexpr int64_t kLonger = 4;  // times the patience, where that would have been enough

// proc(5), loadavg: three averages, then how many want to run now, a slash, and how many there are.
class Crowd {
 public:
  Crowd() : file_(open("/proc/loadavg", O_RDONLY | O_CLOEXEC)) {}
  ~Crowd() {
    if (file_ >= 0) close(file_);
  }
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  bool is_there(int64_t now_ns) {
    if (counted_ns_ != 0 && now_ns - counted_ns_ < (there_ ? kCountCrowdAgain : kCountAgain)) return there_;
    counted_ns_ = now_ns;
    char text[128];
    const ssize_t length = pread(file_, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = 0;
    const char* at = text;
    for (int field = 0; field < 3 && at != nullptr; ++field) {
      at = std::strchr(at, ' ');
      if (at != nullptr) ++at;
    }
    there_ = at == nullptr || std::strtoul(at, nullptr, 10) > processors_ + kSpare;
    return there_;
  }

 private:
  const int file_;
  const unsigned processors_ = std::thread::hardware_concurrency();
  int64_t counted_ns_ = 0;  // when those that want to run were last counted
  bool there_ = false;
};

Wakefulness::IsCrowded counts_the_running() {
  return [crowd = std::make_shared<Crowd>()](int64_t now_ns) { return crowd->is_there(now_ns); };
}
}  // namespace

Wakefulness::Wakefulness(const Clock& clock, int64_t patience_ns)
    : Wakefulness(clock, std::thread::hardware_concurrency() > 1 ? patience_ns : 0, counts_the_running()) {}

void Wakefulness::found() {
  if (patience_ns_ == 0) return;
  const int64_t now_ns = clock_.now_ns(), longest_ns = kLonger * patience_ns_;
  if (!awake()) look_ns_ = now_ns - found_ns_ <= longest_ns ? longest_ns : patience_ns_;
  found_ns_ = now_ns;
  until_ns_ = is_crowded_(now_ns) ? 0 : now_ns + look_ns_;
}

void Wakefulness::found_nothing() {
  if (!awake()) return;
  if (clock_.now_ns() < until_ns_) {
    sched_yield();
  } else {
    until_ns_ = 0;
  }
}

}  // namespace efs
