#include "tools/peer_client.h"

#include "peer/runtime/clock.h"

namespace efs::tools {

namespace {

// Longer than vfs.unreachable_timeout, so that the peer's own, better error arrives first.
constexpr int64_t kCallTimeoutNs = 120 * kSecond;
constexpr uint32_t kRegisterPage = 500;

}  // namespace

std::string to_json_text(const nlohmann::json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<nlohmann::json> parse_json(std::string_view text) {
  auto parsed = nlohmann::json::parse(text.empty() ? "{}" : text, nullptr, false);
  if (parsed.is_discarded()) return fail(Code::protocol, "the peer's answer is not JSON");
  return parsed;
}

Result<RawAnswer> PeerClient::call(uint16_t kind, const Bytes& body, const Bytes& payload) {
  if (!connection_) {
    EFS_ASSIGN(connection_, connector_());
  }
  auto answer = connection_->call(kind, body, payload, kCallTimeoutNs);
  bool lost = !answer && (answer.error().code == Code::closed || answer.error().code == Code::timed_out ||
                          answer.error().code == Code::protocol);
  if (lost) connection_.reset();
  return answer;
}

template <typename Out, typename In>
Result<Out> PeerClient::exchange(uint16_t kind, const In& in, const Bytes& payload, Bytes* received) {
  EFS_ASSIGN(auto answer, call(kind, encode(in), payload));
  auto decoded = decode<Out>(answer.body);
  if (!decoded) return fail(decoded.error().code, "the peer's answer cannot be read; is it another version?");
  if (received) *received = std::move(answer.payload);
  return decoded;
}

Result<control::Welcome> PeerClient::hello() {
  return exchange<control::Welcome>(control::kHello, control::Hello{"efs " EFS_VERSION});
}

Result<nlohmann::json> PeerClient::command(const std::string& name, const nlohmann::json& arguments) {
  control::Command command{name, "{}"};
  if (!arguments.is_null()) {
    try {
      command.arguments = arguments.dump();
    } catch (const nlohmann::json::exception&) {  // replaced characters would name something else
      return fail(Code::invalid_argument, "the name is not UTF-8, and this command takes no other");
    }
  }
  EFS_ASSIGN(auto result, exchange<control::CommandResult>(control::kCommand, command));
  return parse_json(result.json);
}

Result<control::Resolved> PeerClient::resolve(const std::string& path, bool follow) {
  return exchange<control::Resolved>(control::kResolve, control::ResolvePath{path, follow});
}

Result<Reply> PeerClient::volume(const VolumeId& volume, RequestBody body, const Bytes& payload,
                                 Bytes* received) {
  Request request;
  request.volume = volume;
  request.body = std::move(body);
  EFS_ASSIGN(auto reply, exchange<Reply>(control::kVolume, request, payload, received));
  if (reply.code != Code::ok) return fail(reply.code, std::move(reply.message));
  return reply;
}

Result<std::vector<Bytes>> PeerClient::register_entries(uint64_t from) {
  std::vector<Bytes> result;
  for (;;) {
    EFS_ASSIGN(auto page, exchange<control::RegisterEntries>(control::kRegister,
                                                             control::ReadRegister{from, kRegisterPage}));
    if (page.entries.empty()) return result;
    from += page.entries.size();
    for (auto& entry : page.entries) result.push_back(std::move(entry));
    if (from >= page.next_index) return result;
  }
}

Result<control::Proposed> PeerClient::propose(const control::Propose& proposal) {
  return exchange<control::Proposed>(control::kPropose, proposal);
}

}  // namespace efs::tools
