#include "peer/commands.h"

#include <nlohmann/json.hpp>

#include "peer/founding.h"
#include "peer/identity/prefix.h"

namespace efs {

namespace {

using Json = nlohmann::ordered_json;

Result<std::string> text_of(const Json& arguments, const char* key) {
  auto found = arguments.find(key);
  if (found == arguments.end() || !found->is_string() || found->get_ref<const std::string&>().empty()) {
    return fail(Code::invalid_argument, fmt::format("'{}' is missing, or no text", key));
  }
  return found->get<std::string>();
}
std::string text_or(const Json& arguments, const char* key, std::string otherwise) {
  auto found = arguments.find(key);
  return found != arguments.end() && found->is_string() ? found->get<std::string>() : otherwise;
}
uint64_t number_or(const Json& arguments, const char* key, uint64_t otherwise) {
  auto found = arguments.find(key);
  return found != arguments.end() && found->is_number_unsigned() ? found->get<uint64_t>() : otherwise;
}
bool flag(const Json& arguments, const char* key) {
  auto found = arguments.find(key);
  return found != arguments.end() && found->is_boolean() && found->get<bool>();
}
Result<Compression> to_compression(const std::string& name) {
  if (auto found = compression_named(name)) return *found;
  return fail(Code::invalid_argument,
              fmt::format("'{}' is no compression: none, lz4 and zstd are known", name));
}

// What names a file need not be UTF-8: dump() alone would throw.
std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json stores_json(const std::vector<StoreStatus>& stores) {
  Json out = Json::array();
  for (const auto& store : stores) {
    out.push_back({{"directory", store.directory},
                   {"capacity_bytes", store.capacity_bytes},
                   {"used_bytes", store.used_bytes},
                   {"chunks", store.chunks},
                   {"missing", store.missing}});
  }
  return out;
}

constexpr uint64_t kLongestInvite = uint64_t(10) * 365 * 24 * 3600;
constexpr std::string_view kNotBuilt = "is not built yet";
constexpr uint32_t kExtentsAtOnce = 4096;
constexpr uint64_t kExtentsListed = 1024, kExtentsCounted = 65536;  // of a file, by `where`

}  // namespace

struct Commands::Where {
  VolumeId volume{};
  InodeNumber inode = 0;
  Credentials who;
  Json out;
  Done done;
  uint64_t offset = 0, extents = 0;
};

Commands::Commands(Core& core) : core_(core) {}

Commands::Handler Commands::handler_of(std::string_view name) {
  static const std::pair<std::string_view, Handler> kHandlers[] = {
      {"status", &Commands::status},         {"where", &Commands::where},
      {"mount", &Commands::mount},           {"umount", &Commands::umount},
      {"mounts", &Commands::mounts},         {"volume.create", &Commands::volume_create},
      {"volume.ls", &Commands::volume_ls},   {"volume.show", &Commands::volume_show},
      {"volume.set", &Commands::volume_set}, {"volume.rm", &Commands::volume_rm},
      {"peer.ls", &Commands::peer_ls},       {"peer.show", &Commands::peer_show},
      {"peer.rm", &Commands::peer_rm},       {"store.ls", &Commands::store_ls},
      {"store.add", &Commands::store_add},   {"store.drain", &Commands::store_drain},
      {"store.rm", &Commands::store_rm},     {"invite.context", &Commands::invite_context},
      {"invite", &Commands::invite},         {"leave", &Commands::leave},
  };
  for (const auto& [known, handler] : kHandlers) {
    if (known == name) return handler;
  }
  return nullptr;
}

void Commands::run(const Caller& caller, const std::string& name, const std::string& arguments, Done done) {
  const control::CommandInfo* info = nullptr;
  for (const auto& one : control::kCommands) {
    if (one.name == name) info = &one;
  }
  const Handler handler = handler_of(name);
  if (info == nullptr || handler == nullptr) {
    return done(fail(Code::unsupported,
                     fmt::format("this peer (efs {}) does not know '{}': upgrade it", EFS_VERSION, name)));
  }
  if (info->who == control::Who::operator_ && !caller.may_change) {
    return done(
        fail(Code::unauthorized,
             fmt::format("'{}' changes this peer: run it as root, or as the user that runs efs-peer", name)));
  }
  Json parsed = arguments.empty() ? Json::object() : Json::parse(arguments, nullptr, false);
  if (!parsed.is_object()) return done(fail(Code::invalid_argument, "the arguments are no JSON object"));
  (this->*handler)(caller, parsed, std::move(done));
}

// ---- looking ----

void Commands::with_status(std::function<void(Json, MeshView)> use) {
  gather_status(core_.runtime, core_.membership, core_.rpc, core_.self, core_.own_status(),
                [this, use](MeshView view) {
                  Json json = Json::parse(status_json(view, core_.membership.state(), core_.own_reasons()));
                  use(std::move(json), std::move(view));
                });
}

void Commands::status(const Caller&, const Json&, Done done) {
  with_status([done](Json status, const MeshView&) { done(json_text(status)); });
}

void Commands::where(const Caller& caller, const Json& arguments, Done done) {
  if (auto user = text_of(arguments, "user")) return where_user(*user, std::move(done));
  auto path = text_of(arguments, "path");
  if (!path) return done(fail(path.error()));
  const Credentials who{caller.uid, caller.gid, caller.groups, true};
  core_.volumes.resolve(*path, who, true, [this, done, who](Result<ResolvedPath> resolved) {
    if (!resolved) return done(fail(resolved.error()));
    const VolumeFacts* volume = core_.membership.state().volume(resolved->node.volume->id());
    if (volume == nullptr) return done(fail(Code::not_found, "the volume is not in the register"));
    Json out{{"path", resolved->path}, {"volume", to_hex(volume->id)}, {"prefix", volume->prefix}};
    out["owners"] = Json::array();
    for (const PeerId& owner : volume->owners) {
      const PeerFacts* peer = core_.membership.state().peer(owner);
      out["owners"].push_back({{"id", to_hex(owner)}, {"name", peer ? peer->name : ""}});
    }
    out["inode"] = resolved->node.global();
    out["chunks"] = Json::array();
    // What the DHT says of the prefix is shown beside what the register says: they should agree.
    core_.locator.find_prefix(
        volume->prefix, [this, done, who, resolved = *resolved, out](Result<OwnerRecord> record) mutable {
          if (record) {
            out["record"] = Json{{"epoch", record->epoch}, {"addresses", record->addresses}};
          } else {
            out["record"] = nullptr;
          }
          if ((resolved.node.attributes.mode & kTypeBits) != 0100000) return done(json_text(out));
          out["extents"] = 0;
          where_extents(std::make_shared<Where>(Where{resolved.node.volume->id(), resolved.node.inode(), who,
                                                      std::move(out), std::move(done)}));
        });
  });
}

// Lists the first extents of a file, and counts them.
void Commands::where_extents(const std::shared_ptr<Where>& where) {
  const Layout layout{where->inode, where->offset, kExtentsAtOnce};
  core_.volumes.call(where->volume, where->who, layout, {}, {}, [this, where](const VolumeAnswer& answer) {
    const Reply& reply = answer.reply;
    if (reply.code != Code::ok) return where->done(fail(reply.code, reply.message));
    for (const ExtentLayout& extent : reply.extents) {
      where->offset = extent.offset + extent.length;
      if (++where->extents > kExtentsListed) continue;
      Json holders = Json::array();
      for (const Id& holder : extent.holders) holders.push_back(to_hex(holder));
      where->out["chunks"].push_back({{"offset", extent.offset},
                                      {"length", extent.length},
                                      {"chunk", to_hex(extent.chunk)},
                                      {"holders", holders}});
    }
    where->out["extents"] = where->extents;
    if (reply.end || where->extents >= kExtentsCounted) return where->done(json_text(where->out));
    where_extents(where);
  });
}

void Commands::where_user(const std::string& name, Done done) {
  const UserFacts* user = core_.membership.state().user(name);
  if (user == nullptr)
    return done(
        fail(Code::not_found, fmt::format("there is no user {}: 'efs-keys user ls' shows all", name)));
  Json out{{"user", name}, {"uid", user->uid}, {"home", user->home}, {"owners", Json::array()}};
  const VolumeFacts* home = user->home.empty() ? nullptr : core_.membership.state().volume_for(user->home);
  if (home != nullptr) {
    for (const PeerId& owner : home->owners) {
      const PeerFacts* peer = core_.membership.state().peer(owner);
      out["owners"].push_back({{"id", to_hex(owner)}, {"name", peer ? peer->name : ""}});
    }
  }
  core_.locator.find_user(name, [done, out](Result<UserRecord> record) mutable {
    out["record"] = record ? Json{{"home", record->home}} : Json(nullptr);
    done(json_text(out));
  });
}

void Commands::volume_ls(const Caller&, const Json&, Done done) {
  with_status([done](const Json& status, const MeshView&) {
    done(json_text(Json{{"volumes", status.at("volumes")}}));
  });
}

void Commands::volume_show(const Caller&, const Json& arguments, Done done) {
  auto prefix = text_of(arguments, "prefix");
  if (!prefix) return done(fail(prefix.error()));
  auto canonical = to_prefix(*prefix);
  if (!canonical) return done(fail(canonical.error()));
  with_status([this, done, prefix = *canonical](const Json& status, const MeshView& view) {
    for (Json row : status.at("volumes")) {
      if (row.at("prefix") != prefix) continue;
      const VolumeFacts* volume = core_.membership.state().volume_at(prefix);
      if (volume == nullptr) break;
      row["number"] = volume->number;
      row["epoch"] = volume->epoch;
      row["settings"] = {{"replicas", 1}, {"data", "owners"}};
      if (auto known = view.volumes.find(volume->id); known != view.volumes.end())
        row["settings"]["compression"] = std::string(name_of(known->second.compression));
      return done(json_text(row));
    }
    done(fail(Code::not_found, fmt::format("there is no volume at {}: 'efs volume ls' shows all", prefix)));
  });
}

void Commands::peer_ls(const Caller&, const Json&, Done done) {
  with_status([done](const Json& status, const MeshView&) {
    done(json_text(Json{{"peers", status.at("peers")}}));
  });
}

void Commands::peer_show(const Caller&, const Json& arguments, Done done) {
  auto wanted = text_of(arguments, "peer");
  if (!wanted) return done(fail(wanted.error()));
  auto peer = core_.membership.state().find_peer(*wanted);
  if (!peer) return done(fail(peer.error()));
  with_status([this, done, id = (*peer)->id](const Json& status, const MeshView& view) {
    for (Json row : status.at("peers")) {
      if (row.at("id") != to_hex(id)) continue;
      row["stores"] = Json::array();
      row["volumes"] = Json::array();
      for (const PeerView& one : view.peers) {
        if (one.facts.id == id && one.status) row["stores"] = stores_json(one.status->stores);
      }
      for (const VolumeFacts* volume : core_.membership.state().volumes()) {
        if (std::find(volume->owners.begin(), volume->owners.end(), id) != volume->owners.end()) {
          row["volumes"].push_back(volume->prefix);
        }
      }
      return done(json_text(row));
    }
    done(fail(Code::not_found, "the peer is no member any more"));
  });
}

void Commands::store_ls(const Caller&, const Json&, Done done) {
  done(json_text(Json{{"stores", stores_json(core_.own_status().stores)}}));
}

// ---- changing this peer ----

void Commands::mount(const Caller&, const Json& arguments, Done done) {
  auto directory = text_of(arguments, "directory");
  if (!directory) return done(fail(directory.error()));
  core_.mounts.mount(*directory, flag(arguments, "read_only"),
                     [done](Status mounted) { mounted ? done("{}") : done(fail(mounted.error())); });
}

void Commands::umount(const Caller&, const Json& arguments, Done done) {
  auto directory = text_of(arguments, "directory");
  if (!directory) return done(fail(directory.error()));
  core_.mounts.unmount(*directory, [done](Status gone) { gone ? done("{}") : done(fail(gone.error())); });
}

void Commands::mounts(const Caller&, const Json&, Done done) {
  Json out{{"mounts", Json::array()}};
  for (const auto& [directory, read_only] : core_.mounts.list()) {
    out["mounts"].push_back({{"directory", directory}, {"read_only", read_only}});
  }
  done(json_text(out));
}

void Commands::store_add(const Caller&, const Json& arguments, Done done) {
  auto directory = text_of(arguments, "directory");
  if (!directory) return done(fail(directory.error()));
  const StoreLocation location{*directory, number_or(arguments, "limit_bytes", 0)};
  if (!location.directory.starts_with('/'))
    return done(fail(Code::invalid_argument, "give an absolute path"));
  for (const auto& store : core_.options.stores) {
    if (store.directory == location.directory)
      return done(fail(Code::exists, location.directory + " is a store already"));
  }
  if (Status added = core_.volumes.chunks().add_store(location); !added) return done(fail(added.error()));
  core_.options.stores.push_back(location);
  if (Status kept = keep_stores(); !kept) {
    // A store that the next start does not know must not take anything: out again, unless it just did.
    if (core_.volumes.chunks().remove_store(location.directory)) {
      core_.options.stores.pop_back();
      return done(fail(kept.error()));
    }
    return done(fail(kept.error().code,
                     fmt::format("{} is in use, but that could not be kept ({}): make room in {}, and run it "
                                 "again after the next start",
                                 location.directory, to_text(kept.error()), core_.data.path())));
  }
  done("{}");
}

// What this start was told on its command line alone stays out of the file.
Status Commands::keep_stores() {
  EFS_ASSIGN(const std::string yaml, core_.data.options());
  PeerOptions kept;
  EFS_TRY(read_options(yaml, core_.data.at("efs.yaml"), kept));
  kept.stores = core_.options.stores;
  return core_.data.write_options(write_options(kept));
}

void Commands::store_drain(const Caller&, const Json&, Done done) {
  done(fail(Code::unsupported, fmt::format("draining a store {}", kNotBuilt)));
}

void Commands::store_rm(const Caller&, const Json& arguments, Done done) {
  auto directory = text_of(arguments, "directory");
  if (!directory) return done(fail(directory.error()));
  auto& stores = core_.options.stores;
  auto found = std::find_if(stores.begin(), stores.end(),
                            [&](const auto& store) { return store.directory == *directory; });
  if (found == stores.end())
    return done(fail(Code::not_found, *directory + " is no store of this peer: 'efs store ls'"));
  if (stores.size() == 1) return done(fail(Code::busy, "it is the only store: add another first"));
  if (Status removed = core_.volumes.chunks().remove_store(*directory); !removed) {
    const bool busy = removed.error().code == Code::busy;
    return done(
        fail(removed.error().code,
             to_text(removed.error()) + (busy ? fmt::format(", and draining a store {}", kNotBuilt) : "")));
  }
  const StoreLocation location = *found;
  stores.erase(found);
  if (Status kept = keep_stores(); !kept) {
    stores.push_back(location);
    (void)core_.volumes.chunks().add_store(location);
    return done(fail(kept.error()));
  }
  done("{}");
}

// ---- changing the mesh ----

void Commands::volume_create(const Caller&, const Json& arguments, Done done) {
  auto prefix = text_of(arguments, "prefix");
  if (!prefix) return done(fail(prefix.error()));
  auto canonical = to_prefix(*prefix);
  if (!canonical) return done(fail(canonical.error()));
  if (number_or(arguments, "replicas", 1) != 1) {
    return done(fail(Code::unsupported, fmt::format("more than one replica {}", kNotBuilt)));
  }
  if (text_or(arguments, "data", "owners") != "owners") {
    return done(fail(Code::unsupported, fmt::format("spread data {}: use --data owners", kNotBuilt)));
  }
  NewVolume wanted{*canonical, core_.self, {}};
  auto compression = to_compression(text_or(arguments, "compression", "none"));
  if (!compression) return done(fail(compression.error()));
  wanted.policy.compression = *compression;
  if (auto on = arguments.find("on"); on != arguments.end() && on->is_array() && !on->empty()) {
    if (on->size() > 1)
      return done(fail(Code::unsupported, fmt::format("a volume with several owners {}", kNotBuilt)));
    if (!on->front().is_string()) return done(fail(Code::invalid_argument, "'on' is no list of peers"));
    auto peer = core_.membership.state().find_peer(on->front().get<std::string>());
    if (!peer) return done(fail(peer.error()));
    wanted.owner = (*peer)->id;
  }
  core_.admin.create(wanted, [done, wanted](Result<VolumeId> id) {
    if (!id) return done(fail(id.error()));
    done(json_text(Json{{"id", to_hex(*id)}, {"prefix", wanted.prefix}, {"owners", {to_hex(wanted.owner)}}}));
  });
}

void Commands::volume_set(const Caller&, const Json& arguments, Done done) {
  auto key = text_of(arguments, "key");
  if (!key) return done(fail(key.error()));
  if ((*key == "replicas" && text_or(arguments, "value", "") == "1") ||
      (*key == "data" && text_or(arguments, "value", "") == "owners")) {
    return done("{}");
  }
  if (*key == "replicas" || *key == "data") {
    return done(
        fail(Code::unsupported, fmt::format("{}={} {}", *key, text_or(arguments, "value", ""), kNotBuilt)));
  }
  if (*key == "compression") {
    auto prefix = text_of(arguments, "prefix");
    if (!prefix) return done(fail(prefix.error()));
    auto canonical = to_prefix(*prefix);
    if (!canonical) return done(fail(canonical.error()));
    auto compression = to_compression(text_or(arguments, "value", ""));
    if (!compression) return done(fail(compression.error()));
    return core_.admin.set_policy(*canonical, {*compression},
                                  [done](Status set) { set ? done("{}") : done(fail(set.error())); });
  }
  done(fail(Code::invalid_argument,
            fmt::format("a volume has no setting '{}': compression, replicas and data are known", *key)));
}

void Commands::volume_rm(const Caller&, const Json& arguments, Done done) {
  auto prefix = text_of(arguments, "prefix");
  if (!prefix) return done(fail(prefix.error()));
  auto canonical = to_prefix(*prefix);
  if (!canonical) return done(fail(canonical.error()));
  core_.admin.remove(*canonical,
                     [done](Status removed) { removed ? done("{}") : done(fail(removed.error())); });
}

void Commands::peer_rm(const Caller&, const Json& arguments, Done done) {
  auto wanted = text_of(arguments, "peer");
  if (!wanted) return done(fail(wanted.error()));
  auto peer = core_.membership.state().find_peer(*wanted);
  if (!peer) return done(fail(peer.error()));
  for (const VolumeFacts* volume : core_.membership.state().volumes()) {
    if (std::find(volume->owners.begin(), volume->owners.end(), (*peer)->id) != volume->owners.end()) {
      return done(fail(Code::busy, fmt::format("{} alone holds the volume {}: remove or move that first",
                                               (*peer)->name, volume->prefix)));
    }
  }
  core_.membership.propose_change(ForgetPeer{(*peer)->id}, [done](Result<uint64_t> index) {
    index ? done("{}") : done(fail(index.error()));
  });
}

void Commands::invite_context(const Caller&, const Json&, Done done) {
  auto secret = core_.data.mesh_secret();
  if (!secret) return done(fail(secret.error()));
  Json out{{"addresses", addresses_of(core_.options)},
           {"mesh", to_hex(core_.membership.state().mesh())},
           {"secret", to_base64(secret->reveal())}};
  done(json_text(out));
}

void Commands::invite(const Caller&, const Json& arguments, Done done) {
  if (!core_.membership.state().is_admin(core_.key.public_key(), "/")) {
    return done(
        fail(Code::unauthorized,
             "this peer is no administrator of the mesh: give an administrator's key with --key FILE"));
  }
  Certificate certificate;
  certificate.role = flag(arguments, "client") ? Role::client : Role::server;
  certificate.rights.operate = flag(arguments, "operator");
  if (certificate.role == Role::server) {
    auto uids = parse_uid_range(text_or(arguments, "uids", "all"));
    if (!uids) return done(fail(uids.error()));
    certificate.rights.uids = *uids;
    certificate.rights.under = {text_or(arguments, "under", "/")};
  }
  const uint64_t for_seconds = number_or(arguments, "for_seconds", 24 * 3600);
  if (for_seconds == 0 || for_seconds > kLongestInvite)
    return done(fail(Code::invalid_argument, "an invite lasts from a second to ten years"));
  certificate.expires_ns = core_.runtime.loop.clock().wall_ns() + int64_t(for_seconds) * kSecond;
  certificate.uses = uint32_t(std::min<uint64_t>(number_or(arguments, "uses", 1), kMaxInviteUses));
  auto secret = core_.data.mesh_secret();
  if (!secret) return done(fail(secret.error()));
  auto made = make_invite(addresses_of(core_.options), core_.membership.state().mesh(), *secret,
                          std::move(certificate), core_.key, core_.runtime.random);
  if (!made) return done(fail(made.error()));
  done(json_text(Json{{"seed", to_seed(*made)}}));
}

void Commands::leave(const Caller&, const Json&, Done done) {
  for (const VolumeFacts* volume : core_.membership.state().volumes()) {
    if (std::find(volume->owners.begin(), volume->owners.end(), core_.self) != volume->owners.end()) {
      return done(fail(
          Code::busy,
          fmt::format("the volume {} is held here alone: remove it, or keep this peer; moving a volume {}",
                      volume->prefix, kNotBuilt)));
    }
  }
  core_.leaving = true;
  core_.membership.propose_change(ForgetPeer{core_.self}, [this, done](Result<uint64_t> index) {
    if (!index) {
      core_.leaving = false;
      return done(fail(index.error()));
    }
    done("{}");
    core_.on_left();
  });
}

}  // namespace efs
