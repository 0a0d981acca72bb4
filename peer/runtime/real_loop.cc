#include "peer/runtime/real_loop.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <memory>

#include "peer/runtime/wakefulness.h"

namespace efs {

namespace {
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr size_t kReadBufferBytes = 256 << 10;
}  // namespace

struct RealLoop::Job {
  uv_work_t request;
  RealLoop* loop;
  Task job, done;
};

struct RealLoop::Watch {
  uv_poll_t poll;
  RealLoop* loop;
  std::shared_ptr<Watched> other;
};

RealLoop::RealLoop(const Clock& clock, int64_t awake_ns)
    : clock_(clock), awake_ns_(awake_ns), armed_for_ns_(kNever), read_buffer_(kReadBufferBytes) {
  int failed = uv_loop_init(&uv_);
  assert(!failed);  // only for want of descriptors or memory, at start
  failed |=
      uv_async_init(&uv_, &wake_, [](uv_async_t* wake) { static_cast<RealLoop*>(wake->data)->run_posted(); });
  failed |= uv_prepare_init(&uv_, &before_sleep_);
  failed |= uv_timer_init(&uv_, &timer_);
  wake_.data = before_sleep_.data = timer_.data = this;
  failed |= uv_prepare_start(
      &before_sleep_, [](uv_prepare_t* prepare) { static_cast<RealLoop*>(prepare->data)->arm_timer(); });
  assert(!failed);
  (void)failed;
}

RealLoop::~RealLoop() {
  assert(on_thread());
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  drop_tasks();
  for (auto* handle : {reinterpret_cast<uv_handle_t*>(&wake_), reinterpret_cast<uv_handle_t*>(&before_sleep_),
                       reinterpret_cast<uv_handle_t*>(&timer_)}) {
    uv_close(handle, nullptr);
  }
  uv_walk(
      &uv_,
      [](uv_handle_t* handle, void*) {
        assert(uv_is_closing(handle) && "a stream or listener outlives its runtime");
      },
      nullptr);
  uv_run(&uv_, UV_RUN_DEFAULT);
  drop_tasks();
  [[maybe_unused]] int failed = uv_loop_close(&uv_);
  assert(!failed);
}

// What a task holds may cancel timers or post in its destructor.
void RealLoop::drop_tasks() {
  std::vector<Task> posted;
  {
    std::lock_guard lock(mutex_);
    posted.swap(posted_);
  }
  posted.clear();
  batch_.clear();
  while (!timers_.empty()) timers_.take_all();
}

void RealLoop::run() {
  assert(on_thread());
  Wakefulness wakefulness(clock_, awake_ns_);
  while (!stopped_) {
    const bool looks = wakefulness.awake() || posted_here_;
    if (!looks) {
      for (const Watch* watch : watches_) watch->other->before_sleep();
    }
    uv_run(&uv_, looks ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    if (posted_here_) run_posted();
    if (std::exchange(found_, false)) {
      wakefulness.found();
    } else {
      wakefulness.found_nothing();
    }
  }
  stopped_ = false;
  while (!watches_.empty()) watches_.back()->other->leave();
}

void RealLoop::stop() {
  post([this] { stopped_ = true; });
}

void RealLoop::watch(const std::shared_ptr<Watched>& other) {
  assert(on_thread());
  auto watch = std::make_unique<Watch>();
  watch->loop = this;
  watch->other = other;
  watch->poll.data = watch.get();
  if (uv_poll_init(&uv_, &watch->poll, other->descriptor()) != 0) return other->leave();
  watches_.push_back(watch.release());
  // A descriptor that libuv could begin with it can poll.
  uv_poll_start(&watches_.back()->poll, UV_READABLE, [](uv_poll_t* poll, int, int) {
    auto* readable = static_cast<Watch*>(poll->data);
    readable->loop->found_ = true;
    readable->other->look();
  });
}

void RealLoop::unwatch(Watched& other) {
  assert(on_thread());
  auto found = std::find_if(watches_.begin(), watches_.end(),
                            [&](const Watch* watch) { return watch->other.get() == &other; });
  if (found == watches_.end()) return;
  Watch* watch = *found;
  watches_.erase(found);
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll),
           [](uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); });
}

void RealLoop::post(Task task) {
  bool first;
  {
    std::lock_guard lock(mutex_);
    if (closing_) return;
    first = posted_.empty();
    posted_.push_back(std::move(task));
  }
  if (on_thread()) {
    posted_here_ = true;
  } else if (first) {
    uv_async_send(&wake_);
  }
}

void RealLoop::run_posted() noexcept {
  posted_here_ = false;
  {
    std::lock_guard lock(mutex_);
    batch_.swap(posted_);
  }
  found_ |= !batch_.empty();
  for (Task& task : batch_) {
    task();
    task = nullptr;
  }
  batch_.clear();  // its capacity serves the next batch
}

TimerId RealLoop::after(int64_t delay_ns, Task task) {
  assert(on_thread());
  int64_t now = clock_.now_ns();
  int64_t delay = std::clamp<int64_t>(delay_ns, 0, kNever - 1 - now);
  return timers_.add(now + delay, std::move(task));
}

void RealLoop::cancel(TimerId timer) {
  if (timer == 0) return;
  assert(on_thread());
  (void)timers_.remove(timer);
}

void RealLoop::arm_timer() {
  int64_t next = timers_.empty() ? kNever : timers_.next_time();
  if (next == armed_for_ns_) return;
  armed_for_ns_ = next;
  if (next == kNever) {
    uv_timer_stop(&timer_);
    return;
  }
  uv_update_time(&uv_);
  int64_t wait_ns = std::max<int64_t>(next - clock_.now_ns(), 0);
  uint64_t wait_ms = uint64_t(wait_ns + kMillisecond - 1) / kMillisecond;
  uv_timer_start(
      &timer_, [](uv_timer_t* timer) { static_cast<RealLoop*>(timer->data)->run_timers(); }, wait_ms, 0);
}

// libuv counts whole milliseconds of its own clock: what is not due yet is armed for again.
void RealLoop::run_timers() noexcept {
  armed_for_ns_ = kNever;
  int64_t now = clock_.now_ns();
  while (!timers_.empty() && timers_.next_time() <= now) timers_.pop()();
}

void RealLoop::work(Task job, Task done) {
  assert(on_thread());
  auto* request = new Job{{}, this, std::move(job), std::move(done)};
  request->request.data = request;
  [[maybe_unused]] int failed = uv_queue_work(
      &uv_, &request->request, [](uv_work_t* work) noexcept { static_cast<Job*>(work->data)->job(); },
      [](uv_work_t* work, int) noexcept {
        std::unique_ptr<Job> owned(static_cast<Job*>(work->data));
        owned->job = nullptr;
        // closing_ is written on this thread only
        if (!owned->loop->closing_ && owned->done) owned->done();
      });
  assert(!failed);
}

}  // namespace efs
