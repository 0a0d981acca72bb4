// Bytes of one file put into another: extents that name the same chunks.
#include <algorithm>

#include "peer/volume/state/change.h"

namespace efs {

// Up to `length` bytes; what was done is in the reply. The target's range is a hole before.
Status OperationRun::copy_extents(const CopyRange& request, InodeRow& row, const InodeRow& from,
                                  uint64_t length) {
  std::vector<ExtentRow> found;
  uint32_t own_chunk = 0;  // length of one that is made here
  uint64_t end = request.from_offset + length;
  if (from.has_extents()) {
    EFS_TRY(view_.extents(request.from, request.from_offset, [&](const ExtentRow& extent) {
      if (extent.start >= end) return false;
      if (found.size() == kCopyExtents) {
        end = extent.start;
        return false;
      }
      found.push_back(extent);
      return true;
    }));
  } else if (request.from_offset < from.content.size()) {  // a chunk of its own
    ExtentRow extent;
    extent.start = request.from_offset;
    extent.end = std::min<uint64_t>(end, from.content.size());
    const auto bytes = view(from.content).subspan(size_t(extent.start), size_t(extent.end - extent.start));
    EFS_ASSIGN(extent.chunk, store_bytes(to_bytes(bytes)));
    own_chunk = uint32_t(bytes.size());
    found.push_back(extent);
  }
  const uint64_t copied = end - request.from_offset;
  EFS_TRY(spill(request.inode, row));
  EFS_TRY(cut(request.inode, row, request.offset, request.offset + copied));
  for (const ExtentRow& extent : found) {
    const uint64_t start = std::max(extent.start, request.from_offset), stop = std::min(extent.end, end);
    ExtentRow copy = extent;
    copy.start = request.offset + (start - request.from_offset);
    copy.end = copy.start + (stop - start);
    if (copy.chunk) {
      copy.chunk_offset += uint32_t(start - extent.start);
      uint32_t chunk_length = own_chunk;
      if (own_chunk == 0) {
        EFS_ASSIGN(auto chunk, rows_.get(kChunks, id_key(*copy.chunk)));
        if (!chunk) return fail(Code::corrupt, "an extent names a chunk that the volume does not know");
        EFS_ASSIGN(auto named, ChunkRow::decode(*chunk));
        chunk_length = named.length;
      }
      EFS_TRY(name_chunk(*copy.chunk, chunk_length, 1));
    }
    put_extent(request.inode, row, copy);
  }
  reply_.offset = copied;
  return {};
}

// copy_file_range(2).
Status OperationRun::apply(const CopyRange& request) {
  EFS_ASSIGN(InodeRow * found, edit(request.inode));
  EFS_ASSIGN(InodeRow * source, edit(request.from));
  InodeRow& row = *found;
  EFS_TRY(write_access(request.inode, row));
  if (source->is_directory()) return fail(Code::is_directory);
  if (!source->is_regular()) return fail(Code::invalid_argument);
  if (!operation_.held) EFS_TRY(may(request.from, *source, kRead));
  if (request.offset > kMaxFileSize || request.length > kMaxFileSize - request.offset)
    return fail(Code::too_large);
  reply_.offset = 0;
  if (request.from_offset < source->size && request.length != 0) {
    const uint64_t length = std::min(request.length, source->size - request.from_offset);
    const bool apart =
        request.from_offset + length <= request.offset || request.offset + length <= request.from_offset;
    if (request.from == request.inode && !apart) return fail(Code::invalid_argument);
    EFS_TRY(copy_extents(request, row, *source, length));
    row.size = std::max(row.size, request.offset + reply_.offset);
    if (who_.uid != 0) EFS_TRY(drop_privileges(request.inode, row));
    touch_content(row);
    changed(request.inode, true);
  }
  reply_.attributes = attributes(request.inode);
  return {};
}

}  // namespace efs
