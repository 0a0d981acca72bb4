// Opening a chunk store: markers, segments, and what was put after the last checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "peer/store/directory.h"
#include "peer/store/file_chunk_store.h"

namespace efs {

// The file `marker` in a store's directory, as text:
//   efs chunk store, format 2
//   owner <hex> number <n> limit <bytes>
struct FileChunkStore::Marker {
  uint32_t format = 1;
  Id owner{};
  uint16_t number = 0;
  uint64_t limit_bytes = 0;
};

namespace {

constexpr std::string_view kMarkerName = "/marker";
constexpr std::string_view kMarkerStart = "efs chunk store, format ";
constexpr uint32_t kMarkerFormat = 2;  // 2: records may be packed
constexpr uint16_t kMaxStores = 64;

template <typename Int>
bool take_number(std::string_view& rest, std::string_view word, Int& value) {
  if (!rest.starts_with(word)) return false;
  rest.remove_prefix(word.size());
  auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc()) return false;
  rest.remove_prefix(size_t(end - rest.data()));
  return true;
}

}  // namespace

Result<std::optional<FileChunkStore::Marker>> FileChunkStore::read_marker(
    const std::string& directory) const {
  std::string path = directory + std::string(kMarkerName);
  if (!files_.exists(path)) return std::nullopt;
  EFS_ASSIGN(Bytes bytes, files_.read_file(path, 4096));
  std::string_view rest = text(bytes);
  Marker marker;
  if (take_number(rest, kMarkerStart, marker.format) && (marker.format == 0 || marker.format > kMarkerFormat))
    return fail(Code::version,
                fmt::format("the chunk store {} has format {}, this program knows {}: start it with the "
                            "version of efs-peer that wrote it, or a newer one",
                            directory, marker.format, kMarkerFormat));
  constexpr std::string_view kOwner = "\nowner ";
  std::optional<Id> owner;
  if (rest.starts_with(kOwner) && rest.size() > kOwner.size() + 64) {
    owner = id_from_hex(rest.substr(kOwner.size(), 64));
    rest.remove_prefix(kOwner.size() + 64);
  }
  bool whole = owner && take_number(rest, " number ", marker.number) &&
               take_number(rest, " limit ", marker.limit_bytes) && rest == "\n";
  if (!whole) return fail(Code::corrupt, fmt::format("{} is damaged", path));
  marker.owner = *owner;
  return marker;
}

Result<FileChunkStore::Marker> FileChunkStore::make_marker(const StoreLocation& location) {
  EFS_TRY(make_durable_directory(files_, location.directory));
  EFS_ASSIGN(DiskSpace space, files_.space(location.directory));
  auto rows = index_.read();
  EFS_ASSIGN(auto known, read_store_rows(*rows));
  Marker marker;
  marker.owner = options_.owner;
  marker.number = known.empty() ? 1 : uint16_t(known.rbegin()->first + 1);
  for (const auto& store : stores_)
    marker.number = std::max<uint16_t>(marker.number, uint16_t(store->number + 1));
  marker.limit_bytes = location.limit_bytes != 0 ? location.limit_bytes : space.free_bytes / 5 * 4;
  EFS_TRY(write_marker(location.directory, marker));
  return marker;
}

Status FileChunkStore::write_marker(const std::string& directory, const Marker& marker) {
  const std::string written = fmt::format("{}{}\nowner {} number {} limit {}\n", kMarkerStart, marker.format,
                                          to_hex(marker.owner), marker.number, marker.limit_bytes);
  return files_.replace_file(directory + std::string(kMarkerName), view(written));
}

// Not before it is needed: a store without packed records can still go back to the program that made it.
Status FileChunkStore::allow_packed(Store& store) {
  if (store.format >= kMarkerFormat) return {};
  EFS_ASSIGN(auto marker, read_marker(store.directory));
  if (!marker) return fail(Code::io, store.directory + " has lost its marker: is its disk mounted?");
  marker->format = kMarkerFormat;
  EFS_TRY(write_marker(store.directory, *marker));
  store.format = kMarkerFormat;
  return {};
}

Status FileChunkStore::open(const std::vector<StoreLocation>& stores, bool create) {
  EFS_TRY(open_volumes());
  for (const StoreLocation& location : stores) EFS_TRY(open_store(location, create));
  for (const auto& store : stores_) EFS_TRY(recover_store(*store));
  return {};
}

// What each volume takes stands in the index, but not in one that an older program wrote to: it counted
// chunks a segment only.
Status FileChunkStore::open_volumes() {
  auto rows = index_.read();
  EFS_ASSIGN(volumes_, read_volume_rows(*rows));
  EFS_ASSIGN(const auto segments, read_segment_rows(*rows));
  uint64_t by_volume = 0, by_segment = 0;
  for (const auto& [volume, stored] : volumes_) by_volume += stored.chunks;
  for (const auto& [name, row] : segments) by_segment += row.live_chunks;
  if (by_volume == by_segment) return {};
  log_.info("counting what the volumes take in the chunk stores");
  Touched all;
  for (const auto& [volume, stored] : volumes_) all.volumes.insert(volume);
  volumes_.clear();
  EFS_TRY(rows->scan(kChunksTable, "", [&](std::string_view row, std::string_view value) {
    if (const auto location = parse_location(value)) count(volumes_, parse_chunk_row_key(row), *location);
    return true;
  }));
  rows.reset();
  for (const auto& [volume, stored] : volumes_) all.volumes.insert(volume);
  for (uint32_t volume : all.volumes) volumes_.try_emplace(volume);
  auto transaction = index_.begin();
  write_number_rows(*transaction, all);
  commit(*transaction);
  return {};
}

Status FileChunkStore::add_store(const StoreLocation& location) {
  std::scoped_lock lock(checkpoint_mutex_, order_mutex_);
  for (const auto& store : stores_) {
    if (store->directory != location.directory || store->missing) continue;
    std::lock_guard fields(mutex_);
    if (!store->retired)
      return fail(Code::exists, location.directory + " is a chunk store of this peer already");
    store->retired = false;
    if (location.limit_bytes != 0) store->limit_bytes = location.limit_bytes;
    return {};
  }
  auto opened = open_store(location, true);
  if (opened) opened = recover_store(*stores_.back());
  if (!opened) {
    std::lock_guard fields(mutex_);
    stores_.pop_back();
    return opened;
  }
  if (stores_.back()->missing) {
    std::lock_guard fields(mutex_);
    stores_.pop_back();
    return fail(Code::conflict,
                location.directory + " has the marker of another chunk store, or has lost its own");
  }
  return {};
}

Status FileChunkStore::remove_store(const std::string& directory) {
  std::scoped_lock lock(checkpoint_mutex_, order_mutex_, mutex_);
  for (const auto& store : stores_) {
    if (store->directory != directory || store->retired) continue;
    uint64_t chunks = 0;
    for (const auto& [number, segment] : store->segments)
      chunks += segment->live_chunks + segment->fresh_chunks + segment->in_flight.size();
    if (chunks > 0)
      return fail(Code::busy, fmt::format("the chunk store {} holds {} chunks", directory, chunks));
    store->retired = true;
    return {};
  }
  return fail(Code::not_found, directory + " is no chunk store of this peer");
}

Status FileChunkStore::open_store(const StoreLocation& location, bool create) {
  if (stores_.size() >= kMaxStores) return fail(Code::invalid_argument, "more than 64 chunk stores");
  Store* store = nullptr;
  {
    std::lock_guard lock(mutex_);
    store = stores_.emplace_back(std::make_unique<Store>()).get();
    store->directory = location.directory;
    store->missing = true;  // until it is open
  }
  EFS_ASSIGN(auto marker, read_marker(location.directory));
  auto rows = index_.read();
  EFS_ASSIGN(auto known, read_store_rows(*rows));
  rows.reset();
  bool indexed = std::any_of(known.begin(), known.end(),
                             [&](const auto& one) { return one.second == location.directory; });
  // A marker that an earlier start wrote, and was killed before it synced its name, must not be in the index
  // before it is sure to be on the disk.
  if (marker && !indexed) EFS_TRY(files_.sync_directory(location.directory));
  if (!marker && create && !indexed) {
    EFS_ASSIGN(marker, make_marker(location));
  }
  std::string wrong;
  if (!marker) {
    wrong = "has no marker: is its disk mounted?";
  } else if (marker->owner != options_.owner) {
    wrong = "belongs to another peer, " + short_hex(marker->owner);
  } else if (std::any_of(stores_.begin(), stores_.end(), [&](const auto& other) {
               return !other->missing && other->number == marker->number;
             })) {
    wrong = "has the same marker as another one: was it copied?";
  }
  if (!wrong.empty()) {
    log_.error("chunk store {} {}; nothing is read from it or written to it", location.directory, wrong);
  } else {
    look_at_space(*store);
    {
      std::lock_guard lock(mutex_);
      store->number = marker->number;
      store->format = marker->format;
      store->limit_bytes = location.limit_bytes != 0 ? location.limit_bytes : marker->limit_bytes;
      store->missing = false;
      store->index_lost = !known.contains(store->number);
    }
    EFS_TRY(open_segments(*store));
    if (!known.contains(store->number) || known[store->number] != store->directory) {
      auto transaction = index_.begin();
      transaction->put(kStoresTable, store_row_key(store->number), store->directory);
      commit(*transaction);
    }
  }
  return {};
}

Status FileChunkStore::open_segments(Store& store) {
  EFS_TRY(make_durable_directory(files_, store.segments_directory()));
  EFS_TRY(files_.sync_directory(
      store.segments_directory()));  // a name that outlived a kill may be in the kernel alone
  auto rows = index_.read();
  EFS_ASSIGN(auto segment_rows, read_segment_rows(*rows));
  rows.reset();
  EFS_ASSIGN(auto names, files_.list(store.segments_directory()));
  std::set<uint64_t> there;
  for (const std::string& name : names) {
    uint64_t number = std::strtoull(name.c_str(), nullptr, 16);
    if (number == 0 || name != fmt::format("{:08x}.seg", number)) continue;
    there.insert(number);
    store.next_segment = std::max(store.next_segment, number + 1);
    auto row = segment_rows.find({store.number, number});
    EFS_TRY(open_segment(store, number, row == segment_rows.end() ? nullptr : &row->second));
  }
  for (const auto& [name, row] : segment_rows) {
    if (name.store != store.number) continue;
    store.next_segment = std::max(store.next_segment, name.number + 1);
    if (there.contains(name.number)) continue;
    if (row.live_chunks > 0) {
      log_.error("segment {:08x} of chunk store {} is lost, with {} chunks", name.number, store.directory,
                 row.live_chunks);
      continue;
    }
    auto transaction = index_.begin();
    transaction->erase(kSegmentsTable, segment_row_key(name));
    commit(*transaction);
  }
  return {};
}

Status FileChunkStore::open_segment(Store& store, uint64_t number, const SegmentRow* row) {
  auto segment = std::make_shared<Segment>();
  segment->store = store.number;
  segment->number = number;
  segment->path = fmt::format("{}/{:08x}.seg", store.segments_directory(), number);
  if (row != nullptr && row->removing) {
    EFS_TRY(files_.remove(segment->path));
    return files_.sync_directory(store.segments_directory());
  }
  EFS_ASSIGN(segment->file, files_.open(segment->path, OpenMode::read_write));
  EFS_ASSIGN(uint64_t size, segment->file->size());
  if (auto right = segment->check_file_header(); !right) {
    if (right.error().code != Code::corrupt) return right;
    if (row == nullptr && size <= kFirstRecord) return files_.remove(segment->path);  // it was being made
    log_.error("{}; its chunks are checked one by one when they are read", right.error().message);
    segment->damaged = true;
  }
  if (row != nullptr) {
    segment->indexed_end = segment->end = std::max(row->indexed_end, kFirstRecord);
    segment->live_bytes = row->live_bytes;
    segment->live_chunks = row->live_chunks;
    segment->hole_bytes = row->hole_bytes;
  } else if (size > kFirstRecord) {
    log_.info("segment {} is not in the index: reading all of it", segment->path);
  }
  {
    std::lock_guard lock(mutex_);
    store.segments[number] = segment;
  }
  return {};
}

// With all stores open: a chunk may be in the index in another one.
Status FileChunkStore::recover_store(Store& store) {
  for (const auto& [number, segment] : store.segments) {
    EFS_ASSIGN(uint64_t size, segment->file->size());
    uint64_t known = segment->end;
    EFS_TRY(recover_tail(*segment, store.index_lost));
    std::lock_guard lock(mutex_);
    // What outlived a kill may be in the kernel alone, and the put that brought it may have been by_sync.
    if (segment->end > known) segment->writes = segment->must_sync = 1;
    segment->sealed = true;
    if (number == store.segments.rbegin()->first && !segment->damaged && size == segment->end &&
        size < options_.segment_bytes) {
      segment->sealed = false;
      store.active = segment;
    }
  }
  return {};
}

Status FileChunkStore::recover_tail(Segment& segment, bool index_lost) {
  auto recover = [&](uint64_t offset, const SegmentRecord& record) -> Status {
    segment.end = offset + record.footprint;
    if (record.kind != RecordKind::chunk) {
      segment.hole_bytes += record.footprint;
      return {};
    }
    auto bytes = segment.read_whole(offset, record, false);
    if (!bytes) {
      if (bytes.error().code == Code::corrupt) return {};  // its bytes were not written whole: dead space
      return fail(bytes.error());
    }
    Location location{segment.store, segment.number, offset, record.shape};
    auto rows = index_.read();
    auto row = rows->get(kChunksTable, chunk_row_key(record.key));
    if (row && *row && **row == encode(location)) return {};
    std::lock_guard lock(mutex_);
    auto points_to_segment = [&](std::string_view value) {
      auto old = parse_location(value);
      return old && segment_at(*old) != nullptr;
    };
    remember_fresh(record.key, location, segment, row && *row && points_to_segment(**row));
    return {};
  };
  EFS_ASSIGN(uint64_t size, segment.file->size());
  uint64_t from = segment.end;
  EFS_TRY(walk(segment, from,
               [&](uint64_t offset, const SegmentRecord& record) { return recover(offset, record); }));
  if (!index_lost || segment.end >= size) return {};
  // The index knows nothing of this store and the chain breaks: a sector was damaged, or power was lost.
  // Whatever whole chunk stands behind the break is kept: at worst it was erased before.
  return rescue(segment, segment.end, [&](uint64_t offset, const SegmentRecord& record) -> Status {
    {
      std::lock_guard lock(mutex_);
      if (fresh_.contains(record.key)) return {};
    }
    segment.damaged = true;  // its dead space is not known: it stays
    return recover(offset, record);
  });
}

Status FileChunkStore::rescue(const Segment& segment, uint64_t from,
                              const std::function<Status(uint64_t, const SegmentRecord&)>& visit) const {
  EFS_ASSIGN(uint64_t size, segment.file->size());
  for (uint64_t offset = from; offset + kRecordHeader <= size; offset += kRecordAlign) {
    EFS_ASSIGN(auto record, segment.read_record(offset));
    if (record && record->kind == RecordKind::chunk && segment.read_whole(offset, *record, true))
      EFS_TRY(visit(offset, *record));
  }
  return {};
}

Result<bool> FileChunkStore::walk(const Segment& segment, uint64_t from,
                                  const std::function<Status(uint64_t, const SegmentRecord&)>& visit) const {
  EFS_ASSIGN(uint64_t size, segment.file->size());
  uint64_t offset = from;
  while (offset + kRecordHeader <= size) {
    EFS_ASSIGN(auto record, segment.read_record(offset));
    if (!record) return false;
    EFS_TRY(visit(offset, *record));
    offset += record->footprint;
  }
  return true;
}

Result<std::unique_ptr<ChunkStore>> ChunkStore::open(FileSystem& files,
                                                     std::shared_ptr<MetaEnvironment> index,
                                                     const std::vector<StoreLocation>& stores, bool create,
                                                     Logger& log, const ChunkOptions& options) {
  auto opened = std::make_unique<FileChunkStore>(files, std::move(index), options, log);
  EFS_TRY(opened->open(stores, create));
  return opened;
}

}  // namespace efs
