// What peers say to each other about belonging: joining, the register, volumes' lives, how a peer fares.
// RPC kinds 16..63 (docs/wire-format.md). Values only: any thread.
#pragma once

#include "peer/base/compression.h"
#include "peer/identity/changes.h"
#include "peer/net/wire.h"

namespace efs {

// Kinds are never reused. [who may call]
enum MembershipKind : uint16_t {
  kJoin = 16,          // [anyone with the mesh secret] SignedJoin -> Joined
  kReadRegister = 17,  // [anyone with the mesh secret] RegisterQuery -> RegisterPart
  kNewEntries = 18,    // [admitted] one-way: RegisterPart
  kPropose = 19,       // [admitted] ProposalMessage -> Ordered
  kPeerStatus = 20,    // [admitted] PeerStatusQuery -> PeerStatus
  kDropVolume = 21,    // [operators, the volume's owners] DropVolume -> nothing
};

struct Joined {
  uint64_t index = 0;      // of the entry that admits the peer
  std::string name;        // under which it was admitted
  std::string reached_at;  // the address at which the seed could dial it
  static constexpr auto fields() {
    return std::tuple{field("i", &Joined::index), field("n", &Joined::name), field("r", &Joined::reached_at)};
  }
};
struct JoinMessage {
  SignedJoin join;
  uint16_t port = 0;       // where it listens, when it names no address: the seed knows the rest
  bool forwarded = false;  // by the seed, which has dialled back already
  static constexpr auto fields() {
    return std::tuple{field("j", &JoinMessage::join), field("p", &JoinMessage::port),
                      field("f", &JoinMessage::forwarded)};
  }
};
struct RegisterQuery {
  uint64_t from = 0;
  static constexpr auto fields() { return std::tuple{field("f", &RegisterQuery::from)}; }
};
struct RegisterPart {
  uint64_t from = 0;           // index of the first entry
  std::vector<Bytes> entries;  // as they were signed
  uint64_t version = 0;        // entries that the sender has
  static constexpr auto fields() {
    return std::tuple{field("f", &RegisterPart::from), field("e", &RegisterPart::entries),
                      field("v", &RegisterPart::version)};
  }
};
struct ProposalMessage {
  Bytes proposal;
  static constexpr auto fields() { return std::tuple{field("p", &ProposalMessage::proposal)}; }
};
struct Ordered {
  uint64_t index = 0;
  static constexpr auto fields() { return std::tuple{field("i", &Ordered::index)}; }
};

struct VolumeStatus {
  Id id{};
  uint64_t used_bytes = 0, files = 0;
  std::string state;          // "ok", or what is wrong
  uint64_t stored_bytes = 0;  // what its chunks take on the owner's disks
  Compression compression = Compression::none;
  static constexpr auto fields() {
    return std::tuple{field("i", &VolumeStatus::id),           field("u", &VolumeStatus::used_bytes),
                      field("f", &VolumeStatus::files),        field("s", &VolumeStatus::state),
                      field("d", &VolumeStatus::stored_bytes), field("c", &VolumeStatus::compression)};
  }
};
struct StoreStatus {
  std::string directory;
  uint64_t capacity_bytes = 0, used_bytes = 0, chunks = 0;
  bool missing = false;
  static constexpr auto fields() {
    return std::tuple{field("d", &StoreStatus::directory), field("c", &StoreStatus::capacity_bytes),
                      field("u", &StoreStatus::used_bytes), field("n", &StoreStatus::chunks),
                      field("m", &StoreStatus::missing)};
  }
};
struct PeerStatusQuery {
  static constexpr auto fields() { return std::tuple{}; }
};
struct PeerStatus {
  std::string version;
  uint64_t capacity_bytes = 0, used_bytes = 0, available_bytes = 0;
  std::vector<StoreStatus> stores;
  std::vector<VolumeStatus> volumes;  // that it owns
  uint64_t register_version = 0;
  int64_t wall_ns = 0;
  std::vector<std::string> addresses;
  static constexpr auto fields() {
    return std::tuple{field("v", &PeerStatus::version),          field("c", &PeerStatus::capacity_bytes),
                      field("u", &PeerStatus::used_bytes),       field("a", &PeerStatus::available_bytes),
                      field("s", &PeerStatus::stores),           field("o", &PeerStatus::volumes),
                      field("r", &PeerStatus::register_version), field("t", &PeerStatus::wall_ns),
                      field("ad", &PeerStatus::addresses)};
  }
};
struct DropVolume {
  Id volume{};
  static constexpr auto fields() { return std::tuple{field("v", &DropVolume::volume)}; }
};

}  // namespace efs
