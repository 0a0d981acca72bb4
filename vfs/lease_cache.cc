// A call is answered from here, or goes on to the owner and its answer is learned from: what it says may be
// believed if nothing was recalled since it was asked. Own changes count as news, too: a question that was on
// its way beside them may have been answered before or after them.
#include "vfs/lease_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "peer/volume/xattr_names.h"
#include "vfs/limits.h"

namespace efs {

namespace {
// The inode of a question about extended attributes that needs no right: an inode without any answers it.
InodeNumber asks_for_xattrs(const RequestBody& body) {
  if (const auto* list = std::get_if<ListXattrs>(&body)) return list->inode;
  const auto* get = std::get_if<GetXattr>(&body);
  if (get == nullptr) return 0;
  const bool free = (get->name.starts_with("security.") && get->name != "security.") || is_acl(get->name);
  return free && get->name.size() <= kMaxXattrName ? get->inode : 0;
}
}  // namespace

LeaseCache::LeaseCache(std::shared_ptr<VolumeClient> volume, const Clock& clock)
    : volume_(std::move(volume)), clock_(clock) {}

void LeaseCache::on_recall(RecallListener listener, std::function<bool(InodeNumber)> knows) {
  {
    std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
    leased_ = true;
  }
  volume_->on_recall(
      [weak = weak_from_this()](const Recall& recall, Forgotten forgotten) {
        auto self = weak.lock();
        if (!self) return forgotten();
        self->recalled(recall, std::move(forgotten));
      },
      std::move(knows));
  volume_->on_leases_lost([weak = weak_from_this()](bool for_good) {
    if (auto self = weak.lock()) self->lost(for_good);
  });
  volume_->on_renewal([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->renewed();
  });
}

void LeaseCache::on_leases_lost(std::function<void(bool)> listener) {
  std::lock_guard lock(mutex_);
  lost_listener_ = std::move(listener);
}

// ---- answers ----

void LeaseCache::call(const Credentials& who, RequestBody body, Payload payload, const Options& options,
                      Done done) {
  std::optional<VolumeAnswer> here;
  std::vector<InodeNumber> untold;
  InodeNumber first = 0;
  const uint64_t since = epochs_.now();
  {
    std::lock_guard lock(mutex_);
    if (leased_) here = known(body);
    if (here) volume_->use_leases();
    if (leased_ && !here) first = unknown_acl(body);
    if (const auto* mark = std::get_if<MarkAccess>(&body)) forget_attributes(mark->inode);  // asked after it
    if (const auto* close = std::get_if<Close>(&body)) {
      if (waits_for_reports(*close)) {
        closes_.push_back([self = shared_from_this(), who, body, options, done] {
          self->call(who, body, {}, options, done);
        });
        return;
      }
      Close rest;
      for (InodeNumber inode : close->inodes) {
        auto opened = opened_.find(inode);
        if (asked_.erase(inode) != 0 || opened == opened_.end() || opened->second.told)
          rest.inodes.push_back(inode);
        if (opened != opened_.end()) opened_.erase(opened);
      }
      if (rest.inodes.empty()) here = VolumeAnswer{};
      for (InodeNumber inode : rest.inodes) {
        if (Node* node = nodes_.find(inode)) node->exclusive = false;
      }
      body = std::move(rest);
    }
    if (const auto* open = std::get_if<Open>(&body); open && !here) asked_.insert(open->inode);
    // Of what was held when the leases were lost: what was granted since stays.
    if (auto* drop = std::get_if<DropLeases>(&body); drop && drop->sent_all) drop->mark = lost_mark_;
    untold = opened_here(body);
    if (may_unname(body)) ++unnaming_;  // until send() has the answer
  }
  if (here) return done(std::move(*here));
  if (first != 0) return ask_acl(who, first, std::move(body), options, std::move(done));
  if (const auto* lookup = std::get_if<Lookup>(&body)) list_ahead(who, lookup->parent);
  if (untold.empty()) return send(who, std::move(body), std::move(payload), options, since, std::move(done));
  report(std::move(untold),
         [self = shared_from_this(), who, body = std::move(body), payload = std::move(payload), options,
          since, done = std::move(done)] { self->send(who, body, payload, options, since, done); });
}

InodeNumber LeaseCache::unknown_acl(const RequestBody& body) {
  const auto* get = std::get_if<GetXattr>(&body);
  if (get == nullptr || !is_acl(get->name)) return 0;
  const Node* node = nodes_.find(get->inode);
  return node == nullptr || !node->known ? get->inode : 0;
}

// The kernel keeps an ACL, and that there is none, until it is told: the inode has to be leased for that. Its
// attributes are asked for first, and mostly say that it has none.
void LeaseCache::ask_acl(const Credentials& who, InodeNumber inode, RequestBody body, const Options& options,
                         Done done) {
  send(who, GetAttributes{inode}, {}, options, epochs_.now(),
       [self = shared_from_this(), who, body = std::move(body), options,
        done = std::move(done)](VolumeAnswer attributes) {
         if (attributes.reply.code != Code::ok) return done(std::move(attributes));
         std::optional<VolumeAnswer> here;
         {
           std::lock_guard lock(self->mutex_);
           here = self->known(body);
         }
         if (here) return done(std::move(*here));
         self->send(who, body, {}, options, self->epochs_.now(), done);
       });
}

bool LeaseCache::may_unname(const RequestBody& body) {
  const auto* rename = std::get_if<Rename>(&body);
  return std::holds_alternative<Unlink>(body) || (rename != nullptr && !rename->exchange);
}

// What is open here, without the owner's knowing, and may lose its name by this request.
std::vector<InodeNumber> LeaseCache::opened_here(const RequestBody& body) {
  std::vector<InodeNumber> untold;
  if (!may_unname(body)) return untold;
  const auto* unlink = std::get_if<Unlink>(&body);
  const auto* rename = std::get_if<Rename>(&body);
  const InodeNumber* entry =
      unlink ? entry_of(unlink->parent, unlink->name) : entry_of(rename->new_parent, rename->new_name);
  if (entry && *entry != 0) forget_attributes(*entry);  // opens from now on go to the owner
  for (auto& [inode, opened] : opened_) {
    if (entry && *entry != inode) continue;
    if (is_to_be_told(opened)) untold.push_back(inode);
  }
  return untold;
}

void LeaseCache::send(const Credentials& who, RequestBody body, Payload payload, const Options& options,
                      uint64_t since, Done done) {
  auto asked = std::make_shared<const RequestBody>(body);
  volume_->call(who, std::move(body), std::move(payload), options,
                [self = shared_from_this(), asked, since, done = std::move(done)](VolumeAnswer answer) {
                  {
                    std::lock_guard lock(self->mutex_);
                    if (may_unname(*asked)) --self->unnaming_;
                    if (self->leased_) self->learn(*asked, answer.reply, since);
                  }
                  done(std::move(answer));
                });
  send_drops();
}

std::optional<VolumeAnswer> LeaseCache::known(const RequestBody& body) {
  const auto* open = std::get_if<Open>(&body);
  const auto* get = std::get_if<GetAttributes>(&body);
  const auto* lookup = std::get_if<Lookup>(&body);
  const InodeNumber bare = asks_for_xattrs(body);
  if ((!open && !get && !lookup && bare == 0) || !alive()) return std::nullopt;
  if (lookup) return known(*lookup);
  if (bare != 0) {
    const Node* node = nodes_.find(bare);
    if (node == nullptr || !node->known || node->attributes.xattr_bytes != 0) return std::nullopt;
    VolumeAnswer answer;
    if (std::holds_alternative<GetXattr>(body)) answer.reply.code = Code::no_attribute;
    return answer;
  }
  const Node* node = nodes_.find(open ? open->inode : get->inode);
  if (node == nullptr || !node->known) return std::nullopt;
  if (open) {
    if ((open->want & W_OK) != 0 || !S_ISREG(node->attributes.mode)) return std::nullopt;
    // The owner has to know of who opens what has no name, or may just be losing it.
    if (node->attributes.nlink == 0 || unnaming_ > 0) return std::nullopt;
    opened_.try_emplace(open->inode);
  }
  VolumeAnswer answer;
  answer.reply.attributes = node->attributes;
  answer.reply.lease = kLeaseInode;
  return answer;
}

// Who looks at one name after another in a directory will look at the next ones: a listing with attributes
// brings them at once. The first page is short, and comes soon: most directories have no more.
void LeaseCache::list_ahead(const Credentials& who, InodeNumber directory) {
  ReadDirectory body;
  {
    std::lock_guard lock(mutex_);
    Node* node = leased_ ? nodes_.find(directory) : nullptr;
    if (node == nullptr || node->complete || node->listing || node->pages >= kPagesAhead) return;
    const bool first = node->pages == 0;
    if (++node->misses < (first ? kMissesBeforeFirst : kMissesBeforeListing)) return;
    body.limit = first ? kFirstListing : kListingPage;
    node->misses = 0;
    node->listing = true;
    ++node->pages;
    body.cookie = node->ahead;
  }
  body.inode = directory;
  body.with_attributes = true;
  volume_->call(who, body, {}, {},
                [self = shared_from_this(), body, since = epochs_.now()](VolumeAnswer answer) {
                  std::lock_guard lock(self->mutex_);
                  self->learn(body, answer.reply, since);
                  Node* node = self->nodes_.find(body.inode);
                  if (node == nullptr) return;
                  node->listing = false;
                  const auto& entries = answer.reply.entries;
                  node->ahead = answer.reply.end || entries.empty() ? 0 : entries.back().cookie;
                });
}

std::optional<VolumeAnswer> LeaseCache::known(const Lookup& lookup) {
  if (lookup.name == "." || lookup.name == ".." || lookup.name.size() > kMaxName) return std::nullopt;
  const InodeNumber* inode = entry_of(lookup.parent, lookup.name);
  VolumeAnswer answer;
  answer.reply.lease = kLeaseDirectory;
  if (inode == nullptr || *inode == 0) {
    if (inode == nullptr) {
      const Node* parent = nodes_.find(lookup.parent);
      if (parent == nullptr || !parent->complete) return std::nullopt;
    }
    answer.reply.code = Code::not_found;
    return answer;
  }
  const Node* node = nodes_.find(*inode);
  if (node == nullptr || !node->known) return std::nullopt;
  answer.reply.attributes = node->attributes;
  answer.reply.lease |= kLeaseInode;
  return answer;
}

bool LeaseCache::may_buffer(InodeNumber inode) {
  std::lock_guard lock(mutex_);
  const Node* node = nodes_.find(inode);
  return node != nullptr && node->exclusive;
}

bool LeaseCache::hears_of(InodeNumber inode) {
  std::lock_guard lock(mutex_);
  const Node* node = nodes_.find(inode);
  return node != nullptr && node->known && alive();
}

bool LeaseCache::keep_listing(InodeNumber directory) {
  std::lock_guard lock(mutex_);
  Node* node = alive() ? nodes_.find(directory) : nullptr;
  return node != nullptr && std::exchange(node->listed, true);
}

LeaseCache::Node& LeaseCache::node_of(InodeNumber inode) {
  Node& node = nodes_.at(inode);
  if (node.tenure == 0) node.tenure = ++tenures_;
  return node;
}

InodeNumber* LeaseCache::entry_of(InodeNumber parent, const std::string& name) {
  Entry* entry = entries_.find({parent, name});
  const Node* node = entry == nullptr ? nullptr : nodes_.find(parent);
  return node != nullptr && node->tenure == entry->tenure ? &entry->inode : nullptr;
}

// ---- learning ----

void LeaseCache::learn(const RequestBody& body, const Reply& reply, uint64_t since) {
  mark_ = std::max(mark_, reply.lease_mark);
  if (reply.code == Code::stale) {  // it is gone, and its recall not here yet: the name is to be asked anew
    std::visit(
        [&](const auto& one) {
          if constexpr (requires { one.inode; }) nodes_.erase(one.inode);
        },
        body);
  }
  if (const auto* close = std::get_if<Close>(&body)) {  // without a name it is leased to who has it open
    for (InodeNumber inode : close->inodes) {
      const Node* node = nodes_.find(inode);
      if (node == nullptr || node->attributes.nlink != 0) continue;
      nodes_.erase(inode);
      changed_here(inode);
    }
  }
  if (const auto* lookup = std::get_if<Lookup>(&body)) return learn_lookup(*lookup, reply, since);
  if (const auto* listing = std::get_if<ReadDirectory>(&body)) return learn_listing(*listing, reply, since);
  if (changes(body)) return learn_change(body, reply, since);
  if (reply.code != Code::ok) return;
  if (const auto* open = std::get_if<Open>(&body)) opened_[open->inode].told = true;
  if ((reply.lease & kLeaseInode) == 0) return;
  set_node(reply.attributes, since);
  if (const auto* open = std::get_if<Open>(&body)) {
    if (Node* node = nodes_.find(open->inode); node && unchanged(open->inode, since))
      node->exclusive |= (reply.lease & kLeaseExclusive) != 0;
  }
}

void LeaseCache::learn_lookup(const Lookup& lookup, const Reply& reply, uint64_t since) {
  if ((reply.lease & kLeaseInode) != 0) set_node(reply.attributes, since);
  if ((reply.lease & kLeaseDirectory) == 0 || lookup.name == "." || lookup.name == "..") return;
  if (reply.code == Code::not_found) {
    set_entry(lookup.parent, lookup.name, 0, since);
  } else if (reply.code == Code::ok && !reply.junction) {
    set_entry(lookup.parent, lookup.name, reply.attributes.inode, since);
  }
}

void LeaseCache::learn_listing(const ReadDirectory& listing, const Reply& reply, uint64_t since) {
  if (reply.code != Code::ok || (reply.lease & kLeaseDirectory) == 0) return;
  Node& node = node_of(listing.inode);
  // Names without attributes answer no lookup: who wants just those asks for a large directory's, and once.
  if (!listing.with_attributes) return;
  if (listing.cookie == 0) {
    node.scanning = true;
    node.scan_since = since;
  } else {
    node.scanning &= listing.cookie == node.scan_next;
    node.scan_since =
        std::min(node.scan_since, since);  // another listing may have begun after it was asked for
  }
  const uint64_t began = node.scan_since;
  bool whole = true;
  for (const DirectoryEntry entry : reply.entries) {
    whole &= !entry.junction;  // looked up in its own volume
    if (!entry.junction) set_entry(listing.inode, std::string(entry.name), entry.inode, since);
    if (entry.attributes) set_node(*entry.attributes, since);
  }
  Node& after = node_of(listing.inode);  // the same one, wherever it is now
  after.scanning &= whole;
  if (after.scanning && reply.end && unchanged(listing.inode, began)) after.complete = true;
  if (reply.end || reply.entries.empty()) {
    after.scanning = false;
  } else {
    after.scan_next = reply.entries.back().cookie;
  }
}

void LeaseCache::set_node(const Attributes& attributes, uint64_t since) {
  if (!unchanged(attributes.inode, since)) return forget_attributes(attributes.inode);
  Node& node = node_of(attributes.inode);
  drops_.erase(attributes.inode);
  if (!node.known || attributes.change >= node.attributes.change) node.attributes = attributes;
  node.known = true;
  make_room();
}

void LeaseCache::set_entry(InodeNumber parent, const std::string& name, InodeNumber inode, uint64_t since) {
  if (!unchanged(parent, since)) return;
  const uint64_t tenure = node_of(parent).tenure;  // its lease is in use
  entries_.at({parent, name}) = {inode, tenure};
  drops_.erase(parent);
  make_room();
}

void LeaseCache::set_parent(InodeNumber parent, const Reply& reply, uint64_t since) {
  Node* node = nodes_.find(parent);
  if (node == nullptr) return;
  if (reply.parent && reply.parent->inode == parent && node->known && unchanged(parent, since)) {
    if (reply.parent->change >= node->attributes.change) node->attributes = *reply.parent;
  } else {
    node->known = false;
  }
}

void LeaseCache::forget_attributes(InodeNumber inode) {
  if (Node* node = nodes_.find(inode)) node->known = false;
}

void LeaseCache::forget_entry(InodeNumber parent, const std::string& name) {
  entries_.erase({parent, name});
  if (Node* node = nodes_.find(parent)) node->complete = false;
}

// What has other names stays leased. `leased`: the owner may still hold it for us, and is told once the
// kernel cannot believe it any more.
void LeaseCache::lost_name(const Attributes& attributes, bool leased) {
  const InodeNumber inode = attributes.inode;
  if (inode == 0) return;
  changed_here(inode);
  if (attributes.nlink != 0) return forget_attributes(inode);
  nodes_.erase(inode);
  if (leased && !opened_.contains(inode)) drop_at(inode, clock_.now_ns() + kLeaseTerm);
}

void LeaseCache::drop_at(InodeNumber inode, int64_t at_ns) {
  drops_[inode] = {at_ns, mark_};
  if (drops_at_ns_ == 0) drops_at_ns_ = at_ns;
}

// It is not known whether the name still leads there.
void LeaseCache::doubt_entry(InodeNumber parent, const std::string& name) {
  if (const InodeNumber* entry = entry_of(parent, name); entry && *entry != 0) changed_here(*entry);
  forget_entry(parent, name);
  changed_here(parent);
}

void LeaseCache::learn_create(const Create& create, const Reply& reply, uint64_t since) {
  set_parent(create.parent, reply, since);
  if (create.open) opened_[reply.attributes.inode].told = true;
  if (create.unnamed) return changed_here(create.parent);
  if ((reply.lease & kLeaseDirectory) != 0 && unchanged(create.parent, since)) {
    set_entry(create.parent, create.name, reply.attributes.inode, since);
  } else {
    forget_entry(create.parent, create.name);
  }
  if ((reply.lease & kLeaseInode) != 0) {
    set_node(reply.attributes, since);
    if (Node* node = nodes_.find(reply.attributes.inode); node && unchanged(reply.attributes.inode, since)) {
      node->exclusive |= (reply.lease & kLeaseExclusive) != 0;
      node->complete |= S_ISDIR(reply.attributes.mode);
    }
  }
  changed_here(reply.attributes.inode);  // it may have been there
  changed_here(create.parent);
}

void LeaseCache::learn_rename(const Rename& rename, const Reply& reply, uint64_t since) {
  const bool known = unchanged(rename.parent, since) && unchanged(rename.new_parent, since);
  if (rename.parent != rename.new_parent) forget_attributes(rename.parent);
  set_parent(rename.new_parent, reply, since);
  const InodeNumber* target = entry_of(rename.new_parent, rename.new_name);
  const bool same = target && *target == reply.attributes.inode;  // two names of one file: both stay
  if (rename.exchange || rename.whiteout || !known || same) {
    forget_entry(rename.parent, rename.name);
    forget_entry(rename.new_parent, rename.new_name);
  } else {
    if (InodeNumber* entry = entry_of(rename.parent, rename.name)) *entry = 0;
    if (const Node* node = nodes_.find(rename.new_parent)) {
      entries_.at({rename.new_parent, rename.new_name}) = {reply.attributes.inode, node->tenure};
    } else {
      entries_.erase({rename.new_parent, rename.new_name});
    }
  }
  if ((reply.lease & kLeaseInode) != 0) {
    set_node(reply.attributes, since);
  } else {
    forget_attributes(reply.attributes.inode);
  }
  if (reply.replaced) lost_name(*reply.replaced, true);
  for (InodeNumber inode : {rename.parent, rename.new_parent, reply.attributes.inode}) changed_here(inode);
}

// A change that failed, or whose outcome is not known, leaves nothing to be believed of what it named.
void LeaseCache::learn_change(const RequestBody& body, const Reply& reply, uint64_t since) {
  const bool done = reply.code == Code::ok;
  if (const auto* create = std::get_if<Create>(&body)) {
    if (done) return learn_create(*create, reply, since);
    return doubt_entry(create->parent, create->name);
  }
  if (const auto* rename = std::get_if<Rename>(&body)) {
    if (done) return learn_rename(*rename, reply, since);
    doubt_entry(rename->parent, rename->name);
    return doubt_entry(rename->new_parent, rename->new_name);
  }
  if (const auto* link = std::get_if<Link>(&body)) {
    set_parent(link->parent, reply, since);
    forget_attributes(link->inode);
    if (done && (reply.lease & kLeaseDirectory) != 0 && unchanged(link->parent, since)) {
      set_entry(link->parent, link->name, link->inode, since);
    } else {
      forget_entry(link->parent, link->name);
    }
    changed_here(link->inode);
    return changed_here(link->parent);
  }
  if (const auto* unlink = std::get_if<Unlink>(&body)) {
    set_parent(unlink->parent, reply, since);
    InodeNumber* entry = entry_of(unlink->parent, unlink->name);
    if (entry && *entry != 0) {
      forget_attributes(*entry);
      changed_here(*entry);
    }
    if (done && entry && unchanged(unlink->parent, since)) {
      *entry = 0;
    } else {
      forget_entry(unlink->parent, unlink->name);
    }
    if (done) lost_name(reply.attributes, (reply.lease & kLeaseInode) != 0);
    return changed_here(unlink->parent);
  }
  if (const auto* mark = std::get_if<MarkAccess>(&body)) {
    Node* node = nodes_.find(mark->inode);
    if (!done || node == nullptr) return;
    if (!node->known && (reply.lease & kLeaseInode) != 0) return set_node(reply.attributes, since);
    node->attributes.atime_ns = std::max(node->attributes.atime_ns, reply.attributes.atime_ns);
    return;
  }
  std::visit(
      [&](const auto& one) {
        if constexpr (requires { one.inode; }) {
          if (done && (reply.lease & kLeaseInode) != 0 && reply.attributes.inode == one.inode) {
            set_node(reply.attributes, since);
            if (Node* node = nodes_.find(one.inode); node && unchanged(one.inode, since))
              node->exclusive |= (reply.lease & kLeaseExclusive) != 0;
          } else {
            forget_attributes(one.inode);
          }
          changed_here(one.inode);
        }
      },
      body);
}

// ---- letting go ----

void LeaseCache::make_room() {
  if (entries_.newer.size() > kCachedEntries / 2) {
    for (const auto& [key, entry] : entries_.older) {
      if (Node* node = nodes_.find(key.parent)) node->complete = node->scanning = false;
    }
    entries_.older = std::move(entries_.newer);
    entries_.newer.clear();
  }
  if (nodes_.newer.size() <= kCachedInodes / 2) return;
  std::unordered_map<InodeNumber, Node> kept;
  const int64_t at_ns = clock_.now_ns() + kLeaseTerm;
  for (auto& [inode, node] : nodes_.older) {
    if (node.exclusive || opened_.contains(inode)) {
      kept.emplace(inode, std::move(node));
    } else {
      drop_at(inode, at_ns);
    }
  }
  nodes_.older = std::move(nodes_.newer);
  nodes_.newer = std::move(kept);
}

void LeaseCache::send_drops() {
  std::map<uint64_t, std::vector<InodeNumber>> dropped;  // by mark: an answer on its way may lease it anew
  {
    std::lock_guard lock(mutex_);
    const int64_t now_ns = clock_.now_ns();
    if (drops_at_ns_ == 0 || now_ns < drops_at_ns_) return;
    drops_at_ns_ = 0;
    for (auto at = drops_.begin(); at != drops_.end();) {
      const auto [inode, drop] = *at;
      if (drop.at_ns > now_ns) {
        drops_at_ns_ = drops_at_ns_ == 0 ? drop.at_ns : std::min(drops_at_ns_, drop.at_ns);
        ++at;
        continue;
      }
      if (nodes_.find(inode) == nullptr) {
        dropped[drop.mark].push_back(inode);
        changed_here(inode);  // from now on perhaps, and nobody says so here
      }
      at = drops_.erase(at);
    }
  }
  for (const auto& [mark, inodes] : dropped) {
    for (size_t from = 0; from < inodes.size(); from += kDropBatch) {
      const size_t to = std::min(inodes.size(), from + kDropBatch);
      DropLeases part;
      part.mark = mark;
      part.inodes.assign(inodes.begin() + ptrdiff_t(from), inodes.begin() + ptrdiff_t(to));
      volume_->call({}, std::move(part), {}, {}, [](VolumeAnswer) {});
    }
  }
}

// ---- recalls ----

// The owner learns of opens before it is told that the lease is gone: from then on it keeps the inode for
// them alone. Who is told that one is to be told reports it.
bool LeaseCache::is_to_be_told(Opened& opened) {
  if (opened.told) return false;
  ++opened.telling;
  return true;
}

bool LeaseCache::waits_for_reports(const Close& close) const {
  return std::any_of(close.inodes.begin(), close.inodes.end(), [&](InodeNumber inode) {
    const auto opened = opened_.find(inode);
    return opened != opened_.end() && opened->second.telling > 0;
  });
}

// In parts, as many as there have to be.
void LeaseCache::report(std::vector<InodeNumber> inodes, std::function<void()> then) {
  if (inodes.empty()) return then();
  if (inodes.size() > kInodesPerHello) {
    std::vector<InodeNumber> rest(inodes.begin() + kInodesPerHello, inodes.end());
    inodes.resize(kInodesPerHello);
    then = [self = shared_from_this(), rest = std::move(rest), then = std::move(then)] {
      self->report(rest, then);
    };
  }
  auto reported = [self = shared_from_this(), inodes, then = std::move(then)](VolumeAnswer answer) {
    std::vector<std::function<void()>> closes;
    {
      std::lock_guard lock(self->mutex_);
      for (InodeNumber inode : inodes) {
        Opened& opened = self->opened_.at(inode);
        --opened.telling;
        opened.told |= answer.reply.code == Code::ok;
      }
      closes.swap(self->closes_);
    }
    for (auto& close : closes) close();
    then();
  };
  {
    std::lock_guard lock(mutex_);
    asked_.insert(inodes.begin(), inodes.end());
  }
  Hello opened{std::move(inodes)};
  opened.renew = true;  // no greeting: an owner that has started anew is to hear of everything first
  volume_->call({}, std::move(opened), {}, {}, std::move(reported));
}

void LeaseCache::recalled(const Recall& recall, Forgotten forgotten) {
  std::vector<InodeNumber> opened;
  RecallListener listener;
  {
    std::lock_guard lock(mutex_);
    listener = listener_;
    for (const RecallItem& item : recall.items) {
      epochs_.recalled(node_key(item.inode));
      Node* node = nodes_.find(item.inode);
      if (item.flush) {
        if (node) node->exclusive = false;
        continue;
      }
      if (node) node->known = node->listed = false;
      if (!item.name.empty()) {
        forget_entry(item.inode, item.name);
      } else if (auto open = opened_.find(item.inode); open != opened_.end()) {
        if (is_to_be_told(open->second)) opened.push_back(item.inode);
      }
    }
  }
  // The news is here before anything that the owner answers after it: only `forgotten` waits for the report.
  const auto both =
      std::shared_ptr<void>(nullptr, [forgotten = std::move(forgotten)](void*) { forgotten(); });
  if (listener) listener(recall, [both] {});
  report(std::move(opened), [both] {});
}

void LeaseCache::lost(bool for_good) {
  std::vector<InodeNumber> opened;
  std::function<void(bool)> listener;
  {
    std::lock_guard lock(mutex_);
    listener = lost_listener_;
    if (for_good) {
      lost_mark_ = mark_;
      epochs_.all_recalled();
      nodes_.clear();
      entries_.clear();
      drops_.clear();
      for (auto& [inode, one] : opened_) {
        if (is_to_be_told(one)) opened.push_back(inode);
      }
    } else {  // the kernel will not keep its listings
      for (auto* half : {&nodes_.newer, &nodes_.older}) {
        for (auto& [inode, node] : *half) node.listed = false;
      }
    }
  }
  report(std::move(opened), [] {});
  if (listener) listener(for_good);
}

void LeaseCache::renewed() {
  std::vector<InodeNumber> opened;
  {
    std::lock_guard lock(mutex_);
    for (auto& [inode, one] : opened_) {
      if (std::exchange(one.lasts, true) && is_to_be_told(one)) opened.push_back(inode);
    }
  }
  report(std::move(opened), [] {});
}

}  // namespace efs
