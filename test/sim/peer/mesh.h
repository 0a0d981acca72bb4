// A whole mesh in one process: real Peers on simulated hosts.
//
// A host is a machine: its disk and its tables live on when the process that runs there is killed, or the
// power goes. Everything goes through the code of the real program (found_mesh, Joining, Peer); only clock,
// network, files and tables are simulated. One seed, one run: trace() is equal when the seed is.
//
// What fails to start throws std::runtime_error: a test that cannot build its mesh has nothing to say.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "peer/core.h"
#include "peer/founding.h"
#include "peer/peer.h"
#include "peer/runtime/simulated.h"
#include "peer/runtime/simulated_random.h"
#include "test/seeds.h"

namespace efs::test {

inline const Credentials kRootUser{0, 0, {}, true};

struct Host {
  size_t index = 0;
  std::string address;
  std::unique_ptr<SimulatedDisk> disk;
  std::map<std::string, std::shared_ptr<MetaEnvironment>> tables;
  std::shared_ptr<VolumeEnvironments> volumes;
  PeerOptions options;
  // The process: nothing of it when none runs.
  Runtime* runtime = nullptr;
  std::unique_ptr<DataDirectory> data;
  std::optional<Seed> seed;
  std::unique_ptr<Joining> joining;
  std::optional<Result<JoinedMesh>> joined;
  std::unique_ptr<Peer> peer;
  std::optional<Status> started;
  std::shared_ptr<VolumeView> view;  // one mount's clients
  uint32_t starts = 0;

  bool serves() const { return peer && started && started->has_value(); }
  Core& core() const { return peer->core(); }
  const RegisterState& state() const { return core().membership.state(); }
  PeerId id() const { return core().self; }
};

struct InviteTerms {
  uint32_t uses = 1;
  int64_t for_ns = kHour;
  bool operate = false;
};

class Mesh {
 public:
  explicit Mesh(uint64_t seed);
  ~Mesh();

  // ---- hosts and processes ----
  Host& add_host();
  Host& host(size_t index) { return *hosts_.at(index); }
  size_t size() const { return hosts_.size(); }
  std::vector<Host*> serving();
  // Founds the mesh on a new host, and serves.
  Host& found();
  // Begins to join; wait with run_until on host.joined, or use join().
  void begin_join(Host& host, const std::string& seed);
  // Joins and serves; on failure the process is gone, and why.
  Status join(Host& host, const std::string& seed);
  // Joins `count` new hosts, all at once, and serves.
  void grow(size_t count, bool operators = true);
  void serve(Host& host);  // begins; host.started tells
  void start(Host& host);  // serve() and wait
  void kill(Host& host, bool power_loss = false);
  void stop(Host& host);  // cleanly

  // ---- what people do ----
  std::string invite(Host& by, const InviteTerms& terms);
  Result<VolumeId> create_volume(Host& by, const std::string& prefix, const PeerId& owner);
  Status remove_volume(Host& by, const std::string& prefix);
  Status propose(Host& by, Change change);
  // One request by this host's view, as root.
  VolumeAnswer call(Host& by, const VolumeId& volume, RequestBody body, Payload payload = {});

  // ---- what is to be true ----
  bool registers_agree();
  // Every junction leads to a volume of the register, every volume of it has its junction; and the rows of
  // every volume agree with each other. Says what is wrong.
  std::vector<std::string> inconsistencies();
  // Every prefix, user and peer is found in the DHT by every peer that serves. Says what is not.
  std::vector<std::string> not_located();

  Simulator sim;
  SimulatedRandom random;  // of the test's own choices
  uint64_t trace() const { return sim.trace_hash(); }

 private:
  void boot(Host& host);
  void shut_down(Host& host, bool power_loss);
  OpenEnvironment tables_of(Host& host);
  std::vector<std::unique_ptr<Host>> hosts_;
};

bool long_form();
// Ends the test case with what went wrong.
void check_ok(const Status& status);
AddUser new_user(const std::string& name, uint32_t uid, const std::string& home);

}  // namespace efs::test
