// Changed rows in memory, ordered by (table, key), each with its versions: what MetaStore keeps over its
// environment until the next checkpoint.
//
// A skip list (Pugh, "Skip Lists: A Probabilistic Alternative to Balanced Trees", 1990) in an arena: one
// writer adds rows and publishes them as a version, readers on any thread see the versions that were
// published when they began, and neither ever waits for the other. Nothing is freed before the whole
// overlay is. Writers: one at a time, the caller sees to it.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "peer/store/kv.h"

namespace efs {

class Overlay {
 public:
  using Value = std::optional<std::string_view>;  // nothing: erased

  Overlay();
  ~Overlay();
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

  // The writer. put() copies; it is not seen before publish(). A key at most once a version.
  void put(Table table, std::string_view key, Value value);
  void publish(uint64_t index);

  // Readers. A version is the number of publish() calls that it sees.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  // Nothing: this overlay says nothing about the key. Views live as long as the overlay.
  std::optional<Value> find(Table table, std::string_view key, uint64_t version) const;

  class Cursor;
  // At the first row of `table` that is not before `from`, as of `version`.
  Cursor seek(Table table, std::string_view from, uint64_t version) const;

  uint64_t index() const { return index_.load(std::memory_order_acquire); }  // of the last publish()
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  // Every row as it is now, in order. Only when nobody writes any more.
  template <typename Visit>
  void for_each(Visit visit) const;

 private:
  struct Version;
  struct Node;
  static constexpr int kMaxHeight = 16;

  void* allocate(size_t size);
  const char* copy(std::string_view bytes);
  Node* first_not_before(Table table, std::string_view key, Node** before) const;
  int random_height();

  std::vector<std::unique_ptr<char[]>> blocks_;
  char* free_ = nullptr;
  size_t free_bytes_ = 0;
  Node* head_ = nullptr;
  std::atomic<int> height_{1};
  std::atomic<uint64_t> version_{0};
  std::atomic<uint64_t> index_{0};
  std::atomic<uint64_t> bytes_{0};
  uint64_t random_ = 0x9e3779b97f4a7c15;  // heights need no secrecy, and the same run gives the same list
};

struct Overlay::Version {
  uint64_t number;
  const Version* older;
  const char* value;  // null: erased
  size_t length;
  Value view() const {
    if (value == nullptr) return std::nullopt;
    return std::string_view(value, length);
  }
};

struct Overlay::Node {
  std::atomic<const Version*> newest;
  const char* key;
  uint32_t key_length;
  Table table;
  std::atomic<Node*> next[1];  // as many as the node is high

  std::string_view key_view() const { return {key, key_length}; }
  Node* follow(int level) const { return next[level].load(std::memory_order_acquire); }
  const Version* as_of(uint64_t version) const {
    const Version* found = newest.load(std::memory_order_acquire);
    while (found != nullptr && found->number > version) found = found->older;
    return found;
  }
};

class Overlay::Cursor {
 public:
  Cursor(const Node* node, Table table, uint64_t version) : node_(node), table_(table), version_(version) {
    settle();
  }
  bool valid() const { return node_ != nullptr; }
  std::string_view key() const { return node_->key_view(); }
  Value value() const { return row_->view(); }
  void next() {
    node_ = node_->follow(0);
    settle();
  }

 private:
  // Rows that were first written after our version are not there for us.
  void settle() {
    for (; node_ != nullptr; node_ = node_->follow(0)) {
      if (node_->table != table_) {
        node_ = nullptr;
        return;
      }
      row_ = node_->as_of(version_);
      if (row_ != nullptr) return;
    }
  }
  const Node* node_;
  const Version* row_ = nullptr;
  Table table_;
  uint64_t version_;
};

template <typename Visit>
void Overlay::for_each(Visit visit) const {
  for (const Node* node = head_->follow(0); node != nullptr; node = node->follow(0)) {
    const Version* row = node->as_of(version());
    if (row != nullptr) visit(node->table, node->key_view(), row->view());
  }
}

}  // namespace efs
