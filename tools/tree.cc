#include "tools/tree.h"

#include <sys/stat.h>

#include <algorithm>

#include "peer/base/hash.h"
#include "tools/path.h"

namespace efs::tools {

namespace {
constexpr uint32_t kListPage = 1024;

Node from_resolved(const control::Resolved& found, std::string path) {
  return {std::move(path), found.volume, found.number, found.attributes};
}
}  // namespace

bool Node::is_directory() const {
  return S_ISDIR(attributes.mode);
}
bool Node::is_file() const {
  return S_ISREG(attributes.mode);
}
bool Node::is_symlink() const {
  return S_ISLNK(attributes.mode);
}

Result<Node> Tree::find(const std::string& path, bool follow) {
  EFS_ASSIGN(auto found, peer_.resolve(path, follow));
  return from_resolved(found, path);
}

Result<std::optional<Node>> Tree::look(const std::string& path, bool follow) {
  auto found = find(path, follow);
  if (found) return std::optional<Node>(std::move(*found));
  if (found.error().code == Code::not_found) return std::optional<Node>();
  return fail(std::move(found.error()));
}

Result<std::vector<TreeEntry>> Tree::list(const Node& directory) {
  std::vector<TreeEntry> result;
  uint64_t cookie = 0;
  for (bool end = false; !end;) {
    ReadDirectory request{directory.attributes.inode, cookie, kListPage, true};
    EFS_ASSIGN(auto reply, peer_.volume(directory.volume, request));
    end = reply.end || reply.entries.empty();
    for (const DirectoryEntry item : reply.entries) {
      cookie = item.cookie;
      if (item.name == "." || item.name == "..") continue;
      // Names become local paths in `get`: what an owner could not have stored is not believed.
      if (item.name.find('/') != std::string::npos)
        return fail(Code::protocol, "the directory has an impossible name in it");
      TreeEntry entry;
      entry.name = item.name;
      entry.node.path = join_path(directory.path, item.name);
      entry.node.volume = directory.volume;
      entry.node.number = directory.number;
      entry.junction = item.junction.has_value();
      if (item.attributes && !entry.junction) {
        entry.node.attributes = *item.attributes;
      } else if (auto found = find(entry.node.path, false)) {
        entry.node = std::move(*found);
      } else {
        entry.node.attributes.mode = item.mode ? item.mode : S_IFDIR;
        entry.error = std::move(found.error());
      }
      result.push_back(std::move(entry));
    }
  }
  // One that vanished between the listing and the look is not there.
  std::erase_if(result, [](const TreeEntry& entry) {
    return entry.error && !entry.junction && entry.error->code == Code::not_found;
  });
  std::sort(result.begin(), result.end(),
            [](const TreeEntry& a, const TreeEntry& b) { return a.name < b.name; });
  return result;
}

Result<std::string> Tree::read_link(const Node& link) {
  EFS_ASSIGN(auto reply, peer_.volume(link.volume, ReadLink{link.attributes.inode}));
  return std::move(reply.text);
}

Result<Bytes> Tree::read(const Node& file, uint64_t offset, uint32_t length) {
  Bytes bytes;
  Read request{file.attributes.inode, offset, length};
  EFS_TRY(peer_.volume(file.volume, request, {}, &bytes));
  if (bytes.size() > length) return fail(Code::protocol, "the peer answered more bytes than were asked for");
  return bytes;
}

Status Tree::write(const Node& file, uint64_t offset, const Bytes& bytes) {
  Write request;
  request.inode = file.attributes.inode;
  request.offset = offset;
  request.crc = crc32c(bytes);
  EFS_TRY(peer_.volume(file.volume, request, bytes));
  return {};
}

Result<std::optional<std::pair<uint64_t, uint64_t>>> Tree::next_data(const Node& file, uint64_t offset) {
  using Range = std::optional<std::pair<uint64_t, uint64_t>>;
  auto begin = peer_.volume(file.volume, SeekData{file.attributes.inode, offset, false});
  if (!begin && begin.error().code == Code::no_device) return Range();
  if (!begin) return fail(std::move(begin.error()));
  auto end = peer_.volume(file.volume, SeekData{file.attributes.inode, begin->offset, true});
  if (!end) return fail(std::move(end.error()));
  return Range({begin->offset, end->offset});
}

Status Tree::sync(const VolumeId& volume, InodeNumber inode) {
  EFS_TRY(peer_.volume(volume, Sync{inode}));
  return {};
}

Result<Node> Tree::create(const std::string& path, uint32_t mode, bool exclusive, const std::string& target) {
  EFS_ASSIGN(auto parent, find(parent_path(path)));
  Create request;
  request.parent = parent.attributes.inode;
  request.name = base_name(path);
  request.mode = mode;
  request.target = target;
  request.exclusive = exclusive;
  EFS_ASSIGN(auto reply, peer_.volume(parent.volume, request));
  return Node{path, parent.volume, parent.number, reply.attributes};
}

Status Tree::set(const Node& node, SetAttributes change) {
  change.inode = node.attributes.inode;
  EFS_TRY(peer_.volume(node.volume, std::move(change)));
  return {};
}

Status Tree::remove(const std::string& path, bool directory) {
  EFS_ASSIGN(auto parent, find(parent_path(path)));
  EFS_TRY(peer_.volume(parent.volume, Unlink{parent.attributes.inode, base_name(path), directory}));
  return {};
}

Status Tree::rename(const std::string& from, const std::string& to) {
  EFS_ASSIGN(auto parent, find(parent_path(from)));
  EFS_ASSIGN(auto new_parent, find(parent_path(to)));
  if (parent.volume != new_parent.volume) return fail(Code::cross_volume);
  Rename request;
  request.parent = parent.attributes.inode;
  request.name = base_name(from);
  request.new_parent = new_parent.attributes.inode;
  request.new_name = base_name(to);
  EFS_TRY(peer_.volume(parent.volume, request));
  return {};
}

Status Tree::link(const Node& file, const std::string& path) {
  EFS_ASSIGN(auto parent, find(parent_path(path)));
  if (parent.volume != file.volume) return fail(Code::cross_volume);
  EFS_TRY(peer_.volume(parent.volume, Link{file.attributes.inode, parent.attributes.inode, base_name(path)}));
  return {};
}

}  // namespace efs::tools
