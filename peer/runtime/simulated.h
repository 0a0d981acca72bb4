// The simulated runtime: many hosts in one process, one thread, virtual time.
//
// One queue of events, ordered by (time, order of scheduling), drives everything; every choice comes from
// one seed, so one seed run twice gives the same trace (trace_hash()): as long as what runs on it never acts
// in an order of addresses (a map keyed by pointers). Pool work runs as an event of its own, later. A host's
// clock drifts and jumps; its disk (SimulatedDisk) lives on when the host dies.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "peer/runtime/runtime.h"

namespace efs {

struct NetworkFaults {
  int64_t latency_min_ns = 200 * kMicrosecond;
  int64_t latency_max_ns = 2 * kMillisecond;
  double break_chance = 0;        // a segment breaks its connection (what TCP makes of heavy loss)
  double connect_failure = 0;     // a connect fails or times out
  uint64_t bytes_per_second = 0;  // 0: unlimited
};

// A disk in memory, with the promises of file.h: what was not synced is lost or kept, by the seed, at
// power_loss(): each write since the last sync apart (torn at 512-byte sectors), each name apart.
class SimulatedDisk {
 public:
  virtual ~SimulatedDisk() = default;
  virtual FileSystem& files() = 0;
  virtual void power_loss() = 0;
  // The process died, the kernel did not: everything written stays. Locks are released (also by power_loss).
  virtual void process_died() = 0;
  virtual void set_capacity(uint64_t bytes) = 0;
  // After `calls` more mutating calls, every call fails with Code::io until the next power_loss() or
  // process_died(): "power goes at the Nth step". Negative: never.
  virtual void fail_after(int64_t calls) = 0;
  virtual int64_t calls() const = 0;  // mutating calls so far
  // Flips one bit of a file.
  virtual void flip_bit(const std::string& path, uint64_t bit) = 0;
};
std::unique_ptr<SimulatedDisk> make_simulated_disk(uint64_t seed);

class Simulator {
 public:
  explicit Simulator(uint64_t seed);
  ~Simulator();

  // A host with an address of its own ("10.0.0.N"); its runtime lives until remove_host().
  Runtime& add_host(const std::string& address, SimulatedDisk& disk);
  // The process is gone: its timers and tasks are dropped, and what they hold with them. Destroy what runs on
  // it first (that closes its streams, and the others hear of it). `silently`: the machine lost power;
  // nothing that it still had to send arrives, nobody answers there, and others find out by timeouts, or when
  // it is back.
  void remove_host(const std::string& address, bool silently = false);

  NetworkFaults& faults();
  // Hosts in different groups cannot reach each other; an address in no group is in group 0.
  void set_partition(const std::string& address, int group);
  void heal();
  void set_drift(const std::string& address, double parts_per_million);
  void jump_wall(const std::string& address, int64_t by_ns);
  // A paused host runs nothing; its events wait (SIGSTOP).
  void set_paused(const std::string& address, bool paused);

  // Where the log of all hosts goes; by default nowhere.
  void set_log(std::function<void(const std::string& address, LogLevel, std::string_view)> log);

  int64_t now_ns() const;
  bool step();  // one event; false when none is left
  void run_for(int64_t duration_ns);
  bool run_until(const std::function<bool()>& done, int64_t at_most_ns);  // false: time ran out
  uint64_t trace_hash() const;                                            // of all events so far
  Random& random();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace efs
