// The shell: `efs` without a command, on a terminal. The same commands in this process, with a place to be
// in (cd, pwd), history and completion by libedit. History is in $XDG_STATE_HOME or ~/.local/state, in
// efs/history, 2000 lines. One thread; one shell a process (libedit's readline interface is global).
#pragma once

#include "tools/efs_commands.h"

namespace efs::tools {

// A command if there is one in `arguments`; else the shell on a terminal, usage elsewhere.
int run_program(Context& context, EfsOptions& options, std::vector<std::string> arguments);

// ---- its parts, for tests ----

// One line, whatever it says: empty, cd, pwd, help, exit, or a command. False: the shell ends.
bool run_line(Context& context, EfsOptions& options, const std::string& line);

// What the word at the end of `line` could become: commands first, then paths of the tree (or of this
// machine, where a command takes those), directories with a slash. Unquoted.
struct Completion {
  size_t begin = 0;  // where in the line the word starts that is replaced
  std::vector<std::string> words;
  char quote = 0;  // open at the end of the line
};
Completion complete(Context& context, const std::string& line);

}  // namespace efs::tools
