// The event loop that owns an object, as that object sees it.
//
// One thread runs a loop; everything that belongs to it is called on that thread alone. post() is the one
// way in from other threads. Tasks run in the order in which they were posted; a task never runs inside
// the call that posted it. A loop that is closing drops what has not run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "peer/runtime/clock.h"

namespace efs {

using Task = std::function<void()>;
using TimerId = uint64_t;  // 0: none

// What a loop serves beside its own events. On the loop's thread, all of it.
class Watched {
 public:
  virtual ~Watched() = default;
  virtual int descriptor() const = 0;  // the same from watch() to unwatch(), and open
  virtual void look() = 0;             // it is readable, or broken
  virtual void before_sleep() = 0;     // nobody looks until something comes
  virtual void leave() = 0;            // the loop ends; to call unwatch()
};

class Loop {
 public:
  virtual ~Loop() = default;

  virtual const Clock& clock() const = 0;

  // Any thread.
  virtual void post(Task task) = 0;

  // The loop's thread only. `task` runs once, not before `delay_ns` has passed. cancel() of a timer that
  // has run, or of 0, does nothing; after cancel() the task will not run.
  virtual TimerId after(int64_t delay_ns, Task task) = 0;
  virtual void cancel(TimerId timer) = 0;

  // The loop's thread only: runs `job` on the pool (hashing, syncs: what blocks or burns), then `done` on
  // the loop. Both always run, in this order, unless the loop closes first; then `done` is dropped.
  virtual void work(Task job, Task done) = 0;

  virtual bool on_thread() const = 0;

  // The loop's thread only. Until unwatch() look() is called whenever the descriptor is readable, and what is
  // watched stays alive. A loop that cannot watch says so by leave(), at once.
  virtual void watch(const std::shared_ptr<Watched>& other) { other->leave(); }
  virtual void unwatch(Watched&) {}
};

// A timer that is cancelled with its owner. The loop's thread only.
class Timer {
 public:
  explicit Timer(Loop& loop) : loop_(loop) {}
  ~Timer() { stop(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  // Replaces what was set before.
  void start(int64_t delay_ns, Task task) {
    stop();
    id_ = loop_.after(delay_ns, [this, run = std::move(task)] {
      id_ = 0;
      run();
    });
  }
  void stop() {
    loop_.cancel(id_);
    id_ = 0;
  }
  bool running() const { return id_ != 0; }

 private:
  Loop& loop_;
  TimerId id_ = 0;
};

}  // namespace efs
