#include "peer/store/chunk_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "peer/store/file_chunk_store.h"

namespace efs {
namespace {

constexpr uint64_t kWriteAtOnce = 16 << 10;        // header and bytes in one call
constexpr uint64_t kBytesBetweenLooks = 16 << 20;  // at the free space of a disk
// What of a disk stays free: one in so many bytes, and for the metadata that most often lies on the same
// disk, so that it does not become full with it, at least so much, of a small disk a quarter.
constexpr uint64_t kReservedPart = 20;
constexpr uint64_t kReservedLeast = 128 << 20;
constexpr uint64_t kReservedMost = 4;
constexpr uint64_t kDirectlyAtLeast = 256 << 10;  // below, the system's own reading ahead is worth more
constexpr size_t kMostDamaged = 1 << 16;          // chunks that are remembered as such
constexpr int kReadAttempts = 4;                  // a chunk moves while it is read, seldom twice

}  // namespace

// ---- where chunks are ----

SegmentPointer FileChunkStore::segment_at(const Location& location) const {
  for (const auto& store : stores_) {
    if (store->missing || store->number != location.store) continue;
    auto at = store->segments.find(location.segment);
    if (at != store->segments.end()) return at->second;
  }
  return nullptr;
}

Result<std::optional<FileChunkStore::Found>> FileChunkStore::locate(const ChunkKey& key) const {
  {
    std::lock_guard lock(mutex_);
    auto at = fresh_.find(key);
    if (at != fresh_.end()) return Found{at->second.location, segment_at(at->second.location)};
  }
  auto rows = index_.read();
  EFS_ASSIGN(auto row, rows->get(kChunksTable, chunk_row_key(key)));
  if (!row) return std::nullopt;
  EFS_ASSIGN(Location location, parse_location(*row));
  std::lock_guard lock(mutex_);
  return Found{location, segment_at(location)};
}

bool FileChunkStore::contains(const ChunkKey& key) const {
  auto found = locate(key);
  return found && *found && (*found)->segment != nullptr;
}

Result<uint32_t> FileChunkStore::length(const ChunkKey& key) const {
  EFS_ASSIGN(auto found, locate(key));
  if (!found) return fail(Code::not_found);
  return found->location.shape.length;
}

// What is read directly from a chunk's beginning brings its table along. Small chunks' tables are not kept.
Status FileChunkStore::read_at(const Found& found, const ChunkKey& key, uint32_t offset,
                               std::span<uint8_t> out, ReadBy by) const {
  const Location& location = found.location;
  const bool aligned = is_aligned(location.shape);
  if (by == ReadBy::disk && !aligned) by = ReadBy::cache_or_disk;
  ChunkTables::Table table = aligned ? tables_.find(key) : nullptr;
  if (table && table->size() != table_bytes(location.shape)) table = nullptr;
  if (aligned && !table && !(by == ReadBy::disk && offset == 0)) {
    EFS_ASSIGN(Bytes read, found.segment->read_table(location.offset, location.shape, by));
    table = std::make_shared<const Bytes>(std::move(read));
    tables_.put(key, table);
  }
  const auto status = found.segment->read_chunk(key, location.offset, location.shape,
                                                table ? ByteView(*table) : ByteView(), offset, out, by);
  if (!status && status.error().code == Code::corrupt)
    tables_.erase(key);  // it may be the table that is wrong
  return status;
}

Status FileChunkStore::read(const ChunkKey& key, uint32_t offset, std::span<uint8_t> out, bool cached) const {
  std::optional<Location> tried;
  ReadBy by = cached ? ReadBy::cache : ReadBy::cache_or_disk;
  if (!cached && out.size() >= kDirectlyAtLeast && !read_before_.note(key, offset)) by = ReadBy::disk;
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    EFS_ASSIGN(auto found, locate(key));
    if (!found) return fail(Code::not_found);
    const Location& location = found->location;
    if (offset > location.shape.length || out.size() > location.shape.length - offset)
      return fail(Code::invalid_argument);
    if (found->segment == nullptr) {
      if (tried == location)
        return fail(
            Code::io,
            fmt::format("chunk {} is in store {}, segment {}, which is not there: is its disk mounted?",
                        short_hex(key.chunk), location.store, location.segment));
      tried = location;
      continue;
    }
    auto status = read_at(*found, key, offset, out, by);
    if (status || status.error().code != Code::corrupt) return status;
    if (tried == location) {
      std::lock_guard lock(mutex_);
      if (damaged_.size() < kMostDamaged) damaged_.insert(key);
      return fail(Code::corrupt, fmt::format("chunk {} is damaged, in {} at {}", short_hex(key.chunk),
                                             found->segment->path, location.offset));
    }
    tried = location;  // it may have been moved, or erased and its space given back: look again
  }
  return fail(Code::corrupt);
}

std::vector<ChunkKey> FileChunkStore::list(uint32_t volume, const std::optional<ChunkId>& after,
                                           size_t limit) const {
  std::set<ChunkKey> keys;
  auto wanted = [&](const ChunkKey& key) { return key.volume == volume && (!after || key.chunk > *after); };
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, fresh] : fresh_) {
      if (wanted(key)) keys.insert(key);
    }
  }
  size_t rows_seen = 0;
  auto rows = index_.read();
  auto scanned = rows->scan(kChunksTable, chunk_row_key({volume, after.value_or(ChunkId{})}),
                            [&](std::string_view row, std::string_view) {
                              ChunkKey key = parse_chunk_row_key(row);
                              if (key.volume != volume) return false;
                              if (!wanted(key)) return true;
                              keys.insert(key);
                              return ++rows_seen < limit;
                            });
  if (!scanned) log_.error("the chunk index cannot be listed: {}", to_text(scanned.error()));
  std::vector<ChunkKey> listed(keys.begin(), keys.end());
  if (listed.size() > limit) listed.resize(limit);
  return listed;
}

// ---- space ----

uint64_t FileChunkStore::room_in(const Store& store, Use use) const {
  if (store.missing) return 0;
  if (use == Use::move)
    return store.space.free_bytes > store.written_since ? store.space.free_bytes - store.written_since : 0;
  uint64_t used = 0;
  for (const auto& [number, segment] : store.segments) used += segment->end - segment->hole_bytes;
  const uint64_t total = store.space.total_bytes;
  const uint64_t reserved =
      std::max(total / kReservedPart, std::min(total / kReservedMost, kReservedLeast)) + store.written_since;
  uint64_t free = store.space.free_bytes > reserved ? store.space.free_bytes - reserved : 0;
  return std::min(free, store.limit_bytes > used ? store.limit_bytes - used : 0);
}

void FileChunkStore::look_at_space(Store& store) {
  auto space = files_.space(store.directory);
  std::lock_guard lock(mutex_);
  if (space) store.space = *space;
  store.written_since = 0;
}

uint64_t FileChunkStore::available_bytes() const {
  std::lock_guard lock(mutex_);
  uint64_t room = 0;
  for (const auto& store : stores_) {
    if (!store->retired) room += room_in(*store);
  }
  return room;
}

std::vector<StoreUsage> FileChunkStore::usage() const {
  std::lock_guard lock(mutex_);
  std::vector<StoreUsage> all;
  for (const auto& store : stores_) {
    if (store->retired) continue;
    StoreUsage usage{store->directory, store->limit_bytes, 0, 0, store->missing};
    for (const auto& [number, segment] : store->segments) {
      usage.used_bytes += segment->end - segment->hole_bytes;
      usage.chunks += segment->live_chunks + segment->fresh_chunks;
    }
    usage.capacity_bytes = std::min(store->limit_bytes, usage.used_bytes + room_in(*store));
    all.push_back(usage);
  }
  return all;
}

VolumeStored FileChunkStore::stored(uint32_t volume) const {
  std::lock_guard lock(mutex_);
  auto found = volumes_.find(volume);
  VolumeStored sum = found == volumes_.end() ? VolumeStored{} : found->second;
  for (const auto& [key, fresh] : fresh_) {
    if (key.volume != volume || fresh.replaces_row) continue;
    ++sum.chunks;
    sum.content_bytes += fresh.location.shape.length;
    sum.stored_bytes += footprint_of(fresh.location.shape);
  }
  return sum;
}

// The segment that takes the next record, in the store with the most room. order_mutex_ is held.
Result<SegmentPointer> FileChunkStore::writable_segment(const StoredShape& shape, Use use) {
  const uint64_t footprint = footprint_of(shape);
  Store* best = nullptr;
  uint64_t best_room = 0;
  for (const auto& store : stores_) {
    if (store->missing || store->retired) continue;
    if (store->written_since >= kBytesBetweenLooks) look_at_space(*store);
    std::unique_lock lock(mutex_);
    uint64_t room = room_in(*store, use);
    if (room < footprint + kFirstRecord && store->written_since > 0) {
      lock.unlock();
      look_at_space(*store);
      lock.lock();
      room = room_in(*store, use);
    }
    if (room >= footprint + kFirstRecord && room > best_room) {
      best = store.get();
      best_room = room;
    }
  }
  if (best == nullptr) return fail(Code::no_space, "no chunk store has room left");
  if (shape.form != Compression::none) EFS_TRY(allow_packed(*best));
  if (best->active != nullptr && best->active->end + footprint > options_.segment_bytes) {
    std::lock_guard lock(mutex_);
    best->active->sealed = true;
    best->active = nullptr;
  }
  if (best->active == nullptr) EFS_TRY(create_segment(*best));
  std::lock_guard lock(mutex_);
  best->written_since += footprint;
  return best->active;
}

Status FileChunkStore::create_segment(Store& store) {
  auto segment = std::make_shared<Segment>();
  segment->store = store.number;
  segment->number = store.next_segment++;
  segment->path = fmt::format("{}/{:08x}.seg", store.segments_directory(), segment->number);
  EFS_ASSIGN(segment->file, files_.open(segment->path, OpenMode::create_new));
  auto made = segment->write_file_header();
  if (made) made = files_.sync_directory(store.segments_directory());
  if (!made) {
    (void)files_.remove(segment->path);
    return made;
  }
  std::lock_guard lock(mutex_);
  store.segments[segment->number] = segment;
  store.active = segment;
  return {};
}

// ---- putting ----

void FileChunkStore::remember_fresh(const ChunkKey& key, const Location& location, Segment& segment,
                                    bool replaces_row) {
  auto at = fresh_.find(key);
  if (at != fresh_.end()) replaces_row = replaces_row || at->second.replaces_row;
  forget_fresh(key);
  fresh_[key] = {location, replaces_row};
  segment.fresh_bytes += footprint_of(location.shape);
  if (!replaces_row) ++segment.fresh_chunks;
}

void FileChunkStore::forget_fresh(const ChunkKey& key) {
  auto at = fresh_.find(key);
  if (at == fresh_.end()) return;
  const auto& [location, replaces_row] = at->second;
  if (auto segment = segment_at(location)) {
    segment->fresh_bytes -= footprint_of(location.shape);
    if (!replaces_row) --segment->fresh_chunks;
  }
  fresh_.erase(at);
}

// A hole that nothing was in: the next record starts at a block. order_mutex_ is held.
Status FileChunkStore::fill_gap(Segment& segment, uint64_t gap) {
  if (gap == 0) return {};
  SegmentRecord hole;
  hole.kind = RecordKind::hole;
  hole.footprint = gap;
  EFS_TRY(segment.write_record_header(segment.end, hole, {}, {}));
  std::lock_guard lock(mutex_);
  segment.end += gap;
  segment.hole_bytes += gap;
  return {};
}

// Reserves under `order`, writes the bytes without it (it is released on return).
Status FileChunkStore::write_record(const ChunkKey& key, const Id& sha256, const RecordBytes& bytes, Use use,
                                    std::unique_lock<std::mutex>& order, Location& location,
                                    SegmentPointer& segment) {
  SegmentRecord record;
  record.key = key;
  record.sha256 = sha256;
  record.shape = bytes.shape;
  record.footprint = footprint_of(record.shape);
  record.table_sum = crc32c(bytes.table);
  EFS_ASSIGN(segment, writable_segment(record.shape, use));
  EFS_TRY(fill_gap(*segment, gap_before(record.shape, segment->end)));
  uint64_t offset = segment->end;
  bool at_once = bytes.bytes.size() <= kWriteAtOnce;
  EFS_TRY(segment->write_record_header(offset, record, bytes.table, at_once ? bytes.bytes : ByteView()));
  {
    std::lock_guard lock(mutex_);
    segment->end += record.footprint;
    segment->in_flight.insert(offset);
  }
  order.unlock();
  location = {segment->store, segment->number, offset, record.shape};
  if (at_once) return {};
  auto written = segment->write_record_bytes(offset, record.shape, bytes.bytes);
  if (!written) {  // the place is dead, the chain of headers whole
    std::lock_guard lock(mutex_);
    segment->in_flight.erase(offset);
  }
  return written;
}

bool FileChunkStore::is_damaged(const ChunkKey& key) const {
  std::lock_guard lock(mutex_);
  return damaged_.contains(key);
}

Status FileChunkStore::put(const ChunkKey& key, const Id& sha256, const ChunkContent& bytes,
                           Durability durability) {
  if (bytes.content.empty() || bytes.content.size() > kMaxChunkBytes)
    return fail(Code::invalid_argument, "a chunk has 1 byte to 1 MiB");
  std::unique_lock order(order_mutex_);
  auto found = locate(key);
  const bool there = found && *found && (*found)->segment != nullptr;
  if (there && !is_damaged(key)) {
    std::lock_guard lock(mutex_);
    condemned_.erase(key);
    Segment& segment = *(*found)->segment;
    if (durability == Durability::by_sync) segment.must_sync = segment.writes;
    return {};
  }
  Location location;
  SegmentPointer segment;
  RecordBytes record = record_bytes(key, bytes);
  const Use use = durability == Durability::again ? Use::move : Use::put;
  EFS_TRY(write_record(key, sha256, record, use, order, location, segment));
  if (is_aligned(record.shape)) tables_.put(key, std::make_shared<const Bytes>(std::move(record.table)));
  std::lock_guard lock(mutex_);
  segment->in_flight.erase(location.offset);
  ++segment->writes;
  if (durability == Durability::by_sync) segment->must_sync = segment->writes;
  condemned_.erase(key);
  damaged_.erase(key);
  remember_fresh(key, location, *segment, there && !fresh_.contains(key));
  return {};
}

// ---- syncing ----

Status FileChunkStore::flush(const SegmentPointer& segment, uint64_t target) {
  std::lock_guard only(segment->sync_mutex);
  uint64_t goal = 0;
  {
    std::lock_guard lock(mutex_);
    if (segment->sync_failed)
      return fail(
          Code::io,
          fmt::format("segment {} could not be synced; restart efs-peer, it checks what is on the disk",
                      segment->path));
    if (segment->synced >= target) return {};
    goal = segment->writes;
  }
  auto flushed = segment->file->sync();
  std::lock_guard lock(mutex_);
  if (flushed) {
    segment->synced = goal;
  } else {
    segment->sync_failed = true;
  }
  return flushed;
}

Status FileChunkStore::sync() {
  std::vector<std::pair<SegmentPointer, uint64_t>> dirty;
  {
    std::lock_guard lock(mutex_);
    for (const auto& store : stores_) {
      for (const auto& [number, segment] : store->segments) {
        if (segment->must_sync > segment->synced) dirty.emplace_back(segment, segment->must_sync);
      }
    }
  }
  for (const auto& [segment, target] : dirty) EFS_TRY(flush(segment, target));
  return {};
}

Status FileChunkStore::checkpoint_sync() {
  std::lock_guard lock(checkpoint_mutex_);
  return checkpoint_locked();
}

Status FileChunkStore::checkpoint_locked() {
  struct Dirty {
    SegmentPointer segment;
    uint64_t writes, known_end;
  };
  std::vector<Dirty> dirty;
  std::vector<std::pair<ChunkKey, Location>> moving;
  {
    std::scoped_lock lock(order_mutex_, mutex_);
    for (const auto& [key, fresh] : fresh_) moving.emplace_back(key, fresh.location);
    for (const auto& store : stores_) {
      for (const auto& [number, segment] : store->segments) {
        uint64_t known = segment->in_flight.empty() ? segment->end : *segment->in_flight.begin();
        if (segment->writes > segment->synced || known > segment->indexed_end)
          dirty.push_back({segment, segment->writes, known});
      }
    }
  }
  for (const Dirty& one : dirty) EFS_TRY(flush(one.segment, one.writes));

  if (!moving.empty() || !dirty.empty()) {
    std::lock_guard order(order_mutex_);
    auto transaction = index_.begin();
    Touched touched;
    std::sort(moving.begin(), moving.end());
    std::erase_if(moving, [&](const auto& one) {  // erased or written anew meanwhile
      std::lock_guard lock(mutex_);
      auto at = fresh_.find(one.first);
      return at == fresh_.end() || at->second.location != one.second;
    });
    for (const auto& [key, location] : moving) index_put(*transaction, key, location, touched);
    for (const Dirty& one : dirty) {
      one.segment->indexed_end = std::max(one.segment->indexed_end, one.known_end);
      touched.segments.insert(one.segment);
    }
    write_number_rows(*transaction, touched);
    commit(*transaction);
    std::lock_guard lock(mutex_);
    for (const auto& [key, location] : moving) forget_fresh(key);
  }
  return index_.checkpoint();
}

// ---- the index ----

void FileChunkStore::count(std::map<uint32_t, VolumeStored>& volumes, const ChunkKey& key,
                           const Location& location) {
  VolumeStored& volume = volumes[key.volume];
  ++volume.chunks;
  volume.content_bytes += location.shape.length;
  volume.stored_bytes += footprint_of(location.shape);
}

void FileChunkStore::index_put(WriteRows& rows, const ChunkKey& key, const Location& location,
                               Touched& touched) {
  index_erase(rows, key, touched);
  rows.put(kChunksTable, chunk_row_key(key), encode(location));
  std::lock_guard lock(mutex_);
  count(volumes_, key, location);
  touched.volumes.insert(key.volume);
  if (auto segment = segment_at(location)) {
    segment->live_bytes += footprint_of(location.shape);
    ++segment->live_chunks;
    touched.segments.insert(segment);
  }
}

bool FileChunkStore::index_erase(WriteRows& rows, const ChunkKey& key, Touched& touched) {
  auto row = rows.get(kChunksTable, chunk_row_key(key));
  if (row && !*row) return false;
  if (row) {
    if (auto location = parse_location(**row)) {
      std::lock_guard lock(mutex_);
      VolumeStored& volume = volumes_[key.volume];
      --volume.chunks;
      volume.content_bytes -= location->shape.length;
      volume.stored_bytes -= footprint_of(location->shape);
      touched.volumes.insert(key.volume);
      if (auto segment = segment_at(*location)) {
        segment->live_bytes -= footprint_of(location->shape);
        --segment->live_chunks;
        touched.segments.insert(segment);
      }
    }
  }
  rows.erase(kChunksTable, chunk_row_key(key));
  return true;
}

void FileChunkStore::write_number_rows(WriteRows& rows, const Touched& touched, bool removing) {
  for (const auto& segment : touched.segments) {
    SegmentRow row{segment->indexed_end, segment->live_bytes, segment->live_chunks, segment->hole_bytes,
                   removing};
    rows.put(kSegmentsTable, segment_row_key({segment->store, segment->number}), encode(row));
  }
  for (uint32_t volume : touched.volumes) {
    std::lock_guard lock(mutex_);
    auto found = volumes_.find(volume);
    if (found->second.chunks > 0) {
      rows.put(kVolumesTable, volume_row_key(volume), encode(found->second));
    } else {
      rows.erase(kVolumesTable, volume_row_key(volume));
      volumes_.erase(found);
    }
  }
}

void FileChunkStore::commit(MetaStore::Transaction& transaction) {
  transaction.commit(index_.applied_index() + 1);
}

// ---- erasing ----

void FileChunkStore::condemn(const ChunkKey& key) {
  std::lock_guard order(order_mutex_);
  auto found = locate(key);
  if (found && !*found) return;
  std::lock_guard lock(mutex_);
  condemned_.insert(key);
}

void FileChunkStore::reap(std::span<const ChunkKey> keys) {
  std::lock_guard order(order_mutex_);
  auto transaction = index_.begin();
  Touched touched;
  bool changed = false;
  for (const ChunkKey& key : keys) {
    {
      std::lock_guard lock(mutex_);
      if (condemned_.erase(key) == 0) continue;
      forget_fresh(key);
    }
    changed = index_erase(*transaction, key, touched) || changed;
  }
  if (!changed) return;
  write_number_rows(*transaction, touched);
  commit(*transaction);
}

}  // namespace efs
