// The register: the ordered, signed, hash-chained facts on who belongs to a mesh and may do what.
//
// An entry wraps a *proposal*: a change signed by who has the right to it (an administrator, a user, a
// peer, a root key), anywhere. The root volume's owner gives it its place: index, hash of the entry before,
// stamp, and its own signature over all that. So rights are decided from the proposal's signature, order
// from the owner's; neither can forge the other. Everyone else replays the same entries with the same
// checks and comes to the same state, or refuses.
//
// RegisterState is that replay: pure, no clock, one owner (the loop's thread); const members may be called
// from several threads while nobody applies. Entries are kept and forwarded as the bytes that were
// received. A change takes effect whole or not at all. Cost: an entry applies in microseconds plus three
// signature checks; lookups are O(log n), by path O(components).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "peer/base/hash.h"
#include "peer/identity/changes.h"
#include "peer/identity/limits.h"

namespace efs {

struct Proposal {
  uint32_t format = 1;
  Id mesh{};
  uint64_t seen = 0;      // entries of the register that the proposer knew
  ByteArray<16> nonce{};  // random: no proposal is taken twice
  Change change;
  static constexpr auto fields() {
    return std::tuple{field("f", &Proposal::format), field("m", &Proposal::mesh), field("s", &Proposal::seen),
                      field("n", &Proposal::nonce), field("c", &Proposal::change)};
  }
};

struct EntryBody {
  uint32_t format = 1;
  uint64_t index = 0;
  Id previous{};         // BLAKE2b of the bytes of the entry before; zeros at index 0
  int64_t stamp_ns = 0;  // the owner's wall time, never behind the entry before
  Envelope proposal;
  static constexpr auto fields() {
    return std::tuple{field("f", &EntryBody::format), field("i", &EntryBody::index),
                      field("p", &EntryBody::previous), field("t", &EntryBody::stamp_ns),
                      field("b", &EntryBody::proposal)};
  }
};

// An entry, decoded: what audits show.
struct Entry {
  uint64_t index = 0;
  Id hash{};  // of its bytes: what the next one names
  Id previous{};
  int64_t stamp_ns = 0;
  PublicKey orderer{};
  PublicKey proposer{};
  Proposal proposal;
};
// Decodes without checking signatures or the chain. Code::version for a kind of change, or a format, that
// this program does not know: whoever applies entries must stop there.
Result<Entry> read_entry(ByteView bytes);

// ---- the state's rows ----

enum class Standing : uint8_t { unknown = 0, admitted, forgotten, revoked };

struct PeerFacts {
  PeerId id{};
  PublicKey key{};  // the current one
  std::string name;
  Role role = Role::server;
  Rights rights;
  Standing standing = Standing::unknown;
  PublicKey invite{};     // zeros: the founder
  uint64_t admitted = 0;  // index of the entry
};

struct UserFacts {
  std::string name;
  uint32_t uid = 0, gid = 0;
  std::vector<PublicKey> keys;
  std::set<std::string> groups;
  std::string home;
  Id entry{};  // hash of the last entry that changed it
};

struct GroupFacts {
  std::string name;
  uint32_t gid = 0;
  std::set<std::string> members;  // not those whose own gid it is
};

struct AdminFacts {
  std::string name;
  PublicKey key{};
  std::string under;
};

struct VolumeFacts {
  Id id{};
  uint32_t number = 0;
  std::string prefix;
  Id parent{};  // zeros: the root volume
  std::vector<uint64_t> ancestors;
  std::vector<PeerId> founders;
  uint64_t epoch = 0;          // the last one entered here
  std::vector<PeerId> owners;  // at that epoch
  int64_t created_ns = 0;      // the stamp of its charter
};

struct GrantFacts {
  std::string prefix;
  std::string who;
  Right right = Right::none;
};

class RegisterState {
 public:
  // `stored`: an entry from this peer's own disk, verified when it was first taken; the chain and the rules
  // are checked again, signatures are not.
  enum class Source { received, stored };

  // Code::protocol: not an entry. Code::version: a newer efs made it. Code::conflict: it does not continue
  // the chain. Code::unauthorized: a signature is wrong, or its signer may not do this. Others
  // (exists, not_found, expired, ...): the change itself cannot be. On failure nothing has changed.
  Status apply(ByteView entry, Source source = Source::received);
  // Whether apply(entry) would succeed. apply(), without its effect.
  Status check(ByteView entry) const;

  // ---- the chain ----
  uint64_t version() const { return hashes_.size(); }  // entries so far: the next one's index
  Id head() const { return hashes_.empty() ? Id{} : hashes_.back(); }
  std::optional<Id> hash_at(uint64_t index) const;
  int64_t last_stamp_ns() const { return last_stamp_ns_; }
  const Id& mesh() const { return mesh_; }  // zeros before the founding
  const CheckedGenesis& genesis() const { return genesis_; }
  uint64_t secret_number() const { return secret_number_; }  // rotations of the mesh secret
  const Id& secret_fingerprint() const { return secret_fingerprint_; }

  // ---- peers ----
  const PeerFacts* peer(const PeerId& id) const;             // of any standing
  const PeerFacts* peer_by_key(const PublicKey& key) const;  // by its current key, admitted ones only
  // What the handshake asks: keys that a peer has given up count as revoked.
  Standing standing_of(const PublicKey& key) const;
  // Which peer ever had this key, of any standing.
  std::optional<PeerId> peer_of_any_key(const PublicKey& key) const;
  // An admitted peer's name, or the unambiguous beginning of an admitted peer's id in hex (4 digits or
  // more). A name goes before an id. not_found, or conflict when several ids begin so.
  Result<const PeerFacts*> find_peer(std::string_view name_or_id) const;
  std::vector<const PeerFacts*> peers() const;  // of any standing, by id
  // `wanted`, or `wanted-2`, ...: free among admitted peers.
  std::string free_peer_name(std::string_view wanted) const;
  // A peer that already is in with this key and invite: a repeated request to join is answered again.
  const PeerFacts* admitted_by(const SignedJoin& join) const;
  uint32_t invite_uses(const PublicKey& invite) const;

  // ---- users, groups, grants, administrators ----
  const UserFacts* user(std::string_view name) const;
  const UserFacts* user_by_uid(uint32_t uid) const;
  const UserFacts* user_by_key(const PublicKey& key) const;
  const GroupFacts* group(std::string_view name) const;
  const GroupFacts* group_by_gid(uint32_t gid) const;
  const std::map<std::string, UserFacts, std::less<>>& users() const { return users_; }
  const std::map<std::string, GroupFacts, std::less<>>& groups() const { return groups_; }
  const std::map<std::string, AdminFacts, std::less<>>& admins() const { return admins_; }
  // The gids of a user: its own first.
  std::vector<uint32_t> gids_of(const UserFacts& user) const;
  uint32_t free_uid() const;  // never given, as uid or gid
  uint32_t free_gid() const { return free_uid(); }
  // All grants at or below a prefix, by prefix.
  std::vector<GrantFacts> grants(std::string_view below = "/") const;
  // What grants give a user at a path: the most of its own, its groups' and everyone's, here or above.
  // An empty name asks for everyone's alone.
  Right right_at(std::string_view user_name, std::string_view path) const;

  // ---- volumes ----
  const VolumeFacts* volume(const Id& id) const;
  const VolumeFacts* volume_by_number(uint32_t number) const;
  const VolumeFacts* volume_at(std::string_view prefix) const;  // exactly there
  const VolumeFacts* volume_for(std::string_view path) const;   // the longest prefix that covers it
  std::vector<const VolumeFacts*> volumes() const;              // by prefix
  std::vector<const VolumeFacts*> volumes_below(std::string_view prefix) const;  // not at it
  uint32_t free_volume_number() const;                                           // never given
  const VolumeFacts* root_volume() const { return volume_by_number(0); }

  // ---- who may do what ----
  // An administrator whose prefix covers this one; a user with an admin grant above; "/" asks for the mesh.
  bool is_admin(const PublicKey& key, std::string_view prefix) const;
  bool is_operator(const PublicKey& key) const;  // an admitted peer with the right to operate
  bool is_root_key(const PublicKey& key) const;  // of the current genesis, where one suffices
  // An admitted server that may say that this local uid is asking.
  bool may_speak_for(const PublicKey& key, uint32_t uid) const;
  // Whether `key` may make a volume at `prefix`, owned by `founders`. Fails with why.
  Status may_create_volume(const PublicKey& key, std::string_view prefix,
                           const std::vector<PeerId>& founders) const;
  Status may_remove_volume(const PublicKey& key, const VolumeFacts& volume) const;
  Status may_change_volume(const PublicKey& key, const VolumeFacts& volume) const;  // its settings
  // Whether this request would be admitted at this wall time of the owner. Fails with why.
  Status may_admit(const SignedJoin& join, int64_t owner_wall_ns) const;
  // Whether this peer orders the register: an owner of the root volume.
  bool may_order(const PublicKey& key) const;
  // The owners of a volume at `epoch`, following `links` from the epoch in the register; fails when a step
  // lacks a majority of the owners before it. No links: the register's owners.
  Result<std::vector<PeerId>> owners_at(const VolumeFacts& volume, uint64_t epoch,
                                        const std::vector<EpochLink>& links) const;
  // "peer first", "administrator bob", "user alice", "root key", or the beginning of the key.
  std::string who_is(const PublicKey& key) const;

 private:
  Status may_with_volume(std::string_view what, const PublicKey& key, const VolumeFacts& volume) const;
  struct Invited {
    uint32_t uses = 0;
    bool revoked = false;
  };
  using Grants = std::map<std::string, std::map<std::string, Right, std::less<>>, std::less<>>;

  struct Rules;    // register_rules.cc: may this entry's change be made?
  struct Effects;  // register_effects.cc: make it
  Result<Entry> examine(ByteView bytes, Source source) const;
  Status check_chain(const Entry& entry) const;
  Status check_order(const Entry& entry) const;
  Status check_not_replayed(const Proposal& proposal) const;
  Status check_join(const SignedJoin& join, int64_t stamp_ns, Source source) const;
  Status check_owners(const std::vector<PeerId>& owners) const;
  void remember(const Entry& entry);

  std::vector<Id> hashes_;
  int64_t last_stamp_ns_ = 0;
  Id mesh_{};
  CheckedGenesis genesis_;
  uint64_t secret_number_ = 0;
  Id secret_fingerprint_{};
  std::deque<std::pair<uint64_t, ByteArray<16>>> recent_;  // nonces, with their entries' indexes
  std::set<ByteArray<16>> recent_nonces_;

  std::map<PeerId, PeerFacts> peers_;
  std::unordered_map<PublicKey, PeerId, IdHash> peer_keys_;  // every key that a peer ever had
  std::map<std::string, PeerId, std::less<>> peer_names_;    // of admitted ones
  std::unordered_map<PublicKey, Invited, IdHash> invites_;

  std::map<std::string, UserFacts, std::less<>> users_;
  std::map<std::string, GroupFacts, std::less<>> groups_;
  std::map<std::string, AdminFacts, std::less<>> admins_;
  std::unordered_multimap<PublicKey, std::string, IdHash> admin_keys_;
  std::unordered_map<PublicKey, std::string, IdHash> user_keys_;
  std::map<uint32_t, std::string> uids_, gids_;  // of those there are; a user's own group is not in gids_
  std::set<uint32_t> given_uids_, given_gids_;   // ever
  Grants grants_;

  std::unordered_map<Id, VolumeFacts, IdHash> volumes_;
  std::map<std::string, Id, std::less<>> volume_prefixes_;
  std::map<uint32_t, Id> volume_numbers_;
  std::unordered_set<Id, IdHash> given_volumes_;
  std::set<uint32_t> given_volume_numbers_;
};

// ---- building ----

// A change, signed: what travels to the root volume's owner. `seen` is the proposer's register version.
Bytes make_proposal(const Id& mesh, uint64_t seen, Change change, const KeyPair& proposer, Random& random);
// Gives a proposal its place: the next entry, signed by the owner, checked to be one that apply() takes.
// The stamp is `owner_wall_ns`, or the last entry's when that is later. Fails as apply() does.
Result<Bytes> make_entry(const RegisterState& state, ByteView proposal, const KeyPair& owner,
                         int64_t owner_wall_ns);
// make_proposal and make_entry in one, for what the owner itself proposes (admissions).
Result<Bytes> make_own_entry(const RegisterState& state, Change change, const KeyPair& owner,
                             int64_t owner_wall_ns, Random& random);
// The entry that admits a peer, or why not. The name it asked for is made free.
Result<Bytes> make_admission(const RegisterState& state, const SignedJoin& join, const KeyPair& owner,
                             int64_t owner_wall_ns, Random& random);
// Entry 0. `genesis` is version 1; `root` is one of its keys; `founder` the first peer's key.
Result<Bytes> make_founding(const SignedGenesis& genesis, const KeyPair& root, const KeyPair& founder,
                            std::string founder_name, const Id& root_volume, int64_t wall_ns, Random& random);

}  // namespace efs
