#include "tools/command_line.h"

#include <algorithm>
#include <ostream>

#include "peer/control/exit_code.h"

namespace efs::tools {

CommandLine::CommandLine(Context& context, const std::string& what)
    : context_(context), app_(what, context.program) {
  app_.fallthrough();
  app_.require_subcommand(0, 1);
  app_.get_formatter()->column_width(34);
}

CLI::App* CommandLine::add(CLI::App& parent, const std::string& name, const std::string& task,
                           const std::string& what, const std::string& example) {
  CLI::App* command = parent.add_subcommand(name, what);
  if (!task.empty()) command->group(task);
  command->footer("\nExample:\n  " + example + "\n\nOptions of every command: " + context_.program +
                  " --help");
  return command;
}

CLI::App* CommandLine::add_group(const std::string& name, const std::string& task, const std::string& what,
                                 const std::string& example) {
  CLI::App* group = add(app_, name, task, what, example);
  group->require_subcommand(1);
  return group;
}

void CommandLine::on(CLI::App* command, std::function<Status()> run) {
  command->callback([this, run = std::move(run)] { action_ = run; });
}

void CommandLine::takes_json(CLI::App* command) {
  command->add_flag("--json", context_.json, "print JSON");
}

void CommandLine::takes_yes(CLI::App* command) {
  command->add_flag("-y,--yes", context_.yes, "do it without asking (required without a terminal)");
}

int CommandLine::usage(const CLI::ParseError& error) {
  std::string command = context_.program;
  for (const CLI::App* at = &app_; at;) {
    auto chosen = at->get_subcommands();
    at = chosen.empty() ? nullptr : chosen.front();
    if (at) command += " " + at->get_name();
  }
  std::string what = error.what();
  std::replace(what.begin(), what.end(), '\n', ' ');
  context_.err << context_.program << ": wrong usage: " << what << "; see '" << command << " --help'\n";
  return kExitUsage;
}

int CommandLine::run(std::vector<std::string> arguments) {
  context_.reset();
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  try {
    app_.parse(std::move(arguments));
  } catch (const CLI::Success& asked) {  // help or version
    return app_.exit(asked, context_.out, context_.err);
  } catch (const CLI::ParseError& error) {
    return usage(error);
  }
  if (!action_) {
    context_.err << app_.help();
    return kExitUsage;
  }
  Status done = before_ ? before_() : Status();
  if (done) done = action_();
  if (!done) context_.report(done.error());
  context_.out.flush();
  if (!context_.out && context_.exit_code() == kExitDone)
    context_.report({Code::io, "cannot write the output: the disk is full or the reader is gone"});
  return context_.exit_code();
}

void add_common_options(CommandLine& line, PeerOptions& options) {
  auto& app = line.app();
  auto& context = line.context();
  app.add_option("--data", options.data, "the data directory whose peer is meant (or EFS_DATA)")
      ->type_name("DIR");
  app.add_option("--socket", options.socket, "the peer's socket itself")->type_name("PATH");
  app.add_flag("--json", context.json, "print JSON where a table would be printed");
  app.add_flag("-q,--quiet", context.quiet, "print nothing but results and errors");
  app.add_flag("-y,--yes", context.yes, "do not ask before changes (required without a terminal)");
  app.set_version_flag("--version", context.program + " " EFS_VERSION);
}

}  // namespace efs::tools
