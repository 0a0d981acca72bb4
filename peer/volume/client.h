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

#include "peer/volume/request.h"

namespace efs {

using Payload = Bytes;

struct VolumeAnswer {
  Reply reply;
  Payload payload;  // of Read
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
  // Of what other mounts change, for the kernel's caches (local: every change; remote: none for now).
  // Called on the thread that applied the change, after it was applied, before it is answered: must not
  // block.
  struct Change {
    InodeNumber inode = 0;  // content or attributes changed
    bool content = false;
    InodeNumber parent = 0;  // with `name`: this entry came, went or leads elsewhere
    std::string name;
    SessionId by{};  // the session that asked
  };
  virtual void on_change(std::function<void(const Change&)> listener) = 0;
  // The owner restarted uncleanly: what was answered and not durable may be gone, and is to be sent again.
  virtual void on_new_verifier(std::function<void()> listener) = 0;
};

}  // namespace efs
