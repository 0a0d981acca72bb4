// A process on a machine of the simulation: its loop and the bundle that it is constructed with.
// Inside efs_simulated only; one thread.
#pragma once

#include "peer/runtime/simulated_core.h"
#include "peer/runtime/simulated_network.h"

namespace efs {

class SimulatedLoop final : public Loop {
 public:
  SimulatedLoop(SimulatedCore& core, Machine& machine) : core_(core), machine_(machine) {}
  const Clock& clock() const override { return machine_.clock; }
  void post(Task task) override;
  TimerId after(int64_t delay_ns, Task task) override;
  void cancel(TimerId timer) override;
  void work(Task job, Task done) override;
  bool on_thread() const override { return !in_job_; }
  void close() { closing_ = true; }

 private:
  SimulatedCore& core_;
  Machine& machine_;
  bool closing_ = false;
  bool in_job_ = false;
};

class SimulatedLogger final : public Logger {
 public:
  SimulatedLogger(const SimulatedCore& core, const Machine& machine) : core_(core), machine_(machine) {}
  void write(LogLevel level, std::string_view message) override {
    if (core_.log) core_.log(machine_.address, level, message);
  }
  bool enabled(LogLevel) const override { return core_.log != nullptr; }

 private:
  const SimulatedCore& core_;
  const Machine& machine_;
};

class SimulatedHost {
 public:
  SimulatedHost(SimulatedCore& core, SimulatedWire& wire, Machine& machine, SimulatedDisk& disk)
      : loop(core, machine),
        random(core.random.next()),
        network(core, wire, machine),
        logger(core, machine),
        runtime{loop, random, network, disk.files(), logger} {}

  SimulatedLoop loop;
  SimulatedRandom random;
  SimulatedNetwork network;
  SimulatedLogger logger;
  Runtime runtime;
};

}  // namespace efs
