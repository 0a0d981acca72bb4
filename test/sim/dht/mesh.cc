#include "test/sim/dht/mesh.h"

#include <cstdlib>
#include <random>

namespace efs::dht {

void SeededRandom::fill(std::span<uint8_t> out) {
  for (size_t done = 0; done < out.size(); done += 8) {
    uint64_t x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    x ^= x >> 31;
    std::memcpy(out.data() + done, &x, std::min<size_t>(8, out.size() - done));
  }
}

namespace {
std::string address_of(size_t index) {
  std::string address = std::to_string(index);
  address.insert(address.begin(), 'h');
  return address;
}

Id seal(const Record& record, ByteView head) {
  static const Bytes secret = to_bytes(view("only the signer's hand knows this"));
  Bytes signed_part = to_bytes(record.key);
  put_be(signed_part, record.version);
  put_be(signed_part, uint64_t(record.expires_wall_ns));
  signed_part.push_back(record.removed);
  append(signed_part, head);
  return blake2b(signed_part, secret);
}
}  // namespace

Id key_of(const Id& publisher) {
  return blake2b(publisher);
}

Record sign(const Id& publisher, uint64_t version, int64_t expires_wall_ns, bool removed,
            std::string_view payload) {
  Record record{key_of(publisher), version, expires_wall_ns, removed, to_bytes(publisher)};
  append(record.body, view(payload));
  append(record.body, seal(record, record.body));
  return record;
}

Result<Id> check_record(const Record& record) {
  if (record.body.size() < 64) return fail(Code::unauthorized);
  const ByteView head = ByteView(record.body).first(record.body.size() - 32);
  const Id expected = seal(record, head);
  if (!std::equal(expected.begin(), expected.end(), record.body.end() - 32)) return fail(Code::unauthorized);
  Id publisher;
  std::copy_n(record.body.begin(), 32, publisher.begin());
  if (key_of(publisher) != record.key) return fail(Code::unauthorized);
  return publisher;
}

Mesh::Host& Mesh::add(Nature nature) {
  auto host = std::make_unique<Host>();
  host->mesh = this;
  host->index = hosts_.size();
  random_.fill(host->contact.id);
  host->contact.address = address_of(host->index);
  host->wall_skew_ns = int64_t(random_.below(uint64_t(4 * kMinute))) - 2 * kMinute;
  host->nature = nature;
  host->random = std::make_unique<SeededRandom>(random_.u64());
  host->store = make_memory_record_store();
  hosts_.push_back(std::move(host));
  return *hosts_.back();
}

void Mesh::start(Host& host, const std::vector<Contact>& seeds) {
  ++host.run;
  host.started_ns = now_ns_;
  host.node = *Node::create({.self = host.contact, .checker = check_record}, *host.store, host, *host.random,
                            instant(host));
  with(host, [&](Node& node, Instant now) { node.bootstrap(seeds, now); });
}

void Mesh::publish(Host& host, std::function<void(PutResult)> done) {
  const int64_t expires = wall_ns() + host.node->record_ttl_ns();
  const auto record = sign(host.contact.id, ++host.version, expires);
  if (!done) done = [](const PutResult&) {};
  with(host, [&](Node& node, Instant now) { node.put(record, std::move(done), now); });
}

Mesh::Host& Mesh::random_up() {
  for (;;) {
    auto& host = *hosts_[random_.below(hosts_.size())];
    if (host.node && host.nature == Nature::honest) return host;
  }
}

void Mesh::post(int64_t at_ns, Event event) {
  uint32_t index;
  if (free_events_.empty()) {
    index = uint32_t(events_.size());
    events_.push_back(std::move(event));
  } else {
    index = free_events_.back();
    free_events_.pop_back();
    events_[index] = std::move(event);
  }
  queue_.push({at_ns, ++order_, index});
}

void Mesh::at(int64_t time_ns, std::function<void()> call) {
  Event event;
  event.kind = Kind::call;
  event.call = std::move(call);
  post(time_ns, std::move(event));
}

void Mesh::carry(Kind kind, Host& from, Host& to, uint32_t run, uint64_t request_id, Bytes message) {
  ++messages_;
  bytes_ += message.size();
  if (random_.chance(loss)) return;
  const int64_t latency = latency_min_ns + int64_t(random_.below(uint64_t(latency_max_ns - latency_min_ns)));
  post(now_ns_ + latency,
       {kind, uint32_t(from.index), uint32_t(to.index), run, request_id, std::move(message), {}});
}

void Mesh::Host::send(const Contact& to, uint64_t request_id, Bytes message) {
  if (to.address.empty() || to.address[0] != 'h') return;
  const size_t at = std::strtoul(to.address.c_str() + 1, nullptr, 10);
  if (at >= mesh->hosts_.size()) return;
  auto& target = *mesh->hosts_[at];
  if (target.contact.id != to.id) return;  // the handshake finds somebody else there
  mesh->carry(Kind::request, *this, target, run, request_id, std::move(message));
}

void Mesh::handle(Event& event) {
  auto& from = *hosts_[event.from];
  auto& to = *hosts_[event.to];
  if (event.kind == Kind::wake) {
    if (!to.node || to.wake_ns != now_ns_) return;
    to.wake_ns = INT64_MAX;
    to.node->tick(instant(to));
    reschedule(to);
    return;
  }
  if (!to.node || to.group != from.group) return;
  for (uint64_t word : {uint64_t(now_ns_), uint64_t(event.from) << 32 | event.to,
                        uint64_t(crc32c(event.message)) << 1 | uint64_t(event.kind == Kind::answer)})
    trace_ = (trace_ ^ word) * 0x100000001b3;
  if (event.kind == Kind::request) {
    Bytes answer = to.nature == Nature::honest
                       ? to.node->on_request(from.contact.id, event.message, instant(to))
                       : lie(to, event.message);
    carry(Kind::answer, to, from, event.run, event.request_id, std::move(answer));
  } else if (event.run == to.run) {
    to.node->on_reply(event.request_id, event.message, instant(to));
  }
  reschedule(to);
}

// A liar answers at once, never has a record, takes every record and keeps none, and names contacts that are
// closer to what is asked for than anybody, and do not exist.
Bytes Mesh::lie(Host& host, ByteView message) {
  auto& random = *host.random;
  if (host.nature == Nature::babbler) {
    Bytes garbage(random.below(300));
    random.fill(garbage);
    return garbage;
  }
  auto request = decode_request(message);
  if (!request) return {};
  auto invent = [&](const Id& target) {
    std::vector<Contact> contacts;
    for (size_t i = 0; i < kReplicas; ++i)
      contacts.push_back({random_id_at(target, 60 + int(random.below(100)), random),
                          random.chance(0.5) ? address_of(random.below(hosts_.size())) : "nowhere"});
    return contacts;
  };
  Answer answer = Pong{};
  if (const auto* node = std::get_if<FindNode>(&request->body)) answer = Nodes{invent(node->target)};
  if (const auto* value = std::get_if<FindValue>(&request->body)) answer = Found{{}, invent(value->key)};
  if (const auto* store = std::get_if<Store>(&request->body))
    answer = Stored{std::vector<uint16_t>(store->records.size(), 0)};
  if (std::holds_alternative<Offer>(request->body)) answer = Wanted{};
  return encode(answer);
}

void Mesh::reschedule(Host& host) {
  if (!host.node) return;
  const int64_t next = std::max(host.node->next_tick_ns(), now_ns_ + 1);
  if (next >= host.wake_ns) return;
  host.wake_ns = next;
  Event event;
  event.kind = Kind::wake;
  event.to = uint32_t(host.index);
  post(next, std::move(event));
}

void Mesh::run_for(int64_t duration_ns) {
  const int64_t until = now_ns_ + duration_ns;
  while (!queue_.empty() && queue_.top().at_ns <= until) {
    const Slot slot = queue_.top();
    queue_.pop();
    now_ns_ = slot.at_ns;
    Event event = std::move(events_[slot.event]);
    free_events_.push_back(slot.event);
    if (event.kind == Kind::call) {
      event.call();
    } else {
      handle(event);
    }
  }
  now_ns_ = until;
}

bool long_form() {
  const char* value = std::getenv("EFS_LONG");
  return value != nullptr && std::string_view(value) == "1";
}

uint64_t fresh_seed() {
  if (const char* value = std::getenv("EFS_SEED")) return std::strtoull(value, nullptr, 0);
  return std::random_device()();
}

}  // namespace efs::dht
