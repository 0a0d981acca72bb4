// A peer's part in the DHT: Kademlia as a step machine.
//
// Events go in with the time (on_*, tick), actions come out through Transport; it never waits, reads a clock
// or opens anything. A lookup's happy path:
//   lookup(key): not held here -> a Lookup over the contacts known -> FindValue to the three closest
//   on_reply: a Found with contacts: the next closest are asked; with a record: checked, counted
//   enough holders answered: the record that supersedes the others goes to the callback; holders that
//   returned an older one get it; the closest peer on the way that had none keeps it for some minutes.
// A request that gets no answer makes way for another after a second and fails after five; a contact that
// fails twice is forgotten, but kept among `former` contacts, which are tried again for ever, so that a
// partition heals by itself. An answer that breaks the format, or a record that the checker refuses, counts
// as a failure of its sender.
//
// Upkeep, by tick(): first pings of contacts heard of, pings of silent ones, a lookup of the own id and of a
// random id a bucket, offers of held records to those who should hold them (docs/dht.md has the load).
//
// Thread: that of whoever owns it; nothing here is thread-safe. Transport::send and the checker must not call
// back into the Node; the callbacks of operations may, and may run before the operation returns.
// What a crash loses: operations under way, contacts (give contacts() back through bootstrap()), and what the
// RecordStore had not synced.
#pragma once

#include <deque>
#include <functional>
#include <unordered_map>

#include "dht/holdings.h"
#include "dht/lookup.h"
#include "dht/routing_table.h"

namespace efs::dht {

// Where requests go. The transport authenticates: what reaches on_reply(request_id) must have come from the
// peer with to.id.
class Transport {
 public:
  virtual ~Transport() = default;
  // Ends in Node::on_reply, Node::on_failed, or nothing: the Node has its own timeout of kRequestTimeout.
  virtual void send(const Contact& to, uint64_t request_id, Bytes message) = 0;
};

struct NodeConfig {
  Contact self;  // an empty address: cannot be dialled, in nobody's table (clients)
  Checker checker = {};
  // May this id be in the mesh at all? Contacts that may not are dropped. Empty: all may.
  std::function<bool(const Id&)> admitted = {};
  HoldingLimits holdings = {};
};

struct LookupOptions {
  bool fresh = false;  // neither what is held here nor anybody's cache will do: after a stale locator
};
struct LookupResult {
  // not_found: the holders answered, and have none, or have a removal. timed_out: too few answered to tell.
  // overloaded: too many lookups at once.
  Result<Record> record = fail(Code::not_found);
  int hops = 0;  // 0: held here
  size_t requests = 0;
};
struct PutResult {
  // What accept() of ours said, or: unreachable (no other peer took it; it is kept here and republished
  // until it expires), conflict (others hold something that supersedes it).
  Status status;
  size_t holders = 0;  // other peers that hold it now
};
struct NodeResult {
  std::vector<Contact> closest;
  int hops = 0;
  size_t requests = 0;
};

// Counters since construction.
struct NodeStats {
  uint64_t sent[8] = {};  // requests, by kind (Ping::kKind, ...)
  uint64_t received = 0;
  uint64_t failed_requests = 0;
  uint64_t bad_answers = 0;      // broken, or with a record that was refused
  uint64_t refused_records = 0;  // of those that came with Store
  uint64_t refused_requests = 0;
  uint64_t lookups = 0;
};

class Node {
 public:
  // All references must outlive it. Fails when the store cannot be read.
  static Result<std::unique_ptr<Node>> create(NodeConfig config, RecordStore& store, Transport& transport,
                                              Random& random, Instant now);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // ---- events ----
  // A session with a peer that can be dialled there is up, whoever dialled.
  void on_peer_up(const Contact& contact, Instant now);
  // It broke: the peer is pinged soon.
  void on_peer_down(const Id& id, Instant now);
  // It is not in the mesh any more.
  void on_peer_removed(const Id& id);
  // A request of an authenticated peer; returns the answer, always.
  Bytes on_request(const Id& from, ByteView message, Instant now);
  void on_reply(uint64_t request_id, ByteView message, Instant now);
  void on_failed(uint64_t request_id, Instant now);
  // Call at next_tick_ns() or later (calling earlier or more often does no harm).
  void tick(Instant now);
  int64_t next_tick_ns() const;

  // ---- operations ----
  // Contacts to begin with, or to begin again with whenever all others are lost; at most kMaxFormer.
  void bootstrap(const std::vector<Contact>& seeds, Instant now);
  void lookup(const Id& key, const LookupOptions& options, std::function<void(LookupResult)> done,
              Instant now);
  // Publishes a signed record, or a removal (record.removed): kept here and at the k closest, and
  // republished until it expires; its publisher puts a higher version before that (record_ttl_ns()).
  void put(const Record& record, std::function<void(PutResult)> done, Instant now);
  void find_closest(const Id& target, std::function<void(NodeResult)> done, Instant now);

  // How long a record that is signed now should live, and how often holders look after each other's:
  // both grow with the mesh as lookups do (log2 of size/k), so that upkeep a peer stays the same.
  int64_t record_ttl_ns() const;
  int64_t republish_interval_ns() const;

  bool joined() const { return joined_; }                  // a lookup of our own id has met others
  size_t mesh_size() const { return table_.mesh_size(); }  // an estimate, see RoutingTable
  size_t known() const { return table_.size(); }
  // The closest and then others, to be kept for the next start.
  std::vector<Contact> contacts(size_t count) const { return table_.closest(config_.self.id, count); }
  const Holdings& holdings() const { return holdings_; }
  const NodeStats& stats() const { return stats_; }

 private:
  Node(NodeConfig config, RecordStore& store, Transport& transport, Random& random, Instant now);

  enum class Purpose : uint8_t { ping, lookup, publish_store, publish_offer, store, offer };
  struct Pending {
    Contact to;
    Purpose purpose = Purpose::ping;
    uint64_t task = 0;  // of a lookup or publication
  };
  using LookupDone = std::function<void(Lookup&, Instant)>;
  struct LookupTask {
    Lookup lookup;
    bool fresh = false;
    LookupDone done;
  };
  // A record on its way to the k closest.
  struct Publication {
    Id key{};
    size_t outstanding = 0, holders = 0, asked = 0;
    bool conflict = false;
    bool give_away = false;  // we are not among the k closest: drop it when enough of them have it
    std::function<void(PutResult)> done;
  };
  struct HandOver {
    Contact to;
    size_t rank = 0;  // we look after it if so few are closer to the record
    Id cursor{};
  };
  struct Cached {
    Record record;
    int64_t until_ns = 0;
  };
  struct Sender {
    double tokens = kSenderBurst;
    int64_t updated_ns = 0;
  };

  // node.cc: operations, requests of ours
  template <typename Body>
  void send(const Contact& to, const Body& body, Purpose purpose, uint64_t task, Instant now);
  void ping(const Contact& contact, Instant now);
  void offer(const Contact& contact, std::vector<RecordName> names, Instant now);
  void start_lookup(Lookup lookup, bool fresh, LookupDone done, Instant now);
  void advance(uint64_t task, Instant now);
  void finish_value(Lookup& lookup, const std::function<void(LookupResult)>& done, Instant now);
  void publish(const Id& key, bool offer, bool give_away, const std::vector<Contact>& to,
               std::function<void(PutResult)> done, Instant now);
  void publication_step(uint64_t task, bool holds, bool conflict, Instant now);
  void request_failed(uint64_t request_id, Instant now);
  void task_failed(const Pending& pending, Instant now);
  void trim();
  bool apply(const Pending& pending, const Answer& answer, Instant now);
  bool apply_lookup(const Pending& pending, const Answer& answer, Instant now);
  bool apply_publication(const Pending& pending, const Answer& answer, Instant now);
  void apply_wanted(const Pending& pending, const Wanted& wanted, Instant now);
  void deliver(std::function<void()> callback) { deliveries_.push_back(std::move(callback)); }
  void flush();

  // node_requests.cc: requests of others
  Answer answer(const Id& from, const Ping&, Instant now);
  Answer answer(const Id& from, const FindNode& find, Instant now);
  Answer answer(const Id& from, const FindValue& find, Instant now);
  Answer answer(const Id& from, const Store& store, Instant now);
  Answer answer(const Id& from, const Offer& offer, Instant now);
  std::vector<Contact> neighbours_for(const Id& asker, const Id& target) const;
  bool spend(const Id& sender, double tokens, Instant now);
  Status cache(const Record& record, Instant now);

  // node_upkeep.cc: contacts and records over time
  bool admitted(const Id& id) const { return !config_.admitted || config_.admitted(id); }
  void alive(const Contact& contact, Instant now);
  void heard(const std::vector<Contact>& contacts);
  void dead(const Contact& contact, Instant now);
  void add_former(const Contact& contact);
  void drop_former(const Id& id);
  void ping_slot(Instant now);
  void ping_former(Instant now);
  void hand_over_to(const Contact& contact, size_t rank);
  void refresh(const Id& target, size_t width, Instant now);
  bool alone() const { return table_.size() == 0 && former_.empty() && seeds_.empty(); }
  void sweep(Instant now);
  using Offers = std::map<Id, std::pair<Contact, std::vector<RecordName>>>;
  void sweep_record(const Holdings::Held& held, Offers& offers, Instant now);
  void republish_own(const Id& key, Instant now);
  void hand_over_slice(Instant now);
  int64_t next_due_ns(Instant now);
  int64_t jittered(int64_t interval_ns);  // 0.75 to 1.25 of it
  bool busy() const { return requests_.size() >= kMaxUpkeepRequests; }

  NodeConfig config_;
  Transport& transport_;
  Random& random_;
  RoutingTable table_;
  Holdings holdings_;
  NodeStats stats_;

  std::unordered_map<uint64_t, Pending> requests_;
  std::deque<std::pair<int64_t, uint64_t>> slow_, timeouts_;  // when, request
  std::unordered_map<uint64_t, LookupTask> lookups_;
  std::unordered_map<uint64_t, Publication> publications_;
  uint64_t last_id_ = 0;  // of requests, lookups, publications
  std::vector<std::function<void()>> deliveries_;
  bool flushing_ = false;

  std::unordered_map<Id, Sender, IdHash> senders_;
  std::unordered_map<Id, Cached, IdHash> cache_;

  std::vector<Contact> heard_;
  std::vector<Contact> former_;
  std::unordered_map<Id, size_t, IdHash> former_index_;
  std::unordered_map<Id, int64_t, IdHash> silent_;  // heard of, did not answer: not to be tried until then
  std::vector<Contact> seeds_;
  std::deque<HandOver> hand_overs_;
  uint64_t slots_ = 0;
  double scale_ = 1;
  bool joined_ = false;
  int64_t next_slot_ns_ = 0, next_sweep_ns_ = 0, next_neighbours_ns_ = 0, next_hand_over_ns_ = 0;
  int64_t returns_since_ns_ = INT64_MIN / 2, healing_until_ns_ = INT64_MIN / 2;
  int returns_ = 0;  // of former contacts, within the minute since then
};

}  // namespace efs::dht
