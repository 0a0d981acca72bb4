#include "vfs/background.h"

#include <pthread.h>

namespace efs {

Background::Background(const Clock& clock) : clock_(clock), thread_([this] { run(); }) {
  pthread_setname_np(thread_.native_handle(), "efs-writeback");
}

void Background::after(int64_t delay_ns, std::function<void()> task) {
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  int64_t due_ns = clock_.now_ns() + delay_ns;
  if (delay_ns >= kCoarse) due_ns += kGrain - due_ns % kGrain;
  auto at = tasks_.emplace(due_ns, std::move(task));
  if (at == tasks_.begin()) changed_.notify_one();
}

void Background::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  tasks_.clear();
}

void Background::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (tasks_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const int64_t wait_ns = tasks_.begin()->first - clock_.now_ns();
    if (wait_ns > 0) {
      changed_.wait_for(lock, std::chrono::nanoseconds(wait_ns));
      continue;
    }
    auto task = std::move(tasks_.begin()->second);
    tasks_.erase(tasks_.begin());
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace efs
