#include "dht/node.h"

#include <algorithm>

namespace efs::dht {

Result<std::unique_ptr<Node>> Node::create(NodeConfig config, RecordStore& store, Transport& transport,
                                           Random& random, Instant now) {
  std::unique_ptr<Node> node(new Node(std::move(config), store, transport, random, now));
  EFS_TRY(node->holdings_.load(now, [&] { return node->next_due_ns(now); }));
  return node;
}

Node::Node(NodeConfig config, RecordStore& store, Transport& transport, Random& random, Instant now)
    : config_(std::move(config)),
      transport_(transport),
      random_(random),
      table_(config_.self.id),
      holdings_(store, config_.checker, config_.holdings),
      next_slot_ns_(now.now_ns + int64_t(random.below(uint64_t(kSlot)))),
      next_sweep_ns_(now.now_ns + int64_t(random.below(uint64_t(kSweep)))),
      next_neighbours_ns_(now.now_ns) {}

// ---- operations ----

void Node::bootstrap(const std::vector<Contact>& seeds, Instant now) {
  for (const auto& seed : seeds) {
    if (seeds_.size() >= kMaxFormer) break;
    if (valid(seed) && seed.id != config_.self.id && admitted(seed.id)) seeds_.push_back(seed);
  }
  next_neighbours_ns_ = now.now_ns;
  tick(now);
}

void Node::lookup(const Id& key, const LookupOptions& options, std::function<void(LookupResult)> done,
                  Instant now) {
  ++stats_.lookups;
  std::optional<Record> here;
  if (!options.fresh) {
    // What lies further from us than from k others may have been superseded among them.
    const auto* held = holdings_.find(key, now);
    if (held != nullptr && (held->own || table_.closer_than_self(key, kReplicas) < kReplicas))
      here = holdings_.get(key, now);
    if (auto cached = cache_.find(key);
        !here && cached != cache_.end() && cached->second.until_ns > now.now_ns)
      here = cached->second.record;
  }
  if (here || lookups_.size() >= kMaxLookups) {
    LookupResult result;
    if (!here) {
      result.record = fail(Code::overloaded);
    } else if (!here->removed) {
      result.record = *std::move(here);
    }
    deliver([done = std::move(done), result = std::move(result)] { done(result); });
  } else {
    start_lookup(
        Lookup(config_.self.id, key, kReplicas, kValueQuorum), options.fresh,
        [this, done = std::move(done)](Lookup& lookup, Instant then) { finish_value(lookup, done, then); },
        now);
  }
  flush();
}

void Node::finish_value(Lookup& lookup, const std::function<void(LookupResult)>& done, Instant now) {
  LookupResult result;
  result.hops = lookup.hops();
  result.requests = lookup.requests();
  auto best = lookup.best();
  if (best) {
    for (const auto& holder : lookup.outdated()) send(holder, Store{{*best}, false}, Purpose::store, 0, now);
    const auto on_the_way = lookup.closest();
    if (!on_the_way.empty()) send(on_the_way.front(), Store{{*best}, true}, Purpose::store, 0, now);
  }
  auto held = holdings_.get(lookup.target(), now);
  if (held && (!best || supersedes(*held, *best))) best = std::move(held);
  if (best && !best->removed) {
    result.record = *std::move(best);
  } else if (!best && lookup.answers() == 0 && !alone()) {
    result.record = fail(Code::timed_out);
  }
  deliver([done, result = std::move(result)] { done(result); });
}

void Node::put(const Record& record, std::function<void(PutResult)> done, Instant now) {
  auto status = holdings_.accept(record, true, now, next_due_ns(now));
  if (status && publications_.size() >= kMaxPublications) {
    holdings_.set_due(record.key, now.now_ns + kSweep);
    status = fail(Code::overloaded);
  }
  if (!status) {
    deliver([done = std::move(done), status = std::move(status)] { done({status, 0}); });
  } else {
    start_lookup(
        Lookup(config_.self.id, record.key, kReplicas, 0), false,
        [this, key = record.key, done = std::move(done)](Lookup& lookup, Instant then) {
          publish(key, false, false, lookup.closest(), done, then);
        },
        now);
  }
  flush();
}

void Node::find_closest(const Id& target, std::function<void(NodeResult)> done, Instant now) {
  start_lookup(
      Lookup(config_.self.id, target, kReplicas, 0), false,
      [this, done = std::move(done)](Lookup& lookup, Instant) {
        deliver([done, result = NodeResult{lookup.closest(), lookup.hops(), lookup.requests()}] {
          done(result);
        });
      },
      now);
  flush();
}

void Node::flush() {
  if (flushing_) return;
  flushing_ = true;
  while (!deliveries_.empty()) {
    auto ready = std::exchange(deliveries_, {});
    for (auto& callback : ready) callback();
  }
  flushing_ = false;
}

// ---- lookups ----

void Node::start_lookup(Lookup lookup, bool fresh, LookupDone done, Instant now) {
  lookup.add_known(table_.closest(lookup.target(), kReplicas));
  if (table_.size() == 0) {
    lookup.add_known(seeds_);
    lookup.add_known(former_);
  }
  const uint64_t task = ++last_id_;
  lookups_.emplace(task, LookupTask{std::move(lookup), fresh, std::move(done)});
  advance(task, now);
}

void Node::advance(uint64_t task, Instant now) {
  auto at = lookups_.find(task);
  if (at == lookups_.end()) return;
  auto& lookup = at->second.lookup;
  while (auto contact = lookup.next()) {
    if (lookup.wants_value()) {
      send(*contact, FindValue{lookup.target(), at->second.fresh}, Purpose::lookup, task, now);
    } else {
      send(*contact, FindNode{lookup.target()}, Purpose::lookup, task, now);
    }
  }
  if (!lookup.finished()) return;
  auto finished = std::move(at->second);
  lookups_.erase(at);
  finished.done(finished.lookup, now);
}

bool Node::apply_lookup(const Pending& pending, const Answer& answer, Instant now) {
  const auto at = lookups_.find(pending.task);
  const bool running = at != lookups_.end();
  auto answered = [&](std::vector<Contact> contacts) {
    std::erase_if(contacts, [&](const auto& contact) { return !admitted(contact.id); });
    heard(contacts);
    if (running) at->second.lookup.answered(pending.to.id, contacts);
  };
  if (const auto* nodes = std::get_if<Nodes>(&answer)) {
    answered(nodes->contacts);
  } else if (const auto* found = std::get_if<Found>(&answer)) {
    if (!found->record) {
      answered(found->contacts);
    } else if (running) {
      if (found->record->key != at->second.lookup.target()) return false;
      const auto check = holdings_.check(*found->record, now);
      if (!check && check.error().code != Code::expired) return false;
      // A clock may differ a little from ours: whoever still holds what has expired here lies not.
      check ? at->second.lookup.answered(pending.to.id, *found->record) : answered({});
    }
  } else {
    return false;
  }
  advance(pending.task, now);
  return true;
}

// ---- publications ----

void Node::publish(const Id& key, bool offer, bool give_away, const std::vector<Contact>& to,
                   std::function<void(PutResult)> done, Instant now) {
  const auto record = holdings_.get(key, now);
  const auto* held = holdings_.find(key, now);
  if (!record || held == nullptr || to.empty()) {
    // Superseded by nothing and lost, or nobody there. Alone in the mesh, holding it is all there is to do.
    if (record && !alone()) holdings_.set_due(key, now.now_ns + kSweep);
    Status status = record && alone() ? Status() : fail(record ? Code::unreachable : Code::expired);
    if (done) deliver([done = std::move(done), status = std::move(status)] { done({status, 0}); });
    return;
  }
  const uint64_t task = ++last_id_;
  publications_[task] = {key, to.size(), 0, to.size(), false, give_away, std::move(done)};
  const RecordName name = held->name;
  for (const auto& contact : to) {
    if (offer) {
      send(contact, Offer{{name}}, Purpose::publish_offer, task, now);
    } else {
      send(contact, Store{{*record}, false}, Purpose::publish_store, task, now);
    }
  }
}

void Node::publication_step(uint64_t task, bool holds, bool conflict, Instant now) {
  auto at = publications_.find(task);
  if (at == publications_.end()) return;
  auto& publication = at->second;
  publication.holders += holds ? 1 : 0;
  publication.conflict |= conflict;
  if (--publication.outstanding > 0) return;
  auto finished = std::move(publication);
  publications_.erase(at);
  if (finished.give_away) {
    const auto* held = holdings_.find(finished.key, now);
    if (held != nullptr && !held->own && finished.holders * 2 >= finished.asked) holdings_.drop(finished.key);
  } else if (finished.holders == 0) {
    holdings_.set_due(finished.key, now.now_ns + kSweep);
  }
  if (!finished.done) return;
  PutResult result;
  result.holders = finished.holders;
  if (finished.conflict) {
    result.status = fail(Code::conflict);
  } else if (finished.holders == 0) {
    result.status = fail(Code::unreachable);
  }
  deliver([done = std::move(finished.done), result = std::move(result)] { done(result); });
}

bool Node::apply_publication(const Pending& pending, const Answer& answer, Instant now) {
  if (const auto* stored = std::get_if<Stored>(&answer)) {
    if (pending.purpose != Purpose::publish_store || stored->codes.size() != 1) return false;
    const auto code = Code(stored->codes[0]);
    publication_step(pending.task, code == Code::ok, code == Code::conflict, now);
    return true;
  }
  const auto* wanted = std::get_if<Wanted>(&answer);
  if (wanted == nullptr || pending.purpose != Purpose::publish_offer) return false;
  const auto at = publications_.find(pending.task);
  if (at == publications_.end()) return true;
  const auto record = holdings_.get(at->second.key, now);
  if (!wanted->keys.empty() && record) {
    send(pending.to, Store{{*record}, false}, Purpose::publish_store, pending.task, now);
    return true;
  }
  for (const auto& newer : wanted->newer) (void)holdings_.accept(newer, false, now, next_due_ns(now));
  publication_step(pending.task, wanted->newer.empty(), !wanted->newer.empty(), now);
  return true;
}

// The answer to an Offer of upkeep: sends what is wanted, takes what is newer.
void Node::apply_wanted(const Pending& pending, const Wanted& wanted, Instant now) {
  for (const auto& newer : wanted.newer) (void)holdings_.accept(newer, false, now, next_due_ns(now));
  Store store;
  size_t bytes = 0;
  auto send_batch = [&] {
    if (store.records.empty()) return;
    send(pending.to, store, Purpose::store, 0, now);
    store.records.clear();
    bytes = 0;
  };
  for (const auto& key : wanted.keys) {
    auto record = holdings_.get(key, now);
    if (!record) continue;
    if (store.records.size() >= kMaxBatchRecords || bytes + record->body.size() > kMaxBatchBytes)
      send_batch();
    bytes += record->body.size();
    store.records.push_back(*std::move(record));
  }
  send_batch();
}

// ---- requests of ours ----

template <typename Body>
void Node::send(const Contact& to, const Body& body, Purpose purpose, uint64_t task, Instant now) {
  const uint64_t request_id = ++last_id_;
  requests_.emplace(request_id, Pending{to, purpose, task});
  if (purpose == Purpose::lookup) slow_.emplace_back(now.now_ns + kSlowAfter, request_id);
  timeouts_.emplace_back(now.now_ns + kRequestTimeout, request_id);
  ++stats_.sent[Body::kKind];
  transport_.send(to, request_id, encode(Request{config_.self.address, body}));
}

void Node::ping(const Contact& contact, Instant now) {
  send(contact, Ping{}, Purpose::ping, 0, now);
}
void Node::offer(const Contact& contact, std::vector<RecordName> names, Instant now) {
  send(contact, Offer{std::move(names)}, Purpose::offer, 0, now);
}

bool Node::apply(const Pending& pending, const Answer& answer, Instant now) {
  switch (pending.purpose) {
    case Purpose::ping:
      return std::holds_alternative<Pong>(answer);
    case Purpose::lookup:
      return apply_lookup(pending, answer, now);
    case Purpose::publish_store:
    case Purpose::publish_offer:
      return apply_publication(pending, answer, now);
    case Purpose::store:
      return std::holds_alternative<Stored>(answer);
    case Purpose::offer:
      if (const auto* wanted = std::get_if<Wanted>(&answer)) {
        apply_wanted(pending, *wanted, now);
        return true;
      }
      return false;
  }
  return false;
}

void Node::on_reply(uint64_t request_id, ByteView message, Instant now) {
  auto at = requests_.find(request_id);
  if (at == requests_.end()) return;  // too late, or invented
  const Pending pending = std::move(at->second);
  requests_.erase(at);
  auto answer = decode_answer(message);
  if (answer && std::holds_alternative<Refused>(*answer)) {  // alive, but no help
    alive(pending.to, now);
    task_failed(pending, now);
  } else if (answer && apply(pending, *answer, now)) {
    alive(pending.to, now);
  } else {
    ++stats_.bad_answers;
    dead(pending.to, now);
    task_failed(pending, now);
  }
  trim();
  flush();
}

void Node::on_failed(uint64_t request_id, Instant now) {
  request_failed(request_id, now);
  trim();
  flush();
}

void Node::request_failed(uint64_t request_id, Instant now) {
  auto at = requests_.find(request_id);
  if (at == requests_.end()) return;
  const Pending pending = std::move(at->second);
  requests_.erase(at);
  ++stats_.failed_requests;
  dead(pending.to, now);
  task_failed(pending, now);
}

void Node::task_failed(const Pending& pending, Instant now) {
  if (pending.purpose == Purpose::lookup) {
    if (auto at = lookups_.find(pending.task); at != lookups_.end()) at->second.lookup.failed(pending.to.id);
    advance(pending.task, now);
  } else if (pending.purpose == Purpose::publish_store || pending.purpose == Purpose::publish_offer) {
    publication_step(pending.task, false, false, now);
  }
}

// Forgets the deadlines of requests that are over, so that nobody wakes for them.
void Node::trim() {
  while (!slow_.empty() && !requests_.contains(slow_.front().second)) slow_.pop_front();
  while (!timeouts_.empty() && !requests_.contains(timeouts_.front().second)) timeouts_.pop_front();
}

}  // namespace efs::dht
