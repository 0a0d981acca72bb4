#include "vfs/notifier.h"

#include <pthread.h>

#include "vfs/limits.h"

namespace efs {

Notifier::Notifier(KernelCache& kernel) : kernel_(kernel), thread_([this] { run(); }) {
  pthread_setname_np(thread_.native_handle(), "efs-notify");
}

void Notifier::inode(uint64_t node, bool pages, std::function<void()> then) {
  push({node, pages, false, {}, std::move(then)});
}

void Notifier::entry(uint64_t parent, std::string name, std::function<void()> then) {
  push({parent, false, true, std::move(name), std::move(then)});
}

void Notifier::push(News news) {
  {
    std::lock_guard lock(mutex_);
    if (!queue_.empty()) {  // the same as the last: a file written piece by piece
      const News& last = queue_.back();
      if (!news.then && last.node == news.node && last.is_entry == news.is_entry &&
          last.pages == news.pages && last.name == news.name)
        return;
    }
    if (!stopping_ && queue_.size() < kNotifications) {
      if (!news.is_entry) ++pending_[news.node];
      queue_.push_back(std::move(news));
      waiting_.fetch_add(1);
      changed_.notify_one();
      return;
    }
    overflows_.fetch_add(1);
  }
  if (news.then) news.then();
}

bool Notifier::pending(uint64_t node) const {
  if (waiting_.load() == 0) return false;
  std::lock_guard lock(mutex_);
  return pending_.contains(node);
}

void Notifier::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Notifier::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    News news = std::move(queue_.front());
    queue_.pop_front();
    const bool send = !stopping_;
    lock.unlock();
    if (send && news.is_entry) kernel_.forget_entry(news.node, news.name);
    if (send && !news.is_entry) kernel_.forget_inode(news.node, news.pages);
    if (news.then) news.then();
    news.then = nullptr;
    lock.lock();
    waiting_.fetch_sub(1);
    if (!news.is_entry && --pending_[news.node] == 0) pending_.erase(news.node);
  }
}

}  // namespace efs
