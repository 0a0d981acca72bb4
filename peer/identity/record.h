// Records: signed, versioned facts on where something is, as the DHT keeps them. Pure: any thread that may
// read the register's state.
//
// A record is a locator, never a lock, and no rights follow from it: it says whom to ask. But who may publish
// one is checked against the register, so that a stranger or a former owner cannot lead anybody astray.
// Records expire by wall time, and are the bytes that their publisher signed for as long as they live.
#pragma once

#include <string>
#include <tuple>
#include <variant>

#include "peer/identity/register.h"

namespace efs {

// Who owns the volume at a prefix. Published by one of the owners at `epoch`.
struct OwnerRecord {
  static constexpr uint16_t kKind = 1;
  std::string prefix;
  Id volume{};
  uint64_t epoch = 0;                  // below 2^32
  std::vector<PeerId> owners;          // at that epoch
  PeerId leader{};                     // a hint; proved on connecting
  std::vector<std::string> addresses;  // of the leader: a hint too
  std::vector<EpochLink> links;        // from the epoch that the register knows to this one
  static constexpr auto fields() {
    return std::tuple{field("p", &OwnerRecord::prefix), field("v", &OwnerRecord::volume),
                      field("e", &OwnerRecord::epoch),  field("o", &OwnerRecord::owners),
                      field("l", &OwnerRecord::leader), field("a", &OwnerRecord::addresses),
                      field("c", &OwnerRecord::links)};
  }
};

// Where a user's home is. Published by an owner of the volume that the home prefix lies in.
struct UserRecord {
  static constexpr uint16_t kKind = 2;
  std::string name;
  std::string home;
  uint64_t epoch = 0;  // of that volume
  std::vector<PeerId> owners;
  std::vector<EpochLink> links;
  Id entry{};  // hash of the user's last entry in the register
  static constexpr auto fields() {
    return std::tuple{field("n", &UserRecord::name),  field("h", &UserRecord::home),
                      field("e", &UserRecord::epoch), field("o", &UserRecord::owners),
                      field("c", &UserRecord::links), field("r", &UserRecord::entry)};
  }
};

struct StoreSpace {
  std::string directory;
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  static constexpr auto fields() {
    return std::tuple{field("d", &StoreSpace::directory), field("c", &StoreSpace::capacity_bytes),
                      field("u", &StoreSpace::used_bytes)};
  }
};

// How a peer fares. Published by itself.
struct PeerRecord {
  static constexpr uint16_t kKind = 3;
  PeerId id{};
  std::vector<std::string> addresses;
  std::vector<StoreSpace> stores;
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  std::string version;  // of the program
  uint64_t register_version = 0;
  Id register_head{};
  int64_t wall_ns = 0;  // its clock
  static constexpr auto fields() {
    return std::tuple{field("i", &PeerRecord::id),
                      field("a", &PeerRecord::addresses),
                      field("s", &PeerRecord::stores),
                      field("c", &PeerRecord::capacity_bytes),
                      field("u", &PeerRecord::used_bytes),
                      field("v", &PeerRecord::version),
                      field("rv", &PeerRecord::register_version),
                      field("rh", &PeerRecord::register_head),
                      field("t", &PeerRecord::wall_ns)};
  }
};

using RecordBody = std::variant<OwnerRecord, UserRecord, PeerRecord>;

struct LocatorRecord {
  uint32_t format = 1;
  uint64_t version = 0;    // a higher one supersedes; an OwnerRecord's high 32 bits are its epoch
  int64_t made_ns = 0;     // wall time
  int64_t expires_ns = 0;  // wall time, at most kMaxRecordLifeNs after
  // What it names is gone: supersedes, and keeps older copies from coming back. (A volume, user or peer that
  // left the register needs none: its records are refused from then on.)
  bool removed = false;
  RecordBody body;
  static constexpr auto fields() {
    return std::tuple{field("f", &LocatorRecord::format),  field("v", &LocatorRecord::version),
                      field("m", &LocatorRecord::made_ns), field("e", &LocatorRecord::expires_ns),
                      field("r", &LocatorRecord::removed), field("b", &LocatorRecord::body)};
  }
};

// Where in the DHT a record lies: BLAKE2b of its type and name.
Id prefix_key(std::string_view prefix);
Id user_key(std::string_view name);
Id peer_key(const PeerId& id);
Id key_of(const RecordBody& body);

// An OwnerRecord's version: a later epoch supersedes whatever an earlier one said.
inline uint64_t owner_version(uint64_t epoch, uint32_t count) {
  return epoch << 32 | count;
}

Bytes sign_record(const Id& mesh, const LocatorRecord& record, const KeyPair& publisher);

struct CheckedRecord {
  LocatorRecord record;
  PeerId publisher{};
};

// What a holder checks before it keeps a record, and who looked one up before it believes it. `key` is where
// it lies; `held`, if any, what is kept there already. Fails with
//   too_large        over kMaxRecordBytes
//   protocol         no record, a wrong shape, or one that lies under a foreign key
//   version          a format or type that this program does not know
//   unauthorized     its signature is wrong, or its signer has no right to it (a former owner, a stranger)
//   not_found        its volume, user or peer is not in this peer's register (which may be behind)
//   expired          its time is over, or is absurdly long, or has not begun
//   stale            the register knows of a later epoch or entry
//   conflict         `held` supersedes it, or is as new and differs
Result<CheckedRecord> check_record(const Id& key, ByteView bytes, const RegisterState& state, int64_t wall_ns,
                                   std::optional<ByteView> held = {});
// The content, for who has it from its own store: shape and size only.
Result<LocatorRecord> read_record(ByteView bytes);

// One step in a volume's history of owners; every owner before signs the same body.
Bytes make_epoch_body(const Id& volume, uint64_t epoch, std::vector<PeerId> owners);
OwnerSignature sign_epoch(const Id& mesh, ByteView epoch_body, const KeyPair& owner);

}  // namespace efs
