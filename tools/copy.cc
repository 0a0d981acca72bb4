#include "tools/copy.h"

#include <sys/stat.h>

#include <algorithm>
#include <ostream>

#include "tools/copy_parts.h"
#include "tools/path.h"

namespace efs::tools {

Status each_piece(Tree& tree, const Node& file, const EachPiece& each) {
  uint64_t size = file.attributes.size;
  uint64_t offset = 0;
  bool sparse = size > kPiece;  // a small file costs more to ask about than to read
  while (offset < size) {
    uint64_t end = size;
    if (sparse) {
      EFS_ASSIGN(auto data, tree.next_data(file, offset));
      if (!data) return {};
      offset = std::max(offset, data->first);
      end = std::min(size, data->second);
    }
    while (offset < end) {
      EFS_ASSIGN(Bytes bytes, tree.read(file, offset, piece_length(offset, end)));
      if (bytes.empty()) return {};  // it became shorter meanwhile
      EFS_TRY(each(offset, bytes));
      offset += bytes.size();
    }
  }
  return {};
}

Result<Target> open_target(Tree& tree, const std::string& path, uint32_t mode) {
  EFS_ASSIGN(auto there, tree.look(path));
  if (there && there->is_directory()) return fail(Code::is_directory);
  if (!there) {
    EFS_ASSIGN(Node made, tree.create(path, S_IFREG | mode | S_IWUSR, false));
    return Target{std::move(made), true};
  }
  SetAttributes empty;
  empty.size = 0;
  if (there->is_file()) EFS_TRY(tree.set(*there, empty));
  return Target{std::move(*there), false};
}

Status preserve(Tree& tree, const Node& node, const Attributes& like) {
  SetAttributes owner;
  if (node.attributes.uid != like.uid) owner.uid = like.uid;
  if (node.attributes.gid != like.gid) owner.gid = like.gid;
  bool owned = true;
  if (owner.uid || owner.gid) {
    Status done = tree.set(node, owner);
    bool denied =
        !done && (done.error().code == Code::not_permitted || done.error().code == Code::access_denied);
    if (!done && !denied) return done;
    owned = !denied;
  }
  SetAttributes rest;
  // Without the owner, setuid and setgid would give somebody else's rights away.
  if (!node.is_symlink()) rest.mode = like.mode & (owned ? 07777u : 01777u);
  rest.atime_ns = like.atime_ns;
  rest.mtime_ns = like.mtime_ns;
  return tree.set(node, rest);
}

Status finish_target(Tree& tree, const Target& target, const Attributes& like, uint64_t written_end,
                     const CopyOptions& options, uint32_t umask) {
  if (like.size > written_end) {  // it ends in a hole
    SetAttributes grow;
    grow.size = like.size;
    EFS_TRY(tree.set(target.node, grow));
  }
  if (options.preserve) return preserve(tree, target.node, like);
  uint32_t wanted = like.mode & 0777 & ~umask;
  if (!target.made || (target.node.attributes.mode & 0777) == wanted) return {};
  SetAttributes mode;
  mode.mode = wanted;
  return tree.set(target.node, mode);
}

Result<Node> make_directory(Tree& tree, const std::string& path, uint32_t mode) {
  EFS_ASSIGN(auto there, tree.look(path));
  if (!there) return tree.create(path, S_IFDIR | mode | S_IRWXU);
  if (!there->is_directory()) return fail(Code::not_directory, path + " is there and no directory");
  return std::move(*there);
}

std::string joined(const std::string& what, const std::string& from, const std::string& to) {
  return "cannot " + what + " " + from + " to " + to;
}

Status print_file(Context& context, const std::string& path) {
  Tree tree(context.peer);
  EFS_ASSIGN(auto file, tree.find(path));
  if (file.is_directory()) return fail(Code::is_directory);
  if (!file.is_file()) return fail(Code::unsupported, "it is neither file nor directory");
  // Holes too: each zero counts in a stream.
  uint64_t offset = 0, size = file.attributes.size;
  Progress progress(context, base_name(path), size);
  while (offset < size && context.out) {
    EFS_ASSIGN(Bytes bytes, tree.read(file, offset, piece_length(offset, size)));
    if (bytes.empty()) break;
    context.out.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
    offset += bytes.size();
    progress.add(bytes.size());
  }
  return {};
}

// ---- within the tree ----

namespace {

class TreeCopy {
 public:
  TreeCopy(Context& context, const CopyOptions& options)
      : context_(context), options_(options), tree_(context.peer), progress_(context, "copying", 0) {}

  Status copy(const Node& from, const std::string& to, size_t depth) {
    if (from.is_directory()) return copy_directory(from, to, depth);
    if (from.is_symlink()) return copy_link(from, to);
    if (from.is_file()) return copy_file(from, to);
    return fail(Code::unsupported, "it is neither file, directory nor symbolic link");
  }

  Status sync() {
    for (const auto& volume : touched_) EFS_TRY(tree_.sync(volume));
    return {};
  }

 private:
  Status copy_file(const Node& from, const std::string& to) {
    progress_.rename(base_name(to));
    EFS_ASSIGN(auto there, tree_.look(to));
    if (there && there->volume == from.volume && there->attributes.inode == from.attributes.inode)
      return fail(Code::invalid_argument, "both are the same file");
    EFS_ASSIGN(Target target, open_target(tree_, to, from.attributes.mode & 0777 & ~context_.umask));
    uint64_t end = 0;
    auto take = [&](uint64_t offset, const Bytes& bytes) -> Status {
      EFS_TRY(tree_.write(target.node, offset, bytes));
      end = offset + bytes.size();
      progress_.add(bytes.size());
      return {};
    };
    EFS_TRY(each_piece(tree_, from, take));
    touched_.insert(target.node.volume);
    return finish_target(tree_, target, from.attributes, end, options_, context_.umask);
  }

  Status copy_link(const Node& from, const std::string& to) {
    EFS_ASSIGN(auto target, tree_.read_link(from));
    EFS_ASSIGN(auto made, tree_.create(to, S_IFLNK | 0777, true, target));
    touched_.insert(made.volume);
    return options_.preserve ? preserve(tree_, made, from.attributes) : Status();
  }

  Status copy_directory(const Node& from, const std::string& to, size_t depth) {
    if (!options_.recursive) return fail(Code::is_directory, "it is a directory; use cp -r");
    if (depth >= kMaxCopyDepth) return fail(Code::name_too_long, "directories are nested too deeply");
    EFS_ASSIGN(auto made, make_directory(tree_, to, from.attributes.mode & 0777 & ~context_.umask));
    touched_.insert(made.volume);
    EFS_ASSIGN(auto entries, tree_.list(from));
    for (const auto& entry : entries) {
      std::string target = join_path(to, entry.name);
      Status done = entry.error ? fail(*entry.error) : copy(entry.node, target, depth + 1);
      if (!done) context_.report(about(joined("copy", entry.node.path, target), done.error()));
    }
    return options_.preserve ? preserve(tree_, made, from.attributes) : Status();
  }

  Context& context_;
  const CopyOptions& options_;
  Tree tree_;
  Progress progress_;
  std::set<VolumeId> touched_;
};

}  // namespace

Status copy_in_tree(Context& context, const std::string& from, const std::string& to,
                    const CopyOptions& options) {
  TreeCopy copy(context, options);
  // A plain copy of a link is one of what it leads to; one that preserves moves the link itself.
  EFS_ASSIGN(auto node, Tree(context.peer).find(from, !options.preserve));
  if (node.is_directory() && is_below(to, from))
    return fail(Code::invalid_argument, "a directory cannot be copied into itself");
  EFS_TRY(copy.copy(node, to, 0));
  return copy.sync();
}

}  // namespace efs::tools
