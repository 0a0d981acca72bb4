#include "peer/identity/changes.h"

#include <fmt/format.h>

#include "peer/identity/limits.h"

namespace efs {

namespace {
std::string ids(const std::vector<PeerId>& peers) {
  std::string out;
  for (const PeerId& id : peers) out += (out.empty() ? "" : ", ") + short_hex(id);
  return out;
}

struct Describe {
  std::string operator()(const Founding& c) const {
    return fmt::format("found the mesh with peer {} ({})", c.name, short_hex(peer_id_of(c.founder)));
  }
  std::string operator()(const RotateRoot&) const { return "replace the root keys"; }
  std::string operator()(const AdmitPeer& c) const {
    auto request =
        decode<JoinRequest>(c.join.body, {.bytes = kMaxProposalBytes, .elements = 64, .depth = kMaxDepth});
    if (!request) return fmt::format("admit peer {}", c.name);
    auto certificate = read_certificate(request->certificate.body);
    if (!certificate) return fmt::format("admit peer {}", c.name);
    return fmt::format("admit peer {} ({}) as {}{}, uids {}, under {}", c.name,
                       short_hex(peer_id_of(request->key)), name_of(certificate->role),
                       certificate->rights.operate ? " and operator" : "", to_text(certificate->rights.uids),
                       under_text(certificate->rights));
  }
  std::string operator()(const RevokePeer& c) const { return "revoke peer " + short_hex(c.peer); }
  std::string operator()(const ForgetPeer& c) const { return "remove peer " + short_hex(c.peer); }
  std::string operator()(const SetPeerKey& c) const { return "new key of peer " + short_hex(c.peer); }
  std::string operator()(const RevokeInvite& c) const { return "revoke invite " + short_hex(c.invite); }
  std::string operator()(const RotateSecret& c) const {
    return fmt::format("replace the mesh secret, for {} peers", c.boxes.size());
  }
  std::string operator()(const AddUser& c) const {
    return fmt::format("add user {}, uid {}, gid {}{}", c.name, c.uid, c.gid,
                       c.home.empty() ? "" : ", home " + c.home);
  }
  std::string operator()(const SetUserKeys& c) const {
    return fmt::format("new keys of user {} ({})", c.name, c.keys.size());
  }
  std::string operator()(const ChangeUserGroups& c) const {
    std::string out = "groups of user " + c.name + ":";
    for (const auto& group : c.add) out += " +" + group;
    for (const auto& group : c.remove) out += " -" + group;
    return out;
  }
  std::string operator()(const RemoveUser& c) const { return "remove user " + c.name; }
  std::string operator()(const AddGroup& c) const {
    return fmt::format("add group {}, gid {}", c.name, c.gid);
  }
  std::string operator()(const RemoveGroup& c) const { return "remove group " + c.name; }
  std::string operator()(const SetGrant& c) const {
    return fmt::format("grant {} {} on {}", c.who, name_of(c.right), c.prefix);
  }
  std::string operator()(const RemoveGrant& c) const {
    return fmt::format("revoke the grant of {} on {}", c.who, c.prefix);
  }
  std::string operator()(const AddAdmin& c) const {
    return fmt::format("add administrator {} of {} ({})", c.name, c.under, short_hex(c.key));
  }
  std::string operator()(const RemoveAdmin& c) const { return "remove administrator " + c.name; }
  std::string operator()(const AddVolume& c) const {
    return fmt::format("create volume {} ({}, number {}) on {}", c.prefix, short_hex(c.id), c.number,
                       ids(c.founders));
  }
  std::string operator()(const RemoveVolume& c) const { return "remove volume " + short_hex(c.id); }
  std::string operator()(const SetVolumeOwners& c) const {
    return fmt::format("volume {} owned by {} from epoch {}", short_hex(c.id), ids(c.owners), c.epoch);
  }
};
}  // namespace

std::string_view name_of(Right right) {
  switch (right) {
    case Right::none:
      return "none";
    case Right::read_only:
      return "ro";
    case Right::read_write:
      return "rw";
    case Right::admin:
      return "admin";
  }
  return "unknown right";
}

Result<Right> parse_right(std::string_view text) {
  for (Right right : {Right::read_only, Right::read_write, Right::admin}) {
    if (text == name_of(right)) return right;
  }
  return fail(Code::invalid_argument,
              fmt::format("'{}' is no right: say ro, rw or admin", text.substr(0, 64)));
}

std::string describe(const Change& change) {
  return std::visit(Describe{}, change);
}

}  // namespace efs
