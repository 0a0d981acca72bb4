// A few peers with an Rpc each, in the simulator, and a proxy that damages what passes through it.
#pragma once

#include <memory>
#include <vector>

#include "peer/runtime/simulated.h"
#include "test/unit/net/helpers.h"

namespace efs {

inline constexpr uint16_t kEcho = 96, kSlow = 97, kNever = 98, kFail = 99, kDropped = 100, kOpen = 101,
                          kBig = 102, kOneWay = 103;

struct TestPeer {
  std::string host;
  std::unique_ptr<SimulatedDisk> disk;
  Runtime* runtime = nullptr;
  std::unique_ptr<KeyPair> key;
  PeerId id{};
  std::unique_ptr<Rpc> rpc;
  std::vector<Responder> kept;   // of kNever
  std::map<uint64_t, int> runs;  // of kEcho, by the number in its body
  uint64_t one_ways = 0;
  int ups = 0, downs = 0;
  Address address() const { return {host, 7400, false}; }
};

class TestMesh {
 public:
  explicit TestMesh(uint64_t seed, size_t count = 2) : sim(seed), random_(seed) {
    for (size_t i = 0; i < count; ++i) add();
  }
  ~TestMesh() { peers.clear(); }

  TestPeer& add(uint8_t mesh = 1, uint8_t secret = 2) {
    auto& peer = *peers.emplace_back(std::make_unique<TestPeer>());
    peer.host = "10.0.0." + std::to_string(peers.size());
    peer.disk = make_simulated_disk(peers.size());
    peer.runtime = &sim.add_host(peer.host, *peer.disk);
    peer.key = std::make_unique<KeyPair>(KeyPair::generate(random_));
    peer.id = peer_id_of(peer.key->public_key());
    admission[peer.id] = Admission::admitted;
    start(peer, mesh, secret);
    return peer;
  }

  void start(TestPeer& peer, uint8_t mesh = 1, uint8_t secret = 2) {
    RpcOptions with = options;
    with.version = "test";
    with.on_peer_up = [&peer](const PeerInfo&) { ++peer.ups; };
    with.on_peer_down = [&peer](const PeerId&, const Error&) { ++peer.downs; };
    auto admit = [this](const PeerId& id, const PublicKey&) {
      auto found = admission.find(id);
      return found == admission.end() ? Admission::unknown : found->second;
    };
    peer.rpc = std::make_unique<Rpc>(*peer.runtime, *peer.key, id_of_byte(mesh),
                                     secret_of_byte(secret).reveal(), admit, with);
    if (auto listening = peer.rpc->listen(peer.address()); !listening) throw std::runtime_error("listen");
    serve(peer);
  }

  // The process of a peer dies and starts again.
  void restart(TestPeer& peer) {
    peer.kept.clear();
    peer.rpc.reset();
    sim.remove_host(peer.host);
    peer.runtime = &sim.add_host(peer.host, *peer.disk);
    start(peer);
    route_all();
  }

  void route_all() {
    for (auto& from : peers)
      for (auto& to : peers)
        if (from != to && from->rpc && to->rpc) from->rpc->set_route(to->id, {to->address()});
  }

  // Runs until the call is over.
  Result<Answer> call(TestPeer& from, TestPeer& to, uint16_t kind, Bytes body = {}, Bytes payload = {},
                      const CallOptions& call_options = {}) {
    std::optional<Result<Answer>> result;
    from.rpc->call(to.id, kind, std::move(body), std::move(payload), call_options,
                   [&](Result<Answer> answer) { result = std::move(answer); });
    if (!sim.run_until([&] { return result.has_value(); }, call_options.timeout_ns + kMinute))
      throw std::runtime_error("a call never ended");
    return std::move(*result);
  }

  TestPeer& operator[](size_t index) { return *peers[index]; }

  Simulator sim;
  RpcOptions options;
  std::map<PeerId, Admission> admission;
  std::vector<std::unique_ptr<TestPeer>> peers;

 private:
  void serve(TestPeer& peer) {
    Rpc& rpc = *peer.rpc;
    rpc.handle(kEcho, Access::admitted,
               [&peer](const Caller&, Bytes body, SharedBytes payload, Responder to) {
                 if (body.size() == 8) ++peer.runs[get_be<uint64_t>(body.data())];
                 to.answer(std::move(body), std::move(payload));
               });
    rpc.handle(kOpen, Access::anyone, [](const Caller& caller, Bytes, SharedBytes, Responder to) {
      to.answer({uint8_t(caller.admission)});
    });
    rpc.handle(kSlow, Access::admitted, [&peer](const Caller&, Bytes body, SharedBytes, Responder to) {
      peer.runtime->loop.after(kSecond, [to, body = std::move(body)] { to.answer(body); });
    });
    rpc.handle(kNever, Access::admitted, [&peer](const Caller&, Bytes, SharedBytes, Responder to) {
      peer.kept.push_back(std::move(to));
    });
    rpc.handle(kFail, Access::admitted, [](const Caller&, Bytes, SharedBytes, Responder to) {
      to.fail({Code::no_space, "the disk is full"});
    });
    rpc.handle(kDropped, Access::admitted, [](const Caller&, Bytes, SharedBytes, Responder) {});
    rpc.handle(kBig, Access::admitted, [&peer](const Caller&, Bytes body, SharedBytes, Responder to) {
      ++peer.runs[0];
      to.answer(std::move(body), Bytes(kMaxPayload, 5));
    });
    rpc.handle(kOneWay, Access::admitted,
               [&peer](const Caller&, Bytes, SharedBytes, Responder) { ++peer.one_ways; });
  }

  TestRandom random_;
};

}  // namespace efs
