#include "test/sim/lease/mount.h"

#include <fmt/format.h>
#include <unistd.h>

#include "peer/base/hash.h"

namespace efs::test {

namespace {
constexpr int64_t kBetween = 150 * kMillisecond;  // operations of one worker
constexpr int64_t kInstall = 2 * kMillisecond;    // from the answer to its being in the kernel's caches
constexpr int64_t kOwnTimeout = 5 * kSecond;      // of the kernel's caches
constexpr size_t kNames = 4;
const Credentials kRootUser{0, 0, {}, true};
}  // namespace

Mount::Mount(int number, Simulator& simulator, Runtime& runtime, std::shared_ptr<RemoteVolume> remote,
             Truth& truth, uint64_t seed)
    : number_(number),
      simulator_(simulator),
      runtime_(runtime),
      remote_(std::move(remote)),
      cache_(std::make_shared<LeaseCache>(remote_, runtime.loop.clock())),
      truth_(truth),
      random_(seed) {}

void Mount::begin() {
  cache_->on_recall(
      [weak = weak_from_this()](const Recall& recall, VolumeClient::Forgotten forgotten) {
        auto self = weak.lock();
        if (!self) return forgotten();
        self->recalled(recall, std::move(forgotten));
      },
      {});
  cache_->on_leases_lost([weak = weak_from_this()](bool for_good) {
    if (auto self = weak.lock()) self->lost(for_good);
  });
  for (int worker = 0; worker < 2; ++worker) later(kBetween, [this] { next(); });
}

void Mount::later(int64_t at_most_ns, Task task) {
  runtime_.loop.after(int64_t(below(uint64_t(at_most_ns))) + 1, [weak = weak_from_this(), task] {
    if (auto self = weak.lock()) task();
  });
}

void Mount::ask(RequestBody body, Payload payload, Then then) {
  cache_->call(kRootUser, std::move(body), std::move(payload), {},
               [weak = weak_from_this(), then](VolumeAnswer answer) {
                 if (auto self = weak.lock()) self->later(kInstall, [then, answer] { then(answer); });
               });
}

std::string Mount::name() {
  return std::string(1, char('a' + below(kNames)));
}

// A file that was made, and may be gone.
InodeNumber Mount::pick() {
  return truth_.names[name()].last;
}

void Mount::next() {
  if (stopping_) return;
  ++under_way_;
  switch (below(15)) {
    case 0:
    case 1:
      return create(name());
    case 2:
      return unlink(name());
    case 3:
    case 4:
    case 5:
      return look(name());
    case 6:
      return change_mode(pick());
    case 7:
    case 8:
      return open_and_write(pick());
    case 9:
      return read(pick());
    case 10:
      if (below(3) == 0) return close(pick());
      return stat(pick());
    case 11:
    case 12:
      return rename(name(), name());
    case 13:
      return list();
    default:
      return stat(pick());
  }
}

// Whoever is not cut off himself waits for others for the length of a lease, and no longer.
void Mount::over(const char* what, int64_t begun_ns) {
  const int64_t took_ns = now_ns() - begun_ns;
  const bool whole = begun_ns >= truth_.whole_since_ns[number_] && begun_ns >= *owner_whole_since_ns;
  if (whole) truth_.longest_ns = std::max(truth_.longest_ns, took_ns);
  const int64_t limit_ns = std::max(patience_ns, kLeaseTerm + (calm ? 500 * kMillisecond : 3 * kSecond));
  if (whole && took_ns > limit_ns)
    truth_.violations.push_back(fmt::format("{:.3f} mount {}: {} took {:.3f} s", double(now_ns()) / 1e9,
                                            number_, what, double(took_ns) / 1e9));
  ++done;
  --under_way_;
  later(kBetween, [this] { next(); });
}

// ---- what binds ----

Truth::NamePointer Truth::put(const std::string& name, int64_t now_ns, InodeNumber inode, bool any) {
  auto& writes = names[name].writes;
  const int64_t over_ns = now_ns - kMinute;
  int64_t overwritten_ns = 0;
  for (const auto& one : writes) {
    if (one->bound_ns < over_ns) overwritten_ns = std::max(overwritten_ns, one->begun_ns);
  }
  std::erase_if(writes, [&](const auto& one) { return one->bound_ns < overwritten_ns; });
  return writes.emplace_back(std::make_shared<NameWrite>(NameWrite{now_ns, INT64_MAX, inode, any}));
}

void Truth::withdraw(const std::string& name, const NamePointer& write) {
  std::erase(names[name].writes, write);
}

bool Truth::may_be(const std::string& name, InodeNumber inode, int64_t begun_ns) const {
  const auto found = names.find(name);
  if (found == names.end()) return inode == 0;
  const auto& writes = found->second.writes;
  int64_t overwritten_ns = 0;
  for (const auto& one : writes) {
    if (one->bound_ns < begun_ns) overwritten_ns = std::max(overwritten_ns, one->begun_ns);
  }
  return std::any_of(writes.begin(), writes.end(), [&](const auto& one) {
    return (one->any || one->inode == inode) && one->bound_ns >= overwritten_ns;
  });
}

bool Mount::others_change(const Truth::Place& place) const {
  return place.busy.size() > place.busy.count(number_) || now_ns() < place.settled_ns;
}

void Mount::enter(InodeNumber of, bool& overlapped) {
  Truth::Place& place = truth_.places[of];
  overlapped |= others_change(place);
  place.busy.insert(number_);
}

// From when on everybody must see it.
int64_t Mount::leave(InodeNumber of, bool overlapped) {
  Truth::Place& place = truth_.places[of];
  place.busy.erase(place.busy.find(number_));
  overlapped |= others_change(place);
  ++truth_.changes;
  if (!overlapped) {
    ++truth_.bound;
    return now_ns();
  }
  place.settled_ns = now_ns() + truth_.settling_ns;
  return place.settled_ns;
}

void Mount::bind(InodeNumber inode, uint64_t change, int64_t from_ns) {
  auto [at, added] = truth_.inodes[inode].changes.try_emplace(change, from_ns);
  if (!added) at->second = std::min(at->second, from_ns);
}

void Mount::saw(InodeNumber inode, int64_t begun_ns, uint64_t change, const char* what, bool own) {
  ++truth_.reads;
  const Truth::Inode& is = truth_.inodes[inode];
  for (const auto& [version, from_ns] : is.changes) {
    if (version > change && from_ns < begun_ns) {
      truth_.violations.push_back(fmt::format(
          "{:.3f} mount {}: {} of inode {} shows version {}, but {} was answered {:.3f} before",
          double(now_ns()) / 1e9, number_, what, inode, change, version, double(begun_ns - from_ns) / 1e9));
      return;
    }
  }
  if (truth_.forgotten_ns != 0 && truth_.forgotten_ns < begun_ns) {
    const auto now = truth_.current(inode);
    if (now && change > *now)
      truth_.violations.push_back(
          fmt::format("{:.3f} mount {}: {} of inode {} shows version {}, the owner has {}",
                      double(now_ns()) / 1e9, number_, what, inode, change, *now));
  }
  if (own) return;
  for (const auto& [mount, at_ns] : truth_.buffered[inode]) {
    // One that was cut off while it kept them was perhaps fenced: then they come late.
    const bool whole = at_ns >= truth_.whole_since_ns[mount] && at_ns >= *owner_whole_since_ns;
    if (mount != number_ && whole && at_ns < begun_ns)
      truth_.violations.push_back(
          fmt::format("{:.3f} mount {}: {} of inode {} without what mount {} had written {:.3f} before",
                      double(now_ns()) / 1e9, number_, what, inode, mount, double(begun_ns - at_ns) / 1e9));
  }
}

// ---- names ----

void Mount::lock(Task then) {
  if (directory_.held) return directory_.waiting.push_back(std::move(then));
  directory_.held = true;
  then();
}
void Mount::unlock() {
  directory_.held = false;
  if (directory_.waiting.empty()) return;
  Task then = std::move(directory_.waiting.front());
  directory_.waiting.pop_front();
  directory_.held = true;
  then();
}

void Mount::look(const std::string& what) {
  const int64_t begun_ns = now_ns();
  auto found = entries_.find(what);
  if (found != entries_.end() && runtime_.loop.clock().now_ns() < found->second.until_ns) {
    ++truth_.kernel_reads;
    looked(what, begun_ns, found->second.inode);
    return over("a cached lookup", begun_ns);
  }
  lock([this, what, begun_ns] {
    const uint64_t since = given_.now();
    cache_->call(kRootUser, Lookup{kRootInode, what}, {}, {},
                 [this, what, begun_ns, since, weak = weak_from_this()](VolumeAnswer answer) {
                   auto self = weak.lock();
                   if (!self) return;
                   const InodeNumber inode =
                       answer.reply.code == Code::ok ? answer.reply.attributes.inode : 0;
                   const bool known = answer.reply.code == Code::ok || answer.reply.code == Code::not_found;
                   const int64_t timeout_ns = known ? believe(since, entry_key(kRootInode, what),
                                                              (answer.reply.lease & kLeaseDirectory) != 0)
                                                    : 0;
                   const int64_t until_ns = runtime_.loop.clock().now_ns() + timeout_ns;
                   later(kInstall, [this, what, begun_ns, inode, known, until_ns] {
                     if (known) {
                       entries_[what] = {inode, until_ns};
                       looked(what, begun_ns, inode);
                     }
                     unlock();
                     over("a lookup", begun_ns);
                   });
                 });
  });
}

void Mount::looked(const std::string& what, int64_t begun_ns, InodeNumber found) {
  ++truth_.reads;
  if (truth_.may_be(what, found, begun_ns)) return;
  std::string history;
  for (const auto& one : truth_.names[what].writes)
    history += fmt::format(" [{:.3f}, {:.3f}] {}{}", double(one->begun_ns) / 1e9, double(one->bound_ns) / 1e9,
                           one->any ? "any " : "", one->inode);
  truth_.violations.push_back(
      fmt::format("{:.3f} mount {}: {} is inode {}, looked at from {:.3f} on; it was{}",
                  double(now_ns()) / 1e9, number_, what, found, double(begun_ns) / 1e9, history));
}

// ---- listings ----

// As op_opendir and the kernel's cache of listings.
void Mount::list() {
  const int64_t begun_ns = now_ns();
  ++truth_.listings;
  given_.give(listing_key(kRootInode), given_.now(), runtime_.loop.clock().now_ns(), kMinute);
  const bool keeps = cache_->keep_listing(kRootInode);
  if (!keeps) listing_.reset();
  if (listing_) {
    ++truth_.kernel_reads;
    listed(begun_ns, *listing_);
    return over("a cached listing", begun_ns);
  }
  lock([this, begun_ns] {
    const uint64_t version = listing_version_;
    ask(ReadDirectory{kRootInode, 0, 1000, true}, {}, [this, begun_ns, version](VolumeAnswer answer) {
      if (answer.reply.code == Code::ok) {
        Listing found;
        for (const DirectoryEntry entry : answer.reply.entries) found[std::string(entry.name)] = entry.inode;
        if (version == listing_version_) listing_ = found;
        listed(begun_ns, found);
      }
      unlock();
      over("a listing", begun_ns);
    });
  });
}

void Mount::listed(int64_t begun_ns, const Listing& found) {
  for (size_t i = 0; i < kNames; ++i) {
    const std::string what(1, char('a' + i));
    auto entry = found.find(what);
    looked(what, begun_ns, entry == found.end() ? 0 : entry->second);
  }
}

void Mount::names_changed() {
  listing_.reset();
  ++listing_version_;
}

void Mount::create(const std::string& what) {
  const int64_t begun_ns = now_ns();
  lock([this, what, begun_ns] {
    auto overlapped = std::make_shared<bool>(false);
    enter(kRootInode, *overlapped);
    const uint64_t since = given_.now();
    const auto put = truth_.put(what, now_ns(), 0, true);
    Create make;
    make.parent = kRootInode;
    make.name = what;
    make.mode = 0100644;
    cache_->call(
        kRootUser, make, {}, {},
        [this, what, begun_ns, since, overlapped, put, weak = weak_from_this()](VolumeAnswer answer) {
          auto self = weak.lock();
          if (!self) return;
          const InodeNumber inode = answer.reply.attributes.inode;
          const bool made = answer.reply.code == Code::ok;
          const int64_t timeout_ns =
              made ? believe(since, entry_key(kRootInode, what), (answer.reply.lease & kLeaseDirectory) != 0)
                   : 0;
          const int64_t until_ns = runtime_.loop.clock().now_ns() + timeout_ns;
          later(kInstall,
                [this, what, begun_ns, overlapped, inode, made, until_ns, put, code = answer.reply.code] {
                  const int64_t from_ns = leave(kRootInode, *overlapped);
                  entries_.erase(what);
                  names_changed();
                  if (made) {
                    entries_[what] = {inode, until_ns};
                    truth_.names[what].last = inode;
                    *put = {put->begun_ns, from_ns, inode, false};
                  } else if (code == Code::exists) {
                    truth_.withdraw(what, put);
                  }
                  unlock();
                  over("a create", begun_ns);
                });
        });
  });
}

void Mount::unlink(const std::string& what) {
  const int64_t begun_ns = now_ns();
  lock([this, what, begun_ns] {
    auto overlapped = std::make_shared<bool>(false);
    enter(kRootInode, *overlapped);
    const auto put = truth_.put(what, now_ns(), 0, false);
    ask(Unlink{kRootInode, what, false}, {}, [this, what, begun_ns, overlapped, put](VolumeAnswer answer) {
      const int64_t from_ns = leave(kRootInode, *overlapped);
      entries_.erase(what);
      names_changed();
      if (answer.reply.code == Code::ok) put->bound_ns = from_ns;
      if (answer.reply.code == Code::not_found) truth_.withdraw(what, put);
      unlock();
      over("an unlink", begun_ns);
    });
  });
}

void Mount::rename(const std::string& from, const std::string& to) {
  const int64_t begun_ns = now_ns();
  if (from == to) return over("nothing", begun_ns);
  lock([this, from, to, begun_ns] {
    auto overlapped = std::make_shared<bool>(false);
    enter(kRootInode, *overlapped);
    const auto gone = truth_.put(from, now_ns(), 0, false), put = truth_.put(to, now_ns(), 0, true);
    Rename move;
    move.parent = move.new_parent = kRootInode;
    move.name = from;
    move.new_name = to;
    ask(move, {}, [this, from, to, begun_ns, overlapped, gone, put](VolumeAnswer answer) {
      const int64_t from_ns = leave(kRootInode, *overlapped);
      for (const auto& what : {from, to}) entries_.erase(what);
      names_changed();
      if (answer.reply.code == Code::ok) {
        gone->bound_ns = from_ns;
        *put = {put->begun_ns, from_ns, answer.reply.attributes.inode, false};
        truth_.names[to].last = answer.reply.attributes.inode;
      } else if (answer.reply.code == Code::not_found || answer.reply.code == Code::stale) {
        truth_.withdraw(from, gone);
        truth_.withdraw(to, put);
      }
      unlock();
      over("a rename", begun_ns);
    });
  });
}

// ---- attributes ----

void Mount::stat(InodeNumber inode) {
  const int64_t begun_ns = now_ns();
  auto found = attributes_.find(inode);
  if (inode == 0 || (found != attributes_.end() && runtime_.loop.clock().now_ns() < found->second.until_ns)) {
    if (inode != 0) {
      ++truth_.kernel_reads;
      saw(inode, begun_ns, found->second.change, "a cached stat", true);
    }
    return over("a cached stat", begun_ns);
  }
  const uint64_t since = given_.now(), version = versions_[inode];
  cache_->call(kRootUser, GetAttributes{inode}, {}, {},
               [this, inode, begun_ns, since, version, weak = weak_from_this()](VolumeAnswer answer) {
                 auto self = weak.lock();
                 if (!self) return;
                 const bool known = answer.reply.code == Code::ok;
                 const int64_t timeout_ns =
                     known && !files_[inode].dirty
                         ? believe(since, node_key(inode), (answer.reply.lease & kLeaseInode) != 0)
                         : 0;
                 const int64_t until_ns = runtime_.loop.clock().now_ns() + timeout_ns;
                 later(kInstall, [this, inode, begun_ns, known, until_ns, version,
                                  change = answer.reply.attributes.change] {
                   if (known) {
                     saw(inode, begun_ns, change, "a stat");
                     if (versions_[inode] == version) attributes_[inode] = {change, until_ns};
                   }
                   over("a stat", begun_ns);
                 });
               });
}

void Mount::change_mode(InodeNumber inode) {
  const int64_t begun_ns = now_ns();
  if (inode == 0) return over("nothing", begun_ns);
  auto overlapped = std::make_shared<bool>(false);
  enter(inode, *overlapped);
  SetAttributes set;
  set.inode = inode;
  if (below(2) == 0) {
    set.mode = 0100600 + uint32_t(below(64));
  } else {
    set.size = below(3000);
  }
  ask(set, {}, [this, inode, begun_ns, overlapped](VolumeAnswer answer) {
    const int64_t from_ns = leave(inode, *overlapped);
    attributes_.erase(inode);
    ++versions_[inode];
    if (answer.reply.code == Code::ok) bind(inode, answer.reply.attributes.change, from_ns);
    over("a change of attributes", begun_ns);
  });
}

// ---- bytes ----

void Mount::open_and_write(InodeNumber inode) {
  const int64_t begun_ns = now_ns();
  File& file = files_[inode];
  if (inode == 0 || file.opening) return over("nothing", begun_ns);
  if (file.open) return write(inode, begun_ns);
  file.opening = true;
  ask(Open{inode, W_OK}, {}, [this, inode, begun_ns](VolumeAnswer answer) {
    files_[inode].opening = false;
    files_[inode].open = answer.reply.code == Code::ok;
    if (!files_[inode].open) return over("an open", begun_ns);
    write(inode, begun_ns);
  });
}

// As OpenFile: kept here under an exclusive lease, else at the owner before it is answered.
void Mount::write(InodeNumber inode, int64_t begun_ns) {
  File& file = files_[inode];
  if (!file.buffering) file.buffering = cache_->may_buffer(inode);
  if (file.buffering) {
    file.dirty = true;
    attributes_.erase(inode);
    ++versions_[inode];
    truth_.buffered[inode].try_emplace(number_, now_ns());
    later(kSecond, [this, inode] { flush(inode, [] {}); });
    return over("a buffered write", begun_ns);
  }
  send_write(inode, true, [this, begun_ns](Code) { over("a write", begun_ns); });
}

void Mount::send_write(InodeNumber inode, bool locks, std::function<void(Code)> then) {
  auto overlapped = std::make_shared<bool>(false);
  enter(inode, *overlapped);
  if (locks) ++files_[inode].writing;
  Bytes bytes(64, uint8_t(number_));
  Write request;
  request.inode = inode;
  request.crc = crc32c(bytes);
  ask(request, bytes, [this, inode, locks, overlapped, then](VolumeAnswer answer) {
    const int64_t from_ns = leave(inode, *overlapped);
    if (answer.reply.code == Code::ok) bind(inode, answer.reply.attributes.change, from_ns);
    attributes_.erase(inode);
    ++versions_[inode];
    File& file = files_[inode];
    if (locks && --file.writing == 0) {
      for (Task& task : std::exchange(file.unlocked, {})) task();
    }
    then(answer.reply.code);
  });
}

void Mount::flush(InodeNumber inode, Task then) {
  File& file = files_[inode];
  if (!file.dirty && !file.sending) return then();
  file.clean.push_back(std::move(then));
  if (file.sending) return;
  file.dirty = false;
  file.sending = true;
  send_write(inode, false, [this, inode](Code code) {
    File& sent = files_[inode];
    sent.sending = false;
    const bool gone = code == Code::stale || code == Code::not_found || code == Code::io;
    if (code != Code::ok && !gone) sent.dirty = true;
    if (!sent.dirty) truth_.buffered[inode].erase(number_);
    auto clean = std::exchange(sent.clean, {});
    if (sent.dirty) {
      for (Task& task : clean) sent.clean.push_back(std::move(task));
      later(kSecond, [this, inode] { flush(inode, [] {}); });
      return;
    }
    for (Task& task : clean) task();
  });
}

void Mount::close(InodeNumber inode) {
  const int64_t begun_ns = now_ns();
  File& file = files_[inode];
  if (inode == 0 || !file.open || file.opening) return over("nothing", begun_ns);
  file.open = file.buffering = false;
  file.opening = true;  // an open waits for the answer
  flush(inode, [this, inode, begun_ns] {
    ask(Close{{inode}}, {}, [this, inode, begun_ns](VolumeAnswer) {
      files_[inode].opening = false;
      over("a close", begun_ns);
    });
  });
}

void Mount::read(InodeNumber inode) {
  const int64_t begun_ns = now_ns();
  if (inode == 0) return over("nothing", begun_ns);
  ask(Read{inode, 0, 4096}, {}, [this, inode, begun_ns](VolumeAnswer answer) {
    if (answer.reply.code == Code::ok) saw(inode, begun_ns, answer.reply.attributes.change, "a read");
    over("a read", begun_ns);
  });
}

// ---- leases, as MountSession has them ----

int64_t Mount::believe(uint64_t since, uint64_t key, bool leased) {
  if (!leased) return 0;
  const int64_t at_ns = runtime_.loop.clock().now_ns();
  const int64_t until_ns = cache_->lease_until_ns();
  const int64_t timeout_ns = until_ns > at_ns ? std::min(kOwnTimeout, until_ns - at_ns) : 0;
  return timeout_ns > 0 && given_.give(key, since, at_ns, timeout_ns) ? timeout_ns : 0;
}

void Mount::recalled(const Recall& recall, VolumeClient::Forgotten forgotten) {
  if (deaf) return unsaid_.push_back(std::move(forgotten));
  auto news = std::shared_ptr<void>(nullptr, [forgotten](void*) { forgotten(); });
  const int64_t at_ns = runtime_.loop.clock().now_ns();
  for (const RecallItem& item : recall.items) {
    if (item.flush) {
      files_[item.inode].buffering = false;
      later(kMillisecond, [this, news, inode = item.inode] { flush(inode, [news] {}); });
      continue;
    }
    const bool attributes = given_.take(node_key(item.inode), at_ns);
    if (!item.name.empty()) {
      const bool listing = given_.take(listing_key(item.inode), at_ns);
      if (given_.take(entry_key(item.inode, item.name), at_ns))
        notify({item.inode, item.name, false, [news] {}});
      if (attributes || listing) notify({item.inode, {}, listing, [news] {}});
    } else if (attributes || files_[item.inode].open) {
      notify({item.inode, {}, false, [news] {}});
    }
  }
}

void Mount::lost(bool for_good) {
  lost_for_good += for_good;
  given_.take_all();
  for (auto& [inode, file] : files_) {
    if (!for_good || !file.buffering) continue;
    ++truth_.fences;
    file.buffering = false;
    truth_.buffered[inode].erase(number_);  // from here on it is late, and may be refused
    later(kMillisecond, [this, at = inode] { flush(at, [] {}); });
  }
}

void Mount::notify(Notification one) {
  const Lane lane{one.inode, !one.name.empty()};
  lanes_[lane].push_back(std::move(one));
  if (lanes_[lane].size() == 1) tell_next(lane);
}

void Mount::tell_next(Lane lane) {
  if (lanes_[lane].empty()) return;
  const Notification one = lanes_[lane].front();
  if (lane.second) {
    return lock([this, lane, one] {
      entries_.erase(one.name);
      names_changed();
      unlock();
      told(lane, one);
    });
  }
  auto tell = [this, lane, one] {
    attributes_.erase(one.inode);
    ++versions_[one.inode];
    if (one.listing) names_changed();
    told(lane, one);
  };
  if (files_[one.inode].writing > 0) return files_[one.inode].unlocked.push_back(tell);
  tell();
}

void Mount::told(Lane lane, const Notification& one) {
  one.told();
  later(10 * kMicrosecond, [this, lane] {
    lanes_[lane].pop_front();
    tell_next(lane);
  });
}

}  // namespace efs::test
