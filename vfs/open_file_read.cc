// Reading: what is buffered here, over what was read ahead, over what the owner has.
//
// What is buffered is copied before the owner is asked: bytes that reach the owner meanwhile are then in one
// of the two. A write that begins after the read may be seen or not, as POSIX has it.
#include <algorithm>

#include "vfs/limits.h"
#include "vfs/open_file.h"

namespace efs {

struct OpenFile::PlannedRead {
  Credentials who;
  uint64_t offset = 0;
  uint32_t length = 0;
  VolumeClient::Options options;
  std::vector<ReadAhead::PiecePtr> needed;
  std::atomic<size_t> missing{1};
  ReadDone done;
};

Extents OpenFile::buffered(uint64_t offset, uint64_t length) const {
  Extents found;
  auto copy = [&](uint64_t at, ByteView bytes) {
    const uint64_t from = std::max(at, offset);
    const uint64_t to = std::min(at + bytes.size(), offset + length);
    if (from < to) found.write(from, bytes.subspan(size_t(from - at), size_t(to - from)));
  };
  for (const Item& item : queue_) copy(item.offset, item.bytes);
  if (dirty_.overlaps(offset, length)) {
    for (const auto& [at, bytes] : dirty_.map()) copy(at, bytes);
  }
  return found;
}

void OpenFile::read(const Credentials& who, uint64_t offset, uint32_t length,
                    const VolumeClient::Options& options, ReadDone done) {
  Extents found;
  uint64_t end = 0;
  ReadAhead::Plan plan;
  {
    std::lock_guard lock(mutex_);
    end = buffered_end();
    if (end != 0) {
      found = buffered(offset, length);
    } else if (keeps_) {
      plan = read_ahead_.on_read(offset, length, latest_.size);
    }
  }
  if (found.bytes() == length) {
    Bytes data(length);
    found.overlay(offset, data);
    return done(Code::ok, std::move(data));
  }
  if (!plan.direct) return read_planned(who, offset, length, std::move(plan), options, std::move(done));
  read_direct(who, offset, length, std::move(found), end, options, std::move(done));
}

void OpenFile::read_direct(const Credentials& who, uint64_t offset, uint32_t length, Extents found,
                           uint64_t end, const VolumeClient::Options& options, ReadDone done) {
  auto answered = [offset, length, found = std::move(found), end,
                   done = std::move(done)](VolumeAnswer answer) {
    if (answer.reply.code != Code::ok) return done(answer.reply.code, {});
    if (answer.payload.size() > length) return done(Code::protocol, {});
    if (end <= offset) return done(Code::ok, std::move(answer.payload));
    const uint64_t reach = std::min<uint64_t>(length, end - offset);
    Bytes data = std::move(answer.payload).release();
    if (data.size() < reach) data.resize(size_t(reach));
    found.overlay(offset, data);
    done(Code::ok, std::move(data));
  };
  client_->call(who, Read{inode_, offset, length}, {}, options, std::move(answered));
}

void OpenFile::read_planned(const Credentials& who, uint64_t offset, uint32_t length, ReadAhead::Plan plan,
                            const VolumeClient::Options& options, ReadDone done) {
  auto read = std::make_shared<PlannedRead>();
  read->who = who;
  read->offset = offset;
  read->length = length;
  read->options = options;
  read->needed = std::move(plan.needed);
  read->done = std::move(done);
  auto arrived = [self = shared_from_this(), read] {
    if (read->missing.fetch_sub(1) == 1) self->finish_planned(read);
  };
  {
    std::lock_guard lock(mutex_);
    for (auto& piece : read->needed) {
      if (piece->ready) continue;
      read->missing.fetch_add(1);
      piece->waiting.push_back(arrived);
    }
  }
  for (auto& piece : plan.fetches) {
    client_->call(who, Read{inode_, piece->offset, uint32_t(kPieceBytes)}, {}, {},
                  [self = shared_from_this(), piece](VolumeAnswer answer) {
                    std::vector<std::function<void()>> waiting;
                    {
                      std::lock_guard lock(self->mutex_);
                      piece->ready = true;
                      piece->code = answer.reply.code;
                      piece->data = std::move(answer.payload);
                      if (piece->code != Code::ok) self->read_ahead_.reset();
                      waiting.swap(piece->waiting);
                    }
                    for (auto& task : waiting) task();
                  });
  }
  arrived();
}

void OpenFile::finish_planned(const std::shared_ptr<PlannedRead>& read) {
  ReadBytes data;
  Code code = Code::ok;
  uint64_t known = 0;
  {
    std::lock_guard lock(mutex_);
    known = latest_.size;
    for (auto& piece : read->needed) {
      if (code == Code::ok) code = piece->code;
      const uint64_t at = read->offset + data.size();
      const uint64_t from = at - piece->offset;
      if (at < piece->offset || from >= piece->data.size()) break;
      const size_t length = std::min<size_t>(read->length - data.size(), piece->data.size() - size_t(from));
      data.add(piece->data, size_t(from), length);
      if (piece->data.size() < kPieceBytes) break;
    }
  }
  if (code != Code::ok) return read->done(code, {});
  // Short, though the file is known to be longer (it grew meanwhile): ask.
  if (data.size() < read->length && known > read->offset + data.size())
    return read_direct(read->who, read->offset, read->length, {}, 0, read->options, std::move(read->done));
  read->done(Code::ok, std::move(data));
}

}  // namespace efs
