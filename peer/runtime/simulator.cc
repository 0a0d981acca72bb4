#include <cassert>

#include "peer/runtime/simulated.h"
#include "peer/runtime/simulated_host.h"

namespace efs {

namespace {
constexpr int64_t kUptimeLeast = kHour, kUptimeMost = 60 * 24 * kHour;  // no two hosts' clocks compare
}

struct Simulator::Impl {
  explicit Impl(uint64_t seed) : core(seed), wire(core) {}

  Machine& machine(const std::string& address) {
    auto& found = core.machines[address];
    if (!found) {
      found = std::make_unique<Machine>(uint32_t(core.machines.size()), address, core.now_ns,
                                        core.random.between(kUptimeLeast, kUptimeMost));
    }
    return *found;
  }

  // What tasks hold goes while their loop is still there; it may schedule more as it goes.
  void drop_events_of(const Machine& machine) {
    while (!core.queue.take_if([&](const Event& event) { return event.machine == &machine; }).empty()) {
    }
  }

  void remove(Machine& machine) {
    assert(machine.host);
    machine.host->loop.close();
    drop_events_of(machine);
    machine.parked.clear();
    machine.paused = false;
    assert(machine.host->network.listening.empty() && "a listener outlives its host");
    machine.host.reset();
  }

  SimulatedCore core;
  SimulatedWire wire;
};

Simulator::Simulator(uint64_t seed) : impl_(std::make_unique<Impl>(seed)) {}

Simulator::~Simulator() {
  for (auto& [address, machine] : impl_->core.machines) {
    if (machine->host) impl_->remove(*machine);
  }
  while (!impl_->core.queue.empty()) impl_->core.queue.take_all();
}

Runtime& Simulator::add_host(const std::string& address, SimulatedDisk& disk) {
  Machine& machine = impl_->machine(address);
  assert(!machine.host);
  machine.host = std::make_unique<SimulatedHost>(impl_->core, impl_->wire, machine, disk);
  machine.powered = true;
  impl_->wire.follow_reachability();
  return machine.host->runtime;
}

void Simulator::remove_host(const std::string& address, bool silently) {
  Machine& machine = impl_->machine(address);
  impl_->remove(machine);
  if (!silently) return;
  machine.powered = false;
  impl_->wire.vanish(machine);
  impl_->wire.follow_reachability();
}

NetworkFaults& Simulator::faults() {
  return impl_->core.faults;
}

void Simulator::set_partition(const std::string& address, int group) {
  impl_->machine(address).group = group;
  impl_->wire.follow_reachability();
}

void Simulator::heal() {
  for (auto& [address, machine] : impl_->core.machines) machine->group = 0;
  impl_->wire.follow_reachability();
}

void Simulator::set_drift(const std::string& address, double parts_per_million) {
  impl_->machine(address).clock.set_drift(parts_per_million);
}

void Simulator::jump_wall(const std::string& address, int64_t by_ns) {
  impl_->machine(address).clock.jump_wall(by_ns);
}

void Simulator::set_paused(const std::string& address, bool paused) {
  impl_->core.set_paused(impl_->machine(address), paused);
}

void Simulator::set_log(std::function<void(const std::string&, LogLevel, std::string_view)> log) {
  impl_->core.log = std::move(log);
}

int64_t Simulator::now_ns() const {
  return impl_->core.now_ns;
}
bool Simulator::step() {
  return impl_->core.step();
}

void Simulator::run_for(int64_t duration_ns) {
  (void)run_until([] { return false; }, duration_ns);
}

bool Simulator::run_until(const std::function<bool()>& done, int64_t at_most_ns) {
  SimulatedCore& core = impl_->core;
  int64_t deadline = core.now_ns + at_most_ns;
  while (!done()) {
    if (core.queue.empty() || core.queue.next_time() > deadline) {
      core.now_ns = std::max(core.now_ns, deadline);
      return done();
    }
    core.step();
  }
  return true;
}

uint64_t Simulator::trace_hash() const {
  return impl_->core.trace_hash;
}
Random& Simulator::random() {
  return impl_->core.random;
}

}  // namespace efs
