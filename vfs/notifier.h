// Tells the kernel what it must not believe any more, on a thread of its own.
//
// A notification waits for the kernel's locks: an entry's for the lock of its directory, an inode's for pages
// that a READ is filling. Sent from a thread that answers requests it could wait for itself; here it waits
// for nobody who waits for it. A request may wait for a notification (`then`) only if it holds neither lock.
//
// The queue is bounded (kNotifications); the same news waits in it once. When it overflows, news is dropped
// and overflows() rises: the mount then keeps no pages over an open, and entries and attributes live out
// their timeout.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>

namespace efs {

// The kernel, as the notifier sees it: these calls may block.
class KernelCache {
 public:
  virtual ~KernelCache() = default;
  virtual void forget_inode(uint64_t node, bool pages) = 0;  // attributes, and its pages
  virtual void forget_entry(uint64_t parent, const std::string& name) = 0;
};

class Notifier {
 public:
  explicit Notifier(KernelCache& kernel);
  ~Notifier() { stop(); }
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  // Any thread; none blocks. `then` runs on the notifier's thread once the kernel knows (also when the news
  // was dropped or the notifier is stopped).
  void inode(uint64_t node, bool pages, std::function<void()> then = {});
  void entry(uint64_t parent, std::string name, std::function<void()> then = {});

  // True while news of this inode's pages has not reached the kernel.
  bool pending(uint64_t node) const;
  uint64_t overflows() const { return overflows_.load(std::memory_order_relaxed); }
  void stop();

 private:
  struct News {
    uint64_t node = 0;
    bool pages = false;
    bool is_entry = false;
    std::string name;
    std::function<void()> then;
  };
  void push(News news);
  void run();

  KernelCache& kernel_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<News> queue_;
  std::unordered_map<uint64_t, unsigned> pending_;  // inodes in queue_, and the one being sent
  std::atomic<uint64_t> overflows_{0};
  std::atomic<size_t> waiting_{0};  // spares pending() the lock when nothing waits
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace efs
