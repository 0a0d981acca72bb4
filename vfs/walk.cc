#include "vfs/walk.h"

#include <sys/stat.h>

#include <algorithm>

#include "vfs/limits.h"
#include "vfs/tree.h"

namespace efs {

struct TreeWalks::Siblings {
  enum class State : uint8_t { unknown, asked, listed };
  Nodes nodes;
  std::vector<State> states;  // of those
  size_t waiting = 0;         // that were asked for and not listed yet
  size_t most = kFirstAhead;  // of these
  size_t last = SIZE_MAX;     // that was listed
  bool walked = false;        // their directory was itself listed by somebody who walks
};

void ask_ahead(const std::shared_ptr<VolumeClient>& client, const Credentials& who, ReadDirectory body,
               const ListingAheadPtr& ahead) {
  VolumeClient::Options options;
  options.interrupted = ahead->interrupted;
  client->call(who, body, {}, options, [ahead](VolumeAnswer answer) {
    std::function<void()> waiting;
    {
      std::lock_guard lock(ahead->mutex);
      ahead->answer = std::move(answer);
      ahead->ready = true;
      waiting.swap(ahead->waiting);
    }
    if (waiting) waiting();
  });
}

bool TreeWalks::is_true(const ListingAhead& ahead, uint64_t node, const LeaseCache& cache) {
  return cache.alive() && cache.unchanged(inode_of(node), ahead.since.cached);
}

TreeWalks::Begun TreeWalks::begin(uint64_t node, const LeaseCache& cache) {
  Begun begun;
  std::lock_guard lock(mutex_);
  if (auto asked = asked_.find(node); asked != asked_.end()) {
    if (is_true(*asked->second, node, cache)) begun.ahead = std::move(asked->second);
    asked_.erase(asked);
  }
  auto known = known_.find(node);
  if (known == known_.end()) return begun;
  const auto [siblings, at] = known->second;
  if (at == siblings->last) return begun;  // somebody looks whether it changes
  auto& states = siblings->states;
  if (states[at] == Siblings::State::listed) {  // another walk
    std::fill(states.begin(), states.end(), Siblings::State::unknown);
    siblings->waiting = 0;
    siblings->most = kFirstAhead;
  }
  if (states[at] == Siblings::State::asked) --siblings->waiting;
  states[at] = Siblings::State::listed;
  siblings->last = at;
  if (begun.ahead) siblings->most = std::min(siblings->most * 2, kMostAhead);
  choose(*siblings, at + 1, begun.next);
  return begun;
}

TreeWalks::Nodes TreeWalks::listed(uint64_t node, const EntryList& entries, SiblingsPtr& siblings) {
  Nodes chosen;
  std::lock_guard lock(mutex_);
  for (const DirectoryEntry entry : entries) {
    if (!S_ISDIR(entry.mode) || entry.junction) continue;
    if (!siblings) {
      siblings = std::make_shared<Siblings>();
      siblings->walked = known_.contains(node);
    }
    if (siblings->nodes.size() >= kWalkedOfMount) break;
    if (known_.size() >= kWalkedOfMount) known_.clear();
    const uint64_t child = global_inode(volume_of(node), entry.inode);
    known_[child] = {siblings, siblings->nodes.size()};
    siblings->nodes.push_back(child);
    siblings->states.push_back(Siblings::State::unknown);
  }
  if (siblings && siblings->walked) choose(*siblings, 0, chosen);
  return chosen;
}

void TreeWalks::choose(Siblings& among, size_t from, Nodes& chosen) {
  const size_t end = std::min(among.nodes.size(), from + 2 * kMostAhead);
  for (size_t at = from; at < end && among.waiting < among.most; ++at) {
    if (among.states[at] != Siblings::State::unknown) continue;
    among.states[at] = Siblings::State::asked;
    ++among.waiting;
    chosen.push_back(among.nodes[at]);
  }
}

void TreeWalks::ask(const Nodes& nodes, const std::shared_ptr<VolumeClient>& client, const Credentials& who) {
  const auto& cache = static_cast<const LeaseCache&>(*client);
  for (uint64_t node : nodes) {
    auto ahead = std::make_shared<ListingAhead>();
    ahead->with_attributes = true;
    ahead->since = {given_.now(), cache.now()};
    {
      std::lock_guard lock(mutex_);
      asked_[node] = ahead;
      order_.push_back(node);
      while (order_.size() > kAheadOfMount) {
        asked_.erase(order_.front());
        order_.pop_front();
      }
    }
    ReadDirectory body;
    body.inode = inode_of(node);
    body.limit = kFirstListing;
    body.with_attributes = true;
    ask_ahead(client, who, body, ahead);
  }
}

}  // namespace efs
