// What one file's sequential reading fetches before it is asked for: a step machine, no I/O, no lock.
//
// Reads that follow each other (roughly: the kernel sends several at once, out of order, but reads large
// pieces then; small ones at random places are often within a piece of each other) open a window that
// doubles, whenever a read has to wait, up to kReadAheadPieces. Pieces are fetched whole, kept until the
// reading has passed them, and dropped all at once by reset(): at open, at any write, when the file changed
// elsewhere. A fetch that was under way then still answers the reads that wait for it (they began before),
// and nobody else.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "peer/base/error.h"
#include "peer/base/shared_bytes.h"

namespace efs {

class ReadAhead {
 public:
  struct Piece {
    explicit Piece(std::atomic<uint64_t>& total) : budget(total) {}
    ~Piece();
    Piece(const Piece&) = delete;
    Piece& operator=(const Piece&) = delete;
    std::atomic<uint64_t>& budget;  // of the mount: kReadAheadMountBytes
    uint64_t offset = 0;
    bool ready = false;
    Code code = Code::ok;
    SharedBytes data;  // shorter than a piece only at the end of the file
    std::vector<std::function<void()>> waiting;
  };
  using PiecePtr = std::shared_ptr<Piece>;

  explicit ReadAhead(std::atomic<uint64_t>& budget) : budget_(budget) {}

  struct Plan {
    bool direct = true;             // not sequential: read exactly what is asked
    std::vector<PiecePtr> needed;   // else: these hold it, in order
    std::vector<PiecePtr> fetches;  // to be asked for now, kPieceBytes each
  };
  // A read of [offset, offset + length) of a file that has `size` bytes as far as is known.
  Plan on_read(uint64_t offset, uint64_t length, uint64_t size);
  void reset();

 private:
  PiecePtr piece_at(uint64_t index, std::vector<PiecePtr>& fetches, bool required);

  std::atomic<uint64_t>& budget_;
  std::map<uint64_t, PiecePtr> pieces_;  // by offset / kPieceBytes
  uint64_t expected_ = 0;                // where sequential reading goes on
  unsigned streak_ = 0;                  // reads that followed each other
  unsigned window_ = 0;                  // pieces
};

}  // namespace efs
