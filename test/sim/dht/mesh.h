// A mesh of real Nodes in one process: a queue of events in virtual time, a network with latency, loss and
// partitions, clocks that differ, hosts that crash and come back with their store. Every choice comes from
// one seed; trace_hash() is over every message delivered.
//
// A message to a host that is down, in another group, or not the peer it is meant for is lost in silence:
// the worst that a real network does (a refused connection would be noticed sooner).
#pragma once

#include <queue>
#include <string>

#include "dht/node.h"

namespace efs::dht {

// splitmix64 (Steele, Lea, Flood 2014).
class SeededRandom : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}
  void fill(std::span<uint8_t> out) override;
  bool chance(double probability) { return double(u64() >> 11) * 0x1p-53 < probability; }

 private:
  uint64_t state_;
};

// Signed records of the simulation: the body is publisher, payload, and a keyed hash that only sign() and
// check_record() know the key of. A publisher may sign one key: key_of() itself.
Id key_of(const Id& publisher);
Record sign(const Id& publisher, uint64_t version, int64_t expires_wall_ns, bool removed = false,
            std::string_view payload = "here");
Result<Id> check_record(const Record& record);

class Mesh {
 public:
  enum class Nature { honest, liar, babbler };  // liar: invents contacts; babbler: answers garbage
  struct Host : Transport {
    Mesh* mesh = nullptr;
    size_t index = 0;
    Contact contact;
    int64_t wall_skew_ns = 0;
    int group = 0;
    Nature nature = Nature::honest;
    uint32_t run = 0;  // incarnation: answers to an earlier one are not for this one
    int64_t wake_ns = INT64_MAX;
    std::unique_ptr<SeededRandom> random;
    std::unique_ptr<RecordStore> store;  // its disk: outlives the node
    std::unique_ptr<Node> node;          // nothing while it is down
    uint64_t version = 0;                // of its own record, last put
    int64_t started_ns = 0;
    void send(const Contact& to, uint64_t request_id, Bytes message) override;
  };

  explicit Mesh(uint64_t seed) : random_(seed) {}

  Host& add(Nature nature = Nature::honest);
  void start(Host& host, const std::vector<Contact>& seeds);
  void stop(Host& host) { host.node.reset(), host.wake_ns = INT64_MAX; }
  // Puts a record of the host's own, of its next version.
  void publish(Host& host, std::function<void(PutResult)> done = {});
  // Calls into a node from outside an event go through this, so that its timers are seen.
  template <typename Call>
  void with(Host& host, Call call) {
    call(*host.node, instant(host));
    reschedule(host);
  }
  void at(int64_t time_ns, std::function<void()> call);

  void run_for(int64_t duration_ns);
  int64_t now_ns() const { return now_ns_; }
  Instant instant(const Host& host) const { return {now_ns_, kWallStart + now_ns_ + host.wall_skew_ns}; }
  int64_t wall_ns() const { return kWallStart + now_ns_; }

  std::vector<std::unique_ptr<Host>>& hosts() { return hosts_; }
  Host& random_up();  // an honest one
  SeededRandom& random() { return random_; }
  uint64_t trace_hash() const { return trace_; }
  uint64_t messages() const { return messages_; }  // sent, requests and answers
  uint64_t bytes() const { return bytes_; }

  double loss = 0.01;
  int64_t latency_min_ns = 1 * kMillisecond, latency_max_ns = 80 * kMillisecond;

 private:
  static constexpr int64_t kWallStart = 1'800'000'000 * kSecond;
  enum class Kind : uint8_t { request, answer, wake, call };
  struct Event {
    Kind kind = Kind::wake;
    uint32_t from = 0, to = 0, run = 0;  // run: of the host that asks
    uint64_t request_id = 0;
    Bytes message;
    std::function<void()> call;
  };
  struct Slot {
    int64_t at_ns;
    uint64_t order;
    uint32_t event;
    bool operator>(const Slot& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : order > other.order;
    }
  };
  void post(int64_t at_ns, Event event);
  void carry(Kind kind, Host& from, Host& to, uint32_t run, uint64_t request_id, Bytes message);
  void handle(Event& event);
  void reschedule(Host& host);
  Bytes lie(Host& host, ByteView request);

  SeededRandom random_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<Event> events_;
  std::vector<uint32_t> free_events_;
  std::priority_queue<Slot, std::vector<Slot>, std::greater<>> queue_;
  uint64_t order_ = 0, trace_ = 0xcbf29ce484222325, messages_ = 0, bytes_ = 0;
  int64_t now_ns_ = 0;
};

// EFS_LONG=1: the numbers of the promise, instead of a short form of the same.
bool long_form();
// EFS_SEED, or a fresh one; the run prints it.
uint64_t fresh_seed();

}  // namespace efs::dht
