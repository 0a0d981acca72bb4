// Tells the kernel what it must not believe any more, on threads of its own.
//
// A notification waits for the kernel's locks: an entry's for the lock of its directory, an inode's for pages
// that a READ is filling. Sent from a thread that answers requests it could wait for itself; here it waits
// for nobody who waits for it. A request may wait for a notification (`then`) only if it holds neither lock.
//
// News of one directory's names, and news of one inode, is sent in order; all else goes on beside it: what
// has to wait for a lock holds up nothing that needs another one. (Else two mounts could wait for each other
// over places that have nothing to do with each other.) So there is another thread whenever all others wait,
// up to kNotifierThreads.
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
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace efs {

// The kernel, as the notifier sees it: these calls may block. Several threads at once.
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

  // Any thread; none blocks. `then` runs on a thread of the notifier once the kernel knows (also when the
  // news was dropped or the notifier is stopped).
  void inode(uint64_t node, bool pages, std::function<void()> then = {});
  void entry(uint64_t parent, std::string name, std::function<void()> then = {});

  // True while news of this inode's attributes or pages has not reached the kernel.
  bool pending(uint64_t node) const;
  uint64_t overflows() const { return overflows_.load(std::memory_order_relaxed); }
  void stop();

 private:
  using Lane = std::pair<uint64_t, bool>;  // an inode, or the names in it
  struct News {
    bool pages = false;
    std::string name;
    std::function<void()> then;
  };
  void push(Lane lane, News news);
  void add_thread();
  void run();
  void serve(std::unique_lock<std::mutex>& lock);

  KernelCache& kernel_;
  mutable std::mutex mutex_;
  std::condition_variable changed_, ended_;
  std::map<Lane, std::deque<News>> lanes_;  // what waits, the one being sent included
  std::deque<Lane> ready_;                  // lanes that nobody serves
  std::atomic<size_t> waiting_{0};          // news in lanes_; spares pending() the lock when there is none
  std::atomic<uint64_t> overflows_{0};
  size_t threads_ = 0, idle_ = 0;
  bool stopping_ = false;
};

}  // namespace efs
