#include "vfs/extents.h"

#include <algorithm>

#include "vfs/limits.h"

namespace efs {

void Extents::write(uint64_t offset, ByteView bytes) {
  while (!bytes.empty()) {
    const uint64_t room = kPieceBytes - offset % kPieceBytes;
    const size_t length = size_t(std::min<uint64_t>(room, bytes.size()));
    write_in_piece(offset, bytes.first(length));
    offset += length;
    bytes = bytes.subspan(length);
  }
}

void Extents::write_in_piece(uint64_t offset, ByteView bytes) {
  const uint64_t piece = offset / kPieceBytes;
  auto at = map_.upper_bound(offset);
  if (at != map_.begin()) {
    auto before = std::prev(at);
    if (before->first / kPieceBytes == piece && before->first + before->second.size() >= offset) at = before;
  }
  if (at == map_.end() || at->first > offset) at = map_.emplace_hint(at, offset, Bytes{});
  Bytes& data = at->second;
  const size_t from = size_t(offset - at->first);
  const size_t overwritten = std::min(bytes.size(), data.size() - from);
  std::copy_n(bytes.begin(), overwritten, data.begin() + ptrdiff_t(from));
  if (overwritten < bytes.size()) {
    if (data.size() >= kPieceBytes / 16 && data.capacity() < from + bytes.size())
      data.reserve(size_t(kPieceBytes - at->first % kPieceBytes));  // likely to the end of its piece
    data.insert(data.end(), bytes.begin() + ptrdiff_t(overwritten), bytes.end());
    bytes_ += bytes.size() - overwritten;
  }
  for (auto next = std::next(at); next != map_.end() && next->first / kPieceBytes == piece;) {
    const uint64_t end = at->first + data.size();
    if (next->first > end) break;
    const size_t covered = std::min<size_t>(size_t(end - next->first), next->second.size());
    data.insert(data.end(), next->second.begin() + ptrdiff_t(covered), next->second.end());
    bytes_ -= covered;
    next = map_.erase(next);
  }
}

Extents::Map::const_iterator Extents::first_behind(uint64_t offset) const {
  auto at = map_.upper_bound(offset);
  if (at != map_.begin()) {
    auto before = std::prev(at);
    if (before->first + before->second.size() > offset) return before;
  }
  return at;
}

void Extents::cut(uint64_t offset, uint64_t length) {
  const uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
  for (auto found = first_behind(offset); found != map_.end() && found->first < end;
       found = first_behind(offset)) {
    auto at = map_.find(found->first);
    const uint64_t start = at->first;
    Bytes data = take(at);
    if (start < offset) write(start, ByteView(data).first(size_t(offset - start)));
    if (start + data.size() > end) write(end, ByteView(data).subspan(size_t(end - start)));
  }
}

void Extents::overlay(uint64_t offset, std::span<uint8_t> out) const {
  const uint64_t end = offset + out.size();
  for (auto at = first_behind(offset); at != map_.end() && at->first < end; ++at) {
    const uint64_t from = std::max(offset, at->first);
    const uint64_t to = std::min(end, at->first + at->second.size());
    std::copy_n(at->second.begin() + ptrdiff_t(from - at->first), to - from,
                out.begin() + ptrdiff_t(from - offset));
  }
}

bool Extents::overlaps(uint64_t offset, uint64_t length) const {
  auto at = first_behind(offset);
  return at != map_.end() && at->first < offset + length;
}

uint64_t Extents::end() const {
  return map_.empty() ? 0 : map_.rbegin()->first + map_.rbegin()->second.size();
}

Bytes Extents::take(Map::iterator extent) {
  Bytes data = std::move(extent->second);
  bytes_ -= data.size();
  map_.erase(extent);
  return data;
}

Extents::Map::iterator Extents::whole_piece(uint64_t offset) {
  auto at = map_.find(offset - offset % kPieceBytes);
  return at != map_.end() && at->second.size() == kPieceBytes ? at : map_.end();
}

}  // namespace efs
