// efs-peer: the server. Reads its command line, builds a peer from it, runs the loop.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "peer/check.h"
#include "peer/console.h"
#include "peer/control/exit_code.h"
#include "peer/control/socket_path.h"
#include "peer/founding.h"
#include "peer/peer.h"
#include "peer/service_unit.h"

namespace efs {
namespace {

struct Arguments {
  std::string data, config, name, mount, socket, log_level, mesh_name = "mesh", keys, seed, invite_file;
  std::string pid_file, log_file;
  std::vector<std::string> stores, listen, advertise, own;
  bool detach = false, service = false, read_only = false, repair = false, delete_data = false, yes = false;
  uint32_t unreachable_timeout = 60;
  bool unreachable_given = false;
};

int report(Console& console, std::string_view what, const Error& error) {
  console.error(fmt::format("efs-peer: {}{}{}", what, what.empty() ? "" : ": ", to_text(error)));
  return exit_code_of(error.code);
}

template <typename Into, typename Parse>
Status parse_all(const std::vector<std::string>& texts, std::vector<Into>& out, Parse parse) {
  if (texts.empty()) return {};
  out.clear();
  for (const auto& text : texts) {
    EFS_ASSIGN(auto one, parse(text));
    out.push_back(std::move(one));
  }
  return {};
}

// The command line over --config over DATA/efs.yaml.
Result<PeerOptions> gather_options(const Arguments& arguments, const std::string& kept) {
  PeerOptions options;
  EFS_TRY(read_options(kept, arguments.data + "/efs.yaml", options));
  if (!arguments.config.empty()) {
    auto content = real_files().read_file(arguments.config, 1 << 20);
    if (!content) return fail(content.error().code, "--config: " + to_text(content.error()));
    EFS_TRY(read_options(std::string(text(*content)), arguments.config, options));
  }
  auto address = [](const std::string& text) { return Address::parse(text, kDefaultPort); };
  EFS_TRY(parse_all(arguments.stores, options.stores, parse_store));
  EFS_TRY(parse_all(arguments.listen, options.listen, address));
  EFS_TRY(parse_all(arguments.advertise, options.advertise, address));
  options.data = arguments.data;
  if (!arguments.name.empty()) options.name = arguments.name;
  if (!arguments.mount.empty()) options.mount = arguments.mount;
  if (arguments.read_only) options.mount_read_only = true;
  if (!arguments.socket.empty()) options.socket = arguments.socket;
  if (arguments.unreachable_given) options.unreachable_timeout_s = arguments.unreachable_timeout;
  if (!arguments.log_level.empty()) {
    auto level = parse_log_level(arguments.log_level);
    if (!level)
      return fail(Code::invalid_argument, "--log-level: one of trace, debug, info, warning, error is wanted");
    options.log_level = *level;
  }
  EFS_TRY(complete_options(options));
  return options;
}

Result<std::string> read_invite(const Arguments& arguments) {
  std::string invite;
  if (arguments.invite_file == "-") {
    std::getline(std::cin, invite);
  } else {
    auto content = real_files().read_file(arguments.invite_file, 64 << 10);
    if (!content) return fail(content.error().code, "--invite: " + to_text(content.error()));
    invite = std::string(text(*content));
  }
  return invite;
}

// Serves until a signal or `leave`; `ready` is told once it does.
int serve(Console& console, DataDirectory& data, const PeerOptions& options, const Arguments& arguments) {
  RealRuntime runtime({options.log_level, 4});
  int status = 0;
  {
    Peer peer(runtime.runtime(), data, options, real_peer_parts(data.path()));
    bool stopping = false;
    auto stop = [&] {
      if (std::exchange(stopping, true)) return;
      peer.stop([&] { runtime.stop(); });
    };
    runtime.on_signal([&](int) { stop(); });
    peer.on_left(stop);
    runtime.runtime().loop.post([&] {
      peer.start([&](Status started) {
        if (!started) {
          status = report(console, "", started.error());
          return stop();
        }
        if (!options.mount.empty() && geteuid() != 0) {
          console.print(
              fmt::format("mounted at {} for this user alone: nobody else, root included, may look into it\n",
                          options.mount));
        }
        if (!arguments.pid_file.empty()) {
          (void)real_files().replace_file(arguments.pid_file, view(std::to_string(getpid()) + "\n"));
        }
        console.ready();
      });
    });
    runtime.run();
  }
  return status;
}

int after_establishing(Console& console, std::unique_ptr<DataDirectory> data, const PeerOptions& options,
                       const Arguments& arguments) {
  if (!arguments.service) return serve(console, *data, options, arguments);
  data.reset();  // the service takes the lock
  if (Status started = start_service(options); !started) return report(console, "--service", started.error());
  console.print(
      "the service efs-peer is enabled and serves; 'systemctl status efs-peer' and 'efs status' tell how it "
      "is\n");
  return 0;
}

int run_init(Console& console, const Arguments& arguments) {
  auto options = gather_options(arguments, "");
  if (!options) return report(console, "cannot found a mesh", options.error());
  auto data = DataDirectory::open(real_files(), options->data, true);
  if (!data) return report(console, "cannot found a mesh", data.error());
  FoundOptions found{arguments.mesh_name, arguments.keys};
  if (found.keys_directory.empty()) found.keys_directory = fmt::format("./{}-keys", found.mesh_name);
  auto founded = found_mesh(real_files(), real_random(), real_clock(), **data, *options, found);
  if (!founded) return report(console, "cannot found a mesh", founded.error());
  console.print(fmt::format(
      "founded the mesh {}\n\nIts root and recovery keys are in {}. Take them off this machine now: who has "
      "one rules the mesh,\nand nothing that runs needs them.\n\nTo bring in another server, within "
      "the hour (10 uses):\n\n  efs-peer join {} --mount /efs\n\n",
      found.mesh_name, found.keys_directory, founded->seed));
  return after_establishing(console, std::move(*data), *options, arguments);
}

int run_join(Console& console, const Arguments& arguments) {
  auto data = DataDirectory::open(real_files(), arguments.data, true);
  if (!data) return report(console, "cannot join", data.error());
  std::string kept;
  if ((*data)->complete()) {
    auto read = (*data)->options();
    if (read) kept = std::move(*read);
  }
  auto options = gather_options(arguments, kept);
  if (!options) return report(console, "cannot join", options.error());
  auto seed = parse_seed(arguments.seed);
  if (!seed) return report(console, "cannot join " + arguments.seed, seed.error());
  if (!arguments.invite_file.empty()) {
    auto text = read_invite(arguments);
    if (!text) return report(console, "cannot join", text.error());
    auto invite = parse_invite(*text);
    if (!invite) return report(console, "cannot join " + seed->address, invite.error());
    seed->invite = std::move(*invite);
  }
  if ((*data)->complete()) {  // a member already: `join` is `run`, unless it is another mesh
    if (Status same = check_same_mesh(**data, *seed); !same)
      return report(console, "cannot join", same.error());
  } else {
    RealRuntime runtime({options->log_level, 4});
    auto joined = join_mesh(runtime, **data, *options, *seed, arguments.own);
    if (!joined) return report(console, "cannot join " + seed->address, joined.error());
    options->name = joined->name;
    console.print(fmt::format("joined the mesh {} as {}\n", joined->mesh_name, joined->name));
  }
  for (const auto& prefix : arguments.own) options->own.push_back(prefix);
  return after_establishing(console, std::move(*data), *options, arguments);
}

int run_run(Console& console, const Arguments& arguments) {
  auto data = DataDirectory::open(real_files(), arguments.data, false);
  if (!data) return report(console, "", data.error());
  if (!(*data)->complete()) {
    return report(console, "",
                  {Code::not_found, fmt::format("{} was never completed: begin again with 'efs-peer init' or "
                                                "'efs-peer join SEED'",
                                                arguments.data)});
  }
  auto kept = (*data)->options();
  if (!kept) return report(console, "", kept.error());
  auto options = gather_options(arguments, *kept);
  if (!options) return report(console, "", options.error());
  return after_establishing(console, std::move(*data), *options, arguments);
}

int run_check(Console& console, const Arguments& arguments) {
  auto data = DataDirectory::open(real_files(), arguments.data, false);
  if (!data) return report(console, "cannot check", data.error());
  auto kept = (*data)->options();
  if (!kept) return report(console, "cannot check", kept.error());
  auto options = gather_options(arguments, *kept);
  if (!options) return report(console, "cannot check", options.error());
  auto problems = check_data(**data, *options, arguments.repair,
                             [&](const std::string& line) { console.print(line + "\n"); });
  if (!problems) return report(console, "cannot check", problems.error());
  return *problems == 0 ? 0 : 1;
}

void add_serving_options(CLI::App& command, Arguments& arguments) {
  command.add_option("--config", arguments.config, "a YAML file of settings (config/efs.yaml shows all)");
  command.add_option("--store", arguments.stores,
                     "DIR[:SIZE], a place for chunks (repeatable; default DATA/chunks)");
  command.add_option("--listen", arguments.listen, "ADDRESS:PORT (default [::]:7400, TCP)");
  command.add_option("--advertise", arguments.advertise, "HOST:PORT,...: how others reach this peer")
      ->delimiter(',');
  command.add_option("--mount", arguments.mount, "mount the tree at this directory");
  command.add_flag("--read-only", arguments.read_only, "mount it read-only");
  command.add_option("--socket", arguments.socket, "the socket for efs and efs-keys");
  command.add_option("--log-level", arguments.log_level,
                     "trace, debug, info, warning or error (default info)");
  auto* timeout =
      command.add_option("--unreachable-timeout", arguments.unreachable_timeout,
                         "seconds to wait for an owner that cannot be reached (default 60; 0: for ever)");
  timeout->each([&arguments](const std::string&) { arguments.unreachable_given = true; });
  command.add_flag("--detach", arguments.detach, "return once it serves and is mounted");
  command.add_flag("--service", arguments.service, "set up, enable and start the systemd unit");
  command.add_option("--pid-file", arguments.pid_file, "write the process id there");
  command.add_option("--log-file", arguments.log_file,
                     "with --detach: log there (default DATA/efs-peer.log)");
}

int run(int count, char** values) {
  CLI::App app("efs-peer: the server of efs, one file tree over a group of servers");
  app.set_version_flag("--version", "efs-peer " EFS_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  Arguments arguments;
  arguments.data = default_data_directory(Surroundings::of_this_process());
  app.add_option("--data", arguments.data, "the data directory (default " + arguments.data + ")");

  auto* init = app.add_subcommand("init", "found a mesh here: its first peer, and the volume '/'");
  init->add_option("--name", arguments.mesh_name, "the mesh's name (default mesh)");
  init->add_option("--peer-name", arguments.name, "this peer's name (default the host's)");
  init->add_option("--keys", arguments.keys,
                   "where to write the root and recovery keys (default ./MESH-keys)");
  add_serving_options(*init, arguments);
  init->footer("example: efs-peer init --name acme --mount /efs");

  auto* join = app.add_subcommand("join", "join a mesh by an invite; on a member it is 'run'");
  join->add_option("seed", arguments.seed, "efs://HOST:PORT/INVITE, or HOST:PORT with --invite")->required();
  join->add_option("--invite", arguments.invite_file, "a file with the invite; - is standard input");
  join->add_option("--name", arguments.name, "this peer's name (default the host's)");
  join->add_option("--own", arguments.own, "make this peer the owner of a new volume at PREFIX (repeatable)");
  add_serving_options(*join, arguments);
  join->footer("example: efs-peer join efs://first:7400/INVITE --mount /efs");

  auto* again = app.add_subcommand("run", "serve again from a data directory (what systemd starts)");
  add_serving_options(*again, arguments);
  again->footer("example: efs-peer run");

  auto* check = app.add_subcommand("check", "offline: verify a data directory");
  check->add_flag("--repair", arguments.repair, "mend what can be mended");
  check->footer("example: efs-peer check --repair");

  auto* leave = app.add_subcommand(
      "leave", "be forgotten by the mesh and stop; refused while something is held here alone");
  leave->add_flag("--delete-data", arguments.delete_data, "delete the data directory afterwards");
  leave->add_option("--socket", arguments.socket, "the socket of the peer");
  leave->footer("example: efs-peer leave");

  try {
    app.parse(count, values);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  Console console;
  if (!arguments.data.starts_with('/')) {
    char here[4096];
    if (getcwd(here, sizeof here) != nullptr) arguments.data = std::string(here) + "/" + arguments.data;
  }
  while (arguments.data.size() > 1 && arguments.data.ends_with('/')) arguments.data.pop_back();
  if (leave->parsed()) {
    if (Status left = leave_mesh(arguments.data, arguments.socket, arguments.delete_data); !left) {
      return report(console, "cannot leave", left.error());
    }
    console.print("left the mesh\n");
    return 0;
  }
  if (check->parsed()) return run_check(console, arguments);
  if (arguments.detach && !arguments.service) {
    const std::string log =
        arguments.log_file.empty() ? arguments.data + "/efs-peer.log" : arguments.log_file;
    if (auto code = console.detach(arguments.data, log)) return *code;
  }
  const int code = init->parsed()   ? run_init(console, arguments)
                   : join->parsed() ? run_join(console, arguments)
                                    : run_run(console, arguments);
  console.finish(code);
  return code;
}

}  // namespace
}  // namespace efs

int main(int count, char** values) {
  std::signal(SIGPIPE, SIG_IGN);
  umask(022);
  return efs::run(count, values);
}
