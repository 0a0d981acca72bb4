// What is where, and changes to it: status, where, mount, umount, volume, peer, store. Each sends one command
// (control::kCommands) and prints what came back.
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <ostream>

#include "tools/efs_commands.h"
#include "tools/json_text.h"
#include "tools/path.h"
#include "tools/table.h"

namespace efs::tools {

namespace {

constexpr const char* kLook = "Look";
constexpr const char* kPlaces = "Where things live";

using Names = std::map<std::string, std::string>;  // peer id -> name

Names names_of(const json& peers) {
  Names names;
  for (const auto& peer : peers) names[text_at(peer, "id")] = text_at(peer, "name");
  return names;
}

// For tables only: without an answer, ids are shown.
Names ask_names(Context& context) {
  auto answer = context.peer.command("peer.ls");
  return answer ? names_of(list_at(*answer, "peers")) : Names();
}

std::string name_or_id(const Names& names, const std::string& id) {
  auto found = names.find(id);
  return found == names.end() || found->second.empty() ? short_id(id) : found->second;
}

// With the leader first.
std::string owners_text(const json& volume, const Names& names) {
  std::string leader = text_at(volume, "leader"), text;
  if (!leader.empty()) text = name_or_id(names, leader);
  for (const auto& owner : list_at(volume, "owners")) {
    std::string id = owner.is_object()   ? text_at(owner, "id")
                     : owner.is_string() ? owner.get<std::string>()
                                         : "";
    if (id == leader) continue;
    std::string name = owner.is_object() ? text_at(owner, "name") : "";
    text += (text.empty() ? "" : ",") + (name.empty() ? name_or_id(names, id) : name);
  }
  return text;
}

void print_peers(std::ostream& out, const json& peers) {
  Table table({"PEER", "ID", "ADDRESS", "STATE", "USED", "CAPACITY", "VERSION", "RTT", "CLOCK"},
              {4, 5, 7, 8});
  for (const auto& peer : peers)
    table.row({text_at(peer, "name"), short_id(text_at(peer, "id")), text_at(peer, "address"),
               text_at(peer, "state"), size_at(peer, "used_bytes"), size_at(peer, "capacity_bytes"),
               text_at(peer, "version"), milliseconds_at(peer, "rtt_ms"),
               milliseconds_at(peer, "clock_offset_ms")});
  table.print(out);
}

void print_volumes(std::ostream& out, const json& volumes, const Names& names) {
  Table table({"VOLUME", "OWNERS", "STATE", "USED", "FILES"}, {3, 4});
  for (const auto& volume : volumes)
    table.row({text_at(volume, "prefix"), owners_text(volume, names), text_at(volume, "state"),
               size_at(volume, "used_bytes"), text_at(volume, "files")});
  table.print(out);
}

// Runs one command; --json prints its answer, else `print` does (empty: nothing to print).
Status run(Context& context, const std::string& name, const json& arguments, const std::string& what,
           const std::function<void(const json&)>& print = {}) {
  auto answer = context.peer.command(name, arguments);
  if (!answer) return fail_about(what, answer.error());
  if (context.json) {
    context.out << to_json_text(*answer, 2) << "\n";
  } else if (print) {
    print(*answer);
  }
  return {};
}

Status status(Context& context) {
  return run(context, "status", {}, "cannot tell the status", [&](const json& answer) {
    std::string reasons;
    for (const auto& reason : list_at(answer, "reasons"))
      reasons += (reasons.empty() ? ": " : "; ") + (reason.is_string() ? reason.get<std::string>() : "");
    context.out << printable(text_at(answer, "health") + reasons) << "\n";
    if (context.quiet) return;
    const json& peers = list_at(answer, "peers");
    context.out << "\n";
    print_peers(context.out, peers);
    context.out << "\n";
    print_volumes(context.out, list_at(answer, "volumes"), names_of(peers));
  });
}

void print_where(Context& context, const json& answer) {
  context.out << "volume  " << printable(text_at(answer, "prefix")) << "  "
              << short_id(text_at(answer, "volume")) << "\nowners  " << printable(owners_text(answer, {}))
              << "\n";
  const json& chunks = list_at(answer, "chunks");
  if (chunks.empty()) return;
  if (const std::string extents = printable(text_at(answer, "extents")); !extents.empty())
    context.out << "extents " << extents << "\n";
  Names names = ask_names(context);
  Table table({"OFFSET", "LENGTH", "CHUNK", "HOLDERS"}, {0, 1});
  for (const auto& chunk : chunks) {
    std::string holders;
    for (const auto& holder : list_at(chunk, "holders"))
      holders +=
          (holders.empty() ? "" : ",") +
          (holder.is_object() ? text_at(holder, "name")
                              : name_or_id(names, holder.is_string() ? holder.get<std::string>() : ""));
    table.row(
        {text_at(chunk, "offset"), text_at(chunk, "length"), short_id(text_at(chunk, "chunk")), holders});
  }
  context.out << "\n";
  table.print(context.out);
}

Status where(Context& context, const std::string& subject) {
  if (subject.starts_with("@")) {
    return run(context, "where", {{"user", subject.substr(1)}}, "cannot tell where " + subject + " lives",
               [&](const json& answer) { context.out << fields_text(answer); });
  }
  std::string path = absolute_path(context.directory, subject);
  return run(context, "where", {{"path", path}}, "cannot tell where " + path + " is",
             [&](const json& answer) { print_where(context, answer); });
}

// A directory of this machine. Not looked at: a mount point may hang, or be for the peer alone.
std::string local_path(const std::string& path) {
  std::string result = std::filesystem::absolute(path).lexically_normal().string();
  while (result.size() > 1 && result.back() == '/') result.pop_back();
  return result;
}

void add_mounts(CommandLine& line) {
  Context& context = line.context();
  auto directory = std::make_shared<std::string>();
  auto read_only = std::make_shared<bool>(false);
  auto* mount = line.add(line.app(), "mount", kPlaces, "mount the tree on a directory of this machine",
                         "efs mount /efs");
  mount->add_option("DIR", *directory, "an empty directory; without it, the mounts are listed");
  mount->add_flag("--read-only", *read_only, "nothing can be changed through this mount");
  line.takes_json(mount);
  line.on(mount, [&context, directory, read_only]() -> Status {
    if (directory->empty()) {
      return run(context, "mounts", {}, "cannot list the mounts", [&](const json& answer) {
        Table table({"DIRECTORY", "MODE"});
        for (const auto& one : list_at(answer, "mounts"))
          table.row({text_at(one, "directory"), text_at(one, "read_only") == "yes" ? "ro" : "rw"});
        table.print(context.out);
      });
    }
    std::string where_to = local_path(*directory);
    return run(context, "mount", {{"directory", where_to}, {"read_only", *read_only}},
               "cannot mount on " + where_to, [&](const json&) { context.say("mounted on " + where_to); });
  });

  auto* umount = line.add(line.app(), "umount", kPlaces, "unmount it again", "efs umount /efs");
  umount->add_option("DIR", *directory, "where the tree is mounted")->required();
  line.on(umount, [&context, directory]() -> Status {
    std::string where_from = local_path(*directory);
    return run(context, "umount", {{"directory", where_from}}, "cannot unmount " + where_from,
               [&](const json&) { context.say("unmounted " + where_from); });
  });
}

struct VolumeOptions {
  std::string prefix, setting, data = "owners", compression = "none";
  uint32_t replicas = 1;
  std::vector<std::string> on;
  std::vector<std::string> rest;
};

Status create_volume(Context& context, const VolumeOptions& options) {
  if (options.replicas != 1)
    return not_built(
        "more than one replica of a volume; create it with --replicas 1 (its only owner then has to "
        "be up for it to be used)");
  if (options.data == "spread")
    return not_built("spread data (chunks held by peers that do not own the volume); use --data owners");
  if (options.on.size() > 1)
    return not_built(
        "a volume with several owners, as it would need more than one replica; name one peer in --on");
  std::string prefix = absolute_path(context.directory, options.prefix);
  json arguments{
      {"prefix", prefix}, {"replicas", options.replicas}, {"on", options.on}, {"data", options.data}};
  if (options.compression != "none") arguments["compression"] = options.compression;
  return run(context, "volume.create", arguments, "cannot create the volume " + prefix,
             [&](const json& answer) {
               std::string on = owners_text(answer, ask_names(context));
               context.say("created " + prefix + (on.empty() ? "" : " on " + on));
             });
}

Status set_volume(Context& context, const VolumeOptions& options) {
  size_t equals = options.setting.find('=');
  if (equals == std::string::npos || equals == 0)
    return fail(Code::invalid_argument, "'" + options.setting + "' is no setting; write KEY=VALUE");
  std::string key = options.setting.substr(0, equals), value = options.setting.substr(equals + 1);
  if (key == "replicas" && value != "1") return not_built("more than one replica of a volume");
  if (key == "data" && value == "spread")
    return not_built("spread data; a volume's chunks stay with its owner");
  std::string prefix = absolute_path(context.directory, options.prefix);
  return run(context, "volume.set", {{"prefix", prefix}, {"key", key}, {"value", value}},
             "cannot set " + key + " of " + prefix,
             [&](const json&) { context.say(prefix + ": " + options.setting); });
}

Status remove_volume(Context& context, const VolumeOptions& options) {
  std::string prefix = absolute_path(context.directory, options.prefix);
  EFS_TRY(context.confirm("remove the volume " + prefix + " from the mesh (it has to be empty)"));
  return run(context, "volume.rm", {{"prefix", prefix}}, "cannot remove the volume " + prefix,
             [&](const json&) { context.say("removed " + prefix); });
}

// Named in the design, built by later versions: they say so instead of "unknown command".
void add_later(CommandLine& line, CLI::App* group, const std::string& name, const std::string& what,
               const std::string& example, const std::string& instead) {
  auto rest = std::make_shared<std::vector<std::string>>();
  auto* command =
      line.add(group ? *group : line.app(), name, group ? "" : kPlaces, what + " (not built yet)", example);
  command->add_option("ARGUMENT", *rest, "")->expected(0, -1);
  command->add_flag("--accept-loss")->group("");
  command->add_option("--from", *rest, "")->group("");
  std::string title = group ? group->get_name() + " " + name : name;
  line.on(command, [rest, title, what, instead]() -> Status {
    return not_built("efs " + title + " (" + what + "): " + instead);
  });
}

void add_volume_changes(CommandLine& line, CLI::App* group) {
  Context& context = line.context();
  auto options = std::make_shared<VolumeOptions>();
  auto* create =
      line.add(*group, "create", "", "make a volume: the subtree under PREFIX gets an owner of its own",
               "efs volume create /volume01 --on server2");
  create->add_option("PREFIX", options->prefix, "absent, or an empty directory")->required();
  create->add_option("--replicas", options->replicas, "how many owners (1 for now)")
      ->capture_default_str()
      ->check(CLI::Range(1, 7));
  create->add_option("--on", options->on, "its owners, by name or id (default: this peer)")
      ->allow_extra_args(false)
      ->delimiter(',');
  create->add_option("--data", options->data, "where its chunks are held: owners (spread: not built yet)")
      ->check(CLI::IsMember({"owners", "spread"}));
  create->add_option("--compression", options->compression, "of its chunks, where it helps")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "lz4", "zstd"}));
  line.takes_json(create);
  line.on(create, [&context, options] { return create_volume(context, *options); });

  auto* set =
      line.add(*group, "set", "", "change a setting of a volume", "efs volume set /volume01 compression=lz4");
  set->add_option("PREFIX", options->prefix)->required();
  set->add_option("KEY=VALUE", options->setting,
                  "compression=none|lz4|zstd: of what is written from now on; what is stored stays as it is")
      ->required();
  line.on(set, [&context, options] { return set_volume(context, *options); });

  auto* remove = line.add(*group, "rm", "", "remove an empty volume", "efs volume rm /volume01 --yes");
  remove->add_option("PREFIX", options->prefix)->required();
  line.takes_yes(remove);
  line.on(remove, [&context, options] { return remove_volume(context, *options); });
}

void add_volumes(CommandLine& line) {
  Context& context = line.context();
  auto* group =
      line.add_group("volume", kPlaces, "volumes: subtrees with owners of their own", "efs volume ls");
  auto prefix = std::make_shared<std::string>();
  auto* ls = line.add(*group, "ls", "", "list the volumes", "efs volume ls");
  line.takes_json(ls);
  line.on(ls, [&context] {
    return run(context, "volume.ls", {}, "cannot list the volumes", [&](const json& answer) {
      print_volumes(context.out, list_at(answer, "volumes"), ask_names(context));
    });
  });
  auto* show = line.add(*group, "show", "", "show one volume and its settings", "efs volume show /volume01");
  show->add_option("PREFIX", *prefix)->required();
  line.takes_json(show);
  line.on(show, [&context, prefix] {
    std::string path = absolute_path(context.directory, *prefix);
    return run(context, "volume.show", {{"prefix", path}}, "cannot show the volume " + path,
               [&](const json& answer) { context.out << fields_text(answer); });
  });
  add_volume_changes(line, group);
  const char* one_owner = "a volume has one owner for now, fixed when it is made";
  add_later(line, group, "add-owner", "give a volume one more owner",
            "efs volume add-owner /volume01 server2", one_owner);
  add_later(line, group, "remove-owner", "take an owner away", "efs volume remove-owner /volume01 server2",
            one_owner);
  add_later(line, group, "move", "move a volume between peers", "efs volume move /volume01 server1 server2",
            "copy it to a new volume on that peer with 'efs cp -r'");
  add_later(line, group, "transfer", "make another owner the leader", "efs volume transfer /volume01 server2",
            one_owner);
  add_later(
      line, group, "recover", "bring a volume back whose majority is gone",
      "efs volume recover /volume01 --from server2 --accept-loss",
      "start the owner again with 'efs-peer run', or mend its directory with 'efs-peer check --repair'");
}

void add_peers(CommandLine& line) {
  Context& context = line.context();
  auto peer = std::make_shared<std::string>();
  auto* group = line.add_group("peer", kPlaces, "the mesh's servers", "efs peer ls");
  auto* ls = line.add(*group, "ls", "", "list the peers", "efs peer ls --json");
  line.takes_json(ls);
  line.on(ls, [&context] {
    return run(context, "peer.ls", {}, "cannot list the peers",
               [&](const json& answer) { print_peers(context.out, list_at(answer, "peers")); });
  });
  auto* show =
      line.add(*group, "show", "", "show one peer with its stores and volumes", "efs peer show server2");
  show->add_option("PEER", *peer, "a name, or the beginning of an id")->required();
  line.takes_json(show);
  line.on(show, [&context, peer] {
    return run(context, "peer.show", {{"peer", *peer}}, "cannot show the peer " + *peer,
               [&](const json& answer) { context.out << fields_text(answer); });
  });
  add_later(line, group, "drain", "move everything off a peer", "efs peer drain server2",
            "'efs-peer leave' on that machine says what it alone holds");
  auto* remove =
      line.add(*group, "rm", "", "forget a dead peer; its id may join again", "efs peer rm server3 --yes");
  remove->add_option("PEER", *peer, "a name, or the beginning of an id")->required();
  line.takes_yes(remove);
  line.on(remove, [&context, peer]() -> Status {
    EFS_TRY(context.confirm("remove the peer " + *peer + " from the mesh"));
    return run(context, "peer.rm", {{"peer", *peer}}, "cannot remove the peer " + *peer,
               [&](const json&) { context.say("removed " + *peer); });
  });
}

Status add_store(Context& context, const std::string& text) {
  std::string directory = text;
  uint64_t limit = 0;
  if (size_t colon = text.rfind(':'); colon != std::string::npos && colon > 0) {
    auto size = parse_size(std::string_view(text).substr(colon + 1));
    if (!size)
      return fail(Code::invalid_argument,
                  "'" + text.substr(colon + 1) + "' is no size; write DIR:SIZE as /disk2:500G");
    limit = *size;
    directory = text.substr(0, colon);
  }
  std::string path = local_path(directory);
  return run(context, "store.add", {{"directory", path}, {"limit_bytes", limit}},
             "cannot add the store " + path, [&](const json&) { context.say("added " + path); });
}

void add_stores(CommandLine& line) {
  Context& context = line.context();
  auto directory = std::make_shared<std::string>();
  auto* group = line.add_group("store", kPlaces, "the places where this peer keeps chunks", "efs store ls");
  auto* ls = line.add(*group, "ls", "", "list this peer's stores", "efs store ls");
  line.takes_json(ls);
  line.on(ls, [&context] {
    return run(context, "store.ls", {}, "cannot list the stores", [&](const json& answer) {
      Table table({"DIRECTORY", "USED", "CAPACITY", "CHUNKS", "STATE"}, {1, 2, 3});
      for (const auto& one : list_at(answer, "stores"))
        table.row({text_at(one, "directory"), size_at(one, "used_bytes"), size_at(one, "capacity_bytes"),
                   text_at(one, "chunks"), text_at(one, "missing") == "yes" ? "missing" : "ok"});
      table.print(context.out);
    });
  });
  auto* add =
      line.add(*group, "add", "", "keep chunks in one more directory", "efs store add /disk2/efs:500G");
  add->add_option("DIR[:SIZE]", *directory, "SIZE: at most so much of it")->required();
  line.on(add, [&context, directory] { return add_store(context, *directory); });
  add_later(line, group, "drain", "move the chunks out of a store", "efs store drain /disk2/efs",
            "a store can be removed while it holds no chunk");
  auto* remove = line.add(*group, "rm", "", "stop using an empty store", "efs store rm /disk2/efs --yes");
  remove->add_option("DIR", *directory)->required();
  line.takes_yes(remove);
  line.on(remove, [&context, directory]() -> Status {
    std::string path = local_path(*directory);
    EFS_TRY(context.confirm("stop using the store " + path));
    return run(context, "store.rm", {{"directory", path}}, "cannot remove the store " + path,
               [&](const json&) { context.say("removed " + path); });
  });
}

}  // namespace

void add_mesh_commands(CommandLine& line) {
  Context& context = line.context();
  auto* command = line.add(line.app(), "status", kLook, "health, peers and volumes", "efs status --json");
  line.takes_json(command);
  line.on(command, [&context] { return status(context); });

  auto subject = std::make_shared<std::string>();
  auto* find =
      line.add(line.app(), "where", kLook, "the volume, owners and chunk holders of a path; a user's home",
               "efs where /volume01/photo.jpg; efs where @alice");
  find->add_option("PATH|@USER", *subject)->required();
  line.takes_json(find);
  line.on(find, [&context, subject] { return where(context, *subject); });

  add_mounts(line);
  add_volumes(line);
  add_peers(line);
  add_stores(line);
  add_later(line, nullptr, "scrub", "verify stored chunks in the background", "efs scrub /volume01",
            "'efs-peer check' verifies a data directory while its peer is stopped");
}

}  // namespace efs::tools
