// FUSE: open files. open, create, read, write, flush, release, fsync, lseek, fallocate.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "peer/volume/xattr_names.h"
#include "vfs/limits.h"
#include "vfs/session.h"

namespace efs {

namespace {

constexpr int kFlagExecute = 0x20;  // __FMODE_EXEC: the kernel opens to execute (include/linux/fs.h)

// A wait for this mount's own buffers is left at once when it is interrupted.
void listen_unless_clean(const RequestPtr& request, const OpenFile& file) {
  if (!file.clean()) request->listen(nullptr);
}

uint32_t access_wanted(int flags) {
  const int mode = flags & O_ACCMODE;
  if (mode == O_ACCMODE) return R_OK | W_OK;  // for ioctl(2) only, as open(2) has it
  uint32_t want = 0;
  if (mode == O_RDONLY || mode == O_RDWR) want |= (flags & kFlagExecute) ? X_OK : R_OK;
  if (mode == O_WRONLY || mode == O_RDWR || (flags & O_TRUNC)) want |= W_OK;
  return want;
}

// What the kernel keeps of the pages that it has: decided here alone, by the version that they are of.
void set_caching(MountSession& session, OpenFile& file, const Attributes& attributes, fuse_file_info& info,
                 int flags) {
  const bool current = file.opened(attributes, session.files->version_of(file.node()));
  info.keep_cache = current && file.doubt() == 0 && !session.notifier.pending(file.node()) &&
                    session.notifier.overflows() == 0;
  // A close of a file that programs lock has to be heard of (op_flush).
  info.noflush = (flags & O_ACCMODE) == O_RDONLY && !session.locks.was_locked(file.node());
}

// Linux sends what is written over the end of a page that it does not have in two requests
// (fuse_fill_write_pages()): between them another mount may append. What passes its pages by is one.
bool appends_alone(int flags) {
  return (flags & O_ACCMODE) == O_WRONLY && (flags & O_APPEND) != 0;
}

fuse_file_info new_handle(const RequestPtr& request, std::shared_ptr<OpenFile> file,
                          const Attributes& attributes, int flags) {
  fuse_file_info info{};
  // Known before pages may stay: what passes them by asks for it (answer_passing_pages()).
  const bool passes_pages = appends_alone(flags);
  const bool alone =
      passes_pages ? file->handles_with_pages.load() == 0 : file->handles_with_pages.fetch_add(1) == 0;
  set_caching(request->session(), *file, attributes, info, flags);
  auto handle = std::make_shared<FileHandle>();
  handle->who = request->who();
  handle->errors_seen = file->error_mark();
  const bool reads = (flags & O_ACCMODE) != O_WRONLY;
  if (reads && marks_access(attributes, request->session().background.clock().wall_ns())) {
    handle->marks_access.store(true);
    // Else nobody here learns that it is read. Not beside other handles: what they write may be on its way
    // here, and its pages are not to be read again before (OpenFile::kernel_reads).
    if (alone && (flags & O_NOATIME) == 0) info.keep_cache = 0;
  }
  handle->syncs = (flags & O_DSYNC) != 0;
  handle->noatime = (flags & O_NOATIME) != 0;
  info.direct_io = handle->passes_pages = passes_pages;
  if (!info.keep_cache) handle->doubt.store(file->doubt());
  handle->file = std::move(file);
  info.fh = reinterpret_cast<uint64_t>(new HandlePtr(std::move(handle)));
  return info;
}

// Its open has come to its end in the kernel.
void note_use(FileHandle& handle) {
  if (handle.doubt.load() != 0) handle.file->settle(handle.doubt.exchange(0));
}

void drop_handle(MountSession& session, const fuse_file_info& info) {
  std::unique_ptr<HandlePtr> handle(reinterpret_cast<HandlePtr*>(info.fh));
  const auto& file = (*handle)->file;
  if (!(*handle)->passes_pages) file->handles_with_pages.fetch_sub(1);
  session.files->release(file);
}

// The owner is asked to open `file`; `then` gets the attributes. A refusal releases the file again.
void open_at_owner(const RequestPtr& request, const std::shared_ptr<OpenFile>& file, uint32_t want,
                   std::function<void(const Attributes&)> then) {
  if (request->is_answered()) return request->session().files->release(file);
  auto client = file->client();
  client->call(request->who(), Open{file->inode(), want}, {}, request->options(),
               [request, file, want, then = std::move(then)](VolumeAnswer answer) {
                 const Code code = answer.reply.code;
                 if (code == Code::ok) return then(answer.reply.attributes);
                 if (code == Code::access_denied && request->who().uid != 0 && request->fetch_groups())
                   return open_at_owner(request, file, want, then);
                 request->session().files->release(file);
                 request->path_error(code);
               });
}

void op_open(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  auto request = begin(req);
  const int flags = info->flags;
  auto client = request->session().client(node);
  if (!client) return void(request->error(Code::stale));
  if (!client->local()) request->listen(client);
  auto acquired = [request, flags](std::shared_ptr<OpenFile> file) {
    open_at_owner(request, file, access_wanted(flags), [request, file, flags](const Attributes& attributes) {
      auto answer = [request, file, flags, attributes] {
        const fuse_file_info opened = new_handle(request, file, attributes, flags);
        if (!request->reply([&](fuse_req_t to) { return fuse_reply_open(to, &opened); }))
          drop_handle(request->session(), opened);
      };
      // What the kernel is yet to be told of this file would overtake its first question about the size. And
      // pages that another open is about to drop are not to be read through this one.
      Notifier& notifier = request->session().notifier;
      const uint64_t doubt = file->doubt();
      if (doubt == 0 && !notifier.pending(file->node())) return answer();
      notifier.inode(file->node(), doubt != 0, [file, doubt, answer] {
        file->settle(doubt);
        answer();
      });
    });
  };
  auto open = [request, client, node, acquired = std::move(acquired)] {
    request->session().settle_attributes(request, client->number(), [request, client, node, acquired] {
      request->session().files->acquire(client, inode_of(node), acquired);
    });
  };
  // Even root executes only what somebody may: the owner judges by a mode that may still wait here.
  auto file = (access_wanted(flags) & X_OK) != 0 ? request->session().files->find(node) : nullptr;
  if (!file || !file->holds_attributes()) return open();
  file->flush([open](Code) { open(); });
}

struct Created {
  fuse_ino_t parent = 0;
  std::string name;
  uint8_t lease = 0;
  bool is_new = false;
};
// The kernel believes that it has made the file.
void truncate_opened(const RequestPtr& request, const std::shared_ptr<OpenFile>& file,
                     std::function<void(const Attributes&)> then) {
  SetAttributes body;
  body.inode = file->inode();
  body.size = 0;
  body.has_write_handle = true;
  auto client = file->client();
  client->call(request->who(), body, {}, request->options(),
               [request, file, then = std::move(then)](VolumeAnswer answer) {
                 if (answer.reply.code == Code::ok) {
                   file->own_change(answer.reply);
                   file->forget_written(0, UINT64_MAX);
                   return then(answer.reply.attributes);
                 }
                 request->session().files->release(file);
                 request->error(answer.reply.code);
               });
}

void created(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
             const Attributes& attributes, const Created& made, int flags) {
  request->session().files->acquire(client, attributes.inode, [=](std::shared_ptr<OpenFile> file) {
    auto answer = [=](const Attributes& opened) {
      if (made.is_new) file->note_no_capability(file->attribute_news());
      const fuse_file_info info = new_handle(request, file, opened, flags);
      // Of a file that was there the kernel would take these attributes, however old.
      const uint8_t lease = made.is_new ? made.lease : made.lease & kLeaseDirectory;
      const fuse_ino_t parent = made.name == kNameOfUnnamed ? 0 : made.parent;
      request->answers();
      const fuse_entry_param entry =
          request->session().entry_of(request->since(), client, opened, {parent, made.name, lease, nullptr});
      if (!request->reply([&](fuse_req_t to) { return fuse_reply_create(to, &entry, &info); }))
        drop_handle(request->session(), info);
    };
    if (made.is_new) return answer(attributes);
    open_at_owner(request, file, access_wanted(flags),
                  [=](const Attributes& opened) {  // somebody else was faster
                    if ((flags & O_TRUNC) == 0) return answer(opened);
                    truncate_opened(request, file, answer);
                  });
  });
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  auto request = begin(req);
  const int flags = info->flags;
  Create body;
  body.parent = inode_of(parent);
  body.name = name;
  set_mode(body, req, S_IFREG | (mode & 07777));
  body.exclusive = (flags & O_EXCL) != 0;
  body.open = true;
  if (body.name == kNameOfUnnamed) {
    body.name.clear();
    body.unnamed = true;
  } else {
    request->changes_names_in(parent);
  }
  auto client = request->session().client(parent);
  request->session().call(
      request, client, std::move(body),
      [request, client, parent, at = std::string(name), flags](VolumeAnswer& answer) {
        const Reply& reply = answer.reply;
        created(request, client, reply.attributes, {parent, at, reply.lease, reply.created}, flags);
      });
}

void op_read(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* info) {
  auto request = begin(req);
  const HandlePtr handle = handle_of(info);
  note_use(*handle);
  if ((info->flags & O_NOATIME) == 0) request->session().mark_access(*handle);
  if (!handle->file->client()->local()) request->listen(nullptr);
  handle->file->kernel_reads(request_number(), uint64_t(offset), size);
  handle->file->read(
      handle->who, uint64_t(offset), uint32_t(std::min<size_t>(size, kMaxWrite)), request->options(),
      [request](Code code, const ReadBytes& data) {
        if (code != Code::ok) return void(request->error(code));
        std::vector<iovec> parts;
        for (const ByteView part : data.parts())
          parts.push_back({const_cast<uint8_t*>(part.data()), part.size()});
        request->reply([&](fuse_req_t to) { return fuse_reply_iov(to, parts.data(), int(parts.size())); });
      });
}

// Bytes that the kernel has not put into its pages: before the program goes on, it forgets those.
void answer_passing_pages(const RequestPtr& request, const std::shared_ptr<OpenFile>& file, size_t size) {
  auto answer = [request, size] {
    request->reply([&](fuse_req_t to) { return fuse_reply_write(to, size); });
  };
  file->pages_are_stale();
  if (file->handles_with_pages.load() == 0) return answer();  // an open does away with them
  request->session().notifier.inode(file->node(), true, answer);
}

struct Writing {
  uint64_t offset = 0, number = 0;
  bool durable = false, through = false, to_end = false;
};

// Of bytes that the kernel has put into its pages; a read may have filled those again, without them. Not
// waited for: a page that is written in part stays locked until the answer.
void answer_in_pages(const RequestPtr& request, const std::shared_ptr<OpenFile>& file, const Writing& how,
                     size_t size) {
  if (file->was_overtaken(how.number, how.offset, size))
    request->session().notifier.inode(file->node(), true);
  request->reply([&](fuse_req_t to) { return fuse_reply_write(to, size); });
}

void append(const RequestPtr& request, const HandlePtr& handle, ByteView bytes, const Writing& how) {
  auto file = handle->file;
  const size_t size = bytes.size();
  const bool in_pages = !handle->passes_pages;
  // Not answered before the owner has: a program would append it twice.
  request->listen(file->clean() ? file->client() : nullptr);
  file->append(handle->who, to_bytes(bytes), how.durable, in_pages, request->options(),
               [request, file, size, in_pages, how](Code code, uint64_t offset) {
                 if (code != Code::ok) return void(request->error(code));
                 if (!in_pages) return answer_passing_pages(request, file, size);
                 // Others appended before: the kernel has put these bytes at the wrong place in its pages.
                 // Known before the answer, since an open right after it asks whether they may be kept.
                 if (offset != how.offset) {
                   file->pages_are_stale();
                   request->session().notifier.inode(file->node(), true);
                 }
                 answer_in_pages(request, file, how, size);
               });
}

void write(const RequestPtr& request, const HandlePtr& handle, ByteView bytes, const Writing& how) {
  if (how.to_end) return append(request, handle, bytes, how);
  if (how.durable || how.through || !handle->file->client()->local()) request->listen(nullptr);
  const auto mode = how.durable   ? OpenFile::Mode::durable
                    : how.through ? OpenFile::Mode::through
                                  : OpenFile::Mode::buffered;
  const size_t size = bytes.size();
  handle->file->write(handle->who, how.offset, bytes, mode, [request, handle, how, size](Code code) {
    if (code != Code::ok) return void(request->error(code));
    if (handle->passes_pages) return answer_passing_pages(request, handle->file, size);
    answer_in_pages(request, handle->file, how, size);
  });
}

// Capabilities go before the bytes come. Where the kernel writes to its pages it takes them away itself.
void drop_capability_and_write(const RequestPtr& request, const HandlePtr& handle, Bytes bytes, Writing how) {
  auto file = handle->file;
  auto client = file->client();
  if (!client->local()) request->listen(client);
  client->call(handle->who, RemoveXattr{file->inode(), std::string(kCapability)}, {}, request->options(),
               [request, handle, file, news = file->attribute_news(), bytes = std::move(bytes),
                how](VolumeAnswer answer) {
                 if (answer.reply.code == Code::ok) {
                   file->own_change(answer.reply);
                 } else if (answer.reply.code == Code::no_attribute) {
                   file->note_no_capability(news);
                 } else {
                   return void(request->error(answer.reply.code));
                 }
                 write(request, handle, bytes, how);
               });
}

void op_write(fuse_req_t req, fuse_ino_t, const char* data, size_t size, off_t offset, fuse_file_info* info) {
  auto request = begin(req);
  const HandlePtr handle = handle_of(info);
  note_use(*handle);
  const ByteView bytes(reinterpret_cast<const uint8_t*>(data), size);
  Writing how;
  how.offset = uint64_t(offset);
  how.number = request_number();
  how.durable = (info->flags & O_DSYNC) != 0 && !info->writepage;
  how.through = (info->flags & O_DIRECT) != 0 || handle->passes_pages;
  how.to_end = (info->flags & O_APPEND) != 0 && !info->writepage;  // pages know their place
  if (kills_suid() && (handle->file->mode() & (S_ISUID | S_ISGID)) != 0)
    return clear_suid(request, handle->file,
                      [request, handle, kept = to_bytes(bytes), how] { write(request, handle, kept, how); });
  if (handle->passes_pages && handle->file->may_have_capability())
    return drop_capability_and_write(request, handle, to_bytes(bytes), how);
  write(request, handle, bytes, how);
}

// The result of a flush or sync, or what was lost of this handle's file before: that is told once, so it is
// kept from nobody for the sake of an owner that is away, nor told to who was interrupted meanwhile.
void answer_with_errors(const RequestPtr& request, const HandlePtr& handle, Code code) {
  request->reply([&](fuse_req_t to) {
    const Code lost = handle->take_error();
    return fuse_reply_err(to, to_errno(lost != Code::ok ? lost : code));
  });
}

void op_flush(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
  auto request = begin(req);
  const HandlePtr handle = handle_of(info);
  const uint64_t owner = info->lock_owner;
  listen_unless_clean(request, *handle->file);
  handle->file->flush([request, handle, owner](Code code) {
    auto unlocked = [request, handle, code](Code) { answer_with_errors(request, handle, code); };
    if (flush_locks(request, *handle, owner, unlocked)) return;
    answer_with_errors(request, handle, code);
  });
}

void op_fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info* info) {
  auto request = begin(req);
  const HandlePtr handle = handle_of(info);
  request->listen(nullptr);
  handle->file->sync(handle->who,
                     [request, handle](Code code) { answer_with_errors(request, handle, code); });
}

void op_release(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
  auto request = begin(req);
  note_use(*handle_of(info));
  release_locks(request->session(), *handle_of(info), *info);
  drop_handle(request->session(), *info);
  request->error(0);
}

void op_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, fuse_file_info* info) {
  auto request = begin(req);
  if (offset < 0) return void(request->error(Code::no_device));
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return void(request->error(Code::invalid_argument));
  const auto file = handle_of(info)->file;
  listen_unless_clean(request, *file);
  file->flush([request, node, offset, whence](Code code) {
    if (code != Code::ok) return void(request->error(code));
    request->session().call(
        request, node, SeekData{inode_of(node), uint64_t(offset), whence == SEEK_HOLE},
        [request](VolumeAnswer& answer) {
          request->reply([&](fuse_req_t to) { return fuse_reply_lseek(to, off_t(answer.reply.offset)); });
        });
  });
}

void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
                  fuse_file_info* info) {
  auto request = begin(req);
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  const bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0, zero = (mode & FALLOC_FL_ZERO_RANGE) != 0;
  if ((mode & ~kKnown) != 0 || (punch && zero)) return void(request->error(Code::unsupported));
  if (offset < 0 || length <= 0) return void(request->error(Code::invalid_argument));
  const HandlePtr handle = handle_of(info);
  const auto file = handle->file;
  listen_unless_clean(request, *file);
  Allocate body{
      inode_of(node), uint64_t(offset), uint64_t(length), (mode & FALLOC_FL_KEEP_SIZE) != 0, punch, zero};
  file->flush([request, node, handle, file, body](Code code) {
    if (code != Code::ok) return void(request->error(code));
    request->session().call(request, node, body, [request, handle, file, body](VolumeAnswer& answer) {
      file->own_change(answer.reply);
      if (body.punch || body.zero) file->forget_written(body.offset, body.length);
      if (!handle->syncs) return void(request->error(0));
      request->listen(nullptr);
      file->sync(handle->who,
                 [request, handle](Code synced) { answer_with_errors(request, handle, synced); });
    });
  });
}

}  // namespace

// What was set here and waits comes before: it would bring the bits back. (Setgid may stay, of who is in the
// group: the owner knows.)
void clear_suid(const RequestPtr& request, const std::shared_ptr<OpenFile>& file,
                std::function<void()> then) {
  auto clear = [request, file, then = std::move(then)](Code code) mutable {
    if (code != Code::ok) return void(request->error(code));
    SetAttributes body;
    body.inode = file->inode();
    body.clear_suid = true;
    auto cleared = [request, file, then = std::move(then)](VolumeAnswer& answer) {
      file->own_change(answer.reply);
      request->session().notifier.inode(file->node(), false);
      then();
    };
    request->session().call(request, file->client(), body, std::move(cleared));
  };
  if (!file->holds_attributes()) return clear(Code::ok);
  request->listen(nullptr);
  file->flush(std::move(clear));
}

void set_file_operations(fuse_lowlevel_ops& operations) {
  operations.open = op_open;
  operations.create = op_create;
  operations.read = op_read;
  operations.write = op_write;
  operations.flush = op_flush;
  operations.fsync = op_fsync;
  operations.release = op_release;
  operations.lseek = op_lseek;
  operations.fallocate = op_fallocate;
}

}  // namespace efs
