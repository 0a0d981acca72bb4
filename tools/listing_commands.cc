// Looking at the tree: ls, tree, stat, du, find.
#include <fmt/format.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <ostream>
#include <set>

#include "tools/efs_commands.h"
#include "tools/path.h"
#include "tools/table.h"
#include "tools/tree.h"

namespace efs::tools {

using nlohmann::json;

namespace {

constexpr const char* kFiles = "Files";
constexpr size_t kMaxDepth = 1000;  // directories below each other, as paths of the tree end before that

struct ListingOptions {
  std::vector<std::string> paths;
  std::string path = ".";
  bool long_form = false, all = false, directory = false, slash = false, one = false, summarize = false;
  bool bytes = false;
  size_t depth = kMaxDepth;
  std::string name, iname, type;
};
using Options = std::shared_ptr<ListingOptions>;

std::string shown(const Context& context, const std::string& name) {
  return context.terminal.output ? printable(name) : name;
}

json to_json(const TreeEntry& entry, const std::string& target) {
  const Attributes& a = entry.node.attributes;
  json result{{"name", entry.name},
              {"path", entry.node.path},
              {"type", entry.junction ? "volume" : type_name(a.mode)}};
  if (entry.error) {
    result["error"] = to_text(*entry.error);
    return result;
  }
  result.update({{"inode", global_inode(entry.node.number, a.inode)},
                 {"mode", fmt::format("{:04o}", a.mode & 07777)},
                 {"uid", a.uid},
                 {"gid", a.gid},
                 {"nlink", a.nlink},
                 {"size", a.size},
                 {"blocks", a.blocks},
                 {"mtime_ns", a.mtime_ns}});
  if (!target.empty()) result["target"] = target;
  return result;
}

std::string target_of(Context& context, const TreeEntry& entry) {
  if (!entry.node.is_symlink()) return "";
  auto target = Tree(context.peer).read_link(entry.node);
  return target ? *target : "?";
}

void print_long(Context& context, const std::vector<TreeEntry>& entries, bool slash) {
  Table table({}, {1, 4});
  for (const auto& entry : entries) {
    const Attributes& a = entry.node.attributes;
    std::string name = shown(context, entry.name) + (slash && entry.node.is_directory() ? "/" : "");
    if (entry.error) {
      table.row({"d?????????", "?", "?", "?", "?", "?",
                 name + "  (" + about("volume", *entry.error).message + ")"});
      continue;
    }
    if (entry.node.is_symlink()) name += " -> " + shown(context, target_of(context, entry));
    bool device = S_ISBLK(a.mode) || S_ISCHR(a.mode);
    table.row({mode_text(a.mode), std::to_string(a.nlink), user_text(a.uid), group_text(a.gid),
               device ? fmt::format("{}, {}", major(a.rdev), minor(a.rdev)) : std::to_string(a.size),
               time_text(a.mtime_ns), name});
  }
  table.print(context.out);
}

void print_entries(Context& context, const std::vector<TreeEntry>& entries, const ListingOptions& options) {
  if (options.long_form) return print_long(context, entries, options.slash);
  std::vector<std::string> names;
  for (const auto& entry : entries)
    names.push_back(shown(context, entry.name) + (options.slash && entry.node.is_directory() ? "/" : ""));
  if (context.terminal.output && !options.one)
    return print_columns(context.out, names, context.terminal.width);
  for (const auto& name : names) context.out << name << "\n";
}

Result<std::vector<TreeEntry>> entries_of(Context& context, const std::string& path,
                                          const ListingOptions& options) {
  Tree tree(context.peer);
  auto node = tree.find(path, !options.long_form && !options.directory);
  // As ls: a symbolic link to a directory is listed as what it leads to, but with -l or -d as itself.
  if (!node) return fail_about("cannot list " + path, node.error());
  if (options.directory || !node->is_directory()) return std::vector<TreeEntry>{{path, *node, false, {}}};
  auto entries = tree.list(*node);
  if (!entries) return fail_about("cannot list " + path, entries.error());
  if (!options.all)
    std::erase_if(*entries, [](const TreeEntry& entry) { return entry.name.starts_with("."); });
  return entries;
}

Status ls(Context& context, const ListingOptions& options) {
  std::vector<std::string> paths = options.paths;
  if (paths.empty()) paths.push_back(".");
  json all = json::array();
  bool first = true;
  for (const auto& path : paths) {
    auto entries = entries_of(context, absolute_path(context.directory, path), options);
    if (!entries) {
      context.report(entries.error());
      continue;
    }
    if (context.json) {
      for (const auto& entry : *entries) all.push_back(to_json(entry, target_of(context, entry)));
      continue;
    }
    if (paths.size() > 1) context.out << (first ? "" : "\n") << shown(context, path) << ":\n";
    first = false;
    print_entries(context, *entries, options);
  }
  if (context.json) context.out << to_json_text(all, 2) << "\n";
  return {};
}

// Every entry below `directory`, parents first; `visit` says whether to go down. What cannot be listed is
// reported, and the walk goes on.
using Visit = std::function<bool(const TreeEntry&, size_t depth, bool last)>;
void walk(Context& context, const Node& directory, size_t depth, const Visit& visit) {
  Tree tree(context.peer);
  auto entries = tree.list(directory);
  if (!entries) return context.report(about("cannot list " + directory.path, entries.error()));
  for (size_t i = 0; i < entries->size(); ++i) {
    const TreeEntry& entry = (*entries)[i];
    bool down = visit(entry, depth, i + 1 == entries->size());
    if (entry.error) {
      context.report(about("cannot list " + entry.node.path, *entry.error));
    } else if (down && entry.node.is_directory() && depth < kMaxDepth) {
      walk(context, entry.node, depth + 1, visit);
    }
  }
}

Status show_tree(Context& context, const ListingOptions& options) {
  std::string path = absolute_path(context.directory, options.path);
  auto root = Tree(context.peer).find(path);
  if (!root) return fail_about("cannot list " + path, root.error());
  size_t directories = 0, files = 0;
  json all = json::array();
  std::vector<bool> open;  // at each depth: more entries follow
  if (!context.json) context.out << shown(context, path) << "\n";
  walk(context, *root, 1, [&](const TreeEntry& entry, size_t depth, bool last) {
    if (!options.all && entry.name.starts_with(".")) return false;
    ++(entry.node.is_directory() ? directories : files);
    if (context.json) {
      all.push_back(to_json(entry, target_of(context, entry)));
      return depth < options.depth;
    }
    open.resize(depth);
    open[depth - 1] = !last;
    std::string margin;
    for (size_t i = 0; i + 1 < depth; ++i) margin += open[i] ? "│   " : "    ";
    std::string target = target_of(context, entry);
    context.out << margin << (last ? "└── " : "├── ") << shown(context, entry.name)
                << (target.empty() ? "" : " -> " + shown(context, target)) << "\n";
    return depth < options.depth;
  });
  if (context.json) {
    context.out << to_json_text(all, 2) << "\n";
  } else if (!context.quiet) {
    context.out << "\n" << directories << " directories, " << files << " files\n";
  }
  return {};
}

// It has POSIX ACLs: who may what is not in its mode alone.
bool has_acl(Context& context, const Node& node) {
  if (node.attributes.xattr_bytes == 0) return false;
  auto acl = context.peer.volume(node.volume, GetXattr{node.attributes.inode, "system.posix_acl_access"});
  return acl.has_value();
}

Status show_stat(Context& context, const ListingOptions& options) {
  json all = json::array();
  for (const auto& given : options.paths) {
    std::string path = absolute_path(context.directory, given);
    auto found = context.peer.resolve(path, false);
    if (!found) {
      context.report(about("cannot stat " + path, found.error()));
      continue;
    }
    const Attributes& a = found->attributes;
    TreeEntry entry{base_name(path), {path, found->volume, found->number, a}, false, {}};
    std::string target = target_of(context, entry);
    if (context.json) {
      json one = to_json(entry, target);
      one.update({{"volume", to_hex(found->volume)},
                  {"prefix", found->prefix},
                  {"atime_ns", a.atime_ns},
                  {"ctime_ns", a.ctime_ns},
                  {"btime_ns", a.btime_ns},
                  {"generation", a.generation},
                  {"acl", has_acl(context, entry.node)}});
      all.push_back(std::move(one));
      continue;
    }
    context.out << "  Path: " << shown(context, path)
                << (target.empty() ? "" : " -> " + shown(context, target)) << "\n  Size: " << a.size
                << "  Blocks: " << a.blocks << "  Type: " << type_name(a.mode)
                << "\nVolume: " << printable(found->prefix) << " (" << short_hex(found->volume)
                << ")  Inode: " << global_inode(found->number, a.inode) << "  Links: " << a.nlink
                << "\nAccess: "
                << fmt::format("({:04o}/{}{})", a.mode & 07777, mode_text(a.mode),
                               has_acl(context, entry.node) ? "+" : "")
                << "  Uid: " << a.uid << " (" << user_text(a.uid) << ")  Gid: " << a.gid << " ("
                << group_text(a.gid) << ")\nAccess: " << time_text_exact(a.atime_ns)
                << "\nModify: " << time_text_exact(a.mtime_ns) << "\nChange: " << time_text_exact(a.ctime_ns)
                << "\n Birth: " << time_text_exact(a.btime_ns) << "\n";
  }
  if (context.json) context.out << to_json_text(all, 2) << "\n";
  return {};
}

// Bytes that blocks cover, each inode once, of `node` and all below; prints directories, children first.
struct DiskUsage {
  Context& context;
  const ListingOptions& options;
  json all = json::array();
  std::set<uint64_t> seen;  // inodes with several links

  uint64_t own(const Node& node) {
    uint64_t inode = global_inode(node.number, node.attributes.inode);
    bool again = node.attributes.nlink > 1 && !node.is_directory() && !seen.insert(inode).second;
    return again ? 0 : node.attributes.blocks * 512;
  }
  void print(const std::string& path, uint64_t bytes) {
    if (context.json) {
      all.push_back({{"path", path}, {"bytes", bytes}});
    } else {
      context.out << fmt::format("{:<10}  {}\n", options.bytes ? std::to_string(bytes) : human_size(bytes),
                                 shown(context, path));
    }
  }
  uint64_t sum(const Node& node, size_t depth) {
    uint64_t bytes = own(node);
    if (!node.is_directory() || depth > kMaxDepth) return bytes;
    auto entries = Tree(context.peer).list(node);
    if (!entries) {
      context.report(about("cannot list " + node.path, entries.error()));
      return bytes;
    }
    for (const auto& entry : *entries) {
      if (entry.error) {
        context.report(about("cannot list " + entry.node.path, *entry.error));
        continue;
      }
      uint64_t below = sum(entry.node, depth + 1);
      if (entry.node.is_directory() && !options.summarize) print(entry.node.path, below);
      bytes += below;
    }
    return bytes;
  }
};

Status du(Context& context, const ListingOptions& options) {
  DiskUsage usage{context, options, json::array(), {}};
  std::vector<std::string> paths = options.paths;
  if (paths.empty()) paths.push_back(".");
  for (const auto& given : paths) {
    std::string path = absolute_path(context.directory, given);
    auto node = Tree(context.peer).find(path, false);
    if (!node) {
      context.report(about("cannot measure " + path, node.error()));
      continue;
    }
    usage.print(path, usage.sum(*node, 1));
  }
  if (context.json) context.out << to_json_text(usage.all, 2) << "\n";
  return {};
}

bool matches(const ListingOptions& options, const TreeEntry& entry) {
  if (!options.name.empty() && fnmatch(options.name.c_str(), entry.name.c_str(), 0) != 0) return false;
  if (!options.iname.empty() && fnmatch(options.iname.c_str(), entry.name.c_str(), FNM_CASEFOLD) != 0)
    return false;
  return options.type.empty() ||
         options.type.find(type_letter(entry.node.attributes.mode)) != std::string::npos;
}

Status find_entries(Context& context, const ListingOptions& options) {
  std::vector<std::string> paths = options.paths;
  if (paths.empty()) paths.push_back(".");
  json all = json::array();
  for (const auto& given : paths) {
    std::string path = absolute_path(context.directory, given);
    auto node = Tree(context.peer).find(path, false);
    if (!node) {
      context.report(about("cannot search " + path, node.error()));
      continue;
    }
    auto visit = [&](const TreeEntry& entry, size_t depth, bool) {
      if (matches(options, entry)) {
        if (context.json) {
          all.push_back(to_json(entry, target_of(context, entry)));
        } else {
          context.out << shown(context, entry.node.path) << "\n";
        }
      }
      return depth < options.depth;
    };
    visit({path == "/" ? "/" : base_name(path), *node, false, {}}, 0, true);
    if (node->is_directory() && options.depth > 0) walk(context, *node, 1, visit);
  }
  if (context.json) context.out << to_json_text(all, 2) << "\n";
  return {};
}

}  // namespace

void add_listing_commands(CommandLine& line) {
  Context& context = line.context();
  auto options = std::make_shared<ListingOptions>();
  auto add = [&](const char* name, const char* what, const char* example, auto run) {
    auto* command = line.add(line.app(), name, kFiles, what, example);
    line.takes_json(command);
    line.on(command, [&context, options, run] { return run(context, *options); });
    return command;
  };
  auto* list = add("ls", "list directories", "efs ls -l /volume01", ls);
  list->add_option("PATH", options->paths, "default: / (in the shell: where you are)");
  list->add_flag("-l", options->long_form, "mode, links, owner, group, size, time");
  list->add_flag("-a", options->all, "names that begin with a dot too");
  list->add_flag("-d", options->directory, "the directory itself, not what is in it");
  list->add_flag("-p", options->slash, "a slash behind directories");
  list->add_flag("-1", options->one, "one name a line");

  auto* show = add("tree", "show everything below a directory", "efs tree -L 2 /volume01", show_tree);
  show->add_option("PATH", options->path);
  show->add_flag("-a", options->all, "names that begin with a dot too");
  show->add_option("-L", options->depth, "go so many directories down")
      ->check(CLI::Range(size_t(1), kMaxDepth));

  auto* stat = add("stat", "everything about a file: inode, mode, owner, times, volume",
                   "efs stat /volume01/a.txt", show_stat);
  stat->add_option("PATH", options->paths)->required();

  auto* usage = add("du", "the space that directories take", "efs du -s /volume01", du);
  usage->add_option("PATH", options->paths);
  usage->add_flag("-s", options->summarize, "only the total of each PATH");
  usage->add_flag("-b,--bytes", options->bytes, "exact numbers");

  auto* search =
      add("find", "find files by name and type", "efs find /volume01 -name '*.jpg' -type f", find_entries);
  search->add_option("PATH", options->paths);
  search->add_option("--name", options->name, "-name PATTERN: a name with * ? [ ]");
  search->add_option("--iname", options->iname, "-iname PATTERN: as -name, upper or lower case");
  search->add_option("--type", options->type, "-type f|d|l|p|s|b|c: file, directory, symlink, ...")
      ->check([](const std::string& text) {
        return text.find_first_not_of("fdlpsbc,") == std::string::npos ? ""
                                                                       : "-type takes f, d, l, p, s, b, c";
      });
  search->add_option("--maxdepth", options->depth, "go so many directories down");
}

}  // namespace efs::tools
