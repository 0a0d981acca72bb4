#include "tools/shell.h"

#include <algorithm>
#include <filesystem>
#include <ostream>

#include "peer/control/exit_code.h"
#include "tools/line_editor.h"
#include "tools/path.h"
#include "tools/tree.h"
#include "tools/words.h"

namespace efs::tools {

namespace {

const std::vector<std::string> kBuiltins = {"cd", "exit", "help", "pwd", "quit"};

// The commands of a group, as `volume create`.
std::vector<std::string> subcommands_of(const std::string& group) {
  if (group == "volume") return {"create", "ls", "rm", "set", "show"};
  if (group == "peer") return {"ls", "rm", "show"};
  if (group == "store") return {"add", "ls", "rm"};
  return {};
}

// Where a command's argument is a path of this machine and not of the tree.
bool takes_local_path(const std::vector<std::string>& before) {
  const std::string& command = before.front();
  if (command == "mount" || command == "umount" || command == "store") return true;
  size_t arguments = size_t(std::count_if(before.begin() + 1, before.end(),
                                          [](const std::string& word) { return !word.starts_with("-"); }));
  return (command == "put" && arguments == 0) || (command == "get" && arguments == 1);
}

std::vector<std::string> starting_with(std::vector<std::string> words, const std::string& start) {
  std::erase_if(words, [&](const std::string& word) { return !word.starts_with(start); });
  std::sort(words.begin(), words.end());
  return words;
}

std::vector<std::string> local_paths(const std::string& text) {
  std::string directory = text.substr(0, text.rfind('/') + 1);
  std::vector<std::string> result;
  std::error_code error;
  std::filesystem::directory_iterator at(directory.empty() ? "." : directory, error), end;
  for (; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    bool is_directory = at->is_directory(ignored);
    result.push_back(directory + at->path().filename().string() + (is_directory ? "/" : ""));
  }
  return result;
}

std::vector<std::string> tree_paths(Context& context, const std::string& text) {
  std::string directory = text.substr(0, text.rfind('/') + 1);
  std::vector<std::string> result;
  Tree tree(context.peer);
  auto node = tree.find(absolute_path(context.directory, directory));
  if (!node || !node->is_directory()) return result;
  auto entries = tree.list(*node);
  if (!entries) return result;
  bool hidden = text.size() > directory.size() && text[directory.size()] == '.';
  for (const auto& entry : *entries) {
    if (entry.name.starts_with(".") && !hidden) continue;
    result.push_back(directory + entry.name + (entry.node.is_directory() ? "/" : ""));
  }
  return result;
}

Status change_directory(Context& context, const std::vector<std::string>& words) {
  if (words.size() > 2) return fail(Code::invalid_argument, "cd takes one directory");
  std::string path = words.size() == 1 ? "/" : absolute_path(context.directory, words[1]);
  auto node = Tree(context.peer).find(path);
  if (!node) return fail_about("cannot go to " + path, node.error());
  if (!node->is_directory())
    return fail(Code::not_directory, "cannot go to " + path + ": it is not a directory");
  context.directory = path;
  return {};
}

void help(Context& context, EfsOptions& options, const std::vector<std::string>& words) {
  if (words.size() > 1) {
    std::vector<std::string> arguments(words.begin() + 1, words.end());
    arguments.push_back("--help");
    run_efs(context, options, std::move(arguments));
    return;
  }
  run_efs(context, options, {"--help"});
  context.out
      << "\nIn the shell:\n  cd [PATH]   go to a directory of the tree\n  pwd         say where you are\n"
         "  help [COMMAND]\n  exit\n";
  context.out.flush();
}

int shell(Context& context, EfsOptions& options) {
  auto welcome = context.peer.hello();
  if (!welcome) {
    context.report(welcome.error());
    return context.exit_code();
  }
  context.say("mesh " + welcome->mesh_name + ", peer " + welcome->peer_name +
              ". 'help' lists the commands, 'exit' or Ctrl-D ends.");
  context.out.flush();
  LineEditor editor([&context](const std::string& line) { return complete(context, line); });
  for (;;) {
    auto line = editor.read("efs:" + context.directory + "> ");
    if (!line) break;
    if (!run_line(context, options, *line)) break;
  }
  return kExitDone;
}

}  // namespace

bool run_line(Context& context, EfsOptions& options, const std::string& line) {
  context.reset();
  auto words = split_words(line);
  if (!words) {
    context.report(words.error());
    return true;
  }
  if (words->empty()) return true;
  const std::string& command = words->front();
  if (command == "exit" || command == "quit") return false;
  // Options said for one line hold for that line.
  bool as_json = context.json, quiet = context.quiet, yes = context.yes;
  EfsOptions before = options;
  if (command == "cd") {
    if (Status done = change_directory(context, *words); !done) context.report(done.error());
  } else if (command == "pwd") {
    context.out << context.directory << "\n";
  } else if (command == "help") {
    help(context, options, *words);
  } else {
    run_efs(context, options, *words);
  }
  context.json = as_json;
  context.quiet = quiet;
  context.yes = yes;
  options = before;
  context.out.flush();
  context.out.clear();
  return true;
}

Completion complete(Context& context, const std::string& line) {
  PartialWord last = last_word(line);
  Completion result{last.begin, {}, last.quote};
  if (last.before.empty()) {
    auto words = efs_command_names();
    words.insert(words.end(), kBuiltins.begin(), kBuiltins.end());
    result.words = starting_with(std::move(words), last.text);
  } else if (last.before.size() == 1 && last.before.front() == "help") {
    result.words = starting_with(efs_command_names(), last.text);
  } else if (auto group = subcommands_of(last.before.front()); last.before.size() == 1 && !group.empty()) {
    result.words = starting_with(std::move(group), last.text);
  } else if (!last.text.starts_with("-")) {
    bool local = takes_local_path(last.before);
    result.words = starting_with(local ? local_paths(last.text) : tree_paths(context, last.text), last.text);
  }
  return result;
}

int run_program(Context& context, EfsOptions& options, std::vector<std::string> arguments) {
  // --socket, --data and the like may stand before the shell, too.
  static const std::vector<std::string> with_value = {"--socket", "--data"};
  bool only_options = true;
  for (size_t i = 0; i < arguments.size() && only_options; ++i) {
    bool value = std::find(with_value.begin(), with_value.end(), arguments[i]) != with_value.end();
    bool joined = arguments[i].starts_with("--socket=") || arguments[i].starts_with("--data=");
    only_options = value || joined;
    if (value) ++i;
  }
  if (!only_options || !context.terminal.input || !context.terminal.output)
    return run_efs(context, options, std::move(arguments));
  for (size_t i = 0; i < arguments.size(); ++i) {
    size_t equals = arguments[i].find('=');
    std::string name = arguments[i].substr(0, equals);
    std::string value = equals != std::string::npos ? arguments[i].substr(equals + 1)
                        : i + 1 < arguments.size()  ? arguments[++i]
                                                    : "";
    (name == "--data" ? options.data : options.socket) = value;
  }
  return shell(context, options);
}

}  // namespace efs::tools
