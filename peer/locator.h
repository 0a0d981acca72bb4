// This peer's part in the DHT: publishes where it and its volumes are, finds where others are.
//
// A dht::Node whose requests are RPCs (kind 64) and whose records are identity's signed LocatorRecords, kept
// in an environment of their own. Routes for the RPC layer come out of it: who learns where a peer is, can
// call it. Nothing here decides who owns what; that is the register and the owner's own word.
// The loop's thread only.
#pragma once

#include <functional>
#include <memory>

#include "dht/node.h"
#include "peer/identity/record.h"
#include "peer/membership/membership.h"

namespace efs {

inline constexpr uint16_t kDhtRequest = kDhtKinds;  // [admitted] dht::Request -> dht::Answer

class Locator : dht::Transport {
 public:
  // What this peer says of itself in its record, but for id, version and register.
  using Describe = std::function<PeerRecord()>;
  // Made once the register is there; references outlive it. `environment` is opened with options().
  // `addresses`: where this peer is reached, best first, as of now.
  using Addresses = std::function<std::vector<std::string>()>;
  static Result<std::unique_ptr<Locator>> create(Runtime& runtime, Membership& membership, Rpc& rpc,
                                                 const KeyPair& key, const PeerId& self, Addresses addresses,
                                                 std::shared_ptr<MetaEnvironment> environment,
                                                 Describe describe);
  ~Locator() override;
  static MetaOptions options();

  void start();
  void on_peer_up(const PeerInfo& peer);
  void on_peer_down(const PeerId& peer);
  // The register changed: routes, contacts, and what is to be published.
  void on_register_change();

  // Checked records, newest found. Code::not_found when nobody has one.
  void find_prefix(const std::string& prefix, std::function<void(Result<OwnerRecord>)> done);
  void find_user(const std::string& name, std::function<void(Result<UserRecord>)> done);
  void find_peer(const PeerId& id, std::function<void(Result<PeerRecord>)> done);
  // Makes sure that the RPC layer has a route to a peer, asking the DHT if need be.
  void ensure_route(const PeerId& peer);

  size_t known_peers() const { return node_->known(); }
  size_t held_records() const { return node_->holdings().size(); }

 private:
  Locator(Runtime& runtime, Membership& membership, Rpc& rpc, const KeyPair& key, const PeerId& self,
          Addresses addresses, Describe describe);
  void send(const dht::Contact& to, uint64_t request_id, Bytes message) override;
  Result<Id> check(const dht::Record& record) const;
  template <typename Body>
  void find(const Id& key, std::function<void(Result<Body>)> done);
  // All records, or those that differ from what was published last.
  void publish_all(bool changed_only);
  void publish(LocatorRecord record, bool changed_only);
  void publish_in(int64_t delay_ns, bool changed_only);
  void learn(const PeerId& peer, std::vector<std::string> addresses, const std::string& works = {});
  void tick();
  dht::Instant now() const { return {runtime_.loop.clock().now_ns(), runtime_.loop.clock().wall_ns()}; }

  Runtime& runtime_;
  Membership& membership_;
  Rpc& rpc_;
  const KeyPair& key_;
  const PeerId self_;
  const Addresses addresses_;
  Describe describe_;
  std::shared_ptr<dht::RecordStore> records_;  // with the pool, while it writes them
  std::unique_ptr<dht::Node> node_;
  Timer tick_timer_, publish_timer_;
  std::set<PeerId> locating_;
  uint32_t last_version_ = 0;
  int64_t next_whole_ns_ = 0;   // when all records are published again
  bool change_waits_ = false;   // a publication of changes is due before that
  std::map<Id, Id> published_;  // record's key -> hash of its body
  std::shared_ptr<bool> checkpointing_ = std::make_shared<bool>(false);
};

}  // namespace efs
