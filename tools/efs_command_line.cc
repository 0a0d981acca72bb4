#include "tools/efs_commands.h"

namespace efs::tools {

namespace {

constexpr const char* kWhat =
    "efs: one file tree over a group of servers\n\nTalks to the peer of this machine. Paths are those of the "
    "tree; no mount is needed.\nWithout a command, on a terminal: a shell with the same commands.";

// What people know from find(1) and chmod(1), and CLI11 would take for short options.
std::vector<std::string> as_cli11_takes_it(std::vector<std::string> arguments) {
  bool find = false, chmod = false, command = false;
  for (auto& argument : arguments) {
    if (argument == "--") break;
    if (!command && !argument.starts_with("-")) {
      find = argument == "find";
      chmod = argument == "chmod";
      command = find || chmod;
    }
    if (find && (argument == "-name" || argument == "-type" || argument == "-iname"))
      argument = "-" + argument;
    bool mode = chmod && argument.size() > 1 && argument[0] == '-' &&
                argument.find_first_not_of("rwxXst", 1) == std::string::npos;
    if (mode) argument = "a" + argument;
  }
  return arguments;
}

}  // namespace

int run_efs(Context& context, EfsOptions& options, std::vector<std::string> arguments) {
  CommandLine line(context, kWhat);
  add_common_options(line, options);
  line.app()
      .add_option("--peer", options.remote, "another machine's peer, with a user's key (not built yet)")
      ->type_name("HOST:PORT");
  line.app().add_option("--key", options.key, "the key file to sign with (not built yet)")->type_name("FILE");
  line.before([&options]() -> Status {
    if (options.remote.empty() && options.key.empty()) return {};
    return not_built(
        "--peer and --key (another machine's peer, with a user's or administrator's key); run efs "
        "on a server, where it talks to that server's own peer");
  });
  line.app().footer(
      "\nExample:\n  efs status\n  efs put photos /volume01/photos\n\nEvery command has its own: "
      "efs ls --help");
  add_mesh_commands(line);
  add_listing_commands(line);
  add_transfer_commands(line);
  add_file_commands(line);
  return line.run(as_cli11_takes_it(std::move(arguments)));
}

std::vector<std::string> efs_command_names() {
  return {"cat",    "chmod", "chown", "cp",   "du",     "find",   "get",  "ln",
          "ls",     "mkdir", "mount", "mv",   "peer",   "put",    "rm",   "stat",
          "status", "store", "touch", "tree", "umount", "volume", "where"};
}

}  // namespace efs::tools
