// Who walks a tree lists the subdirectories of what was listed, one after another, and each would cost a
// round trip: the next ones are asked for ahead.
//
// How many: as many as kFirstAhead until one of them was wanted, then twice as many each time, up to
// kMostAhead that nobody has listed yet. So whoever lists only a few of many directories has few asked for in
// vain.
//
// What was asked for ahead is true as long as the directory is leased and nothing in it was changed since,
// which LeaseCache knows. Thread-safe. Bounds: kAheadOfMount answers of kFirstListing entries each, and the
// numbers of kWalkedOfMount subdirectories; what is beyond is forgotten, and asked for when it is wanted.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "vfs/lease_cache.h"
#include "vfs/recalls.h"

namespace efs {

inline constexpr size_t kFirstAhead = 2, kMostAhead = 32;
inline constexpr size_t kAheadOfMount = 256, kWalkedOfMount = 1 << 14;

// When entries were asked for: Given::now(), and from afar LeaseCache::now(), which tells of own changes,
// too.
struct ListedSince {
  uint64_t given = 0, cached = 0;
};

// Entries that were asked for before they are wanted.
struct ListingAhead {
  uint64_t cookie = 0;  // they begin behind it; 0: with the directory's first
  ListedSince since;
  bool with_attributes = false;
  std::shared_ptr<std::atomic<bool>> interrupted = std::make_shared<std::atomic<bool>>(false);
  std::mutex mutex;
  bool ready = false;
  VolumeAnswer answer;
  std::function<void()> waiting;  // for it to be ready
};
using ListingAheadPtr = std::shared_ptr<ListingAhead>;

// Asks, and lets `ahead` have the answer.
void ask_ahead(const std::shared_ptr<VolumeClient>& client, const Credentials& who, ReadDirectory body,
               const ListingAheadPtr& ahead);

class TreeWalks {
 public:
  // The subdirectories of one directory, in the order of its listing.
  struct Siblings;
  using SiblingsPtr = std::shared_ptr<Siblings>;
  using Nodes = std::vector<uint64_t>;

  explicit TreeWalks(const Given& given) : given_(given) {}
  // `node` is about to be listed from its beginning. Its first entries, if they were asked for and what is
  // here of them is true; and what will be wanted next.
  struct Begun {
    ListingAheadPtr ahead;
    Nodes next;
  };
  Begun begin(uint64_t node, const LeaseCache& cache);
  // A page of the listing of `node` names these; `siblings`: what came of the pages before (nullptr: none).
  // Gives what will be wanted next.
  Nodes listed(uint64_t node, const EntryList& entries, SiblingsPtr& siblings);
  void ask(const Nodes& nodes, const std::shared_ptr<VolumeClient>& client, const Credentials& who);
  // Whether what was asked for ahead is as the owner would answer now.
  static bool is_true(const ListingAhead& ahead, uint64_t node, const LeaseCache& cache);

 private:
  void choose(Siblings& among, size_t from, Nodes& chosen);  // with mutex_ held

  const Given& given_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, std::pair<SiblingsPtr, size_t>> known_;  // where each subdirectory stands
  std::unordered_map<uint64_t, ListingAheadPtr> asked_;
  std::deque<uint64_t> order_;  // in which they were asked for; some have gone
};

}  // namespace efs
