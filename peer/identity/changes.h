// What the register can say: one structure a change. Kinds and keys are never reused. Pure: any thread.
//
// Names of users and groups identify them while they exist; uids, gids, volume ids and volume numbers are
// given once and never again. Who may make which change is decided by RegisterState (register.h).
#pragma once

#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "peer/identity/genesis.h"
#include "peer/identity/invite.h"

namespace efs {

// What a grant allows; each includes the one before.
enum class Right : uint8_t { none = 0, read_only = 1, read_write = 2, admin = 3 };
std::string_view name_of(Right right);             // "ro", "rw", "admin"
Result<Right> parse_right(std::string_view text);  // one of these three

// Index 0, made by `init`: the genesis, the first peer (a server, operator and administrator of "/") and
// the root volume, which that peer owns. Signed by a root key.
struct Founding {
  static constexpr uint16_t kKind = 1;
  SignedGenesis genesis;
  PublicKey founder{};
  std::string name;
  Id root_volume{};
  static constexpr auto fields() {
    return std::tuple{field("g", &Founding::genesis), field("k", &Founding::founder),
                      field("n", &Founding::name), field("v", &Founding::root_volume)};
  }
};

// The root keys' next version.
struct RotateRoot {
  static constexpr uint16_t kKind = 2;
  SignedGenesis genesis;
  static constexpr auto fields() { return std::tuple{field("g", &RotateRoot::genesis)}; }
};

// A peer is admitted, under a name that its owner chose free of others.
struct AdmitPeer {
  static constexpr uint16_t kKind = 3;
  SignedJoin join;
  std::string name;
  static constexpr auto fields() {
    return std::tuple{field("j", &AdmitPeer::join), field("n", &AdmitPeer::name)};
  }
};

// Never again: neither the peer nor its keys.
struct RevokePeer {
  static constexpr uint16_t kKind = 4;
  PeerId peer{};
  static constexpr auto fields() { return std::tuple{field("p", &RevokePeer::peer)}; }
};

// It left, or was removed as dead: with a new invite it may join again.
struct ForgetPeer {
  static constexpr uint16_t kKind = 5;
  PeerId peer{};
  static constexpr auto fields() { return std::tuple{field("p", &ForgetPeer::peer)}; }
};

// Its id stays. Signed by the key before, or by an administrator.
struct SetPeerKey {
  static constexpr uint16_t kKind = 6;
  PeerId peer{};
  PublicKey key{};
  Signature possession{};  // by the new key, over the peer's id, in kPossessionDomain
  static constexpr auto fields() {
    return std::tuple{field("p", &SetPeerKey::peer), field("k", &SetPeerKey::key),
                      field("s", &SetPeerKey::possession)};
  }
};
inline constexpr std::string_view kPossessionDomain = "efs key possession 1";

struct RevokeInvite {
  static constexpr uint16_t kKind = 7;
  PublicKey invite{};
  static constexpr auto fields() { return std::tuple{field("i", &RevokeInvite::invite)}; }
};

// The mesh secret was replaced: each peer that stays finds it in the box sealed to its key.
struct SealedSecret {
  PeerId peer{};
  Bytes box;
  static constexpr auto fields() {
    return std::tuple{field("p", &SealedSecret::peer), field("b", &SealedSecret::box)};
  }
};
struct RotateSecret {
  static constexpr uint16_t kKind = 8;
  uint64_t number = 0;  // counts rotations: 1, 2, ...
  Id fingerprint{};     // BLAKE2b of the new secret
  std::vector<SealedSecret> boxes;
  static constexpr auto fields() {
    return std::tuple{field("n", &RotateSecret::number), field("f", &RotateSecret::fingerprint),
                      field("b", &RotateSecret::boxes)};
  }
};

struct AddUser {
  static constexpr uint16_t kKind = 16;
  std::string name;
  uint32_t uid = 0;
  uint32_t gid = 0;  // an existing group's, or the uid: a group of its own
  std::vector<PublicKey> keys;
  std::vector<std::string> groups;
  std::string home;  // prefix; may be empty
  static constexpr auto fields() {
    return std::tuple{field("n", &AddUser::name), field("u", &AddUser::uid),    field("g", &AddUser::gid),
                      field("k", &AddUser::keys), field("s", &AddUser::groups), field("h", &AddUser::home)};
  }
};

// Replaces all of a user's keys. Signed by one of them, or by an administrator.
struct SetUserKeys {
  static constexpr uint16_t kKind = 17;
  std::string name;
  std::vector<PublicKey> keys;
  static constexpr auto fields() {
    return std::tuple{field("n", &SetUserKeys::name), field("k", &SetUserKeys::keys)};
  }
};

struct ChangeUserGroups {
  static constexpr uint16_t kKind = 18;
  std::string name;
  std::vector<std::string> add;
  std::vector<std::string> remove;
  static constexpr auto fields() {
    return std::tuple{field("n", &ChangeUserGroups::name), field("a", &ChangeUserGroups::add),
                      field("r", &ChangeUserGroups::remove)};
  }
};

struct RemoveUser {
  static constexpr uint16_t kKind = 19;
  std::string name;
  static constexpr auto fields() { return std::tuple{field("n", &RemoveUser::name)}; }
};

struct AddGroup {
  static constexpr uint16_t kKind = 20;
  std::string name;
  uint32_t gid = 0;
  static constexpr auto fields() {
    return std::tuple{field("n", &AddGroup::name), field("g", &AddGroup::gid)};
  }
};

struct RemoveGroup {
  static constexpr uint16_t kKind = 21;
  std::string name;
  static constexpr auto fields() { return std::tuple{field("n", &RemoveGroup::name)}; }
};

// `who` is a user, "@group", or "*" for anyone. Replaces the grant to the same at the same prefix.
struct SetGrant {
  static constexpr uint16_t kKind = 24;
  std::string who;
  Right right = Right::none;
  std::string prefix;
  static constexpr auto fields() {
    return std::tuple{field("w", &SetGrant::who), field("r", &SetGrant::right),
                      field("p", &SetGrant::prefix)};
  }
};

struct RemoveGrant {
  static constexpr uint16_t kKind = 25;
  std::string who;
  std::string prefix;
  static constexpr auto fields() {
    return std::tuple{field("w", &RemoveGrant::who), field("p", &RemoveGrant::prefix)};
  }
};

struct AddAdmin {
  static constexpr uint16_t kKind = 26;
  std::string name;
  PublicKey key{};
  std::string under;  // prefix; "/" is the whole mesh
  static constexpr auto fields() {
    return std::tuple{field("n", &AddAdmin::name), field("k", &AddAdmin::key), field("u", &AddAdmin::under)};
  }
};

struct RemoveAdmin {
  static constexpr uint16_t kKind = 27;
  std::string name;
  static constexpr auto fields() { return std::tuple{field("n", &RemoveAdmin::name)}; }
};

// A volume's charter. Epoch 0 of its owners.
struct AddVolume {
  static constexpr uint16_t kKind = 32;
  Id id{};
  uint32_t number = 0;  // 20 bits; the root volume is 0
  std::string prefix;
  std::vector<PeerId> founders;
  Id parent{};
  // The inode numbers, in the parent volume, of the directories on the way from its root (left out) to the
  // junction (left out): one for each component of the prefix but the last, below the parent's prefix.
  std::vector<uint64_t> ancestors;
  static constexpr auto fields() {
    return std::tuple{field("i", &AddVolume::id),     field("n", &AddVolume::number),
                      field("p", &AddVolume::prefix), field("f", &AddVolume::founders),
                      field("u", &AddVolume::parent), field("a", &AddVolume::ancestors)};
  }
};

struct RemoveVolume {
  static constexpr uint16_t kKind = 33;
  Id id{};
  static constexpr auto fields() { return std::tuple{field("i", &RemoveVolume::id)}; }
};

// One step in who owns a volume, signed by a majority of the owners before.
struct EpochBody {
  Id volume{};
  uint64_t epoch = 0;
  std::vector<PeerId> owners;
  static constexpr auto fields() {
    return std::tuple{field("v", &EpochBody::volume), field("e", &EpochBody::epoch),
                      field("o", &EpochBody::owners)};
  }
};
struct OwnerSignature {
  PublicKey key{};
  Signature signature{};
  static constexpr auto fields() {
    return std::tuple{field("k", &OwnerSignature::key), field("s", &OwnerSignature::signature)};
  }
};
struct EpochLink {
  Bytes body;
  std::vector<OwnerSignature> signatures;
  static constexpr auto fields() {
    return std::tuple{field("b", &EpochLink::body), field("s", &EpochLink::signatures)};
  }
};

// Enters an epoch in the register, where later chains of links start. `links` lead here from the epoch that
// the register knew; empty when an administrator over the prefix decides it (the owners are gone for good).
struct SetVolumeOwners {
  static constexpr uint16_t kKind = 34;
  Id id{};
  uint64_t epoch = 0;
  std::vector<PeerId> owners;
  std::vector<EpochLink> links;
  static constexpr auto fields() {
    return std::tuple{field("i", &SetVolumeOwners::id), field("e", &SetVolumeOwners::epoch),
                      field("o", &SetVolumeOwners::owners), field("l", &SetVolumeOwners::links)};
  }
};

using Change =
    std::variant<Founding, RotateRoot, AdmitPeer, RevokePeer, ForgetPeer, SetPeerKey, RevokeInvite,
                 RotateSecret, AddUser, SetUserKeys, ChangeUserGroups, RemoveUser, AddGroup, RemoveGroup,
                 SetGrant, RemoveGrant, AddAdmin, RemoveAdmin, AddVolume, RemoveVolume, SetVolumeOwners>;

// What was done, as `efs-keys audit` shows it: "grant rw on /volume01 to @staff".
std::string describe(const Change& change);

}  // namespace efs
