// Moving bytes: cat, put, get, cp.
#include <sys/stat.h>

#include <filesystem>

#include "tools/copy.h"
#include "tools/efs_commands.h"
#include "tools/path.h"

namespace efs::tools {

namespace {

constexpr const char* kFiles = "Files";

struct TransferOptions {
  std::vector<std::string> paths;
  std::string path, local;
  CopyOptions copy;
  bool recursive = false;
};

Status cat(Context& context, const TransferOptions& options) {
  for (const auto& given : options.paths) {
    std::string path = absolute_path(context.directory, given);
    if (Status done = print_file(context, path); !done)
      context.report(about("cannot read " + path, done.error()));
  }
  return {};
}

// Whether `target` is a directory that things are put into; fails when several are to go to something else.
Result<bool> goes_into(Context& context, const std::string& target, bool several, bool wants_directory) {
  auto there = Tree(context.peer).look(target);
  if (!there) return fail_about("cannot write to " + target, there.error());
  bool into = *there && (*there)->is_directory();
  if (!into && (several || (wants_directory && *there)))
    return fail(Code::not_directory, "cannot write to " + target + ": it is not a directory");
  return into;
}

std::string local_name(const std::string& path) {
  std::string name = std::filesystem::absolute(path).lexically_normal().string();
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  return base_name(name);
}

Status put(Context& context, const TransferOptions& options) {
  if (options.paths.size() < 2)
    return fail(Code::invalid_argument, "put takes a LOCAL file and a PATH in the tree");
  const std::string& given = options.paths.back();
  std::string target = absolute_path(context.directory, given);
  EFS_ASSIGN(bool into, goes_into(context, target, options.paths.size() > 2, given.ends_with("/")));
  for (size_t i = 0; i + 1 < options.paths.size(); ++i) {
    const std::string& from = options.paths[i];
    if (into && from == "-")
      return fail(Code::is_directory,
                  "cannot put standard input to " + target + ": it is a directory; name a file");
    std::string to = into ? join_path(target, local_name(from)) : target;
    if (Status done = put_into_tree(context, from, to, options.copy); !done)
      context.report(about("cannot put " + from + " to " + to, done.error()));
  }
  return {};
}

Status get(Context& context, const TransferOptions& options) {
  std::string from = absolute_path(context.directory, options.path);
  std::string to = options.local.empty() ? "." : options.local;
  std::error_code error;
  if (to != "-" && std::filesystem::is_directory(to, error)) {
    if (from != "/") to = join_path(to, base_name(from));
  }
  if (Status done = get_from_tree(context, from, to, options.copy); !done)
    return fail_about("cannot get " + from + (to == "-" ? "" : " to " + to), done.error());
  return {};
}

Status cp(Context& context, const TransferOptions& options) {
  if (options.paths.size() < 2) return fail(Code::invalid_argument, "cp takes a SOURCE and a TARGET");
  std::string target = absolute_path(context.directory, options.paths.back());
  EFS_ASSIGN(bool into, goes_into(context, target, options.paths.size() > 2, false));
  CopyOptions copy = options.copy;
  copy.recursive = options.recursive;
  for (size_t i = 0; i + 1 < options.paths.size(); ++i) {
    std::string from = absolute_path(context.directory, options.paths[i]);
    std::string to = into ? join_path(target, base_name(from)) : target;
    if (Status done = copy_in_tree(context, from, to, copy); !done)
      context.report(about("cannot copy " + from + " to " + to, done.error()));
  }
  return {};
}

}  // namespace

void add_transfer_commands(CommandLine& line) {
  Context& context = line.context();
  auto options = std::make_shared<TransferOptions>();
  auto add = [&](const char* name, const char* what, const char* example, auto run) {
    auto* command = line.add(line.app(), name, kFiles, what, example);
    line.on(command, [&context, options, run] { return run(context, *options); });
    return command;
  };
  const char* preserve = "keep mode and times, and owner and group where that is allowed";

  auto* read = add("cat", "print files", "efs cat /volume01/notes.txt", cat);
  read->add_option("PATH", options->paths)->required();

  auto* up = add("put", "copy files and directories of this machine into the tree",
                 "efs put photos /volume01/; tar c src | efs put - /volume01/src.tar", put);
  up->add_option("LOCAL... PATH", options->paths, "LOCAL: - is standard input")->required();
  up->add_flag("-p,--preserve", options->copy.preserve, preserve);

  auto* down =
      add("get", "copy a file or directory out of the tree", "efs get /volume01/photos /tmp/photos", get);
  down->add_option("PATH", options->path)->required();
  down->add_option("LOCAL", options->local, "default: here; - is standard output");
  down->add_flag("-p,--preserve", options->copy.preserve, preserve);

  auto* copy = add("cp", "copy within the tree", "efs cp -r /volume01/a /volume02/", cp);
  copy->add_option("SOURCE... TARGET", options->paths)->required();
  copy->add_flag("-r,-R,--recursive", options->recursive, "directories, and everything in them");
  copy->add_flag("-p,--preserve", options->copy.preserve, preserve);
}

}  // namespace efs::tools
