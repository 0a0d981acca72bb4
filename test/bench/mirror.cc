// A directory of this machine, mounted again through FUSE: what FUSE itself costs, and so the limit that efs
// is measured against (test/bench/compare).
//   mirror SOURCE MOUNT [--threads N]
// Serves in the foreground until SIGTERM or unmounted.
//
// It does as little as a filesystem can: a node is an O_PATH descriptor, a request is the same system call on
// it. The kernel caches all it can without a writeback cache: entries (absent ones too), attributes, pages
// and directories, for a day, as nobody else changes SOURCE. Extended attributes are served. libfuse's own
// loop and threads. (Splicing, and one descriptor of the device for all threads, were tried: no faster.)
#define FUSE_USE_VERSION 312
#include <dirent.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fs.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr double kTimeout = 86400;        // seconds
constexpr size_t kMaxRequest = 1u << 20;  // bytes

struct Handle {
  file_handle head;
  unsigned char bytes[MAX_HANDLE_SZ];
};

struct Node {
  int fd = -1;                     // O_PATH; -1: the handle is used
  std::unique_ptr<Handle> handle;  // of a file beyond the descriptors
  dev_t device = 0;
  ino_t number = 0;
  uint64_t lookups = 0;  // under Nodes::mutex
};

struct NodeKey {
  dev_t device;
  ino_t number;
  bool operator==(const NodeKey&) const = default;
};
struct NodeKeyHash {
  size_t operator()(const NodeKey& key) const { return key.number * 0x9e3779b97f4a7c15u ^ key.device; }
};

// The nodes that the kernel knows; a node's id is its address.
class Nodes {
 public:
  Node root;
  int source = -1;  // readable, for handles
  size_t most_descriptors = 0;

  static Node& of(fuse_ino_t id) {
    return id == FUSE_ROOT_ID ? instance().root : *reinterpret_cast<Node*>(id);
  }
  static Nodes& instance() {
    static Nodes nodes;
    return nodes;
  }

  // Takes fd: the node of that file, looked up once more.
  Node* add(int fd, const struct stat& attributes) {
    std::lock_guard lock(mutex_);
    auto& place = all_[{attributes.st_dev, attributes.st_ino}];
    if (place == nullptr) {
      place = std::make_unique<Node>();
      place->fd = fd;
      place->device = attributes.st_dev;
      place->number = attributes.st_ino;
      if (descriptors_ >= most_descriptors && !S_ISDIR(attributes.st_mode)) use_handle(*place);
      if (place->fd >= 0) ++descriptors_;
    } else {
      close(fd);
    }
    ++place->lookups;
    return place.get();
  }
  void forget(fuse_ino_t id, uint64_t lookups) {
    if (id == FUSE_ROOT_ID) return;
    Node& node = of(id);
    std::lock_guard lock(mutex_);
    node.lookups -= std::min(lookups, node.lookups);
    if (node.lookups != 0) return;
    if (node.fd >= 0) {
      close(node.fd);
      --descriptors_;
    }
    all_.erase(NodeKey{node.device, node.number});
  }

 private:
  // Keeps the descriptor if SOURCE's filesystem has no handles.
  static void use_handle(Node& node) {
    auto handle = std::make_unique<Handle>();
    handle->head.handle_bytes = MAX_HANDLE_SZ;
    int mount = 0;
    if (name_to_handle_at(node.fd, "", &handle->head, &mount, AT_EMPTY_PATH) != 0) return;
    close(node.fd);
    node.fd = -1;
    node.handle = std::move(handle);
  }

  std::mutex mutex_;
  std::unordered_map<NodeKey, std::unique_ptr<Node>, NodeKeyHash> all_;
  size_t descriptors_ = 0;
};

// A node's descriptor while a request uses it.
class NodeFd {
 public:
  explicit NodeFd(fuse_ino_t id) : node_(Nodes::of(id)) {
    fd_ = node_.handle == nullptr ? node_.fd
                                  : open_by_handle_at(Nodes::instance().source, &node_.handle->head, O_PATH);
  }
  ~NodeFd() {
    if (node_.handle != nullptr && fd_ >= 0) close(fd_);
  }
  NodeFd(const NodeFd&) = delete;
  NodeFd& operator=(const NodeFd&) = delete;
  operator int() const { return fd_; }

 private:
  const Node& node_;
  int fd_;
};

unsigned threads = 10;

// Of a directory, which keeps its descriptor.
int directory_fd(fuse_ino_t id) {
  return Nodes::of(id).fd;
}

// The file behind an O_PATH descriptor, for calls that take no such descriptor.
struct ProcPath {
  char text[32];
  explicit ProcPath(int fd) { snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }
};

void reply(fuse_req_t request, int result) {
  fuse_reply_err(request, result == 0 ? 0 : errno);
}

// The entry of a name, counted as looked up: 0 or an errno.
int find(int parent, const char* name, fuse_entry_param& entry) {
  entry = {};
  entry.attr_timeout = entry.entry_timeout = kTimeout;
  const int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return errno;
  if (fstatat(fd, "", &entry.attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) {
    const int error = errno;
    close(fd);
    return error;
  }
  entry.ino = reinterpret_cast<fuse_ino_t>(Nodes::instance().add(fd, entry.attr));
  return 0;
}

// What was made belongs to who asked.
void give(fuse_req_t request, int parent, const char* name) {
  const fuse_ctx* context = fuse_req_ctx(request);
  if (context->uid == 0 && context->gid == 0) return;
  if (fchownat(parent, name, context->uid, context->gid, AT_SYMLINK_NOFOLLOW) != 0) perror("mirror: chown");
}

void reply_made(fuse_req_t request, int result, fuse_ino_t parent, const char* name) {
  if (result != 0) return void(fuse_reply_err(request, errno));
  give(request, directory_fd(parent), name);
  fuse_entry_param entry;
  const int error = find(directory_fd(parent), name, entry);
  if (error != 0) return void(fuse_reply_err(request, error));
  fuse_reply_entry(request, &entry);
}

// ---- names ----

void op_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  fuse_entry_param entry;
  const int error = find(directory_fd(parent), name, entry);
  if (error != 0 && error != ENOENT) return void(fuse_reply_err(request, error));
  fuse_reply_entry(request, &entry);  // node 0: the absence is cached
}

void op_forget(fuse_req_t request, fuse_ino_t id, uint64_t lookups) {
  Nodes::instance().forget(id, lookups);
  fuse_reply_none(request);
}

void op_forget_multi(fuse_req_t request, size_t count, fuse_forget_data* all) {
  for (size_t i = 0; i < count; ++i) Nodes::instance().forget(all[i].ino, all[i].nlookup);
  fuse_reply_none(request);
}

void op_mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  reply_made(request, mknodat(directory_fd(parent), name, mode, device), parent, name);
}

void op_mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  reply_made(request, mkdirat(directory_fd(parent), name, mode), parent, name);
}

void op_symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  reply_made(request, symlinkat(target, directory_fd(parent), name), parent, name);
}

void op_link(fuse_req_t request, fuse_ino_t id, fuse_ino_t parent, const char* name) {
  const NodeFd fd(id);
  const ProcPath path(fd);
  if (linkat(AT_FDCWD, path.text, directory_fd(parent), name, AT_SYMLINK_FOLLOW) != 0)
    return void(fuse_reply_err(request, errno));
  fuse_entry_param entry;
  const int error = find(directory_fd(parent), name, entry);
  if (error != 0) return void(fuse_reply_err(request, error));
  fuse_reply_entry(request, &entry);
}

void op_unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  reply(request, unlinkat(directory_fd(parent), name, 0));
}

void op_rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  reply(request, unlinkat(directory_fd(parent), name, AT_REMOVEDIR));
}

void op_rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t to, const char* to_name,
               unsigned flags) {
  reply(request, renameat2(directory_fd(parent), name, directory_fd(to), to_name, flags));
}

void op_readlink(fuse_req_t request, fuse_ino_t id) {
  char target[PATH_MAX + 1];
  const ssize_t length = readlinkat(NodeFd(id), "", target, PATH_MAX);
  if (length < 0) return void(fuse_reply_err(request, errno));
  target[length] = 0;
  fuse_reply_readlink(request, target);
}

// ---- attributes ----

void op_getattr(fuse_req_t request, fuse_ino_t id, fuse_file_info*) {
  struct stat attributes;
  if (fstatat(NodeFd(id), "", &attributes, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
    return void(fuse_reply_err(request, errno));
  fuse_reply_attr(request, &attributes, kTimeout);
}

int set_times(int fd, const struct stat& wanted, int what) {
  timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  if (what & FUSE_SET_ATTR_ATIME) times[0] = wanted.st_atim;
  if (what & FUSE_SET_ATTR_MTIME) times[1] = wanted.st_mtim;
  if (what & FUSE_SET_ATTR_ATIME_NOW) times[0].tv_nsec = UTIME_NOW;
  if (what & FUSE_SET_ATTR_MTIME_NOW) times[1].tv_nsec = UTIME_NOW;
  return utimensat(fd, "", times, AT_EMPTY_PATH);
}

int set_attributes(int fd, const struct stat& wanted, int what, const fuse_file_info* file) {
  const ProcPath path(fd);
  if ((what & FUSE_SET_ATTR_MODE) && chmod(path.text, wanted.st_mode) != 0) return -1;
  if (what & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
    const uid_t uid = what & FUSE_SET_ATTR_UID ? wanted.st_uid : uid_t(-1);
    const gid_t gid = what & FUSE_SET_ATTR_GID ? wanted.st_gid : gid_t(-1);
    if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) return -1;
  }
  if (what & FUSE_SET_ATTR_SIZE) {
    if ((file ? ftruncate(int(file->fh), wanted.st_size) : truncate(path.text, wanted.st_size)) != 0)
      return -1;
  }
  constexpr int kTimes =
      FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
  return what & kTimes ? set_times(fd, wanted, what) : 0;
}

void op_setattr(fuse_req_t request, fuse_ino_t id, struct stat* wanted, int what, fuse_file_info* file) {
  if (set_attributes(NodeFd(id), *wanted, what, file) != 0) return void(fuse_reply_err(request, errno));
  op_getattr(request, id, file);
}

void op_getxattr(fuse_req_t request, fuse_ino_t id, const char* name, size_t size) {
  const NodeFd fd(id);
  const ProcPath path(fd);
  std::vector<char> value(size);
  const ssize_t length = getxattr(path.text, name, value.data(), size);
  if (length < 0) return void(fuse_reply_err(request, errno));
  if (size == 0) return void(fuse_reply_xattr(request, size_t(length)));
  fuse_reply_buf(request, value.data(), size_t(length));
}

void op_listxattr(fuse_req_t request, fuse_ino_t id, size_t size) {
  const NodeFd fd(id);
  const ProcPath path(fd);
  std::vector<char> names(size);
  const ssize_t length = listxattr(path.text, names.data(), size);
  if (length < 0) return void(fuse_reply_err(request, errno));
  if (size == 0) return void(fuse_reply_xattr(request, size_t(length)));
  fuse_reply_buf(request, names.data(), size_t(length));
}

void op_setxattr(fuse_req_t request, fuse_ino_t id, const char* name, const char* value, size_t size,
                 int flags) {
  reply(request, setxattr(ProcPath(NodeFd(id)).text, name, value, size, flags));
}

void op_removexattr(fuse_req_t request, fuse_ino_t id, const char* name) {
  reply(request, removexattr(ProcPath(NodeFd(id)).text, name));
}

void op_statfs(fuse_req_t request, fuse_ino_t id) {
  struct statvfs space;
  if (fstatvfs(NodeFd(id), &space) != 0) return void(fuse_reply_err(request, errno));
  fuse_reply_statfs(request, &space);
}

// ---- files ----

void set_file(fuse_file_info* file, int fd) {
  file->fh = uint64_t(fd);
  file->keep_cache = 1;
  file->noflush = (file->flags & O_ACCMODE) == O_RDONLY;
}

void op_create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file) {
  const int fd = openat(directory_fd(parent), name, (file->flags | O_CREAT | O_CLOEXEC) & ~O_NOFOLLOW, mode);
  if (fd < 0) return void(fuse_reply_err(request, errno));
  give(request, directory_fd(parent), name);
  fuse_entry_param entry;
  const int error = find(directory_fd(parent), name, entry);
  if (error != 0) {
    close(fd);
    return void(fuse_reply_err(request, error));
  }
  set_file(file, fd);
  fuse_reply_create(request, &entry, file);
}

void op_open(fuse_req_t request, fuse_ino_t id, fuse_file_info* file) {
  const int fd = open(ProcPath(NodeFd(id)).text, (file->flags | O_CLOEXEC) & ~O_NOFOLLOW);
  if (fd < 0) return void(fuse_reply_err(request, errno));
  set_file(file, fd);
  fuse_reply_open(request, file);
}

void op_read(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info* file) {
  thread_local std::unique_ptr<char[]> bytes(new char[kMaxRequest]);
  const ssize_t length = pread(int(file->fh), bytes.get(), std::min(size, kMaxRequest), offset);
  if (length < 0) return void(fuse_reply_err(request, errno));
  fuse_reply_buf(request, bytes.get(), size_t(length));
}

void op_write(fuse_req_t request, fuse_ino_t, const char* bytes, size_t size, off_t offset,
              fuse_file_info* file) {
  const ssize_t length = pwrite(int(file->fh), bytes, size, offset);
  if (length < 0) return void(fuse_reply_err(request, errno));
  fuse_reply_write(request, size_t(length));
}

void op_flush(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  fuse_reply_err(request, 0);
}

void op_release(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  close(int(file->fh));
  fuse_reply_err(request, 0);
}

void op_fsync(fuse_req_t request, fuse_ino_t, int data_only, fuse_file_info* file) {
  reply(request, data_only ? fdatasync(int(file->fh)) : fsync(int(file->fh)));
}

void op_fallocate(fuse_req_t request, fuse_ino_t, int mode, off_t offset, off_t length,
                  fuse_file_info* file) {
  reply(request, fallocate(int(file->fh), mode, offset, length));
}

void op_lseek(fuse_req_t request, fuse_ino_t, off_t offset, int whence, fuse_file_info* file) {
  const off_t found = lseek(int(file->fh), offset, whence);
  if (found < 0) return void(fuse_reply_err(request, errno));
  fuse_reply_lseek(request, found);
}

void op_copy_file_range(fuse_req_t request, fuse_ino_t, off_t from, fuse_file_info* source, fuse_ino_t,
                        off_t to, fuse_file_info* target, size_t length, int flags) {
  const ssize_t copied =
      copy_file_range(int(source->fh), &from, int(target->fh), &to, length, unsigned(flags));
  if (copied < 0) return void(fuse_reply_err(request, errno));
  fuse_reply_write(request, size_t(copied));
}

// ---- directories ----

struct Directory {
  DIR* stream = nullptr;
  off_t position = 0;
  dirent* pending = nullptr;  // read, and did not fit the last answer
};

Directory& directory_of(fuse_file_info* file) {
  return *reinterpret_cast<Directory*>(file->fh);
}

void op_opendir(fuse_req_t request, fuse_ino_t id, fuse_file_info* file) {
  const int fd = openat(directory_fd(id), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = fd < 0 ? nullptr : fdopendir(fd);
  if (stream == nullptr) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return void(fuse_reply_err(request, error));
  }
  file->fh = reinterpret_cast<uint64_t>(new Directory{stream});
  file->cache_readdir = 1;
  file->keep_cache = 1;
  fuse_reply_open(request, file);
}

bool is_dot(const char* name) {
  return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

// Appends an entry: the bytes that it takes (more than `room`: it did not fit).
size_t append(fuse_req_t request, Directory& directory, char* to, size_t room, const dirent& found,
              bool plus) {
  fuse_entry_param entry{};
  entry.attr.st_ino = found.d_ino;
  entry.attr.st_mode = mode_t(found.d_type) << 12;
  if (!plus) return fuse_add_direntry(request, to, room, found.d_name, &entry.attr, found.d_off);
  if (!is_dot(found.d_name)) {
    // One that is gone since is told without attributes: the kernel then looks it up.
    if (find(dirfd(directory.stream), found.d_name, entry) != 0) entry = {};
  }
  const size_t taken = fuse_add_direntry_plus(request, to, room, found.d_name, &entry, found.d_off);
  if (taken > room && entry.ino != 0) Nodes::instance().forget(entry.ino, 1);
  return taken;
}

void read_directory(fuse_req_t request, size_t size, off_t offset, fuse_file_info* file, bool plus) {
  Directory& directory = directory_of(file);
  if (offset != directory.position) {
    seekdir(directory.stream, offset);
    directory.pending = nullptr;
    directory.position = offset;
  }
  std::unique_ptr<char[]> bytes(new char[size]);
  size_t filled = 0;
  while (true) {
    if (directory.pending == nullptr) {
      errno = 0;
      directory.pending = readdir(directory.stream);
      if (directory.pending == nullptr && errno != 0 && filled == 0)
        return void(fuse_reply_err(request, errno));
      if (directory.pending == nullptr) break;
    }
    const size_t taken =
        append(request, directory, bytes.get() + filled, size - filled, *directory.pending, plus);
    if (taken > size - filled) break;
    filled += taken;
    directory.position = directory.pending->d_off;
    directory.pending = nullptr;
  }
  fuse_reply_buf(request, bytes.get(), filled);
}

void op_readdir(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info* file) {
  read_directory(request, size, offset, file, false);
}

void op_readdirplus(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info* file) {
  read_directory(request, size, offset, file, true);
}

void op_releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  Directory* directory = &directory_of(file);
  closedir(directory->stream);
  delete directory;
  fuse_reply_err(request, 0);
}

void op_fsyncdir(fuse_req_t request, fuse_ino_t, int data_only, fuse_file_info* file) {
  const int fd = dirfd(directory_of(file).stream);
  reply(request, data_only ? fdatasync(fd) : fsync(fd));
}

// ---- start ----

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
  set(FUSE_CAP_READDIRPLUS, true);
  set(FUSE_CAP_READDIRPLUS_AUTO, true);
  set(FUSE_CAP_WRITEBACK_CACHE, false);
  set(FUSE_CAP_AUTO_INVAL_DATA, false);
  set(FUSE_CAP_HANDLE_KILLPRIV, false);
  set(FUSE_CAP_POSIX_LOCKS, false);
  set(FUSE_CAP_FLOCK_LOCKS, false);
  set(FUSE_CAP_SPLICE_READ, false);
  set(FUSE_CAP_SPLICE_WRITE, false);
  set(FUSE_CAP_SPLICE_MOVE, false);
  connection->max_write = kMaxRequest;
  connection->max_readahead = kMaxRequest;
  connection->max_background = 64;
  connection->congestion_threshold = 48;
  connection->time_gran = 1;
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops made{};
  made.init = op_init;
  made.lookup = op_lookup;
  made.forget = op_forget;
  made.forget_multi = op_forget_multi;
  made.mknod = op_mknod;
  made.mkdir = op_mkdir;
  made.symlink = op_symlink;
  made.link = op_link;
  made.unlink = op_unlink;
  made.rmdir = op_rmdir;
  made.rename = op_rename;
  made.readlink = op_readlink;
  made.getattr = op_getattr;
  made.setattr = op_setattr;
  made.getxattr = op_getxattr;
  made.listxattr = op_listxattr;
  made.setxattr = op_setxattr;
  made.removexattr = op_removexattr;
  made.statfs = op_statfs;
  made.create = op_create;
  made.open = op_open;
  made.read = op_read;
  made.write = op_write;
  made.flush = op_flush;
  made.release = op_release;
  made.fsync = op_fsync;
  made.fallocate = op_fallocate;
  made.lseek = op_lseek;
  made.copy_file_range = op_copy_file_range;
  made.opendir = op_opendir;
  made.readdir = op_readdir;
  made.readdirplus = op_readdirplus;
  made.releasedir = op_releasedir;
  made.fsyncdir = op_fsyncdir;
  return made;
}

// As many descriptors as this process may have.
void raise_limits() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) perror("mirror: RLIMIT_NOFILE");
  Nodes::instance().most_descriptors = limit.rlim_cur / 4 * 3;  // the rest: open files and directories
}

// Read-ahead as efs asks for it: two requests of 1 MiB instead of 128 KiB.
void tune_read_ahead(const char* mount) {
  struct stat attributes;
  if (stat(mount, &attributes) != 0) return;
  std::ofstream("/sys/class/bdi/" + std::to_string(major(attributes.st_dev)) + ":" +
                std::to_string(minor(attributes.st_dev)) + "/read_ahead_kb")
      << 2 * kMaxRequest / 1024;
}

int usage() {
  fprintf(stderr, "usage: mirror SOURCE MOUNT [--threads N]\n");
  return 2;
}

bool parse(int argc, char** argv) {
  if (argc == 5 && std::string(argv[3]) == "--threads") threads = unsigned(atoi(argv[4]));
  return (argc == 3 || argc == 5) && threads > 0;
}

int serve(fuse_session* session, const char* mount) {
  if (fuse_set_signal_handlers(session) != 0) return 1;
  if (fuse_session_mount(session, mount) != 0) return 1;
  // Beside the loop, which answers the stat that it makes.
  if (fork() == 0) {
    tune_read_ahead(mount);
    _exit(0);
  }
  int result = 0;
  if (threads == 1) {
    result = fuse_session_loop(session);
  } else {
    fuse_loop_config* config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(config, true);
    fuse_loop_cfg_set_idle_threads(config, threads);
    fuse_loop_cfg_set_max_threads(config, threads);
    result = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
  }
  fuse_session_unmount(session);
  fuse_remove_signal_handlers(session);
  return result < 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (!parse(argc, argv)) return usage();
  raise_limits();
  signal(SIGCHLD, SIG_IGN);
  umask(0);
  Nodes& nodes = Nodes::instance();
  nodes.root.fd = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
  nodes.source = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (nodes.root.fd < 0 || nodes.source < 0) {
    fprintf(stderr, "mirror: %s: %s\n", argv[1], strerror(errno));
    return 1;
  }
  char name[] = "mirror", flag[] = "-o",
       options[] = "fsname=mirror,subtype=mirror,allow_other,default_permissions,nosuid,nodev";
  char* arguments[] = {name, flag, options, nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments);
  const fuse_lowlevel_ops all = operations();
  fuse_session* session = fuse_session_new(&args, &all, sizeof all, nullptr);
  if (session == nullptr) return 1;
  const int status = serve(session, argv[2]);
  fuse_session_destroy(session);
  fuse_opt_free_args(&args);
  return status;
}
