// The event loop on libuv: loop.h says what it promises. Inside efs_real only.
//
// post() from anywhere: one short lock, and from other threads one write to an eventfd when nothing was
// waiting. All timers of a loop share one uv_timer, armed for the earliest before the loop sleeps; it is as
// fine as epoll: about 1 ms, never early. Constructed, run and destroyed on one thread.
//
// After something came, the loop looks for more without sleeping for a while (`awake`), leaving the processor
// to whoever else wants it: to be woken costs more than most of what it is woken for, most of all on a
// virtual machine.
#pragma once

#include <uv.h>

#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "peer/runtime/event_queue.h"
#include "peer/runtime/loop.h"

namespace efs {

class RealLoop final : public Loop {
 public:
  RealLoop(const Clock& clock, int64_t awake_ns);
  // Streams and listeners must be gone or closing; waits for pool work that has begun or is queued.
  ~RealLoop() override;

  void run();   // until stop()
  void stop();  // any thread; what was posted before still runs

  const Clock& clock() const override { return clock_; }
  void post(Task task) override;
  TimerId after(int64_t delay_ns, Task task) override;
  void cancel(TimerId timer) override;
  void work(Task job, Task done) override;
  bool on_thread() const override { return std::this_thread::get_id() == thread_; }
  void watch(const std::shared_ptr<Watched>& other) override;
  void unwatch(Watched& other) override;

  uv_loop_t* uv() { return &uv_; }
  // What all streams read into: on_data consumes it before the next read.
  std::span<char> read_buffer() { return read_buffer_; }
  // Something came from outside: perhaps more does soon.
  void found_something() { found_ = true; }

 private:
  struct Job;
  struct Watch;
  void run_posted() noexcept;  // exceptions stop here: libuv is C
  void arm_timer();
  void run_timers() noexcept;
  void drop_tasks();

  const Clock& clock_;
  const int64_t awake_ns_;
  const std::thread::id thread_ = std::this_thread::get_id();
  uv_loop_t uv_;
  uv_async_t wake_;
  uv_prepare_t before_sleep_;
  uv_timer_t timer_;
  int64_t armed_for_ns_;  // kNever: the timer is not running
  EventQueue<Task> timers_;
  std::vector<Task> batch_;  // being run
  std::vector<char> read_buffer_;
  std::vector<Watch*> watches_;  // libuv frees them, when it has closed them
  bool found_ = false;
  bool posted_here_ = false;  // by this thread, which looks at it before it sleeps: nobody is woken
  bool stopped_ = false;

  std::mutex mutex_;
  std::vector<Task> posted_;  // mutex_
  bool closing_ = false;      // mutex_
};

}  // namespace efs
