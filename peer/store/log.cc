// The files of a log have slots (names) that stay and sequences (in their headers) that rise with every
// use. At any time: live files, the last of them being appended to; spares, whose records are released; at
// most one prepared file, which has its next sequence on the disk already.
//
//   append    one write behind the last record; a file that is full gets an `end` record, and the prepared
//             file is next
//   sync      one thread flushes for all that wait; every later record carries how far that went (Mark)
//   release   files with nothing that is still needed become spares
//   open      replay, file by file in the order of their sequences, to the first place without a whole
//             record. Whatever stands behind that place is undone (marked as empty, durably), only then the
//             place is closed with an `end`, and a fresh file is begun: so nothing that this replay passed
//             over can come back in a later one. When a Mark lies beyond the place, the disk has lost what
//             it had promised: Code::corrupt, and nothing is touched.
//
// After a failed flush nobody knows what is on the disk: the log then refuses everything until it is opened
// again.
#include "peer/store/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "peer/store/directory.h"
#include "peer/store/log_format.h"

namespace efs {
namespace {

using log_format::FileHeader;
using log_format::Kind;
using log_format::Mark;
using log_format::RecordHeader;

constexpr uint64_t kEndBytes = log_format::kHeaderBytes;  // set aside in each file for its `end`
constexpr size_t kRecordsAWrite = 128;
constexpr size_t kZeroBytes = 1 << 20;
constexpr uint64_t kPage = 4096;
constexpr uint64_t kSmallerPart = 16;                    // of a file, where there is no room for a whole one
constexpr uint64_t kSmallestFile = 256 << 10;            // and no smaller
constexpr uint64_t kSequenceStride = uint64_t(1) << 32;  // 2^33 files, no worse to guess than the checksum

struct LogFile {
  std::string path;
  std::unique_ptr<File> file;
  uint64_t use = 0;
  uint64_t sequence = 0;  // 0: holds nothing
  uint64_t size = 0;
  std::map<uint32_t, uint64_t> last_index;  // of each group, in this file
  // Files with records that records in this one superseded: they must lose theirs first, or they would be
  // replayed as if they counted.
  std::vector<uint64_t> supersedes;
  // The other way round: up to where the log must be on the disk before what was superseded here may go.
  uint64_t superseded_at = 0;
};
using LogFilePointer = std::shared_ptr<LogFile>;

class FileLog final : public Log {
 public:
  FileLog(FileSystem& files, const std::string& directory, const LogOptions& options)
      : files_(files), directory_(directory), options_(options) {}
  ~FileLog() override;

  Status open(const std::function<Status(const Record&)>& replay);

  Status append(const Record& record) override { return append(std::span(&record, 1)); }
  Status append(std::span<const Record> records) override;
  Status sync() override;
  bool dirty() const override { return appended_ != sync_begun_; }
  void release(uint32_t group, uint64_t index) override;
  Status close_cleanly() override;
  bool unclean_start() const override { return unclean_start_; }
  uint64_t bytes_on_disk() const override;

 private:
  // Opening.
  Status find_files();
  Status load(const LogFilePointer& file, FileHeader& header);
  Status replay_all(const std::function<Status(const Record&)>& replay);
  Status replay_file(LogFile& file, ByteView bytes, const std::function<Status(const Record&)>& replay);
  void note_marks_beyond(ByteView bytes, uint64_t offset, uint64_t sequence);
  Status undo_what_follows();

  // Files. Only prepare() and grow() write, and neither to a file that is live.
  uint64_t next_size() const;
  Result<LogFilePointer> create_file(uint64_t size);
  Status grow(LogFile& file, uint64_t size);
  Status prepare(LogFile& file, const FileHeader& header);
  void prepare_ahead();
  Result<LogFilePointer> take_next(std::unique_lock<std::mutex>& lock);
  LogFilePointer take_spare();
  void free_files();
  void trim_spares();

  // Appending, under the lock.
  Status roll(std::unique_lock<std::mutex>& lock, uint64_t need);
  Status write_control(Kind kind);
  Status write_batch(std::span<const Record> records);
  void account(LogFile& file, uint32_t group, uint64_t index);
  bool fits(uint64_t bytes) const {
    return current_ != nullptr && offset_ + bytes + kEndBytes <= current_->size;
  }

  FileSystem& files_;
  const std::string directory_;
  const LogOptions options_;

  mutable std::mutex mutex_;                 // everything below
  std::condition_variable changed_;          // the files; the preparer waits for it
  std::condition_variable flushed_;          // a sync ended
  std::map<uint64_t, LogFilePointer> live_;  // by sequence
  std::vector<LogFilePointer> spares_;
  LogFilePointer prepared_;
  LogFilePointer current_;
  uint64_t offset_ = 0;  // where the next record goes
  uint64_t next_sequence_ = 1;
  uint32_t next_slot_ = 1;
  std::unordered_map<uint32_t, uint64_t> released_, last_index_;
  Mark mark_;
  std::vector<LogFilePointer> unsynced_;               // files written since the last flush
  std::atomic<uint64_t> appended_{0}, sync_begun_{0};  // bytes, ever; atomic for dirty()
  uint64_t synced_ = 0;
  bool syncing_ = false;
  bool failed_ = false, closed_ = false;
  bool unclean_start_ = false;

  // Only while opening.
  Mark end_;  // where replay stopped
  bool ended_ = false;
  bool end_is_closed_ = false;  // by an `end` record
  Mark furthest_;               // of all marks that were found

  bool preparing_ = false, stop_ = false;
  std::thread preparer_;
};

// ---- opening ----

std::string slot_name(uint32_t slot) {
  return fmt::format("{:08}.log", slot);
}

Error about(const std::string& path, const Error& error) {
  return {error.code, fmt::format("log file {}: {}", path, to_text(error))};
}

Status FileLog::open(const std::function<Status(const Record&)>& replay) {
  EFS_TRY(make_durable_directory(files_, directory_));
  EFS_TRY(files_.sync_directory(directory_));  // a name that outlived a kill may be in the kernel alone
  EFS_TRY(find_files());
  bool first_start = live_.empty();
  EFS_TRY(replay_all(replay));
  if (furthest_ > end_)
    return fail(Code::corrupt,
                fmt::format("the log in {} is damaged: it ends in file {} at {}, but was on the disk up "
                            "to file {} at {}; nothing was changed",
                            directory_, end_.sequence, end_.offset, furthest_.sequence, furthest_.offset));
  EFS_TRY(undo_what_follows());
  unclean_start_ = unclean_start_ && !first_start;
  std::unique_lock lock(mutex_);
  EFS_TRY(roll(lock, 0));
  EFS_TRY(write_control(Kind::start));
  lock.unlock();
  if (options_.background) preparer_ = std::thread([this] { prepare_ahead(); });
  return sync();
}

Status FileLog::find_files() {
  EFS_ASSIGN(auto names, files_.list(directory_));
  for (const std::string& name : names) {
    uint32_t slot = uint32_t(std::strtoul(name.c_str(), nullptr, 10));
    if (slot == 0 || name != slot_name(slot)) continue;
    next_slot_ = std::max(next_slot_, slot + 1);
    auto file = std::make_shared<LogFile>();
    file->path = directory_ + "/" + name;
    FileHeader header;
    if (auto loaded = load(file, header); !loaded) return fail(about(file->path, loaded.error()));
    furthest_ = std::max(furthest_, header.mark);
    next_sequence_ = std::max(next_sequence_, header.sequence + 1);
    if (header.empty) {
      spares_.push_back(file);
    } else if (!live_.emplace(header.sequence, file).second) {
      return fail(Code::corrupt, fmt::format("log file {} and {} have the same sequence {}", file->path,
                                             live_[header.sequence]->path, header.sequence));
    }
  }
  return {};
}

Status FileLog::load(const LogFilePointer& file, FileHeader& header) {
  EFS_ASSIGN(file->file, files_.open(file->path, OpenMode::read_write));
  EFS_ASSIGN(file->size, file->file->size());
  Bytes bytes(log_format::kFileHeadersBytes);
  EFS_TRY(file->file->read(0, bytes));
  EFS_ASSIGN(header, log_format::decode_file_header(bytes));
  if (header.use == 0) {  // new, or has it lost its headers?
    bytes.resize(log_format::kFirstRecord + log_format::kHeaderBytes + log_format::kMaxPayload);
    EFS_ASSIGN(size_t got, file->file->read(0, bytes));
    EFS_ASSIGN(header, log_format::decode_file_header(ByteView(bytes).first(got)));
  }
  file->use = header.use;
  file->sequence = header.empty ? 0 : header.sequence;
  return {};
}

Status FileLog::replay_all(const std::function<Status(const Record&)>& replay) {
  for (auto& [sequence, file] : live_) {
    Bytes bytes(file->size);
    EFS_ASSIGN(size_t got, file->file->read(0, bytes));
    bytes.resize(got);
    if (ended_) {
      note_marks_beyond(bytes, log_format::kFirstRecord, sequence);
    } else {
      EFS_TRY(replay_file(*file, bytes, replay));
    }
  }
  return {};
}

Status FileLog::replay_file(LogFile& file, ByteView bytes,
                            const std::function<Status(const Record&)>& replay) {
  uint64_t offset = log_format::kFirstRecord;
  end_is_closed_ = false;
  while (auto found = log_format::parse(bytes, offset, file.sequence)) {
    const RecordHeader& header = found->header;
    furthest_ = std::max(furthest_, header.mark);
    offset += log_format::record_bytes(header.length);
    end_ = {file.sequence, offset};
    unclean_start_ = header.kind != Kind::clean_end;
    if (header.kind == Kind::record) {
      account(file, header.group, header.index);
      EFS_TRY(replay({header.group, header.term, header.index, found->payload}));
    }
    if (header.kind == Kind::end || header.kind == Kind::clean_end) {
      end_is_closed_ = true;
      return {};
    }
  }
  ended_ = true;
  end_ = {file.sequence, offset};
  note_marks_beyond(bytes, offset, file.sequence);
  return {};
}

// Whole records behind a place without one tell how far the log once was on the disk.
void FileLog::note_marks_beyond(ByteView bytes, uint64_t offset, uint64_t sequence) {
  for (; offset + log_format::kHeaderBytes <= bytes.size(); offset += 8) {
    if (bytes[offset] != log_format::kRecordFormat) continue;
    if (auto found = log_format::parse(bytes, offset, sequence))
      furthest_ = std::max(furthest_, found->header.mark);
  }
}

Status FileLog::undo_what_follows() {
  for (auto at = live_.upper_bound(end_.sequence); at != live_.end(); at = live_.erase(at)) {
    EFS_TRY(prepare(*at->second, {0, at->first, true, {}}));
    spares_.push_back(at->second);
  }
  if (!live_.empty() && !end_is_closed_) {
    current_ = live_.rbegin()->second;
    offset_ = end_.offset;
    EFS_TRY(grow(*current_, offset_ + kEndBytes));
    EFS_TRY(write_control(Kind::end));
    current_.reset();
    unsynced_.clear();
  }
  // What survived a kill may be in the kernel alone.
  for (const auto& [sequence, file] : live_) EFS_TRY(file->file->sync());
  return {};
}

// ---- files ----

// On a full disk less: deletes are logged, too, and a peer that is started begins a file.
uint64_t FileLog::next_size() const {
  uint64_t size = options_.file_bytes;
  const auto space = files_.space(directory_);
  while (space && size > space->free_bytes / 2 && size / kSmallerPart >= kSmallestFile) size /= kSmallerPart;
  return size;
}

Result<LogFilePointer> FileLog::create_file(uint64_t size) {
  auto file = std::make_shared<LogFile>();
  file->path = directory_ + "/" + slot_name(next_slot_++);
  EFS_ASSIGN(file->file, files_.open(file->path, OpenMode::create_new));
  auto made = grow(*file, size);
  if (made) made = files_.sync_directory(directory_);
  if (!made) {
    (void)files_.remove(file->path);  // a file without a header is a spare: nothing is wrong if it stays
    return fail(made.error());
  }
  return file;
}

// Zeros are written, not just allocated: an extent that was never written costs a journal commit when it is.
Status FileLog::grow(LogFile& file, uint64_t size) {
  if (size <= file.size) return {};
  auto write_zeros = [&]() -> Status {
    EFS_TRY(file.file->allocate(file.size, size - file.size));
    const Bytes zeros(std::min<uint64_t>(kZeroBytes, size - file.size));
    for (uint64_t at = file.size; at < size; at += zeros.size())
      EFS_TRY(file.file->write(at, ByteView(zeros).first(std::min<uint64_t>(zeros.size(), size - at))));
    return file.file->sync();
  };
  if (auto written = write_zeros(); !written) {
    (void)file.file->truncate(file.size);  // a full disk has given a part
    return written;
  }
  file.size = size;
  return {};
}

// Durable before the first record of that use: a file is never seen with the records of two.
Status FileLog::prepare(LogFile& file, const FileHeader& header) {
  FileHeader next = header;
  next.use = file.use + 1;
  EFS_TRY(file.file->write(log_format::header_offset(next.use), log_format::encode(next)));
  EFS_TRY(file.file->sync());
  file.use = next.use;
  file.sequence = next.empty ? 0 : next.sequence;
  file.last_index.clear();
  file.supersedes.clear();
  file.superseded_at = 0;
  return {};
}

LogFilePointer FileLog::take_spare() {
  if (spares_.empty()) return nullptr;
  auto oldest = std::min_element(spares_.begin(), spares_.end(),
                                 [](const auto& a, const auto& b) { return a->sequence < b->sequence; });
  LogFilePointer file = *oldest;
  spares_.erase(oldest);
  return file;
}

// The prepared file, or one that is prepared now, with the lock released meanwhile. Not while preparing_.
Result<LogFilePointer> FileLog::take_next(std::unique_lock<std::mutex>& lock) {
  if (prepared_ != nullptr) return std::exchange(prepared_, nullptr);
  preparing_ = true;
  LogFilePointer file = take_spare();
  if (options_.random != nullptr) next_sequence_ += options_.random->below(kSequenceStride);
  FileHeader header{0, next_sequence_++, false, mark_};
  lock.unlock();
  Status made;
  const uint64_t size = next_size();
  bool fresh = file == nullptr;
  if (fresh) {
    auto created = create_file(size);
    if (created) {
      file = *created;
    } else {
      made = fail(created.error());
    }
  }
  if (made) made = grow(*file, size);
  if (made) made = prepare(*file, header);
  lock.lock();
  preparing_ = false;
  changed_.notify_all();
  if (!made) {
    // Its header may say either sequence now, so it is the first to be tried again: a file that was prepared
    // and left empty would end the next replay.
    if (file != nullptr) {
      file->sequence = 0;
      spares_.insert(spares_.begin(), file);
    }
    return fail(made.error());
  }
  free_files();  // what waited for this one's old records to go
  return file;
}

// The log's own thread: has the next file ready before the current one is full.
void FileLog::prepare_ahead() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    bool wanted = !failed_ && !closed_ && prepared_ == nullptr && !preparing_ && current_ != nullptr &&
                  offset_ > current_->size / 2;
    if (!wanted) {
      changed_.wait(lock);
      continue;
    }
    auto next = take_next(lock);
    if (next) {
      prepared_ = *next;
      changed_.notify_all();
    } else {
      changed_.wait_for(lock, std::chrono::seconds(1));  // a full disk: append() tries, and tells
    }
  }
}

FileLog::~FileLog() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  if (preparer_.joinable()) preparer_.join();
}

uint64_t FileLog::bytes_on_disk() const {
  std::lock_guard lock(mutex_);
  uint64_t bytes = prepared_ != nullptr ? prepared_->size : 0;
  for (const auto& [sequence, file] : live_) bytes += file->size;
  for (const auto& file : spares_) bytes += file->size;
  return bytes;
}

// ---- appending ----

void FileLog::account(LogFile& file, uint32_t group, uint64_t index) {
  auto [last, fresh] = last_index_.try_emplace(group, index);
  if (!fresh && index <= last->second) {
    for (auto& [sequence, earlier] : live_) {
      auto held = earlier->last_index.find(group);
      if (earlier.get() == &file || held == earlier->last_index.end() || held->second < index) continue;
      if (index == 0) {
        earlier->last_index.erase(held);
      } else {
        held->second = index - 1;
      }
      file.supersedes.push_back(sequence);
      earlier->superseded_at = appended_;
    }
  }
  last->second = index;
  file.last_index[group] = index;
}

Status FileLog::append(std::span<const Record> records) {
  for (const Record& record : records) {
    if (record.payload.size() > log_format::kMaxPayload)
      return fail(Code::too_large, "a log record of more than 8 MiB");
  }
  std::unique_lock lock(mutex_);
  while (!records.empty()) {
    uint64_t need = log_format::record_bytes(records[0].payload.size());
    if (!fits(need)) EFS_TRY(roll(lock, need));
    size_t count = 1;
    for (uint64_t bytes = need; count < std::min(records.size(), kRecordsAWrite); ++count) {
      bytes += log_format::record_bytes(records[count].payload.size());
      if (!fits(bytes)) break;
    }
    EFS_TRY(write_batch(records.first(count)));
    records = records.subspan(count);
  }
  if (preparer_.joinable() && prepared_ == nullptr && offset_ > current_->size / 2) changed_.notify_all();
  return {};
}

Status refused(bool closed) {
  if (closed) return fail(Code::closed, "the log is closed");
  return fail(Code::io,
              "an earlier write to the log failed; restart efs-peer, it recovers what is on the disk");
}

Status FileLog::write_batch(std::span<const Record> records) {
  if (failed_ || closed_) return refused(closed_);
  static constexpr ByteArray<8> kPadding{};
  std::vector<ByteArray<log_format::kHeaderBytes>> headers;
  std::vector<ByteView> pieces;
  headers.reserve(records.size());
  pieces.reserve(records.size() * 3);
  uint64_t bytes = 0;
  for (const Record& record : records) {
    headers.push_back(log_format::encode(
        RecordHeader{Kind::record, 0, record.group, current_->sequence, record.term, record.index, mark_},
        record.payload));
    size_t length = log_format::kHeaderBytes + record.payload.size();
    pieces.emplace_back(headers.back());
    pieces.push_back(record.payload);
    pieces.push_back(ByteView(kPadding).first(log_format::record_bytes(record.payload.size()) - length));
    bytes += log_format::record_bytes(record.payload.size());
  }
  // A page that is begun is written to its end: else one that is not in the system's cache is read before.
  static constexpr ByteArray<kPage> kRest{};
  const uint64_t end = offset_ + bytes;
  if (offset_ % kPage == 0 || end / kPage != offset_ / kPage)
    pieces.push_back(ByteView(kRest).first(std::min((kPage - end % kPage) % kPage, current_->size - end)));
  EFS_TRY(current_->file->write_vector(offset_, pieces));
  offset_ += bytes;
  appended_ += bytes;
  for (const Record& record : records) account(*current_, record.group, record.index);
  if (unsynced_.empty() || unsynced_.back() != current_) unsynced_.push_back(current_);
  return {};
}

Status FileLog::write_control(Kind kind) {
  if (failed_ || closed_) return refused(closed_);
  auto bytes = log_format::encode(RecordHeader{kind, 0, 0, current_->sequence, 0, 0, mark_}, {});
  EFS_TRY(current_->file->write(offset_, bytes));
  offset_ += bytes.size();
  appended_ += bytes.size();
  if (unsynced_.empty() || unsynced_.back() != current_) unsynced_.push_back(current_);
  return {};
}

// On to the next file, in which `need` bytes fit.
Status FileLog::roll(std::unique_lock<std::mutex>& lock, uint64_t need) {
  if (failed_ || closed_) return refused(closed_);
  changed_.wait(lock, [&] { return !preparing_; });
  if (current_ != nullptr && fits(need)) return {};  // another thread rolled while this one waited
  EFS_ASSIGN(LogFilePointer next, take_next(lock));
  if (auto grown = grow(*next, log_format::kFirstRecord + need + kEndBytes); !grown) {
    prepared_ = next;
    return grown;
  }
  if (current_ != nullptr) {
    if (auto ended = write_control(Kind::end); !ended) {
      prepared_ = next;
      return ended;
    }
  }
  current_ = next;
  offset_ = log_format::kFirstRecord;
  live_.emplace(next->sequence, next);
  return {};
}

// ---- syncing ----

Status FileLog::sync() {
  std::unique_lock lock(mutex_);
  const uint64_t target = appended_;
  while (synced_ < target && !failed_) {
    if (syncing_) {
      flushed_.wait(lock);
      continue;
    }
    syncing_ = true;
    const uint64_t goal = appended_;
    sync_begun_ = goal;
    Mark mark{current_->sequence, offset_};
    auto files = std::exchange(unsynced_, {});
    lock.unlock();
    Status flushed;
    for (const auto& file : files) {  // in the order of the log
      if (flushed) flushed = file->file->sync();
    }
    lock.lock();
    syncing_ = false;
    flushed_.notify_all();
    if (!flushed) {
      failed_ = true;
      return flushed;
    }
    synced_ = goal;
    mark_ = mark;
  }
  if (failed_) return refused(false);
  return {};
}

Status FileLog::close_cleanly() {
  {
    std::unique_lock lock(mutex_);
    EFS_TRY(write_control(Kind::clean_end));
    closed_ = true;
  }
  return sync();
}

// ---- releasing ----

void FileLog::release(uint32_t group, uint64_t index) {
  std::lock_guard lock(mutex_);
  auto& released = released_[group];
  released = std::max(released, index);
  free_files();
  trim_spares();
}

void FileLog::free_files() {
  auto on_disk = [&](uint64_t sequence) {
    return live_.contains(sequence) || std::any_of(spares_.begin(), spares_.end(), [&](const auto& file) {
             return file->sequence == sequence;
           });
  };
  auto needed = [&](const LogFile& file) {
    if (file.superseded_at > synced_) return true;
    for (const auto& [group, last] : file.last_index) {
      auto released = released_.find(group);
      if (released == released_.end() || released->second < last) return true;
    }
    return std::any_of(file.supersedes.begin(), file.supersedes.end(), on_disk);
  };
  for (auto at = live_.begin(); at != live_.end();) {
    if (at->second == current_ || needed(*at->second)) {
      ++at;
      continue;
    }
    spares_.push_back(at->second);
    at = live_.erase(at);
  }
}

// The removal of one is durable before the next: they go in the order of the log.
void FileLog::trim_spares() {
  while (spares_.size() > options_.spare_files) {
    LogFilePointer file = take_spare();
    if (!files_.remove(file->path) || !files_.sync_directory(directory_)) {
      spares_.push_back(file);
      return;
    }
    free_files();
  }
}

}  // namespace

Result<std::unique_ptr<Log>> Log::open(FileSystem& files, const std::string& directory,
                                       const LogOptions& options,
                                       const std::function<Status(const Record&)>& replay) {
  auto log = std::make_unique<FileLog>(files, directory, options);
  EFS_TRY(log->open(replay));
  return log;
}

}  // namespace efs
