// Which sessions hold which inodes open, and when each was heard: in memory, at the volume's owner.
//
// Not locked: the replica's open mutex guards it. Bounds: kMaxHolders sessions, kMaxOpenInodes a session.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "peer/volume/state/operation.h"

namespace efs {

// Sessions of the owner's own process (its mounts, numbered; zero: the first): they never repeat a request,
// and end with the process.
inline bool is_own_session(const SessionId& session) {
  return std::all_of(session.begin(), session.begin() + 8, [](uint8_t byte) { return byte == 0; });
}

class OpenTable {
 public:
  bool known(const SessionId& session) const { return sessions_.contains(session); }
  // False when there are too many sessions.
  bool begin(const SessionId& session, int64_t now_ns) {
    if (!known(session) && sessions_.size() >= kMaxHolders) return false;
    sessions_[session].heard_ns = now_ns;
    return true;
  }
  // It was there before this owner's start, and may have open what it has not said yet: until a while after
  // greet(), since it says what it has opened by itself once it hears that its leases are gone.
  void expect(const SessionId& session) { expected_[session] = INT64_MAX; }
  std::vector<SessionId> expected(int64_t now_ns) {
    std::erase_if(expected_, [&](const auto& one) { return one.second < now_ns; });
    std::vector<SessionId> out;
    for (const auto& [session, until_ns] : expected_) out.push_back(session);
    return out;
  }
  // It has said since this owner's start what it holds open.
  void greet(const SessionId& session, int64_t now_ns) {
    sessions_[session].greeted = true;
    if (auto found = expected_.find(session); found != expected_.end())
      found->second = std::min(found->second, now_ns + kLeaseTerm);
  }
  bool greeted(const SessionId& session) const {
    auto found = sessions_.find(session);
    return found != sessions_.end() && found->second.greeted;
  }
  void heard(const SessionId& session, int64_t now_ns) {
    if (auto found = sessions_.find(session); found != sessions_.end()) found->second.heard_ns = now_ns;
  }
  // Who did not run heard nobody.
  void heard_all(int64_t now_ns) {
    for (auto& [id, one] : sessions_) one.heard_ns = now_ns;
  }
  int64_t heard_ns(const SessionId& session) const {
    auto found = sessions_.find(session);
    return found == sessions_.end() ? 0 : found->second.heard_ns;
  }
  void end(const SessionId& session) {
    auto found = sessions_.find(session);
    if (found == sessions_.end()) return;
    for (InodeNumber inode : found->second.open) drop_holder(inode, session);
    sessions_.erase(found);
    expected_.erase(session);
  }
  // False when the session holds too many.
  bool open(const SessionId& session, InodeNumber inode) {
    auto& one = sessions_[session];
    if (one.open.contains(inode)) return true;
    if (one.open.size() >= kMaxOpenInodes) return false;
    one.open.insert(inode);
    holders_[inode].push_back(session);
    return true;
  }
  void close(const SessionId& session, InodeNumber inode) {
    const auto [from, to] = waiting_.equal_range({inode, session});
    for (auto one = from; one != to; ++one) *one->second = true;
    auto found = sessions_.find(session);
    if (found != sessions_.end() && found->second.open.erase(inode) > 0) drop_holder(inode, session);
  }
  // An open waits for what others have of the inode, until end_wait(): true when the session has closed it
  // meanwhile. Who gave up asking has closed what it would never learn that it holds.
  using Wait = std::shared_ptr<bool>;
  Wait wait(const SessionId& session, InodeNumber inode) {
    return waiting_.emplace(std::pair(inode, session), std::make_shared<bool>(false))->second;
  }
  bool end_wait(const SessionId& session, InodeNumber inode, const Wait& wait) {
    const auto [from, to] = waiting_.equal_range({inode, session});
    waiting_.erase(std::find_if(from, to, [&](const auto& one) { return one.second == wait; }));
    return *wait;
  }
  bool holds(const SessionId& session, InodeNumber inode) const {
    auto found = sessions_.find(session);
    return found != sessions_.end() && found->second.open.contains(inode);
  }
  std::vector<SessionId> holders(InodeNumber inode) const {
    auto found = holders_.find(inode);
    return found == holders_.end() ? std::vector<SessionId>{} : found->second;
  }
  // Silent since before `limit_ns`; never sessions of this process itself.
  std::vector<SessionId> silent(int64_t limit_ns) const {
    std::vector<SessionId> out;
    for (const auto& [id, one] : sessions_)
      if (!is_own_session(id) && one.heard_ns < limit_ns) out.push_back(id);
    std::sort(out.begin(), out.end());
    return out;
  }
  size_t sessions() const { return sessions_.size(); }
  size_t inodes() const { return holders_.size(); }

  // Failures are not logged; they are remembered here, so that a late repetition does not succeed.
  const Reply* failure(const SessionId& session, uint64_t sequence) const {
    auto found = sessions_.find(session);
    if (found == sessions_.end()) return nullptr;
    auto reply = found->second.failures.find(sequence);
    return reply == found->second.failures.end() ? nullptr : &reply->second;
  }
  void remember_failure(const SessionId& session, uint64_t sequence, uint64_t acknowledged,
                        const Reply& reply) {
    auto found = sessions_.find(session);
    if (found == sessions_.end()) return;
    auto& failures = found->second.failures;
    failures.erase(failures.begin(), failures.lower_bound(acknowledged));
    if (failures.size() < kMaxResultsPerSession) failures[sequence] = reply;
  }

 private:
  struct SessionHash {
    size_t operator()(const SessionId& id) const { return get_le<size_t>(id.data()); }
  };
  struct Session {
    std::unordered_set<InodeNumber> open;
    std::map<uint64_t, Reply> failures;
    int64_t heard_ns = 0;
    bool greeted = false;
  };
  void drop_holder(InodeNumber inode, const SessionId& session) {
    auto found = holders_.find(inode);
    if (found == holders_.end()) return;
    std::erase(found->second, session);
    if (found->second.empty()) holders_.erase(found);
  }
  std::unordered_map<SessionId, Session, SessionHash> sessions_;
  std::map<SessionId, int64_t> expected_;
  std::unordered_map<InodeNumber, std::vector<SessionId>> holders_;
  std::multimap<std::pair<InodeNumber, SessionId>, Wait> waiting_;
};

}  // namespace efs
