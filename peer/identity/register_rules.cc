// Who may make which change to the register, and which changes cannot be. Every refusal is a sentence for
// the person who asked.
#include <fmt/format.h>

#include "peer/identity/prefix.h"
#include "peer/identity/register_internal.h"

namespace efs {

namespace {
constexpr uint64_t kMaxEpochJump = 1'000'000;
constexpr size_t kMaxSecretBoxBytes = 128;

// Not root's, nobody's, nor what programs take for "none" (-1, -2; 16-bit ones too).
Status check_given_id(uint32_t id, std::string_view what) {
  if (id != 0 && id != 65534 && id != 65535 && id < UINT32_MAX - 1) return {};
  return fail(Code::invalid_argument, fmt::format("the {} {} is reserved; choose another", what, id));
}

tl::unexpected<Error> no_such(std::string_view what, std::string_view name) {
  return fail(Code::not_found, fmt::format("there is no {} '{}'", what, name.substr(0, 64)));
}

tl::unexpected<Error> taken(std::string_view what, std::string_view name) {
  return fail(Code::exists,
              fmt::format("there is a {} '{}' already; choose another name", what, name.substr(0, 64)));
}

template <typename T>
bool has_duplicates(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  return std::adjacent_find(values.begin(), values.end()) != values.end();
}
}  // namespace

Status RegisterState::Rules::need_admin(std::string_view prefix, std::string_view what) const {
  if (state.is_admin(entry.proposer, prefix)) return {};
  return fail(
      Code::unauthorized,
      fmt::format("{} may not {}: that needs an administrator of {}; sign with such a key (--key FILE)",
                  state.who_is(entry.proposer), what, prefix));
}

Status RegisterState::Rules::need_admin_or_root(std::string_view prefix, std::string_view what) const {
  if (state.is_root_key(entry.proposer)) return {};
  return need_admin(prefix, what);
}

// An administrator of the whole mesh must be left when those with this key are gone.
Status RegisterState::Rules::keeps_an_administrator(const PublicKey& without, std::string_view what) const {
  bool had = false;
  for (const auto& [name, admin] : state.admins_) {
    if (admin.under != "/") continue;
    if (admin.key != without) return {};
    had = true;
  }
  if (!had) return {};
  return fail(Code::busy, fmt::format("cannot {}: nobody would administer the mesh any more; make another "
                                      "administrator first ('efs-keys admin add')",
                                      what));
}

Status RegisterState::Rules::operator()(const Founding& change) const {
  if (state.version() != 0) return fail(Code::conflict, "a mesh is founded once");
  EFS_ASSIGN(auto genesis, check_first_genesis(change.genesis));
  EFS_TRY(check_peer_name(change.name, "peer"));
  const auto& roots = genesis.genesis.roots;
  if (std::find(roots.begin(), roots.end(), entry.proposer) == roots.end())
    return fail(Code::unauthorized, "the founding of the mesh is not signed by one of its root keys");
  if (entry.orderer != change.founder)
    return fail(Code::unauthorized, "the founding of the mesh is not signed by the peer that founds it");
  return {};
}

Status RegisterState::Rules::operator()(const RotateRoot& change) const {
  EFS_TRY(check_next_genesis(state.genesis_, change.genesis));
  return {};
}

Status RegisterState::Rules::operator()(const AdmitPeer& change) const {
  if (entry.proposer != entry.orderer)
    return fail(Code::unauthorized,
                "peers are admitted by an owner of the root volume, on the strength of an invite");
  EFS_TRY(state.check_join(change.join, entry.stamp_ns, source));
  EFS_TRY(check_peer_name(change.name, "peer"));
  if (state.peer_names_.contains(change.name)) return taken("peer", change.name);
  return {};
}

Status RegisterState::Rules::operator()(const RevokePeer& change) const {
  EFS_TRY(need_admin_or_root("/", "revoke a peer"));
  const PeerFacts* peer = state.peer(change.peer);
  if (peer == nullptr) return no_such("peer", short_hex(change.peer));
  if (peer->standing == Standing::revoked)
    return fail(Code::exists, fmt::format("the peer {} is revoked already", peer->name));
  if (contains(state.root_volume()->owners, peer->id))
    return fail(Code::busy,
                fmt::format("the peer {} owns the root volume, which orders the register: give that to "
                            "another peer first",
                            peer->name));
  return keeps_an_administrator(peer->key, "revoke the peer " + peer->name);
}

Status RegisterState::Rules::operator()(const ForgetPeer& change) const {
  const PeerFacts* peer = state.peer(change.peer);
  if (peer == nullptr || peer->standing != Standing::admitted) return no_such("peer", short_hex(change.peer));
  if (entry.proposer != peer->key && !state.is_operator(entry.proposer))
    EFS_TRY(need_admin("/", "remove another peer"));
  for (const VolumeFacts* volume : state.volumes()) {
    if (!contains(volume->owners, peer->id)) continue;
    return fail(Code::busy, fmt::format("the peer {} still owns {}: move or remove that volume first",
                                        peer->name, volume->prefix));
  }
  return keeps_an_administrator(peer->key, "remove the peer " + peer->name);
}

Status RegisterState::Rules::operator()(const SetPeerKey& change) const {
  const PeerFacts* peer = state.peer(change.peer);
  if (peer == nullptr || peer->standing != Standing::admitted) return no_such("peer", short_hex(change.peer));
  if (entry.proposer != peer->key) EFS_TRY(need_admin("/", "change another peer's key"));
  if (state.peer_keys_.contains(change.key))
    return fail(Code::exists, "a peer has, or had, this key already");
  if (!verify_in_mesh(change.key, kPossessionDomain, state.mesh_, change.peer, change.possession))
    return fail(Code::unauthorized, "the new key of the peer is not signed with itself");
  return {};
}

Status RegisterState::Rules::operator()(const RevokeInvite& change) const {
  EFS_TRY(need_admin("/", "revoke an invite"));
  auto found = state.invites_.find(change.invite);
  if (found != state.invites_.end() && found->second.revoked)
    return fail(Code::exists, "the invite is revoked already");
  return {};
}

Status RegisterState::Rules::operator()(const RotateSecret& change) const {
  EFS_TRY(need_admin_or_root("/", "replace the mesh secret"));
  if (change.number != state.secret_number_ + 1)
    return fail(Code::conflict, "the mesh secret was replaced meanwhile; try again");
  if (change.boxes.size() > kMaxSealedSecrets)
    return fail(Code::too_large, fmt::format("a new mesh secret for more than {} peers", kMaxSealedSecrets));
  for (const SealedSecret& one : change.boxes) {
    if (one.box.size() > kMaxSecretBoxBytes) return fail(Code::too_large, "a sealed mesh secret is too long");
    const PeerFacts* peer = state.peer(one.peer);
    if (peer == nullptr || peer->standing != Standing::admitted) return no_such("peer", short_hex(one.peer));
  }
  return {};
}

Status RegisterState::Rules::check_user_keys(std::string_view user,
                                             const std::vector<PublicKey>& keys) const {
  if (keys.size() > kMaxUserKeys)
    return fail(Code::too_large, fmt::format("a user has at most {} keys", kMaxUserKeys));
  if (has_duplicates(keys)) return fail(Code::invalid_argument, "a user's key is given twice");
  for (const PublicKey& key : keys) {
    if (key == PublicKey{}) return fail(Code::invalid_argument, "a user's key is empty");
    auto found = state.user_keys_.find(key);
    if (found != state.user_keys_.end() && found->second != user)
      return fail(Code::exists, fmt::format("the user '{}' has this key already", found->second));
  }
  return {};
}

Status RegisterState::Rules::check_gid_of_user(const AddUser& change) const {
  if (state.gids_.contains(change.gid)) return {};
  if (change.gid != change.uid)
    return fail(Code::not_found, fmt::format("there is no group with gid {}", change.gid));
  if (state.given_gids_.contains(change.gid))
    return fail(Code::exists,
                fmt::format("the gid {} was given before, and is never given again", change.gid));
  return {};
}

Status RegisterState::Rules::operator()(const AddUser& change) const {
  EFS_TRY(need_admin("/", "add a user"));
  EFS_TRY(check_user_name(change.name, "user"));
  if (state.users_.contains(change.name)) return taken("user", change.name);
  EFS_TRY(check_given_id(change.uid, "uid"));
  if (state.given_uids_.contains(change.uid))
    return fail(Code::exists,
                fmt::format("the uid {} was given before, and is never given again; the next free one "
                            "is {}",
                            change.uid, state.free_uid()));
  EFS_TRY(check_gid_of_user(change));
  EFS_TRY(check_user_keys(change.name, change.keys));
  if (change.groups.size() > kMaxUserGroups)
    return fail(Code::too_large, fmt::format("a user is in at most {} groups", kMaxUserGroups));
  for (const std::string& group : change.groups) {
    if (!state.groups_.contains(group)) return no_such("group", group);
  }
  if (!change.home.empty()) EFS_TRY(check_prefix(change.home));
  return {};
}

Status RegisterState::Rules::operator()(const SetUserKeys& change) const {
  const UserFacts* user = state.user(change.name);
  if (user == nullptr) return no_such("user", change.name);
  const bool is_own = std::find(user->keys.begin(), user->keys.end(), entry.proposer) != user->keys.end();
  if (!is_own) EFS_TRY(need_admin("/", "change a user's keys"));
  return check_user_keys(change.name, change.keys);
}

Status RegisterState::Rules::operator()(const ChangeUserGroups& change) const {
  EFS_TRY(need_admin("/", "change a user's groups"));
  const UserFacts* user = state.user(change.name);
  if (user == nullptr) return no_such("user", change.name);
  if (change.add.size() > kMaxUserGroups || user->groups.size() + change.add.size() > kMaxUserGroups)
    return fail(Code::too_large, fmt::format("a user is in at most {} groups", kMaxUserGroups));
  for (const std::string& group : change.add) {
    if (!state.groups_.contains(group)) return no_such("group", group);
  }
  for (const std::string& group : change.remove) {
    if (!user->groups.contains(group))
      return fail(Code::not_found,
                  fmt::format("the user '{}' is not in a group '{}'", user->name, group.substr(0, 64)));
  }
  return {};
}

Status RegisterState::Rules::operator()(const RemoveUser& change) const {
  EFS_TRY(need_admin("/", "remove a user"));
  if (state.user(change.name) == nullptr) return no_such("user", change.name);
  return {};
}

Status RegisterState::Rules::operator()(const AddGroup& change) const {
  EFS_TRY(need_admin("/", "add a group"));
  EFS_TRY(check_user_name(change.name, "group"));
  if (state.groups_.contains(change.name)) return taken("group", change.name);
  EFS_TRY(check_given_id(change.gid, "gid"));
  if (state.given_gids_.contains(change.gid))
    return fail(Code::exists,
                fmt::format("the gid {} was given before, and is never given again; the next free one "
                            "is {}",
                            change.gid, state.free_gid()));
  return {};
}

Status RegisterState::Rules::operator()(const RemoveGroup& change) const {
  EFS_TRY(need_admin("/", "remove a group"));
  const GroupFacts* group = state.group(change.name);
  if (group == nullptr) return no_such("group", change.name);
  for (const auto& [name, user] : state.users_) {
    if (user.gid == group->gid)
      return fail(Code::busy,
                  fmt::format("the group '{}' is the first group of the user '{}': remove that user first",
                              group->name, name));
  }
  return {};
}

Status RegisterState::Rules::operator()(const SetGrant& change) const {
  EFS_TRY(check_prefix(change.prefix));
  EFS_TRY(need_admin(change.prefix, "grant rights on " + change.prefix));
  if (change.right != Right::read_only && change.right != Right::read_write && change.right != Right::admin)
    return fail(Code::invalid_argument, "a grant is ro, rw or admin");
  if (change.who == "*") {
    if (change.right != Right::admin) return {};
    return fail(Code::invalid_argument, "not everyone can be made an administrator; name a user or a @group");
  }
  if (change.who.starts_with('@')) {
    if (state.group(change.who.substr(1)) == nullptr) return no_such("group", change.who.substr(1));
  } else if (state.user(change.who) == nullptr) {
    return no_such("user", change.who);
  }
  return {};
}

Status RegisterState::Rules::operator()(const RemoveGrant& change) const {
  EFS_TRY(check_prefix(change.prefix));
  EFS_TRY(need_admin(change.prefix, "revoke rights on " + change.prefix));
  auto at = state.grants_.find(change.prefix);
  if (at == state.grants_.end() || !at->second.contains(change.who))
    return fail(Code::not_found, fmt::format("'{}' has no grant on {}; 'efs-keys grants' shows what there is",
                                             change.who.substr(0, 64), change.prefix));
  return {};
}

Status RegisterState::Rules::operator()(const AddAdmin& change) const {
  EFS_TRY(check_prefix(change.under));
  EFS_TRY(need_admin_or_root(change.under, "make an administrator of " + change.under));
  EFS_TRY(check_peer_name(change.name, "administrator"));
  if (state.admins_.contains(change.name)) return taken("administrator", change.name);
  if (change.key == PublicKey{}) return fail(Code::invalid_argument, "an administrator needs a key");
  return {};
}

Status RegisterState::Rules::operator()(const RemoveAdmin& change) const {
  auto found = state.admins_.find(change.name);
  if (found == state.admins_.end()) return no_such("administrator", change.name);
  const AdminFacts& admin = found->second;
  EFS_TRY(need_admin_or_root(admin.under, "remove an administrator of " + admin.under));
  if (admin.under != "/") return {};
  for (const auto& [name, other] : state.admins_) {
    if (name != admin.name && other.under == "/") return {};
  }
  return keeps_an_administrator(admin.key, "remove the administrator " + admin.name);
}

Status RegisterState::Rules::operator()(const AddVolume& change) const {
  EFS_TRY(state.may_create_volume(entry.proposer, change.prefix, change.founders));
  if (const VolumeFacts* other = state.volume_at(change.prefix))
    return fail(Code::exists,
                fmt::format("there is a volume at {} already ({})", other->prefix, short_hex(other->id)));
  if (state.given_volumes_.contains(change.id))
    return fail(Code::exists, "a volume with this id exists, or did");
  if (change.number == 0 || change.number > kMaxVolumeNumber)
    return fail(Code::invalid_argument, fmt::format("a volume's number is 1 to {}", kMaxVolumeNumber));
  if (state.given_volume_numbers_.contains(change.number))
    return fail(Code::conflict,
                fmt::format("the volume number {} was given meanwhile; try again", change.number));
  if (auto below = state.volumes_below(change.prefix); !below.empty())
    return fail(Code::not_empty, fmt::format("the volume {} lies below {}, which would hide it",
                                             below[0]->prefix, change.prefix));
  const VolumeFacts* parent = state.volume_for(change.prefix);
  if (parent == nullptr || parent->id != change.parent)
    return fail(Code::conflict,
                fmt::format("{} lies in another volume than the charter says; try again", change.prefix));
  const size_t expected = component_count(change.prefix) - component_count(parent->prefix) - 1;
  if (change.ancestors.size() != expected)
    return fail(Code::invalid_argument,
                fmt::format("the charter of {} names {} directories on the way to it, where "
                            "there are {}",
                            change.prefix, change.ancestors.size(), expected));
  return {};
}

Status RegisterState::Rules::operator()(const RemoveVolume& change) const {
  const VolumeFacts* volume = state.volume(change.id);
  if (volume == nullptr) return no_such("volume", short_hex(change.id));
  if (volume->number == 0)
    return fail(Code::not_permitted, "the root volume cannot be removed: it holds the register");
  if (auto below = state.volumes_below(volume->prefix); !below.empty())
    return fail(Code::not_empty, fmt::format("the volume {} has others below it ({}); remove those first",
                                             volume->prefix, below[0]->prefix));
  return state.may_remove_volume(entry.proposer, *volume);
}

Status RegisterState::Rules::operator()(const SetVolumeOwners& change) const {
  const VolumeFacts* volume = state.volume(change.id);
  if (volume == nullptr) return no_such("volume", short_hex(change.id));
  EFS_TRY(state.check_owners(change.owners));
  if (change.epoch <= volume->epoch || change.epoch - volume->epoch > kMaxEpochJump)
    return fail(Code::conflict,
                fmt::format("the volume {} is at epoch {} already", volume->prefix, volume->epoch));
  if (change.links.empty()) return need_admin_or_root(volume->prefix, "name the owners of " + volume->prefix);
  EFS_ASSIGN(auto owners, state.owners_at(*volume, change.epoch, change.links));
  if (owners != change.owners)
    return fail(Code::unauthorized,
                fmt::format("the owners of {} did not agree on these new owners", volume->prefix));
  return {};
}

}  // namespace efs
