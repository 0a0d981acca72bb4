// What files hold: small content in the inode, extents of chunks, zeros that are allocated, holes.
#include <algorithm>

#include "peer/base/hash.h"
#include "peer/volume/state/change.h"

namespace efs {

// ---- references to chunks ----

Status OperationRun::name_chunk(const Id& chunk, uint32_t length, uint64_t times) {
  EFS_ASSIGN(auto found, rows_.get(kChunks, id_key(chunk)));
  ChunkRow row;
  row.length = length;
  if (found) {
    EFS_ASSIGN(row, ChunkRow::decode(*found));
    if (row.length != length) return fail(Code::corrupt, "one chunk is named with two lengths");
  }
  if (row.references == 0) {
    effects_.named.push_back(chunk);
    state_.usage.stored_bytes += row.length;
    if (found) rows_.erase(kDead, id_key(chunk));
  }
  row.references += times;
  rows_.put(kChunks, id_key(chunk), row.encode());
  return {};
}

Status OperationRun::unname_chunk(const Id& chunk, uint64_t times) {
  EFS_ASSIGN(auto found, rows_.get(kChunks, id_key(chunk)));
  if (!found) return fail(Code::corrupt, "an extent names a chunk that the volume does not know");
  EFS_ASSIGN(auto row, ChunkRow::decode(*found));
  if (row.references < times) return fail(Code::corrupt, "a chunk has fewer references than extents");
  row.references -= times;
  if (row.references == 0) {
    rows_.put(kDead, id_key(chunk), "");
    state_.usage.stored_bytes -= row.length;
  }
  rows_.put(kChunks, id_key(chunk), row.encode());
  return {};
}

Result<Id> OperationRun::store_bytes(Bytes bytes, bool as_sent) {
  EFS_ASSIGN(const VolumeCharter* volume, charter());
  const Id hash = sha256(bytes);
  const Id chunk = chunk_id(volume->chunk_key, hash);
  effects_.store.push_back({chunk, hash, std::move(bytes), as_sent});
  return chunk;
}

// ---- extents ----

void OperationRun::put_extent(InodeNumber inode, InodeRow& row, const ExtentRow& extent) {
  rows_.put(kExtents, pair_key(inode, extent.end), extent.encode());
  row.covered += extent.end - extent.start;
  state_.usage.bytes += extent.end - extent.start;
}

// Makes [start, end) a hole: extents inside go, those that reach over its ends are cut.
Status OperationRun::cut(InodeNumber inode, InodeRow& row, uint64_t start, uint64_t end) {
  if (start >= end || !row.has_extents()) return {};
  std::vector<ExtentRow> overlapping;
  EFS_TRY(view_.extents(inode, start, [&](const ExtentRow& extent) {
    if (extent.start >= end) return false;
    overlapping.push_back(extent);
    return true;
  }));
  for (const ExtentRow& extent : overlapping) {
    rows_.erase(kExtents, pair_key(inode, extent.end));
    row.covered -= extent.end - extent.start;
    state_.usage.bytes -= extent.end - extent.start;
    uint64_t pieces = 0;
    if (extent.start < start) {
      ExtentRow left = extent;
      left.end = start;
      put_extent(inode, row, left);
      ++pieces;
    }
    if (extent.end > end) {
      ExtentRow right = extent;
      right.start = end;
      if (right.chunk) right.chunk_offset += uint32_t(end - extent.start);
      put_extent(inode, row, right);
      ++pieces;
    }
    if (!extent.chunk || pieces == 1) continue;
    if (pieces == 0) {
      EFS_TRY(unname_chunk(*extent.chunk, 1));
    } else {
      EFS_ASSIGN(auto found, rows_.get(kChunks, id_key(*extent.chunk)));
      if (!found) return fail(Code::corrupt, "an extent names a chunk that the volume does not know");
      EFS_ASSIGN(auto chunk, ChunkRow::decode(*found));
      EFS_TRY(name_chunk(*extent.chunk, chunk.length, 1));
    }
  }
  return {};
}

// Covers the holes of [start, end) with allocated zeros.
Status OperationRun::fill(InodeNumber inode, InodeRow& row, uint64_t start, uint64_t end) {
  std::vector<std::pair<uint64_t, uint64_t>> holes;
  uint64_t at = start;
  EFS_TRY(view_.extents(inode, start, [&](const ExtentRow& extent) {
    if (extent.start >= end) return false;
    if (extent.start > at) holes.emplace_back(at, extent.start);
    at = extent.end;
    return at < end;
  }));
  if (at < end) holes.emplace_back(at, end);
  for (auto [from, to] : holes) {
    ExtentRow zeros;
    zeros.start = from;
    zeros.end = to;
    put_extent(inode, row, zeros);
  }
  return {};
}

// Moves small content out of the inode, into a chunk.
Status OperationRun::spill(InodeNumber inode, InodeRow& row) {
  if (row.content.empty()) return {};
  ExtentRow extent;
  extent.end = row.content.size();
  EFS_ASSIGN(extent.chunk, store_bytes(to_bytes(view(row.content)), false));
  EFS_TRY(name_chunk(*extent.chunk, uint32_t(row.content.size()), 1));
  row.covered -= row.content.size();
  state_.usage.bytes -= row.content.size();
  row.content.clear();
  put_extent(inode, row, extent);
  return {};
}

Status OperationRun::resize(InodeNumber inode, InodeRow& row, uint64_t size) {
  if (size < row.content.size()) {
    state_.usage.bytes -= row.content.size() - size;
    row.covered = size;
    row.content.resize(size);
  } else if (size < row.size) {
    EFS_TRY(cut(inode, row, size, UINT64_MAX));
  }
  row.size = size;
  return {};
}

Result<uint64_t> OperationRun::free_extents(InodeNumber inode, uint64_t limit) {
  std::vector<ExtentRow> found;
  EFS_TRY(view_.extents(inode, 0, [&](const ExtentRow& extent) {
    found.push_back(extent);
    return found.size() < limit;
  }));
  for (const ExtentRow& extent : found) {
    rows_.erase(kExtents, pair_key(inode, extent.end));
    if (extent.chunk) EFS_TRY(unname_chunk(*extent.chunk, 1));
  }
  return uint64_t(found.size());
}

// ---- operations ----

Status OperationRun::write_access(InodeNumber inode, const InodeRow& row) const {
  if (row.is_directory()) return fail(Code::is_directory);
  if (!row.is_regular()) return fail(Code::invalid_argument);
  if (operation_.held) return {};
  return may(inode, row, kWrite);
}

// Small content, in the inode.
void OperationRun::put_content(InodeRow& row, uint64_t offset, ByteView bytes) {
  const size_t before = row.content.size(), end = size_t(offset) + bytes.size();
  if (before < end) row.content.resize(end);
  std::copy(bytes.begin(), bytes.end(), row.content.begin() + ptrdiff_t(offset));
  row.covered += row.content.size() - before;
  state_.usage.bytes += row.content.size() - before;
}

// What lies behind small content reads as zeros.
void OperationRun::punch_content(InodeRow& row, uint64_t from, uint64_t to) {
  const uint64_t size = row.content.size();
  if (from >= size) return;
  if (to < size)
    return void(std::fill(row.content.begin() + ptrdiff_t(from), row.content.begin() + ptrdiff_t(to), 0));
  row.content.resize(size_t(from));
  row.covered -= size - from;
  state_.usage.bytes -= size - from;
}

void OperationRun::written(InodeNumber inode, InodeRow& row, uint64_t end, int64_t mtime_ns) {
  row.size = std::max(row.size, end);
  const int64_t before_ns = row.mtime_ns, changed_ns = row.ctime_ns;
  touch_content(row);
  // What comes out of order does not set it back; a time in the future is one that somebody has set.
  if (mtime_ns != 0)
    row.mtime_ns = before_ns > stamp_.time_ns + kClocksApart ? mtime_ns : std::max(before_ns, mtime_ns);
  // The mount has shown it as the time of change, too: that does not move when the bytes come. But it stays
  // in this run of the owner: a mount that returns to that finds by it what others have changed.
  if (changed_ns <= mtime_ns && mtime_ns < row.ctime_ns) row.ctime_ns = std::max(mtime_ns, state_.run_ns);
  changed(inode, true);
  reply_.attributes = attributes(inode);
}

Status OperationRun::apply(const WriteExtents& request) {
  EFS_ASSIGN(InodeRow * found, edit(request.inode));
  InodeRow& row = *found;
  EFS_TRY(write_access(request.inode, row));
  uint64_t length = request.bytes.size();
  for (const ChunkReference& chunk : request.chunks) length += chunk.length;
  if (length == 0 || request.bytes.size() > kMaxBytesInLog ||
      (!request.bytes.empty() && !request.chunks.empty()))
    return fail(Code::invalid_argument);
  const uint64_t offset = request.append ? row.size : request.offset;
  if (offset > kMaxFileSize || length > kMaxFileSize - offset) return fail(Code::too_large);
  const uint64_t end = offset + length;

  if (!row.has_extents() && end <= kInlineBytes && !request.bytes.empty()) {
    put_content(row, offset, request.bytes);
  } else {
    // Small content that is overwritten whole need not be kept.
    if (offset == 0 && end >= row.content.size()) {
      row.covered -= row.content.size();
      state_.usage.bytes -= row.content.size();
      row.content.clear();
    }
    EFS_TRY(spill(request.inode, row));
    EFS_TRY(cut(request.inode, row, offset, end));
    std::vector<ChunkReference> chunks = request.chunks;
    if (!request.bytes.empty()) {
      EFS_ASSIGN(Id chunk, store_bytes(request.bytes));
      chunks.push_back({chunk, uint32_t(length)});
    }
    ExtentRow extent;
    extent.end = offset;
    for (const ChunkReference& chunk : chunks) {
      if (chunk.length == 0 || chunk.length > kMaxWrite) return fail(Code::invalid_argument);
      extent.start = extent.end;
      extent.end += chunk.length;
      extent.chunk = chunk.chunk;
      EFS_TRY(name_chunk(chunk.chunk, chunk.length, 1));
      put_extent(request.inode, row, extent);
    }
  }
  if (request.clear_suid) EFS_TRY(drop_privileges(request.inode, row));
  written(request.inode, row, end, request.mtime_ns);
  reply_.offset = offset;
  if (request.attributes) {
    if (request.attributes->inode != request.inode || request.attributes->size)
      return fail(Code::invalid_argument);
    const uint64_t version = row.change;
    EFS_TRY(apply(*request.attributes));
    row.change = version;  // one change, as a mount counts them
    reply_.attributes = attributes(request.inode);
  }
  return {};
}

// All pieces share one chunk.
Status OperationRun::apply(const ScatteredExtents& request) {
  EFS_ASSIGN(InodeRow * found, edit(request.inode));
  InodeRow& row = *found;
  EFS_TRY(write_access(request.inode, row));
  const uint64_t length = request.bytes.empty() ? request.chunk.length : request.bytes.size();
  if (length > kMaxWrite || request.bytes.size() > kMaxBytesInLog || request.pieces.size() > kWritePieces ||
      (!request.bytes.empty() && request.chunk.length != 0))
    return fail(Code::invalid_argument);
  uint64_t end = 0, sum = 0;
  for (const WritePiece& piece : request.pieces) {
    if (piece.length == 0 || piece.offset < end) return fail(Code::invalid_argument);
    if (piece.offset > kMaxFileSize || piece.length > kMaxFileSize - piece.offset)
      return fail(Code::too_large);
    end = piece.offset + piece.length;
    sum += piece.length;
  }
  if (sum == 0 || sum != length) return fail(Code::invalid_argument);

  const bool small = !row.has_extents() && end <= kInlineBytes && !request.bytes.empty();
  ChunkReference chunk = request.chunk;
  if (!small) {
    EFS_TRY(spill(request.inode, row));
    if (!request.bytes.empty()) {
      EFS_ASSIGN(chunk.chunk, store_bytes(request.bytes));
      chunk.length = uint32_t(length);
    }
    EFS_TRY(name_chunk(chunk.chunk, chunk.length, request.pieces.size()));
  }
  uint32_t at = 0;
  for (const WritePiece& piece : request.pieces) {
    if (small) {
      put_content(row, piece.offset, ByteView(request.bytes).subspan(at, piece.length));
    } else {
      EFS_TRY(cut(request.inode, row, piece.offset, piece.offset + piece.length));
      put_extent(request.inode, row, {piece.offset, piece.offset + piece.length, chunk.chunk, at});
    }
    at += piece.length;
  }
  written(request.inode, row, end, request.mtime_ns);
  return {};
}

// fallocate(2): allocated zeros count in st_blocks, in whole blocks; to SEEK_DATA they are holes.
Status OperationRun::apply(const Allocate& request) {
  EFS_ASSIGN(InodeRow * found, edit(request.inode));
  InodeRow& row = *found;
  if (!row.is_regular()) return fail(row.is_directory() ? Code::is_directory : Code::no_device);
  EFS_TRY(write_access(request.inode, row));
  if (request.length == 0 || (request.punch && (request.zero || !request.keep_size)))
    return fail(request.length == 0 ? Code::invalid_argument : Code::unsupported);
  if (request.offset > kMaxFileSize || request.length > kMaxFileSize - request.offset)
    return fail(Code::too_large);
  const uint64_t end = request.offset + request.length;
  if (request.punch) {
    punch_content(row, request.offset, end);
    EFS_TRY(cut(request.inode, row, request.offset, end));
  } else {
    EFS_TRY(spill(request.inode, row));
    if (request.zero) EFS_TRY(cut(request.inode, row, request.offset, end));
    EFS_TRY(fill(request.inode, row, block_start(request.offset), std::min(block_end(end), kMaxFileSize)));
    if (!request.keep_size) row.size = std::max(row.size, end);
  }
  if (who_.uid != 0) EFS_TRY(drop_privileges(request.inode, row));
  touch_content(row);
  changed(request.inode, true);
  reply_.attributes = attributes(request.inode);
  return {};
}

}  // namespace efs
