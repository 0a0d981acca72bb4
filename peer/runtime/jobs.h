// Work on the pool that must have ended before what it uses is taken apart.
//
// The loop's thread only; may be destroyed while jobs run, when what they use lives on by other means.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "peer/runtime/loop.h"

namespace efs {

class Jobs {
 public:
  explicit Jobs(Loop& loop) : loop_(loop) {}
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;

  // As Loop::work.
  void run(Task job, Task done) {
    ++state_->running;
    loop_.work(std::move(job), [&loop = loop_, state = state_, run_done = std::move(done)] {
      if (run_done) run_done();
      if (--state->running > 0) return;
      for (Task& task : std::exchange(state->when_idle, {})) loop.post(std::move(task));
    });
  }
  // Posts `then` once nothing runs, what the last jobs began included.
  void when_idle(Task then) {
    if (state_->running == 0) return loop_.post(std::move(then));
    state_->when_idle.push_back(std::move(then));
  }

 private:
  struct State {
    size_t running = 0;
    std::vector<Task> when_idle;
  };
  Loop& loop_;
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace efs
