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

  void call(const Credentials& who, RequestBody body, Payload payload, const Options&, Done done) override {
    Request request;
    request.volume = replica_->id();
    request.who = who;
    request.session = session_;
    request.body = std::move(body);
    replica_->execute(request, std::move(payload), std::move(done));
  }
  void poke() override {}

  const VolumeId& id() const override { return replica_->id(); }
  VolumeNumber number() const override { return replica_->number(); }
  bool local() const override { return true; }
  // Once; before the first call of a mount that lets the kernel cache.
  void on_change(std::function<void(const Change&)> listener) override {
    token_ = replica_->on_change(std::move(listener));
  }
  // The owner does not restart without this process.
  void on_new_verifier(std::function<void()>) override {}

 private:
  const std::shared_ptr<Replica> replica_;
  SessionId session_{};
  std::shared_ptr<void> token_;
};

}  // namespace efs
