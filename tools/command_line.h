// A program's commands on CLI11: one is chosen by parsing, then run; its error becomes one line and an
// exit code. Built anew for each line that a shell reads, so that no option lingers.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "tools/context.h"

namespace efs::tools {

class CommandLine {
 public:
  CommandLine(Context& context, const std::string& what);
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // A command with its task (the heading in --help) and an example. A command of a group of commands:
  // parent is the group's.
  CLI::App* add(CLI::App& parent, const std::string& name, const std::string& task, const std::string& what,
                const std::string& example);
  // A group of commands, as `volume`: one of them has to follow.
  CLI::App* add_group(const std::string& name, const std::string& task, const std::string& what,
                      const std::string& example);
  // What runs when the command was chosen.
  void on(CLI::App* command, std::function<Status()> run);
  // What is checked after parsing, before the command runs.
  void before(std::function<Status()> check) { before_ = std::move(check); }
  // --json, --yes, said where they mean something.
  void takes_json(CLI::App* command);
  void takes_yes(CLI::App* command);

  // Parses (without the program's name) and runs. Prints errors, help and version; gives the exit code.
  int run(std::vector<std::string> arguments);

  CLI::App& app() { return app_; }
  Context& context() { return context_; }

 private:
  int usage(const CLI::ParseError& error);
  Context& context_;
  CLI::App app_;
  std::function<Status()> before_;
  std::function<Status()> action_;
};

// --socket, --data, --json, --quiet, --yes, --version: what all programs share.
struct PeerOptions {
  std::string socket;
  std::string data;
};
void add_common_options(CommandLine& line, PeerOptions& options);

}  // namespace efs::tools
