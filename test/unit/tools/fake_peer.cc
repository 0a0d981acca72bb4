#include "test/unit/tools/fake_peer.h"

#include <sys/stat.h>

#include "tools/path.h"

namespace efs::tools {

namespace {

template <typename T>
Result<RawAnswer> encoded(const T& value, Bytes payload = {}) {
  return RawAnswer{encode(value), std::move(payload)};
}

Reply failure(Code code) {
  Reply reply;
  reply.code = code;
  return reply;
}

}  // namespace

FakePeer::FakePeer() {
  welcome.mesh_name = "acme";
  welcome.peer_name = "first";
  welcome.may_change = true;
  add(VolumeId{}, S_IFDIR | 0755, "");
}

uint64_t FakePeer::add(const VolumeId& volume, uint32_t mode, const std::string& content) {
  uint64_t number = next_++;
  FakeInode& made = inodes_[number];
  made.volume = volume;
  made.content = content;
  made.attributes.inode = number;
  made.attributes.mode = mode;
  made.attributes.nlink = 1;
  made.attributes.size = content.size();
  made.attributes.blocks = (content.size() + 511) / 512;
  return number;
}

FakeInode* FakePeer::inode(const VolumeId& volume, InodeNumber number) {
  auto found = inodes_.find(number);
  return found == inodes_.end() || found->second.volume != volume ? nullptr : &found->second;
}

uint64_t FakePeer::walk(const std::string& path, bool follow, int depth, Code& code) {
  uint64_t at = 1;
  if (depth > 8) return code = Code::loop, 0;
  std::string so_far;
  for (size_t begin = 1; begin < path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    FakeInode& here = inodes_[at];
    if (!S_ISDIR(here.attributes.mode)) return code = Code::not_directory, 0;
    auto entry = here.entries.find(path.substr(begin, end - begin));
    if (entry == here.entries.end()) return code = Code::not_found, 0;
    FakeInode& next = inodes_[entry->second];
    if (S_ISLNK(next.attributes.mode) && (follow || end < path.size())) {
      std::string target = absolute_path(so_far.empty() ? "/" : so_far, next.content);
      return walk(end < path.size() ? target + path.substr(end) : target, follow, depth + 1, code);
    }
    at = entry->second;
    so_far = path.substr(0, end);
    begin = end + 1;
  }
  return at;
}

Result<RawAnswer> FakePeer::resolve(const control::ResolvePath& wanted) {
  if (denied.contains(wanted.path)) return fail(Code::access_denied);
  if (unreachable.contains(wanted.path)) return fail(Code::unreachable);
  Code code = Code::ok;
  uint64_t number = walk(wanted.path, wanted.follow, 0, code);
  if (!number) return fail(code);
  control::Resolved found;
  found.volume = inodes_[number].volume;
  found.number = found.volume[0];
  found.prefix = found.number ? "/other" : "/";
  found.path = wanted.path;
  found.attributes = inodes_[number].attributes;
  return encoded(found);
}

uint64_t FakePeer::make(const std::string& path, uint32_t mode, const std::string& content) {
  FakeInode* parent = find(parent_path(path));
  uint64_t number = add(parent->volume, mode, content);
  find(parent_path(path))->entries[base_name(path)] = number;
  return number;
}

uint64_t FakePeer::make_volume(const std::string& path) {
  uint64_t number = make(path, S_IFDIR | 0755);
  inodes_[number].volume[0] = 1;
  return number;
}

FakeInode* FakePeer::find(const std::string& path) {
  Code code = Code::ok;
  uint64_t number = walk(path, false, 0, code);
  return number ? &inodes_[number] : nullptr;
}

std::string FakePeer::content(const std::string& path) {
  FakeInode* found = find(path);
  return found ? found->content : "(not there)";
}

namespace {

// The volume's side of each request, as far as the tools use it.
struct Server {
  std::map<uint64_t, FakeInode>& inodes;
  std::function<uint64_t(uint32_t mode, const std::string& content)> add;
  const VolumeId& volume;
  const Bytes& payload;
  Bytes& out;
  int& syncs;

  FakeInode* at(InodeNumber number) {
    auto found = inodes.find(number);
    return found == inodes.end() || found->second.volume != volume ? nullptr : &found->second;
  }
  Reply operator()(const ReadDirectory& request) {
    FakeInode* directory = at(request.inode);
    if (!directory) return failure(Code::stale);
    Reply reply;
    uint64_t cookie = 0;
    for (const auto& [name, number] : directory->entries) {
      if (++cookie <= request.cookie) continue;
      if (reply.entries.size() == 2) return reply;  // small pages, so that tests cross them
      FakeInode& child = inodes[number];
      DirectoryEntry entry{name, cookie, number, child.attributes.mode, child.attributes, {}};
      if (child.volume != volume) {
        entry.attributes.reset();
        entry.junction = Junction{child.volume, child.volume[0]};
      }
      reply.entries.add(entry);
    }
    reply.end = true;
    return reply;
  }
  Reply operator()(const ReadLink& request) {
    Reply reply;
    reply.text = at(request.inode)->content;
    return reply;
  }
  Reply operator()(const Read& request) {
    const std::string& content = at(request.inode)->content;
    std::string part = request.offset < content.size() ? content.substr(request.offset, request.length) : "";
    out.assign(part.begin(), part.end());
    return {};
  }
  Reply operator()(const Write& request) {
    FakeInode* file = at(request.inode);
    if (file->content.size() < request.offset + payload.size())
      file->content.resize(request.offset + payload.size());
    std::copy(payload.begin(), payload.end(), file->content.begin() + ptrdiff_t(request.offset));
    file->attributes.size = file->content.size();
    return {};
  }
  // Blocks of zeros of 1 MiB are holes.
  Reply operator()(const SeekData& request) {
    const std::string& content = at(request.inode)->content;
    if (request.offset >= content.size()) return failure(Code::no_device);
    constexpr size_t kBlock = 1 << 20;
    auto is_hole = [&](size_t block) {
      return content.find_first_not_of('\0', block * kBlock) >=
             std::min((block + 1) * kBlock, content.size());
    };
    Reply reply;
    reply.offset = request.offset;
    while (reply.offset < content.size() && is_hole(reply.offset / kBlock) != request.hole)
      reply.offset = (reply.offset / kBlock + 1) * kBlock;
    if (reply.offset >= content.size()) {
      if (!request.hole) return failure(Code::no_device);
      reply.offset = content.size();
    }
    return reply;
  }
  Reply operator()(const Sync&) {
    ++syncs;
    return {};
  }
  Reply operator()(const Create& request) {
    FakeInode* parent = at(request.parent);
    if (!parent) return failure(Code::stale);
    Reply reply;
    auto found = parent->entries.find(request.name);
    if (found != parent->entries.end()) {
      FakeInode& there = inodes[found->second];
      if (request.exclusive || !S_ISREG(there.attributes.mode)) return failure(Code::exists);
      reply.attributes = there.attributes;
      return reply;
    }
    uint64_t number = add(request.mode, request.target);
    at(request.parent)->entries[request.name] = number;
    reply.attributes = inodes[number].attributes;
    reply.created = true;
    return reply;
  }
  Reply operator()(const Link& request) {
    at(request.parent)->entries[request.name] = request.inode;
    ++at(request.inode)->attributes.nlink;
    return {};
  }
  Reply operator()(const Unlink& request) {
    FakeInode* parent = at(request.parent);
    auto found = parent->entries.find(request.name);
    if (found == parent->entries.end()) return failure(Code::not_found);
    FakeInode& there = inodes[found->second];
    if (S_ISDIR(there.attributes.mode) != request.directory)
      return failure(request.directory ? Code::not_directory : Code::is_directory);
    if (request.directory && !there.entries.empty()) return failure(Code::not_empty);
    parent->entries.erase(found);
    return {};
  }
  Reply operator()(const Rename& request) {
    FakeInode* parent = at(request.parent);
    auto found = parent->entries.find(request.name);
    if (found == parent->entries.end()) return failure(Code::not_found);
    uint64_t number = found->second;
    parent->entries.erase(found);
    at(request.new_parent)->entries[request.new_name] = number;
    return {};
  }
  Reply operator()(const SetAttributes& request) {
    FakeInode* file = at(request.inode);
    Attributes& a = file->attributes;
    if (request.mode) a.mode = (a.mode & S_IFMT) | *request.mode;
    if (request.uid) a.uid = *request.uid;
    if (request.gid) a.gid = *request.gid;
    if (request.size) file->content.resize(a.size = *request.size);
    if (request.mtime_ns) a.mtime_ns = *request.mtime_ns;
    if (request.mtime_now) a.mtime_ns = 42;
    return {};
  }
  template <typename Other>
  Reply operator()(const Other&) {
    return failure(Code::unsupported);
  }
};

}  // namespace

Reply FakePeer::serve(const Request& request, const Bytes& payload, Bytes& out) {
  auto add_here = [&](uint32_t mode, const std::string& content) {
    return add(request.volume, mode, content);
  };
  return std::visit(Server{inodes_, add_here, request.volume, payload, out, syncs}, request.body);
}

Result<RawAnswer> FakePeer::answer(uint16_t kind, const Bytes& body, const Bytes& payload) {
  if (kind == control::kHello) return encoded(welcome);
  if (kind == control::kResolve) {
    EFS_ASSIGN(auto wanted, decode<control::ResolvePath>(body));
    return resolve(wanted);
  }
  if (kind == control::kVolume) {
    EFS_ASSIGN(auto request, decode<Request>(body));
    Bytes out;
    Reply reply = serve(request, payload, out);
    return encoded(reply, std::move(out));
  }
  if (kind == control::kCommand) {
    EFS_ASSIGN(auto command, decode<control::Command>(body));
    commands.emplace_back(command.name, nlohmann::json::parse(command.arguments));
    if (auto error = errors.find(command.name); error != errors.end()) return fail(error->second);
    return encoded(control::CommandResult{to_json_text(results[command.name])});
  }
  if (kind == control::kRegister) {
    EFS_ASSIGN(auto wanted, decode<control::ReadRegister>(body));
    control::RegisterEntries page;
    for (size_t i = wanted.from; i < register_entries.size() && page.entries.size() < 2; ++i)
      page.entries.push_back(register_entries[i]);
    page.next_index = register_entries.size();
    return encoded(page);
  }
  if (kind == control::kPropose) {
    EFS_ASSIGN(auto proposal, decode<control::Propose>(body));
    proposals.push_back(std::move(proposal));
    if (propose_error) return fail(*propose_error);
    return encoded(control::Proposed{register_entries.size()});
  }
  return fail(Code::unsupported);
}

}  // namespace efs::tools
