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
constexpr int64_t kCountAgain = 2 * kMillisecond, kForget = 100 * kMillisecond;
constexpr double kWeight = 1.0 / 8;  // of a count in the average
constexpr double kUnknown = 1e9;     // in place of a count that cannot be had: nobody looks
constexpr int64_t kLonger = 4;       // times the patience, where that would have been enough

// How many threads of this machine want to run now.
// /proc/loadavg, see proc(5): three averages, then that number, a slash, and how many there are.
double count_running() {
  static const int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);  // for all threads, as long as we live
  char text[128];
  const ssize_t length = pread(file, text, sizeof text - 1, 0);
  text[length > 0 ? length : 0] = 0;
  const char* at = text;
  for (int field = 0; field < 3 && at != nullptr; ++field) {
    at = std::strchr(at, ' ');
    if (at != nullptr) ++at;
  }
  return at == nullptr ? kUnknown : double(std::strtoul(at, nullptr, 10));
}
}  // namespace

Crowd::Crowd() : Crowd(std::thread::hardware_concurrency(), count_running) {}

bool Crowd::is_there(int64_t now_ns) {
  const int64_t since_ns = now_ns - counted_ns_;
  if (since_ns >= kCountAgain) {
    counted_ns_ = now_ns;
    const double count = count_();
    running_ = since_ns > kForget ? count : running_ + (count - running_) * kWeight;
  }
  return running_ > processors_ + kSpare;
}

Wakefulness::Wakefulness(const Clock& clock, int64_t patience_ns)
    : Wakefulness(clock, std::thread::hardware_concurrency() > 1 ? patience_ns : 0, Crowd()) {}

void Wakefulness::found() {
  if (patience_ns_ == 0) return;
  const int64_t now_ns = clock_.now_ns(), longest_ns = kLonger * patience_ns_;
  if (!awake()) look_ns_ = now_ns - found_ns_ <= longest_ns ? longest_ns : patience_ns_;
  found_ns_ = now_ns;
  until_ns_ = crowd_.is_there(now_ns) ? 0 : now_ns + look_ns_;
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
