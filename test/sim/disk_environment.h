// A metadata environment in memory whose writes are steps of a simulated disk, as LMDB's commits are: when
// power goes at that very step, the commit is there or it is not, by a coin, and the caller hears of a
// failure. What was written stays through power loss and kills; nothing is written once the disk has failed.
#pragma once

#include <functional>

#include "peer/runtime/simulated.h"
#include "peer/store/meta_store.h"

namespace efs::test {

class DiskEnvironment final : public MetaEnvironment {
 public:
  DiskEnvironment(SimulatedDisk& disk, std::shared_ptr<MetaEnvironment> inner, std::function<bool()> coin)
      : disk_(disk), inner_(std::move(inner)), coin_(std::move(coin)) {}

  Status write(const std::vector<Change>& changes) override {
    EFS_TRY(disk_.files().make_directories(kSteps, 0700));
    EFS_TRY(disk_.files().sync_directory(kSteps));
    const bool power_goes = !disk_.files().list(kSteps);
    if (!power_goes || coin_()) EFS_TRY(inner_->write(changes));
    if (power_goes) return fail(Code::io, "power went during a commit");
    return {};
  }
  std::unique_ptr<ReadRows> snapshot() const override { return inner_->snapshot(); }
  uint64_t used_bytes() const override { return inner_->used_bytes(); }

 private:
  static constexpr const char* kSteps = "/commits";
  SimulatedDisk& disk_;
  const std::shared_ptr<MetaEnvironment> inner_;
  const std::function<bool()> coin_;
};

}  // namespace efs::test
