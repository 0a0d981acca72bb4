// A cache in two halves: what is used moves to the newer one, and when that is full, its owner lets go of the
// older one and starts the newer anew. So what was used lately stays, at the cost of a hash table. Not
// locked.
#pragma once

#include <unordered_map>
#include <utility>

namespace efs {

template <typename Key, typename Value, typename Hash = std::hash<Key>>
struct Generations {
  std::unordered_map<Key, Value, Hash> newer, older;

  Value* find(const Key& key) {
    if (auto found = newer.find(key); found != newer.end()) return &found->second;
    auto found = older.find(key);
    if (found == older.end()) return nullptr;
    Value* moved = &(newer[key] = std::move(found->second));
    older.erase(key);
    return moved;
  }
  Value& at(const Key& key) {
    Value* found = find(key);
    return found != nullptr ? *found : newer[key];
  }
  void erase(const Key& key) {
    newer.erase(key);
    older.erase(key);
  }
  void clear() {
    newer.clear();
    older.clear();
  }
};

}  // namespace efs
