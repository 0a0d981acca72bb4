// start: check the directory -> a session of libfuse over /dev/fuse -> threads serve.
// end: asked to, or the kernel says that it was unmounted -> buffers are sent -> detach -> waiting requests
// are answered EINTR -> threads end, while what still comes is answered ENOTCONN -> `ended`.
#include "vfs/mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <thread>

#include "peer/runtime/wakefulness.h"
#include "vfs/beside_caller.h"
#include "vfs/limits.h"
#include "vfs/mount_point.h"
#include "vfs/session.h"

namespace efs {

namespace {

constexpr unsigned kBacklog = 16;
constexpr unsigned kOverlap = 32;
constexpr int64_t kRelief = 5 * kMillisecond;
constexpr unsigned kInTurn = 4;  // requests for other peers' volumes, each awaited, before the loop receives
constexpr auto kLoopPatience = std::chrono::seconds(1);
constexpr uint64_t kReadAhead = 2 * kMaxWrite;  // one request at the disk while another is answered
constexpr int kStopCheckMs = 5;
constexpr int64_t kLastFlush = 500 * kMillisecond;  // of kUnmountPatience, for what the last releases bring

// What the kernel asks, by the head of its request (linux/fuse.h: fuse_in_header, then fuse_read_in or
// fuse_write_in, which begin alike).
struct Asked {
  uint32_t opcode = 0;
  uint64_t node = 0;
  uint32_t thread = 0;  // who asks; 0: the kernel for nobody, or somebody of another pid namespace
  uint32_t bytes = 0;   // of a READ or WRITE
  explicit Asked(const fuse_buf& buffer) {
    constexpr size_t kOpcode = 4, kNode = 16, kThread = 32, kSize = 56;
    const char* head = static_cast<const char*>(buffer.mem);
    std::memcpy(&opcode, head + kOpcode, sizeof opcode);
    std::memcpy(&node, head + kNode, sizeof node);
    std::memcpy(&thread, head + kThread, sizeof thread);
    if (buffer.size >= kSize + sizeof bytes) std::memcpy(&bytes, head + kSize, sizeof bytes);
  }
};

// The answer to what nobody serves any more (linux/fuse.h: fuse_out_header).
void refuse(int fd, const fuse_buf& buffer) {
  constexpr uint32_t kForget = 2, kInterrupt = 36, kForgetMany = 42;
  constexpr size_t kUnique = 8;
  const uint32_t opcode = Asked(buffer).opcode;
  if (opcode == kForget || opcode == kInterrupt || opcode == kForgetMany) return;  // not answered
  struct {
    uint32_t size = 16;
    int32_t error = -ENOTCONN;
    uint64_t unique = 0;
  } answer;
  static_assert(sizeof answer == 16);
  std::memcpy(&answer.unique, static_cast<const char*>(buffer.mem) + kUnique, sizeof answer.unique);
  [[maybe_unused]] const ssize_t written = write(fd, &answer, sizeof answer);
}

// Requests that read a disk, move many bytes or sync take long enough for another thread to look for the
// next meanwhile. What another peer answers takes no thread here, but for the copy of what is written.
// `perhaps`: one visit to a disk, which may be over before another thread is awake.
enum class Length { brief, perhaps_long, lengthy };
Length length_of(const Asked& asked, bool local, uint64_t dirty_bytes) {
  constexpr uint32_t kMany = 64 << 10;
  if (asked.opcode == opcode::kWrite) return asked.bytes > kMany ? Length::lengthy : Length::brief;
  if (!local) return Length::brief;
  if (asked.opcode == opcode::kRead) return asked.bytes > kMany ? Length::lengthy : Length::perhaps_long;
  if (asked.opcode == opcode::kFsync) return dirty_bytes > kMany ? Length::lengthy : Length::perhaps_long;
  const bool flushes = asked.opcode == opcode::kFlush && dirty_bytes > kMany;
  return flushes || asked.opcode == opcode::kFallocate ? Length::lengthy : Length::brief;
}

void op_init(void*, fuse_conn_info* connection) {
  auto set = [&](unsigned capability, bool on) {
    if (on && (connection->capable & capability) != 0) {
      connection->want |= capability;
    } else {
      connection->want &= ~capability;
    }
  };
  set(FUSE_CAP_ASYNC_READ, true);
  set(FUSE_CAP_ASYNC_DIO, true);
  set(FUSE_CAP_PARALLEL_DIROPS, true);
  set(FUSE_CAP_EXPORT_SUPPORT, true);
  set(FUSE_CAP_READDIRPLUS, true);
  set(FUSE_CAP_READDIRPLUS_AUTO, true);
  // Off: the kernel drops a file's pages itself when an answer gives it another size.
  set(FUSE_CAP_EXPLICIT_INVAL_DATA, false);
  set(FUSE_CAP_AUTO_INVAL_DATA, false);
  set(FUSE_CAP_WRITEBACK_CACHE, false);
  set(FUSE_CAP_ATOMIC_O_TRUNC, false);
  // Off: the kernel then clears setuid itself, by a SETATTR before the write.
  set(FUSE_CAP_HANDLE_KILLPRIV, false);
  set(FUSE_CAP_POSIX_LOCKS, true);
  set(FUSE_CAP_FLOCK_LOCKS, true);
  // The kernel then asks for a file's ACL once, not in every listing, and leaves the umask to us.
  const bool acls = (connection->capable & FUSE_CAP_POSIX_ACL) && (connection->capable & FUSE_CAP_DONT_MASK);
  set(FUSE_CAP_POSIX_ACL, acls);
  set(FUSE_CAP_DONT_MASK, acls);
  set(FUSE_CAP_SPLICE_READ, false);  // bytes are copied into the buffers anyway
  set(FUSE_CAP_SPLICE_WRITE, false);
  set(FUSE_CAP_SPLICE_MOVE, false);
  connection->max_write = kMaxWrite;
  connection->max_readahead = kMaxWrite;
  connection->max_background = 64;
  connection->congestion_threshold = 48;
  connection->time_gran = 1;
}

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops all = [] {
    fuse_lowlevel_ops made{};
    made.init = op_init;
    set_entry_operations(made);
    set_file_operations(made);
    set_directory_operations(made);
    set_attribute_operations(made);
    set_range_operations(made);
    set_lock_operations(made);
    return made;
  }();
  return all;
}

}  // namespace

// One thread's at a time, given and taken by any; a waiter that gets it is the only one woken.
class Turn {
 public:
  void take() {
    std::unique_lock lock(mutex_);
    given_.wait(lock, [this] { return !taken_; });
    taken_ = true;
  }
  void take_if_given_within(std::chrono::nanoseconds patience) {
    std::unique_lock lock(mutex_);
    taken_ |= given_.wait_for(lock, patience, [this] { return !taken_; });
  }
  void give() {
    {
      std::lock_guard lock(mutex_);
      taken_ = false;
    }
    given_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable given_;
  bool taken_ = false;
};

// Who holds `receiving` looks for requests, and serves the short ones itself: one of the workers, or the
// loop, as long as one program after another asks for what other peers own. Then the thread that asks the
// owner is the one that gets its answer, and that is awake when the program asks for the next.
struct Mount::Impl : Watched, std::enable_shared_from_this<Mount::Impl> {
  std::string directory;
  std::shared_ptr<MountSession> session;
  Ended ended;
  bool own_mount = false;  // made by mount(2) here, not by fusermount3

  Turn receiving;
  fuse_buf for_loop{};          // `receiving`: a request that the loop is to serve first
  fuse_buf for_worker{};        // `receiving`: one that the loop received and a worker is to serve
  bool worker_has_one = false;  // `receiving`
  bool loop_receives = false;   // the loop's
  std::optional<BesideCaller> beside_loop;  // the loop's
  unsigned overlaps = 0;    // `receiving`: requests for which it is presumed that others follow at once
  uint32_t last_asker = 0;  // `receiving`
  std::atomic<uint64_t> held_up{0};  // number of what who receives serves though it may take long; 0: nothing
  std::atomic<uint64_t> held_ups{0};
  std::atomic<bool> watched_for_relief{false};
  int wake_fd = -1;
  std::atomic<bool> last_was_local{true};
  std::atomic<bool> stopping{false};
  std::vector<std::thread> workers;
  std::thread supervisor;

  std::mutex mutex;
  std::condition_variable changed;
  bool asked = false;  // to unmount
  bool gone = false;   // the kernel ended it
  std::string reason;

  ~Impl() override {
    if (wake_fd >= 0) close(wake_fd);
    free(for_loop.mem);
    free(for_worker.mem);
  }
  Status open(const MountOptions& options);
  void tune_read_ahead();
  void work();
  int receive(fuse_buf& buffer);
  void serve(fuse_buf& buffer);
  bool asks_alone(uint32_t thread);
  bool more_waits(int fd);
  bool serve_or_be_relieved(fuse_buf& buffer);
  void relieve(uint64_t seen, uint64_t seen_in_all);
  void wait_for_request(int fd, Wakefulness& wakefulness);
  void give_to_loop(fuse_buf& buffer);
  int descriptor() const override { return fuse_session_fd(session->fuse); }
  void look() override;
  void before_sleep() override { beside_loop->apart(); }
  void leave() override;
  void supervise();
  void stop_notifier();
  void flush_all(int64_t until_ns);
};

Status Mount::Impl::open(const MountOptions& options) {
  std::string name = "efs";
  std::string spec =
      fmt::format("fsname=efs,subtype=efs,default_permissions{}{}", options.read_only ? ",ro" : "",
                  options.suid_and_devices ? "" : ",nosuid,nodev");
  std::string flag = "-o";
  own_mount = geteuid() == 0;
  char* arguments[] = {name.data(), flag.data(), spec.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(own_mount ? 1 : 3, arguments);
  session->fuse = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), session.get());
  if (session->fuse == nullptr) return fail(Code::io, "cannot make a FUSE session");
  if (own_mount) {
    EFS_ASSIGN(const int device,
               mount_as_root(directory, {options.read_only, options.allow_other, options.suid_and_devices}));
    if (fuse_session_custom_io(session->fuse, &protocol_io(), device) != 0) {
      close(device);
      return fail(Code::io, "cannot give a FUSE session its device");
    }
  } else if (fuse_session_mount(session->fuse, directory.c_str()) != 0) {
    return fail(
        Code::not_permitted,
        fmt::format("cannot mount at {}: fusermount3 refused (is the package fuse3 installed, and may "
                    "this user mount there?)",
                    directory));
  }
  const int fd = fuse_session_fd(session->fuse);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) return fail(from_errno(errno, "eventfd"));
  beside_loop.emplace(session->options.poll_ns > 0);
  return {};
}

// The kernel's own read-ahead is 128 KiB a file unless told otherwise: one large request instead of eight.
void Mount::Impl::tune_read_ahead() {
  const std::string device = device_of_mount(directory);
  if (!own_mount || device.empty()) return;
  std::ofstream("/sys/class/bdi/" + device + "/read_ahead_kb") << kReadAhead / 1024;
}

void Mount::Impl::wait_for_request(int fd, Wakefulness& wakefulness) {
  pollfd wait[2] = {{fd, POLLIN, 0}, {wake_fd, POLLIN, 0}};
  // What other peers answer leaves time: the processor is theirs, or the loop's.
  if (last_was_local.load(std::memory_order_relaxed)) {
    for (wakefulness.found(); wakefulness.awake(); wakefulness.found_nothing()) {
      if (poll(wait, 2, 0) != 0) return;
    }
  }
  poll(wait, 2, -1);
}

// > 0: a request; 0: none (look again); < 0: the mount is gone.
int Mount::Impl::receive(fuse_buf& buffer) {
  const int result = fuse_session_receive_buf(session->fuse, &buffer);
  if (result == -EAGAIN || result == -EINTR || result == -ENOENT) return 0;
  return result <= 0 ? -1 : result;
}

void Mount::Impl::serve(fuse_buf& buffer) {
  translate_request(buffer);
  fuse_session_process_buf(session->fuse, &buffer);
}

// Whether one program asks one thing after another. `thread` of this request, 0: nobody's. `receiving` is
// held.
bool Mount::Impl::asks_alone(uint32_t thread) {
  if (thread == 0) return overlaps == 0;
  if (std::exchange(last_asker, thread) != thread) {
    overlaps = kOverlap;
  } else if (overlaps > 0) {
    --overlaps;
  }
  return overlaps == 0;
}

bool Mount::Impl::more_waits(int fd) {
  pollfd next{fd, POLLIN, 0};
  if (poll(&next, 1, 0) == 0) return false;
  overlaps = kOverlap;
  return true;
}

// For one that asks one thing after another: nobody is woken to look for more meanwhile, unless this takes
// longer than it should. False: somebody else was, and receives now.
bool Mount::Impl::serve_or_be_relieved(fuse_buf& buffer) {
  uint64_t number = held_ups.fetch_add(1) + 1;
  held_up = number;
  if (!watched_for_relief.exchange(true)) relieve(0, 0);
  serve(buffer);
  return held_up.compare_exchange_strong(number, 0);
}

// Every kRelief, as long as there is something to look at.
void Mount::Impl::relieve(uint64_t seen, uint64_t seen_in_all) {
  uint64_t now = held_up;
  const uint64_t in_all = held_ups;
  if (now != 0 && now == seen && held_up.compare_exchange_strong(now, 0)) receiving.give();
  if (in_all == seen_in_all) {
    watched_for_relief = false;
    if (held_up == 0 || watched_for_relief.exchange(true)) return;
  }
  session->background.after(kRelief, [weak = weak_from_this(), now, in_all] {
    if (auto self = weak.lock()) self->relieve(now, in_all);
  });
}

void Mount::Impl::work() {
  fuse_buf buffer{};
  unsigned backlog = 0;  // requests that this thread took without having to wait
  unsigned in_turn = 0;  // short ones about what others own, the last so many
  bool receives = false;
  const int fd = fuse_session_fd(session->fuse);
  Wakefulness wakefulness(session->background.clock(), session->options.poll_ns);
  BesideCaller beside(session->options.poll_ns > 0);
  while (true) {
    if (!receives) receiving.take();
    receives = true;
    if (stopping.load()) break;
    const bool given = std::exchange(worker_has_one, false);
    if (given) std::swap(buffer, for_worker);
    const int result = given ? 1 : receive(buffer);
    if (result == 0) {
      backlog = 0;
      wait_for_request(fd, wakefulness);
      continue;
    }
    if (result < 0 || fuse_session_exited(session->fuse)) break;
    // Short requests are served with `receiving` held: waking another thread would cost more than they do,
    // unless so many wait that there is work for two.
    const Asked question(buffer);
    const auto client = session->tree.client(question.node);
    const bool local = !client || client->local();
    last_was_local.store(local, std::memory_order_relaxed);
    const Length length = length_of(question, local, session->context.dirty_bytes.load());
    const bool alone = asks_alone(question.thread);
    const bool is_long =
        length == Length::lengthy || (length == Length::perhaps_long && (!alone || more_waits(fd)));
    in_turn = !local && !is_long && !given ? in_turn + 1 : 0;
    if (in_turn > kInTurn && backlog < kBacklog && session->options.loop != nullptr) {
      in_turn = 0;
      receives = false;
      beside.apart();
      give_to_loop(buffer);
      continue;
    }
    if ((++backlog > kBacklog && !alone) || is_long) {
      receives = false;
      beside.apart();
      receiving.give();
    } else {
      beside.asked_by(pid_t(question.thread));
    }
    if (receives && length == Length::perhaps_long) {
      receives = serve_or_be_relieved(buffer);
    } else {
      serve(buffer);
    }
  }
  if (receives) receiving.give();
  free(buffer.mem);
  std::lock_guard lock(mutex);
  gone = true;
  changed.notify_all();
}

void Mount::Impl::give_to_loop(fuse_buf& buffer) {
  std::swap(buffer, for_loop);
  session->options.loop->post([self = shared_from_this()] {
    self->loop_receives = true;
    self->serve(self->for_loop);
    self->session->options.loop->watch(self);
    if (self->stopping.load()) self->leave();
  });
}

void Mount::Impl::look() {
  for (unsigned backlog = 0; backlog <= kBacklog; ++backlog) {  // then other events have their turn
    const int result = receive(for_loop);
    if (result == 0) return;
    if (result < 0) return leave();  // a worker finds out, too
    const Asked question(for_loop);
    const auto client = session->tree.client(question.node);
    const bool alone = asks_alone(question.thread);
    if ((backlog == kBacklog && !alone) || !client || client->local() ||
        length_of(question, false, session->context.dirty_bytes.load()) != Length::brief) {
      std::swap(for_worker, for_loop);
      worker_has_one = true;
      return leave();
    }
    beside_loop->asked_by(pid_t(question.thread));
    serve(for_loop);
  }
}

void Mount::Impl::leave() {
  if (!std::exchange(loop_receives, false)) return;
  session->options.loop->unwatch(*this);
  beside_loop->apart();
  receiving.give();
}

void Mount::Impl::flush_all(int64_t until_ns) {
  auto files = session->files->all();
  auto left = std::make_shared<std::atomic<size_t>>(files.size());
  auto finished = std::make_shared<std::pair<std::mutex, std::condition_variable>>();
  for (auto& file : files) {
    file->flush([left, finished](Code) {
      std::lock_guard lock(finished->first);
      left->fetch_sub(1);
      finished->second.notify_all();
    });
  }
  std::unique_lock lock(finished->first);
  const int64_t patience_ns = std::max<int64_t>(until_ns - session->background.clock().now_ns(), 0);
  finished->second.wait_for(lock, std::chrono::nanoseconds(patience_ns), [&] { return left->load() == 0; });
}

// Its threads may wait for locks that the kernel holds for programs whose requests nobody serves any more.
void Mount::Impl::stop_notifier() {
  std::atomic<bool> stopped{false};
  std::thread stops([&] {
    session->notifier.stop();
    stopped.store(true);
  });
  const int fd = fuse_session_fd(session->fuse);
  fuse_buf buffer{};
  if (std::exchange(worker_has_one, false)) refuse(fd, for_worker);
  while (!stopped.load()) {
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, kStopCheckMs) <= 0) continue;
    const int result = receive(buffer);
    if (result < 0) break;  // the kernel has ended it, and waits for nobody
    if (result > 0) refuse(fd, buffer);
  }
  stops.join();
  free(buffer.mem);
}

void Mount::Impl::supervise() {
  bool outside = false;
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return asked || gone; });
    outside = !asked;
    if (outside)
      reason = fmt::format("{0} was unmounted from outside; 'efs mount {0}' mounts it again", directory);
  }
  const int64_t until_ns = session->background.clock().now_ns() + kUnmountPatience;
  flush_all(until_ns - kLastFlush);
  if (!outside && is_efs_mount(directory))
    detach_mount(directory);  // still served: pages may be written back
  stopping.store(true);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t woken = write(wake_fd, &one, sizeof one);
  if (session->options.loop != nullptr)
    session->options.loop->post([self = shared_from_this()] { self->leave(); });
  for (auto& worker : workers) worker.join();
  receiving.take_if_given_within(kLoopPatience);  // the loop has ended, too
  session->interrupt_all();
  flush_all(until_ns);  // what the last releases brought
  if (const uint64_t lost = session->context.dirty_bytes.load(); lost != 0)
    session->log.warning("unmounting {}: {} bytes that were written could not be sent to their owner",
                         directory, lost);
  session->end_locks();
  session->background.stop();
  session->files->end();
  stop_notifier();
  fuse_session_unmount(session->fuse);
  if (own_mount) {
    // libfuse closes the descriptor of a session that it did not mount only at the end: end the connection
    // now.
    const int fd = fuse_session_fd(session->fuse);
    if (fd >= 0) {
      const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
      dup2(null, fd);
      close(null);
    }
  }
  if (ended) ended(reason);
}

Mount::Mount(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Mount::~Mount() {
  unmount();
  impl_->supervisor.join();
}

Result<std::unique_ptr<Mount>> Mount::start(const MountOptions& options, VolumeDirectory& directory,
                                            const Clock& clock, Logger& log, Ended ended) {
  EFS_ASSIGN(const std::string path, prepare_mount_point(options.directory));
  auto impl = std::make_shared<Impl>();
  impl->directory = path;
  impl->ended = std::move(ended);
  impl->session = std::make_shared<MountSession>(options, directory, clock, log);
  EFS_TRY(impl->open(options));
  const unsigned threads = std::clamp(options.threads, 1u, kMaxThreads);
  Impl& mount = *impl;
  for (unsigned i = 0; i < threads; ++i) {
    mount.workers.emplace_back([&mount] { mount.work(); });
    pthread_setname_np(mount.workers.back().native_handle(), "efs-fuse");
  }
  mount.supervisor = std::thread([&mount] { mount.supervise(); });
  mount.tune_read_ahead();
  return std::unique_ptr<Mount>(new Mount(std::move(impl)));
}

void Mount::unmount() {
  std::lock_guard lock(impl_->mutex);
  impl_->asked = true;
  impl_->changed.notify_all();
}

const std::string& Mount::directory() const {
  return impl_->directory;
}

}  // namespace efs
