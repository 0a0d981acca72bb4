// Writing: write -> dirty_ -> (cut) queue_ -> Write at the owner -> kept_ until durable.
// A Write that fails for now goes back to waiting in the queue; one that fails for good is dropped and leaves
// its error for every handle; see open_file.h.
#include "vfs/open_file.h"

#include <algorithm>

#include "peer/base/hash.h"
#include "vfs/limits.h"

namespace efs {

bool is_transient(Code code) {
  switch (code) {
    case Code::unreachable:
    case Code::timed_out:
    case Code::interrupted:
    case Code::cancelled:
    case Code::closed:
    case Code::not_owner:
    case Code::overloaded:
    case Code::recalled:
    case Code::expired:
      return true;
    default:
      return false;
  }
}

OpenFile::OpenFile(FileContext& context, std::shared_ptr<VolumeClient> client, InodeNumber inode)
    : context_(context),
      client_(std::move(client)),
      inode_(inode),
      keeps_(!client_->local()),
      read_ahead_(context.read_ahead_bytes) {}

OpenFile::~OpenFile() {
  context_.dirty_bytes.fetch_sub(file_bytes());
  while (!kept_.empty()) drop_kept(kept_.begin());
}

// ---- from the program to the queue ----

void OpenFile::write(const Credentials& who, uint64_t offset, ByteView bytes, Mode mode, Done done) {
  if (offset > kMaxFileSize || bytes.size() > kMaxFileSize - offset) return done(Code::too_large);
  const bool may_wait = mode != Mode::buffered;
  if (!may_wait) ask_to_buffer();
  bool wait = may_wait, for_room = false;
  uint64_t errors = 0;
  {
    std::unique_lock lock(mutex_);
    wait |= !may_buffer_;
    if (context_.dirty_bytes.load() > kDirtyHardBytes && file_bytes() != 0) {
      lock.unlock();
      return write_after_flush(who, offset, to_bytes(bytes), mode, std::move(done));
    }
    if (pending_) cut_all();  // these bytes come after them
    const uint64_t before = dirty_.bytes();
    if (dirty_.empty()) dirty_since_ns_ = context_.background.clock().now_ns();
    dirty_.write(offset, bytes);
    context_.dirty_bytes.fetch_add(dirty_.bytes() - before);
    writer_ = who;
    last_write_wall_ns_ = context_.background.clock().wall_ns();
    read_ahead_.reset();
    wait |= write_through_ || context_.dirty_bytes.load() > kDirtyMountBytes;
    for_room = !wait && file_bytes() > kDirtyFileBytes;
    errors = errors_;
    dirty_late_ |= !wait;
    for (uint64_t at = offset; !wait && at < offset + bytes.size(); at += kPieceBytes - at % kPieceBytes) {
      if (auto whole = dirty_.whole_piece(at); whole != dirty_.last_end()) cut_piece(whole);
    }
    arm(kDirtyAge);
  }
  if (!wait && !for_room) {
    done(Code::ok);
    return pump();
  }
  auto waited = [self = shared_from_this(), errors, done = std::move(done)](Code code) {
    if (code == Code::ok) {
      std::lock_guard lock(self->mutex_);
      if (self->errors_ != errors) code = self->error_;
    }
    done(code);
  };
  if (for_room) return wait_for_room(std::move(waited));
  if (mode == Mode::durable) return sync(who, std::move(waited));
  flush(std::move(waited));
}

// Until half of what is here has gone: what is left keeps the way to the owner busy meanwhile.
void OpenFile::wait_for_room(Done done) {
  uint64_t number = 0;
  {
    std::lock_guard lock(mutex_);
    const uint64_t half = kDirtyFileBytes / 2;
    if (dirty_.bytes() > half) cut_all();
    uint64_t behind = dirty_.bytes();
    for (auto item = queue_.rbegin(); item != queue_.rend() && number == 0; ++item) {
      behind += item->bytes.size();
      if (behind > half) number = item->number;
    }
  }
  wait_for(number, std::move(done));
}

// Others hold what there is room for, or this file's owner is away: its own bytes go first.
void OpenFile::write_after_flush(const Credentials& who, uint64_t offset, Bytes bytes, Mode mode, Done done) {
  flush([self = shared_from_this(), who, offset, bytes = std::move(bytes), mode,
         done = std::move(done)](Code code) mutable {
    if (code != Code::ok) return done(code);
    self->write(who, offset, bytes, mode, std::move(done));
  });
}

// The volume is asked with no lock held; what is called back meanwhile counts.
bool OpenFile::ask_to_buffer() {
  uint64_t ended = 0;
  {
    std::lock_guard lock(mutex_);
    if (may_buffer_) return true;
    ended = buffering_ended_;
  }
  const bool may = client_->may_buffer(inode_);
  std::lock_guard lock(mutex_);
  if (buffering_ended_ == ended) may_buffer_ = may;
  return may_buffer_;
}

void OpenFile::stop_buffering(Done done) {
  {
    std::lock_guard lock(mutex_);
    may_buffer_ = false;
    ++buffering_ended_;
  }
  flush(std::move(done));
}

void OpenFile::cut_piece(Extents::Map::iterator extent) {
  const uint64_t offset = extent->first;
  Item& item = queue_.emplace_back();
  item.number = next_number_++;
  item.offset = offset;
  item.bytes = dirty_.take(extent);
  item.who = writer_;
  item.mtime_ns = last_write_wall_ns_;
  item.late = dirty_late_;
  queued_bytes_ += item.bytes.size();
}

void OpenFile::cut_all() {
  while (!dirty_.empty()) cut_piece(dirty_.begin());
  dirty_late_ = false;
  if (pending_) cut_attributes();
}

// With the last bytes before them, if those are still here and the same user's.
void OpenFile::cut_attributes() {
  Item* last = queue_.empty() ? nullptr : &queue_.back();
  const bool alone = last == nullptr || last->in_flight || last->attributes ||
                     last->who.uid != pending_who_.uid || last->who.gid != pending_who_.gid;
  if (alone) {
    last = &queue_.emplace_back();
    last->number = next_number_++;
  }
  last->who = pending_who_;
  last->late = true;
  last->attributes = *std::exchange(pending_, std::nullopt);
  last->attributes->inode = inode_;
}

void OpenFile::append(const Credentials& who, Bytes bytes, bool durable, bool in_pages,
                      const VolumeClient::Options& options, AppendDone done) {
  flush([self = shared_from_this(), who, bytes = std::move(bytes), durable, in_pages, options,
         done = std::move(done)](Code code) mutable {
    if (code != Code::ok) return done(code, 0);
    Write request;
    request.inode = self->inode_;
    request.append = true;
    request.durable = durable;
    request.crc = crc32c(bytes);
    Item item;
    if (self->keeps_) item.bytes = bytes;
    item.who = who;
    self->client_->call(who, request, std::move(bytes), options,
                        [self, item = std::move(item), durable, in_pages,
                         done = std::move(done)](VolumeAnswer answer) mutable {
                          if (answer.reply.code == Code::ok) {
                            std::lock_guard lock(self->mutex_);
                            self->note_verifier(answer.reply.verifier);
                            self->note_attributes(answer.reply.attributes);
                            if (!in_pages) self->base_version_ = self->own_changes_ = self->own_version_ = 0;
                            self->read_ahead_.reset();
                            item.number = self->next_number_++;
                            item.offset = answer.reply.offset;
                            if (!durable) self->keep(item, answer.reply);
                          }
                          done(answer.reply.code, answer.reply.offset);
                        });
  });
}

// ---- from the queue to the owner ----

namespace {
bool is_small(ByteView bytes) {
  return bytes.size() <= kScatteredPieceBytes;
}
}  // namespace

bool OpenFile::may_share(const Item& item) {
  return is_small(item.bytes) && !item.attributes;
}

// `bytes`: of those that it would join.
bool OpenFile::joins(const Item& first, const Item& item, uint64_t bytes) {
  return may_share(first) && may_share(item) && bytes + item.bytes.size() <= kMaxWrite &&
         item.durable == first.durable && item.late == first.late && item.who.uid == first.who.uid &&
         item.who.gid == first.who.gid;
}

// What is to go next: one item, and with a small one others that may go now too. None overlaps an earlier
// one of the queue.
std::vector<OpenFile::Item*> OpenFile::next_sendable(int64_t now_ns) {
  std::vector<Item*> found;
  if (in_flight_ >= kWritesInFlight) return found;
  uint64_t bytes = 0, highest = 0;  // of the items before: where the last of them ends
  for (auto item = queue_.begin(); item != queue_.end(); ++item) {
    if (item->attributes && item != queue_.begin()) break;
    const uint64_t end = item->offset + item->bytes.size();
    const bool free =
        !item->in_flight && item->retry_at_ns <= now_ns &&
        (item->offset >= highest || std::none_of(queue_.begin(), item, [&](const Item& earlier) {
           return earlier.offset < end && item->offset < earlier.offset + earlier.bytes.size();
         }));
    highest = std::max(highest, end);
    if (free && (found.empty() || joins(*found.front(), *item, bytes))) {
      found.push_back(&*item);
      bytes += item->bytes.size();
      if (!may_share(*item) || found.size() == kWritePieces) break;
    }
    if (item->attributes) break;  // what comes after it waits
  }
  std::sort(found.begin(), found.end(), [](Item* a, Item* b) { return a->offset < b->offset; });
  return found;
}

// All that is dirty goes in one request.
bool OpenFile::fits_one_request() const {
  if (dirty_.map().size() == 1) return true;
  return dirty_.map().size() <= kWritePieces && dirty_.bytes() <= kMaxWrite &&
         std::all_of(dirty_.map().begin(), dirty_.map().end(),
                     [](auto& one) { return is_small(one.second); });
}

// Several threads may send at once, each other items: where the owner is this process, that is how the next
// is hashed while the one before is being written. An answer that comes inside the call leaves the rest to
// the loop that made it.
void OpenFile::pump() {
  thread_local const OpenFile* sending = nullptr;
  if (sending == this) return;
  const OpenFile* const outer = std::exchange(sending, this);
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto items = next_sendable(context_.background.clock().now_ns());
    if (items.empty()) break;
    send(items, lock);
  }
  lock.unlock();
  sending = outer;
}

void OpenFile::send(const std::vector<Item*>& items, std::unique_lock<std::mutex>& lock) {
  ++in_flight_;
  Payload payload;
  Bytes together;
  WriteScattered scattered;
  std::vector<uint64_t> numbers;
  for (Item* item : items) {
    item->in_flight = true;
    numbers.push_back(item->number);
    if (items.size() == 1) break;
    scattered.pieces.push_back({item->offset, uint32_t(item->bytes.size())});
    scattered.mtime_ns = std::max(scattered.mtime_ns, item->mtime_ns);
    efs::append(together, item->bytes);
  }
  std::sort(numbers.begin(), numbers.end());
  const Item& first = *items.front();
  RequestBody body = first.attributes.value_or(SetAttributes{});
  if (items.size() > 1) {
    scattered.inode = inode_;
    scattered.durable = first.durable;
    if (keeps_) scattered.crc = crc32c(together);
    body = std::move(scattered);
    payload = std::move(together);
  } else if (!first.bytes.empty()) {
    Write write;
    write.inode = inode_;
    write.offset = first.offset;
    write.durable = first.durable;
    write.mtime_ns = first.mtime_ns;
    write.attributes = first.attributes;
    body = write;
  }
  if (items.size() == 1) payload = first.bytes;
  const Credentials who = first.who;
  VolumeClient::Options options;
  options.late = first.late;
  lock.unlock();
  if (auto* write = std::get_if<Write>(&body); write && keeps_) write->crc = crc32c(payload);
  client_->call(who, std::move(body), std::move(payload), options,
                [self = shared_from_this(), numbers = std::move(numbers)](VolumeAnswer answer) {
                  Ready ready;
                  {
                    std::lock_guard guard(self->mutex_);
                    self->finish_request(numbers, answer, ready);
                  }
                  for (auto& task : ready) task();
                  self->pump();
                });
  lock.lock();
}

// The items of one request, by their numbers in order.
void OpenFile::finish_request(const std::vector<uint64_t>& numbers, VolumeAnswer& answer, Ready& ready) {
  --in_flight_;
  const Code code = answer.reply.code;
  const bool later = is_transient(code);
  if (code == Code::ok) {
    write_through_ = false;
    note_verifier(answer.reply.verifier);
    note_attributes(answer.reply.attributes);
  }
  for (auto item = queue_.begin(); item != queue_.end();) {
    if (!std::binary_search(numbers.begin(), numbers.end(), item->number)) {
      ++item;
    } else if (later) {
      item->in_flight = false;
      item->durable = false;
      item->retry_at_ns = context_.background.clock().now_ns() + kRetryAfter;
      ++item;
    } else if (code == Code::io && item->attributes && !item->bytes.empty()) {
      // Others may have set attributes since, and nobody else have written: the bytes alone.
      context_.pending_attributes.fetch_sub(1);
      item->attributes.reset();
      item->in_flight = item->durable = false;
      ++item;
    } else {
      take_answer(*item, answer);
      // There may have been no room for the bytes: attributes that came with them are set alone.
      const bool again = code == Code::no_space && item->attributes && !item->bytes.empty();
      if (again) {
        context_.pending_attributes.fetch_add(1);
        item->bytes.clear();
        item->in_flight = item->durable = false;
        ++item;
      } else {
        item = queue_.erase(item);
      }
    }
  }
  if (later) {
    arm(kRetryAfter);
    for (Waiter& waiter : waiters_) {
      if (waiter.number >= numbers.front()) waiter.code = code;
    }
    return fail_waiters(context_.background.clock().now_ns(), ready);
  }
  if (code != Code::ok) {
    if (context_.log && !write_through_)
      context_.log->warning("volume {}: what was written here to inode {} is lost: {}", client_->number(),
                            inode_, to_text(Error{code, answer.reply.message}));
    ++errors_;
    error_ = code;
    write_through_ = true;
    base_version_ = own_version_ = 0;  // the kernel's pages have bytes that the file will never have
    if (context_.notifier) context_.notifier->inode(node(), true);
  }
  finish_waiters(ready);
}

void OpenFile::take_answer(Item& item, const VolumeAnswer& answer) {
  queued_bytes_ -= item.bytes.size();
  context_.dirty_bytes.fetch_sub(item.bytes.size());
  if (item.attributes) context_.pending_attributes.fetch_sub(1);
  if (answer.reply.code != Code::ok) return;
  if (!item.durable) return keep(item, answer.reply);
  note_durable(item.covers, item.heard);
}

void OpenFile::finish_waiters(Ready& ready) {
  const uint64_t oldest = queue_.empty() ? UINT64_MAX : queue_.front().number;
  std::erase_if(waiters_, [&](Waiter& waiter) {
    if (waiter.number >= oldest) return false;
    ready.push_back([done = std::move(waiter.done)] { done(Code::ok); });
    return true;
  });
}

// What failed for now is tried again: who waits is told only when it has waited for long enough.
void OpenFile::fail_waiters(int64_t now_ns, Ready& ready) {
  std::erase_if(waiters_, [&](Waiter& waiter) {
    if (waiter.deadline_ns == 0 || waiter.deadline_ns > now_ns) return false;
    for (Item& item : queue_) item.late |= item.number <= waiter.number;  // it goes on without them
    ready.push_back([done = std::move(waiter.done), code = waiter.code] { done(code); });
    return true;
  });
}

void OpenFile::flush(Done done) {
  {
    std::lock_guard lock(mutex_);
    cut_all();
    for (Item& item : queue_) item.retry_at_ns = 0;
  }
  wait_for_queue(std::move(done));
}

void OpenFile::wait_for_queue(Done done) {
  wait_for(UINT64_MAX, std::move(done));
}

void OpenFile::wait_for(uint64_t number, Done done) {
  Code code = Code::ok;
  {
    std::lock_guard lock(mutex_);
    if (ended_) {
      code = Code::closed;
    } else if (!queue_.empty() && queue_.front().number <= number) {
      const int64_t timeout_ns = context_.unreachable_timeout_ns;
      const int64_t deadline_ns = timeout_ns == 0 ? 0 : context_.background.clock().now_ns() + timeout_ns;
      waiters_.push_back(
          {std::min(number, next_number_ - 1), deadline_ns, Code::unreachable, std::move(done)});
      arm(kRetryAfter);
      done = nullptr;
    }
  }
  if (done) return done(code);
  pump();
}

// Those who wait keep the mount; and the kernel does not release what is open at its end.
void OpenFile::end() {
  std::vector<Waiter> waiters;
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    waiters.swap(waiters_);
    context_.dirty_bytes.fetch_sub(file_bytes());
    dirty_ = {};
    queue_.clear();
    queued_bytes_ = 0;
    while (!kept_.empty()) drop_kept(kept_.begin());
  }
  for (Waiter& waiter : waiters) waiter.done(Code::closed);
}

void OpenFile::arm(int64_t delay_ns) {
  const int64_t due_ns = context_.background.clock().now_ns() + delay_ns;
  if (due_ns_ != 0 && due_ns_ <= due_ns) return;
  due_ns_ = due_ns;
  context_.background.after(delay_ns, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->tick();
  });
}

void OpenFile::tick() {
  Ready ready;
  {
    std::lock_guard lock(mutex_);
    const int64_t now_ns = context_.background.clock().now_ns();
    if (due_ns_ > now_ns) return;
    due_ns_ = 0;
    drop_safe();
    fail_waiters(now_ns, ready);
    const bool buffered = !dirty_.empty() || pending_;
    if (buffered && now_ns - dirty_since_ns_ >= kDirtyAge) cut_all();
    if (!dirty_.empty() || pending_) {
      arm(std::max<int64_t>(dirty_since_ns_ + kDirtyAge - now_ns, kMillisecond));
    } else if (!queue_.empty() || !kept_.empty() || unkept_upto_ != 0) {
      arm(kRetryAfter);
    }
  }
  for (auto& task : ready) task();
  pump();
}

uint32_t OpenFile::mode() const {
  std::lock_guard lock(mutex_);
  if (latest_.inode == 0) return 07777;
  return waits_to_set() ? with_buffered().mode : latest_.mode;
}

bool OpenFile::may_have_capability() const {
  std::lock_guard lock(mutex_);
  return (latest_.inode == 0 || latest_.xattr_bytes != 0) && !has_no_capability();
}

bool OpenFile::clean() const {
  std::lock_guard lock(mutex_);
  return dirty_.empty() && queue_.empty() && !pending_;
}

OpenFile::Undurable OpenFile::let_go() {
  std::lock_guard lock(mutex_);
  drop_safe();
  Undurable left{verifier_, unkept_upto_, lost_};
  while (!kept_.empty()) {
    left.logged = std::max(left.logged, kept_.front().logged);
    drop_kept(kept_.begin());
  }
  unkept_upto_ = left.logged;
  return left;
}

void OpenFile::note_undurable(const Undurable& before) {
  std::lock_guard lock(mutex_);
  verifier_ = before.verifier;
  unkept_upto_ = before.lost ? 0 : before.logged;
  lost_ |= before.lost;
  arm(kRetryAfter);
}

uint64_t OpenFile::error_mark() const {
  std::lock_guard lock(mutex_);
  return errors_;
}

Code OpenFile::take_error(uint64_t& seen) {
  std::lock_guard lock(mutex_);
  if (seen == errors_) return Code::ok;
  seen = errors_;
  return error_;
}

}  // namespace efs
