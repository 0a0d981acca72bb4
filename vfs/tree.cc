// A path is walked one name at a time, each at the owner of its directory's volume: a step machine (Walk)
// that goes on in the answer to each question. A volume that cannot be reached is bridged by the register if
// the name leads on to another volume; else its error ends the walk.
#include "vfs/tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <deque>

#include "vfs/limits.h"

namespace efs {

namespace {

bool cannot_ask(Code code) {
  return code == Code::unreachable || code == Code::timed_out || code == Code::closed ||
         code == Code::not_owner;
}

Error error_of(const Reply& reply) {
  return Error{reply.code, reply.message};
}

}  // namespace

std::optional<VolumeTree::Bridge> VolumeTree::bridge(VolumeNumber volume, InodeNumber directory,
                                                     const std::string& name) {
  const auto places = directory_.places();
  size_t depth = 0;  // of the parent volume's prefix
  for (const VolumePlace& place : *places) {
    if (place.number == volume) depth = place.path.size();
  }
  for (const VolumePlace& place : *places) {
    if (place.parent != volume || place.number == volume || place.path.size() <= depth) continue;
    const size_t steps = place.path.size() - depth;
    if (place.ancestors.size() != steps) continue;
    for (size_t i = 0; i < steps; ++i) {
      if (place.ancestors[i] != directory || place.path[depth + i] != name) continue;
      if (i + 1 == steps) return Bridge{Junction{place.id, place.number}, kRootInode};
      return Bridge{std::nullopt, place.ancestors[i + 1]};
    }
  }
  return std::nullopt;
}

bool VolumeTree::on_the_way(VolumeNumber volume, InodeNumber inode) {
  const auto places = directory_.places();
  return std::any_of(places->begin(), places->end(), [&](const VolumePlace& place) {
    return place.parent == volume && place.number != volume &&
           std::find(place.ancestors.begin(), place.ancestors.end(), inode) != place.ancestors.end();
  });
}

std::optional<uint64_t> VolumeTree::above(uint64_t global) {
  if (inode_of(global) != kRootInode || volume_of(global) == kRootVolume) return std::nullopt;
  for (const VolumePlace& place : *directory_.places()) {
    if (place.number == volume_of(global) && !place.ancestors.empty())
      return global_inode(place.parent, place.ancestors.back());
  }
  return std::nullopt;
}

TreeNode VolumeTree::assume(std::shared_ptr<VolumeClient> volume, InodeNumber inode) {
  TreeNode node;
  node.assumed = true;
  {
    std::lock_guard lock(mutex_);
    if (auto found = last_seen_.find(global_inode(volume->number(), inode)); found != last_seen_.end())
      node.attributes = found->second;
  }
  if (node.attributes.inode == 0) {
    node.attributes.inode = inode;
    node.attributes.mode = S_IFDIR | 0755;
    node.attributes.nlink = 2;
  }
  node.volume = std::move(volume);
  return node;
}

void VolumeTree::remember(VolumeNumber volume, const Attributes& attributes) {
  if (!S_ISDIR(attributes.mode) || !on_the_way(volume, attributes.inode)) return;
  std::lock_guard lock(mutex_);
  last_seen_[global_inode(volume, attributes.inode)] = attributes;
}

bool VolumeTree::is_down(VolumeNumber volume) {
  std::lock_guard lock(mutex_);
  auto found = down_until_.find(volume);
  return found != down_until_.end() && found->second > clock_.now_ns();
}

void VolumeTree::set_down(VolumeNumber volume, bool down) {
  std::lock_guard lock(mutex_);
  if (down) {
    down_until_[volume] = clock_.now_ns() + kDownFor;
  } else {
    down_until_.erase(volume);
  }
}

void VolumeTree::enter(const Credentials& who, const Junction& junction, const Options& options,
                       NodeDone done) {
  attributes(who, global_inode(junction.number, kRootInode), options, std::move(done));
}

void VolumeTree::attributes(const Credentials& who, uint64_t node, const Options& options, NodeDone done) {
  auto volume = directory_.client(volume_of(node));
  if (!volume) return done(fail(Code::unreachable));  // it is somewhere, and nobody serves it
  const InodeNumber inode = inode_of(node);
  Options patience = options;
  const bool bridged = !volume->local() && on_the_way(volume->number(), inode);
  if (bridged) {
    if (is_down(volume->number())) return done(assume(volume, inode));
    patience.timeout_ns = kFallbackPatience;
  }
  volume->call(who, GetAttributes{inode}, {}, patience,
               [this, volume, inode, bridged, done = std::move(done)](VolumeAnswer answer) {
                 if (bridged && cannot_ask(answer.reply.code)) {
                   set_down(volume->number(), true);
                   return done(assume(volume, inode));
                 }
                 if (answer.reply.code != Code::ok) return done(fail(error_of(answer.reply)));
                 if (bridged) {
                   set_down(volume->number(), false);
                   remember(volume->number(), answer.reply.attributes);
                 }
                 done(TreeNode{volume, std::move(answer.reply.attributes), false, answer.reply.lease});
               });
}

void VolumeTree::lookup(const Credentials& who, uint64_t directory, const std::string& name,
                        const Options& options, NodeDone done) {
  auto volume = directory_.client(volume_of(directory));
  if (!volume) return done(fail(Code::stale));
  const InodeNumber parent = inode_of(directory);
  std::optional<Bridge> over;
  if (!volume->local()) over = bridge(volume->number(), parent, name);
  auto cross = [this, who, options, volume, done](const Bridge& by) {
    if (by.junction) return enter(who, *by.junction, options, done);
    done(assume(volume, by.inode));
  };
  if (over && is_down(volume->number())) return cross(*over);
  Options patience = options;
  if (over) patience.timeout_ns = kFallbackPatience;
  volume->call(who, Lookup{parent, name}, {}, patience,
               [this, who, volume, options, over, cross, done = std::move(done)](VolumeAnswer answer) {
                 if (over && cannot_ask(answer.reply.code)) {
                   set_down(volume->number(), true);
                   return cross(*over);
                 }
                 const uint8_t lease = answer.reply.lease;
                 if (answer.reply.code == Code::not_found) return done(TreeNode{nullptr, {}, false, lease});
                 if (answer.reply.code != Code::ok) return done(fail(error_of(answer.reply)));
                 if (over) set_down(volume->number(), false);
                 if (answer.reply.junction) {
                   return enter(who, *answer.reply.junction, options, [lease, done](Result<TreeNode> node) {
                     if (node)
                       node->lease = uint8_t((node->lease & ~kLeaseDirectory) | (lease & kLeaseDirectory));
                     done(std::move(node));
                   });
                 }
                 if (over) remember(volume->number(), answer.reply.attributes);
                 done(TreeNode{volume, std::move(answer.reply.attributes), false, lease});
               });
}

// ---- paths ----

Result<std::vector<std::string>> split_path(const std::string& path) {
  if (path.size() > kMaxPath) return fail(Code::too_large, "the path is longer than 65536 bytes");
  std::vector<std::string> names;
  for (size_t from = 0; from < path.size();) {
    const size_t to = std::min(path.find('/', from), path.size());
    std::string name = path.substr(from, to - from);
    from = to + 1;
    if (name.empty() || name == ".") continue;
    if (name.size() > kMaxName)
      return fail(Code::name_too_long, "a name in " + path + " is longer than 255 bytes");
    names.push_back(std::move(name));
  }
  return names;
}

std::string join_path(const std::vector<std::string>& names) {
  if (names.empty()) return "/";
  std::string path;
  for (const std::string& name : names) path += "/" + name;
  return path;
}

struct VolumeTree::Walk {
  VolumeTree& tree;
  Credentials who;
  Options options;
  bool follow = true;
  std::deque<std::string> rest;
  std::vector<TreeNode> nodes;     // from the root to where we are
  std::vector<std::string> names;  // of nodes[1..]
  unsigned links = 0;
  std::function<void(Result<ResolvedPath>)> done;
};

void VolumeTree::resolve(const std::string& path, const Credentials& who, bool follow, const Options& options,
                         std::function<void(Result<ResolvedPath>)> done) {
  auto names = split_path(path);
  if (!names) return done(fail(std::move(names.error())));
  auto walk = std::make_shared<Walk>(Walk{*this, who, options, follow, {}, {}, {}, 0, std::move(done)});
  walk->rest.assign(names->begin(), names->end());
  attributes(who, global_inode(kRootVolume, kRootInode), options, [walk](Result<TreeNode> root) {
    if (!root) return walk->done(fail(std::move(root.error())));
    walk->nodes.push_back(std::move(*root));
    step(walk);
  });
}

void VolumeTree::step(const std::shared_ptr<Walk>& walk) {
  while (!walk->rest.empty() && walk->rest.front() == "..") {
    walk->rest.pop_front();
    if (walk->nodes.size() == 1) continue;
    walk->nodes.pop_back();
    walk->names.pop_back();
  }
  if (walk->rest.empty()) {
    return walk->done(ResolvedPath{walk->nodes.back(), join_path(walk->names)});
  }
  std::string name = std::move(walk->rest.front());
  walk->rest.pop_front();
  const TreeNode& at = walk->nodes.back();
  if (!S_ISDIR(at.attributes.mode))
    return walk->done(fail(Code::not_directory, join_path(walk->names) + " is not a directory"));
  const bool last = walk->rest.empty();
  walk->tree.lookup(walk->who, at.global(), name, walk->options, [walk, name, last](Result<TreeNode> node) {
    if (node && !node->volume) node = fail(Code::not_found);
    if (!node) {
      Error error = std::move(node.error());
      if (error.message.empty())
        error.message = join_path(walk->names) + (walk->names.empty() ? "" : "/") + name + ": " +
                        std::string(name_of(error.code));
      return walk->done(fail(std::move(error)));
    }
    arrived(walk, name, last, std::move(*node));
  });
}

void VolumeTree::arrived(const std::shared_ptr<Walk>& walk, std::string name, bool last, TreeNode node) {
  if (S_ISLNK(node.attributes.mode) && (!last || walk->follow)) return follow_link(walk, node);
  walk->nodes.push_back(std::move(node));
  walk->names.push_back(std::move(name));
  step(walk);
}

void VolumeTree::follow_link(const std::shared_ptr<Walk>& walk, const TreeNode& link) {
  if (++walk->links > kMaxSymlinks)
    return walk->done(fail(Code::loop, "too many symbolic links below " + join_path(walk->names)));
  link.volume->call(walk->who, ReadLink{link.inode()}, {}, walk->options, [walk](VolumeAnswer answer) {
    if (answer.reply.code != Code::ok) return walk->done(fail(error_of(answer.reply)));
    auto names = split_path(answer.reply.text);
    if (!names) return walk->done(fail(std::move(names.error())));
    if (answer.reply.text.starts_with('/')) {
      walk->nodes.resize(1);
      walk->names.clear();
    }
    walk->rest.insert(walk->rest.begin(), names->begin(), names->end());
    step(walk);
  });
}

void VolumeTree::resolve_parent(const std::string& path, const Credentials& who, const Options& options,
                                std::function<void(Result<ResolvedParent>)> done) {
  auto names = split_path(path);
  if (!names) return done(fail(std::move(names.error())));
  if (names->empty() || names->back() == "..")
    return done(fail(Code::invalid_argument, path + " has no last name to work on"));
  std::string name = std::move(names->back());
  names->pop_back();
  resolve(join_path(*names), who, true, options,
          [name = std::move(name), done = std::move(done)](Result<ResolvedPath> found) {
            if (!found) return done(fail(std::move(found.error())));
            if (!S_ISDIR(found->node.attributes.mode))
              return done(fail(Code::not_directory, found->path + " is not a directory"));
            done(ResolvedParent{std::move(found->node), std::move(found->path), name});
          });
}

}  // namespace efs
