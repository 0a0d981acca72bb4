// A volume, as who uses it sees it: the owner in this process, or one that is reached by RPC.
//
// call() may be made from any thread. `done` runs exactly once: inside call() or on any other thread, with
// no lock held that a further call() would need. A remote client repeats a request over reconnects and
// redirects, exactly once at the owner, until the request's deadline; it then answers Code::unreachable.
// Both check nothing that the owner must check.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "peer/base/shared_bytes.h"
#include "peer/volume/request.h"

namespace efs {

using Payload = SharedBytes;

struct VolumeAnswer {
  Reply reply;
  Payload payload;  // of Read
};

// What is known of the owner's log. Two runs of the owner: the one that answers now, and the one before, if
// nothing came between them unseen.
struct OwnersLog {
  uint64_t verifier = 0, durable = 0;  // of this run, what is on disk
  uint64_t ended = 0, survived = 0;    // of the run before, what this one has found
  uint64_t names_lost = 0;             // runs that lost changes of names that this client was answered
  // What was answered in that run with no greater Reply::logged is not lost, and will not be (0: none).
  uint64_t safe(uint64_t run) const { return run == verifier ? durable : run == ended ? survived : 0; }
};

class VolumeClient {
 public:
  virtual ~VolumeClient() = default;

  using Done = std::function<void(VolumeAnswer)>;
  struct Options {
    int64_t timeout_ns = 0;  // 0: the client's own (vfs.unreachable_timeout)
    // Set by the caller when it gave up (an interrupted system call): answered soon with Code::interrupted,
    // unless it is already being applied.
    std::shared_ptr<std::atomic<bool>> interrupted;
    // The program was told before that this is done: it was kept under a lease, or is repeated for an owner
    // that has restarted since.
    bool late = false;
  };
  virtual void call(const Credentials& who, RequestBody body, Payload payload, const Options& options,
                    Done done) = 0;
  // Wakes calls whose `interrupted` was set. Any thread.
  virtual void poke() = 0;
  // The volume, or this peer, goes: a remote client answers all that waits, and all that comes, with
  // Code::closed, and asks nobody any more. The loop's thread; any number of times.
  virtual void close() {}

  virtual const VolumeId& id() const = 0;
  virtual VolumeNumber number() const = 0;
  // The owner is in this process: call() answers inside itself but for syncs, and reading a file's bytes
  // costs no hop. The kernel may cache under notifications.
  virtual bool local() const = 0;
  // What others changed, or want to know: asked of the listener before they get their answer. `forgotten`
  // is to be run once, on any thread, when neither the mount nor its kernel believes otherwise any more. The
  // listener must not block. `knows`: see Leases::attach (local volumes alone).
  using Forgotten = std::function<void()>;
  using RecallListener = std::function<void(const Recall&, Forgotten)>;
  virtual void on_recall(RecallListener listener, std::function<bool(InodeNumber)> knows) = 0;
  // All leases are over: what was believed is not to be believed any more. Not `for_good`: the owner was not
  // heard for too long; they may be there again when it is, and what is buffered stays.
  virtual void on_leases_lost(std::function<void(bool for_good)> listener) = 0;
  // Something was answered under a lease without asking the owner: leases that nobody uses are given back.
  virtual void use_leases() {}
  // Each kLeaseRenewal while leases are held (local: never). The listener must not block.
  virtual void on_renewal(std::function<void()>) {}
  // What was leased may be believed until then (Clock::now_ns). Rises as the session is renewed.
  virtual int64_t lease_until_ns() const = 0;
  // Whether bytes written to this inode may be kept here for a while: an exclusive lease.
  virtual bool may_buffer(InodeNumber inode) = 0;
  // Whether the listener is asked before others are answered what they change of this inode.
  virtual bool hears_of(InodeNumber) { return true; }

  // One row's worth of news: `content` or attributes of `inode` changed; with `name`: this entry of `parent`
  // came, went or leads elsewhere.
  struct Change {
    InodeNumber inode = 0;
    bool content = false;
    InodeNumber parent = 0;
    std::string name;
  };
  // The owner restarted uncleanly: what was answered and not durable may be gone, and is to be sent again.
  // Until all copies of `resending` are gone, nothing else goes to the owner (no read, no append, no lock)
  // than what is late and what is written to a place of its own. The listener must not block.
  using Resending = std::shared_ptr<void>;
  virtual void on_new_verifier(std::function<void(Resending)> listener) = 0;
  // Knows of every run that an answer has told of.
  virtual OwnersLog owners_log() const = 0;
};

}  // namespace efs
