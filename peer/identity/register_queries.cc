// What the register answers, and who may do what by it.
#include <fmt/format.h>

#include <set>

#include "peer/identity/prefix.h"
#include "peer/identity/register_internal.h"
#include "peer/identity/time_text.h"

namespace efs {

namespace {
constexpr size_t kMinIdPrefix = 4;  // hex digits
constexpr std::string_view kNewInvite = "make a new one there with 'efs-keys invite'";

template <typename Map, typename Key>
auto* find_in(const Map& map, const Key& key) {
  auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}
}  // namespace

std::optional<Id> RegisterState::hash_at(uint64_t index) const {
  if (index >= hashes_.size()) return std::nullopt;
  return hashes_[index];
}

// ---- peers ----

const PeerFacts* RegisterState::peer(const PeerId& id) const {
  return find_in(peers_, id);
}

const PeerFacts* RegisterState::peer_by_key(const PublicKey& key) const {
  const PeerId* id = find_in(peer_keys_, key);
  if (id == nullptr) return nullptr;
  const PeerFacts& peer = peers_.at(*id);
  return peer.key == key && peer.standing == Standing::admitted ? &peer : nullptr;
}

Standing RegisterState::standing_of(const PublicKey& key) const {
  const PeerId* id = find_in(peer_keys_, key);
  if (id == nullptr) return Standing::unknown;
  const PeerFacts& peer = peers_.at(*id);
  return peer.key == key ? peer.standing : Standing::revoked;
}

std::optional<PeerId> RegisterState::peer_of_any_key(const PublicKey& key) const {
  const PeerId* id = find_in(peer_keys_, key);
  return id == nullptr ? std::nullopt : std::optional(*id);
}

Result<const PeerFacts*> RegisterState::find_peer(std::string_view name_or_id) const {
  if (const PeerId* id = find_in(peer_names_, name_or_id)) return &peers_.at(*id);
  std::vector<const PeerFacts*> found;
  for (const auto& [id, peer] : peers_) {
    if (peer.standing == Standing::admitted && name_or_id.size() >= kMinIdPrefix &&
        to_hex(id).starts_with(name_or_id))
      found.push_back(&peer);
  }
  if (found.size() == 1) return found[0];
  if (found.empty())
    return fail(Code::not_found, fmt::format("there is no peer '{}'; 'efs peer ls' shows those there are",
                                             name_or_id.substr(0, 64)));
  return fail(Code::conflict, fmt::format("'{}' begins the ids of {} peers ({}, {}, ...): give more of it",
                                          name_or_id, found.size(), found[0]->name, found[1]->name));
}

std::vector<const PeerFacts*> RegisterState::peers() const {
  std::vector<const PeerFacts*> out;
  for (const auto& [id, peer] : peers_) out.push_back(&peer);
  return out;
}

std::string RegisterState::free_peer_name(std::string_view wanted) const {
  const std::string base = to_peer_name(wanted);
  std::string name = base;
  for (uint64_t number = 2; peer_names_.contains(name); ++number) name = fmt::format("{}-{}", base, number);
  return name;
}

const PeerFacts* RegisterState::admitted_by(const SignedJoin& join) const {
  auto checked = read_join(join, mesh_);
  if (!checked) return nullptr;
  const PeerFacts* found = peer_by_key(checked->request.key);
  return found != nullptr && found->invite == checked->certificate.invite ? found : nullptr;
}

uint32_t RegisterState::invite_uses(const PublicKey& invite) const {
  const Invited* found = find_in(invites_, invite);
  return found == nullptr ? 0 : found->uses;
}

Status RegisterState::check_join(const SignedJoin& join, int64_t stamp_ns, Source source) const {
  EFS_ASSIGN(auto checked, read_join(join, mesh_, source == Source::stored));
  const Certificate& certificate = checked.certificate;
  const PublicKey& administrator = checked.request.certificate.signer;
  if (!is_admin(administrator, "/"))
    return fail(Code::unauthorized,
                fmt::format("the invite was made by {}, who is no administrator of this mesh; {}",
                            who_is(administrator), kNewInvite));
  const Invited* used = find_in(invites_, certificate.invite);
  if (used != nullptr && used->revoked)
    return fail(Code::unauthorized, fmt::format("the invite was revoked; {}", kNewInvite));
  if (stamp_ns > certificate.expires_ns)
    return fail(Code::expired,
                fmt::format("the invite ended at {}; {}", utc_text(certificate.expires_ns), kNewInvite));
  if (used != nullptr && used->uses >= certificate.uses)
    return fail(Code::expired,
                fmt::format("the invite is used up (it was good for {}); {}", certificate.uses, kNewInvite));
  const int64_t wall = checked.request.wall_ns;
  // Compared without subtraction: a joiner may say any time.
  if (wall < stamp_ns - kMaxClockDifferenceNs || wall > stamp_ns + kMaxClockDifferenceNs)
    return fail(
        Code::conflict,
        fmt::format(
            "the clocks differ by more than 5 minutes: {} there, {} here; set the clock and join again",
            utc_text(wall), utc_text(stamp_ns)));
  switch (standing_of(checked.request.key)) {
    case Standing::admitted:
      return fail(Code::exists, fmt::format("the peer {} is a member of this mesh already",
                                            peer_by_key(checked.request.key)->name));
    case Standing::revoked:
      return fail(Code::unauthorized,
                  "this peer was revoked, and cannot join again; start with a new data directory");
    case Standing::unknown:
    case Standing::forgotten:
      return {};
  }
  return {};
}

// ---- users, groups, grants, administrators ----

const UserFacts* RegisterState::user(std::string_view name) const {
  return find_in(users_, name);
}

const UserFacts* RegisterState::user_by_uid(uint32_t uid) const {
  const std::string* name = find_in(uids_, uid);
  return name == nullptr ? nullptr : user(*name);
}

const UserFacts* RegisterState::user_by_key(const PublicKey& key) const {
  const std::string* name = find_in(user_keys_, key);
  return name == nullptr ? nullptr : user(*name);
}

const GroupFacts* RegisterState::group(std::string_view name) const {
  return find_in(groups_, name);
}

const GroupFacts* RegisterState::group_by_gid(uint32_t gid) const {
  const std::string* name = find_in(gids_, gid);
  return name == nullptr ? nullptr : group(*name);
}

std::vector<uint32_t> RegisterState::gids_of(const UserFacts& user) const {
  std::vector<uint32_t> gids{user.gid};
  for (const std::string& name : user.groups) {
    const uint32_t gid = groups_.at(name).gid;
    if (gid != user.gid) gids.push_back(gid);
  }
  return gids;
}

uint32_t RegisterState::free_uid() const {
  uint32_t id = kFirstGivenUid;
  auto uid = given_uids_.lower_bound(id);
  auto gid = given_gids_.lower_bound(id);
  while (true) {
    const bool uid_taken = uid != given_uids_.end() && *uid == id;
    const bool gid_taken = gid != given_gids_.end() && *gid == id;
    if (uid_taken) ++uid;
    if (gid_taken) ++gid;
    if (!uid_taken && !gid_taken && id != 65534 && id != 65535) return id;
    ++id;
  }
}

std::vector<GrantFacts> RegisterState::grants(std::string_view below) const {
  std::vector<GrantFacts> out;
  for (auto at = grants_.lower_bound(below); at != grants_.end() && at->first.starts_with(below); ++at) {
    if (!prefix_covers(below, at->first)) continue;
    for (const auto& [who, right] : at->second) out.push_back({at->first, who, right});
  }
  return out;
}

Right RegisterState::right_at(std::string_view user_name, std::string_view path) const {
  const UserFacts* asking = user(user_name);
  Right best = Right::none;
  for (; !path.empty(); path = parent_prefix(path)) {
    const auto* at = find_in(grants_, path);
    if (at == nullptr) continue;
    for (const auto& [who, right] : *at) {
      const bool applies =
          who == "*" || (asking != nullptr &&
                         (who == asking->name || (who[0] == '@' && asking->groups.contains(who.substr(1)))));
      if (applies) best = std::max(best, right);
    }
  }
  return best;
}

// ---- volumes ----

const VolumeFacts* RegisterState::volume(const Id& id) const {
  return find_in(volumes_, id);
}

const VolumeFacts* RegisterState::volume_by_number(uint32_t number) const {
  const Id* id = find_in(volume_numbers_, number);
  return id == nullptr ? nullptr : volume(*id);
}

const VolumeFacts* RegisterState::volume_at(std::string_view prefix) const {
  const Id* id = find_in(volume_prefixes_, prefix);
  return id == nullptr ? nullptr : volume(*id);
}

const VolumeFacts* RegisterState::volume_for(std::string_view path) const {
  for (; !path.empty(); path = parent_prefix(path)) {
    if (const VolumeFacts* found = volume_at(path)) return found;
  }
  return nullptr;
}

std::vector<const VolumeFacts*> RegisterState::volumes() const {
  std::vector<const VolumeFacts*> out;
  for (const auto& [prefix, id] : volume_prefixes_) out.push_back(volume(id));
  return out;
}

std::vector<const VolumeFacts*> RegisterState::volumes_below(std::string_view prefix) const {
  std::vector<const VolumeFacts*> out;
  for (auto at = volume_prefixes_.upper_bound(prefix);
       at != volume_prefixes_.end() && at->first.starts_with(prefix); ++at) {
    if (prefix_covers(prefix, at->first)) out.push_back(volume(at->second));
  }
  return out;
}

uint32_t RegisterState::free_volume_number() const {
  uint32_t number = 0;
  for (uint32_t given : given_volume_numbers_) {
    if (given != number) break;
    ++number;
  }
  return number;
}

// ---- who may do what ----

bool RegisterState::is_admin(const PublicKey& key, std::string_view prefix) const {
  auto [first, last] = admin_keys_.equal_range(key);
  for (; first != last; ++first) {
    if (prefix_covers(admins_.find(first->second)->second.under, prefix)) return true;
  }
  const UserFacts* found = user_by_key(key);
  return found != nullptr && right_at(found->name, prefix) == Right::admin;
}

bool RegisterState::is_operator(const PublicKey& key) const {
  const PeerFacts* found = peer_by_key(key);
  return found != nullptr && found->rights.operate;
}

bool RegisterState::is_root_key(const PublicKey& key) const {
  const Genesis& genesis = genesis_.genesis;
  return !hashes_.empty() && genesis.threshold == 1 &&
         std::find(genesis.roots.begin(), genesis.roots.end(), key) != genesis.roots.end();
}

bool RegisterState::may_speak_for(const PublicKey& key, uint32_t uid) const {
  const PeerFacts* found = peer_by_key(key);
  return found != nullptr && found->role == Role::server && found->rights.uids.contains(uid);
}

Status RegisterState::check_owners(const std::vector<PeerId>& owners) const {
  if (owners.empty() || owners.size() > kMaxOwners)
    return fail(Code::invalid_argument, fmt::format("a volume has 1 to {} owners", kMaxOwners));
  if (std::set<PeerId>(owners.begin(), owners.end()).size() != owners.size())
    return fail(Code::invalid_argument, "a volume's owner is named twice");
  for (const PeerId& id : owners) {
    const PeerFacts* owner = peer(id);
    if (owner == nullptr || owner->standing != Standing::admitted)
      return fail(Code::not_found,
                  fmt::format("there is no peer '{}' that could own a volume", short_hex(id)));
    if (owner->role != Role::server)
      return fail(Code::not_permitted,
                  fmt::format("the peer {} is a client, and clients own no volumes", owner->name));
  }
  return {};
}

Status RegisterState::may_create_volume(const PublicKey& key, std::string_view prefix,
                                        const std::vector<PeerId>& founders) const {
  EFS_TRY(check_prefix(prefix));
  EFS_TRY(check_owners(founders));
  if (is_admin(key, prefix) || is_operator(key)) return {};
  const PeerFacts* maker = peer_by_key(key);
  if (maker == nullptr)
    return fail(Code::unauthorized,
                fmt::format("{} may not make a volume at {}: that needs a peer with the right to "
                            "operate, or an administrator of {} (--key FILE)",
                            who_is(key), prefix, prefix));
  if (founders != std::vector<PeerId>{maker->id})
    return fail(Code::unauthorized,
                fmt::format("the peer {} may make volumes on itself only: placing them on others "
                            "needs the right to operate, or an administrator's key (--key FILE)",
                            maker->name));
  for (const std::string& under : maker->rights.under) {
    if (prefix_covers(under, prefix)) return {};
  }
  return fail(Code::unauthorized,
              fmt::format("the peer {} may not make a volume at {}: its invite allows those below {}",
                          maker->name, prefix, under_text(maker->rights)));
}

Status RegisterState::may_remove_volume(const PublicKey& key, const VolumeFacts& volume) const {
  return may_with_volume("remove", key, volume);
}

Status RegisterState::may_change_volume(const PublicKey& key, const VolumeFacts& volume) const {
  return may_with_volume("change", key, volume);
}

Status RegisterState::may_with_volume(std::string_view what, const PublicKey& key,
                                      const VolumeFacts& volume) const {
  const PeerFacts* asking = peer_by_key(key);
  if (asking != nullptr && contains(volume.owners, asking->id)) return {};
  if (is_operator(key) || is_admin(key, volume.prefix)) return {};
  return fail(Code::unauthorized,
              fmt::format("{} may not {} the volume {}: that needs its owner, a peer with the "
                          "right to operate, or an administrator of it (--key FILE)",
                          who_is(key), what, volume.prefix));
}

Status RegisterState::may_admit(const SignedJoin& join, int64_t owner_wall_ns) const {
  return check_join(join, owner_wall_ns, Source::received);
}

bool RegisterState::may_order(const PublicKey& key) const {
  const PeerFacts* found = peer_by_key(key);
  return found != nullptr && root_volume() != nullptr && contains(root_volume()->owners, found->id);
}

Result<std::vector<PeerId>> RegisterState::owners_at(const VolumeFacts& volume, uint64_t epoch,
                                                     const std::vector<EpochLink>& links) const {
  if (links.size() > kMaxEpochLinks) return fail(Code::too_large, "a volume's history of owners is too long");
  uint64_t reached = volume.epoch;
  std::vector<PeerId> owners = volume.owners;
  for (const EpochLink& link : links) {
    EFS_ASSIGN(auto body, decode<EpochBody>(link.body, {.bytes = 1024, .elements = 16, .depth = kMaxDepth}));
    if (body.epoch <= volume.epoch) continue;  // the register vouches for what came of these
    if (body.volume != volume.id || body.epoch != reached + 1 || body.owners.empty() ||
        body.owners.size() > kMaxOwners || link.signatures.size() > kMaxOwners)
      return fail(Code::unauthorized, fmt::format("the history of the owners of {} has a gap after epoch {}",
                                                  volume.prefix, reached));
    std::set<PeerId> signers;
    for (const OwnerSignature& one : link.signatures) {
      auto signer = peer_of_any_key(one.key);
      if (signer && contains(owners, *signer) && peer(*signer)->standing != Standing::revoked &&
          verify_in_mesh(one.key, kEpochDomain, mesh_, link.body, one.signature))
        signers.insert(*signer);
    }
    if (signers.size() * 2 <= owners.size())
      return fail(Code::unauthorized,
                  fmt::format("epoch {} of {} is not signed by a majority of the owners before it",
                              body.epoch, volume.prefix));
    reached = body.epoch;
    owners = std::move(body.owners);
  }
  if (reached != epoch)
    return fail(epoch < reached ? Code::stale : Code::unauthorized,
                fmt::format("the owners of {} at epoch {} are not shown: its history leads to epoch {}",
                            volume.prefix, epoch, reached));
  return owners;
}

std::string RegisterState::who_is(const PublicKey& key) const {
  if (const PeerId* id = find_in(peer_keys_, key)) {
    const PeerFacts& found = peers_.at(*id);
    return fmt::format("{} {}", found.standing == Standing::revoked ? "revoked peer" : "peer", found.name);
  }
  if (auto found = admin_keys_.find(key); found != admin_keys_.end()) return "administrator " + found->second;
  if (const UserFacts* found = user_by_key(key)) return "user " + found->name;
  const auto& roots = genesis_.genesis.roots;
  if (std::find(roots.begin(), roots.end(), key) != roots.end()) return "a root key";
  return "the unknown key " + short_hex(key);
}

}  // namespace efs
