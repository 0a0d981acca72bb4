// Which inodes a program on the control socket has come to by a path that its user may walk.
//
// A file's own mode says who may read it, the modes of the directories above say who may come to it; the
// kernel keeps to both on a mount. Requests on the socket name inodes by number, and numbers can be guessed:
// so a caller may name only what its connection was shown before, by resolving, looking up, listing or
// making. Plain values, bounded: the loop's thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <unordered_set>

namespace efs {

class Reached {
 public:
  // Of one connection, as long as all of them together are below kInAll; then this many.
  static constexpr size_t kOfOne = 1 << 18, kInAll = 1 << 20, kAtLeast = 4096;

  void add(uint64_t connection, uint64_t global_inode) {
    One& one = connections_[connection];
    if (!one.inodes.insert(global_inode).second) return;
    one.order.push_back(global_inode);
    ++count_;
    const size_t limit = count_ > kInAll ? kAtLeast : kOfOne;
    while (one.order.size() > limit) {
      one.inodes.erase(one.order.front());
      one.order.pop_front();
      --count_;
    }
  }
  bool has(uint64_t connection, uint64_t global_inode) const {
    auto found = connections_.find(connection);
    return found != connections_.end() && found->second.inodes.contains(global_inode);
  }
  void end(uint64_t connection) {
    auto found = connections_.find(connection);
    if (found == connections_.end()) return;
    count_ -= found->second.order.size();
    connections_.erase(found);
  }
  size_t count() const { return count_; }

 private:
  struct One {
    std::unordered_set<uint64_t> inodes;
    std::deque<uint64_t> order;  // the oldest goes first
  };
  std::unordered_map<uint64_t, One> connections_;
  size_t count_ = 0;
};

}  // namespace efs
