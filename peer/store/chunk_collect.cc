// Giving space back, and checking everything. Both walk segments record by record; a record is live when
// the index (or what is fresh) refers to that very place.
#include <fmt/format.h>

#include <algorithm>

#include "peer/store/file_chunk_store.h"

namespace efs {
namespace {

constexpr uint64_t kSmallestHole = 64 << 10;  // smaller ones shatter the file and slow its syncs
constexpr uint64_t kRewritePercent = 30;      // live below this: rewritten
constexpr uint64_t kMuchOfSegment = 8;        // one part in so many, given back without moving bytes
constexpr size_t kMostProblems = 1000;        // that check() lists

struct Span {
  uint64_t start = 0, end = 0;
  bool is_hole = false;  // one already, and nothing else
};

// What of a dead span can be given back: whole blocks behind the header that stays.
Span inside(const Span& span) {
  uint64_t start = (span.start + kRecordHeader + kBlock - 1) / kBlock * kBlock;
  uint64_t end = span.end / kBlock * kBlock;
  return {start, std::max(start, end), span.is_hole};
}

}  // namespace

// ---- collecting ----

Result<bool> FileChunkStore::collect() {
  std::lock_guard only(checkpoint_mutex_);
  EFS_TRY(checkpoint_locked());
  look_at_all_space();
  seal_wasteful_segments();
  auto idle = [](const Segment& segment) {
    return segment.sealed && !segment.damaged && segment.in_flight.empty();
  };
  auto empty = [&](const Segment& segment) { return idle(segment) && segment.chunks() == 0; };
  auto sparse = [&](const Segment& segment) {
    uint64_t all = segment.end - kFirstRecord;
    return idle(segment) && (segment.live_bytes + segment.fresh_bytes) * 100 < all * kRewritePercent;
  };
  if (auto segment = pick(empty)) {  // its headers are looked at, no bytes are moved
    EFS_TRY(rewrite(segment));
    return true;
  }
  if (auto segment = pick(sparse)) {
    auto rewritten = rewrite(segment);
    if (rewritten) return false;
    if (rewritten.error().code != Code::no_space) return fail(rewritten.error());
  }
  auto holed = [&](const Segment& segment) {
    return idle(segment) && segment.dead_bytes() >= segment.walked_dead_bytes + kSmallestHole;
  };
  if (auto segment = pick(holed)) {
    EFS_ASSIGN(const uint64_t given_back, punch(segment));
    return given_back >= options_.segment_bytes / kMuchOfSegment;
  }
  return false;
}

SegmentPointer FileChunkStore::pick(const std::function<bool(const Segment&)>& wanted) const {
  std::lock_guard lock(mutex_);
  for (const auto& store : stores_) {
    for (const auto& [number, segment] : store->segments) {
      if (wanted(*segment)) return segment;
    }
  }
  return nullptr;
}

// What others freed on the disks, and what the last collections gave back: a full store looks no more by
// itself.
void FileChunkStore::look_at_all_space() {
  std::lock_guard order(order_mutex_);
  for (const auto& store : stores_) {
    if (!store->missing) look_at_space(*store);
  }
}

// A segment that is written to is left alone, so one with much waste must not be for ever: a quarter of what
// still fits into the store, or into a segment, is much.
void FileChunkStore::seal_wasteful_segments() {
  std::scoped_lock lock(order_mutex_, mutex_);
  for (const auto& store : stores_) {
    const uint64_t much = std::min(options_.segment_bytes, std::max(room_in(*store), 4 * kSmallestHole)) / 4;
    if (store->active == nullptr || store->active->dead_bytes() < much) continue;
    store->active->sealed = true;
    store->active = nullptr;
  }
}

Status FileChunkStore::rewrite(const SegmentPointer& segment) {
  EFS_ASSIGN(bool whole,
             walk(*segment, kFirstRecord, [&](uint64_t offset, const SegmentRecord& record) -> Status {
               if (record.kind != RecordKind::chunk) return {};
               return move_record(segment, offset, record);
             }));
  EFS_TRY(checkpoint_locked());
  bool is_empty = false;
  {
    std::lock_guard lock(mutex_);
    is_empty = segment->chunks() == 0;
  }
  if (is_empty) return remove_segment(segment);
  if (!whole)
    log_.error("segment {}: its chain of records is broken; its space is not given back", segment->path);
  segment->damaged = true;  // what could be moved was; the rest stays where it can be looked at
  return {};
}

Status FileChunkStore::move_record(const SegmentPointer& segment, uint64_t offset,
                                   const SegmentRecord& record) {
  auto is_here = [&] {
    auto found = locate(record.key);
    return found && *found && (*found)->segment == segment && (*found)->location.offset == offset;
  };
  if (!is_here()) return {};
  Bytes bytes;  // as they are stored, and moved so
  auto stored = segment->read_stored(offset, record, bytes);
  auto content = stored ? content_of(record, *stored, true) : fail(stored.error());
  if (!content) {
    if (content.error().code != Code::corrupt) return fail(content.error());
    log_.error("chunk {} of volume {} is damaged, in {} at {}", short_hex(record.key.chunk),
               record.key.volume, segment->path, offset);
    return {};
  }
  Location location;
  SegmentPointer target;
  std::unique_lock order(order_mutex_);
  EFS_TRY(write_record(record.key, record.sha256, *stored, Use::move, order, location, target));
  if (!order.owns_lock()) order.lock();
  bool still_here = is_here();  // not erased while it was written
  std::lock_guard lock(mutex_);
  target->in_flight.erase(location.offset);
  target->must_sync = ++target->writes;
  if (still_here) remember_fresh(record.key, location, *target, !fresh_.contains(record.key));
  return {};
}

// Nothing refers to it, durably. A crash on the way is finished at the next start (SegmentRow::removing).
Status FileChunkStore::remove_segment(const SegmentPointer& segment) {
  auto change_row = [&](bool removing) {
    std::lock_guard order(order_mutex_);
    auto transaction = index_.begin();
    if (removing) {
      write_number_rows(*transaction, {{segment}, {}}, true);
    } else {
      transaction->erase(kSegmentsTable, segment_row_key({segment->store, segment->number}));
    }
    commit(*transaction);
  };
  change_row(true);
  EFS_TRY(index_.checkpoint());
  std::string directory;
  {
    std::lock_guard lock(mutex_);
    for (const auto& store : stores_) {
      if (store->missing || store->number != segment->store) continue;
      store->segments.erase(segment->number);
      directory = store->segments_directory();
    }
  }
  EFS_TRY(files_.remove(segment->path));
  EFS_TRY(files_.sync_directory(directory));
  change_row(false);
  return {};
}

// How many bytes that gave back.
Result<uint64_t> FileChunkStore::punch(const SegmentPointer& segment) {
  std::vector<Span> spans;
  EFS_ASSIGN(bool whole,
             walk(*segment, kFirstRecord, [&](uint64_t offset, const SegmentRecord& record) -> Status {
               if (record.kind == RecordKind::chunk) {
                 EFS_ASSIGN(auto found, locate(record.key));
                 if (found && found->segment == segment && found->location.offset == offset) return {};
               }
               bool joins = !spans.empty() && spans.back().end == offset;
               if (joins) {
                 spans.back().end += record.footprint;
                 spans.back().is_hole = false;
               } else {
                 spans.push_back({offset, offset + record.footprint, record.kind == RecordKind::hole});
               }
               return {};
             }));
  if (!whole) {
    log_.error("segment {}: its chain of records is broken; its space is not given back", segment->path);
    segment->damaged = true;
    return 0;
  }
  std::erase_if(spans,
                [](const Span& span) { return inside(span).end - inside(span).start < kSmallestHole; });
  EFS_TRY(checkpoint_locked());  // from here on no crash brings a row back that refers to these spans
  uint64_t hole_bytes = 0;
  for (const Span& span : spans) {
    hole_bytes += inside(span).end - inside(span).start;
    if (span.is_hole) continue;
    SegmentRecord hole;
    hole.kind = RecordKind::hole;
    hole.footprint = span.end - span.start;
    EFS_TRY(segment->write_record_header(span.start, hole, {}, {}));
  }
  EFS_TRY(segment->file->sync());  // the chain is whole without what is punched
  for (const Span& span : spans) {
    Span hole = inside(span);
    EFS_TRY(segment->file->punch(hole.start, hole.end - hole.start));
  }
  uint64_t given_back = 0;
  std::lock_guard order(order_mutex_);
  {
    std::lock_guard lock(mutex_);
    given_back = hole_bytes - std::min(hole_bytes, segment->hole_bytes);
    segment->hole_bytes = hole_bytes;
    segment->walked_dead_bytes = segment->dead_bytes();
  }
  auto transaction = index_.begin();
  write_number_rows(*transaction, {{segment}, {}});
  commit(*transaction);
  return given_back;
}

// ---- checking ----

void FileChunkStore::check_segment(const SegmentPointer& segment, Records& good,
                                   std::vector<std::string>& problems) const {
  auto note = [&](uint64_t offset, const SegmentRecord& record) -> Status {
    good[record.key].push_back({segment->store, segment->number, offset, record.shape});
    return {};
  };
  uint64_t end = kFirstRecord;
  auto walked = walk(*segment, kFirstRecord, [&](uint64_t offset, const SegmentRecord& record) -> Status {
    end = offset + record.footprint;
    if (record.kind != RecordKind::chunk) return {};
    auto bytes = segment->read_whole(offset, record, true);
    if (bytes) return note(offset, record);
    if (bytes.error().code != Code::corrupt) return fail(bytes.error());
    return {};  // a damaged one counts when the index refers to it
  });
  if (walked &&
      !*walked) {  // a torn end is normal; behind a break before it chunks are found without the chain
    if (end < segment->indexed_end)
      log_.warning("segment {}: its chain of records breaks at {}", segment->path, end);
    if (auto rescued = rescue(*segment, end, note); !rescued) walked = fail(rescued.error());
  }
  if (!walked) problems.push_back(fmt::format("segment {}: {}", segment->path, to_text(walked.error())));
}

// False when the index itself cannot be read.
bool FileChunkStore::check_rows(Records& good, std::map<ChunkKey, Location>& kept,
                                std::vector<std::string>& problems) const {
  auto missing = [&](const Location& location) {
    return std::none_of(stores_.begin(), stores_.end(), [&](const auto& store) {
      return !store->missing && store->number == location.store;
    });
  };
  size_t unreachable = 0;
  auto rows = index_.read();
  auto scanned = rows->scan(kChunksTable, "", [&](std::string_view row, std::string_view value) {
    ChunkKey key = parse_chunk_row_key(row);
    auto location = parse_location(value);
    if (location && missing(*location)) {
      ++unreachable;
      kept[key] = *location;
      return true;
    }
    auto records = good.find(key);
    if (location && records != good.end() &&
        std::find(records->second.begin(), records->second.end(), *location) != records->second.end()) {
      kept[key] = *location;
      return true;
    }
    problems.push_back(
        fmt::format("chunk {} of volume {} is damaged or lost", to_hex(key.chunk), key.volume));
    if (records != good.end()) kept[key] = records->second.back();
    return true;
  });
  if (unreachable > 0)
    problems.push_back(fmt::format("{} chunks are in stores that are not there", unreachable));
  if (!scanned) problems.push_back("the chunk index: " + to_text(scanned.error()));
  return scanned.has_value();
}

std::vector<std::string> FileChunkStore::check(bool repair) {
  std::lock_guard only(checkpoint_mutex_);
  std::vector<std::string> problems;
  for (const auto& store : stores_) {
    if (store->missing) problems.push_back(fmt::format("chunk store {} is not there", store->directory));
  }
  if (auto moved = checkpoint_locked(); !moved)
    problems.push_back("the chunk index: " + to_text(moved.error()));
  Records good;
  std::map<SegmentName, uint64_t> live;
  for (const auto& store : stores_) {
    for (const auto& [number, segment] : store->segments) check_segment(segment, good, problems);
  }
  std::map<ChunkKey, Location> kept;
  bool rows_are_known = check_rows(good, kept, problems);
  for (const auto& [key, location] : kept)
    live[{location.store, location.segment}] += footprint_of(location.shape);
  for (const auto& store : stores_) {
    for (const auto& [number, segment] : store->segments) {
      if (segment->live_bytes == live[{segment->store, number}] || !problems.empty()) continue;
      problems.push_back(fmt::format("segment {}: {} bytes are in use, {} are accounted for", segment->path,
                                     live[{segment->store, number}], segment->live_bytes));
    }
  }
  std::map<uint32_t, VolumeStored> volumes;
  for (const auto& [key, location] : kept) count(volumes, key, location);
  std::unique_lock lock(mutex_);
  const bool adds_up = volumes == volumes_;
  lock.unlock();
  if (!adds_up && problems.empty())
    problems.push_back("the chunk index: what the volumes take is not what is accounted for");
  if (repair && !problems.empty()) {
    if (auto rebuilt = rebuild(good, kept, rows_are_known); !rebuilt)
      problems.push_back("the chunk index cannot be rebuilt: " + to_text(rebuilt.error()));
  }
  if (problems.size() > kMostProblems) {
    size_t more = problems.size() - kMostProblems;
    problems.resize(kMostProblems);
    problems.push_back(fmt::format("and {} more", more));
  }
  return problems;
}

Status FileChunkStore::rebuild(const Records& good, const std::map<ChunkKey, Location>& kept,
                               bool rows_are_known) {
  std::map<ChunkKey, Location> wanted = kept;
  if (!rows_are_known) {
    for (const auto& [key, records] : good) wanted.try_emplace(key, records.back());
  }
  std::lock_guard order(order_mutex_);
  std::vector<std::string> stale;
  {
    auto rows = index_.read();
    (void)rows->scan(kChunksTable, "",
                     [&](std::string_view row, std::string_view) {  // as far as it can be read
                       if (!wanted.contains(parse_chunk_row_key(row))) stale.emplace_back(row);
                       return true;
                     });
  }
  auto transaction = index_.begin();
  for (const std::string& row : stale) transaction->erase(kChunksTable, row);
  Touched all;
  for (const auto& store : stores_) {
    for (const auto& [number, segment] : store->segments) {
      segment->live_bytes = segment->live_chunks = 0;
      all.segments.insert(segment);
    }
  }
  {
    std::lock_guard lock(mutex_);
    for (auto& [volume, stored] : volumes_) {
      all.volumes.insert(volume);
      stored = {};
    }
  }
  for (const auto& [key, location] : wanted) {
    all.volumes.insert(key.volume);
    transaction->put(kChunksTable, chunk_row_key(key), encode(location));
    std::lock_guard lock(mutex_);
    count(volumes_, key, location);
    auto segment = segment_at(location);
    if (segment == nullptr) continue;
    segment->live_bytes += footprint_of(location.shape);
    ++segment->live_chunks;
  }
  write_number_rows(*transaction, all);
  commit(*transaction);
  return index_.checkpoint();
}

}  // namespace efs
