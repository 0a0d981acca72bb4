// The chunk store on files. See chunk_store.h for what it promises.
//
//   put         reserve a place and write the record's header (one at a time), write the bytes (in
//               parallel), remember the place as *fresh*
//   sync        flush the segments that puts by_sync wrote to
//   checkpoint  flush all segments, then move what was fresh at its beginning into the index, then make
//               the index durable: so the index never refers to bytes that a power loss can take
//   open        the index, and what stands in each segment behind what the index knows (fresh again)
//   erase       a row goes from the index; its bytes are dead. Space of dead bytes is given back only after
//               a checkpoint of the index without them.
//
// Locks, in this order: checkpoint_mutex_ (checkpoint, collect), order_mutex_ (what is where: may read the
// index and write a header), mutex_ (fields; nanoseconds). Reads take mutex_ alone, and none during I/O.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <unordered_map>
#include <unordered_set>

#include "peer/base/generations.h"
#include "peer/store/chunk_index.h"
#include "peer/store/segment.h"

namespace efs {

struct ChunkKeyHash {
  size_t operator()(const ChunkKey& key) const { return IdHash()(key.chunk) ^ key.volume; }
};

// What was read lately, roughly: who reads something once does not fill the system's cache with it, who reads
// it again does. Any thread.
class ReadBefore {
 public:
  // Whether it was noted before, and is still known.
  bool note(const ChunkKey& key, uint32_t offset) {
    const uint64_t mark = uint64_t(ChunkKeyHash()(key)) + offset + 1;
    return marks_[mark % marks_.size()].exchange(mark, std::memory_order_relaxed) == mark;
  }

 private:
  std::array<std::atomic<uint64_t>, 1 << 14> marks_{};
};

// The checksums of large chunks that were written or read lately: without them a small read would cost two of
// the disk. Of up to 1 KiB each. Any thread.
class ChunkTables {
 public:
  using Table = std::shared_ptr<const Bytes>;
  Table find(const ChunkKey& key) {
    std::lock_guard lock(mutex_);
    const Table* found = tables_.find(key);
    return found != nullptr ? *found : nullptr;
  }
  void put(const ChunkKey& key, Table table) {
    std::lock_guard lock(mutex_);
    tables_.at(key) = std::move(table);
    if (tables_.newer.size() < kAtMost / 2) return;
    tables_.older = std::move(tables_.newer);
    tables_.newer.clear();
  }
  void erase(const ChunkKey& key) {
    std::lock_guard lock(mutex_);
    tables_.erase(key);
  }

 private:
  static constexpr size_t kAtMost = 4096;
  std::mutex mutex_;
  Generations<ChunkKey, Table, ChunkKeyHash> tables_;
};

class FileChunkStore final : public ChunkStore {
 public:
  FileChunkStore(FileSystem& files, std::shared_ptr<MetaEnvironment> index, const ChunkOptions& options,
                 Logger& log)
      : files_(files), index_(std::move(index)), options_(options), log_(log) {}

  Status open(const std::vector<StoreLocation>& stores, bool create);

  Status put(const ChunkKey& key, const Id& sha256, const ChunkContent& bytes,
             Durability durability) override;
  bool contains(const ChunkKey& key) const override;
  Result<uint32_t> length(const ChunkKey& key) const override;
  Status read(const ChunkKey& key, uint32_t offset, std::span<uint8_t> out, bool cached) const override;
  Status sync() override;
  Status checkpoint_sync() override;
  void condemn(const ChunkKey& key) override;
  void reap(std::span<const ChunkKey> keys) override;
  Result<bool> collect() override;
  std::vector<ChunkKey> list(uint32_t volume, const std::optional<ChunkId>& after,
                             size_t limit) const override;
  std::vector<StoreUsage> usage() const override;
  VolumeStored stored(uint32_t volume) const override;
  uint64_t available_bytes() const override;
  Status add_store(const StoreLocation& location) override;
  Status remove_store(const std::string& directory) override;
  std::vector<std::string> check(bool repair) override;

 private:
  struct Store {
    uint16_t number = 0;
    uint32_t format = 0;  // of its marker
    std::string directory;
    uint64_t limit_bytes = 0;
    bool missing = false;
    bool retired = false;     // by remove_store(): as if it were not listed
    bool index_lost = false;  // the index knew nothing of it when it was opened
    std::map<uint64_t, SegmentPointer> segments;
    SegmentPointer active;
    uint64_t next_segment = 1;
    DiskSpace space;             // as of the last look
    uint64_t written_since = 0;  // that look
    std::string segments_directory() const { return directory + "/segments"; }
  };
  struct Fresh {
    Location location;
    bool replaces_row = false;  // the index has the chunk elsewhere: it is counted there
  };
  struct Marker;
  struct Found {
    Location location;
    SegmentPointer segment;  // none: its store is missing
  };

  // Opening.
  Status open_store(const StoreLocation& location, bool create);
  Result<std::optional<Marker>> read_marker(const std::string& directory) const;
  Result<Marker> make_marker(const StoreLocation& location);
  Status write_marker(const std::string& directory, const Marker& marker);
  // Before the first record that older programs cannot read.
  Status allow_packed(Store& store);
  Status open_volumes();
  Status open_segments(Store& store);
  Status open_segment(Store& store, uint64_t number, const SegmentRow* row);
  Status recover_store(Store& store);
  Status recover_tail(Segment& segment, bool index_lost);

  // Places.
  Result<std::optional<Found>> locate(const ChunkKey& key) const;
  Status read_at(const Found& found, const ChunkKey& key, uint32_t offset, std::span<uint8_t> out,
                 ReadBy by) const;
  SegmentPointer segment_at(const Location& location) const;  // under mutex_
  // A record that is moved gives back more than it takes, and what is stored again was taken once: for these
  // there is room while the disk has some.
  enum class Use { put, move };
  Result<SegmentPointer> writable_segment(const StoredShape& shape, Use use);
  Status create_segment(Store& store);
  uint64_t room_in(const Store& store, Use use = Use::put) const;
  void look_at_space(Store& store);
  Status fill_gap(Segment& segment, uint64_t gap);
  Status write_record(const ChunkKey& key, const Id& sha256, const RecordBytes& bytes, Use use,
                      std::unique_lock<std::mutex>& order, Location& location, SegmentPointer& segment);
  bool is_damaged(const ChunkKey& key) const;
  void remember_fresh(const ChunkKey& key, const Location& location, Segment& segment, bool replaces_row);
  void forget_fresh(const ChunkKey& key);

  // The index; order_mutex_ is held. Segments and volumes whose numbers changed are noted, and written at
  // the end.
  struct Touched {
    std::set<SegmentPointer> segments;
    std::set<uint32_t> volumes;
  };
  void index_put(WriteRows& rows, const ChunkKey& key, const Location& location, Touched& touched);
  bool index_erase(WriteRows& rows, const ChunkKey& key, Touched& touched);
  void write_number_rows(WriteRows& rows, const Touched& touched, bool removing = false);
  void commit(MetaStore::Transaction& transaction);
  static void count(std::map<uint32_t, VolumeStored>& volumes, const ChunkKey& key, const Location& location);

  Status flush(const SegmentPointer& segment, uint64_t target);
  Status checkpoint_locked();

  // Collecting; checkpoint_mutex_ is held.
  SegmentPointer pick(const std::function<bool(const Segment&)>& wanted) const;
  void look_at_all_space();
  void seal_wasteful_segments();
  Status rewrite(const SegmentPointer& segment);
  Status move_record(const SegmentPointer& segment, uint64_t offset, const SegmentRecord& record);
  Status remove_segment(const SegmentPointer& segment);
  Result<uint64_t> punch(const SegmentPointer& segment);
  // Every record of the chain in order; false when the chain breaks before the end.
  Result<bool> walk(const Segment& segment, uint64_t from,
                    const std::function<Status(uint64_t, const SegmentRecord&)>& visit) const;
  // Every whole chunk from there on, with its SHA-256 right, chained or not.
  Status rescue(const Segment& segment, uint64_t from,
                const std::function<Status(uint64_t, const SegmentRecord&)>& visit) const;

  // Checking.
  using Records = std::map<ChunkKey, std::vector<Location>>;
  void check_segment(const SegmentPointer& segment, Records& good, std::vector<std::string>& problems) const;
  bool check_rows(Records& good, std::map<ChunkKey, Location>& kept,
                  std::vector<std::string>& problems) const;
  Status rebuild(const Records& good, const std::map<ChunkKey, Location>& kept, bool rows_are_known);

  FileSystem& files_;
  MetaStore index_;
  const ChunkOptions options_;
  Logger& log_;

  std::mutex checkpoint_mutex_;
  mutable std::mutex order_mutex_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Store>> stores_;  // present ones and missing ones
  std::unordered_map<ChunkKey, Fresh, ChunkKeyHash> fresh_;
  std::unordered_set<ChunkKey, ChunkKeyHash> condemned_;
  mutable std::unordered_set<ChunkKey, ChunkKeyHash>
      damaged_;                               // as a read found: stored anew when they come again
  std::map<uint32_t, VolumeStored> volumes_;  // of the chunks in the index
  mutable ReadBefore read_before_;
  mutable ChunkTables tables_;
};

}  // namespace efs
