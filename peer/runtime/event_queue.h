// Things to come, in the order (time, order of adding): the timers of a loop, the events of the simulator.
//
// A binary heap whose entries know their place, so that cancelling takes O(log n) at once and leaves nothing
// behind. Ids are never 0; an id of something gone is recognised (a slot counts its uses). One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace efs {

template <typename Payload>
class EventQueue {
 public:
  using EventId = uint64_t;

  EventId add(int64_t time_ns, Payload payload) {
    uint32_t index = take_slot();
    slots_[index].payload.emplace(std::move(payload));
    heap_.push_back({time_ns, ++sequence_, index});
    sift_up(heap_.size() - 1);
    return id_of(index);
  }

  // What is removed goes to the caller, who destroys it once this queue is consistent again.
  std::optional<Payload> remove(EventId id) {
    Slot* slot = find(id);
    if (!slot) return std::nullopt;
    return take(slot->place);
  }

  // To another time, behind what is there for that time already. False when it is gone.
  bool move(EventId id, int64_t time_ns) {
    Slot* slot = find(id);
    if (!slot) return false;
    size_t place = slot->place;
    heap_[place].time_ns = time_ns;
    heap_[place].sequence = ++sequence_;
    settle(place);
    return true;
  }

  bool empty() const { return heap_.empty(); }
  size_t size() const { return heap_.size(); }

  // The first; the queue must not be empty.
  int64_t next_time() const { return heap_[0].time_ns; }
  EventId next_id() const { return id_of(heap_[0].slot); }
  const Payload& next() const { return *slots_[heap_[0].slot].payload; }
  Payload pop() { return take(0); }

  // All for which `chosen` says so, in no order; takes the time of a look at each.
  template <typename Predicate>
  std::vector<Payload> take_if(Predicate chosen) {
    std::vector<Payload> taken;
    for (size_t index = 0; index < slots_.size(); ++index) {
      if (slots_[index].payload && chosen(*slots_[index].payload)) taken.push_back(take(slots_[index].place));
    }
    return taken;
  }

  // Everything, in no order; the queue is empty afterwards.
  std::vector<Payload> take_all() {
    std::vector<Payload> all;
    all.reserve(heap_.size());
    while (!heap_.empty()) all.push_back(take(heap_.size() - 1));
    return all;
  }

 private:
  struct Entry {
    int64_t time_ns;
    uint64_t sequence;
    uint32_t slot;
    bool before(const Entry& other) const {
      return time_ns != other.time_ns ? time_ns < other.time_ns : sequence < other.sequence;
    }
  };
  struct Slot {
    std::optional<Payload> payload;
    size_t place = 0;  // in heap_
    uint32_t uses = 1;
  };

  EventId id_of(uint32_t index) const { return uint64_t(slots_[index].uses) << 32 | index; }

  Slot* find(EventId id) {
    uint32_t index = uint32_t(id);
    if (index >= slots_.size()) return nullptr;
    Slot& slot = slots_[index];
    return slot.payload && slot.uses == uint32_t(id >> 32) ? &slot : nullptr;
  }

  uint32_t take_slot() {
    if (free_.empty()) {
      slots_.emplace_back();
      return uint32_t(slots_.size() - 1);
    }
    uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }

  Payload take(size_t place) {
    uint32_t index = heap_[place].slot;
    Slot& slot = slots_[index];
    Payload payload = std::move(*slot.payload);
    slot.payload.reset();
    if (++slot.uses == 0) slot.uses = 1;
    free_.push_back(index);
    heap_[place] = heap_.back();
    heap_.pop_back();
    if (place < heap_.size()) settle(place);
    return payload;
  }

  void settle(size_t place) {
    if (place > 0 && heap_[place].before(heap_[(place - 1) / 2])) {
      sift_up(place);
    } else {
      sift_down(place);
    }
  }

  void sift_up(size_t place) {
    Entry entry = heap_[place];
    while (place > 0) {
      size_t parent = (place - 1) / 2;
      if (!entry.before(heap_[parent])) break;
      put(place, heap_[parent]);
      place = parent;
    }
    put(place, entry);
  }

  void sift_down(size_t place) {
    Entry entry = heap_[place];
    while (true) {
      size_t child = 2 * place + 1;
      if (child >= heap_.size()) break;
      if (child + 1 < heap_.size() && heap_[child + 1].before(heap_[child])) ++child;
      if (!heap_[child].before(entry)) break;
      put(place, heap_[child]);
      place = child;
    }
    put(place, entry);
  }

  void put(size_t place, const Entry& entry) {
    heap_[place] = entry;
    slots_[entry.slot].place = place;
  }

  std::vector<Entry> heap_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  uint64_t sequence_ = 0;
};

}  // namespace efs
