// FUSE: locks. getlk, setlk (fcntl; open file descriptions' locks come here too, with another owner), flock,
// and what a close lets go of.
//
// Asked -> the volume's owner answers when it is granted; no thread waits. A signal ends a wait at once
// (fcntl(2), flock(2): EINTR): the owner is asked to forget the request, and its answer decides. When it
// cannot be reached, the program is answered EINTR after kCancelPatience, and what may be granted to it then
// is given back.
//
// The kernel says that a file was closed just after close(2) has returned, so what flock(2) or an open file
// description's lock held may be on its way back when who comes next on another mount asks. Who would not
// wait, and finds it locked by another mount, waits all the same: for flock(2) as long as a busy machine may
// take to wake that mount, for fcntl(2) briefly only. Who takes several of those one by one (SQLite) holds up
// the one that it waits for, and most of them are POSIX locks, which go before close(2) returns (FUSE cannot
// tell them from open file descriptions').
#include <fcntl.h>
#include <sys/file.h>

#include "vfs/limits.h"
#include "vfs/session.h"

namespace efs {

namespace {

constexpr int64_t kForever = INT64_MAX / 4;
constexpr int64_t kCancelPatience = 2 * kSecond;  // for the owner to take a request back
constexpr int64_t kCloseGrace = 2 * kMillisecond;
constexpr int64_t kFlockCloseGrace = 100 * kMillisecond;

uint8_t type_of(int type) {
  return type == F_RDLCK ? kReadLock : type == F_WRLCK ? kWriteLock : kUnlocked;
}

// libfuse: l_whence is SEEK_SET, a length of 0 reaches to the end, however far.
FileLock to_lock(uint64_t node, uint64_t owner, const struct flock& from) {
  FileLock lock;
  lock.inode = inode_of(node);
  lock.owner = owner;
  lock.type = type_of(from.l_type);
  lock.start = uint64_t(from.l_start);
  lock.end = from.l_len == 0 ? kLockEnd : uint64_t(from.l_start) + uint64_t(from.l_len) - 1;
  lock.pid = uint32_t(from.l_pid);
  return lock;
}

int errno_of(Code code) {
  if (code == Code::loop) return EDEADLK;
  if (code == Code::overloaded) return ENOLCK;
  return to_errno(code);
}

// Until it is done, or its volume is gone. `then` runs at the first answer.
void unlock(const std::shared_ptr<MountSession>& session, const std::shared_ptr<VolumeClient>& client,
            const FileLock& lock, std::function<void(Code)> then) {
  SetLock request;
  request.lock = lock;
  request.lock.type = kUnlocked;
  VolumeClient::Options options;
  options.timeout_ns = kForever;
  client->call({}, request, {}, options,
               [weak = std::weak_ptr(session), client, lock, then = std::move(then)](VolumeAnswer answer) {
                 const Code code = answer.reply.code;
                 if (then) then(code);
                 auto self = weak.lock();
                 if (!self || code != Code::overloaded) return;
                 self->background.after(kRetryAfter, [weak, client, lock] {
                   if (auto again = weak.lock()) unlock(again, client, lock, {});
                 });
               });
}

FileLock all_of(const LockBook::Holder& holder) {
  FileLock lock;
  lock.inode = inode_of(holder.node);
  lock.flock = holder.flock;
  lock.owner = holder.owner;
  return lock;
}

void forget(const std::shared_ptr<VolumeClient>& client, uint64_t ticket) {
  VolumeClient::Options options;
  options.timeout_ns = kForever;
  client->call({}, CancelLock{ticket}, {}, options, [](VolumeAnswer) {});
}

void give_up(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client, uint64_t ticket,
             Code code) {
  forget(client, ticket);
  request->session().background.after(kCancelPatience, [weak = std::weak_ptr(request), code] {
    if (auto self = weak.lock()) self->error(code);
  });
}

struct AskedLock {
  RequestPtr request;
  std::shared_ptr<FileHandle> handle;
  SetLock body;
  bool wait = false;    // what the program said; body.wait: what the owner is told
  bool is_new = false;  // nothing was held for that owner before

  LockBook::Holder holder(uint64_t owner) const { return {handle->file->node(), body.lock.flock, owner}; }
};

void answer(const AskedLock& asked, Code code) {
  const auto session = asked.request->session().shared_from_this();
  const SetLock& body = asked.body;
  if (body.ticket != 0) session->locks.answered(body.ticket, code == Code::ok);
  const bool taken = asked.request->error(code == Code::ok ? 0 : errno_of(code));
  // Nobody knows of it, or nobody knows whether it was granted. What its owner held before, and goes on
  // relying on, is not let go of with it.
  const bool undo = code == Code::ok ? !taken : code == Code::unreachable || code == Code::closed;
  if (undo && asked.is_new && body.lock.type != kUnlocked)
    unlock(session, asked.handle->file->client(), body.lock, {});
}

void call(const AskedLock& asked, const RequestBody& body, std::function<void(const Reply&)> then) {
  VolumeClient::Options options;
  options.timeout_ns = asked.request->session().options.unreachable_timeout_ns;
  asked.handle->file->client()->call(asked.handle->who, body, {}, options,
                                     [then = std::move(then)](VolumeAnswer answer) { then(answer.reply); });
}

void wait_briefly(AskedLock asked) {
  asked.body.wait = true;
  auto enough = [weak = std::weak_ptr(asked.request), client = asked.handle->file->client(),
                 ticket = asked.body.ticket] {
    if (auto self = weak.lock()) give_up(self, client, ticket, Code::conflict);
  };
  asked.request->session().background.after(asked.body.lock.flock ? kFlockCloseGrace : kCloseGrace,
                                            std::move(enough));
  call(asked, asked.body, [asked](const Reply& reply) {
    const bool in_vain = reply.code == Code::interrupted || reply.code == Code::loop;
    answer(asked, in_vain ? Code::conflict : reply.code);
  });
}

void ask(const AskedLock& asked) {
  call(asked, asked.body, [asked](const Reply& reply) {
    if (reply.code != Code::conflict || asked.wait) return answer(asked, reply.code);
    call(asked, GetLock{asked.body.lock}, [asked](const Reply& holder) {
      const bool ours = holder.lock && asked.request->session().locks.has(asked.holder(holder.lock->owner));
      if (ours || holder.code != Code::ok) return answer(asked, Code::conflict);
      wait_briefly(asked);
    });
  });
}

void set_lock(const RequestPtr& request, const std::shared_ptr<FileHandle>& handle, const FileLock& lock,
              bool wait) {
  const auto client = handle->file->client();
  AskedLock asked{request, handle, {lock, wait, 0}, wait};
  if (lock.type != kUnlocked) {
    asked.is_new = !request->session().locks.has(asked.holder(lock.owner));
    asked.body.ticket = request->session().locks.ask(asked.holder(lock.owner), client);
    std::lock_guard guard(handle->mutex);
    if (!lock.flock) handle->lock_owners.insert(lock.owner);
  }
  if (wait || !client->local())
    request->listen_with(
        [weak = std::weak_ptr(request), client, ticket = asked.body.ticket] {
          if (auto self = weak.lock()) give_up(self, client, ticket, Code::interrupted);
        },
        wait);
  ask(asked);
}

void op_getlk(fuse_req_t req, fuse_ino_t node, fuse_file_info* info, struct flock* asked) {
  auto request = begin(req);
  const auto handle = handle_of(info);
  const auto client = handle->file->client();
  if (!client->local()) request->listen(client);
  client->call(handle->who, GetLock{to_lock(node, info->lock_owner, *asked)}, {}, request->options(),
               [request](VolumeAnswer answer) {
                 if (answer.reply.code != Code::ok) return void(request->error(errno_of(answer.reply.code)));
                 struct flock found {};
                 found.l_type = F_UNLCK;
                 if (const auto& lock = answer.reply.lock) {
                   found.l_type = lock->type == kWriteLock ? F_WRLCK : F_RDLCK;
                   found.l_start = off_t(lock->start);
                   found.l_len = lock->end >= kLockEnd ? 0 : off_t(lock->end - lock->start + 1);
                   found.l_pid = pid_t(lock->pid);
                 }
                 request->reply([&](fuse_req_t to) { return fuse_reply_lock(to, &found); });
               });
}

void op_setlk(fuse_req_t req, fuse_ino_t node, fuse_file_info* info, struct flock* asked, int wait) {
  set_lock(begin(req), handle_of(info), to_lock(node, info->lock_owner, *asked), wait != 0);
}

void op_flock(fuse_req_t req, fuse_ino_t node, fuse_file_info* info, int operation) {
  auto request = begin(req);
  FileLock lock;
  lock.inode = inode_of(node);
  lock.flock = true;
  lock.owner = info->lock_owner;
  lock.type = (operation & LOCK_EX) ? kWriteLock : (operation & LOCK_SH) ? kReadLock : kUnlocked;
  lock.pid = uint32_t(fuse_req_ctx(req)->pid);
  set_lock(request, handle_of(info), lock, (operation & LOCK_NB) == 0 && lock.type != kUnlocked);
}

}  // namespace

// A close by a process: its POSIX locks of the file go, whichever descriptor they came by.
bool flush_locks(const RequestPtr& request, FileHandle& handle, uint64_t owner,
                 std::function<void(Code)> then) {
  {
    std::lock_guard guard(handle.mutex);
    handle.lock_owners.erase(owner);
  }
  MountSession& session = request->session();
  const auto client = handle.file->client();
  const LockBook::Holder holder{handle.file->node(), false, owner};
  if (!session.locks.take(holder)) return false;
  if (!client->local()) {
    request->listen(nullptr);
    auto unreachable = [weak = std::weak_ptr(request)] {
      if (auto self = weak.lock()) self->error(Code::unreachable);
    };
    const int64_t timeout_ns = session.options.unreachable_timeout_ns;
    if (timeout_ns != 0) session.background.after(timeout_ns, unreachable);
  }
  unlock(session.shared_from_this(), client, all_of(holder), std::move(then));
  return true;
}

// The last close of an open file: what flock(2) locked by it, and open file descriptions' locks (and what was
// not flushed: see set_caching).
void release_locks(MountSession& session, FileHandle& handle, const fuse_file_info& info) {
  std::set<uint64_t> owners;
  {
    std::lock_guard guard(handle.mutex);
    owners.swap(handle.lock_owners);
  }
  std::vector<LockBook::Holder> holders;
  for (uint64_t owner : owners) holders.push_back({handle.file->node(), false, owner});
  if (info.flock_release) holders.push_back({handle.file->node(), true, info.lock_owner});
  for (const auto& holder : holders) {
    if (session.locks.take(holder))
      unlock(session.shared_from_this(), handle.file->client(), all_of(holder), {});
  }
}

void MountSession::end_locks() {
  for (const auto& [client, ticket] : locks.take_waits()) forget(client, ticket);
  for (const auto& [holder, client] : locks.take_all())
    unlock(shared_from_this(), client, all_of(holder), {});
}

void set_lock_operations(fuse_lowlevel_ops& operations) {
  operations.getlk = op_getlk;
  operations.setlk = op_setlk;
  operations.flock = op_flock;
}

}  // namespace efs
