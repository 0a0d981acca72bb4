// The peer of this machine, in the words of peer/control/protocol.h. Blocks; one thread. Connects at the
// first use, and again after the connection was lost, so that a shell outlives its peer's restart.
#pragma once

#include <nlohmann/json.hpp>

#include "peer/control/protocol.h"
#include "tools/connection.h"

namespace efs::tools {

// Names and strings as they come: what is not UTF-8 is replaced, never thrown.
std::string to_json_text(const nlohmann::json& value, int indent = -1);
Result<nlohmann::json> parse_json(std::string_view text);

class PeerClient {
 public:
  explicit PeerClient(Connector connector) : connector_(std::move(connector)) {}

  Result<control::Welcome> hello();
  // One of control::kCommands.
  Result<nlohmann::json> command(const std::string& name, const nlohmann::json& arguments = {});
  Result<control::Resolved> resolve(const std::string& path, bool follow);
  // A Reply with an error's code comes back as that error. `payload` is what a Write carries;
  // `received` gets what a Read answers.
  Result<Reply> volume(const VolumeId& volume, RequestBody body, const Bytes& payload = {},
                       Bytes* received = nullptr);
  // All of the register, from entry `from` on.
  Result<std::vector<Bytes>> register_entries(uint64_t from);
  Result<control::Proposed> propose(const control::Propose& proposal);

 private:
  template <typename Out, typename In>
  Result<Out> exchange(uint16_t kind, const In& in, const Bytes& payload = {}, Bytes* received = nullptr);
  Result<RawAnswer> call(uint16_t kind, const Bytes& body, const Bytes& payload);

  Connector connector_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace efs::tools
