// The happy path: start() gives the node the peers that were known at the last stop; it finds the others;
// publish_all() puts our own records, and again before half their life is over; a lookup's record is
// checked against the register once more before it is believed. What fails is tried again by the next
// round; callers fall back on the register's owners and the addresses last seen.
#include "peer/locator.h"

#include <algorithm>

#include "peer/base/hash.h"

namespace efs {

namespace {

constexpr Table kRecords = 0;  // DHT key -> dht::StoredRecord
constexpr int64_t kRequestTimeout = 5 * kSecond;
constexpr int64_t kPublishSoon = 200 * kMillisecond;
constexpr int64_t kPublishAtMost = 10 * kMinute;
constexpr size_t kBootstrapPeers = 64;
constexpr size_t kFormerAddresses = 2;  // of a peer, kept behind those that it names now

// Records in LMDB: they outlive a restart.
class StoredRecords : public dht::RecordStore {
 public:
  explicit StoredRecords(std::shared_ptr<MetaEnvironment> environment) : rows_(std::move(environment)) {}
  // What is put lies in an overlay until the next checkpoint: a crash loses some, and others offer them.
  std::optional<dht::StoredRecord> get(const Id& key) const override {
    auto rows = rows_.read();
    auto row = rows->get(kRecords, text(key));
    if (!row || !*row) return std::nullopt;
    auto record = decode<dht::StoredRecord>(view(**row));
    return record ? std::optional(std::move(*record)) : std::nullopt;
  }
  Status put(const dht::StoredRecord& stored) override {
    auto transaction = rows_.begin();
    transaction->put(kRecords, text(stored.record.key), text(encode(stored)));
    transaction->commit(rows_.applied_index() + 1);
    return {};
  }
  Status erase(const Id& key) override {
    auto transaction = rows_.begin();
    transaction->erase(kRecords, text(key));
    transaction->commit(rows_.applied_index() + 1);
    return {};
  }
  Status for_each(const std::function<void(const dht::StoredRecord&)>& visit) const override {
    return rows_.read()->scan(kRecords, {}, [&](std::string_view, std::string_view value) {
      if (auto record = decode<dht::StoredRecord>(view(value))) visit(*record);
      return true;
    });
  }
  MetaStore& rows() { return rows_; }

 private:
  MetaStore rows_;
};

std::string first_of(const std::vector<std::string>& addresses) {
  return addresses.empty() ? "" : addresses.front();
}

std::vector<Address> parse_addresses(const std::vector<std::string>& texts) {
  std::vector<Address> out;
  for (const auto& one : texts) {
    if (auto address = Address::parse(one)) out.push_back(std::move(*address));
  }
  return out;
}

}  // namespace

MetaOptions Locator::options() {
  return {{"records"}, uint64_t(4) << 30};
}

Locator::Locator(Runtime& runtime, Membership& membership, Rpc& rpc, const KeyPair& key, const PeerId& self,
                 Addresses addresses, Describe describe)
    : runtime_(runtime),
      membership_(membership),
      rpc_(rpc),
      key_(key),
      self_(self),
      addresses_(std::move(addresses)),
      describe_(std::move(describe)),
      tick_timer_(runtime.loop),
      publish_timer_(runtime.loop) {}

Locator::~Locator() {
  if (records_) (void)static_cast<StoredRecords&>(*records_).rows().checkpoint();
}

Result<std::unique_ptr<Locator>> Locator::create(Runtime& runtime, Membership& membership, Rpc& rpc,
                                                 const KeyPair& key, const PeerId& self, Addresses addresses,
                                                 std::shared_ptr<MetaEnvironment> environment,
                                                 Describe describe) {
  std::unique_ptr<Locator> locator(
      new Locator(runtime, membership, rpc, key, self, std::move(addresses), std::move(describe)));
  locator->records_ = std::make_shared<StoredRecords>(std::move(environment));
  dht::NodeConfig config;
  config.self = {self, first_of(locator->addresses_())};
  config.checker = [raw = locator.get()](const dht::Record& record) { return raw->check(record); };
  config.admitted = [&membership](const Id& id) {
    const PeerFacts* peer = membership.state().peer(id);
    return peer != nullptr && peer->standing == Standing::admitted;
  };
  EFS_ASSIGN(locator->node_, dht::Node::create(std::move(config), *locator->records_, *locator,
                                               runtime.random, locator->now()));
  rpc.handle(kDhtRequest, Access::admitted,
             [raw = locator.get()](const Caller& caller, Bytes body, SharedBytes, Responder respond) {
               respond.answer(raw->node_->on_request(caller.id, body, raw->now()));
             });
  return locator;
}

Result<Id> Locator::check(const dht::Record& record) const {
  EFS_ASSIGN(const auto checked,
             check_record(record.key, record.body, membership_.state(), runtime_.loop.clock().wall_ns()));
  if (checked.record.version != record.version || checked.record.expires_ns != record.expires_wall_ns ||
      checked.record.removed != record.removed) {
    return fail(Code::unauthorized, "what is said of a record is not what was signed");
  }
  return checked.publisher;
}

void Locator::send(const dht::Contact& to, uint64_t request_id, Bytes message) {
  // What other peers say of a contact is a hint: it goes behind what was learnt first-hand.
  if (auto hint = Address::parse(to.address); hint && !to.address.empty() && !rpc_.connected(to.id)) {
    const auto& known = membership_.store().addresses();
    auto found = known.find(to.id);
    auto route = found == known.end() ? std::vector<Address>() : parse_addresses(found->second);
    if (std::find(route.begin(), route.end(), *hint) == route.end()) route.push_back(*hint);
    rpc_.set_route(to.id, std::move(route));
  }
  rpc_.call(to.id, kDhtRequest, std::move(message), {}, {kRequestTimeout, Priority::control},
            [this, request_id](Result<Answer> answer) {
              answer ? node_->on_reply(request_id, answer->body, now()) : node_->on_failed(request_id, now());
              tick();
            });
}

void Locator::tick() {
  if (node_->next_tick_ns() <= runtime_.loop.clock().now_ns()) node_->tick(now());
  const int64_t wait =
      std::clamp<int64_t>(node_->next_tick_ns() - runtime_.loop.clock().now_ns(), kMillisecond, kSecond);
  tick_timer_.start(wait, [this] { tick(); });
}

void Locator::start() {
  std::vector<dht::Contact> seeds;
  for (const auto& [peer, addresses] : membership_.store().addresses()) {
    if (peer == self_ || addresses.empty()) continue;
    rpc_.set_route(peer, parse_addresses(addresses));
    if (seeds.size() < kBootstrapPeers) seeds.push_back({peer, addresses.front()});
  }
  node_->bootstrap(seeds, now());
  tick();
  publish_in(kPublishSoon, false);
}

// ---- what is learnt ----

// First what is known to work, then what the peer says, then a few of what was known before: a peer behind a
// translator knows only addresses of its own network.
void Locator::learn(const PeerId& peer, std::vector<std::string> addresses, const std::string& works) {
  if (peer == self_ || (addresses.empty() && works.empty())) return;
  auto add = [&](const std::string& one) {
    if (std::find(addresses.begin(), addresses.end(), one) == addresses.end()) addresses.push_back(one);
  };
  const auto& known = membership_.store().addresses();
  if (auto found = known.find(peer); found != known.end()) {
    for (size_t i = 0; i < std::min(found->second.size(), kFormerAddresses); ++i) add(found->second[i]);
  }
  if (!works.empty()) {
    std::erase(addresses, works);
    addresses.insert(addresses.begin(), works);
  }
  if (addresses.size() > kMaxAddresses) addresses.resize(kMaxAddresses);
  auto parsed = parse_addresses(addresses);
  if (parsed.empty()) return;
  rpc_.set_route(peer, std::move(parsed));
  (void)membership_.store().remember_addresses(peer, addresses);
}

void Locator::on_peer_up(const PeerInfo& peer) {
  if (peer.admission != Admission::admitted) return;
  const auto& addresses = peer.greeting.addresses;
  // Of a connection that we made, the address is one that works; of theirs, its port says nothing.
  std::string works = peer.address.to_text();
  const auto& known = membership_.store().addresses();
  auto found = known.find(peer.id);
  auto has = [&](const std::vector<std::string>& list) {
    return std::find(list.begin(), list.end(), works) != list.end();
  };
  if (!has(addresses) && (found == known.end() || !has(found->second))) works.clear();
  learn(peer.id, addresses, works);
  if (!addresses.empty()) node_->on_peer_up({peer.id, addresses.front()}, now());
  tick();
}

void Locator::on_peer_down(const PeerId& peer) {
  node_->on_peer_down(peer, now());
  tick();
}

void Locator::on_register_change() {
  for (const PeerFacts* peer : membership_.state().peers()) {
    if (peer->standing != Standing::admitted) node_->on_peer_removed(peer->id);
  }
  publish_in(kPublishSoon, true);
}

// ---- what is said ----

// A change does not put off what is due; many changes in a row are published together.
void Locator::publish_in(int64_t delay_ns, bool changed_only) {
  if (changed_only && change_waits_) return;
  if (changed_only) change_waits_ = true;
  publish_timer_.start(delay_ns, [this] {
    const bool whole = !change_waits_ || runtime_.loop.clock().now_ns() >= next_whole_ns_;
    change_waits_ = false;
    publish_all(!whole);
  });
}

void Locator::publish_all(bool changed_only) {
  const RegisterState& state = membership_.state();
  const dht::Instant at = now();
  // Versions rise with wall time, so that they do over restarts as well; twice in a second counts on.
  last_version_ = std::max(last_version_ + 1, uint32_t(at.wall_ns / kSecond));
  LocatorRecord base;
  base.version = last_version_;
  base.made_ns = at.wall_ns;
  base.expires_ns = at.wall_ns + std::min(node_->record_ttl_ns(), kMaxRecordLifeNs);

  LocatorRecord own = base;
  PeerRecord peer = describe_();
  peer.id = self_;
  peer.addresses = addresses_();
  const std::vector<std::string> addresses = peer.addresses;
  peer.version = EFS_VERSION;
  peer.register_version = state.version();
  peer.register_head = state.head();
  peer.wall_ns = at.wall_ns;
  own.body = std::move(peer);
  if (!changed_only) publish(std::move(own), false);

  for (const VolumeFacts* volume : state.volumes()) {
    if (std::find(volume->owners.begin(), volume->owners.end(), self_) == volume->owners.end()) continue;
    LocatorRecord record = base;
    record.version = owner_version(volume->epoch, last_version_);
    record.body =
        OwnerRecord{volume->prefix, volume->id, volume->epoch, volume->owners, self_, addresses, {}};
    publish(std::move(record), changed_only);
  }
  for (const auto& [name, user] : state.users()) {
    const VolumeFacts* home = user.home.empty() ? nullptr : state.volume_for(user.home);
    if (home == nullptr || home->owners.empty() || home->owners.front() != self_) continue;
    LocatorRecord record = base;
    record.body = UserRecord{name, user.home, home->epoch, home->owners, {}, user.entry};
    publish(std::move(record), changed_only);
  }
  const int64_t now_ns = at.now_ns;
  if (!changed_only) next_whole_ns_ = now_ns + std::min(node_->record_ttl_ns() / 3, kPublishAtMost);
  publish_in(std::max<int64_t>(next_whole_ns_ - now_ns, 0), false);
  if (std::exchange(*checkpointing_, true)) return;
  runtime_.loop.work(
      [records = records_] { (void)static_cast<StoredRecords&>(*records).rows().checkpoint(); },
      [flag = checkpointing_] { *flag = false; });
}

void Locator::publish(LocatorRecord record, bool changed_only) {
  const Id hash = blake2b(encode(record.body));
  Id& before = published_[key_of(record.body)];
  if (changed_only && before == hash) return;
  before = hash;
  dht::Record out;
  out.key = key_of(record.body);
  out.version = record.version;
  out.expires_wall_ns = record.expires_ns;
  out.removed = record.removed;
  out.body = sign_record(membership_.state().mesh(), record, key_);
  node_->put(
      out,
      [this](dht::PutResult result) {
        if (!result.status && result.status.error().code != Code::unreachable) {
          runtime_.log.debug("dht: a record of ours was not taken: {}", to_text(result.status.error()));
        }
      },
      now());
}

// ---- what is asked ----

template <typename Body>
void Locator::find(const Id& key, std::function<void(Result<Body>)> done) {
  node_->lookup(
      key, {},
      [this, key, done](dht::LookupResult found) {
        auto answer = [&]() -> Result<Body> {
          EFS_TRY(found.record);
          EFS_ASSIGN(auto checked, check_record(key, found.record->body, membership_.state(),
                                                runtime_.loop.clock().wall_ns()));
          auto* body = std::get_if<Body>(&checked.record.body);
          if (body == nullptr || checked.record.removed) return fail(Code::not_found, "it was withdrawn");
          return std::move(*body);
        }();
        runtime_.loop.post([done, answer = std::move(answer)]() mutable { done(std::move(answer)); });
      },
      now());
  tick();
}

void Locator::find_prefix(const std::string& prefix, std::function<void(Result<OwnerRecord>)> done) {
  find<OwnerRecord>(prefix_key(prefix), std::move(done));
}
void Locator::find_user(const std::string& name, std::function<void(Result<UserRecord>)> done) {
  find<UserRecord>(user_key(name), std::move(done));
}
void Locator::find_peer(const PeerId& id, std::function<void(Result<PeerRecord>)> done) {
  find<PeerRecord>(peer_key(id), std::move(done));
}

void Locator::ensure_route(const PeerId& peer) {
  if (peer == self_ || rpc_.connected(peer) || !locating_.insert(peer).second) return;
  find_peer(peer, [this, peer](Result<PeerRecord> record) {
    locating_.erase(peer);
    if (record) learn(peer, record->addresses);
  });
}

}  // namespace efs
