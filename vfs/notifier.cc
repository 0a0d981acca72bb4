#include "vfs/notifier.h"

#include <pthread.h>

#include <chrono>
#include <thread>

#include "vfs/limits.h"

namespace efs {

namespace {
constexpr size_t kKept = 2;  // threads that stay when there is nothing to do: one works, one looks after it
constexpr auto kLooks = std::chrono::milliseconds(1);  // so long for a notification is no waiting
}  // namespace

Notifier::Notifier(KernelCache& kernel) : kernel_(kernel) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < kKept; ++i) add_thread();
}

void Notifier::add_thread() {
  ++threads_;
  std::thread thread([this] { run(); });
  pthread_setname_np(thread.native_handle(), "efs-notify");
  thread.detach();  // stop() waits for it
}

void Notifier::inode(uint64_t node, bool pages, std::function<void()> then) {
  push({node, false}, {pages, {}, std::move(then)});
}

void Notifier::entry(uint64_t parent, std::string name, std::function<void()> then) {
  push({parent, true}, {false, std::move(name), std::move(then)});
}

void Notifier::push(Lane lane, News news) {
  {
    std::lock_guard lock(mutex_);
    if (!stopping_ && waiting_.load() < kNotifications) {
      auto& queue = lanes_[lane];
      // The same as the last, which is not being sent yet: a file written piece by piece.
      if (queue.size() > 1 && !news.then && queue.back().pages == news.pages &&
          queue.back().name == news.name)
        return;
      queue.push_back(std::move(news));
      waiting_.fetch_add(1);
      if (queue.size() > 1) return;
      ready_.push_back(lane);
      if (idle_ > 0) changed_.notify_one();
      return;
    }
    overflows_.fetch_add(1);
  }
  if (news.then) news.then();
}

bool Notifier::pending(uint64_t node) const {
  if (waiting_.load() == 0) return false;
  std::lock_guard lock(mutex_);
  return lanes_.contains({node, false});
}

void Notifier::stop() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  ended_.wait(lock, [this] { return threads_ == 0; });
}

// Sends the oldest news of the first lane.
void Notifier::serve(std::unique_lock<std::mutex>& lock) {
  const Lane lane = ready_.front();
  ready_.pop_front();
  auto& queue = lanes_[lane];
  News news = std::move(queue.front());
  const bool send = !stopping_;
  lock.unlock();
  if (send && lane.second) kernel_.forget_entry(lane.first, news.name);
  if (send && !lane.second) kernel_.forget_inode(lane.first, news.pages);
  if (news.then) news.then();
  news.then = nullptr;
  lock.lock();
  waiting_.fetch_sub(1);
  queue.pop_front();
  if (queue.empty()) {
    lanes_.erase(lane);
  } else {
    ready_.push_back(lane);
  }
}

// The last thread that is idle leaves what there is to those that are at work. What they have not taken after
// a moment it takes itself, and leaves another thread in its place: they wait for locks.
void Notifier::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    changed_.wait(lock, [this] { return stopping_ || !ready_.empty(); });
    if (!stopping_ && idle_ == 1) {
      ended_.wait_for(lock, kLooks, [this] { return stopping_; });
      if (!stopping_ && !ready_.empty() && idle_ == 1 && threads_ < kNotifierThreads) add_thread();
    }
    --idle_;
    while (!ready_.empty()) serve(lock);
    if (stopping_ || idle_ >= kKept) break;
  }
  --threads_;
  ended_.notify_all();
}

}  // namespace efs
