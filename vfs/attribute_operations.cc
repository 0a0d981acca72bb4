// FUSE: attributes. getattr, setattr, extended attributes, statfs.
#include <sys/statvfs.h>

#include "peer/volume/xattr_names.h"
#include "vfs/session.h"

namespace efs {

namespace {

constexpr const char* kLabel = "security.selinux";

// What this mount removed may still be somebody's working directory.
void unknown_attributes(const RequestPtr& request, fuse_ino_t node, const Error& error) {
  MountSession& session = request->session();
  const auto last = error.code == Code::stale ? session.removed.find(node) : std::nullopt;
  auto client = last ? session.client(node) : nullptr;
  if (!client) return void(request->path_error(error.code));
  session.reply_attributes(request, client, *last, 0);
}

void op_getattr(fuse_req_t req, fuse_ino_t node, fuse_file_info*) {
  auto request = begin(req);
  request->walks();
  auto client = request->session().client(node);
  if (!client) return void(request->error(Code::stale));
  if (!client->local()) request->listen(client);
  request->session().tree.attributes(
      request->who(), node, request->options(), [request, node](Result<TreeNode> found) {
        if (!found) return unknown_attributes(request, node, found.error());
        request->session().reply_attributes(request, found->volume, found->attributes, found->lease);
      });
}

// The nearest that can be kept: years 1677 to 2262.
int64_t to_ns(const timespec& time) {
  constexpr int64_t kMost = INT64_MAX / kSecond - 1;
  if (time.tv_sec > kMost) return kMost * kSecond;
  if (time.tv_sec < -kMost) return -kMost * kSecond;
  return int64_t(time.tv_sec) * kSecond + time.tv_nsec;
}

SetAttributes wanted(fuse_ino_t node, const struct stat& to, int valid, bool has_handle) {
  SetAttributes body;
  body.inode = inode_of(node);
  if (valid & FUSE_SET_ATTR_MODE) body.mode = to.st_mode & 07777;
  if (valid & FUSE_SET_ATTR_UID) body.uid = to.st_uid;
  if (valid & FUSE_SET_ATTR_GID) body.gid = to.st_gid;
  if (valid & FUSE_SET_ATTR_SIZE) body.size = uint64_t(to.st_size);
  body.atime_now = (valid & FUSE_SET_ATTR_ATIME_NOW) != 0;
  body.mtime_now = (valid & FUSE_SET_ATTR_MTIME_NOW) != 0;
  if ((valid & FUSE_SET_ATTR_ATIME) && !body.atime_now) body.atime_ns = to_ns(to.st_atim);
  if ((valid & FUSE_SET_ATTR_MTIME) && !body.mtime_now) body.mtime_ns = to_ns(to.st_mtim);
  body.has_write_handle = has_handle;
  body.clear_suid = (valid & FUSE_SET_ATTR_KILL_SUID) != 0;  // FATTR_KILL_SUIDGID
  return body;
}

void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat* to, int valid, fuse_file_info* info) {
  auto request = begin(req);
  const SetAttributes body = wanted(node, *to, valid, info != nullptr);
  auto file = request->session().files->find(node);
  auto apply = [request, node, body, file] {
    auto client = request->session().client(node);
    request->session().call(request, client, body, [request, client, body, file](VolumeAnswer& answer) {
      if (file) file->own_change(answer.reply);
      if (file && body.size) file->forget_written(*body.size, UINT64_MAX);
      // The kernel takes these attributes as they are, also when news has overtaken them: not to be kept.
      request->session().reply_attributes(request, client, answer.reply.attributes, 0);
    });
  };
  // Its close sends them: of a file that nobody has open any more they would wait here.
  if (auto shared = request->session().files->share(node)) {
    Attributes shown;
    const bool kept = shared->set_attributes(request->who(), body, shown);
    if (kept) request->session().reply_attributes(request, shared->client(), shown, 0);
    request->session().files->release(shared);
    if (kept) return;
  }
  if (!file || file->clean()) return apply();
  // What was written before must not come after: it would bring back bytes, or times.
  request->listen(nullptr);
  file->flush([request, apply](Code code) {
    if (code != Code::ok) return void(request->error(code));
    apply();
  });
}

// A mode that was set and waits here with the file's bytes changes its ACL, and an ACL that is set after it
// the mode: it is sent first. Bytes and a new owner take capabilities away, but not those that come after.
void settled(const RequestPtr& request, fuse_ino_t node, std::string_view name, std::function<void()> then) {
  const bool capability = name == kCapability;
  auto file = capability || is_acl(name) ? request->session().files->find(node) : nullptr;
  if (!file || (capability ? file->clean() : !file->holds_attributes())) return then();
  request->listen(nullptr);
  file->flush([request, then = std::move(then)](Code code) {
    if (code != Code::ok) return void(request->error(code));
    then();
  });
}

void change_xattr(const RequestPtr& request, fuse_ino_t node, RequestBody body) {
  request->session().call(request, node, std::move(body), [request, node](VolumeAnswer& answer) {
    if (auto file = request->session().files->find(node)) {
      file->attributes_are_stale();
      file->own_change(answer.reply);
    }
    request->error(0);
  });
}

void op_setxattr(fuse_req_t req, fuse_ino_t node, const char* name, const char* value, size_t size,
                 int flags) {
  auto request = begin(req);
  SetXattr body;
  body.inode = inode_of(node);
  body.name = name;
  body.value.assign(value, value + size);
  body.create = (flags & 1) != 0;   // XATTR_CREATE
  body.replace = (flags & 2) != 0;  // XATTR_REPLACE
  if (auto file = request->session().files->find(node)) file->attributes_are_stale();
  settled(request, node, name,
          [request, node, body = std::move(body)] { change_xattr(request, node, body); });
}

void op_removexattr(fuse_req_t req, fuse_ino_t node, const char* name) {
  auto request = begin(req);
  settled(request, node, name,
          [request, node, body = RemoveXattr{inode_of(node), name}] { change_xattr(request, node, body); });
}

// A value, or with size 0 its length.
void reply_value(const RequestPtr& request, std::string_view value, size_t size) {
  if (size == 0) {
    request->reply([&](fuse_req_t to) { return fuse_reply_xattr(to, value.size()); });
  } else if (value.size() > size) {
    request->error(Code::range);
  } else {
    request->reply([&](fuse_req_t to) { return fuse_reply_buf(to, value.data(), value.size()); });
  }
}

// As MountSession::call(), but `then` gets every answer.
void get_xattr(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client, const GetXattr& body,
               const VolumeClient::Done& then) {
  client->call(request->who(), body, {}, request->options(),
               [request, client, body, then](VolumeAnswer answer) {
                 const bool refused = answer.reply.code == Code::access_denied && request->who().uid != 0;
                 if (refused && (request->fetch_groups() || request->as_root()))
                   return get_xattr(request, client, body, then);
                 then(std::move(answer));
               });
}

// The kernel asks for security.capability before every write: that it is absent is remembered while the file
// is open here.
void op_getxattr(fuse_req_t req, fuse_ino_t node, const char* name, size_t size) {
  const bool capability = std::string_view(name) == kCapability;
  const bool label = std::string_view(name) == kLabel;
  std::shared_ptr<OpenFile> file;
  if (capability) file = session_of(req)->files->find(node);
  if (file && file->has_no_capability()) return void(fuse_reply_err(req, ENODATA));
  const uint64_t news = file ? file->attribute_news() : 0;
  auto request = begin(req);
  auto client = request->session().client(node);
  if (!client) return void(request->error(Code::stale));
  if (!client->local()) request->listen(client);
  if (is_acl(name)) request->session().expect_acl(node);
  auto ask = [request, client, file, news, label, size, body = GetXattr{inode_of(node), name}] {
    get_xattr(request, client, body, [request, file, news, label, size](VolumeAnswer answer) {
      const bool none = answer.reply.code == Code::no_attribute;
      if (file && none) file->note_no_capability(news);
      // As where there are no labels: `ls -l` then stops asking for each file's.
      if (label && none) return void(request->error(EOPNOTSUPP));
      if (answer.reply.code != Code::ok) return void(request->path_error(answer.reply.code));
      reply_value(request, answer.reply.text, size);
    });
  };
  if (is_acl(name)) return settled(request, node, name, std::move(ask));
  request->session().settle_attributes(request, client->number(), std::move(ask));
}

void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size) {
  auto request = begin(req);
  request->session().call(request, node, ListXattrs{inode_of(node)}, [request, size](VolumeAnswer& answer) {
    std::string names;
    for (const std::string& name : answer.reply.names) names.append(name).push_back('\0');
    reply_value(request, names, size);
  });
}

struct statvfs space_of(MountSession& session, VolumeNumber volume, const Reply& reply) {
  constexpr uint64_t kBlock = 4096;
  uint64_t total = reply.usage.bytes + reply.available_bytes;
  if (volume == kRootVolume) {
    const MeshSpace mesh = session.tree.directory().space();
    if (mesh.total_bytes != 0) total = mesh.total_bytes;
  }
  struct statvfs space {};
  space.f_bsize = space.f_frsize = kBlock;
  space.f_blocks = total / kBlock;
  space.f_bfree = space.f_bavail = std::min(total, reply.available_bytes) / kBlock;
  space.f_ffree = space.f_favail = reply.available_inodes.value_or(reply.available_bytes / 1024);
  space.f_files = reply.usage.files + space.f_ffree;
  space.f_namemax = kMaxName;
  return space;
}

void op_statfs(fuse_req_t req, fuse_ino_t node) {
  auto request = begin(req);
  request->session().call(request, node, Usage{}, [request, node](VolumeAnswer& answer) {
    const struct statvfs space = space_of(request->session(), volume_of(node), answer.reply);
    request->reply([&](fuse_req_t to) { return fuse_reply_statfs(to, &space); });
  });
}

}  // namespace

void set_attribute_operations(fuse_lowlevel_ops& operations) {
  operations.getattr = op_getattr;
  operations.setattr = op_setattr;
  operations.setxattr = op_setxattr;
  operations.getxattr = op_getxattr;
  operations.listxattr = op_listxattr;
  operations.removexattr = op_removexattr;
  operations.statfs = op_statfs;
}

}  // namespace efs
