#include "vfs/beside_caller.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace efs {

namespace {
constexpr unsigned kInARow = 8;      // requests before it is worth it
constexpr unsigned kLookEvery = 64;  // requests: the scheduler moves programs seldom
constexpr unsigned kMostMoves = 4;   // a caller that does not stay is left alone
constexpr unsigned kRest = 32;       // looks: for so long

// The processors that this process may use. A thread's children are kept where it is kept at that moment, so
// they are told to start with these instead.
const cpu_set_t& own_processors() {
  static const cpu_set_t own = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    pthread_attr_t defaults;
    if (pthread_getattr_default_np(&defaults) == 0) {
      pthread_attr_setaffinity_np(&defaults, sizeof set, &set);
      pthread_setattr_default_np(&defaults);
      pthread_attr_destroy(&defaults);
    }
    return set;
  }();
  return own;
}

// proc(5): the 39th field; the second, a name in parentheses, may hold anything.
int processor_in(const char* stat) {
  constexpr int kFieldsBehindName = 37;
  const char* at = std::strrchr(stat, ')');
  for (int field = 0; field < kFieldsBehindName && at != nullptr; ++field) {
    at = std::strchr(at, ' ');
    if (at != nullptr) ++at;
  }
  return at == nullptr ? -1 : std::atoi(at);
}
}  // namespace

BesideCaller::BesideCaller(bool enabled) : enabled_(enabled && CPU_COUNT(&own_processors()) > 1) {}

void BesideCaller::asked_by(pid_t thread) {
  if (!enabled_ || thread == 0) return;  // 0: a close, or what the kernel forgets
  if (thread != caller_) return follow(thread);
  ++in_a_row_;
  if (in_a_row_ == kInARow || in_a_row_ % kLookEvery == 0) look();
}

void BesideCaller::follow(pid_t thread) {
  apart();
  caller_ = thread;
  about_caller_.reset();
  moves_ = 0;
}

void BesideCaller::look() {
  if (caller_ <= 0) return;
  if (moves_ > kMostMoves) {
    if (++moves_ < kMostMoves + kRest) return;
    moves_ = 0;
  }
  if (!about_caller_)
    about_caller_.emplace(open(fmt::format("/proc/{}/stat", caller_).c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t length = about_caller_->valid() ? pread(about_caller_->get(), text, sizeof text - 1, 0) : -1;
  if (length <= 0) return;
  text[length] = 0;
  const int processor = processor_in(text);
  if (processor < 0 || processor >= CPU_SETSIZE || !CPU_ISSET(processor, &own_processors())) return;
  if (processor == processor_) {
    moves_ = 0;
    return;
  }
  if (processor_ >= 0 && ++moves_ > kMostMoves) return apart();
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(processor, &only);
  if (sched_setaffinity(0, sizeof only, &only) == 0) processor_ = processor;
}

void BesideCaller::apart() {
  in_a_row_ = 0;
  if (processor_ < 0) return;
  processor_ = -1;
  sched_setaffinity(0, sizeof(cpu_set_t), &own_processors());
}

}  // namespace efs
