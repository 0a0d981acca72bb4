// efs-keys user, group: who there is.
#include <ostream>

#include "peer/identity/prefix.h"
#include "tools/json_text.h"
#include "tools/keys_commands.h"
#include "tools/table.h"

namespace efs::tools {

namespace {

constexpr const char* kUsers = "Users and groups";

struct UserOptions {
  std::string name, home, key, out;
  uint32_t uid = 0, gid = 0;
  bool has_uid = false;
  std::vector<std::string> groups;
  std::vector<std::string> changes;
};

// The public key of a user: of --key FILE, or of a new key file. `made` is that file, for people and so
// that a refused change can take it back.
struct UserKey {
  PublicKey key{};
  std::string made;
};

Result<UserKey> key_for(KeysContext& keys, const UserOptions& options) {
  if (!options.key.empty()) {
    EFS_ASSIGN(auto key, read_public_key(options.key));
    return UserKey{key, ""};
  }
  std::string path = options.out.empty() ? "./" + options.name + ".key" : options.out;
  EFS_ASSIGN(auto key, make_key_file(keys, path, KeyKind::user));
  return UserKey{key, path};
}

void say_key(KeysContext& keys, const UserKey& key, const std::string& name) {
  if (!key.made.empty())
    keys.context.say("key: " + key.made + " (give it to " + name + "; nobody else has it)");
}

Status add_user(KeysContext& keys, const UserOptions& options) {
  std::string what = "cannot add the user " + options.name;
  EFS_TRY_ABOUT(what, check_user_name(options.name, "user"));
  std::string home = options.home;
  if (!home.empty()) {
    auto prefix = to_prefix(home);
    if (!prefix) return fail_about(what, prefix.error());
    home = *prefix;
  }
  EFS_ASSIGN(auto known, keys.read_register());
  if (known.state.user(options.name)) return fail(Code::exists, what + ": there is one already");
  EFS_TRY_ABOUT(what, keys.signing_key(known.welcome));
  auto key = key_for(keys, options);
  if (!key) return fail_about(what, key.error());
  AddUser change;
  change.name = options.name;
  change.uid = options.has_uid ? options.uid : known.state.free_uid();
  change.gid = change.uid;
  change.keys = {key->key};
  change.groups = options.groups;
  change.home = home;
  if (Status done = keys.change(known, change, what); !done) {
    if (!key->made.empty()) take_back_key_file(keys, key->made, done.error());
    return done;
  }
  if (keys.context.json) {
    keys.context.out
        << to_json_text(
               {{"name", change.name}, {"uid", change.uid}, {"gid", change.gid}, {"key_file", key->made}}, 2)
        << "\n";
    return {};
  }
  keys.context.say("added user " + options.name + ", uid " + std::to_string(change.uid));
  say_key(keys, *key, options.name);
  return {};
}

Status rotate_user(KeysContext& keys, const UserOptions& options) {
  std::string what = "cannot rotate the key of " + options.name;
  EFS_ASSIGN(auto known, keys.read_register());
  if (!known.state.user(options.name)) return fail(Code::not_found, what + ": there is no such user");
  EFS_TRY_ABOUT(what, keys.signing_key(known.welcome));
  auto key = key_for(keys, options);
  if (!key && key.error().code == Code::exists && options.out.empty())
    return fail(Code::exists,
                what + ": ./" + options.name + ".key is there; name another file with --out FILE");
  if (!key) return fail_about(what, key.error());
  SetUserKeys change{options.name, {key->key}};
  if (Status done = keys.change(known, change, what); !done) {
    if (!key->made.empty()) take_back_key_file(keys, key->made, done.error());
    return done;
  }
  keys.context.say("the old key of " + options.name + " is worth nothing any more");
  say_key(keys, *key, options.name);
  return {};
}

json to_json(const UserFacts& user) {
  json groups = user.groups, key_list = json::array();
  for (const auto& key : user.keys) key_list.push_back(to_hex(key));
  return {{"name", user.name}, {"uid", user.uid},   {"gid", user.gid},
          {"groups", groups},  {"home", user.home}, {"keys", key_list}};
}

std::string joined_names(const std::set<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

Status list_users(KeysContext& keys) {
  EFS_ASSIGN(auto known, keys.read_register());
  json all = json::array();
  Table table({"USER", "UID", "GID", "GROUPS", "HOME"}, {1, 2});
  for (const auto& [name, user] : known.state.users()) {
    all.push_back(to_json(user));
    table.row(
        {name, std::to_string(user.uid), std::to_string(user.gid), joined_names(user.groups), user.home});
  }
  if (keys.context.json) {
    keys.context.out << to_json_text(all, 2) << "\n";
  } else {
    table.print(keys.context.out);
  }
  return {};
}

Status show_user(KeysContext& keys, const UserOptions& options) {
  EFS_ASSIGN(auto known, keys.read_register());
  const UserFacts* user = known.state.user(options.name);
  if (!user)
    return fail(Code::not_found, "there is no user " + options.name + "; 'efs-keys user ls' lists them");
  json facts = to_json(*user);
  json grants = json::array();
  for (const auto& grant : known.state.grants()) {
    bool applies = grant.who == user->name || grant.who == "*" ||
                   (grant.who.starts_with("@") && user->groups.contains(grant.who.substr(1)));
    if (applies)
      grants.push_back(std::string(name_of(grant.right)) + " " + grant.prefix + " (" + grant.who + ")");
  }
  facts["grants"] = grants;
  keys.context.out << (keys.context.json ? to_json_text(facts, 2) + "\n" : fields_text(facts));
  return {};
}

Status remove_user(KeysContext& keys, const UserOptions& options) {
  EFS_ASSIGN(auto known, keys.read_register());
  EFS_TRY(keys.change(known, RemoveUser{options.name}, "cannot remove the user " + options.name));
  keys.context.say("removed user " + options.name + "; the uid is never given again");
  return {};
}

Status change_groups(KeysContext& keys, const UserOptions& options) {
  ChangeUserGroups change;
  change.name = options.name;
  for (const auto& text : options.changes) {
    std::string group = text.substr(1);
    bool add = text.starts_with("+"), remove = text.starts_with("-") || text.starts_with("~");
    if ((!add && !remove) || group.empty())
      return fail(Code::invalid_argument, "'" + text + "' is no change; write +GROUP or -GROUP");
    (add ? change.add : change.remove).push_back(group);
  }
  EFS_ASSIGN(auto known, keys.read_register());
  EFS_TRY(keys.change(known, change, "cannot change the groups of " + options.name));
  keys.context.say("changed the groups of " + options.name);
  return {};
}

// ---- groups ----

json to_json(const GroupFacts& group) {
  json members = group.members;
  return {{"name", group.name}, {"gid", group.gid}, {"members", members}};
}

Status add_group(KeysContext& keys, const UserOptions& options) {
  EFS_ASSIGN(auto known, keys.read_register());
  AddGroup change{options.name, options.has_uid ? options.gid : known.state.free_gid()};
  EFS_TRY(keys.change(known, change, "cannot add the group " + options.name));
  keys.context.say("added group " + options.name + ", gid " + std::to_string(change.gid));
  return {};
}

Status list_groups(KeysContext& keys) {
  EFS_ASSIGN(auto known, keys.read_register());
  json all = json::array();
  Table table({"GROUP", "GID", "MEMBERS"}, {1});
  for (const auto& [name, group] : known.state.groups()) {
    all.push_back(to_json(group));
    table.row({name, std::to_string(group.gid), joined_names(group.members)});
  }
  if (keys.context.json) {
    keys.context.out << to_json_text(all, 2) << "\n";
  } else {
    table.print(keys.context.out);
  }
  return {};
}

Status show_group(KeysContext& keys, const UserOptions& options) {
  EFS_ASSIGN(auto known, keys.read_register());
  const GroupFacts* group = known.state.group(options.name);
  if (!group)
    return fail(Code::not_found, "there is no group " + options.name + "; 'efs-keys group ls' lists them");
  json facts = to_json(*group);
  keys.context.out << (keys.context.json ? to_json_text(facts, 2) + "\n" : fields_text(facts));
  return {};
}

Status remove_group(KeysContext& keys, const UserOptions& options) {
  EFS_ASSIGN(auto known, keys.read_register());
  EFS_TRY(keys.change(known, RemoveGroup{options.name}, "cannot remove the group " + options.name));
  keys.context.say("removed group " + options.name);
  return {};
}

void add_user_changes(CommandLine& line, KeysContext& keys, CLI::App* group,
                      std::shared_ptr<UserOptions> options) {
  auto* add = line.add(*group, "add", "", "add a user: makes a key file, or takes a public key",
                       "efs-keys user add alice --groups staff --home /home/alice");
  add->add_option("NAME", options->name)->required();
  auto* uid = add->add_option("--uid", options->uid, "default: the next free one, from 10000 on");
  add->add_option("--groups", options->groups, "existing groups: A,B")
      ->allow_extra_args(false)
      ->delimiter(',');
  add->add_option("--home", options->home, "the prefix where this user is at home");
  add->add_option("--key", options->key, "this user's public key (to sign with a key: --key before 'user')");
  add->add_option("--out", options->out, "where to write the new key (default: ./NAME.key)");
  line.takes_json(add);
  line.on(add, [&keys, options, uid] {
    options->has_uid = uid->count() > 0;
    return add_user(keys, *options);
  });
  auto* rotate = line.add(*group, "rotate", "", "give a user a new key; the old one ends",
                          "efs-keys user rotate alice --out alice-2.key");
  rotate->add_option("NAME", options->name)->required();
  rotate->add_option("--key", options->key, "the new public key (to sign with a key: --key before 'user')");
  rotate->add_option("--out", options->out, "where to write the new key (default: ./NAME.key)");
  line.on(rotate, [&keys, options] { return rotate_user(keys, *options); });
  auto* remove = line.add(*group, "rm", "", "remove a user", "efs-keys user rm alice");
  remove->add_option("NAME", options->name)->required();
  line.on(remove, [&keys, options] { return remove_user(keys, *options); });
  auto* groups = line.add(*group, "groups", "", "put a user into groups and take out of others",
                          "efs-keys user groups alice +staff -guests");
  groups->add_option("NAME", options->name)->required();
  groups->add_option("CHANGE", options->changes, "+GROUP or -GROUP")->required()->type_name("+GROUP|-GROUP");
  line.on(groups, [&keys, options] { return change_groups(keys, *options); });
}

}  // namespace

void add_user_commands(CommandLine& line, KeysContext& keys) {
  auto options = std::make_shared<UserOptions>();
  auto* user = line.add_group("user", kUsers, "the mesh's users", "efs-keys user ls");
  add_user_changes(line, keys, user, options);
  auto* ls = line.add(*user, "ls", "", "list the users", "efs-keys user ls");
  line.takes_json(ls);
  line.on(ls, [&keys] { return list_users(keys); });
  auto* show = line.add(*user, "show", "", "a user with keys and grants", "efs-keys user show alice");
  show->add_option("NAME", options->name)->required();
  line.takes_json(show);
  line.on(show, [&keys, options] { return show_user(keys, *options); });

  auto* group = line.add_group("group", kUsers, "the mesh's groups", "efs-keys group ls");
  auto* add = line.add(*group, "add", "", "add a group", "efs-keys group add staff");
  add->add_option("NAME", options->name)->required();
  auto* gid = add->add_option("--gid", options->gid, "default: the next free one");
  line.on(add, [&keys, options, gid] {
    options->has_uid = gid->count() > 0;
    return add_group(keys, *options);
  });
  auto* group_ls = line.add(*group, "ls", "", "list the groups", "efs-keys group ls");
  line.takes_json(group_ls);
  line.on(group_ls, [&keys] { return list_groups(keys); });
  auto* group_show = line.add(*group, "show", "", "a group and its members", "efs-keys group show staff");
  group_show->add_option("NAME", options->name)->required();
  line.takes_json(group_show);
  line.on(group_show, [&keys, options] { return show_group(keys, *options); });
  auto* remove = line.add(*group, "rm", "", "remove a group", "efs-keys group rm staff");
  remove->add_option("NAME", options->name)->required();
  line.on(remove, [&keys, options] { return remove_group(keys, *options); });
}

}  // namespace efs::tools
