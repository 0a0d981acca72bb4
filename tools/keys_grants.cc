// efs-keys grant, revoke, grants, admin: who may do what.
#include <ostream>

#include "peer/identity/prefix.h"
#include "tools/json_text.h"
#include "tools/keys_commands.h"
#include "tools/table.h"

namespace efs::tools {

namespace {

constexpr const char* kRights = "Rights";

struct GrantOptions {
  std::string who, right, prefix = "/", name, under = "/", key, out;
};

Status grant(KeysContext& keys, const GrantOptions& options) {
  auto prefix = to_prefix(options.prefix);
  std::string what = "cannot grant " + options.right + " on " + options.prefix + " to " + options.who;
  if (!prefix) return fail_about(what, prefix.error());
  auto right = parse_right(options.right);
  if (!right) return fail_about(what, right.error());
  EFS_ASSIGN(auto known, keys.read_register());
  EFS_TRY(keys.change(known, SetGrant{options.who, *right, *prefix}, what));
  keys.context.say("granted " + options.right + " on " + *prefix + " to " + options.who +
                   " (recorded; owners enforce mode bits and uids for now)");
  return {};
}

Status revoke(KeysContext& keys, const GrantOptions& options) {
  auto prefix = to_prefix(options.prefix);
  std::string what = "cannot revoke the grant on " + options.prefix + " of " + options.who;
  if (!prefix) return fail_about(what, prefix.error());
  EFS_ASSIGN(auto known, keys.read_register());
  EFS_TRY(keys.change(known, RemoveGrant{options.who, *prefix}, what));
  keys.context.say("revoked what " + options.who + " had on " + *prefix);
  return {};
}

Status list_grants(KeysContext& keys, const GrantOptions& options) {
  auto prefix = to_prefix(options.prefix);
  if (!prefix) return fail_about("cannot list the grants on " + options.prefix, prefix.error());
  EFS_ASSIGN(auto known, keys.read_register());
  json all = json::array();
  Table table({"PREFIX", "WHO", "RIGHT"});
  for (const auto& one : known.state.grants(*prefix)) {
    all.push_back({{"prefix", one.prefix}, {"who", one.who}, {"right", name_of(one.right)}});
    table.row({one.prefix, one.who, std::string(name_of(one.right))});
  }
  if (keys.context.json) {
    keys.context.out << to_json_text(all, 2) << "\n";
  } else {
    table.print(keys.context.out);
  }
  return {};
}

Status add_admin(KeysContext& keys, const GrantOptions& options) {
  std::string what = "cannot add the administrator " + options.name;
  EFS_TRY_ABOUT(what, check_peer_name(options.name, "administrator"));
  auto under = to_prefix(options.under);
  if (!under) return fail_about(what, under.error());
  EFS_ASSIGN(auto known, keys.read_register());
  if (known.state.admins().contains(options.name)) return fail(Code::exists, what + ": there is one already");
  EFS_TRY_ABOUT(what, keys.signing_key(known.welcome));
  std::string made = options.out.empty() ? "./" + options.name + ".key" : options.out;
  auto key =
      options.key.empty() ? make_key_file(keys, made, KeyKind::administrator) : read_public_key(options.key);
  if (!key) return fail_about(what, key.error());
  if (Status done = keys.change(known, AddAdmin{options.name, *key, *under}, what); !done) {
    if (options.key.empty()) take_back_key_file(keys, made, done.error());
    return done;
  }
  keys.context.say("added administrator " + options.name + " of " + *under);
  if (options.key.empty())
    keys.context.say("key: " + made + " (keep it as " +
                     (keys.options.admin_key.empty() ? "~/.config/efs/admin.key" : keys.options.admin_key) +
                     ", or name it with --key)");
  return {};
}

Status list_admins(KeysContext& keys) {
  EFS_ASSIGN(auto known, keys.read_register());
  json all = json::array();
  Table table({"ADMINISTRATOR", "UNDER", "KEY"});
  for (const auto& [name, admin] : known.state.admins()) {
    all.push_back({{"name", name}, {"under", admin.under}, {"key", to_hex(admin.key)}});
    table.row({name, admin.under, short_hex(admin.key)});
  }
  if (keys.context.json) {
    keys.context.out << to_json_text(all, 2) << "\n";
  } else {
    table.print(keys.context.out);
  }
  return {};
}

Status remove_admin(KeysContext& keys, const GrantOptions& options) {
  EFS_ASSIGN(auto known, keys.read_register());
  EFS_TRY(keys.change(known, RemoveAdmin{options.name}, "cannot remove the administrator " + options.name));
  keys.context.say("removed administrator " + options.name);
  return {};
}

void add_admins(CommandLine& line, KeysContext& keys, std::shared_ptr<GrantOptions> options) {
  auto* group = line.add_group("admin", kRights, "the mesh's administrators", "efs-keys admin ls");
  auto* add = line.add(*group, "add", "", "add an administrator: makes a key file, or takes a public key",
                       "efs-keys admin add bob --under /projects");
  add->add_option("NAME", options->name)->required();
  add->add_option("--under", options->under, "administrator of this prefix only")->capture_default_str();
  add->add_option("--key", options->key, "the public key (to sign with a key: --key before 'admin')");
  add->add_option("--out", options->out, "where to write the new key (default: ./NAME.key)");
  line.on(add, [&keys, options] { return add_admin(keys, *options); });
  auto* ls = line.add(*group, "ls", "", "list the administrators", "efs-keys admin ls");
  line.takes_json(ls);
  line.on(ls, [&keys] { return list_admins(keys); });
  auto* remove = line.add(*group, "rm", "", "take an administrator's right away; a peer's by the peer's name",
                          "efs-keys admin rm bob");
  remove->add_option("NAME", options->name)->required();
  line.on(remove, [&keys, options] { return remove_admin(keys, *options); });
}

}  // namespace

void add_grant_commands(CommandLine& line, KeysContext& keys) {
  auto options = std::make_shared<GrantOptions>();
  auto* give = line.add(line.app(), "grant", kRights, "let somebody read, write or administer below a prefix",
                        "efs-keys grant @staff rw /projects");
  give->add_option("WHO", options->who, "a user, @group, or * for anyone")->required();
  give->add_option("RIGHT", options->right, "ro, rw or admin")
      ->required()
      ->check(CLI::IsMember({"ro", "rw", "admin"}));
  give->add_option("PREFIX", options->prefix)->required();
  line.on(give, [&keys, options] { return grant(keys, *options); });
  auto* take =
      line.add(line.app(), "revoke", kRights, "take a grant back", "efs-keys revoke @staff /projects");
  take->add_option("WHO", options->who, "a user, @group, or *")->required();
  take->add_option("PREFIX", options->prefix)->required();
  line.on(take, [&keys, options] { return revoke(keys, *options); });
  auto* list = line.add(line.app(), "grants", kRights, "list the grants at and below a prefix",
                        "efs-keys grants /projects");
  list->add_option("PREFIX", options->prefix)->capture_default_str();
  line.takes_json(list);
  line.on(list, [&keys, options] { return list_grants(keys, *options); });
  add_admins(line, keys, options);
}

}  // namespace efs::tools
