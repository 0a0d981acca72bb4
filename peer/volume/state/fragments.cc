#include "peer/volume/state/fragments.h"

#include <algorithm>

#include "peer/base/hash.h"
#include "peer/volume/state/change.h"

namespace efs {

namespace {

using Extents = std::span<const ExtentRow>;

uint64_t length_of(const ExtentRow& extent) {
  return extent.end - extent.start;
}

class Finder {
 public:
  Finder(const ReadRows& rows, size_t limit) : view_(rows), limit_(limit) {}
  Result<FragmentScan> find(ExtentPlace from, ExtentPlace until);

 private:
  struct Sum {
    uint64_t bytes = 0, largest = 0, given_back = 0;
  };
  bool continues(const ExtentRow& extent) const;
  Status finish_group();
  Status judge(Extents run, std::span<const uint64_t> given_back);
  void judge_waste(Extents run, std::span<const uint64_t> given_back);
  Sum sum(Extents run, std::span<const uint64_t> given_back) const;
  Result<uint64_t> given_back_by(const ExtentRow& extent) const;
  void take(Extents run) { out_.runs.push_back({inode_, {run.begin(), run.end()}}); }

  RowsView view_;
  const size_t limit_;
  FragmentScan out_;
  InodeNumber inode_ = 0;
  std::vector<ExtentRow> group_;  // touching, of inode_, in one window
};

bool Finder::continues(const ExtentRow& extent) const {
  return !group_.empty() && extent.start == group_.back().end &&
         extent.start / kRunWindow == group_.front().start / kRunWindow &&
         extent.end - group_.front().start <= kRunWindow && group_.size() < kRunMost;
}

Result<FragmentScan> Finder::find(ExtentPlace from, ExtentPlace until) {
  Status status;
  if (from.offset == UINT64_MAX) from = {from.inode + 1, 0};
  // Groups are judged outside of the scan, whole: one that the limit cuts is for the next time.
  std::vector<std::pair<InodeNumber, ExtentRow>> found;
  EFS_TRY(view_.rows().scan(kExtents, pair_key(from.inode, from.offset + 1),
                            [&](std::string_view key, std::string_view value) {
                              auto extent = ExtentRow::decode(key, value);
                              if (!extent) {
                                status = fail(std::move(extent.error()));
                                return false;
                              }
                              const InodeNumber inode = leading_number(key);
                              if (ExtentPlace{inode, extent->start} >= until) return false;
                              if (found.size() == limit_) {
                                out_.next = ExtentPlace{inode, extent->start};
                                return false;
                              }
                              found.emplace_back(inode, *extent);
                              return true;
                            }));
  EFS_TRY(status);
  out_.extents = found.size();
  ExtentPlace last;
  for (const auto& [inode, extent] : found) {
    if (inode != inode_ || !continues(extent)) {
      EFS_TRY(finish_group());
      inode_ = inode;
      last = {inode, extent.start};
    }
    if (extent.chunk) {
      group_.push_back(extent);
    } else {
      EFS_TRY(finish_group());
    }
  }
  const bool cut = out_.next && out_.next->inode == inode_ && last > from && !group_.empty() &&
                   out_.next->offset == group_.back().end && group_.size() < kRunMost;
  if (cut) {
    out_.next = last;
    return std::move(out_);
  }
  EFS_TRY(finish_group());
  return std::move(out_);
}

Result<uint64_t> Finder::given_back_by(const ExtentRow& extent) const {
  EFS_ASSIGN(auto found, view_.rows().get(kChunks, id_key(*extent.chunk)));
  if (!found) return fail(Code::corrupt, "an extent names a chunk that the volume does not know");
  EFS_ASSIGN(auto chunk, ChunkRow::decode(*found));
  return chunk.length / std::max<uint64_t>(chunk.references, 1);
}

Status Finder::finish_group() {
  std::vector<ExtentRow> group;
  group.swap(group_);
  if (group.empty()) return {};
  std::vector<uint64_t> given_back;
  for (const ExtentRow& extent : group) {
    const bool same_chunk = !given_back.empty() && group[given_back.size() - 1].chunk == extent.chunk;
    uint64_t part = same_chunk ? given_back.back() : 0;
    if (!same_chunk) {
      EFS_ASSIGN(part, given_back_by(extent));
    }
    given_back.push_back(part);
  }
  const size_t before = out_.runs.size();
  EFS_TRY(judge(group, given_back));
  if (out_.runs.size() == before) return {};
  EFS_ASSIGN(auto row, view_.find_inode(inode_));
  if (!row || !row->is_regular() || row->nlink == 0) out_.runs.resize(before);
  return {};
}

Finder::Sum Finder::sum(Extents run, std::span<const uint64_t> given_back) const {
  Sum out;
  for (size_t i = 0; i < run.size(); ++i) {
    out.bytes += length_of(run[i]);
    out.largest = std::max(out.largest, length_of(run[i]));
    out.given_back += given_back[i];
  }
  return out;
}

Status Finder::judge(Extents run, std::span<const uint64_t> given_back) {
  if (run.empty()) return {};
  const Sum all = sum(run, given_back);
  if (run.size() < kRunFewest || all.bytes <= all.largest) {
    judge_waste(run, given_back);
    return {};
  }
  if (all.largest <= all.bytes / 2) {
    if (all.bytes / run.size() <= kFragmentBytes && all.given_back >= all.bytes / 4 * 3) {
      take(run);
    } else {
      judge_waste(run, given_back);
    }
    return {};
  }
  const auto largest = std::max_element(run.begin(), run.end(), [](const ExtentRow& a, const ExtentRow& b) {
    return length_of(a) < length_of(b);
  });
  const size_t at = size_t(largest - run.begin());
  EFS_TRY(judge(run.first(at), given_back.first(at)));
  judge_waste(run.subspan(at, 1), given_back.subspan(at, 1));
  return judge(run.subspan(at + 1), given_back.subspan(at + 1));
}

void Finder::judge_waste(Extents run, std::span<const uint64_t> given_back) {
  size_t from = 0;
  for (size_t i = 0; i <= run.size(); ++i) {
    if (i < run.size() && given_back[i] >= 2 * length_of(run[i])) continue;
    const Sum wasteful = sum(run.subspan(from, i - from), given_back.subspan(from, i - from));
    if (wasteful.given_back >= wasteful.bytes + kWorthBytes) take(run.subspan(from, i - from));
    from = i + 1;
  }
}

}  // namespace

Result<FragmentScan> find_fragments(const ReadRows& rows, ExtentPlace from, ExtentPlace until, size_t limit) {
  return Finder(rows, limit).find(from, until);
}

Id digest_of(const std::vector<ExtentRow>& extents) {
  std::string all;
  for (const ExtentRow& extent : extents) {
    all += number_key(extent.end);
    all += extent.encode();
  }
  return blake2b(view(all));
}

Status OperationRun::apply(const ReplaceExtents& request) {
  EFS_ASSIGN(InodeRow * row, edit(request.inode));
  if (request.start >= request.end || request.end - request.start > kRunWindow || !row->is_regular())
    return fail(Code::invalid_argument);
  std::vector<ExtentRow> extents;
  EFS_TRY(view_.extents(request.inode, request.start, [&](const ExtentRow& extent) {
    if (extent.start >= request.end || extents.size() == kRunMost) return false;
    extents.push_back(extent);
    return true;
  }));
  const bool same = !extents.empty() && extents.front().start == request.start &&
                    extents.back().end == request.end && digest_of(extents) == request.was;
  if (!same) return fail(Code::conflict);
  EFS_TRY(name_chunk(request.chunk, uint32_t(request.end - request.start), 1));
  EFS_TRY(cut(request.inode, *row, request.start, request.end));
  put_extent(request.inode, *row, {request.start, request.end, request.chunk, 0});
  return {};
}

}  // namespace efs
