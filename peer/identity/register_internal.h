// The two halves of a change to the register, for its own sources: may it be made, and make it.
#pragma once

#include <algorithm>

#include "peer/identity/register.h"

namespace efs {

// May this change be made? One answer a kind; nothing is touched.
struct RegisterState::Rules {
  const RegisterState& state;
  const Entry& entry;
  Source source;

  Status operator()(const Founding& change) const;
  Status operator()(const RotateRoot& change) const;
  Status operator()(const AdmitPeer& change) const;
  Status operator()(const RevokePeer& change) const;
  Status operator()(const ForgetPeer& change) const;
  Status operator()(const SetPeerKey& change) const;
  Status operator()(const RevokeInvite& change) const;
  Status operator()(const RotateSecret& change) const;
  Status operator()(const AddUser& change) const;
  Status operator()(const SetUserKeys& change) const;
  Status operator()(const ChangeUserGroups& change) const;
  Status operator()(const RemoveUser& change) const;
  Status operator()(const AddGroup& change) const;
  Status operator()(const RemoveGroup& change) const;
  Status operator()(const SetGrant& change) const;
  Status operator()(const RemoveGrant& change) const;
  Status operator()(const AddAdmin& change) const;
  Status operator()(const RemoveAdmin& change) const;
  Status operator()(const AddVolume& change) const;
  Status operator()(const RemoveVolume& change) const;
  Status operator()(const SetVolumeOwners& change) const;

 private:
  Status need_admin(std::string_view prefix, std::string_view what) const;
  Status need_admin_or_root(std::string_view prefix, std::string_view what) const;
  Status keeps_an_administrator(const PublicKey& without, std::string_view what) const;
  Status check_user_keys(std::string_view user, const std::vector<PublicKey>& keys) const;
  Status check_gid_of_user(const AddUser& change) const;
};

// Makes a change that the rules allowed. Cannot fail.
struct RegisterState::Effects {
  RegisterState& state;
  const Entry& entry;

  void operator()(const Founding& change) const;
  void operator()(const RotateRoot& change) const;
  void operator()(const AdmitPeer& change) const;
  void operator()(const RevokePeer& change) const;
  void operator()(const ForgetPeer& change) const;
  void operator()(const SetPeerKey& change) const;
  void operator()(const RevokeInvite& change) const;
  void operator()(const RotateSecret& change) const;
  void operator()(const AddUser& change) const;
  void operator()(const SetUserKeys& change) const;
  void operator()(const ChangeUserGroups& change) const;
  void operator()(const RemoveUser& change) const;
  void operator()(const AddGroup& change) const;
  void operator()(const RemoveGroup& change) const;
  void operator()(const SetGrant& change) const;
  void operator()(const RemoveGrant& change) const;
  void operator()(const AddAdmin& change) const;
  void operator()(const RemoveAdmin& change) const;
  void operator()(const AddVolume& change) const;
  void operator()(const RemoveVolume& change) const;
  void operator()(const SetVolumeOwners& change) const;

 private:
  void add_peer(PeerFacts peer) const;
  void end_peer(const PeerId& id, Standing standing) const;
  void add_admin(AdminFacts admin) const;
  void remove_admin(const std::string& name) const;
  void add_volume(VolumeFacts volume) const;
  void drop_grants(std::string_view who) const;
};

inline bool contains(const std::vector<PeerId>& owners, const PeerId& id) {
  return std::find(owners.begin(), owners.end(), id) != owners.end();
}

}  // namespace efs
