// A change that concerns many extents of a file: truncation, and what fallocate(2) does to a range.
//
// The owner makes it in steps, operations of its own that concern kExtentsPerStep extents each, and lets
// others go in between. What is left is the operation that was asked for: its result alone is the answer, and
// is remembered. Before each step it is tried on as good as nothing: who may not make it loses no byte, and
// one that was made meanwhile (a mount repeats what it has no answer to) does nothing any more.
//
// A truncation goes from the end of the file: what a crash leaves, and others see meanwhile, is a longer
// beginning of it. Of a range a part is done then. Who believes otherwise is told after the last step, before
// the answer, as of any change.
#include "peer/volume/sole_replica.h"
#include "peer/volume/state/view.h"

namespace efs {

namespace {
constexpr int64_t kPauseBetweenSteps = kMillisecond;  // who waits for the lock gets it

struct Range {
  InodeNumber inode = 0;  // 0: it concerns no extents, or few
  uint64_t from = 0, to = 0;
  bool truncates = false;
};

template <typename Body>
Range range_of(const Body& body) {
  if (const auto* set = std::get_if<SetAttributes>(&body); set && set->size)
    return {set->inode, *set->size, UINT64_MAX, true};
  const auto* allocate = std::get_if<Allocate>(&body);
  if (!allocate || allocate->length > kMaxFileSize || allocate->offset > kMaxFileSize - allocate->length)
    return {};
  return {allocate->inode, allocate->offset, allocate->offset + allocate->length, false};
}

// Where the next extents begin when one step does not get to the range's end; else, and if that cannot be
// read, 0.
uint64_t end_of_step(const ReadRows& rows, const Range& range) {
  const RowsView view(rows);
  const auto row = view.inode(range.inode);
  if (!row || !row->has_extents() || (range.truncates && row->size <= range.from)) return 0;
  uint64_t extents = 0, end = 0;
  const Status looked = view.extents(range.inode, range.from, [&](const ExtentRow& extent) {
    if (extent.start >= range.to) return false;
    if (++extents <= kExtentsPerStep) return true;
    end = extent.start;
    return false;
  });
  return looked ? end : 0;
}
}  // namespace

bool SoleReplica::takes_steps(const RequestBody& body) const {
  const Range range = range_of(body);
  return range.inode != 0 && end_of_step(*rows_->read(), range) != 0;
}

// With apply_mutex_ held.
bool SoleReplica::would_be_made(const Operation& operation, const Request& request) {
  if (closed_ || refused(operation, request)) return false;
  Operation trial = operation;
  if (auto* set = std::get_if<SetAttributes>(&trial.body)) set->size = kMaxFileSize;
  if (auto* allocate = std::get_if<Allocate>(&trial.body)) allocate->length = 1;
  Effects effects;
  const auto transaction = rows_->begin();
  const Reply reply = apply(*transaction, {rows_->applied_index() + 1, last_time_ns_}, trial, effects);
  return reply.code == Code::ok && !effects.repeated;
}

// With apply_mutex_ held. False: no more of it.
bool SoleReplica::step(const Operation& operation, const Request& request, OperationBody part) {
  if (!would_be_made(operation, request)) return false;
  const InodeNumber inode = range_of(part).inode;
  if (const auto* set = std::get_if<SetAttributes>(&part)) {
    const auto row = RowsView(*rows_->read()).inode(inode);
    if (!row) return false;
    if (row->size <= *set->size) return true;  // others have cut it, or these extents lie behind its end
  }
  if (propose_house(std::move(part), operation.session).code != Code::ok) return false;
  leases_->overtake(operation.session, {{inode, true, 0, {}}}, false);
  return true;
}

void SoleReplica::pause_between_steps() {
  std::unique_lock lock(pause_mutex_);
  pause_.wait_for(lock, std::chrono::nanoseconds(kPauseBetweenSteps), [&] { return retired_.load(); });
}

// Leaves of the operation what comes last. An error: it is not to be proposed.
Status SoleReplica::take_steps(Operation& operation, const Request& request, Changes& changed) {
  const Range range = range_of(operation.body);
  if (range.inode == 0) return {};
  std::vector<uint64_t> ends;
  for (Range rest = range; (rest.from = end_of_step(*rows_->read(), rest)) != 0;) {
    if (ends.empty()) {  // the rest is not even looked at for who may not
      std::lock_guard lock(apply_mutex_);
      if (!would_be_made(operation, request)) return {};
    }
    ends.push_back(rest.from);
  }
  auto* allocate = std::get_if<Allocate>(&operation.body);
  for (size_t done = 0; done < ends.size(); ++done) {
    if (done > 0) pause_between_steps();
    if (stopped_for(request.session)) return fail(Code::not_owner);
    EFS_TRY(make_room_in_memory());
    OperationBody part;
    if (range.truncates) {
      SetAttributes set;
      set.inode = range.inode;
      set.size = ends[ends.size() - 1 - done];
      part = set;
    } else {
      Allocate one = *allocate;
      one.length = ends[done] - one.offset;
      one.keep_size = true;
      part = one;
    }
    std::lock_guard lock(apply_mutex_);
    if (!step(operation, request, std::move(part))) return {};
    if (changed.rows.empty()) changed.rows.push_back({range.inode, true, 0, {}});
    if (allocate) {
      allocate->length -= ends[done] - allocate->offset;
      allocate->offset = ends[done];
    }
  }
  return {};
}

}  // namespace efs
