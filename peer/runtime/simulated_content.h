// The bytes of a simulated file: what is read now, and what a power loss would leave of it. One thread.
//
// `now` is what the process sees. Since the last sync() each change stands in a journal, and each page that
// was touched is kept as it was synced. A power loss goes back to what was synced, then replays of the
// journal what the seed keeps: each write whole, not at all, or torn into sectors. Inside efs_simulated only.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "peer/base/bytes.h"
#include "peer/runtime/clock.h"

namespace efs {

class SimulatedContent {
 public:
  static constexpr uint64_t kPageBytes = 4096;
  static constexpr uint64_t kSectorBytes = 512;

  size_t read(uint64_t offset, std::span<uint8_t> out) const;
  void write(uint64_t offset, ByteView bytes);
  void truncate(uint64_t size);
  void allocate(uint64_t offset, uint64_t length);
  void punch(uint64_t offset, uint64_t length);
  void sync();
  void power_loss(Random& random);
  // On the medium: what is synced and what is not alike. Beyond the end: nothing.
  void flip_bit(uint64_t bit);

  uint64_t size() const { return size_; }
  uint64_t unsynced_bytes() const { return unsynced_bytes_; }
  uint64_t pages() const { return pages_.size(); }
  // Pages that a write or allocation there would add.
  uint64_t missing_pages(uint64_t offset, uint64_t length) const;

 private:
  using Page = std::array<uint8_t, kPageBytes>;
  using PageRef = std::unique_ptr<Page>;  // nullptr: allocated, all zero
  struct Change {
    enum class Kind { write, truncate, allocate, punch } kind;
    uint64_t offset, length;
    Bytes bytes;
  };

  void note(Change::Kind kind, uint64_t offset, uint64_t length, ByteView bytes);
  void put(uint64_t offset, ByteView bytes);
  void zero(uint64_t offset, uint64_t length);
  void resize(uint64_t size);
  void reserve(uint64_t offset, uint64_t length);
  void drop_pages(uint64_t first, uint64_t last);
  void keep_synced(uint64_t page);
  void replay(const Change& change, Random& random);
  void replay_write(const Change& change, Random& random);

  uint64_t size_ = 0;
  uint64_t synced_size_ = 0;
  std::map<uint64_t, PageRef> pages_;
  // As synced, of each page touched since: nothing where there was none.
  std::map<uint64_t, std::optional<PageRef>> synced_;
  std::vector<Change> journal_;
  uint64_t unsynced_bytes_ = 0;  // what the journal takes, about
  bool replaying_ = false;       // nothing is kept: the outcome is what is synced
};

}  // namespace efs
