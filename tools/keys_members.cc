// efs-keys invite, peer, mesh, login, logout, whoami, audit: who belongs to the mesh, and what was done.
#include <ostream>

#include "peer/identity/prefix.h"
#include "peer/identity/time_text.h"
#include "tools/duration.h"
#include "tools/json_text.h"
#include "tools/keys_commands.h"
#include "tools/table.h"

namespace efs::tools {

namespace {

constexpr const char* kMembers = "Who belongs to the mesh";
constexpr const char* kWho = "Who am I, what was done";

struct MemberOptions {
  bool client = false, operate = false;
  std::string uids = "all", under = "/", lasts = "24h";
  uint32_t uses = 1;
  std::string peer, since, user;
};

Certificate certificate_for(const MemberOptions& options, const UidRange& uids, const std::string& under,
                            int64_t expires_ns) {
  Certificate result;
  result.role = options.client ? Role::client : Role::server;
  result.rights.operate = options.operate;
  if (!options.client) {
    result.rights.uids = uids;
    result.rights.under = {under};
  }
  result.expires_ns = expires_ns;
  result.uses = options.uses;
  return result;
}

// Signed here: addresses and the mesh secret come from the peer, the signature from the key.
Result<std::string> sign_invite(KeysContext& keys, Certificate certificate, const KeyPair& key) {
  EFS_ASSIGN(auto answer, keys.context.peer.command("invite.context"));
  auto mesh = id_from_hex(text_at(answer, "mesh"));
  auto secret_bytes = from_base64(text_at(answer, "secret"));
  if (!mesh || !secret_bytes)
    return fail(Code::protocol, "the peer's answer cannot be read; is it another version?");
  Secret secret = Secret::copy_of(*secret_bytes);
  wipe(*secret_bytes);
  std::vector<std::string> addresses;
  for (const auto& address : list_at(answer, "addresses")) {
    if (address.is_string()) addresses.push_back(address.get<std::string>());
  }
  EFS_ASSIGN(auto invite,
             make_invite(std::move(addresses), *mesh, secret, std::move(certificate), key, keys.random));
  return to_seed(invite);
}

Status invite(KeysContext& keys, const MemberOptions& options) {
  const std::string what = "cannot make an invite";
  auto seconds = parse_duration(options.lasts);
  if (!seconds)
    return fail(Code::invalid_argument, "'" + options.lasts + "' is no time; write 90s, 30m, 24h or 7d");
  auto uids = parse_uid_range(options.uids);
  if (!uids) return fail(Code::invalid_argument, what + ": " + to_text(uids.error()));
  auto under = to_prefix(options.under);
  if (!under) return fail_about(what, under.error());
  int64_t expires_ns = keys.context.clock.wall_ns() + *seconds * kSecond;
  Certificate certificate = certificate_for(options, *uids, *under, expires_ns);
  EFS_TRY_ABOUT(what, check_rights(certificate.role, certificate.rights));
  auto welcome = keys.context.peer.hello();
  if (!welcome) return fail_about(what, welcome.error());
  auto key = keys.signing_key(*welcome);
  if (!key) return fail_about(what, key.error());
  std::string seed;
  if (*key) {
    EFS_ASSIGN(const auto known, keys.read_register());
    if (!known.state.is_admin((*key)->public_key(), "/"))
      return fail(Code::unauthorized,
                  what + ": the key is " + known.state.who_is((*key)->public_key()) +
                      ", no administrator of the whole mesh: nobody would be let in by it; "
                      "'efs-keys admin ls' shows who is one");
    auto signed_seed = sign_invite(keys, std::move(certificate), **key);
    if (!signed_seed) return fail_about(what, signed_seed.error());
    seed = *signed_seed;
  } else {
    json arguments{{"client", options.client}, {"operator", options.operate},
                   {"uids", options.uids},     {"under", *under},
                   {"uses", options.uses},     {"for_seconds", uint64_t(*seconds)}};
    auto answer = keys.context.peer.command("invite", arguments);
    if (!answer) return fail_about(what, answer.error());
    seed = text_at(*answer, "seed");
    if (seed.empty()) return fail(Code::protocol, what + ": the peer answered without one");
  }
  keys.context.out << seed << "\n";
  keys.context.out.flush();
  if (!keys.context.quiet)
    keys.context.err << "ends " << utc_text(expires_ns) << ", " << options.uses
                     << (options.uses == 1 ? " use" : " uses") << "; it is a secret: efs-peer join SEED\n";
  return {};
}

std::string standing_text(Standing standing) {
  switch (standing) {
    case Standing::admitted:
      return "member";
    case Standing::forgotten:
      return "left";
    case Standing::revoked:
      return "revoked";
    default:
      return "unknown";
  }
}

Status list_peers(KeysContext& keys) {
  EFS_ASSIGN(auto known, keys.read_register());
  json all = json::array();
  Table table({"PEER", "ID", "ROLE", "STANDING", "OPERATOR", "UIDS", "UNDER"});
  for (const PeerFacts* peer : known.state.peers()) {
    std::string under;
    for (const auto& prefix : peer->rights.under) under += (under.empty() ? "" : ",") + prefix;
    all.push_back({{"name", peer->name},
                   {"id", to_hex(peer->id)},
                   {"role", name_of(peer->role)},
                   {"standing", standing_text(peer->standing)},
                   {"operator", peer->rights.operate},
                   {"uids", to_text(peer->rights.uids)},
                   {"under", peer->rights.under}});
    table.row({peer->name, short_hex(peer->id), std::string(name_of(peer->role)),
               standing_text(peer->standing), peer->rights.operate ? "yes" : "no", to_text(peer->rights.uids),
               under});
  }
  if (keys.context.json) {
    keys.context.out << to_json_text(all, 2) << "\n";
  } else {
    table.print(keys.context.out);
  }
  return {};
}

Status revoke_peer(KeysContext& keys, const MemberOptions& options) {
  std::string what = "cannot revoke the peer " + options.peer;
  EFS_ASSIGN(auto known, keys.read_register());
  auto peer = known.state.find_peer(options.peer);
  if (!peer) return fail_about(what, peer.error());
  // Its own decision, not one on where things live: scripts need no --yes.
  if (keys.context.terminal.input)
    EFS_TRY(keys.context.confirm("revoke the peer " + (*peer)->name + " (" + short_hex((*peer)->id) +
                                 ") for good: neither it nor its key can ever join again"));
  EFS_TRY(keys.change(known, RevokePeer{(*peer)->id}, what));
  keys.context.say("revoked " + (*peer)->name);
  return {};
}

Status whoami(KeysContext& keys) {
  EFS_ASSIGN(auto known, keys.read_register());
  const control::Welcome& welcome = known.welcome;
  json facts{{"mesh", welcome.mesh_name},
             {"peer", welcome.peer_name},
             {"peer_id", to_hex(welcome.peer)},
             {"uid", welcome.uid},
             {"may_change_this_peer", welcome.may_change}};
  if (const UserFacts* user = known.state.user_by_uid(welcome.uid)) {
    json groups = user->groups;
    facts.update({{"user", user->name}, {"groups", groups}, {"home", user->home}});
  } else {
    facts["user"] = nullptr;  // a uid of this machine that the mesh has no user for
  }
  const PeerFacts* self = known.state.peer(welcome.peer);
  bool peer_signs = welcome.may_change && self && known.state.is_admin(self->key, "/");
  facts["peer_signs_changes"] = peer_signs;
  keys.context.out << (keys.context.json ? to_json_text(facts, 2) + "\n" : fields_text(facts));
  return {};
}

// Whether an entry is by or about a user.
bool concerns(const RegisterState& state, const Entry& entry, const std::string& user) {
  if (state.who_is(entry.proposer) == "user " + user) return true;
  auto about_user = [&](const auto& change) {
    using Kind = std::decay_t<decltype(change)>;
    if constexpr (std::is_same_v<Kind, AddUser> || std::is_same_v<Kind, SetUserKeys> ||
                  std::is_same_v<Kind, ChangeUserGroups> || std::is_same_v<Kind, RemoveUser>) {
      return change.name == user;
    } else if constexpr (std::is_same_v<Kind, SetGrant> || std::is_same_v<Kind, RemoveGrant>) {
      return change.who == user;
    } else {
      return false;
    }
  };
  return std::visit(about_user, entry.proposal.change);
}

Status audit(KeysContext& keys, const MemberOptions& options) {
  int64_t since_ns = INT64_MIN;
  if (!options.since.empty()) {
    auto since = parse_time(options.since, keys.context.clock.wall_ns());
    if (!since)
      return fail(Code::invalid_argument,
                  "'" + options.since + "' is no time; write 2026-11-20, '2026-11-20 08:00' (UTC) or 7d");
    since_ns = *since;
  }
  EFS_ASSIGN(auto known, keys.read_register());
  json all = json::array();
  Table table({"ENTRY", "WHEN", "BY", "WHAT"}, {0});
  for (const auto& entry : known.entries) {
    if (entry.stamp_ns < since_ns) continue;
    if (!options.user.empty() && !concerns(known.state, entry, options.user)) continue;
    std::string by = known.state.who_is(entry.proposer), what = describe(entry.proposal.change);
    all.push_back({{"index", entry.index},
                   {"time_ns", entry.stamp_ns},
                   {"time", utc_text(entry.stamp_ns)},
                   {"by", by},
                   {"key", to_hex(entry.proposer)},
                   {"what", what},
                   {"hash", to_hex(entry.hash)}});
    table.row({std::to_string(entry.index), utc_text(entry.stamp_ns), by, what});
  }
  if (keys.context.json) {
    keys.context.out << to_json_text(all, 2) << "\n";
    return {};
  }
  table.print(keys.context.out);
  if (!keys.context.quiet)
    keys.context.err << "verified: " << known.entries.size() << " entries, signatures and chain\n";
  return {};
}

void add_later(CommandLine& line, CLI::App& parent, const std::string& name, const std::string& task,
               const std::string& what, const std::string& example, const std::string& instead) {
  auto rest = std::make_shared<std::vector<std::string>>();
  auto* command = line.add(parent, name, task, what + " (not built yet)", example);
  command->add_option("ARGUMENT", *rest, "")->expected(0, -1)->group("");
  command->add_option("--for", *rest, "")->group("");
  line.on(command, [rest, name, what, instead]() -> Status {
    return not_built(name + " (" + what + "): " + instead);
  });
}

}  // namespace

void add_member_commands(CommandLine& line, KeysContext& keys) {
  auto options = std::make_shared<MemberOptions>();
  auto* make = line.add(line.app(), "invite", kMembers, "make an invite; the SEED alone is printed on stdout",
                        "efs-keys invite --for 1h --uses 3");
  make->add_flag("--client", options->client, "for a client machine: it holds nothing");
  make->add_flag("--operator", options->operate, "may place and drop volumes on other peers");
  make->add_option("--uids", options->uids, "local uids that the server may speak for: A-B")
      ->capture_default_str();
  make->add_option("--under", options->under, "where it may make volumes on itself")->capture_default_str();
  make->add_option("--for", options->lasts, "how long it holds")->capture_default_str();
  make->add_option("--uses", options->uses, "how many may join with it")
      ->capture_default_str()
      ->check(CLI::Range(uint32_t(1), kMaxInviteUses));
  line.on(make, [&keys, options] { return invite(keys, *options); });

  auto* peer =
      line.add_group("peer", kMembers, "the mesh's peers, as the register has them", "efs-keys peer ls");
  auto* ls = line.add(*peer, "ls", "", "list all peers that ever were admitted", "efs-keys peer ls");
  line.takes_json(ls);
  line.on(ls, [&keys] { return list_peers(keys); });
  auto* revoke = line.add(*peer, "revoke", "", "put a peer out for good", "efs-keys peer revoke server3");
  revoke->add_option("PEER", options->peer, "a name, or the beginning of an id")->required();
  line.takes_yes(revoke);
  line.on(revoke, [&keys, options] { return revoke_peer(keys, *options); });

  auto* mesh = line.add_group("mesh", kMembers, "the mesh's own keys", "efs-keys mesh rotate-secret");
  add_later(line, *mesh, "rotate-root", "", "replace the root and recovery keys", "efs-keys mesh rotate-root",
            "keep both key files off line until then");
  add_later(line, *mesh, "rotate-secret", "", "replace the mesh secret", "efs-keys mesh rotate-secret",
            "a peer that may no longer belong is put out with 'efs-keys peer revoke'");

  auto* who = line.add(line.app(), "whoami", kWho, "who this mesh takes you for", "efs-keys whoami");
  line.takes_json(who);
  line.on(who, [&keys] { return whoami(keys); });
  auto* log = line.add(line.app(), "audit", kWho, "the register, verified: who changed what, when",
                       "efs-keys audit --since 7d --user alice");
  log->add_option("--since", options->since, "2026-11-20, '2026-11-20 08:00' (UTC), or 7d");
  log->add_option("--user", options->user, "by or about this user");
  line.takes_json(log);
  line.on(log, [&keys, options] { return audit(keys, *options); });
  const char* sessions = "until then you are your uid on this machine; 'efs-keys whoami' shows it";
  add_later(line, line.app(), "login", kWho, "a signed session for this peer and uid",
            "efs-keys login --for 12h", sessions);
  add_later(line, line.app(), "logout", kWho, "end that session", "efs-keys logout", sessions);
}

}  // namespace efs::tools
