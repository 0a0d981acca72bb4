// Last release -> the buffered bytes are flushed -> Close -> gone. What comes in between (an open) stops it
// at the next step; an owner that cannot be reached is asked again.
#include "vfs/files.h"

namespace efs {

void Files::acquire(std::shared_ptr<VolumeClient> client, InodeNumber inode, Acquired then) {
  std::shared_ptr<OpenFile> file;
  {
    std::unique_lock lock(mutex_);
    if (ended_) {
      lock.unlock();
      return then(std::make_shared<OpenFile>(context_, std::move(client), inode));
    }
    Entry& entry = open_[global_inode(client->number(), inode)];
    if (!entry.file) {
      entry.file = make(std::move(client), inode);
      count_.fetch_add(1);
    }
    ++entry.users;
    if (entry.closing) {
      entry.waiting.push_back(std::move(then));
      return;
    }
    file = entry.file;
  }
  then(std::move(file));
}

// Who opens it anew and calls fsync is to hear of what was written before and lost since.
std::shared_ptr<OpenFile> Files::make(std::shared_ptr<VolumeClient> client, InodeNumber inode) {
  auto file = std::make_shared<OpenFile>(context_, std::move(client), inode);
  if (auto before = undurable_.find(file->node()); before != undurable_.end()) {
    file->note_undurable(before->second);
    undurable_.erase(before);
  }
  return file;
}

void Files::note_undurable(uint64_t node, OpenFile& file) {
  const OpenFile::Undurable left = file.let_go();
  undurable_.erase(node);  // of a close that its owner did not answer
  if (left.logged == 0 && !left.lost) return;
  undurable_[node] = left;
  if (undurable_.size() < look_at_undurable_) return;
  drop_durable(volume_of(node), file.client()->owners_log());
  if (undurable_.size() > kUndurableFiles) undurable_.clear();
  look_at_undurable_ = std::max(kUndurableFiles / 16, 2 * undurable_.size());
}

void Files::drop_durable(VolumeNumber volume, const OwnersLog& log) {
  std::erase_if(undurable_, [&](const auto& one) {
    const Undurable& it = one.second;
    return volume_of(one.first) == volume && !it.lost && it.logged <= log.safe(it.verifier);
  });
}

// What this run has not found again is lost: the next one says nothing of it.
void Files::owner_restarted(const VolumeClient& client) {
  std::lock_guard lock(mutex_);
  std::fill(versions_.begin(), versions_.end(), Version{});  // they may count from an earlier one
  const OwnersLog log = client.owners_log();
  drop_durable(client.number(), log);
  for (auto& [node, one] : undurable_)
    one.lost |= volume_of(node) == client.number() && one.verifier != log.verifier;
}

void Files::release(const std::shared_ptr<OpenFile>& file) {
  const uint64_t node = file->node();
  {
    std::lock_guard lock(mutex_);
    auto found = open_.find(node);
    if (found == open_.end() || --found->second.users != 0) return;
  }
  settle(node);
}

void Files::settle_later(uint64_t node, int64_t delay_ns) {
  context_.background.after(delay_ns, [weak = weak_from_this(), node] {
    if (auto self = weak.lock()) self->settle(node);
  });
}

void Files::settle(uint64_t node) {
  std::shared_ptr<OpenFile> file;
  {
    std::lock_guard lock(mutex_);
    auto found = open_.find(node);
    if (found == open_.end() || found->second.users != 0 || found->second.closing) return;
    file = found->second.file;
  }
  if (!file->clean()) {
    return file->flush([weak = weak_from_this(), node](Code code) {
      if (auto self = weak.lock()) self->settle_later(node, code == Code::ok ? 0 : kRetryAfter);
    });
  }
  const VolumeNumber volume = volume_of(node);
  bool now = file->client()->local();
  {
    std::lock_guard lock(mutex_);
    auto& batch = closes_[volume];
    batch.push_back(node);
    now |= batch.size() >= kCloseBatch;
    if (!now && batch.size() > 1) return;  // the timer of the first sends it
  }
  if (now) return send_closes(volume);
  context_.background.after(kCloseDelay, [weak = weak_from_this(), volume] {
    if (auto self = weak.lock()) self->send_closes(volume);
  });
}

void Files::send_closes(VolumeNumber volume) {
  std::vector<uint64_t> nodes, dirty;
  Close request;
  std::shared_ptr<VolumeClient> client;
  {
    std::lock_guard lock(mutex_);
    auto batch = closes_.find(volume);
    if (batch == closes_.end()) return;
    for (uint64_t node : batch->second) {
      auto found = open_.find(node);
      if (found == open_.end() || found->second.users != 0 || found->second.closing) continue;
      if (!found->second.file->clean()) {  // an owner that restarted is sent bytes again
        dirty.push_back(node);
        continue;
      }
      found->second.closing = true;
      note_undurable(node, *found->second.file);
      client = found->second.file->client();
      if (const uint64_t version = found->second.file->pages_version())
        versions_[node % kPageVersions] = {node, version};
      nodes.push_back(node);
      request.inodes.push_back(inode_of(node));
    }
    closes_.erase(batch);
  }
  for (uint64_t node : dirty) settle_later(node, kRetryAfter);
  if (nodes.empty()) return;
  client->call({}, std::move(request), {}, {}, [self = shared_from_this(), nodes](VolumeAnswer answer) {
    if (!is_transient(answer.reply.code)) return self->closed(nodes);
    std::vector<std::pair<Acquired, std::shared_ptr<OpenFile>>> ready;
    {
      std::lock_guard lock(self->mutex_);
      for (uint64_t node : nodes) {
        auto found = self->open_.find(node);
        if (found == self->open_.end()) continue;  // the mount has ended
        Entry& entry = found->second;
        entry.closing = false;
        for (auto& then : entry.waiting) ready.emplace_back(std::move(then), entry.file);
        entry.waiting.clear();
      }
    }
    for (auto& [then, file] : ready) then(file);
    for (uint64_t node : nodes) self->settle_later(node, kRetryAfter);
  });
}

void Files::closed(const std::vector<uint64_t>& nodes) {
  std::vector<std::pair<Acquired, std::shared_ptr<OpenFile>>> ready;
  {
    std::lock_guard lock(mutex_);
    for (uint64_t node : nodes) {
      auto found = open_.find(node);
      if (found == open_.end()) continue;  // the mount has ended
      Entry& entry = found->second;
      entry.closing = false;
      if (entry.users == 0) {
        open_.erase(found);
        count_.fetch_sub(1);
        continue;
      }
      // Opened meanwhile: begin anew, since the owner has forgotten it.
      entry.file = make(entry.file->client(), inode_of(node));
      for (auto& then : entry.waiting) ready.emplace_back(std::move(then), entry.file);
      entry.waiting.clear();
    }
  }
  for (auto& [then, file] : ready) then(file);
}

std::shared_ptr<OpenFile> Files::share(uint64_t node) {
  if (count() == 0) return nullptr;
  std::lock_guard lock(mutex_);
  auto found = open_.find(node);
  if (found == open_.end() || found->second.users == 0 || found->second.closing) return nullptr;
  ++found->second.users;
  return found->second.file;
}

bool Files::in_use(uint64_t node) const {
  std::lock_guard lock(mutex_);
  auto found = open_.find(node);
  return found != open_.end() && found->second.users != 0;
}

std::shared_ptr<OpenFile> Files::find(uint64_t node) const {
  if (count() == 0) return nullptr;
  std::lock_guard lock(mutex_);
  auto found = open_.find(node);
  return found == open_.end() ? nullptr : found->second.file;
}

std::vector<std::shared_ptr<OpenFile>> Files::all() const {
  std::vector<std::shared_ptr<OpenFile>> files;
  std::lock_guard lock(mutex_);
  for (const auto& [node, entry] : open_) files.push_back(entry.file);
  return files;
}

std::vector<std::shared_ptr<OpenFile>> Files::of_volume(VolumeNumber volume) const {
  std::vector<std::shared_ptr<OpenFile>> files;
  std::lock_guard lock(mutex_);
  for (const auto& [node, entry] : open_) {
    if (volume_of(node) == volume) files.push_back(entry.file);
  }
  return files;
}

uint64_t Files::version_of(uint64_t node) const {
  std::lock_guard lock(mutex_);
  const Version& version = versions_[node % kPageVersions];
  return version.node == node ? version.version : 0;
}

void Files::end() {
  std::unordered_map<uint64_t, Entry> left;
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    left.swap(open_);
    count_.store(0);
  }
  for (auto& [node, entry] : left) entry.file->end();
}

}  // namespace efs
