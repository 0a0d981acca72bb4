#include "vfs/lock_book.h"

namespace efs {

uint64_t LockBook::ask(const Holder& holder, const std::shared_ptr<VolumeClient>& client) {
  std::lock_guard lock(mutex_);
  holders_[holder] = client;
  waits_[++last_ticket_] = {holder, client};
  locked_[holder.node % kLockedFiles] = holder.node;
  return last_ticket_;
}

void LockBook::answered(uint64_t ticket, bool granted) {
  std::lock_guard lock(mutex_);
  const auto wait = waits_.extract(ticket);
  if (granted && !wait.empty()) holders_.insert(wait.mapped());
}

bool LockBook::take(const Holder& holder) {
  std::lock_guard lock(mutex_);
  return holders_.erase(holder) > 0;
}

bool LockBook::was_locked(uint64_t node) const {
  std::lock_guard lock(mutex_);
  return locked_[node % kLockedFiles] == node;
}

bool LockBook::has(const Holder& holder) const {
  std::lock_guard lock(mutex_);
  return holders_.contains(holder);
}

std::map<LockBook::Holder, std::shared_ptr<VolumeClient>> LockBook::take_all() {
  std::lock_guard lock(mutex_);
  return std::exchange(holders_, {});
}

std::vector<LockBook::Wait> LockBook::take_waits() {
  std::vector<Wait> out;
  std::lock_guard lock(mutex_);
  for (auto& [ticket, wait] : waits_) out.push_back({std::move(wait.second), ticket});
  waits_.clear();
  return out;
}

}  // namespace efs
