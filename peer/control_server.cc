#include "peer/control_server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <sstream>

namespace efs {

namespace {
constexpr uint32_t kMaxEntriesAsked = 1000;

// "Groups:" of /proc/PID/status: what the process that asks has, not what its user could have.
std::vector<uint32_t> groups_of(int32_t pid) {
  std::vector<uint32_t> groups;
  auto content = real_files().read_file(fmt::format("/proc/{}/status", pid), 64 << 10);
  if (!content) return groups;
  std::istringstream lines{std::string(text(*content))};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("Groups:")) continue;
    std::istringstream numbers(line.substr(7));
    for (uint32_t group = 0; numbers >> group && groups.size() < kMaxGroups;) groups.push_back(group);
  }
  return groups;
}
}  // namespace

ControlServer::ControlServer(Core& core) : core_(core), commands_(core), server_(core.runtime) {
  server_.handle(control::kHello, [this](const UnixPeer& peer, Bytes, Bytes, Responder respond) {
    hello(peer, std::move(respond));
  });
  server_.handle(control::kCommand, [this](const UnixPeer& peer, Bytes body, Bytes, Responder respond) {
    auto command = decode<control::Command>(body);
    if (!command) return respond.fail(command.error());
    commands_.run(caller_of(peer), command->name, command->arguments, [respond](Result<std::string> json) {
      json ? respond.answer(encode(control::CommandResult{std::move(*json)})) : respond.fail(json.error());
    });
  });
  server_.handle(control::kResolve, [this](const UnixPeer& peer, Bytes body, Bytes, Responder respond) {
    resolve(peer, body, std::move(respond));
  });
  server_.handle(control::kVolume,
                 [this](const UnixPeer& peer, Bytes body, Bytes payload, Responder respond) {
                   volume_request(peer, body, std::move(payload), std::move(respond));
                 });
  server_.handle(control::kRegister, [this](const UnixPeer&, Bytes body, Bytes, Responder respond) {
    read_register(body, std::move(respond));
  });
  server_.handle(control::kPropose, [this](const UnixPeer& peer, Bytes body, Bytes, Responder respond) {
    propose(peer, body, std::move(respond));
  });
}

ControlServer::~ControlServer() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

Status ControlServer::listen(const std::string& path) {
  const std::string directory = path.substr(0, path.rfind('/'));
  EFS_TRY(core_.runtime.files.make_directories(directory, geteuid() == 0 ? 0755 : 0700));
  EFS_TRY(server_.listen(path));
  path_ = path;
  if (::chmod(path.c_str(), 0666) != 0) return fail(from_errno(errno, "chmod " + path));
  return {};
}

Commands::Caller ControlServer::caller_of(const UnixPeer& peer) const {
  return {peer.uid, peer.gid, groups_of(peer.pid), peer.uid == 0 || peer.uid == geteuid()};
}

void ControlServer::hello(const UnixPeer& peer, Responder respond) {
  const RegisterState& state = core_.membership.state();
  control::Welcome welcome;
  welcome.version = EFS_VERSION;
  welcome.mesh_name = state.genesis().genesis.name;
  welcome.mesh = state.mesh();
  welcome.peer = core_.self;
  if (const PeerFacts* self = state.peer(core_.self)) welcome.peer_name = self->name;
  welcome.uid = peer.uid;
  welcome.may_change = peer.uid == 0 || peer.uid == geteuid();
  respond.answer(encode(welcome));
}

void ControlServer::resolve(const UnixPeer& peer, ByteView body, Responder respond) {
  auto wanted = decode<control::ResolvePath>(body);
  if (!wanted) return respond.fail(wanted.error());
  const auto caller = caller_of(peer);
  core_.volumes.resolve(
      wanted->path, {caller.uid, caller.gid, caller.groups, true}, wanted->follow,
      [this, respond](Result<ResolvedPath> found) {
        if (!found) return respond.fail(found.error());
        const VolumeClient& client = *found->node.volume;
        const VolumeFacts* volume = core_.membership.state().volume(client.id());
        respond.answer(encode(control::Resolved{client.id(), client.number(), volume ? volume->prefix : "",
                                                found->path, found->node.attributes}));
      });
}

void ControlServer::volume_request(const UnixPeer& peer, ByteView body, Bytes payload, Responder respond) {
  auto request = decode<Request>(body);
  if (!request) return respond.fail(request.error());
  if (std::holds_alternative<AppendRegister>(request->body) ||
      std::holds_alternative<MakeJunction>(request->body) ||
      std::holds_alternative<RemoveJunction>(request->body) || std::holds_alternative<Hello>(request->body) ||
      std::holds_alternative<Goodbye>(request->body) || std::holds_alternative<Close>(request->body)) {
    return respond.fail({Code::unauthorized, "this request is for peers only"});
  }
  auto client = core_.volumes.client(request->volume);
  if (!client) return respond.fail({Code::not_found, "there is no such volume"});
  const auto caller = caller_of(peer);
  client->call({caller.uid, caller.gid, caller.groups, true}, std::move(request->body), std::move(payload),
               {}, [this, respond, client](VolumeAnswer answer) {
                 // A remote volume answers on the loop, one of this peer's own perhaps on the pool.
                 core_.runtime.loop.post([respond, answer = std::move(answer)]() mutable {
                   respond.answer(encode(answer.reply), std::move(answer.payload));
                 });
               });
}

void ControlServer::read_register(ByteView body, Responder respond) {
  auto wanted = decode<control::ReadRegister>(body);
  if (!wanted) return respond.fail(wanted.error());
  auto entries = core_.membership.store().read(wanted->from, std::min(wanted->limit, kMaxEntriesAsked));
  if (!entries) return respond.fail(entries.error());
  respond.answer(encode(control::RegisterEntries{std::move(*entries), core_.membership.state().version()}));
}

void ControlServer::propose(const UnixPeer& peer, ByteView body, Responder respond) {
  auto wanted = decode<control::Propose>(body);
  if (!wanted) return respond.fail(wanted.error());
  auto ordered = [respond](Result<uint64_t> index) {
    index ? respond.answer(encode(control::Proposed{*index})) : respond.fail(index.error());
  };
  if (!wanted->signed_proposal.empty())
    return core_.membership.propose(std::move(wanted->signed_proposal), ordered);
  if (peer.uid != 0 && peer.uid != geteuid()) {
    return respond.fail({Code::unauthorized,
                         "give an administrator's key with --key FILE, or run it as root where the "
                         "peer is an administrator (the founder's is)"});
  }
  auto change = decode<Change>(wanted->body);
  if (!change) return respond.fail(change.error());
  core_.membership.propose_change(std::move(*change), ordered);
}

}  // namespace efs
