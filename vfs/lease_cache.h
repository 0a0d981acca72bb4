// A volume of another peer as one mount sees it: what it was leased is answered here.
//
// Wraps the client of the volume's session. Answers lookups (of names that are there and that are not),
// attributes, and opens for reading, as long as the session's leases run (VolumeClient::lease_until_ns) and
// nothing was recalled. Who asks for many names of a directory has its listing fetched ahead. A directory
// that this mount made, or has listed to its end, is known whole: what is not known in it is not there. What
// the mount changes itself is seen at once. An open that the owner was not told of is told before a recall of
// the inode's lease is answered, and before this mount itself takes one of its names away: the owner keeps an
// inode that is unlinked for those who hold a lease on it until then. One that lasts is told with the second
// renewal of the leases: a mount that is cut off later, and fenced, still has it open.
//
// Any thread. Bounds: kCachedInodes, kCachedEntries; what is let go is told to the owner in bulk (DropLeases)
// once the kernel cannot believe it any more. Nothing is kept over a restart.
#pragma once

#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "peer/base/generations.h"
#include "peer/runtime/clock.h"
#include "peer/volume/client.h"
#include "vfs/recalls.h"

namespace efs {

class LeaseCache final : public VolumeClient, public std::enable_shared_from_this<LeaseCache> {
 public:
  LeaseCache(std::shared_ptr<VolumeClient> volume, const Clock& clock);

  void call(const Credentials& who, RequestBody body, Payload payload, const Options& options,
            Done done) override;
  void poke() override { volume_->poke(); }
  void close() override { volume_->close(); }
  const VolumeId& id() const override { return volume_->id(); }
  VolumeNumber number() const override { return volume_->number(); }
  bool local() const override { return false; }
  // Once, before the first call: begins to be leased anything.
  void on_recall(RecallListener listener, std::function<bool(InodeNumber)> knows) override;
  void on_leases_lost(std::function<void(bool for_good)> listener) override;
  int64_t lease_until_ns() const override { return volume_->lease_until_ns(); }
  bool may_buffer(InodeNumber inode) override;
  bool hears_of(InodeNumber inode) override;
  void on_new_verifier(std::function<void(Resending)> listener) override {
    volume_->on_new_verifier(std::move(listener));
  }
  OwnersLog owners_log() const override { return volume_->owners_log(); }

  // The kernel is about to list this directory and to keep the listing: whether what it has from before is
  // still true.
  bool keep_listing(InodeNumber directory);
  bool alive() const { return clock_.now_ns() < volume_->lease_until_ns(); }
  // What was asked for at `since` is not older than any change of the inode, made here or heard of.
  uint64_t now() const { return epochs_.now(); }
  bool unchanged(InodeNumber inode, uint64_t since) const {
    return epochs_.unchanged(node_key(inode), since);
  }

 private:
  struct Node {
    Attributes attributes;
    bool known = false;      // the attributes are current
    bool exclusive = false;  // written bytes may stay here
    bool complete = false;   // a directory whose every entry is in entries_
    bool listed = false;     // the kernel's listing is of this lease
    bool listing = false;    // a page of it is being fetched ahead
    uint32_t misses = 0;     // names that had to be asked for since the last one
    uint32_t pages = 0;      // that were fetched ahead
    uint64_t ahead = 0;      // the cookie where the next begins
    bool scanning = false;   // a listing has come as far as scan_next (a cookie), began at scan_since,
    uint64_t scan_next = 0;  // and nothing of it was let go
    uint64_t scan_since = 0;
    uint64_t tenure = 0;  // this knowledge of the inode: never the same again once it was let go
  };
  // What is open here, and whether the owner knows. While it is being told it may not, and may: a recall
  // waits for its answer, and so it is told again; a close waits, since it must not come before.
  struct Opened {
    bool told = false;
    bool lasts = false;    // it was there at a renewal
    unsigned telling = 0;  // reports on their way
  };
  struct Entry {
    InodeNumber inode = 0;  // 0: it is not there
    uint64_t tenure = 0;    // of the directory
  };
  struct EntryKey {
    InodeNumber parent = 0;
    std::string name;
    bool operator==(const EntryKey&) const = default;
  };
  struct EntryHash {
    size_t operator()(const EntryKey& key) const { return entry_key(key.parent, key.name); }
  };
  std::optional<VolumeAnswer> known(const RequestBody& body);  // with mutex_ held
  std::optional<VolumeAnswer> known(const Lookup& lookup);
  // The inode whose ACL this asks for, of which nothing is known; 0: it does not.
  InodeNumber unknown_acl(const RequestBody& body);  // with mutex_ held
  void list_ahead(const Credentials& who, InodeNumber directory);
  void learn(const RequestBody& body, const Reply& reply, uint64_t since);
  void learn_lookup(const Lookup& lookup, const Reply& reply, uint64_t since);
  void learn_listing(const ReadDirectory& listing, const Reply& reply, uint64_t since);
  void learn_change(const RequestBody& body, const Reply& reply, uint64_t since);
  void learn_create(const Create& create, const Reply& reply, uint64_t since);
  void learn_rename(const Rename& rename, const Reply& reply, uint64_t since);
  void set_node(const Attributes& attributes, uint64_t since);
  void set_entry(InodeNumber parent, const std::string& name, InodeNumber inode, uint64_t since);
  void set_parent(InodeNumber parent, const Reply& reply, uint64_t since);
  void forget_attributes(InodeNumber inode);
  void lost_name(const Attributes& attributes, bool leased);
  void drop_at(InodeNumber inode, int64_t at_ns);
  void forget_entry(InodeNumber parent, const std::string& name);
  void doubt_entry(InodeNumber parent, const std::string& name);
  void changed_here(InodeNumber inode) { epochs_.recalled(node_key(inode)); }
  Node& node_of(InodeNumber inode);
  // What is known of this name; nullptr: nothing.
  InodeNumber* entry_of(InodeNumber parent, const std::string& name);
  static bool may_unname(const RequestBody& body);
  std::vector<InodeNumber> opened_here(const RequestBody& body);
  void ask_acl(const Credentials& who, InodeNumber inode, RequestBody body, const Options& options,
               Done done);
  void send(const Credentials& who, RequestBody body, Payload payload, const Options& options, uint64_t since,
            Done done);
  void make_room();

  void recalled(const Recall& recall, Forgotten forgotten);
  void lost(bool for_good);
  void renewed();
  void report(std::vector<InodeNumber> inodes, std::function<void()> then);
  static bool is_to_be_told(Opened& opened);
  bool waits_for_reports(const Close& close) const;  // with mutex_ held
  void send_drops();

  const std::shared_ptr<VolumeClient> volume_;
  const Clock& clock_;
  RecallEpochs epochs_;

  std::mutex mutex_;
  bool leased_ = false;  // somebody listens to recalls
  Generations<InodeNumber, Node> nodes_;
  Generations<EntryKey, Entry, EntryHash> entries_;
  uint64_t tenures_ = 0;
  std::unordered_map<InodeNumber, Opened> opened_;  // here
  std::unordered_set<InodeNumber>
      asked_;  // what the owner was asked to open, or told of: it hears of the close
  std::vector<std::function<void()>> closes_;  // that wait for reports
  struct Drop {
    int64_t at_ns = 0;  // not believed any more from then on
    uint64_t mark = 0;  // what was heard when it was let go
  };
  std::unordered_map<InodeNumber, Drop> drops_;
  int64_t drops_at_ns_ = 0;  // the first of them; 0: none
  unsigned unnaming_ = 0;    // own changes under way that may take a last name
  uint64_t mark_ = 0;        // the last that was heard
  uint64_t lost_mark_ = 0;   // when the leases were lost last
  RecallListener listener_;
  std::function<void(bool)> lost_listener_;
};

}  // namespace efs
