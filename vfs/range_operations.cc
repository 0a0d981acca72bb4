// FUSE: copy_file_range.
#include <sys/stat.h>

#include "vfs/session.h"

namespace efs {

namespace {

using HandlePtr = std::shared_ptr<FileHandle>;

struct Copy {
  std::shared_ptr<KernelRequest> request;
  std::shared_ptr<OpenFile> from, to;
  Credentials who;
  CopyRange body;
  bool syncs = false;  // O_SYNC, O_DSYNC
};

void copy_at_owner(const std::shared_ptr<Copy>& copy) {
  auto client = copy->to->client();
  if (!client->local()) copy->request->listen(client);
  client->call(copy->who, copy->body, {}, copy->request->options(), [copy](VolumeAnswer answer) {
    if (answer.reply.code != Code::ok) return void(copy->request->error(answer.reply.code));
    if (answer.reply.offset != 0) {
      copy->to->own_change(answer.reply);
      copy->to->forget_written(copy->body.offset, answer.reply.offset);
    }
    const auto reply = [copy, copied = size_t(answer.reply.offset)](Code code) {
      if (code != Code::ok) return void(copy->request->error(code));
      copy->request->reply([&](fuse_req_t to) { return fuse_reply_write(to, copied); });
    };
    copy->syncs ? copy->to->sync(copy->who, reply) : reply(Code::ok);
  });
}

// Who writes by a file that root has opened takes set-id bits and capabilities away, too.
void clear_bits(const std::shared_ptr<Copy>& copy) {
  if (copy->who.uid != 0 || copy->request->who().uid == 0) return copy_at_owner(copy);
  const bool bits = (copy->to->mode() & (S_ISUID | S_ISGID)) != 0 || copy->to->may_have_capability();
  if (!bits) return copy_at_owner(copy);
  clear_suid(copy->request, copy->to, [copy] { copy_at_owner(copy); });
}

// What was written here before must be there before, in both. The kernel copies itself where this says EXDEV.
void op_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t offset_in, fuse_file_info* in,
                        fuse_ino_t node_out, off_t offset_out, fuse_file_info* out, size_t length,
                        int flags) {
  auto copy = std::make_shared<Copy>();
  copy->request = std::make_shared<KernelRequest>(session_of(req), req);
  if (flags != 0 || offset_in < 0 || offset_out < 0)
    return void(copy->request->error(Code::invalid_argument));
  if (volume_of(node_in) != volume_of(node_out)) return void(copy->request->error(Code::cross_volume));
  const HandlePtr from = *reinterpret_cast<HandlePtr*>(in->fh), to = *reinterpret_cast<HandlePtr*>(out->fh);
  copy->from = from->file;
  copy->to = to->file;
  copy->who = to->who;
  copy->syncs = to->syncs;
  if ((copy->to->mode() & S_ISGID) != 0 && copy->request->fetch_groups()) {  // who keeps it
    copy->who.groups = copy->request->who().groups;
    copy->who.groups_known = true;
  }
  // What the answer can say, and the kernel drops the pages of.
  const uint64_t at_most = std::min<uint64_t>(length, UINT32_MAX & ~4095u);
  copy->body = {inode_of(node_in), uint64_t(offset_in), inode_of(node_out), uint64_t(offset_out), at_most};
  if (!copy->from->clean() || !copy->to->clean()) copy->request->listen(nullptr);
  // The kernel takes it for a read of its own alone.
  if (!from->noatime && copy->request->session().mark_access(*from))
    copy->request->session().notifier.inode(node_in, false);
  copy->from->flush([copy](Code code) {
    if (code != Code::ok) return void(copy->request->error(code));
    copy->to->flush([copy](Code later) {
      if (later != Code::ok) return void(copy->request->error(later));
      clear_bits(copy);
    });
  });
}

}  // namespace

void set_range_operations(fuse_lowlevel_ops& operations) {
  operations.copy_file_range = op_copy_file_range;
}

}  // namespace efs
