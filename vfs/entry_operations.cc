// FUSE: names. lookup, forget, mknod, mkdir, symlink, link, unlink, rmdir, rename, readlink.
#include <linux/fs.h>
#include <sys/stat.h>

#include "vfs/limits.h"
#include "vfs/session.h"

namespace efs {

namespace {

// A name in a volume that is owned here, and leads to one that is not: its client; else nullptr.
std::shared_ptr<VolumeClient> leads_away(MountSession& session, fuse_ino_t parent, const std::string& name) {
  for (const VolumePlace& place : *session.tree.directory().places()) {
    if (place.path.empty() || place.parent != volume_of(parent) || place.path.back() != name) continue;
    if (!place.ancestors.empty() && place.ancestors.back() != inode_of(parent)) continue;
    auto client = session.tree.directory().client(place.number);
    if (client && !client->local()) return client;
  }
  return nullptr;
}

void lookup_with(const RequestPtr& request, fuse_ino_t parent, std::string name, unsigned tries = kRepeats);

void show(const RequestPtr& request, fuse_ino_t parent, const std::string& name, const TreeNode& node) {
  MountSession& session = request->session();
  auto directory = session.tree.client(parent);
  // Who asks for ".." holds no lock of what that is in, nor believes the name.
  const fuse_ino_t at = name == ".." ? 0 : parent;
  session.reply_entry(request, node.volume, node.attributes, {at, name, node.lease, directory.get()});
}

// The call is being repeated since what it had found was gone: held for a moment, so that it is not gone
// again.
void hold_and_show(const RequestPtr& request, fuse_ino_t parent, const std::string& name,
                   const TreeNode& node, unsigned tries) {
  auto held = [request, parent, name, node, tries](std::shared_ptr<OpenFile> file) {
    node.volume->call(request->who(), Open{node.inode(), 0}, {}, request->options(),
                      [request, parent, name, node, tries, file](VolumeAnswer answer) {
                        MountSession& session = request->session();
                        session.background.after(kHeldForRepeat,
                                                 [files = session.files, file] { files->release(file); });
                        if (answer.reply.code == Code::stale && tries > 0)
                          return lookup_with(request, parent, name, tries - 1);
                        if (answer.reply.code == Code::ok) request->holds_what_it_found();
                        show(request, parent, name, node);
                      });
  };
  request->session().files->acquire(node.volume, node.inode(), held);
}

void lookup_with(const RequestPtr& request, fuse_ino_t parent, std::string name, unsigned tries) {
  MountSession& session = request->session();
  auto client = session.client(parent);
  if (!client) return void(request->error(Code::stale));
  if (!client->local()) {
    request->listen(client);
  } else if (auto other = leads_away(session, parent, name)) {
    request->listen(std::move(other));
  }
  session.tree.lookup(
      request->who(), parent, name, request->options(),
      [request, parent, name, tries](Result<TreeNode> node) {
        if (node && !node->volume) {
          auto directory = request->session().tree.client(parent);
          return request->session().reply_absent(request, *directory,
                                                 {parent, name, node->lease, directory.get()});
        }
        if (node && !S_ISDIR(node->attributes.mode) && request->is_repeated())
          return hold_and_show(request, parent, name, *node, tries);
        if (node) return show(request, parent, name, *node);
        if (node.error().code == Code::access_denied && request->who().uid != 0 && request->fetch_groups())
          return lookup_with(request, parent, name);
        request->path_error(node.error().code);
      });
}

// Not from programs: an NFS server, or open_by_handle_at(2), has a handle of what the kernel has forgotten,
// of any type.
void lookup_itself(const RequestPtr& request, fuse_ino_t node) {
  request->session().call(
      request, node, GetAttributes{inode_of(node)}, [request, node](VolumeAnswer& answer) {
        MountSession& session = request->session();
        const Attributes& found = answer.reply.attributes;
        // Without a name it is there for those who have it open, and no longer.
        if (found.nlink == 0 && !session.files->in_use(node)) return void(request->error(Code::stale));
        session.reply_entry(request, session.client(node), found, {0, {}, answer.reply.lease, nullptr});
      });
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  auto request = begin(req);
  request->walks();
  if (std::string_view(name) == ".") return lookup_itself(request, parent);
  if (std::string_view(name) == "..") {
    if (auto above = request->session().tree.above(parent)) return lookup_itself(request, *above);
    return lookup_with(request, parent, name);
  }
  lookup_with(request, parent, name);
}

// Inodes are their own names here: the kernel's counts need no bookkeeping. What holds an unlinked inode at
// its owner is Open, until the last handle is released.
void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t) {
  session_of(req)->removed.forget(node);
  fuse_reply_none(req);
}
void op_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgotten) {
  auto session = session_of(req);
  for (size_t i = 0; i < count; ++i) session->removed.forget(forgotten[i].ino);
  fuse_reply_none(req);
}

void make(fuse_req_t req, fuse_ino_t parent, Create body) {
  auto request = begin(req);
  request->changes_names_in(parent);
  body.parent = inode_of(parent);
  auto client = request->session().client(parent);
  std::string name = body.name;
  request->session().call(request, client, std::move(body),
                          [request, client, parent, name](VolumeAnswer& answer) {
                            request->session().reply_entry(request, client, answer.reply.attributes,
                                                           {parent, name, answer.reply.lease, nullptr});
                          });
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  Create body;
  body.name = name;
  set_mode(body, req, mode);
  body.rdev = uint32_t(rdev);
  make(req, parent, std::move(body));
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  Create body;
  body.name = name;
  set_mode(body, req, S_IFDIR | (mode & 07777));
  make(req, parent, std::move(body));
}

void op_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  Create body;
  body.name = name;
  body.mode = S_IFLNK | 0777;
  body.target = target;
  make(req, parent, std::move(body));
}

void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char* name) {
  auto request = begin(req);
  if (volume_of(node) != volume_of(parent)) return void(request->error(Code::cross_volume));
  request->changes_names_in(parent);
  auto client = request->session().client(parent);
  request->session().call(request, client, Link{inode_of(node), inode_of(parent), name},
                          [request, client, parent, at = std::string(name)](VolumeAnswer& answer) {
                            request->session().note_change(client, answer.reply.attributes);
                            // The kernel takes these attributes as they are, however old: not to be kept.
                            const uint8_t lease = answer.reply.lease & kLeaseDirectory;
                            request->session().reply_entry(request, client, answer.reply.attributes,
                                                           {parent, at, lease, nullptr});
                          });
}

void remove(fuse_req_t req, fuse_ino_t parent, const char* name, bool directory) {
  auto request = begin(req);
  request->changes_names_in(parent);
  auto client = request->session().client(parent);
  request->session().call(request, client, Unlink{inode_of(parent), name, directory},
                          [request, client](VolumeAnswer& answer) {
                            request->session().note_change(client, answer.reply.attributes);
                            request->error(0);
                          });
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  remove(req, parent, name, false);
}
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  remove(req, parent, name, true);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) {
  auto request = begin(req);
  if ((flags & ~unsigned(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0)
    return void(request->error(Code::invalid_argument));
  if (volume_of(parent) != volume_of(new_parent)) return void(request->error(Code::cross_volume));
  request->changes_names_in(parent);
  request->changes_names_in(new_parent);
  Rename body;
  body.parent = inode_of(parent);
  body.name = name;
  body.new_parent = inode_of(new_parent);
  body.new_name = new_name;
  body.no_replace = (flags & RENAME_NOREPLACE) != 0;
  body.exchange = (flags & RENAME_EXCHANGE) != 0;
  body.whiteout = (flags & RENAME_WHITEOUT) != 0;
  auto client = request->session().client(parent);
  request->session().call(request, client, std::move(body), [request, client](VolumeAnswer& answer) {
    request->session().note_change(client, answer.reply.attributes);
    if (answer.reply.replaced) request->session().note_change(client, *answer.reply.replaced);
    request->error(0);
  });
}

void op_readlink(fuse_req_t req, fuse_ino_t node) {
  auto request = begin(req);
  request->walks();
  auto client = request->session().client(node);
  request->session().call(request, client, ReadLink{inode_of(node)}, [request, client](VolumeAnswer& answer) {
    MountSession& session = request->session();
    if (marks_access(answer.reply.attributes, session.background.clock().wall_ns()))
      session.mark_access(client, request->who(), answer.reply.attributes.inode);
    request->reply([&](fuse_req_t to) { return fuse_reply_readlink(to, answer.reply.text.c_str()); });
  });
}

}  // namespace

void set_entry_operations(fuse_lowlevel_ops& operations) {
  operations.lookup = op_lookup;
  operations.forget = op_forget;
  operations.forget_multi = op_forget_multi;
  operations.mknod = op_mknod;
  operations.mkdir = op_mkdir;
  operations.symlink = op_symlink;
  operations.link = op_link;
  operations.unlink = op_unlink;
  operations.rmdir = op_rmdir;
  operations.rename = op_rename;
  operations.readlink = op_readlink;
}

}  // namespace efs
