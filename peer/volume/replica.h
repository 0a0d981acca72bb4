// One owner's copy of a volume: requests in, answers out. What a Raft group will be, too.
//
// execute() may be called from any thread, unless it says false for executes_inline() on a thread that must
// not wait (a loop): it may then hash, read a disk or sync before it returns. `done` runs exactly once, with
// no lock held that a further call needs: inside execute(), or later on any thread when others have to
// forget first (Leases).
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "peer/volume/leases.h"

namespace efs {

class Replica {
 public:
  virtual ~Replica() = default;
  using Done = std::function<void(VolumeAnswer)>;

  virtual void execute(const Request& request, Payload payload, Done done) = 0;
  // It is answered without waiting for a disk's flush or for bytes of chunks, and soon.
  virtual bool executes_inline(const RequestBody& body, size_t payload_bytes) const = 0;
  // A Read whose bytes are in memory, and of which nobody has others buffered. What is not there is on its
  // way from the disk then.
  virtual std::optional<VolumeAnswer> read_cached(const Request& request) = 0;

  virtual const VolumeId& id() const = 0;
  virtual VolumeNumber number() const = 0;
  virtual uint64_t verifier() const = 0;
  // Who may believe what. Sessions are attached by whoever can reach them.
  virtual Leases& leases() = 0;
  // The root volume's register: entries from `from` on, at most `limit`.
  virtual Result<std::vector<Bytes>> register_entries(uint64_t from, size_t limit) const = 0;
};

}  // namespace efs
