#include "peer/status.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

namespace efs {

namespace {

using Json = nlohmann::ordered_json;

struct Gathering {
  MeshView view;
  size_t outstanding = 0;
  std::set<std::pair<Id, PeerId>> owners;  // volume, owner: only that one's word counts
  std::function<void(MeshView)> done;
  void finish_one() {
    if (--outstanding > 0) return;
    for (const PeerView& peer : view.peers) {
      if (!peer.status) continue;
      for (const VolumeStatus& volume : peer.status->volumes) {
        if (owners.contains({volume.id, peer.facts.id})) view.volumes[volume.id] = volume;
      }
    }
    done(std::move(view));
  }
};

// A peer warns below a twentieth of its capacity: in time to make room, before writes fail.
constexpr uint64_t kNearlyFull = 20;

double as_ms(int64_t ns) {
  return std::round(double(ns) / 1e4) / 100;
}

Json peer_json(const PeerView& peer) {
  Json row;
  row["id"] = to_hex(peer.facts.id);
  row["name"] = peer.facts.name;
  row["address"] = peer.address;
  row["state"] = peer.status ? "up" : "down";
  row["used_bytes"] = peer.status ? peer.status->used_bytes : 0;
  row["capacity_bytes"] = peer.status ? peer.status->capacity_bytes : 0;
  row["version"] = peer.status ? peer.status->version : "";
  row["rtt_ms"] = peer.rtt_ns ? Json(as_ms(*peer.rtt_ns)) : Json(nullptr);
  row["clock_offset_ms"] = peer.wall_offset_ns ? Json(as_ms(*peer.wall_offset_ns)) : Json(nullptr);
  row["role"] = std::string(name_of(peer.facts.role));
  if (peer.self) row["self"] = true;
  if (!peer.status) row["why"] = peer.why;
  return row;
}

Json volume_json(const VolumeFacts& volume, const MeshView& view) {
  Json row;
  row["id"] = to_hex(volume.id);
  row["prefix"] = volume.prefix;
  row["owners"] = Json::array();
  for (const PeerId& owner : volume.owners) row["owners"].push_back(to_hex(owner));
  row["leader"] = volume.owners.empty() ? "" : to_hex(volume.owners.front());
  auto found = view.volumes.find(volume.id);
  row["state"] = found == view.volumes.end() ? "unreachable" : found->second.state;
  row["used_bytes"] = found == view.volumes.end() ? 0 : found->second.used_bytes;
  row["files"] = found == view.volumes.end() ? 0 : found->second.files;
  row["stored_bytes"] = found == view.volumes.end() ? 0 : found->second.stored_bytes;
  return row;
}

}  // namespace

void gather_status(Runtime& runtime, Membership& membership, Rpc& rpc, const PeerId& self, PeerStatus own,
                   std::function<void(MeshView)> done) {
  auto gathering = std::make_shared<Gathering>();
  gathering->done = std::move(done);
  for (const VolumeFacts* volume : membership.state().volumes()) {
    for (const PeerId& owner : volume->owners) gathering->owners.emplace(volume->id, owner);
  }
  std::map<PeerId, PeerStats> stats;
  for (auto& one : rpc.stats()) stats.emplace(one.id, one);
  for (const PeerFacts* facts : membership.state().peers()) {
    if (facts->standing != Standing::admitted) continue;
    PeerView view{*facts, facts->id == self, std::nullopt, {}, std::nullopt, std::nullopt, {}};
    if (auto found = stats.find(facts->id); found != stats.end() && found->second.address) {
      view.address = found->second.address->to_text();
    }
    const auto& known = membership.store().addresses();
    if (auto found = known.find(facts->id); found != known.end() && !found->second.empty()) {
      view.address = found->second.front();
    }
    if (view.self) {
      if (!own.addresses.empty()) view.address = own.addresses.front();
      view.status = std::move(own);
      view.rtt_ns = view.wall_offset_ns = 0;
    }
    gathering->view.peers.push_back(std::move(view));
  }
  gathering->outstanding = 1;
  for (size_t i = 0; i < gathering->view.peers.size(); ++i) {
    const PeerView& peer = gathering->view.peers[i];
    if (peer.self) continue;
    ++gathering->outstanding;
    const int64_t asked = runtime.loop.clock().now_ns();
    rpc.call(peer.facts.id, kPeerStatus, encode(PeerStatusQuery{}), {}, {kStatusTimeout, Priority::control},
             [gathering, i, asked, &runtime](Result<Answer> answer) {
               PeerView& row = gathering->view.peers[i];
               auto status = answer ? decode<PeerStatus>(answer->body) : fail(answer.error());
               if (status) {
                 row.rtt_ns = runtime.loop.clock().now_ns() - asked;
                 row.wall_offset_ns = status->wall_ns - (runtime.loop.clock().wall_ns() - *row.rtt_ns / 2);
                 row.status = std::move(*status);
               } else {
                 row.why = to_text(status.error());
               }
               gathering->finish_one();
             });
  }
  runtime.loop.post([gathering] { gathering->finish_one(); });
}

void serve_status(Rpc& rpc, OwnStatus own) {
  rpc.handle(kPeerStatus, Access::admitted,
             [own = std::move(own)](const Caller&, Bytes, SharedBytes, Responder respond) {
               respond.answer(encode(own()));
             });
}

std::string status_json(const MeshView& view, const RegisterState& state,
                        const std::vector<std::string>& own_reasons) {
  std::vector<std::string> warnings = own_reasons, errors;
  Json peers = Json::array(), volumes = Json::array();
  for (const PeerView& peer : view.peers) {
    peers.push_back(peer_json(peer));
    if (!peer.status) {
      warnings.push_back(fmt::format("peer {} is down ({})", peer.facts.name, peer.why));
      continue;
    }
    if (peer.wall_offset_ns && std::llabs(*peer.wall_offset_ns) > kClockWarning) {
      warnings.push_back(fmt::format("the clock of {} is {:.1f} s {} this one's: run a time service on both",
                                     peer.facts.name, double(std::llabs(*peer.wall_offset_ns)) / 1e9,
                                     *peer.wall_offset_ns > 0 ? "ahead of" : "behind"));
    }
    if (peer.status->version != EFS_VERSION) {
      warnings.push_back(
          fmt::format("{} runs efs {}, this peer {}", peer.facts.name, peer.status->version, EFS_VERSION));
    }
    if (peer.status->available_bytes < peer.status->capacity_bytes / kNearlyFull) {
      warnings.push_back(
          fmt::format("the disks of {} are nearly full: delete something, or add one there with "
                      "'efs store add'",
                      peer.facts.name));
    }
    for (const StoreStatus& store : peer.status->stores) {
      if (store.missing) {
        errors.push_back(fmt::format("the store {} of {} is not there: is its disk mounted?", store.directory,
                                     peer.facts.name));
      }
    }
  }
  for (const VolumeFacts* volume : state.volumes()) {
    volumes.push_back(volume_json(*volume, view));
    const std::string volume_state = volumes.back()["state"];
    if (volume_state != "ok") errors.push_back(fmt::format("volume {} is {}", volume->prefix, volume_state));
  }
  Json out;
  out["health"] = !errors.empty() ? "HEALTH_ERR" : !warnings.empty() ? "HEALTH_WARN" : "HEALTH_OK";
  out["reasons"] = Json::array();
  for (auto* list : {&errors, &warnings}) {
    for (const auto& reason : *list) out["reasons"].push_back(reason);
  }
  out["mesh"] = state.genesis().genesis.name;
  out["peers"] = std::move(peers);
  out["volumes"] = std::move(volumes);
  // What a peer says of itself may be any bytes: replaced where they are not UTF-8, never thrown.
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace efs
