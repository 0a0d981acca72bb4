#include "peer/founding.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "peer/control/protocol.h"
#include "peer/control/socket_path.h"
#include "peer/identity/prefix.h"
#include "peer/net/local.h"

namespace efs {

namespace {

constexpr int64_t kFirstInviteFor = kHour;
constexpr uint32_t kFirstInviteUses = 10;

Result<std::unique_ptr<RegisterStore>> open_register(const OpenEnvironment& environments) {
  EFS_ASSIGN(auto environment, environments("register", RegisterStore::options()));
  return RegisterStore::open(std::move(environment));
}

// The two keys of an `init`: fresh ones, or those that an `init` which was cut short has written there.
struct MeshKeys {
  KeyPair root, recovery;
};

// Never over a file that is there. The mode is the file system's: its user's alone.
Status write_key(FileSystem& files, const std::string& path, const KeyPair& key, KeyKind kind,
                 const Secret& passphrase, Random& random) {
  EFS_ASSIGN(auto file, files.open(path, OpenMode::create_new));
  Bytes content = encode_key(key, kind, passphrase, random);
  Status written = file->write(0, content);
  wipe(content);
  EFS_TRY(written);
  return file->sync();
}

// What was cut short while it was written is written anew; any other file is somebody's, and stays.
Result<KeyPair> write_or_read_key(FileSystem& files, const std::string& path, KeyKind kind,
                                  const Secret& passphrase, Random& random) {
  KeyPair key = KeyPair::generate(random);
  if (files.exists(path)) {
    EFS_ASSIGN(Bytes content, files.read_file(path, kMaxKeyFileBytes));
    const auto facts = inspect_key(content);
    auto parsed = parse_key(content, passphrase);
    wipe(content);
    if (!parsed && parsed.error().code != Code::protocol) {
      return fail(Code::exists,
                  fmt::format("{} was written by an 'init' that was cut short, and {}; or delete it", path,
                              to_text(parsed.error())));
    }
    if (parsed && parsed->kind == kind && facts->sealed != passphrase.empty()) return std::move(parsed->key);
    if (parsed && parsed->kind == kind) key = std::move(parsed->key);  // without the passphrase, so far
    EFS_TRY(files.remove(path));
  }
  EFS_TRY(write_key(files, path, key, kind, passphrase, random));
  return key;
}

// DATA/keys-directory is written first: it says that what lies there is ours, should this be cut short.
Result<MeshKeys> make_keys(FileSystem& files, DataDirectory& data, const FoundOptions& found,
                           Random& random) {
  const std::string& directory = found.keys_directory;
  auto begun = files.exists(data.at("keys-directory")) ? files.read_file(data.at("keys-directory"), 4096)
                                                       : fail(Code::not_found);
  if (!begun || text(*begun) != directory) {
    for (const char* name : {"root.key", "recovery.key"}) {
      if (files.exists(directory + "/" + name)) {
        return fail(Code::exists,
                    fmt::format("{}/{} is there already: keep it, and name another directory with --keys",
                                directory, name));
      }
    }
    EFS_TRY(files.replace_file(data.at("keys-directory"), view(directory)));
  }
  EFS_TRY(files.make_directories(directory, 0700));
  EFS_ASSIGN(KeyPair root,
             write_or_read_key(files, directory + "/root.key", KeyKind::root, found.passphrase, random));
  EFS_ASSIGN(KeyPair recovery, write_or_read_key(files, directory + "/recovery.key", KeyKind::recovery,
                                                 found.passphrase, random));
  EFS_TRY(files.sync_directory(directory));
  return MeshKeys{std::move(root), std::move(recovery)};
}

Result<std::string> first_invite(const PeerOptions& options, const Id& mesh, const Secret& secret,
                                 const KeyPair& founder, Random& random, const Clock& clock) {
  Certificate certificate;
  certificate.role = Role::server;
  certificate.rights.uids = UidRange::all();
  certificate.rights.under = {"/"};
  certificate.expires_ns = clock.wall_ns() + kFirstInviteFor;
  certificate.uses = kFirstInviteUses;
  EFS_ASSIGN(const Invite invite,
             make_invite(addresses_of(options), mesh, secret, std::move(certificate), founder, random));
  return to_seed(invite);
}

}  // namespace

std::vector<std::string> addresses_of(const PeerOptions& options) {
  std::vector<std::string> out;
  for (const Address& address : options.advertise) out.push_back(address.to_text());
  if (!out.empty()) return out;
  std::vector<std::string> loopback;
  for (const Address& address : options.listen) {
    if (address.host != "::" && address.host != "0.0.0.0") {
      out.push_back(address.to_text());
      continue;
    }
    ifaddrs* list = nullptr;
    if (getifaddrs(&list) != 0) continue;
    for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
      if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0) continue;
      char text[INET6_ADDRSTRLEN] = {};
      if (one->ifa_addr->sa_family == AF_INET) {
        inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr, text, sizeof text);
      } else if (one->ifa_addr->sa_family == AF_INET6 && address.host == "::") {
        const auto& in6 = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&in6)) continue;
        inet_ntop(AF_INET6, &in6, text, sizeof text);
      } else {
        continue;
      }
      auto& into = (one->ifa_flags & IFF_LOOPBACK) != 0 ? loopback : out;
      const std::string found = Address{text, address.port}.to_text();
      if (std::find(into.begin(), into.end(), found) == into.end() && into.size() < kMaxAddresses / 2)
        into.push_back(found);
    }
    freeifaddrs(list);
  }
  if (out.empty()) return loopback;
  return out;
}

namespace {

// Entry 0 of the register. One that an `init` which was cut short has made stands: its root key is out
// already.
Result<SignedGenesis> found_register(FileSystem& files, Random& random, const Clock& clock,
                                     DataDirectory& data, const PeerOptions& options,
                                     const FoundOptions& found, RegisterStore& store) {
  EFS_ASSIGN(const KeyPair founder, data.peer_key(random));
  const RegisterState& state = store.state();
  if (state.version() > 0) {
    EFS_ASSIGN(const auto entries, store.read(0, 1));
    EFS_ASSIGN(const Entry first, read_entry(entries.at(0)));
    const PeerFacts* self = state.peer_by_key(founder.public_key());
    const bool ours = state.version() == 1 && self != nullptr && self->admitted == 0;
    if (!ours || state.genesis().genesis.name != found.mesh_name) {
      return fail(
          Code::exists,
          fmt::format("{} was begun as {} the mesh {} and never completed: go on with that, or delete "
                      "it and try again",
                      data.path(), ours ? "the founder of" : "a member of", state.genesis().genesis.name));
    }
    return std::get<Founding>(first.proposal.change).genesis;
  }
  EFS_ASSIGN(const MeshKeys keys, make_keys(files, data, found, random));
  Genesis genesis;
  genesis.name = found.mesh_name;
  genesis.roots = {keys.root.public_key(), keys.recovery.public_key()};
  genesis.created_ns = clock.wall_ns();
  const KeyPair* signers[] = {&keys.root};
  const SignedGenesis signed_genesis = sign_genesis(genesis, signers);
  Id root_volume;
  random.fill(root_volume);
  EFS_ASSIGN(Bytes entry, make_founding(signed_genesis, keys.root, founder, options.name, root_volume,
                                        clock.wall_ns(), random));
  EFS_TRY(store.append({std::move(entry)}));
  return signed_genesis;
}

}  // namespace

// peer.key -> where the root keys go -> the root keys -> the register's first entry -> secret and genesis,
// which complete it. A kill anywhere before that: the same `init` again goes on from there.
Result<Founded> found_mesh(FileSystem& files, Random& random, const Clock& clock,
                           const OpenEnvironment& environments, DataDirectory& data, PeerOptions& options,
                           const FoundOptions& found) {
  if (data.complete()) {
    return fail(Code::exists,
                fmt::format("a peer lives in {} already: start it with 'efs-peer run', or name another "
                            "directory with --data",
                            data.path()));
  }
  EFS_TRY(check_peer_name(found.mesh_name, "mesh"));
  if (data.left()) EFS_TRY(data.begin_again());
  options.name = to_peer_name(options.name);
  EFS_ASSIGN(auto store, open_register(environments));
  EFS_ASSIGN(const SignedGenesis genesis, found_register(files, random, clock, data, options, found, *store));
  EFS_ASSIGN(const KeyPair founder, data.peer_key(random));
  Secret secret(32);
  random.fill(secret.writable());
  EFS_TRY(data.write_options(write_options(options)));
  EFS_ASSIGN(std::string seed, first_invite(options, store->state().mesh(), secret, founder, random, clock));
  EFS_ASSIGN(const Bytes keys, files.read_file(data.at("keys-directory"), 4096));
  EFS_TRY(data.establish(genesis, secret));
  return Founded{std::move(seed), std::string(text(keys))};
}

Status check_same_mesh(DataDirectory& data, const Seed& seed) {
  if (!seed.invite) return {};
  EFS_ASSIGN(const SignedGenesis genesis, data.genesis());
  EFS_ASSIGN(const CheckedGenesis checked, check_first_genesis(genesis));
  if (checked.hash == seed.invite->mesh) return {};
  return fail(Code::exists,
              fmt::format("{} belongs to another mesh, {}: 'efs-peer leave' it first, or name another "
                          "directory with --data",
                          data.path(), checked.genesis.name));
}

Result<std::unique_ptr<Joining>> Joining::open(Runtime& runtime, const OpenEnvironment& environments,
                                               DataDirectory& data, PeerOptions& options, const Seed& seed,
                                               Done done) {
  if (!seed.invite)
    return fail(Code::invalid_argument, "give the invite: efs://HOST:PORT/INVITE, or --invite FILE");
  EFS_ASSIGN(const Address address, Address::parse(seed.address, kDefaultPort));
  if (data.left()) EFS_TRY(data.begin_again());
  EFS_ASSIGN(KeyPair key, data.peer_key(runtime.random));
  EFS_ASSIGN(auto store, open_register(environments));
  if (store->state().version() > 0 && store->state().mesh() != seed.invite->mesh) {
    return fail(
        Code::exists,
        fmt::format("{} was begun for another mesh: delete it, or name another with --data", data.path()));
  }
  std::unique_ptr<Joining> joining(
      new Joining(data, options, *seed.invite, std::move(key), std::move(store)));
  const JoinPlan plan{&joining->invite_, &joining->key_, to_peer_name(options.name),
                      address,           options.listen, options.advertise};
  joining->task_ = std::make_unique<JoinTask>(
      runtime, *joining->store_, plan, [raw = joining.get(), done](const Result<JoinTask::Outcome>& outcome) {
        done(raw->complete(outcome));
      });
  return joining;
}

Result<JoinedMesh> Joining::complete(const Result<JoinTask::Outcome>& outcome) {
  EFS_TRY(outcome);
  options_.name = outcome->name;
  EFS_TRY(data_.write_options(write_options(options_)));
  // The register's first entry carries the genesis as it was signed.
  EFS_ASSIGN(const auto entries, store_->read(0, 1));
  EFS_ASSIGN(const Entry first, read_entry(entries.at(0)));
  EFS_TRY(data_.establish(std::get<Founding>(first.proposal.change).genesis, invite_.mesh_secret));
  return JoinedMesh{store_->state().genesis().genesis.name, outcome->name};
}

Result<JoinedMesh> join_mesh(RealRuntime& runtime, DataDirectory& data, PeerOptions& options,
                             const Seed& seed, const std::vector<std::string>& own) {
  for (const auto& prefix : own) EFS_TRY(to_prefix(prefix));
  options.own = own;
  Result<JoinedMesh> joined = fail(Code::cancelled, "interrupted");
  EFS_ASSIGN(auto joining, Joining::open(runtime.runtime(), lmdb_environments(data.path()), data, options,
                                         seed, [&](Result<JoinedMesh> result) {
                                           joined = std::move(result);
                                           runtime.stop();
                                         }));
  runtime.on_signal([&](int) { runtime.stop(); });
  runtime.runtime().loop.post([&] { joining->start(); });
  runtime.run();
  return joined;
}

namespace {
// The peer that served `data` has gone when its lock can be had.
Result<std::unique_ptr<DataDirectory>> await_end(const std::string& data) {
  constexpr int kTenths = 200;
  for (int tenth = 0;; ++tenth) {
    auto opened = DataDirectory::open(real_files(), data, false);
    if (opened || opened.error().code != Code::busy || tenth == kTenths) return opened;
    usleep(100'000);
  }
}

Result<std::vector<std::string>> stores_of(const DataDirectory& data) {
  EFS_ASSIGN(const std::string yaml, data.options());
  PeerOptions options;
  options.data = data.path();
  EFS_TRY(read_options(yaml, data.at("efs.yaml"), options));
  EFS_TRY(complete_options(options));
  std::vector<std::string> out;
  for (const auto& store : options.stores) out.push_back(store.directory);
  return out;
}
}  // namespace

Result<std::string> leave_mesh(const std::string& data, const std::string& socket, bool delete_data) {
  auto before = DataDirectory::open(real_files(), data, false);
  const bool left_before = before && (*before)->left();  // only its data may still be there
  if (before && !left_before && !(*before)->complete())
    return fail(Code::not_found, data + " was never completed: there is no mesh to leave");
  if (before) before->reset();
  if (!left_before) {
    EFS_ASSIGN(
        auto client,
        LocalClient::connect(socket.empty() ? socket_path(data, Surroundings::of_this_process()) : socket));
    EFS_TRY(client.call(control::kCommand, encode(control::Command{"leave", "{}"}), {}, 60 * kSecond));
  }
  auto directory = await_end(data);
  if (!directory) {
    return fail(directory.error().code,
                "it left the mesh, but its directory cannot be looked after: " + to_text(directory.error()));
  }
  if (!(*directory)->left()) EFS_TRY((*directory)->mark_left("this peer left its mesh"));
  if (!delete_data) {
    return fmt::format(
        "left the mesh; {} stays: 'efs-peer join SEED' joins again in it, 'efs-peer leave "
        "--delete-data' deletes it\n",
        data);
  }
  EFS_ASSIGN(const auto stores, stores_of(**directory));
  EFS_ASSIGN(const std::string kept, (*directory)->erase(stores));
  if (kept.empty()) return fmt::format("left the mesh; {} and its stores are deleted\n", data);
  return fmt::format("left the mesh; its data is deleted, but other files are in {}\n", kept);
}

Status own_volumes(const std::string& socket, const std::vector<std::string>& prefixes) {
  if (prefixes.empty()) return {};
  EFS_ASSIGN(auto client, LocalClient::connect(socket));
  auto ask = [&client](uint16_t kind, Bytes body) {
    return client.call(kind, std::move(body), {}, 60 * kSecond);
  };
  EFS_ASSIGN(const Answer hello, ask(control::kHello, {}));
  EFS_ASSIGN(const auto welcome, decode<control::Welcome>(hello.body));
  for (const auto& prefix : prefixes) {
    const std::string arguments = nlohmann::json{{"prefix", prefix}}.dump();
    auto made = ask(control::kCommand, encode(control::Command{"volume.create", arguments}));
    if (made) continue;
    if (made.error().code == Code::exists) {
      EFS_ASSIGN(const Answer shown,
                 ask(control::kCommand, encode(control::Command{"volume.show", arguments})));
      EFS_ASSIGN(const auto result, decode<control::CommandResult>(shown.body));
      const auto volume = nlohmann::json::parse(result.json, nullptr, false);
      if (volume.is_object() && volume.value("leader", "") == to_hex(welcome.peer)) continue;
    }
    return fail(made.error().code, "cannot own " + prefix + ": " + to_text(made.error()));
  }
  return {};
}

}  // namespace efs
