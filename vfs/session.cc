#include "vfs/session.h"

#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <vector>

#include "vfs/limits.h"

namespace efs {

namespace {

// The mount whose thread this is: changes that it makes are known to its kernel already.
thread_local const MountSession* own_mount = nullptr;

// Whether this thread has a signal to die of: SIGKILL, which the kernel makes of every signal that ends a
// program, or one that dumps core and is neither caught nor ignored (proc(5), signal(7)).
bool is_being_killed(pid_t thread) {
  constexpr uint64_t kKill = uint64_t(1) << (SIGKILL - 1);
  uint64_t dumps = 0, pending = 0, harmless = 0;
  for (int number : {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ})
    dumps |= uint64_t(1) << (number - 1);
  std::ifstream status("/proc/" + std::to_string(thread) + "/status");
  std::string name, value;
  while (status >> name && std::getline(status, value)) {
    const bool waits = name == "SigPnd:" || name == "ShdPnd:";
    const bool kept_off = name == "SigBlk:" || name == "SigIgn:" || name == "SigCgt:";
    if (!waits && !kept_off) continue;
    (waits ? pending : harmless) |= std::strtoull(value.c_str(), nullptr, 16);
  }
  return (pending & kKill) != 0 || (pending & dumps & ~harmless) != 0;
}

void on_interrupt(fuse_req_t, void* data) {
  static_cast<KernelRequest*>(data)->interrupt();
}

}  // namespace

// ---- one request ----

KernelRequest::KernelRequest(std::shared_ptr<MountSession> session, fuse_req_t request)
    : session_(std::move(session)), request_(request) {
  const fuse_ctx* context = fuse_req_ctx(request);
  who_.uid = context->uid;
  who_.gid = context->gid;
  thread_ = context->pid;
  session_->requests.fetch_add(1, std::memory_order_relaxed);
}

KernelRequest::~KernelRequest() {
  error(EIO);  // whoever dropped it without an answer must not leave a program waiting
}

bool KernelRequest::fetch_groups() {
  if (who_.groups_known) return false;
  who_.groups_known = true;
  std::vector<gid_t> groups(kMaxGroups);
  const int count = fuse_req_getgroups(request_, int(groups.size()), groups.data());
  if (count > 0) who_.groups.assign(groups.begin(), groups.begin() + std::min(count, int(groups.size())));
  return true;
}

void KernelRequest::listen(std::shared_ptr<VolumeClient> client) {
  if (listening_) return;
  client_ = std::move(client);
  interrupted_ = std::make_shared<std::atomic<bool>>(false);
  listening_ = true;
  session_->track(this, true);
  fuse_req_interrupt_func(request_, on_interrupt, this);
}

VolumeClient::Options KernelRequest::options() const {
  VolumeClient::Options options;
  options.timeout_ns = session_->options.unreachable_timeout_ns;
  options.interrupted = interrupted_;
  return options;
}

// Called under libfuse's lock of the request: only posts.
void KernelRequest::interrupt() {
  session_->background.post([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->consider(self->session_->background.clock().now_ns());
  });
}

// The kernel tells of the first signal only: whether a later one kills has to be looked for.
void KernelRequest::consider(int64_t interrupted_ns) {
  if (claimed_.load()) return;
  const int64_t waited_ns = session_->background.clock().now_ns() - interrupted_ns;
  if (waited_ns >= kInterruptPatience || is_being_killed(thread_)) return give_up();
  session_->background.after(kInterruptCheck, [weak = weak_from_this(), interrupted_ns] {
    if (auto self = weak.lock()) self->consider(interrupted_ns);
  });
}

void KernelRequest::give_up() {
  interrupted_->store(true);
  session_->background.post([weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self) return;
    if (self->client_) {
      self->client_->poke();
    } else {
      self->error(Code::interrupted);
    }
  });
}

bool KernelRequest::claim() {
  if (claimed_.exchange(true)) return false;
  if (listening_) {
    fuse_req_interrupt_func(request_, nullptr, nullptr);
    session_->track(this, false);
  }
  return true;
}

bool KernelRequest::error(int number) {
  return claim() && fuse_reply_err(request_, number) == 0;
}

// ---- the mount ----

MountSession::MountSession(const MountOptions& mount_options, VolumeDirectory& directory, const Clock& clock,
                           Logger& logger)
    : options(mount_options),
      log(logger),
      tree(directory, clock),
      background(clock),
      context{background},
      notifier(*this),
      files(std::make_shared<Files>(context)) {
  context.notifier = &notifier;
  context.unreachable_timeout_ns = options.unreachable_timeout_ns;
  background.post([this] { mark_own_thread(); });
}

MountSession::~MountSession() {
  background.stop();
  notifier.stop();
  if (fuse != nullptr) fuse_session_destroy(fuse);
}

void MountSession::mark_own_thread() {
  own_mount = this;
}

bool MountSession::watch(const std::shared_ptr<VolumeClient>& client) {
  {
    std::lock_guard lock(mutex_);
    VolumeClient*& known = watched_[client->number()];
    if (known == client.get()) return false;
    known = client.get();
  }
  const VolumeNumber volume = client->number();
  client->on_change([weak = weak_from_this(), volume](const VolumeClient::Change& change) {
    if (auto self = weak.lock()) self->changed(volume, change);
  });
  client->on_new_verifier([weak = weak_from_this(), volume] {
    auto self = weak.lock();
    if (!self) return;
    for (auto& file : self->files->of_volume(volume))
      self->background.post([file] { file->owner_restarted(); });
  });
  return true;
}

std::shared_ptr<VolumeClient> MountSession::client(uint64_t node) {
  auto client = tree.client(node);
  if (client) watch(client);
  return client;
}

void MountSession::changed(VolumeNumber volume, const VolumeClient::Change& change) {
  if (own_mount == this) return;
  if (change.inode != 0) notifier.inode(global_inode(volume, change.inode), change.content);
  if (!change.name.empty()) {
    notifier.entry(global_inode(volume, change.parent), change.name);
    notifier.inode(global_inode(volume, change.parent), false);
  }
}

double MountSession::timeout(const VolumeClient& client, const OpenFile* file, bool assumed) const {
  if (assumed || !client.local()) return 0;
  if (file != nullptr && !file->clean()) return 0;  // its times and blocks change when it is sent
  return double(options.owner_timeout_ns) / double(kSecond);
}

void MountSession::call(const RequestPtr& request, uint64_t node, RequestBody body, Answered answered) {
  call(request, client(node), std::move(body), std::move(answered));
}

void MountSession::call(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
                        RequestBody body, Answered answered) {
  if (!client) {
    request->error(Code::stale);
    return;
  }
  if (!client->local() || std::holds_alternative<Sync>(body)) request->listen(client);
  std::shared_ptr<RequestBody> again;
  if (request->who().uid != 0 && !request->who().groups_known) again = std::make_shared<RequestBody>(body);
  client->call(request->who(), std::move(body), {}, request->options(),
               [request, client, again, answered = std::move(answered)](VolumeAnswer answer) {
                 const Code code = answer.reply.code;
                 if (again && (code == Code::access_denied || code == Code::not_permitted) &&
                     request->fetch_groups()) {
                   return request->session().call(request, client, std::move(*again), answered);
                 }
                 if (code == Code::ok) return answered(answer);
                 request->error(code);
               });
}

struct stat to_stat(VolumeNumber volume, const Attributes& attributes) {
  auto time = [](int64_t ns) {
    timespec value{};
    value.tv_sec = ns / kSecond;
    value.tv_nsec = ns % kSecond;
    if (value.tv_nsec < 0) {
      value.tv_nsec += kSecond;
      --value.tv_sec;
    }
    return value;
  };
  struct stat info {};
  info.st_ino = global_inode(volume, attributes.inode);
  info.st_mode = attributes.mode;
  info.st_nlink = attributes.nlink;
  info.st_uid = attributes.uid;
  info.st_gid = attributes.gid;
  info.st_rdev = attributes.rdev;
  info.st_size = off_t(attributes.size);
  info.st_blksize = 4096;
  info.st_blocks = blkcnt_t(attributes.blocks);
  info.st_atim = time(attributes.atime_ns);
  info.st_mtim = time(attributes.mtime_ns);
  info.st_ctim = time(attributes.ctime_ns);
  return info;
}

fuse_entry_param MountSession::entry_of(const std::shared_ptr<VolumeClient>& client,
                                        const Attributes& attributes, bool assumed,
                                        OpenFile::Elsewhere* elsewhere) {
  const bool fresh = watch(client);
  fuse_entry_param entry{};
  entry.ino = global_inode(client->number(), attributes.inode);
  entry.generation = attributes.generation;
  auto file = files->find(entry.ino);
  auto changed = OpenFile::Elsewhere::none;
  entry.attr = to_stat(client->number(), file ? file->seen(attributes, &changed) : attributes);
  entry.attr_timeout = entry.entry_timeout = timeout(*client, file.get(), assumed || fresh);
  if (client->local()) changed = OpenFile::Elsewhere::none;  // the notifier was told
  if (elsewhere) {
    *elsewhere = changed;
  } else if (changed == OpenFile::Elsewhere::same_size) {
    notifier.inode(entry.ino, true);
  }
  return entry;
}

void MountSession::reply_entry(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
                               const Attributes& attributes, bool assumed) {
  const fuse_entry_param entry = entry_of(client, attributes, assumed);
  request->reply([&](fuse_req_t to) { return fuse_reply_entry(to, &entry); });
}

// When others changed a file that is open here, its pages are dropped before the answer: whoever sees the new
// times then reads the new bytes. But the kernel ignores the attributes in an answer that a notification
// overtook, and would keep the old size, again and again while the file grows. So an answer with another size
// goes without one: the kernel drops the pages itself as it takes it. Whoever asks for attributes holds no
// lock that the notification waits for.
void MountSession::reply_attributes(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
                                    const Attributes& attributes, bool assumed) {
  auto elsewhere = OpenFile::Elsewhere::none;
  const fuse_entry_param entry = entry_of(client, attributes, assumed, &elsewhere);
  auto answer = [request, entry] {
    request->reply([&](fuse_req_t to) { return fuse_reply_attr(to, &entry.attr, entry.attr_timeout); });
  };
  if (elsewhere == OpenFile::Elsewhere::same_size) return notifier.inode(entry.ino, true, answer);
  answer();
}

void MountSession::note_change(const std::shared_ptr<VolumeClient>& client, const Attributes& attributes) {
  if (auto file = files->find(global_inode(client->number(), attributes.inode))) file->own_change(attributes);
}

void MountSession::forget_inode(uint64_t node, bool pages) {
  fuse_lowlevel_notify_inval_inode(fuse, node, pages ? 0 : -1, 0);
}

void MountSession::forget_entry(uint64_t parent, const std::string& name) {
  fuse_lowlevel_notify_inval_entry(fuse, parent, name.c_str(), name.size());
}

void MountSession::track(KernelRequest* request, bool waiting) {
  std::lock_guard lock(waiting_mutex_);
  if (waiting) {
    waiting_.insert(request);
  } else {
    waiting_.erase(request);
  }
}

// Under the lock: a request leaves `waiting_` before it dies.
void MountSession::interrupt_all() {
  std::lock_guard lock(waiting_mutex_);
  for (KernelRequest* request : waiting_) request->give_up();
}

std::shared_ptr<MountSession> session_of(fuse_req_t request) {
  return static_cast<MountSession*>(fuse_req_userdata(request))->shared_from_this();
}

}  // namespace efs
