// One mount as the owner of a volume meets it: the client, what it was leased, and a model of its kernel.
//
// The kernel's locks are those that matter to leases: a directory's is held from a create, an unlink or a
// lookup until its answer is installed, and a notification about one of its names waits for it; a page's from
// a write until its answer, and a notification about the file waits for it. Notifications go one after the
// other in each place. An answer takes a moment between being given and being installed.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "peer/runtime/simulated.h"
#include "peer/runtime/simulated_random.h"
#include "peer/volume/remote_client.h"
#include "vfs/lease_cache.h"

namespace efs::test {

// What has been answered, so what nobody may be shown anymore. Times are the simulation's.
struct Truth {
  struct Inode {
    std::map<uint64_t, int64_t> changes;  // version -> binds everybody from then on
  };
  // What a change put under a name: it may be seen from `begun_ns` on, and binds everybody from `bound_ns`
  // on.
  struct NameWrite {
    int64_t begun_ns = 0, bound_ns = INT64_MAX;
    InodeNumber inode = 0;  // 0: nothing
    bool any = false;       // it is not known what
  };
  using NamePointer = std::shared_ptr<NameWrite>;
  struct Name {
    std::vector<NamePointer> writes = {std::make_shared<NameWrite>(NameWrite{0, 0, 0, false})};
    InodeNumber last = 0;  // that was ever seen to be made there
  };
  NamePointer put(const std::string& name, int64_t now_ns, InodeNumber inode, bool any);
  void withdraw(const std::string& name, const NamePointer& write);
  // Whether a look that began then may find this: it, or what was put there beside or after it, is not yet
  // overwritten for everybody.
  bool may_be(const std::string& name, InodeNumber inode, int64_t begun_ns) const;
  struct Place {
    std::multiset<int> busy;  // mounts, once for each change of it that is under way
    int64_t settled_ns = 0;   // mounts that changed it at once were answered before each had forgotten
  };
  std::map<InodeNumber, Inode> inodes;
  std::map<std::string, Name> names;
  std::function<std::optional<uint64_t>(InodeNumber)> current;  // version, as the owner has it now
  int64_t forgotten_ns = 0;  // the owner has lost what was not durable: from then on nobody shows it
  std::map<InodeNumber, Place> places;
  std::map<InodeNumber, std::map<int, int64_t>> buffered;  // by mounts: answered then, not yet sent
  std::map<int, int64_t> whole_since_ns;                   // mounts with which nothing was wrong from then on
  std::vector<std::string> violations;
  int64_t settling_ns = 0;  // for mounts that changed a place at once
  size_t reads = 0, kernel_reads = 0, changes = 0, bound = 0, fences = 0, listings = 0;
  int64_t longest_ns = 0;
};

class Mount : public std::enable_shared_from_this<Mount> {
 public:
  Mount(int number, Simulator& simulator, Runtime& runtime, std::shared_ptr<RemoteVolume> remote,
        Truth& truth, uint64_t seed);
  void begin();
  void stop() { stopping_ = true; }
  bool idle() const { return stopping_ && under_way_ == 0; }
  const int64_t* owner_whole_since_ns = nullptr;
  bool calm = true;         // nobody is cut off
  bool deaf = false;        // what it is asked to forget it never says it has forgotten
  int64_t patience_ns = 0;  // that others need with somebody who is deaf
  size_t done = 0, lost_for_good = 0;

 private:
  struct Cached {
    InodeNumber inode = 0;
    int64_t until_ns = 0;
  };
  struct CachedAttributes {
    uint64_t change = 0;
    int64_t until_ns = 0;
  };
  struct Lock {
    bool held = false;
    std::deque<Task> waiting;
  };
  struct File {
    bool open = false, opening = false, buffering = false, sending = false;
    bool dirty = false;
    unsigned writing = 0;        // pages locked
    std::vector<Task> unlocked;  // notifications that wait for them
    std::vector<Task> clean;     // who waits for what is buffered to be at the owner
  };
  struct Notification {
    InodeNumber inode = 0;
    std::string name;
    bool listing = false;
    Task told;
  };
  using Lane = std::pair<InodeNumber, bool>;  // an inode, or its names
  using Listing = std::map<std::string, InodeNumber>;
  using Then = std::function<void(VolumeAnswer)>;

  void next();
  void over(const char* what, int64_t begun_ns);
  void look(const std::string& name);
  void looked(const std::string& name, int64_t begun_ns, InodeNumber found);
  void create(const std::string& name);
  void unlink(const std::string& name);
  void rename(const std::string& from, const std::string& to);
  void list();
  void listed(int64_t begun_ns, const Listing& found);
  void names_changed();
  void stat(InodeNumber inode);
  void saw(InodeNumber inode, int64_t begun_ns, uint64_t change, const char* what, bool own = false);
  void change_mode(InodeNumber inode);
  void open_and_write(InodeNumber inode);
  void write(InodeNumber inode, int64_t begun_ns);
  void send_write(InodeNumber inode, bool locks, std::function<void(Code)> then);
  void flush(InodeNumber inode, Task then);
  void close(InodeNumber inode);
  void read(InodeNumber inode);

  bool others_change(const Truth::Place& place) const;
  void enter(InodeNumber of, bool& overlapped);
  int64_t leave(InodeNumber place, bool overlapped);
  void bind(InodeNumber inode, uint64_t change, int64_t from_ns);

  void lock(Task then);
  void unlock();
  void notify(Notification one);
  void tell_next(Lane lane);
  void told(Lane lane, const Notification& one);
  void recalled(const Recall& recall, VolumeClient::Forgotten forgotten);
  void lost(bool for_good);
  int64_t believe(uint64_t since, uint64_t key, bool leased);
  void ask(RequestBody body, Payload payload, Then then);
  void later(int64_t at_most_ns, Task task);
  uint64_t below(uint64_t bound) { return random_.next() % bound; }
  int64_t now_ns() const { return simulator_.now_ns(); }
  std::string name();
  InodeNumber pick();

  const int number_;
  Simulator& simulator_;
  Runtime& runtime_;
  std::shared_ptr<RemoteVolume> remote_;
  std::shared_ptr<LeaseCache> cache_;
  Truth& truth_;
  SimulatedRandom random_;
  Given given_;
  std::map<std::string, Cached> entries_;  // of the one directory
  std::map<InodeNumber, CachedAttributes> attributes_;
  std::map<InodeNumber, uint64_t> versions_;  // rises with each notification: what it overtook is not kept
  Lock directory_;
  std::map<InodeNumber, File> files_;
  std::map<Lane, std::deque<Notification>> lanes_;
  std::optional<Listing> listing_;
  uint64_t listing_version_ = 0;
  std::vector<VolumeClient::Forgotten> unsaid_;
  bool stopping_ = false;
  size_t under_way_ = 0;
};

}  // namespace efs::test
