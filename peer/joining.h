// A peer on its way in: listens, dials the seed, asks to be admitted, reads the register until its own
// admission stands in it. The loop's thread only; `done` runs once, on it.
#pragma once

#include "peer/identity/invite.h"
#include "peer/membership/membership.h"

namespace efs {

struct JoinPlan {
  const Invite* invite = nullptr;  // outlives the task
  const KeyPair* key = nullptr;    // likewise
  std::string name;                // the wish
  Address seed;
  std::vector<Address> listen;     // the seed dials back here
  std::vector<Address> advertise;  // may be empty: then the seed knows the address
};

class JoinTask {
 public:
  struct Outcome {
    std::string name;
    std::string reached_at;
  };
  JoinTask(Runtime& runtime, RegisterStore& store, const JoinPlan& plan,
           std::function<void(Result<Outcome>)> done);
  void start();

 private:
  void dialled(Result<PeerId> peer);
  void joined(Result<Answer> answer);
  void read_register();
  void conclude();
  void finish(Result<Outcome> outcome);
  Status part(const RegisterPart& part);

  Runtime& runtime_;
  RegisterStore& store_;
  JoinPlan plan_;
  std::function<void(Result<Outcome>)> done_;
  PeerId seed_{};
  Outcome outcome_;
  uint64_t admitted_at_ = 0;
  Timer timer_;
  std::unique_ptr<Rpc> rpc_;
};

}  // namespace efs
