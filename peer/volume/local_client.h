// A volume whose owner is in this process: call() executes the request on the calling thread.
// Any thread. Open and Close are counted by client: each mount has a client with a number of its own.
#pragma once

#include "peer/volume/replica.h"

namespace efs {

class LocalVolume final : public VolumeClient {
 public:
  explicit LocalVolume(std::shared_ptr<Replica> replica, uint8_t mount = 0) : replica_(std::move(replica)) {
    session_.back() = mount;
  }

  ~LocalVolume() override {
    if (attached_ && !closed_) replica_->leases().detach(session_);
  }

  void call(const Credentials& who, RequestBody body, Payload payload, const Options&, Done done) override {
    Request request;
    request.volume = replica_->id();
    request.who = who;
    request.session = session_;
    request.leases = attached_;
    request.body = std::move(body);
    replica_->execute(request, std::move(payload), std::move(done));
  }
  void poke() override {}
  // Its mount has ended, and so has what it held open, locked and was leased: its number is for the next one.
  void close() override {
    if (!closed_.exchange(true)) call({}, Goodbye{}, {}, {}, [](VolumeAnswer) {});
  }

  const VolumeId& id() const override { return replica_->id(); }
  VolumeNumber number() const override { return replica_->number(); }
  bool local() const override { return true; }
  // Before the first call of a mount that lets the kernel cache.
  void on_recall(RecallListener listener, std::function<bool(InodeNumber)> knows) override {
    attached_ = true;
    replica_->leases().attach(session_, std::move(listener), std::move(knows));
  }
  void on_leases_lost(std::function<void(bool)>) override {}
  int64_t lease_until_ns() const override { return INT64_MAX; }
  bool may_buffer(InodeNumber inode) override { return replica_->leases().own(session_, inode); }
  // The owner does not restart without this process.
  void on_new_verifier(std::function<void(Resending)>) override {}
  OwnersLog owners_log() const override { return {}; }

 private:
  const std::shared_ptr<Replica> replica_;
  SessionId session_{};
  bool attached_ = false;
  std::atomic<bool> closed_{false};
};

}  // namespace efs
