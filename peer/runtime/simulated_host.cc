#include "peer/runtime/simulated_host.h"

#include <algorithm>
#include <cassert>

namespace efs {

namespace {
// How long the pool takes for a job: enough for what was posted meanwhile, and other jobs, to come first.
constexpr int64_t kJobLeast = 20 * kMicrosecond;
constexpr int64_t kJobMost = 500 * kMicrosecond;
}  // namespace

Machine::Machine(uint32_t its_number, std::string its_address, const int64_t& virtual_now, int64_t uptime_ns)
    : number(its_number), address(std::move(its_address)), clock(virtual_now, uptime_ns) {}

Machine::~Machine() = default;

void SimulatedLoop::post(Task task) {
  if (!closing_) core_.soon(&machine_, std::move(task));
}

TimerId SimulatedLoop::after(int64_t delay_ns, Task task) {
  assert(on_thread());
  if (closing_) return 0;
  constexpr int64_t kLongest = 100 * 365 * 24 * kHour;  // a century: no sum of times overflows
  int64_t delay = std::clamp<int64_t>(delay_ns, 0, kLongest);
  int64_t due = machine_.clock.now_ns() + delay;
  int64_t when = core_.now_ns + std::max(machine_.clock.virtual_delay(delay), kMicrosecond);
  return core_.queue.add(when, Event{std::move(task), &machine_, due});
}

void SimulatedLoop::cancel(TimerId timer) {
  if (timer != 0) core_.cancel(timer);
}

void SimulatedLoop::work(Task job, Task done) {
  assert(on_thread());
  if (closing_) return;
  core_.in(core_.random.between(kJobLeast, kJobMost), &machine_,
           [this, run = std::move(job), then = std::move(done)]() mutable {
             in_job_ = true;
             run();
             in_job_ = false;
             run = nullptr;
             if (then) post(std::move(then));
           });
}

}  // namespace efs
