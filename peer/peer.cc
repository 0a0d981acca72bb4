// The happy path of start(): register -> network objects -> volumes (log replayed) -> what the root volume's
// register has beyond ours -> listen -> control socket -> DHT -> volumes asked for with --own -> mount. Each
// step that fails ends the start with its error; what was opened is closed by stop().
#include "peer/peer.h"

#include <unistd.h>

#include <algorithm>

#include "peer/control/socket_path.h"
#include "peer/control_server.h"
#include "peer/core.h"
#include "peer/founding.h"
#include "peer/identity/prefix.h"

namespace efs {

namespace {
constexpr int64_t kHouseTick = 10 * kSecond;
constexpr int64_t kHouseTickPerPeer = kSecond;  // so that what all ask of all stays a small load
}  // namespace

PeerParts real_peer_parts(const std::string& data_directory) {
  return {lmdb_environments(data_directory),
          make_lmdb_environments(real_files(), data_directory + "/volumes"), true};
}

struct Peer::Impl {
  Impl(Runtime& runtime_in, DataDirectory& data_in, const PeerOptions& options_in, PeerParts parts_in)
      : runtime(runtime_in),
        data(data_in),
        options(options_in),
        parts(std::move(parts_in)),
        tick(runtime_in.loop) {}

  Status open();
  Status open_network();
  void follow_register(uint64_t from);
  void own_next(size_t index, std::function<void(Status)> done);
  void forget_own();
  void gone();
  void mount(std::function<void(Status)> done);
  void house();
  PeerStatus own_status();
  std::vector<std::string> own_reasons();
  std::vector<std::string> addresses();

  Runtime& runtime;
  DataDirectory& data;
  PeerOptions options;
  PeerParts parts;
  std::optional<KeyPair> key;
  PeerId self{};
  std::unique_ptr<RegisterStore> store;
  std::unique_ptr<Membership> membership;
  std::unique_ptr<Rpc> rpc;
  std::unique_ptr<Locator> locator;
  std::unique_ptr<VolumeHost> volumes;
  std::unique_ptr<VolumeAdmin> admin;
  std::unique_ptr<Mounts> mounts;
  std::unique_ptr<Core> core;
  std::unique_ptr<ControlServer> control;
  Timer tick;
  std::function<void(const std::string&)> left;
  bool stopping = false;
};

std::vector<std::string> Peer::Impl::addresses() {
  std::vector<std::string> out = addresses_of(options);
  // The one that the seed could dial goes first, while this machine has it.
  auto known = store->addresses().find(self);
  if (options.advertise.empty() && known != store->addresses().end() && !known->second.empty()) {
    auto found = std::find(out.begin(), out.end(), known->second.front());
    if (found != out.end()) std::rotate(out.begin(), found, found + 1);
  }
  return out;
}

// Told to whoever runs this peer; once it is answered, when it asked for it itself.
void Peer::Impl::gone() {
  const bool revoked = key && store->state().standing_of(key->public_key()) == Standing::revoked;
  const std::string mesh = store->state().genesis().genesis.name;
  std::string why =
      revoked
          ? fmt::format(
                "this peer was revoked from the mesh {}, its key for good: delete {} and join again with a "
                "new invite",
                mesh, data.path())
          : fmt::format(
                "this peer {} the mesh {}: join again in this directory with a new invite, or "
                "delete it",
                core && core->leaving ? "left" : "was removed from", mesh);
  if (!core || !core->leaving) runtime.log.error("{}", why);
  if (left) runtime.loop.post([this, why] { left(why); });
}

Status Peer::Impl::open() {
  EFS_ASSIGN(key, data.peer_key(runtime.random));
  EFS_ASSIGN(auto register_rows, parts.environments("register", RegisterStore::options()));
  EFS_ASSIGN(store, RegisterStore::open(std::move(register_rows)));
  if (store->state().version() == 0) return fail(lost_register(data.path()));
  const PeerFacts* facts = store->state().peer_by_key(key->public_key());
  if (facts == nullptr) {
    gone();
    return fail(Code::unauthorized, "this peer is no member of the mesh any more");
  }
  self = facts->id;
  membership = std::make_unique<Membership>(runtime, *store, *key, self);
  EFS_TRY(open_network());
  EFS_ASSIGN(auto chunk_index, parts.environments("chunk-index", chunk_index_options()));
  VolumeHostParts host{runtime,
                       *membership,
                       *rpc,
                       self,
                       options,
                       data.path(),
                       chunk_index,
                       *parts.volumes,
                       parts.kernel,
                       [this](const PeerId& peer) {
                         if (locator) locator->ensure_route(peer);
                       },
                       {}};
  if (parts.kernel) host.root = {0755, geteuid(), getegid()};
  EFS_ASSIGN(volumes, VolumeHost::open(std::move(host)));
  membership->set_order([this](uint64_t index, Bytes entry, std::function<void(Status)> done) {
    volumes->order(index, std::move(entry), [this, done](Status durable) {
      // What the root volume has and the register has not (its disk was full then) comes first.
      if (!durable && durable.error().code == Code::conflict) {
        auto ahead = volumes->register_entries(store->state().version());
        if (ahead && !ahead->empty()) (void)membership->take(*ahead);
      }
      done(std::move(durable));
    });
  });
  EFS_ASSIGN(const auto ahead, volumes->register_entries(store->state().version()));
  if (!ahead.empty()) EFS_TRY(membership->take(ahead));
  volumes->follow_register();
  membership->on_change([this](uint64_t from) { follow_register(from); });

  EFS_ASSIGN(auto dht_rows, parts.environments("dht", Locator::options()));
  EFS_ASSIGN(locator,
             Locator::create(
                 runtime, *membership, *rpc, *key, self, [this] { return addresses(); }, std::move(dht_rows),
                 [this] {
                   PeerRecord record;
                   const PeerStatus status = own_status();
                   record.capacity_bytes = status.capacity_bytes;
                   record.used_bytes = status.used_bytes;
                   for (const auto& one : status.stores)
                     record.stores.push_back({one.directory, one.capacity_bytes, one.used_bytes});
                   return record;
                 }));
  membership->attach(*rpc);
  serve_status(*rpc, [this] { return own_status(); });
  admin = std::make_unique<VolumeAdmin>(runtime, *membership, *volumes, *rpc, self);
  admin->serve();
  mounts = std::make_unique<Mounts>(
      runtime, [this] { return volumes->make_view(); }, options);
  core = std::unique_ptr<Core>(new Core{runtime, data, options, *key, self, *membership, *rpc, *locator,
                                        *volumes, *admin, *mounts, [this] { return own_status(); },
                                        [this] { return own_reasons(); }, [this] { gone(); }});
  for (const Address& address : options.listen) EFS_TRY(rpc->listen(address));
  if (parts.kernel) {
    control = std::make_unique<ControlServer>(*core);
    EFS_TRY(control->listen(options.socket.empty() ? socket_path(data.path(), Surroundings::of_this_process())
                                                   : options.socket));
  }
  return {};
}

Status Peer::Impl::open_network() {
  EFS_ASSIGN(const Secret secret, data.mesh_secret());
  RpcOptions rpc_options;
  rpc_options.id = self;
  rpc_options.version = EFS_VERSION;
  rpc_options.listening = [this] { return addresses(); };
  rpc_options.register_mark = [this] { return membership->mark(); };
  rpc_options.on_register_mark = [this](const PeerId& peer, const RegisterMark& mark) {
    membership->on_mark(peer, mark);
  };
  rpc_options.on_peer_up = [this](const PeerInfo& peer) {
    membership->on_peer_up(peer);
    locator->on_peer_up(peer);
    if (volumes) volumes->on_peer_up(peer.id);
  };
  rpc_options.on_peer_down = [this](const PeerId& peer, const Error&) { locator->on_peer_down(peer); };
  rpc = std::make_unique<Rpc>(
      runtime, *key, store->state().mesh(), secret.reveal(),
      [this](const PeerId& peer, const PublicKey& public_key) {
        return membership->admission_of(peer, public_key);
      },
      std::move(rpc_options));
  return {};
}

void Peer::Impl::follow_register(uint64_t from) {
  for (const auto& entry : store->read(from, 16).value_or(std::vector<Bytes>())) {
    if (auto read = read_entry(entry))
      runtime.log.info("register {}: {}", read->index, describe(read->proposal.change));
  }
  volumes->follow_register();
  if (locator) locator->on_register_change();
  const PeerFacts* facts = store->state().peer(self);
  if ((facts == nullptr || facts->standing != Standing::admitted) && !stopping && !(core && core->leaving))
    gone();
}

// They are made, or cannot be made: the next start does not ask again.
void Peer::Impl::forget_own() {
  if (options.own.empty()) return;
  options.own.clear();
  auto kept = data.options();
  PeerOptions without;
  if (!kept || !read_options(*kept, data.at("efs.yaml"), without) || without.own.empty()) return;
  without.own.clear();
  if (Status written = data.write_options(write_options(without)); !written)
    runtime.log.warning("cannot write {}: {}", data.at("efs.yaml"), to_text(written.error()));
}

void Peer::Impl::own_next(size_t index, std::function<void(Status)> done) {
  if (stopping) return done(fail(Code::closed, "the peer is stopping"));
  if (index == options.own.size()) {
    forget_own();
    return done({});
  }
  auto prefix = to_prefix(options.own[index]);
  if (!prefix) {
    forget_own();
    return done(fail(prefix.error()));
  }
  const VolumeFacts* known = store->state().volume_at(*prefix);
  if (known != nullptr && known->owners == std::vector<PeerId>{self}) return own_next(index + 1, done);
  admin->create({*prefix, self}, [this, index, done, prefix = *prefix](Result<VolumeId> made) {
    if (!made) {
      const Code code = made.error().code;
      const bool later = code == Code::unreachable || code == Code::timed_out || code == Code::closed;
      if (!later) forget_own();
      return done(fail(code, fmt::format("cannot own {}: {}", prefix, to_text(made.error()))));
    }
    own_next(index + 1, done);
  });
}

void Peer::Impl::mount(std::function<void(Status)> done) {
  if (options.mount.empty() || !parts.kernel) return done({});
  mounts->mount(options.mount, options.mount_read_only, std::move(done));
}

// What is looked after now and then: how much room the mesh has, for statfs.
void Peer::Impl::house() {
  gather_status(runtime, *membership, *rpc, self, own_status(), [this](const MeshView& view) {
    if (stopping) return;
    MeshSpace space;
    for (const PeerView& peer : view.peers) {
      if (!peer.status) continue;
      space.total_bytes += peer.status->capacity_bytes;
      space.available_bytes += peer.status->available_bytes;
    }
    volumes->set_mesh_space(space);
  });
  volumes->sweep_junctions();
  const int64_t peers = int64_t(membership->state().peers().size());
  tick.start(std::max(kHouseTick, peers * kHouseTickPerPeer), [this] { house(); });
}

PeerStatus Peer::Impl::own_status() {
  PeerStatus status;
  status.version = EFS_VERSION;
  status.stores = volumes->stores();
  for (const StoreStatus& one : status.stores) {
    status.capacity_bytes += one.capacity_bytes;
    status.used_bytes += one.used_bytes;
  }
  status.available_bytes = volumes->available_bytes();
  status.volumes = volumes->statuses();
  status.register_version = store->state().version();
  status.wall_ns = runtime.loop.clock().wall_ns();
  status.addresses = addresses();
  return status;
}

std::vector<std::string> Peer::Impl::own_reasons() {
  std::vector<std::string> reasons = membership->troubles();
  if (auto kept = runtime.files.read_file(data.at("keys-directory"), 4096)) {
    const std::string root_key = std::string(text(*kept)) + "/root.key";
    if (runtime.files.exists(root_key)) {
      reasons.push_back(
          fmt::format("{} lies on this machine: who has it rules the mesh; take it off", root_key));
    }
  }
  return reasons;
}

Peer::Peer(Runtime& runtime, DataDirectory& data, const PeerOptions& options, PeerParts parts)
    : impl_(std::make_unique<Impl>(runtime, data, options, std::move(parts))) {}

// Taken apart from the edges inwards: what asks goes before what it asks. Questions to other owners are
// answered first, while all that hears the answers is there; the Rpc drops the rest unheard.
Peer::~Peer() {
  impl_->stopping = true;
  impl_->tick.stop();
  if (impl_->volumes) impl_->volumes->close_clients();
  impl_->control.reset();
  impl_->mounts.reset();
  impl_->admin.reset();
  impl_->locator.reset();
  impl_->volumes.reset();
  impl_->rpc.reset();
}

void Peer::start(std::function<void(Status)> started) {
  Impl& impl = *impl_;
  if (Status opened = impl.open(); !opened) return started(std::move(opened));
  impl.locator->start();
  impl.own_next(0, [&impl, started](Status owned) {
    if (!owned) return started(std::move(owned));
    impl.mount([&impl, started](Status mounted) {
      if (mounted && !impl.stopping) {
        impl.house();
        impl.runtime.log.info("peer {} ({}) serves", impl.options.name, short_hex(impl.self));
      }
      started(std::move(mounted));
    });
  });
}

void Peer::stop(std::function<void()> stopped) {
  Impl& impl = *impl_;
  impl.stopping = true;
  impl.tick.stop();
  if (impl.control) impl.control->close();
  auto close = [&impl, stopped] {
    if (impl.volumes) return impl.volumes->stop(stopped);
    impl.runtime.loop.post(stopped);
  };
  if (impl.mounts) return impl.mounts->unmount_all(close);
  close();
}

Core& Peer::core() {
  return *impl_->core;
}

void Peer::on_left(std::function<void(const std::string& why)> left) {
  impl_->left = std::move(left);
}

}  // namespace efs
