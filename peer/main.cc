// efs-peer: the server. Reads its command line, builds a peer from it, runs the loop.
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "peer/check.h"
#include "peer/console.h"
#include "peer/control/exit_code.h"
#include "peer/control/passphrase.h"
#include "peer/control/socket_path.h"
#include "peer/founding.h"
#include "peer/memory.h"
#include "peer/peer.h"
#include "peer/service_unit.h"
#include "vfs/mount_point.h"

namespace efs {
namespace {

struct Arguments {
  std::string data, config, name, mount, socket, log_level, mesh_name = "mesh", keys, seed, invite_file;
  std::string pid_file, log_file, passphrase_file;
  std::vector<std::string> stores, listen, advertise, own;
  bool detach = false, service = false, read_only = false, repair = false, delete_data = false;
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

std::string absolute(const std::string& path) {
  char here[4096];
  if (path.empty() || path.starts_with('/') || getcwd(here, sizeof here) == nullptr) return path;
  return std::string(here) + "/" + path;
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
  if (!arguments.mount.empty()) options.mount = absolute(arguments.mount);
  if (arguments.read_only) options.mount_read_only = true;
  if (!arguments.socket.empty()) options.socket = absolute(arguments.socket);
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

// Made, if it is not there; in either case for this user alone.
Result<std::unique_ptr<DataDirectory>> make_data(const std::string& path) {
  EFS_ASSIGN(auto data, DataDirectory::open(real_files(), path, true));
  if (::chmod(path.c_str(), 0700) != 0) return fail(from_errno(errno, "chmod 0700 " + path));
  return data;
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

// A stop that hangs (a disk, a mount point of somebody else's) ends as a kill would: nothing answered is
// lost, the next start replays the log.
constexpr itimerval kStopWithin{{0, 0}, {4, 700'000}};
volatile std::sig_atomic_t stop_status = 0;
void give_up_stopping(int) {
  constexpr std::string_view kWhy = "efs-peer: stopping took too long and was cut short; nothing is lost\n";
  [[maybe_unused]] const ssize_t told = write(2, kWhy.data(), kWhy.size());
  _exit(stop_status);
}

// Serves until a signal or `leave`; `ready` is told once it does.
int serve(Console& console, DataDirectory& data, const PeerOptions& options, const Arguments& arguments) {
  RealRuntime runtime({options.log_level, 4, options.awake_us * kMicrosecond});
  int status = 0;
  std::string left;
  {
    Peer peer(runtime.runtime(), data, options, real_peer_parts(data.path()));
    bool stopping = false;
    bool serving = false;
    auto stop = [&] {
      if (std::exchange(stopping, true)) return;
      stop_status = status;
      std::signal(SIGALRM, give_up_stopping);
      setitimer(ITIMER_REAL, &kStopWithin, nullptr);
      peer.stop([&] { runtime.stop(); });
    };
    runtime.on_signal([&](int) { stop(); });
    peer.on_left([&](const std::string& why) {
      left = why;
      stop();
    });
    runtime.runtime().loop.post([&] {
      peer.start([&](Status started) {
        if (stopping) return;  // what it could not do any more then is no failure
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
          Status written =
              real_files().replace_file(arguments.pid_file, view(std::to_string(getpid()) + "\n"));
          if (!written) (void)report(console, "--pid-file", written.error());
        }
        serving = true;
        console.ready();
      });
    });
    MemoryUpkeep memory(runtime.runtime().loop);
    runtime.run();
    if (!serving && status == 0 && left.empty()) console.error("efs-peer: it was stopped before it served");
  }
  if (!left.empty()) {
    if (Status marked = data.mark_left(left); !marked) return report(console, "", marked.error());
  }
  return status;
}

int after_establishing(Console& console, std::unique_ptr<DataDirectory> data, const PeerOptions& options,
                       const Arguments& arguments) {
  if (!arguments.service) return serve(console, *data, options, arguments);
  PeerOptions to_keep = options;  // the unit says none of them
  to_keep.own.clear();            // made below, so that what is wrong with them is told here
  if (Status kept = data->write_options(write_options(to_keep)); !kept)
    return report(console, "--service", kept.error());
  data.reset();  // the service takes the lock
  if (Status started = start_service(options); !started) return report(console, "--service", started.error());
  const std::string socket =
      options.socket.empty() ? socket_path(options.data, Surroundings::of_this_process()) : options.socket;
  if (Status owned = own_volumes(socket, options.own); !owned) return report(console, "", owned.error());
  console.print(
      "the service efs-peer is enabled and serves; 'systemctl status efs-peer' and 'efs status' tell how it "
      "is\n");
  return 0;
}

// Before the program goes to the background: there is no terminal then.
Result<Secret> passphrase_of_root_keys(Console& console, const Arguments& arguments) {
  if (real_files().exists(arguments.data + "/genesis")) return Secret();  // init will refuse
  if (!arguments.passphrase_file.empty()) return read_passphrase_file(arguments.passphrase_file);
  if (can_ask_on_terminal()) {
    return ask_new_passphrase(ask_on_terminal, "the root and recovery keys",
                              [&](const std::string& line) { console.error(line); });
  }
  console.error(
      "efs-peer: warning: the root and recovery keys have no passphrase; use --passphrase-file, or run this "
      "on "
      "a terminal");
  return Secret();
}

// Before anything is founded, or a use of an invite is spent. What happens in between the mount itself says.
Status check_mount(const PeerOptions& options) {
  if (options.mount.empty()) return {};
  EFS_TRY(prepare_mount_point(options.mount));
  return {};
}

int run_init(Console& console, const Arguments& arguments, Secret passphrase) {
  auto options = gather_options(arguments, "");
  if (!options) return report(console, "cannot found a mesh", options.error());
  if (Status can = check_mount(*options); !can) return report(console, "cannot found a mesh", can.error());
  auto data = make_data(options->data);
  if (!data) return report(console, "cannot found a mesh", data.error());
  FoundOptions found{arguments.mesh_name, arguments.keys, std::move(passphrase)};
  if (found.keys_directory.empty()) found.keys_directory = fmt::format("./{}-keys", found.mesh_name);
  found.keys_directory = canonical_path(found.keys_directory);
  auto founded = found_mesh(real_files(), real_random(), real_clock(), lmdb_environments((*data)->path()),
                            **data, *options, found);
  if (!founded) return report(console, "cannot found a mesh", founded.error());
  console.print(fmt::format(
      "founded the mesh {}\n\nIts root and recovery keys are in {}. Take them off this machine now: who has "
      "one rules the mesh,\nand nothing that runs needs them.\n\nTo bring in another server, within "
      "the hour (10 uses):\n\n  efs-peer join {} --mount /efs\n\n",
      found.mesh_name, founded->keys_directory, founded->seed));
  return after_establishing(console, std::move(*data), *options, arguments);
}

// What a member's `join` says anew holds for the next `run` too.
Status keep_options(DataDirectory& data, const std::string& kept, const PeerOptions& options) {
  PeerOptions before;
  EFS_TRY(read_options(kept, data.at("efs.yaml"), before));
  before.data = options.data;
  EFS_TRY(complete_options(before));
  const std::string text = write_options(options);
  return text == write_options(before) ? Status() : data.write_options(text);
}

int run_join(Console& console, const Arguments& arguments) {
  auto data = make_data(arguments.data);
  if (!data) return report(console, "cannot join", data.error());
  std::string kept;
  if ((*data)->complete()) {
    auto read = (*data)->options();
    if (read) kept = std::move(*read);
  }
  auto options = gather_options(arguments, kept);
  if (!options) return report(console, "cannot join", options.error());
  auto seed = parse_seed(arguments.seed);
  if (!seed) return report(console, "cannot join", seed.error());  // a damaged seed is a secret all the same
  if (!arguments.invite_file.empty()) {
    auto text = read_invite(arguments);
    if (!text) return report(console, "cannot join", text.error());
    auto invite = parse_invite(*text);
    if (!invite) return report(console, "cannot join " + seed->address, invite.error());
    seed->invite = std::move(*invite);
  }
  if ((*data)->complete()) {  // a member already: `join` is `run`, unless it is another mesh
    Status same = check_same_mesh(**data, *seed);
    if (same) same = keep_options(**data, kept, *options);
    if (!same) return report(console, "cannot join", same.error());
  } else {
    if (Status can = check_mount(*options); !can) return report(console, "cannot join", can.error());
    RealRuntime runtime({options->log_level, 4, options->awake_us * kMicrosecond});
    auto joined = join_mesh(runtime, **data, *options, *seed, arguments.own);
    if (!joined) return report(console, "cannot join " + seed->address, joined.error());
    options->name = joined->name;
    options->own.clear();  // kept by now; below for this start
    console.print(fmt::format("joined the mesh {} as {}\n", joined->mesh_name, joined->name));
  }
  for (const auto& prefix : arguments.own) options->own.push_back(prefix);
  return after_establishing(console, std::move(*data), *options, arguments);
}

int run_run(Console& console, const Arguments& arguments) {
  auto data = DataDirectory::open(real_files(), arguments.data, false);
  if (!data) return report(console, "", data.error());
  if (auto left = (*data)->left()) return report(console, "", {Code::unauthorized, *left});
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
  constexpr const char* kPlace = "This peer";
  constexpr const char* kTree = "The mount";
  constexpr const char* kProcess = "The process";
  command.add_option("--config", arguments.config, "a YAML file of settings (/etc/efs/efs.yaml shows all)")
      ->type_name("FILE")
      ->group(kPlace);
  command
      .add_option("--store", arguments.stores,
                  "a place for chunks (repeatable; default DATA/chunks; without SIZE 80% of what is free)")
      ->type_name("DIR[:SIZE]")
      ->allow_extra_args(false)
      ->group(kPlace);
  command.add_option("--listen", arguments.listen, "where to listen (repeatable; default [::]:7400; TCP)")
      ->type_name("ADDRESS:PORT")
      ->allow_extra_args(false)
      ->group(kPlace);
  command
      .add_option("--advertise", arguments.advertise,
                  "how others reach this peer (default: the address that they see)")
      ->type_name("HOST:PORT,...")
      ->allow_extra_args(false)
      ->delimiter(',')
      ->group(kPlace);
  command.add_option("--socket", arguments.socket, "the socket for efs and efs-keys")
      ->type_name("PATH")
      ->group(kPlace);
  command.add_option("--mount", arguments.mount, "mount the tree at this empty directory")
      ->type_name("DIR")
      ->group(kTree);
  command.add_flag("--read-only", arguments.read_only, "mount it read-only")->group(kTree);
  auto* timeout =
      command
          .add_option("--unreachable-timeout", arguments.unreachable_timeout,
                      "how long to wait for an owner that cannot be reached (default 60; 0: for ever)")
          ->type_name("SECONDS")
          ->check(CLI::Range(0, 86400))
          ->group(kTree);
  timeout->each([&arguments](const std::string&) { arguments.unreachable_given = true; });
  command
      .add_flag("--service", arguments.service,
                "set up, enable and start the systemd unit efs-peer, and return once it serves")
      ->group(kProcess);
  command
      .add_flag("--detach", arguments.detach,
                "go to the background, and return once it serves and is mounted")
      ->group(kProcess);
  command.add_option("--pid-file", arguments.pid_file, "write the process id there once it serves")
      ->type_name("FILE")
      ->group(kProcess);
  command
      .add_option("--log-file", arguments.log_file, "with --detach: log there (default DATA/efs-peer.log)")
      ->type_name("FILE")
      ->group(kProcess);
  command
      .add_option("--log-level", arguments.log_level, "trace, debug, info, warning or error (default info)")
      ->type_name("LEVEL")
      ->group(kProcess);
}

CLI::App* add_init(CLI::App& app, Arguments& arguments) {
  auto* init = app.add_subcommand("init", "found a mesh here: its first peer, and the volume '/'");
  init->group("Belong to a mesh");
  init->add_option("--name", arguments.mesh_name, "the mesh's name (default mesh)")->type_name("MESH");
  init->add_option("--peer-name", arguments.name, "this peer's name (default the host's)")->type_name("NAME");
  init->add_option("--keys", arguments.keys,
                   "where to write the root and recovery keys (default ./MESH-keys)")
      ->type_name("DIR");
  init->add_option("--passphrase-file", arguments.passphrase_file,
                   "its first line is those keys' passphrase (default: asked on a terminal)")
      ->type_name("FILE");
  add_serving_options(*init, arguments);
  init->footer(
      "Example:\n  efs-peer init --name acme --mount /efs\n  efs-peer init --name acme --mount /efs "
      "--service");
  return init;
}

CLI::App* add_join(CLI::App& app, Arguments& arguments) {
  auto* join = app.add_subcommand("join", "join a mesh by an invite; on a member it is 'run'");
  join->group("Belong to a mesh");
  join->add_option("SEED", arguments.seed, "efs://HOST:PORT/INVITE, or HOST:PORT with --invite")->required();
  join->add_option("--invite", arguments.invite_file, "a file with the invite; - is standard input")
      ->type_name("FILE");
  join->add_option("--name", arguments.name, "this peer's name (default the host's)")->type_name("NAME");
  join->add_option("--own", arguments.own, "make this peer the owner of a new volume at PREFIX (repeatable)")
      ->type_name("PREFIX")
      ->allow_extra_args(false);
  add_serving_options(*join, arguments);
  join->footer(
      "Example:\n  efs-peer join efs://first:7400/INVITE --mount /efs\n  efs-peer join first:7400 --invite - "
      "--own "
      "/scratch --service < invite");
  return join;
}

CLI::App* add_leave(CLI::App& app, Arguments& arguments) {
  auto* leave = app.add_subcommand(
      "leave", "be forgotten by the mesh and stop; refused while a volume is held here alone");
  leave->group("Belong to a mesh");
  leave->add_flag("--delete-data", arguments.delete_data,
                  "delete the data directory, and what efs wrote in its stores, afterwards");
  leave->add_option("--socket", arguments.socket, "the socket of the peer")->type_name("PATH");
  leave->footer("Example:\n  efs-peer leave");
  return leave;
}

int run(int count, char** values) {
  CLI::App app("efs-peer: the server of efs, one file tree over a group of servers");
  app.set_version_flag("--version", "efs-peer " EFS_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.get_formatter()->column_width(34);
  Arguments arguments;
  arguments.data = default_data_directory(Surroundings::of_this_process());
  app.add_option("--data", arguments.data, "the data directory (default " + arguments.data + ")")
      ->type_name("DIR");
  app.footer(
      "Example:\n  efs-peer init --name acme --mount /efs                  # the first server: prints an "
      "invite\n"
      "  efs-peer join efs://first:7400/INVITE --mount /efs      # every other\n\n"
      "Every command has its own: efs-peer init --help");

  const CLI::App* init = add_init(app, arguments);
  const CLI::App* join = add_join(app, arguments);
  auto* again = app.add_subcommand("run", "serve again from a data directory (what systemd starts)");
  again->group("Serve");
  add_serving_options(*again, arguments);
  again->footer("Example:\n  efs-peer run");
  auto* check = app.add_subcommand("check", "offline: verify a data directory, account for every byte");
  check->group("Serve");
  check->add_flag("--repair", arguments.repair, "mend what can be mended");
  check->footer("Example:\n  efs-peer check\n  efs-peer check --repair");
  const CLI::App* leave = add_leave(app, arguments);

  try {
    app.parse(count, values);
  } catch (const CLI::Success& asked) {  // help or version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    std::string what = error.what(), command = "efs-peer";
    std::replace(what.begin(), what.end(), '\n', ' ');
    for (const auto* chosen : app.get_subcommands()) command += " " + chosen->get_name();
    Console().error(fmt::format("efs-peer: wrong usage: {}; see '{} --help'", what, command));
    return kExitUsage;
  }
  Console console;
  arguments.data = absolute(arguments.data);
  while (arguments.data.size() > 1 && arguments.data.ends_with('/')) arguments.data.pop_back();
  if (leave->parsed()) {
    auto left = leave_mesh(arguments.data, arguments.socket, arguments.delete_data);
    if (!left) return report(console, "cannot leave", left.error());
    console.print(*left);
    return 0;
  }
  if (check->parsed()) return run_check(console, arguments);
  Result<Secret> passphrase = Secret();
  if (init->parsed()) {
    passphrase = passphrase_of_root_keys(console, arguments);
    if (!passphrase) return report(console, "cannot found a mesh", passphrase.error());
  }
  if (arguments.detach) {
    const std::string log =
        arguments.log_file.empty() ? arguments.data + "/efs-peer.log" : arguments.log_file;
    if (auto code = console.detach(arguments.data, log)) return *code;
  }
  const int code = init->parsed()   ? run_init(console, arguments, std::move(*passphrase))
                   : join->parsed() ? run_join(console, arguments)
                                    : run_run(console, arguments);
  console.finish(code);
  return code;
}

}  // namespace
}  // namespace efs

int main(int count, char** values) {
  efs::set_up_memory();
  std::signal(SIGPIPE, SIG_IGN);
  umask(022);
  efs::report_mapped_file_faults();
  return efs::run(count, values);
}
