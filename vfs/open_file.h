// One file that this mount has open: the bytes written here and not yet at the owner, what the owner last
// said about it, and what is read ahead.
//
// A write is answered once its bytes are in `dirty_`. They are sent when a piece is whole, when they are
// kDirtyAge old, at close and fsync, and when this file or the mount holds too much: cut into the queue, in
// the order of cutting, up to kWritesInFlight requests at once, never two that overlap; scattered small ones
// share a request. Reads see owner < queue <
// dirty.
//
// Errors. An owner that cannot be reached: who waits (close, fsync) learns of it after the timeout, the bytes
// stay and are sent again every kRetryAfter. Anything else (no space, the file is gone): the bytes are
// dropped, and each handle that is open learns of it once, at its next fsync or close (as errseq_t does for
// ext4); later writes are sent before they are answered, until one succeeds.
//
// Attributes that a program sets while the bytes are still here wait with them and go in one operation (tar
// sets owner, mode and times of every file that it has just written).
//
// An owner that restarts may lose what it answered and had not synced: it says so by a new verifier. Bytes
// that were written stay here (bounded, kKeptMountBytes) until its log is known to be on disk as far as them;
// of those that it has not found again they are sent again. What could not be kept fails the next fsync with
// EIO.
//
// Any thread; no lock is held over a request to the client or a `done` (one is, where the client is asked for
// what it knows itself). Not copied, held by shared_ptr.
#pragma once

#include <deque>
#include <list>
#include <mutex>

#include "peer/runtime/logger.h"
#include "peer/volume/client.h"
#include "vfs/background.h"
#include "vfs/extents.h"
#include "vfs/notifier.h"
#include "vfs/read_ahead.h"
#include "vfs/read_bytes.h"

namespace efs {

// What the files of one mount share. Outlives them.
struct FileContext {
  Background& background;
  Notifier* notifier = nullptr;
  int64_t unreachable_timeout_ns = 60 * kSecond;  // what a flush waits for the owner; 0: for ever
  std::atomic<uint64_t> dirty_bytes{0};
  std::atomic<uint64_t> pending_attributes{0};  // files with attributes that the owner does not know yet
  std::atomic<uint64_t> kept_bytes{0};
  std::atomic<uint64_t> read_ahead_bytes{0};
  Logger* log = nullptr;
};

// Whether this code means "not now" (the bytes stay dirty), rather than "never".
bool is_transient(Code code);

class OpenFile : public std::enable_shared_from_this<OpenFile> {
 public:
  using Done = std::function<void(Code)>;
  using ReadDone = std::function<void(Code, ReadBytes)>;
  using AppendDone = std::function<void(Code, uint64_t offset)>;
  enum class Mode { buffered, through, durable };

  OpenFile(FileContext& context, std::shared_ptr<VolumeClient> client, InodeNumber inode);
  ~OpenFile();

  const std::shared_ptr<VolumeClient>& client() const { return client_; }
  InodeNumber inode() const { return inode_; }
  uint64_t node() const { return global_inode(client_->number(), inode_); }

  // ---- bytes ----
  void write(const Credentials& who, uint64_t offset, ByteView bytes, Mode mode, Done done);
  // At the end as the owner knows it; `offset` says where that was. `in_pages`: the kernel has put the bytes
  // into its pages.
  void append(const Credentials& who, Bytes bytes, bool durable, bool in_pages,
              const VolumeClient::Options& options, AppendDone done);
  void read(const Credentials& who, uint64_t offset, uint32_t length, const VolumeClient::Options& options,
            ReadDone done);
  // Everything written before is at the owner / durable there. Code::ok does not speak of bytes that
  // were dropped: take_error() does.
  void flush(Done done);
  // Its exclusive lease is called back: what is buffered is sent, and nothing more is buffered before the
  // volume allows it anew.
  void stop_buffering(Done done);
  void sync(const Credentials& who, Done done);
  bool clean() const;
  // It is closed at its owner: what is kept to be sent again is not kept any more. Up to where the owner's
  // log has to be on disk that nothing is lost (0: it is not lost), for who opens the file next.
  struct Undurable {
    uint64_t verifier = 0, logged = 0;  // Reply
    bool lost = false;
  };
  Undurable let_go();
  void note_undurable(const Undurable& before);
  // Mode, owner and times, kept here under the exclusive lease and sent with the bytes that they come after:
  // true, and `shown` is what the file looks like now. False: it is for the owner to do.
  bool set_attributes(const Credentials& who, const SetAttributes& change, Attributes& shown);
  bool holds_attributes() const;  // that are not at the owner yet
  // It is read. False: that is for the owner to note.
  bool mark_access();
  uint32_t mode() const;  // with what waits here; all bits, where the owner's is not known

  // ---- errors: each handle keeps the number that it has seen ----
  uint64_t error_mark() const;
  Code take_error(uint64_t& seen);

  // ---- attributes ----
  // What the owner said in answer to a question. Gives what this mount shows: the newest that is known, with
  // size and times as the buffered bytes will make them.
  Attributes seen(const Attributes& attributes);
  // What the owner said in answer to a change by this mount.
  void own_change(const Reply& reply);
  // And of its names alone: what a directory's fsync is for.
  void names_changed(const Attributes& attributes);
  // A truncation or fallocate at the owner took [offset, offset + length) away or zeroed it.
  void forget_written(uint64_t offset, uint64_t length);

  // ---- the kernel's pages ----
  // An open was answered with these: true when the kernel's pages are of this version and may stay.
  // `version`: of the pages that the kernel may have from before (0: unknown).
  bool opened(const Attributes& attributes, uint64_t version);
  uint64_t pages_version() const;  // 0: unknown
  // An open was told false, and the kernel may not have dropped its pages yet: no other open may keep them
  // before it has (0: none). What the kernel has done after doubt() was asked settles that.
  uint64_t doubt() const;
  void settle(uint64_t doubt);
  void pages_are_stale();
  // Linux unlocks a page as soon as a write has filled it, before it sends that. Where the page is dropped
  // then and read again, and the read is served first, the kernel keeps bytes from before the write.
  // `number`: of the request (request_number()). Before a read; and after the write's bytes are here: true
  // when a read that was queued later began before.
  void kernel_reads(uint64_t number, uint64_t offset, uint64_t length);
  bool was_overtaken(uint64_t number, uint64_t offset, uint64_t length) const;
  // How many handles the kernel may read pages for.
  std::atomic<uint32_t> handles_with_pages{0};

  // An extended attribute that the kernel asks for at every write: that there is none is remembered until
  // another mount changes something, or this one the attribute. An answer counts if it was asked for (at
  // `news`) after the last of that.
  bool has_no_capability() const { return no_capability_.load(); }
  bool may_have_capability() const;  // as far as is known without asking
  uint64_t attribute_news() const { return attribute_news_.load(); }
  void note_no_capability(uint64_t news) {
    no_capability_ = true;
    if (attribute_news_.load() != news) no_capability_ = false;
  }
  // Somebody changed something: an fsync is about that, too.
  void attributes_are_stale();

  // What it has lost is sent again; `resending` is kept until that is answered.
  void owner_restarted(VolumeClient::Resending resending);
  // The mount ends: who waits for the owner is told Code::closed, now and from now on; what it has not got is
  // let go of.
  void end();

 private:
  struct Item {
    uint64_t number = 0;
    uint64_t offset = 0;
    SharedBytes bytes;                        // none: only the attributes
    std::optional<SetAttributes> attributes;  // set after the bytes; alone in flight
    Credentials who;
    int64_t mtime_ns = 0;
    bool in_flight = false;
    bool durable = false;
    bool heard = false;   // durable: as heard_, when it was cut
    uint64_t covers = 0;  // durable: answered_, when it was cut (0: in another run of the owner)
    bool late = false;    // VolumeClient::Options::late
    int64_t retry_at_ns = 0;
  };
  struct Waiter {
    uint64_t number = 0;  // waits for all items up to this
    int64_t deadline_ns = 0;
    Code code = Code::unreachable;  // of the last attempt
    Done done;
  };
  struct Kept {
    uint64_t number = 0;
    uint64_t offset = 0;
    SharedBytes bytes;
    uint64_t logged = 0, verifier = 0;  // Reply
    std::optional<SetAttributes> attributes;
    Credentials who;
  };
  using Ready = std::vector<std::function<void()>>;
  struct PlannedRead;

  // All with mutex_ held.
  void cut_piece(Extents::Map::iterator extent);
  void cut_all();
  void cut_attributes();
  Attributes with_buffered() const;
  bool waits_to_set() const;  // attributes
  std::vector<Item*> next_sendable(int64_t now_ns);
  static bool may_share(const Item& item);
  static bool joins(const Item& first, const Item& item, uint64_t bytes);
  bool fits_one_request() const;
  void finish_request(const std::vector<uint64_t>& numbers, VolumeAnswer& answer, Ready& ready);
  void take_answer(Item& item, const VolumeAnswer& answer);
  void finish_waiters(Ready& ready);
  void fail_waiters(int64_t now_ns, Ready& ready);
  void keep(Item& item, const Reply& reply);
  void drop_kept(std::deque<Kept>::iterator kept);
  void drop_safe();
  void send_kept_again(uint64_t verifier);
  void note_verifier(uint64_t verifier);
  Extents buffered(uint64_t offset, uint64_t length) const;
  void note_attributes(const Attributes& attributes);
  uint64_t buffered_end() const;
  void arm(int64_t delay_ns);
  uint64_t file_bytes() const { return dirty_.bytes() + queued_bytes_; }

  bool ask_to_buffer();
  void write_after_flush(const Credentials& who, uint64_t offset, Bytes bytes, Mode mode, Done done);

  void pump();
  void send(const std::vector<Item*>& items, std::unique_lock<std::mutex>& lock);
  void tick();
  void wait_for_queue(Done done);
  void wait_for(uint64_t number, Done done);  // items up to this
  void wait_for_room(Done done);
  Code synced(uint64_t upto, uint64_t answered, bool heard);  // mutex_ held
  void note_durable(uint64_t answered, bool heard);           // mutex_ held
  void sync_round(const Credentials& who, bool asked, unsigned round, Done done);
  void read_direct(const Credentials& who, uint64_t offset, uint32_t length, Extents buffered, uint64_t end,
                   const VolumeClient::Options& options, ReadDone done);
  void read_planned(const Credentials& who, uint64_t offset, uint32_t length, ReadAhead::Plan plan,
                    const VolumeClient::Options& options, ReadDone done);
  void finish_planned(const std::shared_ptr<PlannedRead>& read);

  FileContext& context_;
  const std::shared_ptr<VolumeClient> client_;
  const InodeNumber inode_;
  const bool keeps_;  // the owner is another process

  std::atomic<bool> no_capability_{false};
  std::atomic<uint64_t> attribute_news_{0};

  mutable std::mutex mutex_;
  bool dirty_late_ = false;  // of dirty_ some
  Extents dirty_;
  int64_t dirty_since_ns_ = 0;
  int64_t last_write_wall_ns_ = 0;
  Credentials writer_;
  std::optional<SetAttributes> pending_;  // to be set after all bytes that are here
  Credentials pending_who_;
  int64_t attributes_wall_ns_ = 0;  // when the last of them was set here
  std::list<Item> queue_;
  uint64_t queued_bytes_ = 0;
  uint64_t next_number_ = 1;
  unsigned in_flight_ = 0;
  int64_t due_ns_ = 0;  // when it is looked after next; 0: not
  std::vector<Waiter> waiters_;
  bool ended_ = false;

  std::deque<Kept> kept_;
  uint64_t verifier_ = 0;     // of the owner's last answer; 0: none yet
  uint64_t unkept_upto_ = 0;  // bytes were let go that are durable only when the owner's log is, to here
  bool lost_ = false;         // and the owner restarted before
  uint64_t resent_upto_ = 0;  // items up to this are sent again: a sync waits for them
  uint64_t answered_ = 1;     // rises with what the owner answered and may lose
  uint64_t durable_ = 0;      // answered_, when it was last known to be durable
  bool heard_ = false;        // what others have changed since then has raised answered_, too

  uint64_t errors_ = 0;
  Code error_ = Code::ok;
  bool write_through_ = false;
  bool may_buffer_ = false;       // an exclusive lease
  uint64_t buffering_ended_ = 0;  // how often it was called back

  Attributes latest_;  // inode 0: none yet
  uint64_t base_version_ = 0, own_changes_ = 0, own_version_ = 0;
  uint64_t doubt_ = 0, doubts_ = 0;
  struct KernelRead {
    uint64_t number = 0, offset = 0, length = 0;
  };
  std::array<KernelRead, 16> kernel_reads_{};  // the last ones
  size_t next_kernel_read_ = 0;
  uint64_t newest_forgotten_read_ = 0;  // the greatest number of those before

  ReadAhead read_ahead_;
};

}  // namespace efs
