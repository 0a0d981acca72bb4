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
  return cache.is_leased() && cache.unchanged(inode_of(node), ahead.since.cached);
}

ListingAheadPtr TreeWalks::begin(uint64_t node, const std::shared_ptr<VolumeClient>& client,
                                 const Credentials& who) {
  ListingAheadPtr found;
  Nodes chosen;
  {
    std::lock_guard lock(mutex_);
    if (auto asked = asked_.find(node); asked != asked_.end()) {
      if (asked->second.uid == who.uid && asked->second.gid == who.gid) found = asked->second.ahead;
      asked_.erase(asked);
    }
    if (auto known = known_.find(node); known != known_.end()) {
      const auto [siblings, at] = known->second;
      auto& states = siblings->states;
      if (states[at] == Siblings::State::listed) {  // another walk
        std::fill(states.begin(), states.end(), Siblings::State::unknown);
        siblings->waiting = 0;
        siblings->most = kFirstAhead;
      }
      if (states[at] == Siblings::State::asked) --siblings->waiting;
      states[at] = Siblings::State::listed;
      if (found) siblings->most = std::min(siblings->most * 2, kMostAhead);
      choose(*siblings, at + 1, chosen);
    }
  }
  ask(chosen, client, who);
  return found;
}

void TreeWalks::listed(uint64_t node, const EntryList& entries, const std::shared_ptr<VolumeClient>& client,
                       const Credentials& who, SiblingsPtr& siblings) {
  Nodes chosen;
  {
    std::lock_guard lock(mutex_);
    for (const DirectoryEntry entry : entries) {
      if (!S_ISDIR(entry.mode) || entry.junction) continue;
      if (!siblings) {
        siblings = std::make_shared<Siblings>();
        siblings->walked = known_.contains(node);
      }
      if (known_.size() >= kWalkedOfMount) known_.clear();
      const uint64_t child = global_inode(volume_of(node), entry.inode);
      known_[child] = {siblings, siblings->nodes.size()};
      siblings->nodes.push_back(child);
      siblings->states.push_back(Siblings::State::unknown);
    }
    if (siblings && siblings->walked) choose(*siblings, 0, chosen);
  }
  ask(chosen, client, who);
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
      asked_[node] = {ahead, who.uid, who.gid};
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
    Credentials asker;  // its supplementary groups are learned when they are needed
    asker.uid = who.uid;
    asker.gid = who.gid;
    ask_ahead(client, asker, body, ahead);
  }
}

}  // namespace efs
