// efs-keys: users and permissions. Arguments in, text out; everything is in efs_tools.
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "peer/control/socket_path.h"
#include "peer/runtime/real.h"
#include "tools/connect.h"
#include "tools/keys_commands.h"
#include "tools/terminal.h"

namespace {

std::string admin_key_path() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  if (config && *config) return std::string(config) + "/efs/admin.key";
  return efs::Surroundings::of_this_process().home + "/.config/efs/admin.key";
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  efs::tools::KeysOptions options;
  options.admin_key = admin_key_path();
  efs::tools::Context context("efs-keys", efs::tools::socket_connector(options), efs::real_clock(), std::cin,
                              std::cout, std::cerr);
  context.terminal = efs::tools::this_terminal();
  context.umask = efs::tools::current_umask();
  std::vector<std::string> arguments(argv + 1, argv + argc);
  return efs::tools::run_efs_keys(context, options, efs::real_random(), std::move(arguments));
}
