// What sessions may believe without asking again, at the volume's owner.
//
// A shared lease on an inode covers its attributes and bytes; of a directory also its entries, names that
// are absent, and its listing. An exclusive one lets its session keep written bytes to itself; it is given
// only to a session that alone knows the inode. The owner's table may hold more than a session believes,
// never less.
//
// A change is applied first; then every other session that holds a lease on what changed is asked to forget
// just that (a Recall), and the change is answered when they have; an inode's lease goes with news of its
// bytes, else it stays. What an exclusive lease covers is called back before
// anybody else is answered about its bytes or size. A session that does not answer is waited for until its
// leases must have ended (kLeaseTerm after it was last heard: VolumeService), then fenced.
//
// A session that has a change of a directory under way holds that directory's lock in its kernel, one that
// writes to a file or reads it the locks of pages; its kernel cannot forget names or bytes there before that
// is answered. So a change does not wait for a session which waits, there and whoever is in between, for it
// (waits_for()): two that change one place at once are not kept for each other for ever, one of them is
// answered before the other has forgotten. All else waits.
//
// Any thread; held by shared_ptr; no lock is held over a callback. Bounds: kMaxLeases a session, beyond which
// none is granted.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "peer/volume/client.h"

namespace efs {

inline constexpr size_t kMaxLeases = 1 << 18;      // of one session
inline constexpr size_t kMaxLeaseSessions = 2048;  // of a volume; more get no leases
inline constexpr size_t kMaxLookedUp = 1 << 16;    // names that are remembered while changes are held back
inline constexpr size_t kMaxFenced = 1 << 16;      // inodes of which late changes are looked for

class Leases : public std::enable_shared_from_this<Leases> {
 public:
  // `start`: drawn anew at each start of the owner; where lost() begins to count.
  explicit Leases(uint64_t start = 1) : start_(start) {}
  // Marks count from here: above those of earlier runs of the owner, which its clients may name yet.
  void begin_at(uint64_t mark);

  using Then = std::function<void()>;
  // Asks a session to forget; runs `forgotten` once it has, or can hold no lease any more.
  using Recaller = std::function<void(const Recall&, Then forgotten)>;

  // A session that can be asked. With `knows` it is taken to hold a shared lease on every inode: a mount of
  // this process, which knows best what its kernel was given. `knows` says so of one inode, and from then on
  // what is on its way to the kernel is not to be believed either. It must not block.
  using Knows = std::function<bool(InodeNumber)>;
  void attach(const SessionId& session, Recaller recaller, Knows knows = {});
  // It is gone, was silent for long, or was fenced: it holds nothing, and nobody waits for it. Who comes back
  // sees another lost(). expire(): true when it may still send what is late.
  void detach(const SessionId& session);
  bool expire(const SessionId& session);
  void fence(const SessionId& session);
  // A session that is heard is to be fenced at `at_ns`: lost() rises now, and it is granted nothing until
  // then, but others wait for it as before, since it may believe what it has until it hears of that.
  void end(const SessionId& session, int64_t at_ns);
  // When that is. 0: it is not, or has been fenced since, and what it has been granted by now binds.
  int64_t ends_ns(const SessionId& session) const;
  // It was fenced while it might keep changes of this inode, or had it open before a restart of this owner,
  // and others have changed it since: what it sends late would undo that. Until it has closed the inode, or
  // said that there is no more. (Of more than kMaxFenced it is not known.) What others have changed is in the
  // volume's rows, too (OvertakenRow), from which the owner's next run has it.
  enum class Part { bytes, attributes };
  bool expects_late(const SessionId& session, InodeNumber inode) const;
  bool overtaken(const SessionId& session, InodeNumber inode, Part part) const;
  // It may return, or does; what others have changed by then. False: that is not kept.
  bool expect_late(const SessionId& session, InodeNumber inode, bool bytes, bool attributes);
  // `by` has changed these; `attributes`: set some, too. Before anybody's next change.
  void overtake(const SessionId& by, const std::vector<VolumeClient::Change>& changes, bool attributes);
  // Who may send late what `by` undoes when it changes this, and was not overtaken before.
  std::vector<SessionId> late_ones(const SessionId& by, InodeNumber inode, bool attributes) const;
  void forgive(const SessionId& session, InodeNumber inode);
  // Rises when the session loses its leases without a word, and is another one after a restart. It goes with
  // every answer.
  uint64_t lost(const SessionId& session) const;

  // ---- grants ----
  // False: not a session that can be asked, its bound is reached, or another holds the inode exclusively.
  // `names`: of a directory, for its entries. It stays when only the attributes change.
  bool share(const SessionId& session, InodeNumber inode, bool names = false);
  // False also when another session holds any lease on it, it is just being taken back, or changes are held
  // back.
  bool own(const SessionId& session, InodeNumber inode);
  void disown(const SessionId& session, InodeNumber inode);  // it keeps a shared one
  // A change of these inodes (0: none) begins, until end_change(): none is given to others meanwhile. False,
  // and nothing begins: others may have bytes of one.
  using Inodes = std::array<InodeNumber, 2>;
  bool begin_change(const SessionId& session, const Inodes& inodes);
  void end_change(const SessionId& session, const Inodes& inodes);
  // Bytes of an inode came; when they last did of one that is being taken back (0: not yet).
  void note_bytes(InodeNumber inode, int64_t now_ns);
  int64_t bytes_came_ns(InodeNumber inode) const;
  bool owns(const SessionId& session, InodeNumber inode) const;
  bool holds(const SessionId& session, InodeNumber inode) const;
  // Another session may have bytes of it that are not here.
  bool owned_elsewhere(const SessionId& session, InodeNumber inode) const;
  // What a session does not need any more, but for what it was granted after `mark`.
  void drop(const SessionId& session, const std::vector<InodeNumber>& inodes, uint64_t mark);
  void drop_all(const SessionId& session, uint64_t mark);  // but for exclusive ones
  void removed(const std::vector<InodeNumber>& inodes);    // they are gone: nobody needs to hear of them
  uint64_t mark() const;
  // Sessions, but for those of this process, that hold a lease on it.
  std::vector<SessionId> holders(InodeNumber inode) const;
  // The inode may be about to lose its last name: who holds a lease on it. Until end_unnaming() nobody is
  // granted one, since who gets it now opens the file without asking, and is not among these. One at a time.
  std::vector<SessionId> begin_unnaming(InodeNumber inode);
  void end_unnaming();

  // ---- names ----
  // `by` has changed these names. Until all copies of what this gives are gone, others may believe otherwise.
  using News = std::shared_ptr<void>;
  News begin_news(const SessionId& by, const std::vector<VolumeClient::Change>& changes);
  // The session's kernel acts on what it believes of a name, and that may be wrong.
  bool may_err(const SessionId& session, InodeNumber parent, const std::string& name) const;
  void looked_up(const SessionId& session, InodeNumber parent, const std::string& name);  // it may not now

  // ---- recalls ----
  // Runs `then` once no other session holds any of the inodes exclusively (inside, when none does).
  // `locks_pages`: who asks keeps pages of them locked until then.
  void take_back(const SessionId& session, const std::vector<InodeNumber>& inodes, bool locks_pages,
                 Then then);
  // `by` has made these changes: runs `then` when nobody believes otherwise any more, but for those that it
  // cannot wait for. `all`: when these have answered, too (before `then`, when there are none).
  // `news` is kept until they all have.
  void announce(const SessionId& by, const std::vector<VolumeClient::Change>& changes, Then then,
                Then all = {}, News news = {});

  // A change that `by` has asked for again was made before, and may still wait: runs `then` when all
  // changes of `by` that wait have been answered.
  void join(const SessionId& by, Then then);
  // Nobody is waited for any more, now and later: the owner stops. What was to wait is then not to be
  // answered to others: they ask again when the owner is back.
  void close();
  bool closed() const { return closed_.load(); }
  // While it is on, changes are not answered: sessions of before a restart may believe what nobody here
  // knows, and err about every name that they have not looked up since.
  void hold(bool on);
  // True: it is on, and `then` runs when it is not.
  bool after_hold(Then then);
  bool held_back() const { return held_back_.load(); }

  // There is nobody else to ask.
  bool alone(const SessionId& session) const;
  size_t granted() const { return granted_.load(); }

 private:
  struct Holder {
    SessionId session{};
    uint64_t mark = 0;
    bool exclusive = false;
    bool names = false;
  };
  struct Session {
    Recaller recaller;
    Knows knows;
    size_t leases = 0;
    int64_t ends_ns = 0;  // 0: it does not
  };
  struct SessionHash {
    size_t operator()(const SessionId& id) const { return get_le<size_t>(id.data()); }
  };
  using Places =
      std::vector<InodeNumber>;  // sorted: directories, for their names, and files, for their pages
  // A change, or a question, that waits for others to forget.
  struct Wait {
    SessionId by{};
    Places needs;                    // what the kernels of others have to lock to forget
    Places holds;                    // what may be locked in its own until it is answered
    std::vector<InodeNumber> taken;  // being taken back
    std::vector<SessionId> awaited;  // have not forgotten yet
    size_t unanswered = 0;           // of all that were asked
    News news;
    Then then, all;
  };
  struct Sent {
    SessionId to{};
    Recaller recaller;
    Recall recall;
    uint64_t mark = 0;
  };
  using WaitPointer = std::shared_ptr<Wait>;
  using Holders = std::vector<Holder>;

  // With mutex_ held.
  std::vector<SessionId> holders_of(InodeNumber inode) const;
  Holder* find(const SessionId& session, InodeNumber inode);
  const Holder* find(const SessionId& session, InodeNumber inode) const;
  bool add(const SessionId& session, InodeNumber inode, bool exclusive, bool names);
  void remove(const SessionId& session, InodeNumber inode, uint64_t mark);
  void told(const SessionId& session, InodeNumber inode, uint64_t mark);
  void remove_all(const SessionId& session, uint64_t mark = UINT64_MAX, bool exclusive = true);
  void note_fenced(const SessionId& session);
  void give_back(const SessionId& session, InodeNumber inode);
  void erase(std::unordered_map<InodeNumber, Holders>::iterator found, Holders::iterator holder);
  std::vector<Sent> targets(const SessionId& by, const std::vector<VolumeClient::Change>& changes);
  static bool meet(const Places& one, const Places& other);
  bool waits_for(const SessionId& session, const Wait& wait) const;
  Then no_longer(const WaitPointer& wait, const SessionId& session);

  bool add_fenced(const SessionId& session, InodeNumber inode, bool bytes, bool attributes);
  void count_fenced();
  void count_sessions();

  struct NameNews {
    SessionId by{};
    std::vector<SessionId> know;  // have looked the name up since
  };
  using NamesNews = std::multimap<std::pair<InodeNumber, std::string>, NameNews>;
  void end_news(const std::vector<NamesNews::iterator>& news);

  void send(std::vector<Sent> sent, const WaitPointer& wait);
  void forgotten(const SessionId& session, const Recall& recall, uint64_t mark, const WaitPointer& wait);

  const uint64_t start_;
  mutable std::mutex mutex_;
  std::unordered_map<SessionId, Session, SessionHash> sessions_;
  std::unordered_map<InodeNumber, Holders> held_;
  std::unordered_map<SessionId, uint64_t, SessionHash> lost_;  // of those that are attached
  uint64_t losses_ = 0;
  std::vector<WaitPointer> waits_;
  NamesNews names_news_;
  std::atomic<size_t> names_news_count_{0};
  std::vector<SessionId> watching_;  // sessions that know what they gave (`knows`)
  std::atomic<bool> closed_{false};
  std::atomic<bool> held_back_{false};
  std::vector<Then> held_thens_;
  std::set<std::tuple<SessionId, InodeNumber, std::string>> looked_up_;  // while held back
  struct Taking {
    unsigned count = 0;
    int64_t bytes_came_ns = 0;
  };
  std::map<InodeNumber, Taking> taking_;
  std::vector<std::pair<InodeNumber, SessionId>> changing_;
  InodeNumber unnaming_ = 0;
  struct Overtaken {
    bool bytes = false, attributes = false;
  };
  std::map<std::pair<InodeNumber, SessionId>, Overtaken> fenced_;
  std::atomic<size_t> fenced_count_{0};
  uint64_t mark_ = 0;
  static constexpr int kNobody = -1, kSeveral = -2;
  std::atomic<int> alone_{kNobody};   // the number of this process's mount that alone is attached
  std::atomic<size_t> remote_{0};     // sessions of other processes that are attached
  std::atomic<size_t> exclusive_{0};  // exclusive leases
  std::atomic<size_t> granted_{0};
};

}  // namespace efs
