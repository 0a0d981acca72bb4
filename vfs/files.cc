// Last release -> the buffered bytes are flushed -> they are on the owner's disk -> Close -> gone. What comes
// in between (an open) stops it at the next step; an owner that cannot be reached is asked again.
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
      entry.file = std::make_shared<OpenFile>(context_, std::move(client), inode);
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
  if (!file->durable()) return settle_when_durable(node);
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

void Files::settle_when_durable(uint64_t node) {
  const VolumeNumber volume = volume_of(node);
  {
    std::lock_guard lock(mutex_);
    auto& waiting = undurable_[volume];
    waiting.push_back(node);
    if (waiting.size() > 1) return;  // they are looked after
  }
  look_later(volume);
}

void Files::look_later(VolumeNumber volume) {
  context_.background.after(kDurableCheck, [weak = weak_from_this(), volume] {
    if (auto self = weak.lock()) self->look_for_durable(volume);
  });
}

void Files::look_for_durable(VolumeNumber volume) {
  std::vector<uint64_t> ready;
  std::shared_ptr<OpenFile> next;
  {
    std::lock_guard lock(mutex_);
    auto waiting = undurable_.find(volume);
    if (waiting == undurable_.end()) return;
    for (; !waiting->second.empty(); waiting->second.pop_front()) {
      const uint64_t node = waiting->second.front();
      auto found = open_.find(node);
      if (found == open_.end() || found->second.users != 0) continue;
      if (!found->second.file->durable()) {
        next = found->second.file;
        break;
      }
      ready.push_back(node);
    }
    if (!next) undurable_.erase(waiting);
  }
  for (uint64_t node : ready) settle(node);
  if (!next) return;
  Hello news;  // any answer says how far it is
  news.renew = true;
  next->client()->call({}, std::move(news), {}, {}, [](VolumeAnswer) {});
  look_later(volume);
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
      if (!found->second.file->durable()) {  // an owner that restarted is sent bytes again
        dirty.push_back(node);
        continue;
      }
      found->second.closing = true;
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
      entry.file = std::make_shared<OpenFile>(context_, entry.file->client(), inode_of(node));
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

void Files::forget_versions() {
  std::lock_guard lock(mutex_);
  std::fill(versions_.begin(), versions_.end(), Version{});
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
