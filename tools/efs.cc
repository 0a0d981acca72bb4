// efs: the people's tool. Arguments in, text out; everything is in efs_tools.
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "peer/control/exit_code.h"
#include "peer/runtime/real.h"
#include "tools/connect.h"
#include "tools/efs_commands.h"
#include "tools/shell.h"
#include "tools/terminal.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  // A reader that went away (efs cat | head) ends a write with an error instead of the process.
  std::signal(SIGPIPE, SIG_IGN);
  efs::tools::EfsOptions options;
  efs::tools::Context context("efs", efs::tools::socket_connector(options), efs::real_clock(), std::cin,
                              std::cout, std::cerr);
  context.terminal = efs::tools::this_terminal();
  context.umask = efs::tools::current_umask();
  std::vector<std::string> arguments(argv + 1, argv + argc);
  return efs::tools::run_program(context, options, std::move(arguments));
}
