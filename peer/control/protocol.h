// What the tools say to the peer of their machine, over its Unix socket (peer/net's local frames).
//
// The caller is who the kernel says it is (SO_PEERCRED): nothing in a message says who asks. Commands on
// files act as the caller; commands that change this peer or its mesh need root or the peer's own user, and
// say so otherwise (Code::unauthorized). The table of who may call what is in docs/access.md, made from
// kCommands below and checked by a test.
//
// Errors travel as {code, message}, the message for people. Plain values: any thread.
#pragma once

#include <string>
#include <vector>

#include "peer/base/encoding.h"
#include "peer/volume/request.h"

namespace efs::control {

// Message kinds, 160..255 (docs/wire-format.md). Never reuse one.
enum Kind : uint16_t {
  kHello = 160,     // Hello -> Welcome
  kCommand = 161,   // Command -> CommandResult
  kResolve = 162,   // ResolvePath -> Resolved
  kVolume = 163,    // Request (volume and body; who is overwritten) + payload -> Reply + payload
  kRegister = 164,  // ReadRegister -> RegisterEntries
  kPropose = 165,   // Propose -> Proposed
};

struct Hello {
  std::string program;  // "efs 0.1.0"
  static constexpr auto fields() { return std::tuple{field("program", &Hello::program)}; }
};
struct Welcome {
  std::string version;
  std::string mesh_name;
  Id mesh{};
  Id peer{};
  std::string peer_name;
  uint32_t uid = 0;         // the caller's, as the kernel says
  bool may_change = false;  // root or the peer's own user
  static constexpr auto fields() {
    return std::tuple{field("version", &Welcome::version),
                      field("mesh_name", &Welcome::mesh_name),
                      field("mesh", &Welcome::mesh),
                      field("peer", &Welcome::peer),
                      field("peer_name", &Welcome::peer_name),
                      field("uid", &Welcome::uid),
                      field("may_change", &Welcome::may_change)};
  }
};

// One command with arguments and result as JSON objects: what `--json` prints is the result.
struct Command {
  std::string name;
  std::string arguments;  // JSON; empty: {}
  static constexpr auto fields() {
    return std::tuple{field("name", &Command::name), field("arguments", &Command::arguments)};
  }
};
struct CommandResult {
  std::string json;
  static constexpr auto fields() { return std::tuple{field("json", &CommandResult::json)}; }
};

// A path of the tree, absolute ("/volume01/a/b"), walked with the caller's rights.
struct ResolvePath {
  std::string path;
  bool follow = true;  // a symbolic link at the end too
  static constexpr auto fields() {
    return std::tuple{field("path", &ResolvePath::path), field("follow", &ResolvePath::follow)};
  }
};
struct Resolved {
  VolumeId volume{};
  VolumeNumber number = 0;
  std::string prefix;  // of the volume
  std::string path;    // canonical
  Attributes attributes;
  static constexpr auto fields() {
    return std::tuple{field("volume", &Resolved::volume), field("number", &Resolved::number),
                      field("prefix", &Resolved::prefix), field("path", &Resolved::path),
                      field("attributes", &Resolved::attributes)};
  }
};

// The register, as signed entries from `from` on, at most `limit`.
struct ReadRegister {
  uint64_t from = 0;
  uint32_t limit = 1000;
  static constexpr auto fields() {
    return std::tuple{field("from", &ReadRegister::from), field("limit", &ReadRegister::limit)};
  }
};
struct RegisterEntries {
  std::vector<Bytes> entries;
  uint64_t next_index = 0;  // the index after the register's last entry
  static constexpr auto fields() {
    return std::tuple{field("entries", &RegisterEntries::entries),
                      field("next_index", &RegisterEntries::next_index)};
  }
};
// A change of the register: a proposal signed by an administrator's key, or (root and the peer's user only)
// an unsigned body that the peer signs with its own key when that is an administrator.
struct Propose {
  Bytes signed_proposal;
  Bytes body;
  static constexpr auto fields() {
    return std::tuple{field("signed_proposal", &Propose::signed_proposal), field("body", &Propose::body)};
  }
};
struct Proposed {
  uint64_t index = 0;  // of the entry it became
  static constexpr auto fields() { return std::tuple{field("index", &Proposed::index)}; }
};

// Who may send a command.
enum class Who { anyone, operator_ };  // operator_: root or the peer's own user on this machine

struct CommandInfo {
  std::string_view name;
  Who who;
  std::string_view arguments;  // for docs/access.md
  std::string_view what;
};

inline constexpr CommandInfo kCommands[] = {
    {"status", Who::anyone, "", "health, peers and volumes: the shape in docs/commands.md"},
    {"where", Who::anyone, "path | user",
     "{volume, prefix, owners: [{id, name}], chunks: [{offset, length, chunk, holders}]}; of a user {user, "
     "home, owners}"},
    {"mount", Who::operator_, "directory, read_only", "mounts the tree: {}"},
    {"umount", Who::operator_, "directory", "{}"},
    {"mounts", Who::anyone, "", "{mounts: [{directory, read_only}]}"},
    {"volume.create", Who::operator_, "prefix, replicas, on: [peer], data, compression",
     "{id, prefix, owners}"},
    {"volume.ls", Who::anyone, "", "{volumes: as in status}"},
    {"volume.show", Who::anyone, "prefix", "one of them, with its settings"},
    {"volume.set", Who::operator_, "prefix, key, value", "{}"},
    {"volume.rm", Who::operator_, "prefix", "{}: it must be empty"},
    {"peer.ls", Who::anyone, "", "{peers: as in status}"},
    {"peer.show", Who::anyone, "peer", "one of them, with stores and volumes"},
    {"peer.rm", Who::operator_, "peer", "{}: its id may join again"},
    {"store.ls", Who::anyone, "", "{stores: [{directory, capacity_bytes, used_bytes, chunks, missing}]}"},
    {"store.add", Who::operator_, "directory, limit_bytes", "{}"},
    {"store.drain", Who::operator_, "directory", "{}"},
    {"store.rm", Who::operator_, "directory", "{}"},
    {"invite.context", Who::operator_, "",
     "{addresses, mesh, secret (base64)}: what an invite made with a key file needs"},
    {"invite", Who::operator_, "client, operator, uids, under, for_seconds, uses",
     "{seed}: signed by this peer, if it is an administrator"},
    {"leave", Who::operator_, "delete_data", "{}: refused while something is held here alone"},
};

}  // namespace efs::control
