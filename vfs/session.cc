#include "vfs/session.h"

#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <vector>

#include "vfs/limits.h"

namespace efs {

namespace {

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
  since_ = session_->given.now();
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
  if (!listening_) listen(std::move(client), std::make_shared<std::atomic<bool>>(false));
}

bool KernelRequest::listen(std::shared_ptr<VolumeClient> client,
                           std::shared_ptr<std::atomic<bool>> interrupted) {
  if (listening_) return false;
  client_ = std::move(client);
  interrupted_ = std::move(interrupted);
  listening_ = true;
  session_->track(this, true);
  fuse_req_interrupt_func(request_, on_interrupt, this);
  return true;
}

void KernelRequest::listen_with(std::function<void()> give_up, bool at_once) {
  give_up_ = std::move(give_up);
  at_once_ = at_once;
  listen(nullptr);
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
  if (at_once_ || waited_ns >= kInterruptPatience || is_being_killed(thread_)) return give_up();
  session_->background.after(kInterruptCheck, [weak = weak_from_this(), interrupted_ns] {
    if (auto self = weak.lock()) self->consider(interrupted_ns);
  });
}

void KernelRequest::give_up() {
  interrupted_->store(true);
  session_->background.post([weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self) return;
    if (self->give_up_) {
      self->give_up_();
    } else if (self->client_) {
      self->client_->poke();
      // Who waits for something else than its own question is not woken by that.
      self->session_->background.after(kGiveUpPatience, [weak] {
        if (auto waits = weak.lock()) waits->error(Code::interrupted);
      });
    } else {
      self->error(Code::interrupted);
    }
  });
}

bool KernelRequest::claim(int number) {
  if (claimed_.exchange(true)) return false;
  answers();
  if (number == 0 && !walks_) session_->stale.went_well(thread_);
  if (listening_) {
    fuse_req_interrupt_func(request_, nullptr, nullptr);
    session_->track(this, false);
  }
  return true;
}

void KernelRequest::changes_names_in(uint64_t directory) {
  if (locked_[0] == directory) return;
  locked_[locked_[0] != 0 ? 1 : 0] = directory;
  session_->locked.add(directory);
}

// Who answers and who interrupts may come here at once.
void KernelRequest::answers() {
  for (auto& locked : locked_) {
    if (const uint64_t directory = locked.exchange(0)) session_->locked.remove(directory);
  }
}

bool KernelRequest::error(int number) {
  return claim(number) && fuse_reply_err(request_, number) == 0;
}

bool KernelRequest::is_repeated() const {
  return session_->stale.told(thread_, session_->background.clock().now_ns());
}

void KernelRequest::holds_what_it_found() {
  session_->stale.held(thread_, session_->background.clock().now_ns());
}

bool KernelRequest::as_root() {
  if (!by_handle_ || who_.uid == 0) return false;
  who_ = Credentials{0, 0, {}, true};
  return true;
}

bool KernelRequest::path_error(Code code) {
  if (code != Code::stale || !session_->stale.again(thread_, session_->background.clock().now_ns()))
    return error(code);
  return error(ENOENT);
}

// ---- the mount ----

MountSession::MountSession(const MountOptions& mount_options, VolumeDirectory& directory, const Clock& clock,
                           Logger& logger)
    : options(mount_options),
      log(logger),
      volumes(directory, clock, [this](const std::shared_ptr<VolumeClient>& client) { listen_to(client); }),
      tree(volumes, clock),
      background(clock),
      context{background},
      notifier(*this),
      files(std::make_shared<Files>(context)) {
  context.notifier = &notifier;
  context.log = &log;
  context.unreachable_timeout_ns = options.unreachable_timeout_ns;
}

MountSession::~MountSession() {
  background.stop();
  notifier.stop();
  if (fuse != nullptr) fuse_session_destroy(fuse);
}

std::shared_ptr<VolumeClient> LeasedVolumes::client(VolumeNumber number) {
  auto client = volumes_.client(number);
  if (!client) return nullptr;
  std::lock_guard lock(mutex_);
  One& one = clients_[number];
  if (one.of != client) {
    one.of = client;
    one.shown = client->local() ? client : std::make_shared<LeaseCache>(client, clock_);
    found_(one.shown);
  }
  return one.shown;
}

void MountSession::listen_to(const std::shared_ptr<VolumeClient>& client) {
  const VolumeNumber volume = client->number();
  client->on_recall(
      [weak = weak_from_this(), volume](const Recall& recall, VolumeClient::Forgotten forgotten) {
        auto self = weak.lock();
        if (!self) return forgotten();
        self->recalled(volume, recall, std::move(forgotten));
      },
      [weak = weak_from_this(), volume](InodeNumber inode) {
        auto self = weak.lock();
        if (!self) return false;
        const uint64_t node = global_inode(volume, inode);
        const bool shown = self->given.take(node_key(node), self->background.clock().now_ns());
        return shown || self->files->find(node) != nullptr;
      });
  client->on_leases_lost([weak = weak_from_this(), volume](bool for_good) {
    if (auto self = weak.lock()) self->leases_lost(volume, for_good);
  });
  client->on_new_verifier([weak = weak_from_this(), weak_client = std::weak_ptr(client),
                           volume](const VolumeClient::Resending& resending) {
    auto self = weak.lock();
    auto restarted = weak_client.lock();
    if (!self || !restarted) return;
    self->files->owner_restarted(*restarted);
    for (auto& file : self->files->of_volume(volume))
      self->background.post([file, resending] { file->owner_restarted(resending); });
  });
}

// Everything that one Recall has to wait for.
struct MountSession::News {
  explicit News(VolumeClient::Forgotten then) : forgotten(std::move(then)) {}
  ~News() { forgotten(); }
  VolumeClient::Forgotten forgotten;
};

void MountSession::recalled(VolumeNumber volume, const Recall& recall, VolumeClient::Forgotten forgotten) {
  auto news = std::make_shared<News>(std::move(forgotten));
  for (const RecallItem& item : recall.items) {
    const uint64_t node = global_inode(volume, item.inode);
    if (!item.flush) {
      tell_kernel(node, item, news);
    } else if (auto file = files->find(node)) {
      background.post([file, news] { file->stop_buffering([news](Code) {}); });
    }
  }
}

// News of a name, or of attributes that the kernel may be about to take (forget_inode()), waits for the lock
// of a directory. What keeps that locked may be a question to an owner that is down: when the kernel does not
// believe them any more by itself, it needs not be told. Pages and listings it would believe.
std::function<void()> MountSession::until_it_ends_by_itself(const std::shared_ptr<News>& news,
                                                            int64_t until_ns) {
  bool looks = true;
  std::pair<int64_t, uint64_t> key;
  {
    std::lock_guard lock(news_mutex_);
    key = {until_ns, ++short_news_count_};
    short_news_.emplace(key, news);
    std::swap(looks, looks_for_old_news_);
  }
  if (!looks) look_for_old_news();
  return [this, key] {  // the notifier has run it before the session ends
    std::unique_lock lock(news_mutex_);
    const auto told = short_news_.extract(key);  // let go of without the lock
    lock.unlock();
  };
}

void MountSession::look_for_old_news() {
  background.after(kNewsCheck, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->end_old_news();
  });
}

void MountSession::end_old_news() {
  const int64_t now_ns = background.clock().now_ns();
  std::vector<std::shared_ptr<News>> over;
  bool looks = false;
  {
    std::lock_guard lock(news_mutex_);
    while (!short_news_.empty() && short_news_.begin()->first.first <= now_ns)
      over.push_back(std::move(short_news_.extract(short_news_.begin()).mapped()));
    looks = looks_for_old_news_ = !short_news_.empty();
  }
  if (looks) look_for_old_news();
}

void MountSession::tell_kernel(uint64_t node, const RecallItem& item, const std::shared_ptr<News>& news) {
  const int64_t now_ns = background.clock().now_ns();
  auto told = [news] {};
  const auto ends = [&] {
    const auto client = tree.client(node);
    const int64_t believed_ns = client && client->local() ? options.owner_timeout_ns : kLeaseTerm;
    return until_it_ends_by_itself(news, now_ns + believed_ns + kNewsCheck);
  };
  const bool attributes = given.take(node_key(node), now_ns);
  if (!item.name.empty()) {
    const bool listing = given.take(listing_key(node), now_ns);
    if (given.take(entry_key(node, item.name), now_ns)) notifier.entry(node, item.name, ends());
    if (listing) return notifier.inode(node, true, told);
    if (attributes) notifier.inode(node, false, ends());
    return;
  }
  auto file = files->find(node);
  if (file) file->attributes_are_stale();
  if (file && item.content) file->pages_are_stale();
  if (file) return notifier.inode(node, item.content, told);
  if (attributes) notifier.inode(node, false, ends());
}

// What was buffered under a lease that is gone is sent, or refused; then the owner hears that what comes now
// is new.
void MountSession::send_late(const std::shared_ptr<OpenFile>& file) {
  const auto again = [weak = weak_from_this(), file] {
    if (auto self = weak.lock()) {
      self->background.after(kRetryAfter, [weak, file] {
        if (auto later = weak.lock()) later->send_late(file);
      });
    }
  };
  file->stop_buffering([file, again](Code code) {
    if (code != Code::ok) return again();
    file->client()->call({}, DropLeases{{file->inode()}, 0, false, true}, {}, {},
                         [again](VolumeAnswer answer) {
                           if (is_transient(answer.reply.code)) again();
                         });
  });
}

// What the kernel believes ends by itself with the leases; but for pages of open files.
void MountSession::leases_lost(VolumeNumber volume, bool for_good) {
  given.take_all();
  for (auto& file : files->of_volume(volume)) {
    file->attributes_are_stale();
    file->pages_are_stale();
    if (for_good) {
      background.post([weak = weak_from_this(), file] {
        if (auto self = weak.lock()) self->send_late(file);
      });
    }
    notifier.inode(file->node(), true);
  }
}

int64_t MountSession::believe(uint64_t since, const VolumeClient& client, uint64_t key, bool leased) {
  if (!leased) return 0;
  const int64_t now_ns = background.clock().now_ns();
  const int64_t until_ns = client.lease_until_ns();
  const int64_t timeout_ns = until_ns > now_ns ? std::min(options.owner_timeout_ns, until_ns - now_ns) : 0;
  return timeout_ns > 0 && given.give(key, since, now_ns, timeout_ns) ? timeout_ns : 0;
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
  if (request->who().uid != 0 && context.pending_attributes.load() != 0) {
    return settle_attributes(request, client->number(),
                             [request, client, body = std::move(body), answered = std::move(answered)] {
                               request->session().ask(request, client, body, answered);
                             });
  }
  ask(request, client, std::move(body), std::move(answered));
}

void MountSession::settle_attributes(const RequestPtr& request, VolumeNumber volume,
                                     std::function<void()> then) {
  if (request->who().uid == 0 || context.pending_attributes.load() == 0) return then();
  auto left = std::shared_ptr<void>(nullptr, [then = std::move(then)](void*) { then(); });
  for (auto& file : files->of_volume(volume)) {
    if (file->holds_attributes()) file->flush([left](Code) {});
  }
}

void MountSession::ask(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
                       RequestBody body, Answered answered) {
  if (request->is_answered()) return;
  std::shared_ptr<RequestBody> again;
  if (request->who().uid != 0 && (!request->who().groups_known || request->is_by_handle()))
    again = std::make_shared<RequestBody>(body);
  client->call(request->who(), std::move(body), {}, request->options(),
               [request, client, again, answered = std::move(answered)](VolumeAnswer answer) {
                 const Code code = answer.reply.code;
                 if (again && (code == Code::access_denied || code == Code::not_permitted) &&
                     (request->fetch_groups() || request->as_root())) {
                   return request->session().call(request, client, std::move(*again), answered);
                 }
                 if (code == Code::ok) return answered(answer);
                 request->path_error(code);
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
  info.st_blksize = blksize_t(kBlockBytes);
  info.st_blocks = blkcnt_t(attributes.blocks);
  info.st_atim = time(attributes.atime_ns);
  info.st_mtim = time(attributes.mtime_ns);
  info.st_ctim = time(attributes.ctime_ns);
  return info;
}

fuse_entry_param MountSession::entry_of(uint64_t since, const std::shared_ptr<VolumeClient>& client,
                                        const Attributes& attributes, const Shown& shown) {
  fuse_entry_param entry{};
  entry.ino = global_inode(client->number(), attributes.inode);
  entry.generation = attributes.generation;
  auto file = files->find(entry.ino);
  // Else its times and blocks change when it is sent. Asked first: that may end in between.
  const bool settled = !file || file->clean();
  entry.attr = to_stat(client->number(), file ? file->seen(attributes) : attributes);
  // Before it is believed: news from then on waits for the answer (forget_inode()).
  if (shown.parent != 0) note_shown(entry.ino, shown.parent);
  const auto seconds = [](int64_t ns) { return double(ns) / double(kSecond); };
  if (settled)
    entry.attr_timeout =
        seconds(believe(since, *client, node_key(entry.ino), (shown.lease & kLeaseInode) != 0));
  if (shown.parent != 0) {
    const VolumeClient& directory = shown.directory ? *shown.directory : *client;
    entry.entry_timeout = seconds(
        believe(since, directory, entry_key(shown.parent, shown.name), (shown.lease & kLeaseDirectory) != 0));
  }
  return entry;
}

void MountSession::reply_entry(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
                               const Attributes& attributes, const Shown& shown) {
  request->answers();
  const fuse_entry_param entry = entry_of(request->since(), client, attributes, shown);
  request->reply([&](fuse_req_t to) { return fuse_reply_entry(to, &entry); });
}

// A name that is not there; the kernel remembers that as long as it is leased.
void MountSession::reply_absent(const RequestPtr& request, const VolumeClient& client, const Shown& shown) {
  const int64_t timeout_ns = believe(request->since(), client, entry_key(shown.parent, shown.name),
                                     (shown.lease & kLeaseDirectory) != 0);
  if (timeout_ns == 0) return void(request->error(ENOENT));
  fuse_entry_param entry{};
  entry.entry_timeout = double(timeout_ns) / double(kSecond);
  request->reply([&](fuse_req_t to) { return fuse_reply_entry(to, &entry); });
}

// Without a notification beside it: the kernel ignores attributes that one overtakes, and would keep an old
// size. Pages that others have changed were dropped when that was recalled.
void MountSession::reply_attributes(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
                                    const Attributes& attributes, uint8_t lease) {
  const fuse_entry_param entry = entry_of(request->since(), client, attributes, {0, {}, lease, nullptr});
  const int64_t birth_ns = attributes.btime_ns;
  request->reply([&](fuse_req_t to) {
    return request->wants_birth_time() ? reply_statx(to, entry.attr, birth_ns, entry.attr_timeout)
                                       : fuse_reply_attr(to, &entry.attr, entry.attr_timeout);
  });
}

// Before it decides by an ACL it has looked at the entry and the attributes, and forgets the ACL when it had
// to ask for one of them: until these end. And an answer may be long on its way.
void MountSession::expect_acl(uint64_t node) {
  const int64_t on_its_way_ns =
      options.unreachable_timeout_ns > 0 ? options.unreachable_timeout_ns : kForLong;
  given.give(node_key(node), given.now(), background.clock().now_ns(),
             options.owner_timeout_ns + on_its_way_ns);
}

void MountSession::note_shown(uint64_t node, uint64_t parent) {
  ShownIn& slot = shown_in_[node_key(node) % shown_in_.size()];
  slot.parent = parent;
  slot.node = node;
}

void MountSession::note_change(const std::shared_ptr<VolumeClient>& client, const Attributes& attributes) {
  const uint64_t node = global_inode(client->number(), attributes.inode);
  if (auto file = files->find(node)) return file->names_changed(attributes);
  if (attributes.nlink == 0 && attributes.inode != 0) removed.add(node, attributes);
}

bool MountSession::mark_access(FileHandle& handle) {
  if (!handle.marks_access.exchange(false)) return false;
  if (!handle.file->mark_access()) mark_access(handle.file->client(), handle.who, handle.file->inode());
  return true;
}

void MountSession::mark_access(const std::shared_ptr<VolumeClient>& client, const Credentials& who,
                               InodeNumber inode) {
  if (options.read_only) return;
  client->call(who, MarkAccess{inode}, {}, {}, [](VolumeAnswer) {});
}

// An inode that the kernel does not know may be in an answer that it has taken and not yet looked at: whoever
// asked holds the directory's lock until then, and the second call waits for that.
void MountSession::forget_inode(uint64_t node, bool pages) {
  const off_t from = pages ? 0 : -1;
  if (fuse_lowlevel_notify_inval_inode(fuse, node, from, 0) != -ENOENT) return;
  const ShownIn& slot = shown_in_[node_key(node) % shown_in_.size()];
  const uint64_t last = slot.node.load(), parent = slot.parent.load();  // note_shown() sets them backwards
  // While names are being changed there for a request of our own, no other answer is on its way there: what
  // it will be answered is looked for after the news (KernelRequest::answers()).
  if (last != node || locked.contains(parent)) return;
  fuse_lowlevel_notify_inval_entry(fuse, parent, "\x01", 1);
  fuse_lowlevel_notify_inval_inode(fuse, node, from, 0);
}

void MountSession::forget_entry(uint64_t parent, const std::string& name) {
  fuse_lowlevel_notify_inval_entry(fuse, parent, name.c_str(), name.size());
}

bool MountSession::lost_names(const VolumeClient& client, uint64_t& seen) {
  const uint64_t lost = client.owners_log().names_lost;
  std::lock_guard lock(lost_mutex_);
  if (seen >= lost) return false;
  seen = lost_and_told_[client.number()] = lost;
  return true;
}

uint64_t MountSession::names_lost_and_told(const VolumeClient& client) {
  if (client.local()) return 0;
  std::lock_guard lock(lost_mutex_);
  auto told = lost_and_told_.find(client.number());
  return told == lost_and_told_.end() ? 0 : told->second;
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

void set_mode(Create& body, fuse_req_t request, uint32_t mode) {
  const uint32_t umask = fuse_req_ctx(request)->umask & 0777;
  body.mode = mode & ~umask;
  body.masked = mode & umask;
}

std::shared_ptr<MountSession> session_of(fuse_req_t request) {
  return static_cast<MountSession*>(fuse_req_userdata(request))->shared_from_this();
}

RequestPtr begin(fuse_req_t request) {
  return std::make_shared<KernelRequest>(session_of(request), request);
}

}  // namespace efs
