#include "peer/store/overlay.h"

#include <cstring>
#include <new>

namespace efs {
namespace {

constexpr size_t kBlockBytes = 256 << 10;

int compare(Table table, std::string_view key, Table other_table, std::string_view other_key) {
  if (table != other_table) return table < other_table ? -1 : 1;
  return key.compare(other_key);
}

}  // namespace

Overlay::Overlay() {
  void* memory = allocate(sizeof(Node) + (kMaxHeight - 1) * sizeof(std::atomic<Node*>));
  head_ = new (memory) Node{nullptr, nullptr, 0, 0, {}};
  for (int level = 0; level < kMaxHeight; ++level) new (&head_->next[level]) std::atomic<Node*>(nullptr);
  bytes_ = 0;
}

Overlay::~Overlay() = default;

void* Overlay::allocate(size_t size) {
  size = (size + 7) & ~size_t(7);
  bytes_.fetch_add(size, std::memory_order_relaxed);
  if (size > kBlockBytes / 4) {
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(size));
    return blocks_.back().get();
  }
  if (size > free_bytes_) {
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(kBlockBytes));
    free_ = blocks_.back().get();
    free_bytes_ = kBlockBytes;
  }
  void* result = free_;
  free_ += size;
  free_bytes_ -= size;
  return result;
}

const char* Overlay::copy(std::string_view bytes) {
  auto* to = static_cast<char*>(allocate(bytes.size() + 1));  // never null, for an empty value too
  std::memcpy(to, bytes.data(), bytes.size());
  return to;
}

int Overlay::random_height() {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  int height = 1;
  for (uint64_t bits = random_; height < kMaxHeight && (bits & 3) == 0; bits >>= 2) ++height;
  return height;
}

Overlay::Node* Overlay::first_not_before(Table table, std::string_view key, Node** before) const {
  Node* node = head_;
  for (int level = height_.load(std::memory_order_relaxed) - 1;; --level) {
    Node* next = node->follow(level);
    while (next != nullptr && compare(next->table, next->key_view(), table, key) < 0) {
      node = next;
      next = node->follow(level);
    }
    if (before != nullptr) before[level] = node;
    if (level == 0) return next;
  }
}

void Overlay::put(Table table, std::string_view key, Value value) {
  Node* before[kMaxHeight];
  Node* node = first_not_before(table, key, before);
  bool known = node != nullptr && node->table == table && node->key_view() == key;

  auto* row = new (allocate(sizeof(Version))) Version{};
  row->number = version_.load(std::memory_order_relaxed) + 1;
  row->older = known ? node->newest.load(std::memory_order_relaxed) : nullptr;
  row->value = value ? copy(*value) : nullptr;
  row->length = value ? value->size() : 0;
  if (known) {
    node->newest.store(row, std::memory_order_release);
    return;
  }

  int height = random_height();
  int old_height = height_.load(std::memory_order_relaxed);
  for (int level = old_height; level < height; ++level) before[level] = head_;
  if (height > old_height) height_.store(height, std::memory_order_relaxed);
  void* memory = allocate(sizeof(Node) + size_t(height - 1) * sizeof(std::atomic<Node*>));
  node = new (memory) Node{row, copy(key), uint32_t(key.size()), table, {}};
  for (int level = 0; level < height; ++level)
    new (&node->next[level]) std::atomic<Node*>(before[level]->follow(level));
  for (int level = 0; level < height; ++level)
    before[level]->next[level].store(node, std::memory_order_release);
}

void Overlay::publish(uint64_t index) {
  index_.store(index, std::memory_order_release);
  version_.fetch_add(1, std::memory_order_acq_rel);
}

std::optional<Overlay::Value> Overlay::find(Table table, std::string_view key, uint64_t version) const {
  const Node* node = first_not_before(table, key, nullptr);
  if (node == nullptr || node->table != table || node->key_view() != key) return std::nullopt;
  const Version* row = node->as_of(version);
  if (row == nullptr) return std::nullopt;
  return row->view();
}

Overlay::Cursor Overlay::seek(Table table, std::string_view from, uint64_t version) const {
  return {first_not_before(table, from, nullptr), table, version};
}

}  // namespace efs
