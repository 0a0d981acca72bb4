// What the hosts of a simulation share: the queue of events, virtual time, and the machines that hosts run
// on. Inside efs_simulated only; one thread.
#pragma once

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "peer/runtime/event_queue.h"
#include "peer/runtime/simulated.h"
#include "peer/runtime/simulated_random.h"

namespace efs {

class SimulatedHost;

inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// A clock that runs a little fast or slow against virtual time.
class SimulatedClock final : public Clock {
 public:
  // `virtual_now`: the simulation's time, which this follows.
  SimulatedClock(const int64_t& virtual_now, int64_t uptime_ns);
  int64_t now_ns() const override;
  int64_t wall_ns() const override { return now_ns() + wall_offset_ns_; }
  void set_drift(double parts_per_million);
  void jump_wall(int64_t by_ns) { wall_offset_ns_ += by_ns; }
  // How long the simulation must run for this clock to have advanced by `local_ns`; rounded up.
  int64_t virtual_delay(int64_t local_ns) const;

 private:
  const int64_t& virtual_now_;
  int64_t virtual_base_, local_base_;  // when the drift was set last
  int64_t drift_ppb_ = 0;
  int64_t wall_offset_ns_;
};

// An address, and the hardware and kernel behind it: outlives the processes (hosts) that run there.
struct Machine {
  Machine(uint32_t its_number, std::string its_address, const int64_t& virtual_now, int64_t uptime_ns);
  ~Machine();

  const uint32_t number;
  const std::string address;
  SimulatedClock clock;
  std::unique_ptr<SimulatedHost> host;  // nullptr: no process runs
  int group = 0;                        // of the partition
  bool powered = true;                  // off: nothing answers, not even the kernel
  bool paused = false;
  std::vector<uint64_t> parked;  // events that came up while it was paused
  int64_t link_free_ns = 0;      // when the last byte sent is on the wire
  uint16_t last_port = 32767;    // given to who connects
};

struct Event {
  Task task;
  Machine* machine;      // whose process runs it; nullptr: the network itself
  int64_t due_local_ns;  // timers: not before the machine's clock says so; else 0
};

class SimulatedCore {
 public:
  using EventId = uint64_t;

  explicit SimulatedCore(uint64_t seed) : random(seed) {}

  EventId at(int64_t time_ns, Machine* machine, Task task) {
    return queue.add(std::max(time_ns, now_ns), Event{std::move(task), machine, 0});
  }
  EventId in(int64_t delay_ns, Machine* machine, Task task) {
    return at(now_ns + delay_ns, machine, std::move(task));
  }
  // Nothing happens at the same instant for ever: each event that follows from another takes this long.
  EventId soon(Machine* machine, Task task) { return in(kMicrosecond, machine, std::move(task)); }
  void cancel(EventId event) { (void)queue.remove(event); }
  void trace(uint64_t value) { trace_hash = mix64(trace_hash * 31 + value); }

  Machine* find(const std::string& address) {
    auto found = machines.find(address);
    return found == machines.end() ? nullptr : found->second.get();
  }
  bool step();
  void set_paused(Machine& machine, bool paused);

  int64_t now_ns = 0;
  uint64_t trace_hash = 0;
  SimulatedRandom random;
  NetworkFaults faults;
  std::function<void(const std::string&, LogLevel, std::string_view)> log;
  std::map<std::string, std::unique_ptr<Machine>> machines;
  EventQueue<Event> queue;
};

}  // namespace efs
