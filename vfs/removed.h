// What was last known of inodes that this mount took the last name of: for programs that have one as their
// working directory, or hold it by O_PATH. Those do not open it, so that its owner does not keep it.
//
// Bounded; forgotten as the kernel forgets the inode, or when kMaxRemoved others came after it. Thread-safe.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "peer/volume/types.h"

namespace efs {

inline constexpr size_t kMaxRemoved = 4096;

class RemovedInodes {
 public:
  void add(uint64_t node, const Attributes& attributes) {
    std::lock_guard lock(mutex_);
    if (!all_.insert_or_assign(node, attributes).second) return;
    order_.push_back(node);
    while (order_.size() > kMaxRemoved) {
      all_.erase(order_.front());
      order_.pop_front();
    }
    count_.store(all_.size(), std::memory_order_relaxed);
  }
  std::optional<Attributes> find(uint64_t node) const {
    if (count_.load(std::memory_order_relaxed) == 0) return std::nullopt;
    std::lock_guard lock(mutex_);
    auto found = all_.find(node);
    return found == all_.end() ? std::nullopt : std::optional(found->second);
  }
  void forget(uint64_t node) {
    if (count_.load(std::memory_order_relaxed) == 0) return;
    std::lock_guard lock(mutex_);
    all_.erase(node);
    if (all_.empty()) order_.clear();  // else it leaves with those before it
    count_.store(all_.size(), std::memory_order_relaxed);
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Attributes> all_;
  std::deque<uint64_t> order_;
  std::atomic<size_t> count_{0};
};

}  // namespace efs
