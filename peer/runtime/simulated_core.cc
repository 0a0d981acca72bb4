#include "peer/runtime/simulated_core.h"

#include <cmath>

namespace efs {

namespace {
constexpr int64_t kWallAtStart = 1'700'000'000 * kSecond;
constexpr int64_t kBillion = 1'000'000'000;
using Wide = __int128;  // nanoseconds times parts a billion
}  // namespace

SimulatedClock::SimulatedClock(const int64_t& virtual_now, int64_t uptime_ns)
    : virtual_now_(virtual_now),
      virtual_base_(virtual_now),
      local_base_(uptime_ns),
      wall_offset_ns_(kWallAtStart + virtual_now - uptime_ns) {}

int64_t SimulatedClock::now_ns() const {
  int64_t passed = virtual_now_ - virtual_base_;
  if (drift_ppb_ == 0) return local_base_ + passed;
  return local_base_ + passed + int64_t(Wide(passed) * drift_ppb_ / kBillion);
}

void SimulatedClock::set_drift(double parts_per_million) {
  local_base_ = now_ns();
  virtual_base_ = virtual_now_;
  drift_ppb_ = std::llround(parts_per_million * 1000);
}

int64_t SimulatedClock::virtual_delay(int64_t local_ns) const {
  if (drift_ppb_ == 0) return local_ns;
  int64_t rate = kBillion + drift_ppb_;
  return int64_t((Wide(local_ns) * kBillion + rate - 1) / rate);
}

bool SimulatedCore::step() {
  if (queue.empty() || queue.next_time() == kNever) return false;
  now_ns = std::max(now_ns, queue.next_time());
  const Event& next = queue.next();
  Machine* machine = next.machine;
  if (machine && machine->paused) {
    machine->parked.push_back(queue.next_id());
    queue.move(queue.next_id(), kNever);
    return true;
  }
  if (next.due_local_ns != 0) {  // the clock was slowed down, or rounding
    int64_t left = next.due_local_ns - machine->clock.now_ns();
    if (left > 0)
      return queue.move(queue.next_id(), now_ns + std::max<int64_t>(machine->clock.virtual_delay(left), 1));
  }
  trace(uint64_t(now_ns) << 8 ^ (machine ? machine->number : 0));
  queue.pop().task();
  return true;
}

void SimulatedCore::set_paused(Machine& machine, bool paused) {
  machine.paused = paused;
  if (paused) return;
  for (EventId event : std::exchange(machine.parked, {})) queue.move(event, now_ns);
}

}  // namespace efs
