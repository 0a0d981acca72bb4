#include "peer/volume/fragment_search.h"

namespace efs {

// ---- notes ----

void FragmentSearch::wrote(InodeNumber inode, const std::vector<WritePiece>& pieces, int64_t now_ns) {
  std::lock_guard lock(mutex_);
  for (const WritePiece& piece : pieces) {
    const ExtentPlace place{inode, piece.offset - piece.offset % kRunWindow};
    auto found = windows_.find(place);
    if (found == windows_.end()) {
      if (windows_.size() >= kMaxNotedWindows) continue;
      found = windows_.try_emplace(place).first;
      found->second.first_ns = now_ns;
      order_.emplace_back(now_ns + kSettleTime, place);
    }
    ++found->second.pieces;
    found->second.last_ns = now_ns;
  }
  set_due();
}

std::optional<ExtentPlace> FragmentSearch::take(int64_t now_ns) {
  std::lock_guard lock(mutex_);
  std::optional<ExtentPlace> taken;
  while (!taken && !order_.empty() && order_.front().first <= now_ns) {
    const ExtentPlace place = order_.front().second;
    order_.pop_front();
    const Window& window = windows_.at(place);
    if (window.last_ns + kSettleTime > now_ns && window.first_ns + kLongestNoted > now_ns) {
      order_.emplace_back(now_ns + kSettleTime, place);
      continue;
    }
    if (window.pieces >= kRunFewest) taken = place;  // else there is nothing to join
    windows_.erase(place);
  }
  set_due();
  return taken;
}

void FragmentSearch::set_due() {
  due_ns_.store(order_.empty() ? INT64_MAX : order_.front().first, std::memory_order_relaxed);
}

// ---- looking ----

bool FragmentSearch::due(int64_t now_ns) const {
  return in_window_.load() || due_ns_.load() <= now_ns ||
         ((in_pass_.load() || changed_.load()) && next_step_ns_.load() <= now_ns);
}

Result<std::optional<std::vector<FragmentRun>>> FragmentSearch::look(const ReadRows& rows, int64_t now_ns,
                                                                     bool noted_only) {
  if (!in_window_) {
    if (auto place = take(now_ns)) {
      window_ = *place;
      window_end_ = {place->inode, place->offset + kRunWindow};
      in_window_ = true;
    }
  }
  if (in_window_) return look_at_window(rows);
  if (!(in_pass_ || changed_) || next_step_ns_ > now_ns) return std::nullopt;
  next_step_ns_ = now_ns + kPassPause;
  if (noted_only) return std::nullopt;
  return step(rows, now_ns);
}

Result<std::vector<FragmentRun>> FragmentSearch::look_at_window(const ReadRows& rows) {
  in_window_ = false;
  EFS_ASSIGN(auto scan, find_fragments(rows, window_, window_end_, kLookExtents));
  if (scan.next) {
    window_ = *scan.next;
    in_window_ = true;
  }
  return std::move(scan.runs);
}

// From where the last pass ended, to the end, and from the beginning to there.
Result<std::vector<FragmentRun>> FragmentSearch::step(const ReadRows& rows, int64_t now_ns) {
  if (!in_pass_) {
    changed_ = false;
    in_pass_ = true;
    wrapped_ = false;
    pass_start_ = place_;
  }
  constexpr ExtentPlace kEnd{UINT64_MAX, UINT64_MAX};
  auto scan = find_fragments(rows, place_, wrapped_ ? pass_start_ : kEnd, kPassExtents);
  if (scan && scan->next) {
    place_ = *scan->next;
    return std::move(scan->runs);
  }
  place_ = wrapped_ ? pass_start_ : ExtentPlace{};
  if (wrapped_ || !scan) {  // rows that cannot be read are for others to report; a later pass tries again
    in_pass_ = false;
    next_step_ns_ = now_ns + kPassInterval;
  }
  wrapped_ = true;
  if (!scan) return fail(std::move(scan.error()));
  return std::move(scan->runs);
}

}  // namespace efs
