#include "peer/runtime/simulated_content.h"

#include <algorithm>
#include <utility>

namespace efs {

namespace {
bool all_zero(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}
}  // namespace

size_t SimulatedContent::read(uint64_t offset, std::span<uint8_t> out) const {
  if (offset >= size_) return 0;
  size_t length = size_t(std::min<uint64_t>(out.size(), size_ - offset));
  std::fill_n(out.begin(), length, uint8_t(0));
  uint64_t end = offset + length;
  for (auto page = pages_.lower_bound(offset / kPageBytes);
       page != pages_.end() && page->first * kPageBytes < end; ++page) {
    if (!page->second) continue;
    uint64_t begin = page->first * kPageBytes;
    uint64_t from = std::max(offset, begin), to = std::min(end, begin + kPageBytes);
    std::copy_n(page->second->begin() + long(from - begin), to - from, out.begin() + long(from - offset));
  }
  return length;
}

void SimulatedContent::note(Change::Kind kind, uint64_t offset, uint64_t length, ByteView bytes) {
  journal_.push_back({kind, offset, length, to_bytes(bytes)});
  unsynced_bytes_ += sizeof(Change) + bytes.size();
}

void SimulatedContent::write(uint64_t offset, ByteView bytes) {
  if (bytes.empty()) return;
  note(Change::Kind::write, offset, bytes.size(), bytes);
  put(offset, bytes);
}

void SimulatedContent::truncate(uint64_t size) {
  note(Change::Kind::truncate, size, 0, {});
  resize(size);
}

void SimulatedContent::allocate(uint64_t offset, uint64_t length) {
  note(Change::Kind::allocate, offset, length, {});
  reserve(offset, length);
}

void SimulatedContent::punch(uint64_t offset, uint64_t length) {
  note(Change::Kind::punch, offset, length, {});
  zero(offset, length);
}

void SimulatedContent::sync() {
  journal_.clear();
  unsynced_bytes_ = 0;
  synced_.clear();
  synced_size_ = size_;
}

uint64_t SimulatedContent::missing_pages(uint64_t offset, uint64_t length) const {
  if (length == 0) return 0;
  uint64_t first = offset / kPageBytes, last = (offset + length - 1) / kPageBytes;
  uint64_t there = uint64_t(std::distance(pages_.lower_bound(first), pages_.upper_bound(last)));
  return last - first + 1 - there;
}

void SimulatedContent::keep_synced(uint64_t page) {
  if (replaying_ || synced_.count(page)) return;
  auto found = pages_.find(page);
  if (found == pages_.end()) {
    synced_.emplace(page, std::nullopt);
  } else {
    synced_.emplace(page, found->second ? std::make_unique<Page>(*found->second) : nullptr);
  }
}

void SimulatedContent::put(uint64_t offset, ByteView bytes) {
  size_ = std::max(size_, offset + bytes.size());
  while (!bytes.empty()) {
    uint64_t number = offset / kPageBytes, inside = offset % kPageBytes;
    size_t length = size_t(std::min<uint64_t>(bytes.size(), kPageBytes - inside));
    keep_synced(number);
    PageRef& page = pages_[number];
    if (length == kPageBytes && all_zero(bytes.first(length))) {
      page.reset();  // prewritten logs cost no memory
    } else {
      if (!page) page = std::make_unique<Page>(Page{});
      std::copy_n(bytes.begin(), length, page->begin() + long(inside));
    }
    offset += length;
    bytes = bytes.subspan(length);
  }
}

void SimulatedContent::drop_pages(uint64_t first, uint64_t last) {
  auto page = pages_.lower_bound(first);
  while (page != pages_.end() && page->first < last) {
    keep_synced(page->first);
    page = pages_.erase(page);
  }
}

// Whole pages become holes, the edges zeros; the size stays.
void SimulatedContent::zero(uint64_t offset, uint64_t length) {
  uint64_t end = std::min(offset + length, std::max(size_, offset));
  uint64_t first = (offset + kPageBytes - 1) / kPageBytes, last = end / kPageBytes;
  if (end == size_) last = (end + kPageBytes - 1) / kPageBytes;
  auto clear = [&](uint64_t from, uint64_t to) {
    auto page = pages_.find(from / kPageBytes);
    if (from >= to || page == pages_.end() || !page->second) return;
    keep_synced(page->first);
    uint64_t begin = page->first * kPageBytes;
    std::fill(page->second->begin() + long(from - begin), page->second->begin() + long(to - begin),
              uint8_t(0));
  };
  if (first > last) return clear(offset, end);
  clear(offset, std::min(first * kPageBytes, end));
  clear(std::max(last * kPageBytes, offset), end);
  drop_pages(first, last);
}

void SimulatedContent::resize(uint64_t size) {
  if (size < size_) {
    uint64_t old = size_;
    zero(size, old - size);
  }
  size_ = size;
}

void SimulatedContent::reserve(uint64_t offset, uint64_t length) {
  if (length == 0) return;
  for (uint64_t page = offset / kPageBytes; page <= (offset + length - 1) / kPageBytes; ++page) {
    if (pages_.count(page)) continue;
    keep_synced(page);
    pages_.emplace(page, nullptr);
  }
  size_ = std::max(size_, offset + length);
}

void SimulatedContent::power_loss(Random& random) {
  for (auto& [number, page] : synced_) {
    if (page) {
      pages_[number] = std::move(*page);
    } else {
      pages_.erase(number);
    }
  }
  synced_.clear();
  unsynced_bytes_ = 0;
  size_ = synced_size_;
  replaying_ = true;
  for (const Change& change : std::exchange(journal_, {})) replay(change, random);
  replaying_ = false;
  synced_size_ = size_;
}

void SimulatedContent::replay(const Change& change, Random& random) {
  if (change.kind == Change::Kind::write) return replay_write(change, random);
  if (random.below(2)) return;
  switch (change.kind) {
    case Change::Kind::truncate:
      return resize(change.offset);
    case Change::Kind::allocate:
      return reserve(change.offset, change.length);
    case Change::Kind::punch:
      return zero(change.offset, change.length);
    case Change::Kind::write:
      return;
  }
}

// Kept whole, lost, lost but for the size that it gave the file, or torn into sectors.
void SimulatedContent::replay_write(const Change& change, Random& random) {
  uint64_t fate = random.below(8);
  if (fate < 3) return put(change.offset, change.bytes);
  if (fate < 5) return;
  if (fate == 5) {
    size_ = std::max(size_, change.offset + change.length);
    return;
  }
  ByteView rest = change.bytes;
  for (uint64_t offset = change.offset; !rest.empty();) {
    size_t length = size_t(std::min<uint64_t>(rest.size(), kSectorBytes - offset % kSectorBytes));
    if (random.below(2)) put(offset, rest.first(length));
    offset += length;
    rest = rest.subspan(length);
  }
}

void SimulatedContent::flip_bit(uint64_t bit) {
  uint64_t byte = bit / 8, number = byte / kPageBytes;
  uint8_t mask = uint8_t(1u << bit % 8);
  auto flip = [&](PageRef& page) {
    if (!page) page = std::make_unique<Page>(Page{});
    (*page)[byte % kPageBytes] ^= mask;
  };
  if (byte < size_) flip(pages_[number]);
  auto synced = synced_.find(number);
  if (byte < synced_size_ && synced != synced_.end()) {
    if (!synced->second) synced->second.emplace();
    flip(*synced->second);
  }
}

}  // namespace efs
