#include "peer/founding.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "peer/control/protocol.h"
#include "peer/control/socket_path.h"
#include "peer/environments.h"
#include "peer/identity/prefix.h"
#include "peer/joining.h"
#include "peer/net/local.h"

namespace efs {

namespace {

constexpr int64_t kFirstInviteFor = kHour;
constexpr uint32_t kFirstInviteUses = 10;
constexpr int kStopLooks = 200;  // 20 s
constexpr unsigned kStopLookUs = 100'000;

Result<std::unique_ptr<RegisterStore>> open_register(const DataDirectory& data) {
  EFS_ASSIGN(auto environment, lmdb_environments(data.path())("register", RegisterStore::options()));
  return RegisterStore::open(std::move(environment));
}

Status write_keys(FileSystem& files, const std::string& directory, const KeyPair& root,
                  const KeyPair& recovery, const Secret& passphrase, Random& random) {
  for (const char* name : {"root.key", "recovery.key"}) {
    if (files.exists(directory + "/" + name)) {
      return fail(Code::exists,
                  fmt::format("{}/{} is there already: keep it, and name another directory with --keys",
                              directory, name));
    }
  }
  EFS_TRY(files.make_directories(directory, 0700));
  EFS_TRY(write_key_file(directory + "/root.key", root, KeyKind::root, passphrase, random));
  return write_key_file(directory + "/recovery.key", recovery, KeyKind::recovery, passphrase, random);
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

Result<Founded> found_mesh(FileSystem& files, Random& random, const Clock& clock, DataDirectory& data,
                           PeerOptions& options, const FoundOptions& found) {
  if (data.complete()) {
    return fail(Code::exists,
                fmt::format("a peer lives in {} already: start it with 'efs-peer run', or name another "
                            "directory with --data",
                            data.path()));
  }
  EFS_TRY(check_peer_name(found.mesh_name, "mesh"));
  options.name = to_peer_name(options.name);
  EFS_ASSIGN(const KeyPair founder, data.peer_key(random));
  EFS_ASSIGN(auto store, open_register(data));
  if (store->state().version() != 0) {
    return fail(Code::exists,
                fmt::format("{} was begun and never completed: delete it and try again", data.path()));
  }
  const KeyPair root = KeyPair::generate(random);
  const KeyPair recovery = KeyPair::generate(random);
  EFS_TRY(write_keys(files, found.keys_directory, root, recovery, found.passphrase, random));

  Genesis genesis;
  genesis.name = found.mesh_name;
  genesis.roots = {root.public_key(), recovery.public_key()};
  genesis.created_ns = clock.wall_ns();
  const KeyPair* signers[] = {&root};
  const SignedGenesis signed_genesis = sign_genesis(genesis, signers);
  Id root_volume;
  random.fill(root_volume);
  EFS_ASSIGN(Bytes entry, make_founding(signed_genesis, root, founder, options.name, root_volume,
                                        clock.wall_ns(), random));
  EFS_TRY(store->append({std::move(entry)}));

  Secret secret(32);
  random.fill(secret.writable());
  EFS_TRY(data.write_options(write_options(options)));
  EFS_TRY(files.replace_file(data.at("keys-directory"), view(canonical_path(found.keys_directory))));
  EFS_ASSIGN(std::string seed, first_invite(options, store->state().mesh(), secret, founder, random, clock));
  EFS_TRY(data.establish(signed_genesis, secret));
  return Founded{std::move(seed)};
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

Result<JoinedMesh> join_mesh(RealRuntime& runtime, DataDirectory& data, PeerOptions& options,
                             const Seed& seed, const std::vector<std::string>& own) {
  if (!seed.invite)
    return fail(Code::invalid_argument, "give the invite: efs://HOST:PORT/INVITE, or --invite FILE");
  for (const auto& prefix : own) EFS_TRY(to_prefix(prefix));
  Invite invite = [&] {  // a seed's invite cannot be copied: its parts are
    return Invite{seed.invite->addresses, seed.invite->mesh, seed.invite->mesh_secret.clone(),
                  KeyPair::from_seed(seed.invite->key.seed().clone()), seed.invite->certificate};
  }();
  EFS_ASSIGN(const Address address, Address::parse(seed.address, kDefaultPort));
  EFS_ASSIGN(const KeyPair key, data.peer_key(real_random()));
  EFS_ASSIGN(auto store, open_register(data));
  if (store->state().version() > 0 && store->state().mesh() != invite.mesh) {
    return fail(
        Code::exists,
        fmt::format("{} was begun for another mesh: delete it, or name another with --data", data.path()));
  }
  Result<JoinTask::Outcome> outcome = fail(Code::cancelled, "interrupted");
  {
    const JoinPlan plan{&invite, &key,           to_peer_name(options.name),
                        address, options.listen, options.advertise};
    JoinTask task(runtime.runtime(), *store, plan, [&](Result<JoinTask::Outcome> result) {
      outcome = std::move(result);
      runtime.stop();
    });
    runtime.on_signal([&](int) { runtime.stop(); });
    runtime.runtime().loop.post([&] { task.start(); });
    runtime.run();
  }
  EFS_TRY(outcome);
  options.name = outcome->name;
  EFS_TRY(data.write_options(write_options(options)));
  // The register's first entry carries the genesis as it was signed.
  EFS_ASSIGN(const auto entries, store->read(0, 1));
  EFS_ASSIGN(const Entry first, read_entry(entries.at(0)));
  EFS_TRY(data.establish(std::get<Founding>(first.proposal.change).genesis, invite.mesh_secret));
  return JoinedMesh{store->state().genesis().genesis.name, outcome->name};
}

Status leave_mesh(FileSystem& files, const std::string& data, const std::string& socket, bool delete_data) {
  EFS_ASSIGN(auto client, LocalClient::connect(
                              socket.empty() ? socket_path(data, Surroundings::of_this_process()) : socket));
  control::Command command{"leave", "{}"};
  auto answer = client.call(control::kCommand, encode(command), {}, 60 * kSecond);
  if (!answer) return fail(answer.error());
  // It stops by itself, and lets the lock go. (What starts it again meanwhile finds that it is no member.)
  for (int looks = 0;; ++looks) {
    auto directory = DataDirectory::open(files, data, false);
    if (!directory && directory.error().code == Code::busy && looks < kStopLooks) {
      usleep(kStopLookUs);
      continue;
    }
    if (!delete_data) return {};
    if (!directory) return fail(directory.error());
    std::error_code error;
    std::filesystem::remove_all(data, error);
    if (error) return fail(from_errno(error.value(), "left the mesh; delete " + data));
    return {};
  }
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
