#include "tools/keys_commands.h"

namespace efs::tools {

namespace {

constexpr const char* kWhat =
    "efs-keys: users, groups, rights and invites of a mesh\n\nChanges are signed with the key that --key "
    "names, "
    "else with ~/.config/efs/admin.key,\nelse (for root) by the peer of this machine, if it is an "
    "administrator.";

// `user groups NAME -B`: not an option. Marked so that CLI11 leaves it alone; read by user groups.
std::vector<std::string> as_cli11_takes_it(std::vector<std::string> arguments) {
  bool user = false, groups = false;
  for (auto& argument : arguments) {
    if (groups && argument.size() > 1 && argument[0] == '-' && argument[1] != '-' && argument != "-h" &&
        argument != "-q")
      argument = "~" + argument.substr(1);
    groups = groups || (user && argument == "groups");
    user = user || argument == "user";
  }
  return arguments;
}

}  // namespace

int run_efs_keys(Context& context, KeysOptions& options, Random& random, std::vector<std::string> arguments) {
  CommandLine line(context, kWhat);
  KeysContext keys(context, options, random);
  add_common_options(line, options);
  line.app().add_option("--key", options.key, "the key file to sign with")->type_name("FILE");
  line.app()
      .add_option("--passphrase-file", options.passphrase_file,
                  "its first line is the passphrase of key files")
      ->type_name("FILE");
  line.app().footer(
      "\nExample:\n  efs-keys invite --for 1h\n  efs-keys user add alice --groups staff\n\nEvery command has "
      "its own: "
      "efs-keys user add --help");
  add_member_commands(line, keys);
  add_user_commands(line, keys);
  add_grant_commands(line, keys);
  return line.run(as_cli11_takes_it(std::move(arguments)));
}

}  // namespace efs::tools
