// What a command works with: the peer, where text goes, how to ask. One a program, or one a test.
//
// A command is parsed first (tools/commands.h) and then runs as a Status: an error is printed as one line
// on `err` and becomes the exit code. A command that goes on after a failure (rm of several) reports each
// by report(); the first one decides the exit code.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "peer/control/passphrase.h"
#include "peer/runtime/clock.h"
#include "tools/peer_client.h"

namespace efs::tools {

// The terminal, or its absence.
struct Terminal {
  bool output = false;  // stdout is one: columns, escapes of odd characters
  bool errors = false;  // stderr is one: progress bars
  bool input = false;   // stdin is one: questions can be asked
  int width = 80;
  // Asks on the terminal, without (passphrases) or with echo. Only called when `input`.
  Ask ask;
};

struct Context {
  Context(std::string program_name, Connector connector, const Clock& wall, std::istream& in_stream,
          std::ostream& out_stream, std::ostream& err_stream)
      : program(std::move(program_name)),
        peer(std::move(connector)),
        clock(wall),
        in(in_stream),
        out(out_stream),
        err(err_stream) {}

  std::string program;
  PeerClient peer;
  const Clock& clock;
  std::istream& in;   // what `-` reads, and
  std::ostream& out;  // what `-` and tables write to
  std::ostream& err;
  Terminal terminal;
  std::string directory = "/";  // the shell's, in the tree; where relative paths start
  bool json = false;
  bool quiet = false;
  bool yes = false;
  uint32_t umask = 022;

  // Prints "program: message", and remembers the exit code of the first.
  void report(const Error& error);
  int exit_code() const { return exit_code_; }
  void reset() { exit_code_ = 0; }

  // Shows what will change and asks: ok, Code::cancelled, or invalid_argument without a terminal.
  Status confirm(const std::string& change);
  // A line for people, unless quiet.
  void say(const std::string& line);

 private:
  int exit_code_ = 0;
};

// The same error with what failed and on what in front: "cannot read /a: not found".
Error about(const std::string& what, const Error& error);
tl::unexpected<Error> fail_about(const std::string& what, const Error& error);
// What a later version will do: "not built yet: ...".
tl::unexpected<Error> not_built(const std::string& what);

#define EFS_TRY_ABOUT(what, expression)                                                   \
  do {                                                                                    \
    auto efs_try_result = (expression);                                                   \
    if (!efs_try_result) return ::efs::tools::fail_about((what), efs_try_result.error()); \
  } while (false)

}  // namespace efs::tools
