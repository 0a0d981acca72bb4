#include "vfs/read_ahead.h"

#include <algorithm>

#include "vfs/limits.h"

namespace efs {

namespace {
// Of a read, from where the last ended: what the kernel sends out of order is no farther apart.
constexpr uint64_t kNearLengths = 4;
}  // namespace

ReadAhead::Piece::~Piece() {
  budget.fetch_sub(kPieceBytes);
}

ReadAhead::PiecePtr ReadAhead::piece_at(uint64_t index, std::vector<PiecePtr>& fetches, bool required) {
  if (auto found = pieces_.find(index); found != pieces_.end()) return found->second;
  if (budget_.fetch_add(kPieceBytes) + kPieceBytes > kReadAheadMountBytes && !required) {
    budget_.fetch_sub(kPieceBytes);
    return nullptr;
  }
  auto piece = std::make_shared<Piece>(budget_);
  piece->offset = index * kPieceBytes;
  pieces_[index] = piece;
  fetches.push_back(piece);
  return piece;
}

ReadAhead::Plan ReadAhead::on_read(uint64_t offset, uint64_t length, uint64_t size) {
  Plan plan;
  const uint64_t near = std::min(kPieceBytes, kNearLengths * length);
  const bool follows = offset <= expected_ + near && offset + length + near >= expected_;
  if (!follows) {
    pieces_.clear();
    streak_ = 0;
    window_ = 0;
  }
  ++streak_;
  expected_ = follows ? std::max(expected_, offset + length) : offset + length;
  if (streak_ < 2 || offset >= size || length == 0) return plan;

  const uint64_t first = offset / kPieceBytes;
  const uint64_t last = (std::min(offset + length, size) - 1) / kPieceBytes;
  const auto held = pieces_.find(last);
  const bool waits = held == pieces_.end() || !held->second->ready;
  if (waits) window_ = std::clamp(window_ * 2, 1u, kReadAheadPieces);
  const uint64_t file_end = (size - 1) / kPieceBytes;
  for (uint64_t index = first; index <= last; ++index)
    plan.needed.push_back(piece_at(index, plan.fetches, true));
  // Ahead: when the reading has come half through its window, so that the next pieces come in time.
  for (uint64_t index = last + 1; index <= std::min(last + window_, file_end); ++index) {
    if (!pieces_.contains(index) && !piece_at(index, plan.fetches, false)) break;
  }
  // Behind: what concurrent reads may still want is one piece.
  while (!pieces_.empty() && pieces_.begin()->first + 2 < first) pieces_.erase(pieces_.begin());
  plan.direct = false;
  return plan;
}

void ReadAhead::reset() {
  pieces_.clear();
  streak_ = 0;
  window_ = 0;
}

}  // namespace efs
