#include "test/sim/peer/mesh.h"

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <stdexcept>

#include "peer/identity/prefix.h"
#include "peer/junctions.h"
#include "peer/volume/check.h"

namespace efs::test {

namespace {
constexpr const char* kData = "/data";
constexpr int64_t kPatience = 2 * kMinute;

[[noreturn]] void give_up(const std::string& what, const Error& error) {
  throw std::runtime_error(what + ": " + to_text(error));
}
template <typename T>
T need(Result<T> result, const std::string& what) {
  if (!result) give_up(what, result.error());
  return std::move(*result);
}
}  // namespace

bool long_form() {
  return std::getenv("EFS_LONG") != nullptr;
}

void check_ok(const Status& status) {
  BOOST_REQUIRE_MESSAGE(status.has_value(), (status ? std::string() : to_text(status.error())));
}
AddUser new_user(const std::string& name, uint32_t uid, const std::string& home) {
  AddUser user;
  user.name = name;
  user.uid = user.gid = uid;
  user.home = home;
  user.keys.push_back({});
  std::fill(user.keys.back().begin(), user.keys.back().end(), uint8_t(uid));
  return user;
}

Mesh::Mesh(uint64_t seed) : sim(seed), random(seed + 1) {
  if (std::getenv("EFS_LOG") != nullptr) {
    sim.set_log([this](const std::string& address, LogLevel level, std::string_view line) {
      if (level < LogLevel::info) return;
      std::printf("%12.6f %s %.*s\n", double(sim.now_ns()) / 1e9, address.c_str(), int(line.size()),
                  line.data());
    });
  }
}

Mesh::~Mesh() {
  for (auto& host : hosts_) shut_down(*host, false);
}

// ---- hosts and processes ----

Host& Mesh::add_host() {
  auto& host = *hosts_.emplace_back(std::make_unique<Host>());
  host.index = hosts_.size() - 1;
  host.address = "10.0.0." + std::to_string(hosts_.size());
  host.disk = make_simulated_disk(random.next());
  host.volumes = make_memory_environments();
  host.options.data = kData;
  host.options.name = "peer" + std::to_string(hosts_.size());
  host.options.listen = {Address{host.address, kDefaultPort, false}};
  host.options.stores = {{std::string(kData) + "/chunks", uint64_t(1) << 30}};
  return host;
}

OpenEnvironment Mesh::tables_of(Host& host) {
  return [&host](const std::string& name,
                 const MetaOptions& options) -> Result<std::shared_ptr<MetaEnvironment>> {
    auto& found = host.tables[name];
    if (!found) found = make_memory_environment(options);
    return found;
  };
}

void Mesh::boot(Host& host) {
  host.runtime = &sim.add_host(host.address, *host.disk);
  host.data = need(DataDirectory::open(host.disk->files(), kData, true), "data directory");
  ++host.starts;
}

// Destroyed as a process dies: nothing says goodbye.
void Mesh::shut_down(Host& host, bool power_loss) {
  if (host.runtime == nullptr) return;
  host.view.reset();
  host.peer.reset();
  host.joining.reset();
  host.seed.reset();
  host.started.reset();
  host.data.reset();
  host.runtime = nullptr;
  sim.remove_host(host.address, power_loss);
  power_loss ? host.disk->power_loss() : host.disk->process_died();
}

std::vector<Host*> Mesh::serving() {
  std::vector<Host*> out;
  for (auto& host : hosts_) {
    if (host->serves()) out.push_back(host.get());
  }
  return out;
}

Host& Mesh::found() {
  Host& host = add_host();
  boot(host);
  FoundOptions options{"sim", "/keys"};
  need(found_mesh(host.disk->files(), host.runtime->random, host.runtime->loop.clock(), tables_of(host),
                  *host.data, host.options, options),
       "found");
  shut_down(host, false);
  start(host);
  return host;
}

void Mesh::begin_join(Host& host, const std::string& seed) {
  boot(host);
  host.seed = need(parse_seed(seed), "seed");
  host.joined.reset();
  auto joining = Joining::open(*host.runtime, tables_of(host), *host.data, host.options, *host.seed,
                               [&host](Result<JoinedMesh> joined) { host.joined = std::move(joined); });
  if (!joining) {
    host.joined = fail(joining.error());
    return;
  }
  host.joining = std::move(*joining);
  host.joining->start();
}

Status Mesh::join(Host& host, const std::string& seed) {
  begin_join(host, seed);
  sim.run_until([&] { return host.joined.has_value(); }, kPatience);
  shut_down(host, false);
  if (!host.joined) return fail(Code::timed_out, "joining never ended");
  if (!*host.joined) return fail(host.joined->error());
  start(host);
  return {};
}

void Mesh::grow(size_t count, bool operators) {
  const std::string seed = invite(host(0), {uint32_t(count), kHour, operators});
  std::vector<Host*> fresh;
  for (size_t i = 0; i < count; ++i) {
    fresh.push_back(&add_host());
    begin_join(*fresh.back(), seed);
  }
  for (Host* host : fresh) {
    sim.run_until([&] { return host->joined.has_value(); }, kPatience);
    if (!host->joined) throw std::runtime_error("joining never ended");
    if (!*host->joined) give_up("join", host->joined->error());
    shut_down(*host, false);
    serve(*host);
  }
  for (Host* host : fresh) {
    sim.run_until([&] { return host->started.has_value(); }, kPatience);
    if (!host->serves()) throw std::runtime_error("a peer that joined does not serve");
  }
}

void Mesh::serve(Host& host) {
  boot(host);
  host.peer = std::make_unique<Peer>(*host.runtime, *host.data, host.options,
                                     PeerParts{tables_of(host), host.volumes, false});
  host.peer->start([&host](Status started) {
    host.started = std::move(started);
    if (host.serves()) host.view = host.core().volumes.make_view();
  });
}

void Mesh::start(Host& host) {
  serve(host);
  sim.run_until([&] { return host.started.has_value(); }, kPatience);
  if (!host.started) throw std::runtime_error("a peer never started");
  if (!*host.started) give_up("start", host.started->error());
}

void Mesh::kill(Host& host, bool power_loss) {
  shut_down(host, power_loss);
}

void Mesh::stop(Host& host) {
  if (!host.peer) return;
  bool stopped = false;
  host.view.reset();
  host.peer->stop([&] { stopped = true; });
  if (!sim.run_until([&] { return stopped; }, kPatience)) throw std::runtime_error("a peer does not stop");
  shut_down(host, false);
}

// ---- what people do ----

std::string Mesh::invite(Host& by, const InviteTerms& terms) {
  Certificate certificate;
  certificate.rights.uids = UidRange::all();
  certificate.rights.under = {"/"};
  certificate.rights.operate = terms.operate;
  certificate.expires_ns = by.runtime->loop.clock().wall_ns() + terms.for_ns;
  certificate.uses = terms.uses;
  const Secret secret = need(by.data->mesh_secret(), "mesh secret");
  return to_seed(need(make_invite(addresses_of(by.options), by.state().mesh(), secret, certificate,
                                  by.core().key, by.runtime->random),
                      "invite"));
}

Result<VolumeId> Mesh::create_volume(Host& by, const std::string& prefix, const PeerId& owner) {
  std::optional<Result<VolumeId>> made;
  by.core().admin.create({prefix, owner}, [&](Result<VolumeId> result) { made = std::move(result); });
  if (!sim.run_until([&] { return made.has_value(); }, kPatience))
    throw std::runtime_error("creating a volume never ends");
  return std::move(*made);
}

Status Mesh::remove_volume(Host& by, const std::string& prefix) {
  std::optional<Status> removed;
  by.core().admin.remove(prefix, [&](Status result) { removed = std::move(result); });
  if (!sim.run_until([&] { return removed.has_value(); }, kPatience))
    throw std::runtime_error("removing a volume never ends");
  return std::move(*removed);
}

Status Mesh::propose(Host& by, Change change) {
  std::optional<Status> done;
  by.core().membership.propose_change(std::move(change), [&](Result<uint64_t> index) {
    done = index ? Status() : Status(fail(index.error()));
  });
  if (!sim.run_until([&] { return done.has_value(); }, kPatience))
    throw std::runtime_error("a proposal never ends");
  return std::move(*done);
}

VolumeAnswer Mesh::call(Host& by, const VolumeId& volume, RequestBody body, Payload payload) {
  auto client = by.view->client(volume);
  if (!client) return {error_reply(Code::not_found, "the volume is not known here"), {}};
  auto answer = std::make_shared<std::optional<VolumeAnswer>>();
  client->call(kRootUser, std::move(body), std::move(payload), {},
               [answer](VolumeAnswer got) { *answer = std::move(got); });
  if (!sim.run_until([&] { return answer->has_value(); }, kPatience))
    throw std::runtime_error("a request is never answered");
  return std::move(**answer);
}

// ---- what is to be true ----

bool Mesh::registers_agree() {
  const auto up = serving();
  for (Host* host : up) {
    if (host->state().version() != up.front()->state().version()) return false;
    if (host->state().head() != up.front()->state().head()) return false;
  }
  return true;
}

std::vector<std::string> Mesh::inconsistencies() {
  std::vector<std::string> wrong;
  const auto up = serving();
  if (up.empty()) return {"nobody serves"};
  const RegisterState& state = up.front()->state();
  for (Host* host : up) {
    for (const auto& replica : host->core().volumes.owned()) {
      const VolumeFacts* volume = state.volume(replica->id());
      if (volume == nullptr) {
        wrong.push_back(host->address + " serves a volume that the register does not have");
        continue;
      }
      auto junctions = find_junctions(*replica->rows());
      if (!junctions) {
        wrong.push_back(volume->prefix + ": " + to_text(junctions.error()));
        continue;
      }
      std::set<VolumeId> there;
      for (const FoundJunction& one : *junctions) {
        there.insert(one.volume);
        const VolumeFacts* below = state.volume(one.volume);
        if (below == nullptr || below->parent != volume->id)
          wrong.push_back(fmt::format("{}: a junction {} without a volume", volume->prefix, one.path.back()));
        else if (components_below(volume->prefix, below->prefix) != one.path)
          wrong.push_back(fmt::format("{}: the junction of {} is elsewhere", volume->prefix, below->prefix));
      }
      for (const VolumeFacts* below : state.volumes()) {
        if (below->number != kRootVolume && below->parent == volume->id && !there.contains(below->id))
          wrong.push_back(fmt::format("{}: {} has no junction", volume->prefix, below->prefix));
      }
      auto checked = check_volume(*replica->rows(), nullptr);
      if (!checked)
        wrong.push_back(volume->prefix + ": " + to_text(checked.error()));
      else
        for (const auto& problem : checked->problems) wrong.push_back(volume->prefix + ": " + problem);
    }
  }
  return wrong;
}

std::vector<std::string> Mesh::not_located() {
  struct Search {
    std::vector<std::string> missing;
    size_t open = 0;
  };
  auto search = std::make_shared<Search>();
  auto ended = [search](const std::string& who, const std::string& what) {
    ++search->open;
    return [search, text = who + " does not find " + what](auto found) {
      --search->open;
      if (!found) search->missing.push_back(text + ": " + to_text(found.error()));
    };
  };
  const auto up = serving();
  for (Host* host : up) {
    Locator& locator = host->core().locator;
    for (const VolumeFacts* volume : host->state().volumes())
      locator.find_prefix(volume->prefix, ended(host->address, volume->prefix));
    for (const auto& [name, user] : host->state().users()) {
      if (!user.home.empty()) locator.find_user(name, ended(host->address, "user " + name));
    }
    for (Host* other : up) locator.find_peer(other->id(), ended(host->address, other->address));
  }
  if (!sim.run_until([&] { return search->open == 0; }, kPatience))
    search->missing.push_back(std::to_string(search->open) + " lookups never end");
  return search->missing;
}

}  // namespace efs::test
