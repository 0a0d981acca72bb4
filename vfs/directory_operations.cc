// FUSE: directories. opendir, readdir, readdirplus, releasedir, fsyncdir.
//
// A position is the cookie of the entry before it: stable while the directory changes. "." and ".." have 1
// and 2 (kFirstCookie). Where the owner is here, each call asks for what fits; from afar many entries come at
// a time and wait in the handle, and the next page is on its way while one is read.
//
// The kernel asks for attributes with the first entries of every directory, and with others once the program
// looks at files there. So the first page is a short one, here as there, and the one after it is fetched
// ahead without them.
//
// What is made after the reading began is left out, as POSIX lets us: its cookies are larger than all others,
// and who renames (or copies) each file that a listing shows would never come to its end.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "vfs/limits.h"
#include "vfs/session.h"

namespace efs {

namespace {

constexpr size_t kEntryBytes = 40;       // about: fuse_dirent and a short name
constexpr size_t kPlusEntryBytes = 168;  // and its attributes

struct Listing {
  RequestPtr request;
  std::shared_ptr<VolumeClient> client;
  fuse_ino_t node = 0;
  size_t size = 0;
  uint64_t position = 0;
  bool plus = false;
  DirectoryHandlePtr handle;
  ListedSince since;  // when the entries were asked for, and what was leased with them
  uint8_t lease = 0;
  std::string buffer;  // `size` bytes, of which `used` are
  size_t used = 0;

  ListedSince now() const;
  // What it came with is not older than what this mount has changed since: the kernel would believe it.
  bool is_current(const DirectoryEntry& entry) const;
  // False: it did not fit.
  bool add(const char* name, const fuse_entry_param& entry, uint64_t next);
  bool add(const DirectoryEntry& entry);
  void add_dots(const Reply& first_page);
  void reply();
};
using ListingPtr = std::shared_ptr<Listing>;

LeaseCache* cache_of(const std::shared_ptr<VolumeClient>& client) {
  return client->local() ? nullptr : static_cast<LeaseCache*>(client.get());
}

ListedSince Listing::now() const {
  const LeaseCache* cache = cache_of(client);
  return {request->session().given.now(), cache ? cache->now() : 0};
}

bool Listing::is_current(const DirectoryEntry& entry) const {
  const LeaseCache* cache = cache_of(client);
  return cache == nullptr || cache->unchanged(entry.inode, since.cached);
}

bool Listing::add(const char* name, const fuse_entry_param& entry, uint64_t next) {
  if (buffer.empty()) buffer.resize(size);
  char* const to = buffer.data() + used;
  const size_t room = size - used;  // libfuse looks at no request here: the first argument is not used
  const size_t needed = plus ? fuse_add_direntry_plus(nullptr, to, room, name, &entry, off_t(next))
                             : fuse_add_direntry(nullptr, to, room, name, &entry.attr, off_t(next));
  if (needed > room) return false;
  used += needed;
  return true;
}

bool Listing::add(const DirectoryEntry& entry) {
  fuse_entry_param shown{};
  if (plus && entry.attributes && !entry.junction && is_current(entry)) {
    const uint8_t of_entry = lease != 0 ? kLeaseInode | kLeaseDirectory : 0;
    const MountSession::Shown where{node, entry.name, of_entry, nullptr};
    shown = request->session().entry_of(since.given, client, *entry.attributes, where);
  } else {  // no attributes: the kernel looks it up when it is wanted
    shown.attr.st_ino = entry.junction ? global_inode(entry.junction->number, kRootInode)
                                       : global_inode(client->number(), entry.inode);
    shown.attr.st_mode = entry.junction ? mode_t(S_IFDIR) : entry.mode;
  }
  return add(entry.name.data(), shown, entry.cookie);
}

// "." and "..", before the entries.
void Listing::add_dots(const Reply& first_page) {
  fuse_entry_param entry{};
  entry.attr.st_mode = S_IFDIR;
  entry.attr.st_ino = node;
  if (position == 0) add(".", entry, 1);
  if (const auto outside = request->session().tree.above(node)) {
    entry.attr.st_ino = *outside;
  } else if (!first_page.parents.empty()) {
    entry.attr.st_ino = global_inode(client->number(), first_page.parents.front());
  }
  add("..", entry, 2);
  position = 2;
}

void Listing::reply() {
  request->reply([&](fuse_req_t to) { return fuse_reply_buf(to, buffer.data(), used); });
}

// Leaves out what was made after the reading began. Returns whether anything was.
bool cut(DirectoryHandle& handle, Reply& reply) {
  if (handle.until == 0) handle.until = reply.offset;
  if (handle.until == 0) return false;
  auto late = reply.entries.begin();
  while (late != reply.entries.end() && late.cookie() < handle.until) ++late;
  const bool any = late != reply.entries.end();
  reply.entries.erase_from(late);
  return any;
}

// From the handle's page; false when it does not begin at `position`.
bool list_from_page(Listing& listing) {
  std::lock_guard lock(listing.handle->mutex);
  DirectoryHandle& page = *listing.handle;
  if (listing.plus && !page.with_attributes) return false;
  const auto end = page.entries.end();
  auto next = page.next;
  if (page.next_cookie != listing.position) {  // not where it ended last
    next = page.entries.begin();
    if (page.cookie != listing.position) {
      while (next != end && next.cookie() != listing.position) ++next;
      if (next == end) return false;
      ++next;
    }
  }
  if (next == end && !page.end) return false;
  listing.since = page.since;
  listing.lease = page.lease;
  page.next_cookie = listing.position;
  for (page.next = next; page.next != end && listing.add(*page.next); ++page.next)
    page.next_cookie = page.next.cookie();
  return true;
}

void mark_read(Listing& listing, const Attributes& directory) {
  {
    std::lock_guard lock(listing.handle->mutex);
    if (std::exchange(listing.handle->no_atime, true)) return;
  }
  MountSession& session = listing.request->session();
  if (marks_access(directory, session.background.clock().wall_ns()))
    session.mark_access(listing.client, listing.request->who(), directory.inode);
}

// With the handle's lock.
ReadDirectory page_at(const Listing& listing, uint64_t cookie, bool with_attributes) {
  uint32_t& limit = listing.handle->limit;
  limit = limit == 0 ? kFirstListing : std::min(limit * 4, with_attributes ? kListingPage : kNamesPage);
  ReadDirectory body;
  body.inode = inode_of(listing.node);
  body.cookie = cookie;
  body.limit = limit;
  body.with_attributes = with_attributes;
  return body;
}

// Asks for the page behind this one. What fails is asked for again when it is wanted.
void fetch_ahead(const ListingPtr& listing, uint64_t cookie, bool with_attributes) {
  auto ahead = std::make_shared<ListingAhead>();
  ahead->cookie = cookie;
  ahead->with_attributes = with_attributes;
  ahead->since = listing->now();
  ReadDirectory body;
  {
    std::lock_guard lock(listing->handle->mutex);
    listing->handle->ahead = ahead;
    body = page_at(*listing, cookie, with_attributes);
  }
  ask_ahead(listing->client, listing->request->who(), body, ahead);
}

void walk_on(const Listing& listing, const EntryList& entries) {
  TreeWalks::SiblingsPtr among;
  {
    std::lock_guard lock(listing.handle->mutex);
    among = listing.handle->subdirectories;
  }
  TreeWalks& walks = listing.request->session().walks;
  walks.ask(walks.listed(listing.node, entries, among), listing.client, listing.request->who());
  std::lock_guard lock(listing.handle->mutex);
  listing.handle->subdirectories = std::move(among);
}

void take_page(const ListingPtr& listing, Reply& reply) {
  mark_read(*listing, reply.attributes);
  if (listing->position <= 2 || listing->plus) walk_on(*listing, reply.entries);
  if (listing->position < 2) listing->add_dots(reply);
  const bool first = listing->position == 2;
  uint64_t next = 0;
  {
    std::lock_guard lock(listing->handle->mutex);
    DirectoryHandle& page = *listing->handle;
    page.cookie = listing->position;
    page.since = listing->since;
    page.lease = reply.lease;
    const bool last = cut(page, reply) || reply.end;
    page.entries = std::move(reply.entries);
    page.next_cookie = page.cookie;
    page.next = page.entries.begin();
    page.end = last || page.entries.empty();
    page.with_attributes = listing->plus;
    if (!page.end) next = page.entries.back().cookie;
  }
  if (next != 0) fetch_ahead(listing, next, listing->plus && !first);
  list_from_page(*listing);
  listing->reply();
}

void ask_for_page(const ListingPtr& listing) {
  const uint64_t cookie = listing->position < kFirstCookie ? 0 : listing->position;
  listing->since = listing->now();
  ReadDirectory body;
  {
    std::lock_guard lock(listing->handle->mutex);
    body = page_at(*listing, cookie, listing->plus);
  }
  listing->request->session().call(listing->request, listing->client, body,
                                   [listing](VolumeAnswer& answer) { take_page(listing, answer.reply); });
}

// What came before the reading began, and may not be older than that.
bool is_true(const Listing& listing, const ListingAhead& ahead) {
  return (ahead.answer.reply.lease & kLeaseDirectory) != 0 &&
         TreeWalks::is_true(ahead, listing.node, *cache_of(listing.client));
}

void fetch_from_afar(const ListingPtr& listing) {
  ListingAheadPtr ahead;
  {
    std::lock_guard lock(listing->handle->mutex);
    ahead = std::exchange(listing->handle->ahead, nullptr);
  }
  if (!ahead || ahead->cookie != listing->position || (listing->plus && !ahead->with_attributes) ||
      !listing->request->listen(listing->client, ahead->interrupted))
    return ask_for_page(listing);
  auto take = [listing, ahead](bool waited) {
    const Code code = ahead->answer.reply.code;
    if (waited && (code == Code::interrupted || code == Code::unreachable || code == Code::timed_out))
      return void(listing->request->error(code));
    if (code != Code::ok || (ahead->cookie == 0 && !is_true(*listing, *ahead))) return ask_for_page(listing);
    listing->since = ahead->since;
    take_page(listing, ahead->answer.reply);
  };
  {
    std::lock_guard lock(ahead->mutex);
    if (!ahead->ready) {
      ahead->waiting = [take] { take(true); };
      return;
    }
  }
  take(false);
}

void fetch(const ListingPtr& listing) {
  if (!listing->client->local()) return fetch_from_afar(listing);
  const size_t each = listing->plus ? kPlusEntryBytes : kEntryBytes;
  ReadDirectory body;
  body.inode = inode_of(listing->node);
  body.cookie = listing->position < kFirstCookie ? 0 : listing->position;
  body.limit = uint32_t(listing->size / each + 1);
  if (listing->position == 0) body.limit = std::min(body.limit, kFirstListing);
  body.with_attributes = listing->plus;
  listing->since = listing->now();
  listing->request->session().call(listing->request, listing->client, body, [listing](VolumeAnswer& answer) {
    mark_read(*listing, answer.reply.attributes);
    {
      std::lock_guard lock(listing->handle->mutex);
      cut(*listing->handle, answer.reply);
    }
    listing->lease = answer.reply.lease;
    if (listing->position < 2) listing->add_dots(answer.reply);
    for (const DirectoryEntry entry : answer.reply.entries) {
      if (!listing->add(entry)) break;
    }
    listing->reply();
  });
}

// What will be wanted next is asked for behind what is wanted now.
void begin_from_afar(const ListingPtr& listing) {
  TreeWalks& walks = listing->request->session().walks;
  const auto client = listing->client;
  const Credentials who = listing->request->who();
  auto begun = walks.begin(listing->node, *cache_of(client));
  if (begun.ahead) {
    std::lock_guard lock(listing->handle->mutex);
    listing->handle->ahead = std::move(begun.ahead);
    listing->handle->limit = kFirstListing;
  }
  fetch_from_afar(listing);
  walks.ask(begun.next, client, who);
}

void list(const ListingPtr& listing) {
  if (listing->position == 0) {
    {
      std::lock_guard lock(listing->handle->mutex);
      listing->handle->until = 0;
      listing->handle->limit = 0;
      listing->handle->ahead = nullptr;  // what it would show may have changed before this reading began
      listing->handle->subdirectories = nullptr;
    }
    if (!listing->client->local()) return begin_from_afar(listing);
  }
  if (listing->position < 2 || listing->client->local() || !list_from_page(*listing)) return fetch(listing);
  listing->reply();
}

void start(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* info, bool plus) {
  auto listing = std::make_shared<Listing>();
  listing->request = begin(req);
  listing->request->by_handle();
  listing->client = listing->request->session().client(node);
  if (!listing->client) return void(listing->request->error(Code::stale));
  listing->node = node;
  listing->size = std::min<size_t>(size, kMaxWrite);
  listing->position = uint64_t(offset);
  listing->plus = plus;
  listing->handle = *reinterpret_cast<DirectoryHandlePtr*>(info->fh);
  list(listing);
}

// The kernel keeps the listing: at the owner it is told of every change, elsewhere as long as it is leased.
void op_opendir(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  auto session = session_of(req);
  uint64_t names_lost = 0;
  if (auto client = session->client(node)) {
    const uint64_t key = listing_key(node);
    session->given.give(key, session->given.now(), session->background.clock().now_ns(), kForLong);
    names_lost = session->names_lost_and_told(*client);
    auto* cache = cache_of(client);
    info->cache_readdir = 1;
    info->keep_cache = session->notifier.overflows() == 0 && (!cache || cache->keep_listing(inode_of(node)));
  }
  auto handle = std::make_unique<DirectoryHandlePtr>(std::make_shared<DirectoryHandle>());
  (*handle)->no_atime = (info->flags & O_NOATIME) != 0;
  (*handle)->names_lost = names_lost;
  info->fh = reinterpret_cast<uint64_t>(handle.get());
  if (fuse_reply_open(req, info) == 0) handle.release();
}

void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* info) {
  start(req, node, size, offset, info, false);
}
void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* info) {
  start(req, node, size, offset, info, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
  delete reinterpret_cast<DirectoryHandlePtr*>(info->fh);
  fuse_reply_err(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int, fuse_file_info* info) {
  auto request = begin(req);
  const DirectoryHandlePtr handle = *reinterpret_cast<DirectoryHandlePtr*>(info->fh);
  auto client = request->session().client(node);
  // Of the whole volume: the directory may be gone, and what was lost of its names is counted.
  request->session().call(request, client, Sync{}, [request, client, handle](VolumeAnswer&) {
    const bool lost = request->session().lost_names(*client, handle->names_lost);
    request->error(lost ? EIO : 0);
  });
}

}  // namespace

void set_directory_operations(fuse_lowlevel_ops& operations) {
  operations.opendir = op_opendir;
  operations.readdir = op_readdir;
  operations.readdirplus = op_readdirplus;
  operations.releasedir = op_releasedir;
  operations.fsyncdir = op_fsyncdir;
}

}  // namespace efs
