#include "peer/control_server.h"

#include <sys/stat.h>
#include <unistd.h>

namespace efs {

namespace {
constexpr uint32_t kMaxEntriesAsked = 1000;

// What a program may ask of a volume for its user. Not what only a mount or a peer may: Hello, Goodbye, Open
// and Close keep a mount's accounts, locks are those of its programs, junctions and the register are the
// peers' affair; and what a mount vouches for (the kernel has checked the mode when the file was opened) a
// program may not.
Status check_for_programs(const RequestBody& body) {
  const bool for_peers =
      std::holds_alternative<AppendRegister>(body) || std::holds_alternative<SetPolicy>(body) ||
      std::holds_alternative<MakeJunction>(body) || std::holds_alternative<RemoveJunction>(body) ||
      std::holds_alternative<Hello>(body) || std::holds_alternative<Goodbye>(body) ||
      std::holds_alternative<DropLeases>(body) || std::holds_alternative<SetLock>(body) ||
      std::holds_alternative<GetLock>(body) || std::holds_alternative<CancelLock>(body) ||
      std::holds_alternative<Open>(body) || std::holds_alternative<Close>(body) ||
      std::holds_alternative<WriteScattered>(body);
  if (for_peers) return fail(Code::unauthorized, "this request is for peers only");
  const auto* create = std::get_if<Create>(&body);
  const auto* set = std::get_if<SetAttributes>(&body);
  const auto* write = std::get_if<Write>(&body);
  if ((create != nullptr && create->open) || (set != nullptr && set->has_write_handle) ||
      (write != nullptr && write->attributes))
    return fail(Code::unauthorized, "only a mount holds files open");
  return {};
}

// As a kernel does for whoever is not root: setuid and setgid go with what is written. (For a mount its
// kernel says when.)
void drop_set_id(RequestBody& body) {
  if (auto* write = std::get_if<Write>(&body)) write->clear_suid = true;
  if (auto* set = std::get_if<SetAttributes>(&body); set != nullptr && set->size) set->clear_suid = true;
}

// The inodes that a request names; Sync's tells nothing and changes nothing.
std::vector<InodeNumber> inodes_of(const RequestBody& body) {
  return std::visit(
      [](const auto& one) {
        std::vector<InodeNumber> out;
        if constexpr (!std::is_same_v<std::decay_t<decltype(one)>, Sync>) {
          if constexpr (requires { one.inode; }) out.push_back(one.inode);
          if constexpr (requires { one.parent; }) out.push_back(one.parent);
          if constexpr (requires { one.new_parent; }) out.push_back(one.new_parent);
          if constexpr (requires { one.from_offset; }) out.push_back(one.from);
        }
        return out;
      },
      body);
}

// Those that an answer has shown, each with the right to come to it.
std::vector<InodeNumber> inodes_shown(const RequestBody& body, const Reply& reply) {
  std::vector<InodeNumber> out;
  if (std::holds_alternative<Lookup>(body) || std::holds_alternative<Create>(body) ||
      std::holds_alternative<Link>(body))
    out.push_back(reply.attributes.inode);
  for (const DirectoryEntry entry : reply.entries)
    if (entry.attributes) out.push_back(entry.attributes->inode);
  return out;
}
}  // namespace

ControlServer::ControlServer(Core& core)
    : core_(core), commands_(core), server_(std::make_unique<LocalServer>(core.runtime)) {
  server_->handle(control::kHello, [this](const UnixPeer& peer, Bytes, SharedBytes, Responder respond) {
    hello(peer, std::move(respond));
  });
  server_->handle(control::kCommand, [this](const UnixPeer& peer, Bytes body, SharedBytes,
                                            Responder respond) {
    auto command = decode<control::Command>(body);
    if (!command) return respond.fail(command.error());
    commands_.run(caller_of(peer), command->name, command->arguments, [respond](Result<std::string> json) {
      json ? respond.answer(encode(control::CommandResult{std::move(*json)})) : respond.fail(json.error());
    });
  });
  server_->on_end([this](uint64_t connection) { reached_.end(connection); });
  server_->handle(control::kResolve, [this](const LocalCaller& peer, Bytes body, SharedBytes,
                                            Responder respond) { resolve(peer, body, std::move(respond)); });
  server_->handle(control::kVolume,
                  [this](const LocalCaller& peer, Bytes body, SharedBytes payload, Responder respond) {
                    volume_request(peer, body, std::move(payload), std::move(respond));
                  });
  server_->handle(control::kRegister, [this](const UnixPeer&, Bytes body, SharedBytes, Responder respond) {
    read_register(body, std::move(respond));
  });
  server_->handle(control::kPropose, [this](const UnixPeer& peer, Bytes body, SharedBytes,
                                            Responder respond) { propose(peer, body, std::move(respond)); });
}

ControlServer::~ControlServer() {
  close();
}

void ControlServer::close() {
  if (!path_.empty()) ::unlink(path_.c_str());
  path_.clear();
  server_.reset();
}

Status ControlServer::listen(const std::string& path) {
  const std::string directory = path.substr(0, path.rfind('/'));
  EFS_TRY(core_.runtime.files.make_directories(directory, geteuid() == 0 ? 0755 : 0700));
  EFS_TRY(server_->listen(path));
  path_ = path;
  if (::chmod(path.c_str(), 0666) != 0) return fail(from_errno(errno, "chmod " + path));
  return {};
}

Commands::Caller ControlServer::caller_of(const UnixPeer& peer) {
  std::vector<uint32_t> groups = peer.groups;
  if (groups.size() > kMaxGroups) groups.resize(kMaxGroups);
  return {peer.uid, peer.gid, std::move(groups), peer.uid == 0 || peer.uid == geteuid()};
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

void ControlServer::resolve(const LocalCaller& peer, ByteView body, Responder respond) {
  auto wanted = decode<control::ResolvePath>(body);
  if (!wanted) return respond.fail(wanted.error());
  const auto caller = caller_of(peer);
  core_.volumes.resolve(
      wanted->path, {caller.uid, caller.gid, caller.groups, true}, wanted->follow,
      [this, respond, connection = peer.connection](Result<ResolvedPath> found) {
        if (!found) return respond.fail(found.error());
        const VolumeClient& client = *found->node.volume;
        if (!respond.cancelled()) reached_.add(connection, found->node.global());
        const VolumeFacts* volume = core_.membership.state().volume(client.id());
        respond.answer(encode(control::Resolved{client.id(), client.number(), volume ? volume->prefix : "",
                                                found->path, found->node.attributes}));
      });
}

void ControlServer::volume_request(const LocalCaller& peer, ByteView body, SharedBytes payload,
                                   Responder respond) {
  auto request = decode<Request>(body);
  if (!request) return respond.fail(request.error());
  if (Status may = check_for_programs(request->body); !may) return respond.fail(may.error());
  const auto client = core_.volumes.client(request->volume);
  if (!client) return respond.fail({Code::not_found, "there is no such volume"});
  const VolumeNumber number = client->number();
  for (InodeNumber inode : inodes_of(request->body)) {
    const bool root = number == kRootVolume && inode == kRootInode;
    if (peer.uid != 0 && !root && !reached_.has(peer.connection, global_inode(number, inode)))
      return respond.fail({Code::stale, "look its path up first: this connection was not shown that inode"});
  }
  const auto caller = caller_of(peer);
  if (caller.uid != 0) drop_set_id(request->body);
  RequestBody asked = request->body;
  core_.volumes.call(
      request->volume, {caller.uid, caller.gid, caller.groups, true}, std::move(request->body),
      std::move(payload), {},
      [this, respond, number, asked = std::move(asked), connection = peer.connection](VolumeAnswer answer) {
        if (answer.reply.code == Code::ok && !respond.cancelled()) {
          for (InodeNumber inode : inodes_shown(asked, answer.reply))
            reached_.add(connection, global_inode(number, inode));
        }
        respond.answer(encode(answer.reply), std::move(answer.payload));
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
