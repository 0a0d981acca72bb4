#include "tools/context.h"

#include <istream>
#include <ostream>

#include "peer/control/exit_code.h"

namespace efs::tools {

void Context::report(const Error& error) {
  out.flush();
  std::string text = to_text(error);
  for (char& c : text) {
    if (c == '\n') c = ' ';  // one line on stderr, whatever a peer says
  }
  err << program << ": " << text << "\n";
  err.flush();
  if (exit_code_ == kExitDone) exit_code_ = exit_code_of(error.code);
}

Status Context::confirm(const std::string& change) {
  if (yes) return {};
  if (!terminal.input || !terminal.ask)
    return fail(Code::invalid_argument, "this would " + change + "; without a terminal, say --yes to do it");
  err << "This will " << change << ".\n";
  EFS_ASSIGN(auto answer, terminal.ask("Go on? [y/N] ", true));
  if (answer == "y" || answer == "Y" || answer == "yes") return {};
  return fail(Code::cancelled, "nothing was changed");
}

void Context::say(const std::string& line) {
  if (!quiet) out << line << "\n";
}

namespace {

// What to try, where the peer gave no words of its own.
std::string advice(Code code) {
  switch (code) {
    case Code::not_found:
      return "it does not exist";
    case Code::exists:
      return "it exists already";
    case Code::not_directory:
      return "it is not a directory";
    case Code::is_directory:
      return "it is a directory";
    case Code::not_empty:
      return "the directory is not empty; remove what is in it first, or use rm -r";
    case Code::access_denied:
      return "permission denied; 'efs stat' shows its owner and mode";
    case Code::not_permitted:
      return "only its owner or root may do that";
    case Code::no_space:
      return "no space left; 'efs status' shows what is full";
    case Code::over_quota:
      return "over the quota; 'efs volume show' shows it";
    case Code::read_only:
      return "the volume is read-only";
    case Code::cross_volume:
      return "source and target are in different volumes; copy instead";
    case Code::name_too_long:
      return "the name is longer than 255 bytes";
    case Code::loop:
      return "too many symbolic links";
    case Code::unreachable:
      return "no owner of its volume can be reached; see 'efs status'";
    case Code::timed_out:
      return "no answer in time; see 'efs status', or try again";
    case Code::closed:
      return "the peer of this machine went away; is efs-peer running?";
    case Code::unauthorized:
      return "not allowed; ask an administrator of the mesh, or run it as root";
    case Code::unsupported:
      return "not supported here";
    default:
      return std::string(name_of(code));
  }
}

}  // namespace

Error about(const std::string& what, const Error& error) {
  return {error.code, what + ": " + (error.message.empty() ? advice(error.code) : error.message)};
}

tl::unexpected<Error> fail_about(const std::string& what, const Error& error) {
  return fail(about(what, error));
}

tl::unexpected<Error> not_built(const std::string& what) {
  return fail(Code::unsupported, "not built yet: " + what);
}

}  // namespace efs::tools
