// The model: what the calls do, on nodes in memory. As root; the order in which errors are found is Linux's.
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/xattr.h>

#include <algorithm>
#include <map>
#include <optional>

#include "test/model/model.h"

namespace model {

namespace {

struct Node;
using NodePtr = std::shared_ptr<Node>;
struct Node {
  char type = 'f';  // f, d, l, p
  uint32_t mode = 0644;
  uint32_t links = 1;
  std::string content;  // or a symbolic link's target
  std::map<std::string, NodePtr> entries;
  std::map<std::string, std::string> xattrs;
};

struct Place {
  int error = 0;
  NodePtr directory;
  std::string name;
  NodePtr node;                // nothing: absent
  std::vector<NodePtr> above;  // from the root to `directory`
};

struct Slot {
  NodePtr node;
  bool append = false;
};

std::string failed(int number) {
  return strerrorname_np(number);
}

class Memory final : public Runner {
 public:
  std::string run(const Operation& operation) override;
  std::string dump() override {
    std::string out;
    dump(*root_, "", out);
    return out;
  }

 private:
  Place walk(const std::string& path, bool follow) const;
  // A name that is to be made: Linux's filename_create.
  Place make_place(const std::string& path) const {
    Place place = walk(path, false);
    if (!place.error && place.node) place.error = EEXIST;
    return place;
  }
  static void put(std::string& content, uint64_t offset, const std::string& bytes) {
    if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size());
    content.replace(offset, bytes.size(), bytes);
  }
  static std::string status(const Node& node);
  static void dump(const Node& directory, const std::string& prefix, std::string& out);

  std::string open(const Operation& operation);
  std::string on_slot(const Operation& operation);
  std::string on_path(const Operation& operation);
  std::string rename(const Operation& operation);
  std::string xattr(const Operation& operation);
  std::string fallocate(const Operation& operation, Node& node);
  std::string copy(const Operation& operation);
  std::string add(const Place& place, NodePtr node);

  NodePtr root_ = [] {
    auto root = std::make_shared<Node>();
    root->type = 'd';
    root->mode = 0755;
    root->links = 2;
    return root;
  }();
  std::array<Slot, kSlots> slots_;
};

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

Place Memory::walk(const std::string& path, bool follow) const {
  Place place;
  place.above = {root_};
  std::vector<std::string> parts = split(path);
  int links = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const NodePtr at = place.above.back();
    const bool last = i + 1 == parts.size();
    if (at->type != 'd') return {ENOTDIR, {}, {}, {}, {}};
    auto found = at->entries.find(parts[i]);
    const NodePtr next = found == at->entries.end() ? nullptr : found->second;
    if (next && next->type == 'l' && (!last || follow)) {
      if (++links > 40) return {ELOOP, {}, {}, {}, {}};
      auto through = split(next->content);
      through.insert(through.end(), parts.begin() + ptrdiff_t(i) + 1, parts.end());
      parts = std::move(through);
      i = size_t(-1);
      continue;
    }
    if (last) {
      place.directory = at;
      place.name = parts[i];
      place.node = next;
      return place;
    }
    if (!next) return {ENOENT, {}, {}, {}, {}};
    place.above.push_back(next);
  }
  return place;
}

std::string Memory::status(const Node& node) {
  std::string out(1, node.type);
  out += " " + std::to_string(node.mode) + " links " + std::to_string(node.links);
  if (node.type != 'd') out += " size " + std::to_string(node.content.size());
  return out;
}

void Memory::dump(const Node& directory, const std::string& prefix, std::string& out) {
  for (const auto& [name, node] : directory.entries) {
    out += prefix + name + " " + status(*node);
    if (node->type == 'f' || node->type == 'l') out += " " + describe(node->content);
    for (const auto& [key, value] : node->xattrs) out += " " + key + "=" + value;
    out += "\n";
    if (node->type == 'd') dump(*node, prefix + name + "/", out);
  }
}

std::string Memory::add(const Place& place, NodePtr node) {
  if (place.error) return failed(place.error);
  if (node->type == 'd') ++place.directory->links;
  place.directory->entries[place.name] = std::move(node);
  return "ok";
}

std::string Memory::open(const Operation& operation) {
  Slot& slot = slots_[operation.slot];
  slot = {};
  const bool exclusive = (operation.flags & O_EXCL) != 0;
  Place place = walk(operation.path, !exclusive);
  if (place.error) return failed(place.error);
  if (place.node && exclusive) return failed(EEXIST);
  if (place.node && place.node->type == 'p') return "fifo";
  if (place.node && place.node->type == 'd') return failed(EISDIR);
  if (!place.node) {
    if ((operation.flags & O_CREAT) == 0) return failed(ENOENT);
    place.node = std::make_shared<Node>();
    add(place, place.node);
  }
  if (operation.flags & O_TRUNC) place.node->content.clear();
  slot = {place.node, (operation.flags & O_APPEND) != 0};
  return "ok";
}

std::string Memory::fallocate(const Operation& operation, Node& node) {
  const uint64_t end = uint64_t(operation.offset) + operation.length;
  std::string& content = node.content;
  if (operation.flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
    for (uint64_t at = operation.offset; at < std::min<uint64_t>(end, content.size()); ++at) content[at] = 0;
  }
  if (!(operation.flags & FALLOC_FL_KEEP_SIZE) && content.size() < end) content.resize(end);
  return "ok";
}

std::string Memory::copy(const Operation& operation) {
  Slot &from = slots_[operation.slot], &to = slots_[operation.slot2];
  if (!to.node) return "closed";
  if (to.append) return failed(EBADF);
  const uint64_t size = from.node->content.size();
  const uint64_t length =
      operation.offset >= size ? 0 : std::min<uint64_t>(operation.length, size - operation.offset);
  if (from.node == to.node && operation.offset2 + length > operation.offset &&
      operation.offset2 < operation.offset + length)
    return failed(EINVAL);
  if (length != 0)
    put(to.node->content, operation.offset2, from.node->content.substr(operation.offset, length));
  return std::to_string(length);
}

std::string Memory::on_slot(const Operation& operation) {
  Slot& slot = slots_[operation.slot];
  if (!slot.node) return "closed";
  std::string& content = slot.node->content;
  switch (operation.kind) {
    case Kind::close:
      slot = {};
      return "ok";
    case Kind::write:
      put(content, slot.append ? content.size() : operation.offset,
          bytes_of(operation.seed, operation.length));
      return std::to_string(operation.length);
    case Kind::read:
      return describe(operation.offset < content.size() ? content.substr(operation.offset, operation.length)
                                                        : "");
    case Kind::ftruncate:
      content.resize(operation.offset);
      return "ok";
    case Kind::fallocate:
      return fallocate(operation, *slot.node);
    case Kind::copy:
      return copy(operation);
    case Kind::map_write:
      if (operation.offset >= content.size()) return "beyond";
      content[operation.offset] = char(operation.seed);
      return "ok";
    case Kind::fstat:
      return status(*slot.node);
    case Kind::seek:
    default:
      return "ok";
  }
}

// do_renameat2 and vfs_rename (fs/namei.c): which error comes first.
std::string Memory::rename(const Operation& operation) {
  const bool exchange = (operation.flags & RENAME_EXCHANGE) != 0;
  const Place from = walk(operation.path, false), to = walk(operation.other, false);
  if (from.error || to.error) return failed(from.error ? from.error : to.error);
  if (!from.node) return failed(ENOENT);
  if ((operation.flags & RENAME_NOREPLACE) && to.node) return failed(EEXIST);
  if (exchange && !to.node) return failed(ENOENT);
  const auto is_above = [](const NodePtr& node, const Place& place) {
    return std::find(place.above.begin(), place.above.end(), node) != place.above.end();
  };
  if (is_above(from.node, to)) return failed(EINVAL);
  if (to.node && is_above(to.node, from)) return failed(exchange ? EINVAL : ENOTEMPTY);
  if (from.node == to.node) return "ok";
  const bool moves = from.node->type == 'd', replaces = to.node && to.node->type == 'd';
  if (exchange) {
    from.directory->links += unsigned(replaces) - unsigned(moves);
    to.directory->links += unsigned(moves) - unsigned(replaces);
    std::swap(from.directory->entries[from.name], to.directory->entries[to.name]);
    return "ok";
  }
  if (to.node && moves && !replaces) return failed(ENOTDIR);
  if (to.node && !moves && replaces) return failed(EISDIR);
  if (replaces && !to.node->entries.empty()) return failed(ENOTEMPTY);
  if (replaces) {
    to.node->links = 0;
    --to.directory->links;
  } else if (to.node) {
    --to.node->links;
  }
  from.directory->entries.erase(from.name);
  to.directory->entries[to.name] = from.node;
  from.directory->links -= moves;
  to.directory->links += moves;
  return "ok";
}

std::string Memory::xattr(const Operation& operation) {
  const Place place = walk(operation.path, true);
  if (place.error) return failed(place.error);
  if (!place.node) return failed(ENOENT);
  Node& node = *place.node;
  const std::string name = "user." + operation.other.substr(0, 1);
  const bool may = node.type == 'f' || node.type == 'd', has = node.xattrs.contains(name);
  switch (operation.kind) {
    case Kind::set_xattr:
      if (!may) return failed(EPERM);
      if (has && (operation.flags & XATTR_CREATE)) return failed(EEXIST);
      if (!has && (operation.flags & XATTR_REPLACE)) return failed(ENODATA);
      node.xattrs[name] = std::to_string(operation.seed);
      return "ok";
    case Kind::get_xattr:
      return has ? node.xattrs[name] : failed(ENODATA);
    case Kind::remove_xattr:
      if (!may) return failed(EPERM);
      return node.xattrs.erase(name) ? "ok" : failed(ENODATA);
    default: {
      std::string out;
      for (const auto& [key, value] : node.xattrs) out += key + " ";
      return out;
    }
  }
}

std::string Memory::on_path(const Operation& operation) {
  const auto make = [](char type, uint32_t mode, uint32_t links, std::string content = {}) {
    auto node = std::make_shared<Node>();
    node->type = type;
    node->mode = mode;
    node->links = links;
    node->content = std::move(content);
    return node;
  };
  if (operation.kind == Kind::mkdir) return add(make_place(operation.path), make('d', 0755, 2));
  if (operation.kind == Kind::mkfifo) return add(make_place(operation.path), make('p', 0644, 1));
  if (operation.kind == Kind::symlink)
    return add(make_place(operation.path), make('l', 0777, 1, operation.other));
  if (operation.kind == Kind::link) {
    const Place from = walk(operation.path, false);
    if (from.error || !from.node) return failed(from.error ? from.error : ENOENT);
    const Place to = make_place(operation.other);
    if (to.error) return failed(to.error);
    if (from.node->type == 'd') return failed(EPERM);
    ++from.node->links;
    return add(to, from.node);
  }
  const bool follows = operation.kind == Kind::truncate || operation.kind == Kind::chmod ||
                       operation.kind == Kind::list ||
                       (operation.kind == Kind::stat && (operation.flags & 1));
  const Place place = walk(operation.path, follows);
  if (place.error || !place.node) return failed(place.error ? place.error : ENOENT);
  Node& node = *place.node;
  switch (operation.kind) {
    case Kind::stat:
      return status(node);
    case Kind::chmod:
      node.mode = operation.flags & 0777;
      return "ok";
    case Kind::readlink:
      return node.type == 'l' ? node.content : failed(EINVAL);
    case Kind::truncate:
      if (node.type != 'f') return failed(node.type == 'd' ? EISDIR : EINVAL);
      node.content.resize(operation.offset);
      return "ok";
    case Kind::list: {
      if (node.type != 'd') return failed(ENOTDIR);
      std::string out;
      for (const auto& [name, entry] : node.entries) out += name + entry->type + " ";
      return out;
    }
    case Kind::unlink:
      if (node.type == 'd') return failed(EISDIR);
      --node.links;
      place.directory->entries.erase(place.name);
      return "ok";
    default:  // rmdir
      if (node.type != 'd') return failed(ENOTDIR);
      if (!node.entries.empty()) return failed(ENOTEMPTY);
      --place.directory->links;
      place.directory->entries.erase(place.name);
      return "ok";
  }
}

std::string Memory::run(const Operation& operation) {
  if (operation.kind == Kind::open) return open(operation);
  if (operation.kind == Kind::rename) return rename(operation);
  if (operation.kind >= Kind::set_xattr) return xattr(operation);
  if (operation.kind <= Kind::fstat) return on_slot(operation);
  return on_path(operation);
}

}  // namespace

std::unique_ptr<Runner> make_model() {
  return std::make_unique<Memory>();
}

}  // namespace model
