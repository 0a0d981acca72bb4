// The simulated network. Inside efs_simulated only; one thread.
//
// A connection has two ends and a direction from each. What a process writes waits (unsent) until the window
// lets the kernel have it; then it is a segment with a time of arrival, in order, after latency and
// bandwidth. At arrival it goes to on_data: as one with others that arrived, or split, as TCP does. A
// partition makes the times of arrival of a direction "never", until it heals or an end gives up.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "peer/runtime/simulated_core.h"

namespace efs {

class SimulatedWire;

class SimulatedConnection : public std::enable_shared_from_this<SimulatedConnection> {
 public:
  struct Endpoint {
    Machine* machine;
    Address address;
  };
  SimulatedConnection(SimulatedCore& core, SimulatedWire& wire, uint64_t id, Endpoint client,
                      Endpoint server);

  // Called by the stream that holds end `side` (0: who connected, 1: who accepted).
  void start(int side, std::function<void(ByteView)> on_data, std::function<void(Error)> on_close);
  void write(int side, std::vector<Bytes> pieces, std::function<void()> on_sent);
  void pause(int side, bool paused);
  void close(int side);
  size_t queued_bytes(int side) const { return ends_[side].unsent_bytes; }
  const Address& address(int side) const { return ends_[side].address; }

  // Called by the wire.
  bool uses(const Machine& machine) const {
    return ends_[0].machine == &machine || ends_[1].machine == &machine;
  }
  void follow_reachability();
  // Power went: what `machine`'s kernel held is gone, and its ends with it.
  void vanish(const Machine& machine);
  void hold_first_bytes(int side, int64_t until_ns) { ends_[side].last_arrival_ns = until_ns; }

 private:
  using EventId = SimulatedCore::EventId;
  struct Callbacks {
    std::function<void(ByteView)> on_data;
    std::function<void(Error)> on_close;
  };
  struct Segment {
    Bytes bytes;  // empty: the end of the stream
    std::function<void()> on_sent;
    int64_t arrival_ns = kNever;
  };
  struct End {
    Machine* machine;
    Address address;
    std::shared_ptr<Callbacks> callbacks;  // from start() to the end
    bool open = true;
    bool paused = false;
    Error held;            // an end to be told of when it reads again
    EventId gives_up = 0;  // for want of answers
    EventId ending = 0;    // word of the end is on its way here
    // What goes from here to the other end; once closed, only an end of the stream may be in flight.
    std::deque<Segment> unsent, in_flight;
    size_t unsent_bytes = 0, in_flight_bytes = 0;
    int64_t last_arrival_ns = 0;
    EventId delivery = 0;
  };

  bool reads(const End& end) const { return end.callbacks && !end.paused; }
  void send(int side);
  void launch(int side, Segment segment);
  void schedule_delivery(int from);
  void deliver(int from);
  void take_arrived(End& sender, Bytes& bytes);
  void cut();
  void mend();
  void break_off();
  void end_later(int side, int64_t delay_ns, Error reason);
  void end(int side, Error reason);
  void clear_outgoing(End& end);
  void close_end(int side);

  SimulatedCore& core_;
  SimulatedWire& wire_;
  const uint64_t id_;
  End ends_[2];
  bool cut_ = false;
  int64_t cut_since_ns_ = 0;
  bool broken_ = false;  // by break_chance: both ends will hear of it
};

// All connections, in order of their making.
class SimulatedWire {
 public:
  explicit SimulatedWire(SimulatedCore& core) : core_(core) {}
  std::shared_ptr<SimulatedConnection> connect(SimulatedConnection::Endpoint client,
                                               SimulatedConnection::Endpoint server);
  void forget(uint64_t id) { connections_.erase(id); }
  bool reachable(const Machine& a, const Machine& b) const;
  int64_t latency(const Machine& a, const Machine& b);
  // After partitions, power and hosts changed.
  void follow_reachability();
  void vanish(const Machine& machine);

 private:
  SimulatedCore& core_;
  uint64_t last_id_ = 0;
  std::map<uint64_t, std::shared_ptr<SimulatedConnection>> connections_;
};

// What a host listens on, and how it connects.
class SimulatedNetwork final : public Network {
 public:
  SimulatedNetwork(SimulatedCore& core, SimulatedWire& wire, Machine& machine)
      : core_(core), wire_(wire), machine_(machine) {}
  Result<std::unique_ptr<Listener>> listen(const Address& address,
                                           std::function<void(std::unique_ptr<Stream>)> on_accept) override;
  Pending connect(const Address& address, int64_t timeout_ns,
                  std::function<void(Result<std::unique_ptr<Stream>>)> done) override;

  struct Listening {
    Address address;
    std::function<void(std::unique_ptr<Stream>)> on_accept;
    bool open = true;
  };
  // By "port" or "unix:path".
  std::map<std::string, std::shared_ptr<Listening>> listening;

 private:
  SimulatedCore& core_;
  SimulatedWire& wire_;
  Machine& machine_;
};

}  // namespace efs
