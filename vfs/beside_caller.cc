#include "vfs/beside_caller.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "peer/base/descriptor.h"

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

struct BesideCaller::Sight {
  explicit Sight(pid_t of) : thread(of) {}
  const pid_t thread;
  std::optional<Descriptor> stat;  // of its directory in /proc; the lookout's
  std::atomic<bool> asked{false};
  std::atomic<int> processor{-1};  // seen, and not yet heeded
};

class BesideCaller::Lookout {
 public:
  static Lookout& only() {
    static Lookout lookout;
    return lookout;
  }
  ~Lookout() {
    {
      std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  void ask(const std::shared_ptr<Sight>& sight) {
    if (sight->asked.exchange(true)) return;
    {
      std::lock_guard lock(mutex_);
      asked_.push_back(sight);
    }
    changed_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return ends_ || !asked_.empty(); });
      if (ends_) return;
      const auto sights = std::exchange(asked_, {});
      lock.unlock();
      for (const auto& sight : sights) look_for(*sight);
      lock.lock();
    }
  }
  static void look_for(Sight& sight) {
    if (!sight.stat)
      sight.stat.emplace(open(fmt::format("/proc/{}/stat", sight.thread).c_str(), O_RDONLY | O_CLOEXEC));
    char text[1024];
    const ssize_t length = sight.stat->valid() ? pread(sight.stat->get(), text, sizeof text - 1, 0) : -1;
    if (length > 0) {
      text[length] = 0;
      sight.processor = processor_in(text);
    }
    sight.asked = false;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Sight>> asked_;  // at most one of each object, and of those it has left
  bool ends_ = false;
  std::thread thread_{[this] { run(); }};
};

BesideCaller::BesideCaller(bool enabled) : enabled_(enabled && CPU_COUNT(&own_processors()) > 1) {}

void BesideCaller::asked_by(pid_t thread) {
  if (!enabled_ || thread == 0) return;  // 0: a close, or what the kernel forgets
  if (thread != caller_) return follow(thread);
  ++in_a_row_;
  if (sight_ && sight_->processor.load(std::memory_order_relaxed) >= 0)
    seen_on(sight_->processor.exchange(-1));
  if (in_a_row_ == kInARow || in_a_row_ % kLookEvery == 0) look();
}

void BesideCaller::follow(pid_t thread) {
  apart();
  caller_ = thread;
  sight_.reset();
  moves_ = 0;
}

void BesideCaller::look() {
  if (caller_ <= 0) return;
  if (moves_ > kMostMoves) {
    if (++moves_ < kMostMoves + kRest) return;
    moves_ = 0;
  }
  if (!sight_) sight_ = std::make_shared<Sight>(caller_);
  Lookout::only().ask(sight_);
}

void BesideCaller::seen_on(int processor) {
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
