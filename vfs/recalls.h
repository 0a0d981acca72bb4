// What was recalled, and what the kernel was given: so that an answer on its way when its news came is not
// believed, and the kernel is told only what it may know.
//
// Keys are hashes; equal ones share a slot, which errs on the safe side: believed less, told more. Any
// thread, no lock. Whoever answers calls give() before the kernel gets the answer; whoever recalls calls
// take() before it looks whether to tell the kernel: one of the two sees the other.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

namespace efs {

inline uint64_t mix(uint64_t key) {  // the finalizer of splitmix64
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
  key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
  return key ^ (key >> 31);
}
inline uint64_t node_key(uint64_t node) {
  return mix(node + 1);
}
inline uint64_t listing_key(uint64_t node) {
  return mix(~node);
}
inline uint64_t entry_key(uint64_t parent, std::string_view name) {
  return mix(node_key(parent) ^ std::hash<std::string_view>()(name));
}

// When each key was last recalled.
class RecallEpochs {
 public:
  uint64_t now() const { return epoch_.load(); }
  // No news of it since now() was `since`.
  bool unchanged(uint64_t key, uint64_t since) const {
    return slots_[key % kSlots].load() <= since && all_.load() <= since;
  }
  void recalled(uint64_t key) { raise(slots_[key % kSlots], epoch_.fetch_add(1) + 1); }
  void all_recalled() { raise(all_, epoch_.fetch_add(1) + 1); }

 private:
  static constexpr size_t kSlots = 1 << 14;
  static void raise(std::atomic<uint64_t>& slot, uint64_t to) {
    uint64_t seen = slot.load();
    while (seen < to && !slot.compare_exchange_weak(seen, to)) {
    }
  }
  std::atomic<uint64_t> epoch_{0}, all_{0};
  std::vector<std::atomic<uint64_t>> slots_ = std::vector<std::atomic<uint64_t>>(kSlots);
};

// Until when the kernel may believe what it was given.
class Given {
 public:
  uint64_t now() const { return epochs_.now(); }
  // An answer asked for at `since` is about to be given, for `timeout_ns` from `now_ns` on. False: there was
  // news of it meanwhile; the kernel is to believe it for no time at all.
  bool give(uint64_t key, uint64_t since, int64_t now_ns, int64_t timeout_ns) {
    const int64_t until = std::min<int64_t>((now_ns + timeout_ns) / kUnit + 2, UINT32_MAX);
    auto& slot = slots_[key % kSlots];
    uint32_t seen = slot.load();
    while (int64_t(seen) < until && !slot.compare_exchange_weak(seen, uint32_t(until))) {
    }
    return epochs_.unchanged(key, since);
  }
  // There is news of it. True: the kernel may have it.
  bool take(uint64_t key, int64_t now_ns) {
    epochs_.recalled(key);
    return int64_t(slots_[key % kSlots].load()) >= now_ns / kUnit;
  }
  void take_all() { epochs_.all_recalled(); }

 private:
  static constexpr int64_t kUnit = 100'000'000;  // of the times below: 100 ms
  static constexpr size_t kSlots = 1 << 16;
  RecallEpochs epochs_;
  std::vector<std::atomic<uint32_t>> slots_ = std::vector<std::atomic<uint32_t>>(kSlots);
};

}  // namespace efs
