// Dirty bytes of one file: which parts of it are here, and their bytes.
//
// A map of extents that do not overlap and never cross a multiple of kPieceBytes, so that each is one
// Write. Extents that touch inside a piece are one. Not thread-safe: its file's lock guards it.
#pragma once

#include <map>

#include "peer/base/bytes.h"

namespace efs {

class Extents {
 public:
  using Map = std::map<uint64_t, Bytes>;  // by file offset

  void write(uint64_t offset, ByteView bytes);  // over what is there
  void cut(uint64_t offset, uint64_t length);   // takes a range out

  // Copies what is here of [offset, offset + out.size()) to its place in `out`.
  void overlay(uint64_t offset, std::span<uint8_t> out) const;
  bool overlaps(uint64_t offset, uint64_t length) const;

  bool empty() const { return map_.empty(); }
  uint64_t bytes() const { return bytes_; }
  uint64_t end() const;  // behind the last byte; 0 when empty
  const Map& map() const { return map_; }
  Bytes take(Map::iterator extent);  // removes it
  Map::iterator begin() { return map_.begin(); }
  Map::iterator last_end() { return map_.end(); }
  // The extent that fills its whole piece at `offset` (of any byte in it), if it does.
  Map::iterator whole_piece(uint64_t offset);

 private:
  void write_in_piece(uint64_t offset, ByteView bytes);
  Map::const_iterator first_behind(uint64_t offset) const;  // the first extent that ends behind `offset`

  Map map_;
  uint64_t bytes_ = 0;
};

}  // namespace efs
