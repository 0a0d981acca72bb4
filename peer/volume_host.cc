#include "peer/volume_host.h"

#include <sstream>

#include "peer/identity/prefix.h"
#include "peer/volume/local_client.h"
#include "peer/volume/remote_client.h"

namespace efs {

namespace {
constexpr int64_t kSimulatedTick = 100 * kMillisecond;
constexpr int64_t kClosingFor = 30 * kSecond;
constexpr size_t kEntriesAtOnce = 256;

}  // namespace

// ---- views ----

VolumeView::~VolumeView() {
  close();
}

// Who still holds one of them gets Code::closed from it.
void VolumeView::close() {
  std::map<VolumeNumber, std::shared_ptr<VolumeClient>> clients;
  {
    std::lock_guard lock(mutex_);
    clients = std::exchange(clients_, {});
  }
  for (auto& [number, client] : clients) client->close();
}

std::shared_ptr<VolumeClient> VolumeView::client(VolumeNumber number) {
  std::lock_guard lock(mutex_);
  auto found = clients_.find(number);
  return found == clients_.end() ? nullptr : found->second;
}

void VolumeView::follow() {
  std::map<VolumeNumber, std::shared_ptr<VolumeClient>> clients, dropped;
  for (const auto& [number, facts] : host_.facts_) {
    auto known = client(number);
    if (!known) known = host_.make_client(number, number_);
    if (known) clients[number] = std::move(known);
  }
  {
    std::lock_guard lock(mutex_);
    dropped = std::exchange(clients_, clients);
  }
  for (auto& [number, client] : dropped) {
    auto kept = clients.find(number);
    if (kept == clients.end() || kept->second != client) client->close();
  }
}

std::shared_ptr<VolumeClient> VolumeView::client(const VolumeId& id) {
  VolumeNumber number = 0;
  {
    std::lock_guard lock(host_.facts_mutex_);
    auto found = host_.numbers_.find(id);
    if (found == host_.numbers_.end()) return nullptr;
    number = found->second;
  }
  return client(number);
}

VolumeDirectory::Places VolumeView::places() {
  std::lock_guard lock(host_.facts_mutex_);
  return host_.places_;
}

MeshSpace VolumeView::space() {
  MeshSpace space;
  {
    std::lock_guard lock(host_.facts_mutex_);
    space = host_.space_;
  }
  if (space.total_bytes == 0) {  // nobody was asked yet: what is here
    for (const StoreUsage& usage : host_.chunks_->usage()) space.total_bytes += usage.capacity_bytes;
    space.available_bytes = host_.chunks_->available_bytes();
  }
  return space;
}

// ---- opening ----

VolumeHost::VolumeHost(VolumeHostParts parts)
    : parts_(std::move(parts)),
      jobs_(parts_.runtime.loop),
      tick_timer_(parts_.runtime.loop),
      view_(make_view()) {
  tree_ = std::make_unique<VolumeTree>(*view_, parts_.runtime.loop.clock());
}

VolumeHost::~VolumeHost() {
  close_clients();
}

// The lowest that no living view has: what a client holds open is counted under it. Mounts are bounded far
// below 256 by the kernel's and the pool's patience; the last number is shared rather than refused.
uint8_t VolumeHost::free_view_number() const {
  std::set<uint8_t> taken;
  for (const auto& weak : views_) {
    if (auto view = weak.lock()) taken.insert(view->number_);
  }
  uint8_t number = 0;
  while (number < UINT8_MAX && taken.contains(number)) ++number;
  return number;
}

std::shared_ptr<VolumeView> VolumeHost::make_view() {
  auto view = std::make_shared<VolumeView>(*this, free_view_number());
  views_.push_back(view);
  view->follow();
  return view;
}

Result<std::set<VolumeId>> read_volumes_made(FileSystem& files, const std::string& data_directory) {
  const std::string path = data_directory + "/volumes-made";
  std::set<VolumeId> made;
  if (!files.exists(path)) return made;
  EFS_ASSIGN(const Bytes content, files.read_file(path));
  std::istringstream lines{std::string(text(content))};
  for (std::string line; std::getline(lines, line);) {
    auto id = id_from_hex(line);
    if (!id) return fail(Code::corrupt, path + " is damaged: a line is no volume's id");
    made.insert(*id);
  }
  return made;
}

Result<std::unique_ptr<VolumeHost>> VolumeHost::open(VolumeHostParts parts) {
  std::unique_ptr<VolumeHost> host(new VolumeHost(std::move(parts)));
  EFS_TRY(host->start());
  return host;
}

Status VolumeHost::start() {
  FileSystem& files = parts_.runtime.files;
  // Markers are made once: a store that was ever used and has none now is a disk that is not mounted.
  const std::string marked = parts_.data + "/stores-made";
  const bool fresh = !files.exists(marked);
  EFS_ASSIGN(chunks_, ChunkStore::open(files, parts_.chunk_index, parts_.options.stores, fresh,
                                       parts_.runtime.log, ChunkOptions{.owner = parts_.self}));
  if (fresh) EFS_TRY(files.replace_file(marked, view("1\n")));
  EFS_ASSIGN(made_, read_volumes_made(files, parts_.data));
  const VolumeSetParts set{
      parts_.runtime.loop.clock(), parts_.runtime.random, files, parts_.runtime.log, *chunks_,
      parts_.environments};
  VolumeSetOptions set_options;
  set_options.log_directory = parts_.data + "/log";
  set_options.log.background = parts_.threads;
  EFS_ASSIGN(volumes_, VolumeSet::open(set, set_options));
  for (const auto& [id, error] : volumes_->failures()) lost_[id] = to_text(error);
  for (const auto& replica : volumes_->all()) EFS_TRY(note_made(replica->id()));  // a kill came between
  checkpointer_ = std::make_unique<Checkpointer>(*volumes_, parts_.runtime.loop.clock(), parts_.runtime.log);
  parts_.threads ? checkpointer_->start() : tick();
  router_ = RecallRouter::make(parts_.runtime.loop, parts_.rpc);
  service_ = std::make_unique<VolumeService>(parts_.runtime.loop, parts_.rpc, *volumes_, access());
  return {};
}

// Rights are decided from the register: for whom a peer may speak, where it may make volumes. Nobody but the
// root volume's owner, in its own process, appends to the register.
VolumeAccess VolumeHost::access() {
  VolumeAccess access;
  access.may_act = [this](const PeerId& caller, uint32_t uid) {
    const PeerFacts* peer = parts_.membership.state().peer(caller);
    return peer != nullptr && parts_.membership.state().may_speak_for(peer->key, uid);
  };
  access.may_administer = [this](const PeerId& caller, const Request& request) {
    const RegisterState& state = parts_.membership.state();
    const PeerFacts* peer = state.peer(caller);
    const VolumeFacts* volume = state.volume(request.volume);
    const auto* make = std::get_if<MakeJunction>(&request.body);
    const auto* remove = std::get_if<RemoveJunction>(&request.body);
    if (peer == nullptr || volume == nullptr) return false;
    if (std::holds_alternative<SetPolicy>(request.body))
      return state.may_change_volume(peer->key, *volume).has_value();
    if (make == nullptr && remove == nullptr) return false;
    std::string prefix = volume->prefix == "/" ? "" : volume->prefix;
    for (const auto& name : make != nullptr ? make->path : remove->path) prefix += "/" + name;
    // The junction of a volume that there is goes with the volume; one that leads nowhere yet, or no more,
    // with the right to make one there.
    if (const VolumeFacts* led = remove != nullptr ? state.volume(remove->volume) : nullptr)
      return state.may_remove_volume(peer->key, *led).has_value();
    return state.may_create_volume(peer->key, prefix, {peer->id}).has_value();
  };
  return access;
}

void VolumeHost::tick() {
  checkpointer_->tick();
  tick_timer_.start(kSimulatedTick, [this] { tick(); });
}

// ---- what is owned ----

Status VolumeHost::make_owned(const VolumeFacts& volume) {
  if (made_.contains(volume.id)) {
    return fail(
        Code::corrupt,
        fmt::format("its metadata is not in {}/volumes any more; put the directory back", parts_.data));
  }
  EFS_TRY(volumes_->create(volume.id, volume.number, parts_.root));
  return note_made(volume.id);
}

Status VolumeHost::note_made(const VolumeId& id) {
  if (!made_.insert(id).second) return {};
  std::string lines;
  for (const VolumeId& one : made_) lines += to_hex(one) + "\n";
  return parts_.runtime.files.replace_file(parts_.data + "/volumes-made", view(lines));
}

void VolumeHost::on_peer_up(const PeerId& peer) {
  router_->on_peer_up(peer);
}

void VolumeHost::follow_register() {
  const RegisterState& state = parts_.membership.state();
  std::map<VolumeNumber, Facts> facts;
  std::map<VolumeId, VolumeNumber> numbers;
  std::set<PeerId> owners;
  auto places = std::make_shared<std::vector<VolumePlace>>();
  for (const VolumeFacts* volume : state.volumes()) {
    const bool own =
        std::find(volume->owners.begin(), volume->owners.end(), parts_.self) != volume->owners.end();
    if (own && !volumes_->find(volume->id) && !lost_.contains(volume->id)) {
      if (Status made = make_owned(*volume); !made) {
        parts_.runtime.log.error("the volume {} cannot be served: {}", volume->prefix, to_text(made.error()));
        lost_[volume->id] = to_text(made.error());
      }
    }
    facts[volume->number] = {volume->id, volume->owners};
    numbers[volume->id] = volume->number;
    VolumePlace place{volume->id, volume->number, components_below("/", volume->prefix), 0, {}};
    if (const VolumeFacts* parent = state.volume(volume->parent)) place.parent = parent->number;
    if (volume->number != kRootVolume) {
      place.ancestors = {kRootInode};
      place.ancestors.insert(place.ancestors.end(), volume->ancestors.begin(), volume->ancestors.end());
    }
    places->push_back(std::move(place));
    for (const PeerId& owner : volume->owners) {
      if (owner != parts_.self) owners.insert(owner);
    }
  }
  follow_owners(owners);
  drop_removed(numbers);
  {
    std::lock_guard lock(facts_mutex_);
    facts_ = std::move(facts);
    numbers_ = std::move(numbers);
    places_ = std::move(places);
  }
  if (stopping_) return;
  std::erase_if(views_, [](const auto& view) { return view.expired(); });
  for (auto& weak : views_) {
    if (auto view = weak.lock()) view->follow();
  }
}

void VolumeHost::follow_owners(const std::set<PeerId>& owners) {
  for (const PeerId& owner : owners) {
    if (kept_alive_.insert(owner).second) parts_.rpc.keep_alive(owner, true);
    parts_.ensure_route(owner);
  }
  std::erase_if(kept_alive_, [&](const PeerId& peer) {
    if (owners.contains(peer)) return false;
    parts_.rpc.keep_alive(peer, false);
    return true;
  });
}

// Only an empty volume is ever removed from the register: one with files in it is kept, whatever the register
// says, for a person to look at.
void VolumeHost::drop_removed(const std::map<VolumeId, VolumeNumber>& there) {
  std::erase_if(lost_, [&](const auto& one) { return !there.contains(one.first); });
  std::set<VolumeNumber> numbers;
  for (const auto& [id, number] : there) numbers.insert(number);
  volumes_->release_removed(numbers);
  for (const auto& replica : volumes_->all()) {
    if (there.contains(replica->id())) continue;
    if (Status empty = replica->close_if_empty(); !empty) {
      parts_.runtime.log.error("volume {} is not in the register, and is kept in {}/volumes: {}",
                               to_hex(replica->id()), parts_.data, to_text(empty.error()));
      continue;
    }
    if (Status removed = volumes_->remove(replica->id()); !removed) {
      parts_.runtime.log.warning("the removed volume {} still takes room: {}", short_hex(replica->id()),
                                 to_text(removed.error()));
    }
  }
}

std::shared_ptr<VolumeClient> VolumeHost::make_client(VolumeNumber number, uint8_t view) {
  if (auto replica = volumes_->find(number)) return std::make_shared<LocalVolume>(replica, view);
  auto found = facts_.find(number);
  if (found == facts_.end()) return nullptr;
  const Facts& facts = found->second;
  if (std::find(facts.owners.begin(), facts.owners.end(), parts_.self) != facts.owners.end())
    return nullptr;  // lost
  VolumeLocator locator;
  locator.locate = [this, number](const VolumeId&) {
    auto known = facts_.find(number);
    return known == facts_.end() ? std::vector<PeerId>() : known->second.owners;
  };
  locator.refresh = [this, number](const VolumeId&) {
    auto known = facts_.find(number);
    if (known == facts_.end()) return;
    for (const PeerId& owner : known->second.owners) parts_.ensure_route(owner);
  };
  // A FUSE thread may be the last to let go of it: it still ends on the loop.
  return std::shared_ptr<VolumeClient>(
      new RemoteVolume(parts_.runtime.loop, parts_.rpc, parts_.runtime.random, std::move(locator), facts.id,
                       number, int64_t(parts_.options.unreachable_timeout_s) * kSecond, router_),
      [&loop = parts_.runtime.loop](VolumeClient* client) {
        if (loop.on_thread()) {
          delete client;
        } else {
          loop.post([client] { delete client; });
        }
      });
}

void VolumeHost::call(const VolumeId& id, const Credentials& who, RequestBody body, Payload payload,
                      const VolumeClient::Options& options, VolumeClient::Done done) {
  auto client = this->client(id);
  if (!client) {
    return parts_.runtime.loop.post([done = std::move(done)] {
      done({error_reply(Code::not_found, "there is no such volume, or it is not served here"), {}});
    });
  }
  auto answered = [&loop = parts_.runtime.loop, client, done = std::move(done)](VolumeAnswer answer) {
    loop.post([done, answer = std::move(answer)]() mutable { done(std::move(answer)); });
  };
  auto replica = volumes_->find(id);
  if (!client->local() || !replica || replica->executes_inline(body, payload.size()))
    return client->call(who, std::move(body), std::move(payload), options, std::move(answered));
  jobs_.run(
      [=, body = std::move(body), payload = std::move(payload)]() mutable {
        client->call(who, std::move(body), std::move(payload), options, std::move(answered));
      },
      {});
}

Result<std::vector<Bytes>> VolumeHost::register_entries(uint64_t from) {
  std::vector<Bytes> out;
  auto root = volumes_->find(kRootVolume);
  if (!root) return out;
  for (;;) {
    EFS_ASSIGN(auto part, root->register_entries(from + out.size(), kEntriesAtOnce));
    if (part.empty()) return out;
    std::move(part.begin(), part.end(), std::back_inserter(out));
  }
}

// The root volume holds the register from its first entry on: what was ordered before it was made (the
// founding) goes in with the first one.
void VolumeHost::order(uint64_t index, Bytes entry, std::function<void(Status)> done) {
  auto root = volumes_->find(kRootVolume);
  if (!root) return done(fail(Code::unreachable, "the volume / is not served here"));
  Result<std::vector<Bytes>> earlier;
  if (index > 0) {
    auto before = root->register_entries(index - 1, 1);
    if (!before) return done(fail(before.error()));
    if (before->empty()) earlier = parts_.membership.store().read(0, index, size_t(1) << 30);
    if (!earlier) return done(fail(earlier.error()));
  }
  auto result = std::make_shared<Status>();
  jobs_.run(
      [root, index, entry = std::move(entry), earlier = std::move(*earlier), result] {
        auto append = [&](uint64_t at, const Bytes& bytes) {
          Request request;
          request.volume = root->id();
          request.who = root_credentials();
          request.body = AppendRegister{at, bytes};
          Status status;
          root->execute(request, {}, [&](VolumeAnswer answer) {
            if (answer.reply.code != Code::ok) status = fail(answer.reply.code, answer.reply.message);
          });
          return status;
        };
        for (uint64_t at = 0; at < earlier.size() && *result; ++at) *result = append(at, earlier[at]);
        if (*result) *result = append(index, entry);
      },
      [result, done] { done(*result); });
}

Status VolumeHost::close_for_removal(const VolumeId& id) {
  auto replica = volumes_->find(id);
  if (!replica) return fail(Code::not_found, "the volume is not served here");
  EFS_TRY(replica->close_if_empty());
  // Should the register not drop it, it opens again.
  parts_.runtime.loop.after(kClosingFor, [this, id] {
    if (auto still = volumes_->find(id)) still->reopen();
  });
  return {};
}

// ---- junctions to nowhere ----

void VolumeHost::sweep_junctions() {
  if (sweeping_ || stopping_) return;
  std::map<VolumeId, uint64_t> expected;
  const RegisterState& state = parts_.membership.state();
  for (const VolumeFacts* volume : state.volumes()) {
    if (volume->number == kRootVolume) continue;
    ++expected[volume->parent == VolumeId{} ? state.root_volume()->id : volume->parent];
  }
  std::vector<std::shared_ptr<SoleReplica>> suspects;
  for (const auto& replica : volumes_->all()) {
    auto count = count_junctions(*replica->rows());
    if (count && *count > expected[replica->id()]) suspects.push_back(replica);
  }
  if (suspects.empty()) return orphans_.clear();
  sweeping_ = true;
  auto all = std::make_shared<FoundJunctions>();
  jobs_.run(
      [suspects, all] {
        for (const auto& replica : suspects) {
          if (auto found = find_junctions(*replica->rows()))
            all->emplace_back(replica->id(), std::move(*found));
        }
      },
      [this, all] { judge_junctions(*all); });
}

// What leads nowhere for a minute is removed, once the root volume's owner knows of no volume either: a
// register that is behind decides nothing.
void VolumeHost::judge_junctions(const FoundJunctions& found) {
  const int64_t now_ns = parts_.runtime.loop.clock().now_ns();
  std::map<VolumeId, int64_t> orphans;
  auto due = std::make_shared<FoundJunctions>();
  for (const auto& [parent, junctions] : found) {
    for (const FoundJunction& junction : junctions) {
      if (parts_.membership.state().volume(junction.volume) != nullptr) continue;
      auto before = orphans_.find(junction.volume);
      const int64_t since_ns = before == orphans_.end() ? now_ns : before->second;
      orphans[junction.volume] = since_ns;
      if (now_ns - since_ns >= kOrphanAfter) due->push_back({parent, {junction}});
    }
  }
  orphans_ = std::move(orphans);
  if (stopping_ || due->empty()) {
    sweeping_ = false;
    return;
  }
  parts_.membership.refresh([this, due](const Status& current) {
    sweeping_ = false;
    if (stopping_ || !current) return;
    for (const auto& [parent, junctions] : *due) remove_orphan(parent, junctions.front());
  });
}

void VolumeHost::remove_orphan(const VolumeId& parent, const FoundJunction& junction) {
  if (parts_.membership.state().volume(junction.volume) != nullptr) return;
  std::string path;
  for (const auto& name : junction.path) path += "/" + name;
  parts_.runtime.log.warning("the junction {} leads to no volume of the register and is removed", path);
  call(parent, root_credentials(), RemoveJunction{junction.path, junction.volume}, {}, {},
       [this, path](const VolumeAnswer& answer) {
         if (answer.reply.code != Code::ok)
           parts_.runtime.log.warning("the junction {} stays: {}", path,
                                      to_text(Error{answer.reply.code, answer.reply.message}));
       });
}

// ---- looking ----

void VolumeHost::resolve(const std::string& path, const Credentials& who, bool follow,
                         std::function<void(Result<ResolvedPath>)> done) {
  tree_->resolve(path, who, follow, {}, [&loop = parts_.runtime.loop, done](Result<ResolvedPath> found) {
    loop.post([done, found = std::move(found)]() mutable { done(std::move(found)); });
  });
}

void VolumeHost::set_mesh_space(const MeshSpace& space) {
  std::lock_guard lock(facts_mutex_);
  space_ = space;
}

std::vector<VolumeStatus> VolumeHost::statuses() {
  std::vector<VolumeStatus> out;
  for (const auto& replica : volumes_->all()) {
    VolumeStatus status;
    status.id = replica->id();
    status.state = "ok";
    status.stored_bytes = replica->stored().stored_bytes;
    status.compression = replica->policy().compression;
    if (replica->damaged())
      status.state =
          "damaged: not all of it can be read; see its owner's log, stop that peer and run 'efs-peer check'";
    if (replica->failed()) status.state = "failed: see the peer's log";
    Request request;
    request.volume = replica->id();
    request.body = Usage{};
    replica->execute(request, {}, [&](const VolumeAnswer& answer) {
      status.files = answer.reply.usage.files;
      status.used_bytes = answer.reply.usage.bytes;
    });
    out.push_back(std::move(status));
  }
  for (const auto& [id, why] : lost_) out.push_back({id, 0, 0, "lost: " + why, 0, Compression::none});
  return out;
}

std::vector<StoreStatus> VolumeHost::stores() {
  std::vector<StoreStatus> out;
  for (const StoreUsage& usage : chunks_->usage()) {
    out.push_back({usage.directory, usage.capacity_bytes, usage.used_bytes, usage.chunks, usage.missing});
  }
  return out;
}

void VolumeHost::close_clients() {
  for (const auto& weak : views_) {
    if (auto view = weak.lock()) view->close();
  }
}

void VolumeHost::stop(std::function<void()> done) {
  tick_timer_.stop();
  stopping_ = true;
  close_clients();
  auto close = [this, done = std::move(done)] {
    parts_.runtime.loop.work(
        [this] {
          checkpointer_->stop();
          if (Status closed = volumes_->close(); !closed) {
            parts_.runtime.log.error("not closed cleanly, the next start replays the log: {}",
                                     to_text(closed.error()));
          }
        },
        done);
  };
  service_->close([this, close] { jobs_.when_idle(close); });
}

}  // namespace efs
