#include "tools/terminal.h"

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "peer/control/passphrase.h"

namespace efs::tools {

Terminal this_terminal() {
  Terminal result;
  result.output = isatty(STDOUT_FILENO);
  result.errors = isatty(STDERR_FILENO);
  result.input = can_ask_on_terminal();
  winsize size{};
  if (ioctl(result.output ? STDOUT_FILENO : STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    result.width = size.ws_col;
  result.ask = ask_on_terminal;
  return result;
}

uint32_t current_umask() {
  mode_t mask = ::umask(0);
  ::umask(mask);
  return mask;
}

}  // namespace efs::tools
