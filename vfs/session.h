// The inside of a mount: what its operations share, and a request of the kernel on its way.
// Private to vfs/: includes libfuse.
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#endif
#include <fuse_lowlevel.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "peer/runtime/logger.h"
#include "vfs/files.h"
#include "vfs/kernel_protocol.h"
#include "vfs/lease_cache.h"
#include "vfs/lock_book.h"
#include "vfs/mount.h"
#include "vfs/notifier.h"
#include "vfs/recalls.h"
#include "vfs/removed.h"
#include "vfs/stale_answers.h"
#include "vfs/tree.h"
#include "vfs/walk.h"

namespace efs {

class MountSession;

// One request of the kernel until its reply. The first reply counts: an interrupt may answer before what was
// asked for comes. Held by shared_ptr; any thread.
class KernelRequest : public std::enable_shared_from_this<KernelRequest> {
 public:
  KernelRequest(std::shared_ptr<MountSession> session, fuse_req_t request);
  ~KernelRequest();

  MountSession& session() { return *session_; }
  const Credentials& who() const { return who_; }
  uint64_t since() const { return since_; }  // Given::now(), when it came
  bool wants_birth_time() const { return statx_; }
  // Learns the caller's supplementary groups (reads /proc). False: they were known already.
  bool fetch_groups();

  // From now on an interrupt reaches this request. Through its client (which answers `interrupted`), or
  // without one: answered EINTR, whatever it waits for goes on. At once when its program is being killed,
  // else after kInterruptPatience: programs expect no EINTR from files, and the kernel tells of every signal.
  void listen(std::shared_ptr<VolumeClient> client);
  // For a call that was made before this request came, with `interrupted` among its options. False: it
  // listens for a call of its own.
  bool listen(std::shared_ptr<VolumeClient> client, std::shared_ptr<std::atomic<bool>> interrupted);
  // Or through `give_up`; `at_once` for what programs expect EINTR of.
  void listen_with(std::function<void()> give_up, bool at_once);
  VolumeClient::Options options() const;
  void interrupt();  // the kernel says so
  void give_up();    // now
  bool is_answered() const { return claimed_.load(); }

  // Replies. All but the first are dropped. `false`: the kernel did not take it (the caller is gone).
  bool error(int number);
  bool error(Code code) { return error(to_errno(code)); }
  // Of a call that may be by path, which the kernel repeats once after ESTALE (stale_answers.h).
  bool path_error(Code code);
  bool is_repeated() const;  // after that
  void holds_what_it_found();
  // It is about what was opened: it goes on, whatever right was taken away since, with root's if need be.
  void by_handle() { by_handle_ = true; }
  bool is_by_handle() const { return by_handle_; }
  bool as_root();
  void walks() { walks_ = true; }  // asked by the kernel on its way along a path
  // The kernel changes names in this directory: nothing else happens in it before the answer.
  void changes_names_in(uint64_t directory);
  // From here on it is looked for what the kernel may be told to believe: news that comes later waits for the
  // answer.
  void answers();
  bool error(const Error& problem) { return error(problem.code); }
  template <typename Call>
  bool reply(Call&& call) {
    return claim(0) && call(request_) == 0;
  }

 private:
  bool claim(int number);
  void consider(int64_t interrupted_ns);

  std::shared_ptr<MountSession> session_;
  fuse_req_t request_;
  pid_t thread_ = 0;  // of the program
  Credentials who_;
  uint64_t since_ = 0;
  const bool statx_ = is_statx();  // made on the thread that serves it
  std::atomic<bool> claimed_{false};
  bool listening_ = false;
  bool walks_ = false;
  bool by_handle_ = false;
  std::array<std::atomic<uint64_t>, 2> locked_{};  // directories
  std::shared_ptr<VolumeClient> client_;
  std::shared_ptr<std::atomic<bool>> interrupted_;
  std::function<void()> give_up_;
  bool at_once_ = false;
};
using RequestPtr = std::shared_ptr<KernelRequest>;

// An open file of a program.
struct FileHandle {
  std::shared_ptr<OpenFile> file;
  Credentials who;  // as it was opened: what it was allowed then stays allowed
  std::mutex mutex;
  uint64_t errors_seen = 0;
  std::atomic<bool> marks_access{false};  // the next read does (relatime)
  // Until the kernel uses it: its open has the kernel drop pages, and may not have done so yet.
  std::atomic<uint64_t> doubt{0};
  bool syncs = false;              // O_SYNC, O_DSYNC
  bool noatime = false;            // O_NOATIME, when it was opened
  bool passes_pages = false;       // what is written through it is not in the kernel's pages
  std::set<uint64_t> lock_owners;  // of POSIX locks that were asked for through it, and not flushed since
  Code take_error() {
    std::lock_guard lock(mutex);
    return file->take_error(errors_seen);
  }
};

// Held by the kernel (as a number), and by requests that an interrupt may answer before they are done.
using HandlePtr = std::shared_ptr<FileHandle>;
inline HandlePtr handle_of(const fuse_file_info* info) {
  return *reinterpret_cast<HandlePtr*>(info->fh);
}

// An open directory: from afar entries come many at a time, more than the kernel takes at once.
struct DirectoryHandle {
  std::mutex mutex;
  ListingAheadPtr ahead;     // the page after `entries`
  uint64_t cookie = 0;       // where `entries` begins
  uint64_t next_cookie = 0;  // where the reading went on last, and
  EntryList::Iterator next;  // the entry there
  ListedSince since;         // when they were asked for
  uint32_t limit = 0;        // of the last page that was asked for
  uint64_t until = 0;  // cookies from here on are of entries made after it was begun to be read; 0: not begun
  EntryList entries;
  TreeWalks::SiblingsPtr subdirectories;  // that were listed
  uint8_t lease = 0;
  bool end = false;
  bool with_attributes = false;
  bool no_atime = false;    // it was marked as read, or is not to be
  uint64_t names_lost = 0;  // OwnersLog, as who has it open knows
};
// As a FileHandle's: an interrupt may answer a reading whose page comes after the directory was closed.
using DirectoryHandlePtr = std::shared_ptr<DirectoryHandle>;

// Directories in which the kernel is changing names, for requests that are not answered.
class LockedDirectories {
 public:
  void add(uint64_t node) {
    std::lock_guard lock(mutex_);
    nodes_.push_back(node);
  }
  void remove(uint64_t node) {
    std::lock_guard lock(mutex_);
    nodes_.erase(std::find(nodes_.begin(), nodes_.end(), node));
  }
  bool contains(uint64_t node) const {
    std::lock_guard lock(mutex_);
    return std::find(nodes_.begin(), nodes_.end(), node) != nodes_.end();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<uint64_t> nodes_;  // as many as programs wait
};

// The peer's volumes, those of other peers behind what this mount was leased. Thread-safe. `found` sees each
// client before anything is asked of it.
class LeasedVolumes final : public VolumeDirectory {
 public:
  using Found = std::function<void(const std::shared_ptr<VolumeClient>&)>;
  LeasedVolumes(VolumeDirectory& volumes, const Clock& clock, Found found)
      : volumes_(volumes), clock_(clock), found_(std::move(found)) {}
  std::shared_ptr<VolumeClient> client(VolumeNumber number) override;
  Places places() override { return volumes_.places(); }
  MeshSpace space() override { return volumes_.space(); }

 private:
  struct One {
    std::shared_ptr<VolumeClient> of;
    std::shared_ptr<VolumeClient> shown;
  };
  VolumeDirectory& volumes_;
  const Clock& clock_;
  const Found found_;
  std::mutex mutex_;
  std::unordered_map<VolumeNumber, One> clients_;
};

class MountSession : public KernelCache, public std::enable_shared_from_this<MountSession> {
 public:
  MountSession(const MountOptions& mount_options, VolumeDirectory& directory, const Clock& clock,
               Logger& logger);
  ~MountSession() override;

  const MountOptions options;
  Logger& log;
  LeasedVolumes volumes;
  VolumeTree tree;
  Background background;
  FileContext context;
  Notifier notifier;
  std::shared_ptr<Files> files;
  Given given;
  RemovedInodes removed;
  LockedDirectories locked;
  StaleAnswers stale;
  LockBook locks;
  TreeWalks walks{given};
  fuse_session* fuse = nullptr;

  // The volume of a node. nullptr: there is none.
  std::shared_ptr<VolumeClient> client(uint64_t node) { return tree.client(node); }

  // Where it is decided for how long (ns) the kernel may believe what it is given: what was leased, until the
  // lease would end, if no news of `key` came since it was asked for (Given::now() then).
  int64_t believe(uint64_t since, const VolumeClient& client, uint64_t key, bool leased);

  // Asks the node's volume; errors answer the request, `answered` gets the rest. A refusal is repeated once
  // with the caller's supplementary groups.
  using Answered = std::function<void(VolumeAnswer&)>;
  void call(const RequestPtr& request, uint64_t node, RequestBody body, Answered answered);
  void call(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client, RequestBody body,
            Answered answered);
  // Runs `then` once the volume's owner knows what was set here, if it has to judge by it what this caller
  // may do.
  void settle_attributes(const RequestPtr& request, VolumeNumber volume, std::function<void()> then);

  // What a name leads to: `parent` for what was leased of the directory, `lease` of the answers (kLease...).
  struct Shown {
    uint64_t parent = 0;
    std::string_view name;
    uint8_t lease = 0;
    const VolumeClient* directory = nullptr;  // of the parent, if that is another volume
  };
  // Replies with an entry, or attributes, as this mount shows them.
  void reply_entry(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
                   const Attributes& attributes, const Shown& shown);
  void reply_absent(const RequestPtr& request, const VolumeClient& client, const Shown& shown);
  void reply_attributes(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client,
                        const Attributes& attributes, uint8_t lease);
  fuse_entry_param entry_of(uint64_t since, const std::shared_ptr<VolumeClient>& client,
                            const Attributes& attributes, const Shown& shown);
  // The kernel is about to be told the ACL of `node`, or that it has none, and keeps that: news of the node
  // is for it from now on.
  void expect_acl(uint64_t node);
  // What a change through this mount gave, if the file is open here.
  void note_change(const std::shared_ptr<VolumeClient>& client, const Attributes& attributes);
  // Somebody read it, and relatime wants that marked. Nobody waits for it.
  bool mark_access(FileHandle& handle);  // it is read; false: it was marked before
  void mark_access(const std::shared_ptr<VolumeClient>& client, const Credentials& who, InodeNumber inode);

  // KernelCache, on the notifier's thread.
  void forget_inode(uint64_t node, bool pages) override;
  void forget_entry(uint64_t parent, const std::string& name) override;

  // Whether the volume's owner has lost names that were changed here since `seen` was last told of that. Who
  // opens a directory has seen what anybody here was told of.
  bool lost_names(const VolumeClient& client, uint64_t& seen);
  uint64_t names_lost_and_told(const VolumeClient& client);

  void track(KernelRequest* request, bool waiting);
  void interrupt_all();
  // Unmounting: the owners hear that nothing is locked or waited for any more.
  void end_locks();

 private:
  struct News;
  void ask(const RequestPtr& request, const std::shared_ptr<VolumeClient>& client, RequestBody body,
           Answered answered);
  void listen_to(const std::shared_ptr<VolumeClient>& client);
  void recalled(VolumeNumber volume, const Recall& recall, VolumeClient::Forgotten forgotten);
  void tell_kernel(uint64_t node, const RecallItem& item, const std::shared_ptr<News>& news);
  void leases_lost(VolumeNumber volume, bool for_good);
  void send_late(const std::shared_ptr<OpenFile>& file);
  std::function<void()> until_it_ends_by_itself(const std::shared_ptr<News>& news, int64_t until_ns);
  void look_for_old_news();
  void end_old_news();

  std::mutex news_mutex_;
  std::map<std::pair<int64_t, uint64_t>, std::shared_ptr<News>>
      short_news_;  // of names and attributes: by when the kernel believes no more, and by number
  uint64_t short_news_count_ = 0;
  bool looks_for_old_news_ = false;
  std::mutex lost_mutex_;
  std::map<VolumeNumber, uint64_t> lost_and_told_;
  std::mutex waiting_mutex_;
  std::unordered_set<KernelRequest*> waiting_;
  // In which directory an inode was last shown: where its answer may still be on its way inside the kernel.
  struct ShownIn {
    std::atomic<uint64_t> node{0}, parent{0};
  };
  void note_shown(uint64_t node, uint64_t parent);
  std::vector<ShownIn> shown_in_ = std::vector<ShownIn>(1 << 12);
};

struct stat to_stat(VolumeNumber volume, const Attributes& attributes);
const fuse_lowlevel_ops& fuse_operations();
// The MountSession behind a request of libfuse.
std::shared_ptr<MountSession> session_of(fuse_req_t request);
// How each operation begins.
RequestPtr begin(fuse_req_t request);

// The mode of what the kernel wants made, and what the caller's umask takes from it.
void set_mode(Create& body, fuse_req_t request, uint32_t mode);

// Handlers, by file.
void set_entry_operations(fuse_lowlevel_ops& operations);
void set_file_operations(fuse_lowlevel_ops& operations);
void set_directory_operations(fuse_lowlevel_ops& operations);
void set_attribute_operations(fuse_lowlevel_ops& operations);
void set_range_operations(fuse_lowlevel_ops& operations);
void set_lock_operations(fuse_lowlevel_ops& operations);
// Setuid and setgid go before bytes come of who may not leave them.
void clear_suid(const RequestPtr& request, const std::shared_ptr<OpenFile>& file, std::function<void()> then);
// What a process's close lets go of: false when it has no locks of that file, else `then` runs when the owner
// has heard. And what the last close of an open file does.
bool flush_locks(const RequestPtr& request, FileHandle& handle, uint64_t owner,
                 std::function<void(Code)> then);
void release_locks(MountSession& session, FileHandle& handle, const fuse_file_info& info);

}  // namespace efs
