// The contacts that a peer knows, in buckets by how many leading bits they share with it.
//
// Only contacts that were heard directly (an answer, or a request over an authenticated session) enter;
// what others say about contacts does not. A full bucket keeps its contacts, which are the ones likely to
// stay (Kademlia, section 4.1), and newcomers wait in its replacement cache; a contact that fails twice in a
// row gives its place to the newest of them. Single-threaded; a step machine: time comes in.
#pragma once

#include <optional>
#include <vector>

#include "dht/id.h"
#include "dht/messages.h"

namespace efs::dht {

class RoutingTable {
 public:
  explicit RoutingTable(const Id& self) : self_(self) {}

  enum class Seen { known, recovered, added, waits, refused };
  // `contact` is alive, and was at its address. recovered: it is known, and had not answered before. waits:
  // its bucket is full; the caller should ping oldest(). refused: ourselves, or not valid().
  Seen seen(const Contact& contact, int64_t now_ns);
  // A request to it failed. The contact when that was once too often, and it is forgotten.
  std::optional<Contact> failed(const Id& id);
  void remove(const Id& id);
  // Its session broke: not a failure, but it is the next to be pinged.
  void doubt(const Id& id);

  bool contains(const Id& id) const;
  bool has_room(const Id& id) const;
  size_t size() const { return size_; }

  // Up to `count` contacts, closest to target first.
  std::vector<Contact> closest(const Id& target, size_t count) const;
  // How many known contacts are closer to `key` than we are; stops counting at `limit`.
  size_t closer_than_self(const Id& key, size_t limit) const;
  // How many known contacts, and we, are closer to `key` than `id` is; stops counting at `limit`.
  size_t closer_than(const Id& id, const Id& key, size_t limit) const;

  // The contact of `id`'s bucket that has been silent longest, if for kStaleAfter.
  std::optional<Contact> oldest(const Id& id, int64_t now_ns) const;
  // Some contact that has been silent for kStaleAfter: the oldest of a few drawn at random.
  std::optional<Contact> sample_stale(int64_t now_ns, Random& random) const;

  // The first bucket, of those that a peer at our place should have, that no lookup went to for
  // kBucketRefresh; it counts as refreshed from now on. `scale`: log2 of (mesh size / k).
  std::optional<int> bucket_to_refresh(int64_t now_ns, double scale);
  void refreshed(const Id& target, int64_t now_ns);

  // How many peers there are, we included: exact while we know them all, else from how dense our k closest
  // are (about +-25%).
  size_t mesh_size() const;

 private:
  struct Entry {
    Contact contact;
    int64_t seen_ns = 0;
    int failures = 0;
  };
  struct Bucket {
    std::vector<uint64_t> tags;  // last words of the ids in entries, for a fast search
    std::vector<Entry> entries;
    std::vector<Entry> waiting;  // newest last
    int64_t refreshed_ns = INT64_MIN / 2;
  };
  Bucket* bucket_of(const Id& id);
  const Bucket* bucket_of(const Id& id) const;
  static std::optional<size_t> find(const Bucket& bucket, const Id& id);
  void erase(Bucket& bucket, size_t index);

  Id self_;
  std::vector<Bucket> buckets_;  // as deep as was needed so far
  size_t size_ = 0;
};

}  // namespace efs::dht
