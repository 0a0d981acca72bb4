// Durability: what the owner has answered but may lose, and its attributes and versions.
//
// fsync: everything queued is written, then Sync; if the owner restarted in between, what was kept is
// written again and Sync repeated.
#include <sys/stat.h>

#include <algorithm>

#include "vfs/limits.h"
#include "vfs/open_file.h"

namespace efs {

namespace {
bool is_empty(const SetAttributes& change) {
  return !change.mode && !change.uid && !change.gid && !change.atime_ns && !change.mtime_ns;
}
void merge(SetAttributes& into, const SetAttributes& later) {
  if (later.mode) into.mode = later.mode;
  if (later.uid) into.uid = later.uid;
  if (later.gid) into.gid = later.gid;
  if (later.atime_ns) into.atime_ns = later.atime_ns;
  if (later.mtime_ns) into.mtime_ns = later.mtime_ns;
}
// Of what is repeated, what a later change has set.
void leave_out(SetAttributes& from, const SetAttributes& later) {
  if (later.mode || later.uid || later.gid) from.mode = from.uid = from.gid = std::nullopt;
  if (later.atime_ns) from.atime_ns.reset();
  if (later.mtime_ns) from.mtime_ns.reset();
}
// chown(2): the set-id bits go.
uint32_t without_set_id(uint32_t mode) {
  if (S_ISDIR(mode)) return mode;
  return mode & ~((mode & S_IXGRP) != 0 ? S_ISUID | S_ISGID : uint32_t(S_ISUID));
}
// Written by several, perhaps, and each with their own rights.
struct Again {
  std::vector<std::pair<Credentials, Extents>> by_whom;
  Extents& of(const Credentials& who) {
    for (auto& [by, extents] : by_whom) {
      if (by.uid == who.uid && by.gid == who.gid) return extents;
    }
    return by_whom.emplace_back(who, Extents{}).second;
  }
  void cut(uint64_t offset, uint64_t length) {
    for (auto& [by, extents] : by_whom) extents.cut(offset, length);
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const auto& [by, extents] : by_whom) sum += extents.bytes();
    return sum;
  }
};
uint64_t blocks_of(uint64_t bytes) {
  return block_end(bytes) / 512;
}
void show(const SetAttributes& change, Attributes& shown) {
  if (change.uid) shown.uid = *change.uid;
  if (change.gid) shown.gid = *change.gid;
  if (change.uid || change.gid) shown.mode = without_set_id(shown.mode);
  if (change.mode) shown.mode = (shown.mode & ~07777u) | (*change.mode & 07777);
  if (change.atime_ns) shown.atime_ns = *change.atime_ns;
  if (change.mtime_ns) shown.mtime_ns = *change.mtime_ns;
}
}  // namespace

void OpenFile::keep(Item& item, const Reply& reply) {
  ++answered_;
  if (!keeps_ || (item.bytes.empty() && !item.attributes)) return;
  drop_safe();
  arm(kRetryAfter);
  if (context_.kept_bytes.load() + item.bytes.size() > kKeptMountBytes) {
    unkept_upto_ = std::max(unkept_upto_, reply.logged);
    return;
  }
  context_.kept_bytes.fetch_add(item.bytes.size());
  kept_.push_back({item.number, item.offset, std::move(item.bytes), reply.logged, reply.verifier,
                   item.attributes, item.who});
}

void OpenFile::drop_kept(std::deque<Kept>::iterator kept) {
  context_.kept_bytes.fetch_sub(kept->bytes.size());
  kept_.erase(kept);
}

// What its owner has on disk by now, or has found again after it restarted.
void OpenFile::drop_safe() {
  if (kept_.empty() && unkept_upto_ == 0) return;
  const OwnersLog log = client_->owners_log();
  while (!kept_.empty() && kept_.front().logged <= log.safe(kept_.front().verifier)) drop_kept(kept_.begin());
  if (unkept_upto_ <= log.safe(verifier_)) unkept_upto_ = 0;
}

void OpenFile::note_verifier(uint64_t verifier) {
  if (verifier == 0 || verifier == verifier_) return;
  drop_safe();
  const bool restarted = verifier_ != 0;
  verifier_ = verifier;
  if (!restarted) return;
  for (Item& item : queue_) item.covers = 0;
  send_kept_again(verifier);
}

// What is newer than a kept piece (later ones, the queue, dirty bytes) must win over it.
void OpenFile::send_kept_again(uint64_t verifier) {
  if (std::exchange(unkept_upto_, 0) != 0) lost_ = true;
  Again again;
  SetAttributes attributes;
  Credentials who;
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    again.cut(kept->offset, kept->bytes.size());
    if (kept->verifier == verifier) {
      ++kept;
      continue;
    }
    if (!kept->bytes.empty()) again.of(kept->who).write(kept->offset, kept->bytes);
    if (kept->attributes) {
      merge(attributes, *kept->attributes);
      who = kept->who;
    }
    context_.kept_bytes.fetch_sub(kept->bytes.size());
    kept = kept_.erase(kept);
  }
  for (const Item& item : queue_) again.cut(item.offset, item.bytes.size());
  for (const auto& [offset, bytes] : dirty_.map()) again.cut(offset, bytes.size());
  for (const Item& item : queue_) {
    if (!item.bytes.empty()) attributes.mtime_ns.reset();
    if (!item.attributes) continue;
    leave_out(attributes, *item.attributes);
    if (!item.attributes->mtime_ns || again.bytes() == 0) continue;
    if (is_empty(attributes)) who = item.who;
    attributes.mtime_ns = item.attributes->mtime_ns;  // what is sent again comes after it
  }
  if (!dirty_.empty()) attributes.mtime_ns.reset();
  if (pending_) leave_out(attributes, *pending_);
  context_.dirty_bytes.fetch_add(again.bytes());
  const uint64_t first = next_number_;
  for (auto& [by, extents] : again.by_whom) {
    while (!extents.empty()) {
      Item& item = queue_.emplace_back();
      item.number = next_number_++;
      item.offset = extents.begin()->first;
      item.bytes = extents.take(extents.begin());
      item.who = by;
      item.mtime_ns = last_write_wall_ns_;
      item.late = true;
      queued_bytes_ += item.bytes.size();
    }
  }
  if (!is_empty(attributes)) {
    Item& item = queue_.emplace_back();
    item.number = next_number_++;
    item.who = who;
    item.late = true;
    item.attributes = attributes;
    item.attributes->inode = inode_;
    context_.pending_attributes.fetch_add(1);
  }
  if (next_number_ != first) resent_upto_ = next_number_ - 1;
  latest_ = {};  // the owner may be a moment younger than what it said before
  base_version_ = own_version_ = 0;
  arm(kMillisecond);
}

void OpenFile::owner_restarted(VolumeClient::Resending resending) {
  if (!keeps_) return;
  {
    std::lock_guard lock(mutex_);
    latest_ = {};  // as in send_kept_again(), of what was only read, too
    if (verifier_ == 0) return;
    note_verifier(client_->owners_log().verifier);
    if (!ended_ && !queue_.empty() && queue_.front().number <= resent_upto_)
      waiters_.push_back({resent_upto_, 0, Code::unreachable, [resending](Code) {}});
  }
  pump();
}

void OpenFile::forget_written(uint64_t offset, uint64_t length) {
  std::lock_guard lock(mutex_);
  read_ahead_.reset();
  const uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
  std::deque<Kept> rest;
  for (Kept& kept : kept_) {
    if (kept.offset >= end || kept.offset + kept.bytes.size() <= offset) {
      rest.push_back(std::move(kept));
      continue;
    }
    Extents left;
    left.write(kept.offset, kept.bytes);
    left.cut(offset, end - offset);
    for (const auto& [at, bytes] : left.map())
      rest.push_back({kept.number, at, bytes, kept.logged, kept.verifier, {}, kept.who});
    if (kept.attributes)
      rest.push_back({kept.number, 0, {}, kept.logged, kept.verifier, kept.attributes, std::move(kept.who)});
    context_.kept_bytes.fetch_sub(kept.bytes.size());
    context_.kept_bytes.fetch_add(left.bytes());
  }
  kept_ = std::move(rest);
}

void OpenFile::sync(const Credentials& who, Done done) {
  bool asked = false;  // a Write is itself durable, and with it is all that the owner has answered anybody
  {
    std::lock_guard lock(mutex_);
    // One request: it is itself asked to be durable, and with it is what the owner answered before.
    const bool first = queue_.empty() && fits_one_request() && !lost_;
    cut_all();
    const bool alone = first && std::none_of(queue_.begin(), queue_.end(), [&](const Item& item) {
                         return item.attributes && (item.bytes.empty() || queue_.size() > 1);
                       });
    for (Item& item : queue_) {
      item.retry_at_ns = 0;
      if (!alone) continue;
      item.durable = asked = true;
      item.covers = answered_;
      item.heard = client_->hears_of(inode_);
    }
  }
  sync_round(who, asked, 0, std::move(done));
}

void OpenFile::sync_round(const Credentials& who, bool asked, unsigned round, Done done) {
  wait_for_queue(
      [self = shared_from_this(), who, asked, round, done = std::move(done)](Code written) mutable {
        if (written != Code::ok) return done(written);
        uint64_t upto = 0, answered = 0, verifier = 0;
        bool heard = false, needed = true, resending = false;
        {
          std::lock_guard lock(self->mutex_);
          resending = !self->queue_.empty() && self->queue_.front().number <= self->resent_upto_;
          upto = self->queue_.empty() ? self->next_number_ : self->queue_.front().number;
          answered = self->answered_;
          verifier = self->verifier_;
          // After `answered`, which rises when nothing is heard any more. Without it others may have written.
          heard = self->client_->hears_of(self->inode_);
          needed = answered != self->durable_ || self->lost_ || (!asked && !(heard && self->heard_));
        }
        if (resending) return self->sync_round(who, asked, round, std::move(done));
        if (!needed) return done(Code::ok);  // the one Write was durable itself, or nothing happened since
        auto synced = [self, who, round, upto, answered, heard, verifier,
                       done = std::move(done)](VolumeAnswer answer) mutable {
          Code code = answer.reply.code;
          bool again = false;
          if (code == Code::ok) {
            std::lock_guard lock(self->mutex_);
            self->note_verifier(answer.reply.verifier);
            again = verifier != 0 && self->verifier_ != verifier;
            if (!again) code = self->synced(upto, answered, heard);
          }
          if (again && round < kSyncRounds) return self->sync_round(who, false, round + 1, std::move(done));
          done(again ? Code::unreachable : code);
        };
        self->client_->call(who, Sync{self->inode_}, {}, {}, std::move(synced));
      });
}

void OpenFile::note_durable(uint64_t answered, bool heard) {
  if (answered < durable_) return;
  durable_ = answered;
  heard_ = heard;
}

Code OpenFile::synced(uint64_t upto, uint64_t answered, bool heard) {
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    if (kept->number < upto) {
      context_.kept_bytes.fetch_sub(kept->bytes.size());
      kept = kept_.erase(kept);
    } else {
      ++kept;
    }
  }
  note_durable(answered, heard);
  if (answered == answered_) unkept_upto_ = 0;  // what was answered meanwhile may be lost yet
  if (!std::exchange(lost_, false)) return Code::ok;
  ++errors_;  // every handle hears of it
  error_ = Code::io;
  return Code::io;
}

// ---- attributes ----

void OpenFile::attributes_are_stale() {
  attribute_news_.fetch_add(1);
  no_capability_ = false;
  std::lock_guard lock(mutex_);
  ++answered_;
}

uint64_t OpenFile::buffered_end() const {
  uint64_t end = dirty_.end();
  for (const Item& item : queue_) end = std::max<uint64_t>(end, item.offset + item.bytes.size());
  return end;
}

void OpenFile::note_attributes(const Attributes& attributes) {
  ++own_changes_;
  own_version_ = std::max(own_version_, attributes.change);
  if (latest_.inode == 0 || attributes.change >= latest_.change) latest_ = attributes;
}

// What cannot be repeated: if the owner loses it, an fsync has to say so.
void OpenFile::own_change(const Reply& reply) {
  std::lock_guard lock(mutex_);
  note_verifier(reply.verifier);
  ++answered_;
  note_attributes(reply.attributes);
  if (!keeps_) return;
  unkept_upto_ = std::max(unkept_upto_, reply.logged);
  arm(kRetryAfter);
}

void OpenFile::names_changed(const Attributes& attributes) {
  std::lock_guard lock(mutex_);
  ++answered_;
  note_attributes(attributes);
}

Attributes OpenFile::seen(const Attributes& attributes) {
  std::lock_guard lock(mutex_);
  const bool changed = attributes.change > latest_.change + in_flight_ && latest_.inode != 0;
  if (latest_.inode == 0 || attributes.change >= latest_.change) latest_ = attributes;
  if (changed) {
    read_ahead_.reset();
    base_version_ = own_changes_ = own_version_ = 0;
  }
  return with_buffered();
}

Attributes OpenFile::with_buffered() const {
  Attributes shown = latest_;
  const int64_t now_ns = context_.background.clock().wall_ns();
  const auto wrote = [&](ByteView bytes, uint64_t offset, int64_t at_ns) {
    if (bytes.empty()) return;
    shown.size = std::max<uint64_t>(shown.size, offset + bytes.size());
    shown.mtime_ns = shown.mtime_ns > now_ns + kClocksApart ? at_ns : std::max(shown.mtime_ns, at_ns);
    shown.ctime_ns = std::max(shown.ctime_ns, at_ns);
  };
  const auto set = [&](const SetAttributes& change) {
    show(change, shown);
    shown.ctime_ns = std::max(shown.ctime_ns, attributes_wall_ns_);
  };
  for (const Item& item : queue_) {
    wrote(item.bytes, item.offset, item.mtime_ns);
    if (item.attributes) set(*item.attributes);
  }
  for (const auto& [offset, bytes] : dirty_.map()) wrote(bytes, offset, last_write_wall_ns_);
  if (pending_) set(*pending_);
  // What they will take, as if nothing had been there: that of a hole shows, bytes over bytes do not.
  const uint64_t at_most = std::min(blocks_of(shown.size), latest_.blocks + blocks_of(file_bytes()));
  shown.blocks = std::max(shown.blocks, at_most);
  return shown;
}

bool OpenFile::holds_attributes() const {
  std::lock_guard lock(mutex_);
  return waits_to_set();
}

// Reading marks it after what was set here: the owner, who does not know that yet, would do it before.
bool OpenFile::mark_access() {
  std::lock_guard lock(mutex_);
  if (!pending_ || !pending_->atime_ns) return false;
  const int64_t now_ns = context_.background.clock().wall_ns();
  if (marks_access(with_buffered(), now_ns)) pending_->atime_ns = now_ns;
  return true;
}

bool OpenFile::waits_to_set() const {
  return pending_ ||
         std::any_of(queue_.begin(), queue_.end(), [](const Item& item) { return bool(item.attributes); });
}

bool OpenFile::set_attributes(const Credentials& who, const SetAttributes& change, Attributes& shown) {
  // One that sets nothing is a chown(-1, -1): it takes the set-id bits away, as its owner does.
  const bool sets = !is_empty(change) || change.atime_now || change.mtime_now || change.clear_suid;
  if (change.size || !sets || !ask_to_buffer()) return false;
  std::lock_guard lock(mutex_);
  if (!may_buffer_ || write_through_ || latest_.inode == 0) return false;
  const int64_t now_ns = context_.background.clock().wall_ns();
  Attributes now = with_buffered();
  // What the owner would look at more closely is for the owner.
  const bool root = who.uid == 0;
  if (!root && (who.uid != now.uid || (change.uid && *change.uid != now.uid) ||
                (change.gid && *change.gid != now.gid) || (change.mode && (*change.mode & S_ISGID) != 0) ||
                (now.mode & S_ISGID) != 0))
    return false;
  if (pending_ && (pending_who_.uid != who.uid || pending_who_.gid != who.gid)) cut_all();
  SetAttributes set = change;
  if (set.atime_now) set.atime_ns = now_ns;
  if (set.mtime_now) set.mtime_ns = now_ns;
  set.atime_now = set.mtime_now = set.has_write_handle = set.clear_suid = false;
  if (change.clear_suid && !set.mode && without_set_id(now.mode) != now.mode)
    set.mode = without_set_id(now.mode) & 07777;
  if (!pending_) {
    context_.pending_attributes.fetch_add(1);
    if (dirty_.empty()) dirty_since_ns_ = context_.background.clock().now_ns();
    pending_.emplace();
  }
  if ((set.uid || set.gid) && pending_->mode) pending_->mode = without_set_id(*pending_->mode);
  merge(*pending_, set);
  pending_who_ = who;
  attributes_wall_ns_ = now_ns;
  arm(kDirtyAge);
  shown = with_buffered();
  return true;
}

// ---- the kernel's pages ----

bool OpenFile::opened(const Attributes& attributes, uint64_t version) {
  std::lock_guard lock(mutex_);
  read_ahead_.reset();
  if (latest_.inode == 0 || attributes.change >= latest_.change) latest_ = attributes;
  if (base_version_ == 0) {
    if (version != 0 && version == attributes.change) {
      base_version_ = version;
      own_changes_ = own_version_ = 0;
      return true;
    }
  } else {
    // What is in flight may be in these attributes, or not.
    const uint64_t counted = base_version_ + own_changes_;
    const bool uncounted = own_changes_ != 0 && own_version_ < counted;
    if (!uncounted && std::max(attributes.change, own_version_) <= counted + in_flight_) return true;
  }
  base_version_ = in_flight_ == 0 ? attributes.change : 0;
  own_changes_ = 0;
  own_version_ = 0;
  doubt_ = ++doubts_;
  return false;
}

uint64_t OpenFile::doubt() const {
  std::lock_guard lock(mutex_);
  return doubt_;
}

void OpenFile::settle(uint64_t doubt) {
  std::lock_guard lock(mutex_);
  if (doubt_ <= doubt) doubt_ = 0;
}

uint64_t OpenFile::pages_version() const {
  std::lock_guard lock(mutex_);
  if (base_version_ == 0 || in_flight_ != 0 || doubt_ != 0) return 0;
  if (own_changes_ == 0) return base_version_;
  return own_version_ == base_version_ + own_changes_ ? own_version_ : 0;
}

void OpenFile::pages_are_stale() {
  std::lock_guard lock(mutex_);
  read_ahead_.reset();
  base_version_ = own_changes_ = own_version_ = 0;
}

void OpenFile::kernel_reads(uint64_t number, uint64_t offset, uint64_t length) {
  std::lock_guard lock(mutex_);
  KernelRead& slot = kernel_reads_[next_kernel_read_++ % kernel_reads_.size()];
  newest_forgotten_read_ = std::max(newest_forgotten_read_, slot.number);
  slot = {number, offset, length};
}

bool OpenFile::was_overtaken(uint64_t number, uint64_t offset, uint64_t length) const {
  std::lock_guard lock(mutex_);
  return number < newest_forgotten_read_ ||
         std::any_of(kernel_reads_.begin(), kernel_reads_.end(), [&](const KernelRead& read) {
           return number < read.number && offset < read.offset + read.length && read.offset < offset + length;
         });
}

}  // namespace efs
