#include "tools/connect.h"

#include "peer/control/socket_path.h"
#include "peer/net/local.h"

namespace efs::tools {

namespace {

class SocketConnection : public Connection {
 public:
  explicit SocketConnection(LocalClient client) : client_(std::move(client)) {}
  Result<RawAnswer> call(uint16_t kind, const Bytes& body, const Bytes& payload,
                         int64_t timeout_ns) override {
    EFS_ASSIGN(auto answer, client_.call(kind, body, payload, timeout_ns));
    return RawAnswer{std::move(answer.body), std::move(answer.payload).release()};
  }

 private:
  LocalClient client_;
};

}  // namespace

Connector socket_connector(const PeerOptions& options) {
  return [&options]() -> Result<std::unique_ptr<Connection>> {
    EFS_ASSIGN(auto path, find_socket(options.socket, options.data, Surroundings::of_this_process()));
    EFS_ASSIGN(auto client, LocalClient::connect(path));
    return std::make_unique<SocketConnection>(std::move(client));
  };
}

}  // namespace efs::tools
