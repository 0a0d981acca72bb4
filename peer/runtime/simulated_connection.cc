#include <utility>

#include "peer/base/hash.h"
#include "peer/runtime/simulated_network.h"

namespace efs {

namespace {

constexpr size_t kWindowBytes = 1 << 20;    // in the kernels of both ends, before a writer waits
constexpr size_t kSegmentBytes = 64 << 10;  // long writes travel as several
constexpr size_t kReadBytes = 256 << 10;    // in one on_data
constexpr double kSplitChance = 0.125;
// A connection whose other end does not answer breaks; Linux takes 25 s (keep-alive, as real streams have it)
// up to 15 minutes (tcp_retries2 of tcp(7)): the order of the former.
constexpr int64_t kGivesUpLeast = 20 * kSecond;
constexpr int64_t kGivesUpMost = 120 * kSecond;
constexpr int64_t kRetryMost = 10 * kSecond;  // retransmission backs off, so a healed path idles for a while
constexpr int64_t kKeepAliveMost = 15 * kSecond;  // until the kernel asks, and is told that nobody is there

Error reset_by(const Address& remote) {
  return {Code::closed, "connection to " + remote.to_text() + ": connection reset"};
}

}  // namespace

SimulatedConnection::SimulatedConnection(SimulatedCore& core, SimulatedWire& wire, uint64_t id,
                                         Endpoint client, Endpoint server)
    : core_(core), wire_(wire), id_(id) {
  ends_[0].machine = client.machine;
  ends_[0].address = std::move(client.address);
  ends_[1].machine = server.machine;
  ends_[1].address = std::move(server.address);
}

void SimulatedConnection::start(int side, std::function<void(ByteView)> on_data,
                                std::function<void(Error)> on_close) {
  ends_[side].callbacks = std::make_shared<Callbacks>(Callbacks{std::move(on_data), std::move(on_close)});
  pause(side, false);
}

void SimulatedConnection::pause(int side, bool paused) {
  End& end = ends_[side];
  end.paused = paused;
  if (!end.open || !reads(end)) return;
  if (end.held.code != Code::ok) return end_later(side, 0, end.held);
  schedule_delivery(1 - side);
}

void SimulatedConnection::write(int side, std::vector<Bytes> pieces, std::function<void()> on_sent) {
  End& end = ends_[side];
  if (!end.open || broken_ || end.held.code != Code::ok) return;
  Segment segment;
  for (Bytes& piece : pieces) {
    if (segment.bytes.empty() && piece.size() <= kSegmentBytes) {
      segment.bytes = std::move(piece);
      continue;
    }
    for (ByteView rest = piece; !rest.empty();) {
      if (segment.bytes.size() >= kSegmentBytes) {
        end.unsent_bytes += segment.bytes.size();
        end.unsent.push_back(std::exchange(segment, {}));
      }
      size_t length = std::min(rest.size(), kSegmentBytes - segment.bytes.size());
      append(segment.bytes, rest.first(length));
      rest = rest.subspan(length);
    }
  }
  segment.on_sent = std::move(on_sent);
  end.unsent_bytes += segment.bytes.size();
  end.unsent.push_back(std::move(segment));
  send(side);
}

void SimulatedConnection::send(int side) {
  End& end = ends_[side];
  while (!end.unsent.empty() && end.in_flight_bytes < kWindowBytes) {
    if (core_.random.chance(core_.faults.break_chance)) return break_off();
    Segment segment = std::move(end.unsent.front());
    end.unsent.pop_front();
    end.unsent_bytes -= segment.bytes.size();
    if (segment.on_sent) {
      core_.soon(end.machine, [self = shared_from_this(), side, on_sent = std::move(segment.on_sent)] {
        if (self->ends_[side].open) on_sent();
      });
    }
    if (!segment.bytes.empty()) launch(side, std::move(segment));
  }
}

void SimulatedConnection::launch(int side, Segment segment) {
  End& from = ends_[side];
  if (!cut_) {
    Machine& sender = *from.machine;
    int64_t departure = core_.now_ns;
    if (core_.faults.bytes_per_second != 0 && from.machine != ends_[1 - side].machine) {
      departure = std::max(departure, sender.link_free_ns);
      departure += int64_t(segment.bytes.size() * uint64_t(kSecond) / core_.faults.bytes_per_second);
      sender.link_free_ns = departure;
    }
    segment.arrival_ns =
        std::max(from.last_arrival_ns, departure + wire_.latency(sender, *ends_[1 - side].machine));
    from.last_arrival_ns = segment.arrival_ns;
  }
  from.in_flight_bytes += segment.bytes.size();
  from.in_flight.push_back(std::move(segment));
  schedule_delivery(side);
}

void SimulatedConnection::schedule_delivery(int from) {
  End& sender = ends_[from];
  End& receiver = ends_[1 - from];
  if (sender.delivery != 0 || sender.in_flight.empty() || sender.in_flight.front().arrival_ns == kNever)
    return;
  if (receiver.open && !reads(receiver)) return;
  // Where no process has the other end any more, its kernel answers.
  sender.delivery = core_.at(sender.in_flight.front().arrival_ns, receiver.open ? receiver.machine : nullptr,
                             [self = shared_from_this(), from] { self->deliver(from); });
}

void SimulatedConnection::deliver(int from) {
  End& sender = ends_[from];
  End& receiver = ends_[1 - from];
  sender.delivery = 0;
  if (!receiver.open) {
    clear_outgoing(sender);
    if (sender.open) {
      end_later(from, wire_.latency(*receiver.machine, *sender.machine), reset_by(receiver.address));
    }
    return;
  }
  if (!reads(receiver)) return;
  Bytes bytes;
  take_arrived(sender, bytes);
  if (bytes.empty()) {
    return end(1 - from,
               {Code::closed, "connection to " + sender.address.to_text() + ": closed by the other side"});
  }
  send(from);
  schedule_delivery(from);
  core_.trace(id_ << 33 ^ uint64_t(from) << 32 ^ crc32c(bytes));
  auto callbacks = receiver.callbacks;  // on_data may destroy the stream
  callbacks->on_data(bytes);
}

// Nothing, when the end of the stream is what comes next.
void SimulatedConnection::take_arrived(End& sender, Bytes& bytes) {
  auto& arriving = sender.in_flight;
  while (!arriving.empty() && arriving.front().arrival_ns <= core_.now_ns &&
         !arriving.front().bytes.empty() && bytes.size() < kReadBytes) {
    if (bytes.empty()) {
      bytes = std::move(arriving.front().bytes);
    } else {
      append(bytes, arriving.front().bytes);
    }
    arriving.pop_front();
  }
  sender.in_flight_bytes -= bytes.size();
  if (bytes.size() < 2 || !core_.random.chance(kSplitChance)) return;
  size_t first = 1 + core_.random.below(bytes.size() - 1);
  sender.in_flight_bytes += bytes.size() - first;
  arriving.push_front({Bytes(bytes.begin() + long(first), bytes.end()), {}, core_.now_ns});
  bytes.resize(first);
}

void SimulatedConnection::clear_outgoing(End& end) {
  core_.cancel(std::exchange(end.delivery, 0));
  auto unsent = std::exchange(end.unsent, {});  // callbacks in it go last
  end.in_flight.clear();
  end.unsent_bytes = end.in_flight_bytes = 0;
}

// The stream is destroyed. What the kernel has goes on its way, unless there is something unread: then the
// kernel resets, which overtakes it (RFC 2525, 2.17).
void SimulatedConnection::close(int side) {
  End& end = ends_[side];
  if (!end.open) return;
  End& other = ends_[1 - side];
  bool resets = !other.in_flight.empty() && core_.random.chance(0.5);
  close_end(side);
  if (!other.open || broken_) return;
  if (!resets) return launch(side, Segment{});
  clear_outgoing(end);
  if (!cut_) end_later(1 - side, wire_.latency(*end.machine, *other.machine), reset_by(end.address));
}

// What both ways to an end have in common; its callbacks go.
void SimulatedConnection::close_end(int side) {
  End& end = ends_[side];
  End& other = ends_[1 - side];
  auto keep = shared_from_this();
  end.open = false;
  core_.cancel(std::exchange(end.gives_up, 0));
  core_.cancel(std::exchange(end.ending, 0));
  auto unsent = std::exchange(end.unsent, {});
  end.unsent_bytes = 0;
  if (other.open) {
    core_.cancel(std::exchange(other.delivery, 0));
    schedule_delivery(1 - side);  // it will find nobody
  } else {
    clear_outgoing(end);
    clear_outgoing(other);
    wire_.forget(id_);
  }
  auto callbacks = std::exchange(end.callbacks, nullptr);
}

void SimulatedConnection::end_later(int side, int64_t delay_ns, Error reason) {
  End& end = ends_[side];
  if (!end.open || end.ending != 0) return;
  end.ending = core_.in(delay_ns, end.machine, [self = shared_from_this(), side, why = std::move(reason)] {
    self->ends_[side].ending = 0;
    self->end(side, why);
  });
}

void SimulatedConnection::end(int side, Error reason) {
  End& end = ends_[side];
  if (!end.open) return;
  if (!reads(end)) {
    end.held = std::move(reason);
    return;
  }
  auto callbacks = end.callbacks;
  close_end(side);
  clear_outgoing(end);
  core_.trace(id_ << 33 ^ uint64_t(reason.code));
  callbacks->on_close(std::move(reason));
}

void SimulatedConnection::break_off() {
  broken_ = true;
  for (int side : {0, 1}) {
    clear_outgoing(ends_[side]);
    end_later(side, wire_.latency(*ends_[1 - side].machine, *ends_[side].machine),
              reset_by(ends_[1 - side].address));
  }
}

void SimulatedConnection::follow_reachability() {
  bool reachable = wire_.reachable(*ends_[0].machine, *ends_[1].machine);
  if (reachable == cut_) reachable ? mend() : cut();
}

void SimulatedConnection::cut() {
  cut_ = true;
  cut_since_ns_ = core_.now_ns;
  for (int side : {0, 1}) {
    End& end = ends_[side];
    core_.cancel(std::exchange(end.delivery, 0));
    for (Segment& segment : end.in_flight) {
      if (segment.arrival_ns > core_.now_ns || !ends_[1 - side].open) segment.arrival_ns = kNever;
    }
    schedule_delivery(side);
    core_.cancel(std::exchange(end.ending, 0));
    if (!end.open) continue;
    end.gives_up = core_.in(
        core_.random.between(kGivesUpLeast, kGivesUpMost), end.machine, [self = shared_from_this(), side] {
          self->ends_[side].gives_up = 0;
          self->end(side, {Code::timed_out, "connection to " + self->ends_[1 - side].address.to_text() +
                                                ": the other side does not answer"});
        });
  }
}

void SimulatedConnection::mend() {
  cut_ = false;
  int64_t longest = std::min(core_.now_ns - cut_since_ns_, kRetryMost);
  for (int side : {0, 1}) {
    End& end = ends_[side];
    core_.cancel(std::exchange(end.gives_up, 0));
    int64_t arrival = core_.now_ns + core_.random.between(0, longest) +
                      wire_.latency(*end.machine, *ends_[1 - side].machine);
    for (Segment& segment : end.in_flight) {
      if (segment.arrival_ns == kNever) segment.arrival_ns = end.last_arrival_ns = arrival;
    }
    schedule_delivery(side);
  }
  for (int side : {0, 1}) {
    bool nobody_there = !ends_[1 - side].open && ends_[1 - side].in_flight.empty();
    if (broken_ || nobody_there)
      end_later(side, core_.random.between(0, kKeepAliveMost), reset_by(ends_[1 - side].address));
  }
}

void SimulatedConnection::vanish(const Machine& machine) {
  for (int side : {0, 1}) {
    End& end = ends_[side];
    if (end.machine != &machine) continue;
    clear_outgoing(end);
    core_.cancel(std::exchange(ends_[1 - side].ending, 0));
  }
}

}  // namespace efs
