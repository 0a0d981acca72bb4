// Changing the tree without moving bytes: mkdir, rm, mv (within a volume), chmod, chown, ln, touch.
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#include <ostream>

#include "tools/copy.h"
#include "tools/efs_commands.h"
#include "tools/mode.h"
#include "tools/path.h"
#include "tools/tree.h"

namespace efs::tools {

namespace {

constexpr const char* kFiles = "Files";
constexpr size_t kMaxDepth = 1000;

struct FileOptions {
  std::vector<std::string> paths;
  std::string first, mode;
  bool parents = false, recursive = false, force = false, symbolic = false, no_create = false;
  bool no_clobber = false;
};
using Options = std::shared_ptr<FileOptions>;

// Runs `one` for every path; each failure is reported, the others are still done.
template <typename One>
Status for_each_path(Context& context, const FileOptions& options, const std::string& what, One one) {
  for (const auto& given : options.paths) {
    std::string path = absolute_path(context.directory, given);
    if (Status done = one(path); !done) context.report(about(what + " " + path, done.error()));
  }
  return {};
}

// mkdir -p: each missing directory on the way.
Status make_parents(Context& context, const std::string& path) {
  Tree tree(context.peer);
  std::string so_far = "/";
  for (size_t begin = 1; begin <= path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    so_far = path.substr(0, end);
    EFS_ASSIGN(auto there, tree.look(so_far));
    if (there && !there->is_directory()) return fail(Code::not_directory, so_far + " is not a directory");
    if (!there) {
      auto made = tree.create(so_far, S_IFDIR | (0777 & ~context.umask));
      if (!made && made.error().code != Code::exists) return fail(std::move(made.error()));
    }
    begin = end + 1;
  }
  return {};
}

Status mkdir(Context& context, const FileOptions& options) {
  return for_each_path(context, options, "cannot make the directory", [&](const std::string& path) -> Status {
    if (options.parents) return make_parents(context, path);
    if (path == "/") return fail(Code::exists);
    uint32_t mode = 0777 & ~context.umask;
    if (!options.mode.empty()) {
      EFS_ASSIGN(mode, apply_mode(options.mode, 0777, context.umask));
    }
    EFS_TRY(Tree(context.peer).create(path, S_IFDIR | mode));
    return {};
  });
}

Status remove_below(Context& context, const Node& node, size_t depth) {
  Tree tree(context.peer);
  if (node.is_directory() && depth < kMaxDepth) {
    EFS_ASSIGN(auto entries, tree.list(node));
    for (const auto& entry : entries) {
      if (entry.junction)
        return fail(Code::busy, entry.node.path + " is a volume of its own; remove it with 'efs volume rm'");
      EFS_TRY(remove_below(context, entry.node, depth + 1));
    }
  }
  Status done = tree.remove(node.path, node.is_directory());
  if (!done && done.error().code != Code::not_found)
    return depth ? fail_about(node.path, done.error()) : done;
  return {};
}

Status rm(Context& context, const FileOptions& options) {
  return for_each_path(context, options, "cannot remove", [&](const std::string& path) -> Status {
    if (path == "/") return fail(Code::invalid_argument, "the root of the tree cannot be removed");
    Tree tree(context.peer);
    auto node = tree.find(path, false);
    if (!node && node.error().code == Code::not_found && options.force) return {};
    if (!node) return fail(std::move(node.error()));
    if (node->is_directory() && !options.recursive)
      return fail(Code::is_directory, "it is a directory; use rm -r");
    return remove_below(context, *node, 0);
  });
}

Status chmod_one(Context& context, const FileOptions& options, const Node& node, size_t depth) {
  Tree tree(context.peer);
  if (!node.is_symlink()) {
    EFS_ASSIGN(uint32_t mode, apply_mode(options.first, node.attributes.mode, context.umask));
    SetAttributes change;
    change.mode = mode;
    EFS_TRY(tree.set(node, change));
  }
  if (!options.recursive || !node.is_directory() || depth >= kMaxDepth) return {};
  EFS_ASSIGN(auto entries, tree.list(node));
  for (const auto& entry : entries) {
    if (Status done = chmod_one(context, options, entry.node, depth + 1); !done)
      context.report(about("cannot change the mode of " + entry.node.path, done.error()));
  }
  return {};
}

Status chmod(Context& context, const FileOptions& options) {
  EFS_TRY(apply_mode(options.first, 0, context.umask));  // wrong usage before anything is changed
  return for_each_path(context, options, "cannot change the mode of", [&](const std::string& path) -> Status {
    EFS_ASSIGN(auto node, Tree(context.peer).find(path));
    return chmod_one(context, options, node, 0);
  });
}

std::optional<uint32_t> parse_number(const std::string& text) {
  if (text.empty() || text.size() > 10 || text.find_first_not_of("0123456789") != std::string::npos)
    return {};
  uint64_t value = std::stoull(text);
  return value < UINT32_MAX ? std::optional(uint32_t(value)) : std::nullopt;
}

// USER, USER:GROUP, USER: (its login group), :GROUP. Names of this machine, or numbers.
Result<SetAttributes> parse_owner(const std::string& text) {
  SetAttributes change;
  size_t colon = text.find(':');
  std::string user = text.substr(0, colon), group = colon == std::string::npos ? "" : text.substr(colon + 1);
  const passwd* login = nullptr;
  if (!user.empty()) {
    change.uid = parse_number(user);
    login = change.uid ? getpwuid(*change.uid) : getpwnam(user.c_str());
    if (!change.uid && login) change.uid = login->pw_uid;
    if (!change.uid)
      return fail(Code::invalid_argument, "this machine knows no user '" + user + "'; a number does as well");
  }
  if (!group.empty()) {
    change.gid = parse_number(group);
    const struct ::group* entry = change.gid ? nullptr : getgrnam(group.c_str());
    if (entry) change.gid = entry->gr_gid;
    if (!change.gid)
      return fail(Code::invalid_argument,
                  "this machine knows no group '" + group + "'; a number does as well");
  } else if (colon != std::string::npos && login) {
    change.gid = login->pw_gid;
  }
  if (!change.uid && !change.gid)
    return fail(Code::invalid_argument, "'" + text + "' names nobody; write USER:GROUP");
  return change;
}

Status chown_one(Context& context, const SetAttributes& change, bool recursive, const Node& node,
                 size_t depth) {
  Tree tree(context.peer);
  EFS_TRY(tree.set(node, change));
  if (!recursive || !node.is_directory() || depth >= kMaxDepth) return {};
  EFS_ASSIGN(auto entries, tree.list(node));
  for (const auto& entry : entries) {
    if (Status done = chown_one(context, change, recursive, entry.node, depth + 1); !done)
      context.report(about("cannot change the owner of " + entry.node.path, done.error()));
  }
  return {};
}

Status chown(Context& context, const FileOptions& options) {
  EFS_ASSIGN(auto change, parse_owner(options.first));
  return for_each_path(context, options, "cannot change the owner of",
                       [&](const std::string& path) -> Status {
                         EFS_ASSIGN(auto node, Tree(context.peer).find(path, !options.recursive));
                         return chown_one(context, change, options.recursive, node, 0);
                       });
}

Status ln(Context& context, const FileOptions& options) {
  if (options.paths.size() != 1) return fail(Code::invalid_argument, "ln takes one TARGET and one LINK");
  Tree tree(context.peer);
  std::string link = absolute_path(context.directory, options.paths.front());
  std::string what = "cannot link " + link + " to " + options.first;
  auto there = tree.look(link);
  if (there && *there && (*there)->is_directory()) link = join_path(link, base_name(options.first));
  if (options.symbolic) {
    EFS_TRY_ABOUT(what, tree.create(link, S_IFLNK | 0777, true, options.first));
    return {};
  }
  auto target = tree.find(absolute_path(context.directory, options.first), false);
  if (!target) return fail_about(what, target.error());
  EFS_TRY_ABOUT(what, tree.link(*target, link));
  return {};
}

Status touch(Context& context, const FileOptions& options) {
  return for_each_path(context, options, "cannot touch", [&](const std::string& path) -> Status {
    Tree tree(context.peer);
    EFS_ASSIGN(auto there, tree.look(path));
    if (!there) {
      if (options.no_create) return {};
      EFS_TRY(tree.create(path, S_IFREG | (0666 & ~context.umask), false));
      return {};
    }
    SetAttributes now;
    now.atime_now = now.mtime_now = true;
    return tree.set(*there, now);
  });
}

Status move_one(Context& context, const FileOptions& options, const std::string& from,
                const std::string& to) {
  Tree tree(context.peer);
  if (from == to) return {};
  if (is_below(to, from)) return fail(Code::invalid_argument, "a directory cannot move below itself");
  if (options.no_clobber) {
    EFS_ASSIGN(auto there, tree.look(to, false));
    if (there) return {};
  }
  Status done = tree.rename(from, to);
  if (done || done.error().code != Code::cross_volume) return done;
  // Into another volume: copied with everything that is known of it, then removed.
  CopyOptions copy;
  copy.preserve = true;
  EFS_TRY(copy_in_tree(context, from, to, copy));
  if (context.exit_code() != 0)
    return fail(Code::io, "not all of it could be copied, so nothing was removed");
  EFS_ASSIGN(auto node, tree.find(from, false));
  return remove_below(context, node, 0);
}

Status mv(Context& context, const FileOptions& options) {
  if (options.paths.size() < 2) return fail(Code::invalid_argument, "mv takes a SOURCE and a TARGET");
  std::string target = absolute_path(context.directory, options.paths.back());
  auto there = Tree(context.peer).look(target);
  if (!there) return fail_about("cannot move to " + target, there.error());
  bool into = *there && (*there)->is_directory();
  if (options.paths.size() > 2 && !into)
    return fail(Code::not_directory, "cannot move several files to " + target + ": it is not a directory");
  for (size_t i = 0; i + 1 < options.paths.size(); ++i) {
    std::string from = absolute_path(context.directory, options.paths[i]);
    std::string to = into ? join_path(target, base_name(from)) : target;
    if (Status done = move_one(context, options, from, to); !done)
      context.report(about("cannot move " + from + " to " + to, done.error()));
  }
  return {};
}

}  // namespace

void add_file_commands(CommandLine& line) {
  Context& context = line.context();
  auto options = std::make_shared<FileOptions>();
  auto add = [&](const char* name, const char* what, const char* example, auto run) {
    auto* command = line.add(line.app(), name, kFiles, what, example);
    line.on(command, [&context, options, run] { return run(context, *options); });
    return command;
  };
  auto* make = add("mkdir", "make directories", "efs mkdir -p /volume01/a/b", mkdir);
  make->add_option("PATH", options->paths)->required();
  make->add_flag("-p,--parents", options->parents, "with those above it; no error when it is there");
  make->add_option("-m,--mode", options->mode, "its mode, as for chmod");

  auto* remove = add("rm", "remove files, with -r directories", "efs rm -r /volume01/old", rm);
  remove->add_option("PATH", options->paths)->required();
  remove->add_flag("-r,-R,--recursive", options->recursive, "directories, and everything in them");
  remove->add_flag("-f,--force", options->force, "no error for what is not there");

  auto* move = add("mv", "rename or move, also into another volume", "efs mv /volume01/a /volume01/b", mv);
  move->add_option("PATH", options->paths, "SOURCE... TARGET")->required()->type_name("SOURCE... TARGET");
  move->add_flag("-n,--no-clobber", options->no_clobber, "never replace a file");

  auto* mode = add("chmod", "change permissions", "efs chmod -R u+rwX,go-w /volume01/shared", chmod);
  mode->add_option("MODE", options->first, "755 or u+x,go-w")->required();
  mode->add_option("PATH", options->paths)->required();
  mode->add_flag("-R,--recursive", options->recursive, "everything below too");

  auto* owner = add("chown", "change the owner and group", "efs chown alice:staff /volume01/a.txt", chown);
  owner->add_option("USER[:GROUP]", options->first, "names of this machine, or numbers")->required();
  owner->add_option("PATH", options->paths)->required();
  owner->add_flag("-R,--recursive", options->recursive, "everything below too");

  auto* link = add("ln", "make a link", "efs ln -s /volume01/a.txt /volume01/b.txt", ln);
  link->add_option("TARGET", options->first)->required();
  link->add_option("LINK", options->paths)->required();
  link->add_flag("-s,--symbolic", options->symbolic, "a symbolic one; TARGET is kept as it is written");

  auto* now = add("touch", "make empty files, or set their times to now", "efs touch /volume01/a.txt", touch);
  now->add_option("PATH", options->paths)->required();
  now->add_flag("-c,--no-create", options->no_create, "make nothing");
}

}  // namespace efs::tools
