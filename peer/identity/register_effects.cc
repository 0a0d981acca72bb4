// What each change to the register does, once the rules have allowed it.
#include "peer/identity/register_internal.h"

namespace efs {

void RegisterState::Effects::add_peer(PeerFacts peer) const {
  state.peer_keys_[peer.key] = peer.id;
  state.peer_names_[peer.name] = peer.id;
  state.peers_[peer.id] = std::move(peer);
}

// It is no peer any more, nor an administrator by its own key.
void RegisterState::Effects::end_peer(const PeerId& id, Standing standing) const {
  PeerFacts& peer = state.peers_.at(id);
  if (peer.standing == Standing::admitted) state.peer_names_.erase(peer.name);
  peer.standing = standing;
  std::vector<std::string> admins;
  auto [first, last] = state.admin_keys_.equal_range(peer.key);
  for (; first != last; ++first) admins.push_back(first->second);
  for (const std::string& name : admins) remove_admin(name);
}

void RegisterState::Effects::add_admin(AdminFacts admin) const {
  state.admin_keys_.emplace(admin.key, admin.name);
  state.admins_[admin.name] = std::move(admin);
}

void RegisterState::Effects::remove_admin(const std::string& name) const {
  const std::string kept = name;
  const PublicKey key = state.admins_.at(kept).key;
  std::erase_if(state.admin_keys_, [&](const auto& row) { return row.first == key && row.second == kept; });
  state.admins_.erase(kept);
}

void RegisterState::Effects::add_volume(VolumeFacts volume) const {
  state.volume_prefixes_[volume.prefix] = volume.id;
  state.volume_numbers_[volume.number] = volume.id;
  state.given_volumes_.insert(volume.id);
  state.given_volume_numbers_.insert(volume.number);
  state.volumes_[volume.id] = std::move(volume);
}

void RegisterState::Effects::drop_grants(std::string_view who) const {
  for (auto at = state.grants_.begin(); at != state.grants_.end();) {
    if (auto found = at->second.find(who); found != at->second.end()) at->second.erase(found);
    at = at->second.empty() ? state.grants_.erase(at) : std::next(at);
  }
}

void RegisterState::Effects::operator()(const Founding& change) const {
  auto genesis = check_first_genesis(change.genesis);
  state.genesis_ = *genesis;
  state.mesh_ = genesis->hash;
  PeerFacts founder;
  founder.id = peer_id_of(change.founder);
  founder.key = change.founder;
  founder.name = change.name;
  founder.rights = {.operate = true, .uids = UidRange::all(), .under = {"/"}};
  founder.standing = Standing::admitted;
  add_admin({change.name, change.founder, "/"});
  VolumeFacts root;
  root.id = change.root_volume;
  root.prefix = "/";
  root.founders = root.owners = {founder.id};
  root.created_ns = entry.stamp_ns;
  add_volume(std::move(root));
  add_peer(std::move(founder));
}

void RegisterState::Effects::operator()(const RotateRoot& change) const {
  state.genesis_ = *check_next_genesis(state.genesis_, change.genesis);
}

void RegisterState::Effects::operator()(const AdmitPeer& change) const {
  auto join = read_join(change.join, state.mesh_, true);
  PeerFacts peer;
  peer.key = join->request.key;
  peer.id = state.peer_of_any_key(peer.key).value_or(peer_id_of(peer.key));
  peer.name = change.name;
  peer.role = join->certificate.role;
  peer.rights = join->certificate.rights;
  peer.standing = Standing::admitted;
  peer.invite = join->certificate.invite;
  peer.admitted = entry.index;
  ++state.invites_[peer.invite].uses;
  add_peer(std::move(peer));
}

void RegisterState::Effects::operator()(const RevokePeer& change) const {
  end_peer(change.peer, Standing::revoked);
}

void RegisterState::Effects::operator()(const ForgetPeer& change) const {
  end_peer(change.peer, Standing::forgotten);
}

void RegisterState::Effects::operator()(const SetPeerKey& change) const {
  PeerFacts& peer = state.peers_.at(change.peer);
  for (auto& [name, admin] : state.admins_) {
    if (admin.key == peer.key) admin.key = change.key;
  }
  std::vector<std::string> names;
  auto [first, last] = state.admin_keys_.equal_range(peer.key);
  for (; first != last; ++first) names.push_back(first->second);
  state.admin_keys_.erase(peer.key);
  for (std::string& name : names) state.admin_keys_.emplace(change.key, std::move(name));
  peer.key = change.key;
  state.peer_keys_[change.key] = change.peer;
}

void RegisterState::Effects::operator()(const RevokeInvite& change) const {
  state.invites_[change.invite].revoked = true;
}

void RegisterState::Effects::operator()(const RotateSecret& change) const {
  state.secret_number_ = change.number;
  state.secret_fingerprint_ = change.fingerprint;
}

void RegisterState::Effects::operator()(const AddUser& change) const {
  UserFacts user{change.name, change.uid, change.gid, change.keys, {}, change.home, entry.hash};
  state.given_uids_.insert(user.uid);
  state.given_gids_.insert(user.gid);
  state.uids_[user.uid] = user.name;
  for (const PublicKey& key : user.keys) state.user_keys_[key] = user.name;
  for (const std::string& group : change.groups) {
    user.groups.insert(group);
    state.groups_.at(group).members.insert(user.name);
  }
  state.users_[user.name] = std::move(user);
}

void RegisterState::Effects::operator()(const SetUserKeys& change) const {
  UserFacts& user = state.users_.find(change.name)->second;
  for (const PublicKey& key : user.keys) state.user_keys_.erase(key);
  for (const PublicKey& key : change.keys) state.user_keys_[key] = user.name;
  user.keys = change.keys;
  user.entry = entry.hash;
}

void RegisterState::Effects::operator()(const ChangeUserGroups& change) const {
  UserFacts& user = state.users_.find(change.name)->second;
  for (const std::string& group : change.remove) {
    user.groups.erase(group);
    state.groups_.at(group).members.erase(user.name);
  }
  for (const std::string& group : change.add) {
    user.groups.insert(group);
    state.groups_.at(group).members.insert(user.name);
  }
  user.entry = entry.hash;
}

void RegisterState::Effects::operator()(const RemoveUser& change) const {
  auto found = state.users_.find(change.name);
  for (const PublicKey& key : found->second.keys) state.user_keys_.erase(key);
  for (const std::string& group : found->second.groups) state.groups_.at(group).members.erase(change.name);
  state.uids_.erase(found->second.uid);
  drop_grants(change.name);
  state.users_.erase(found);
}

void RegisterState::Effects::operator()(const AddGroup& change) const {
  state.given_gids_.insert(change.gid);
  state.gids_[change.gid] = change.name;
  state.groups_[change.name] = {change.name, change.gid, {}};
}

void RegisterState::Effects::operator()(const RemoveGroup& change) const {
  auto found = state.groups_.find(change.name);
  for (const std::string& member : found->second.members) {
    UserFacts& user = state.users_.at(member);
    user.groups.erase(change.name);
    user.entry = entry.hash;
  }
  state.gids_.erase(found->second.gid);
  drop_grants("@" + change.name);
  state.groups_.erase(found);
}

void RegisterState::Effects::operator()(const SetGrant& change) const {
  state.grants_[change.prefix][change.who] = change.right;
}

void RegisterState::Effects::operator()(const RemoveGrant& change) const {
  auto at = state.grants_.find(change.prefix);
  at->second.erase(change.who);
  if (at->second.empty()) state.grants_.erase(at);
}

void RegisterState::Effects::operator()(const AddAdmin& change) const {
  add_admin({change.name, change.key, change.under});
}

void RegisterState::Effects::operator()(const RemoveAdmin& change) const {
  remove_admin(change.name);
}

void RegisterState::Effects::operator()(const AddVolume& change) const {
  VolumeFacts volume;
  volume.id = change.id;
  volume.number = change.number;
  volume.prefix = change.prefix;
  volume.parent = change.parent;
  volume.ancestors = change.ancestors;
  volume.founders = volume.owners = change.founders;
  volume.created_ns = entry.stamp_ns;
  add_volume(std::move(volume));
}

void RegisterState::Effects::operator()(const RemoveVolume& change) const {
  const VolumeFacts& volume = state.volumes_.at(change.id);
  state.volume_prefixes_.erase(volume.prefix);
  state.volume_numbers_.erase(volume.number);
  state.volumes_.erase(change.id);
}

void RegisterState::Effects::operator()(const SetVolumeOwners& change) const {
  VolumeFacts& volume = state.volumes_.at(change.id);
  volume.epoch = change.epoch;
  volume.owners = change.owners;
}

}  // namespace efs
