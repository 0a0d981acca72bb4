// The tools' end of a control socket: one request, one answer, the caller waits.
//
// Real: efs::LocalClient over a Unix socket (tools/connect.cc). In tests: a fake. One thread at a time.
#pragma once

#include <functional>
#include <memory>

#include "peer/base/bytes.h"
#include "peer/base/error.h"

namespace efs::tools {

struct RawAnswer {
  Bytes body;
  Bytes payload;
};

class Connection {
 public:
  virtual ~Connection() = default;
  // An error that the peer answered comes back with its message; Code::closed or unreachable when the
  // peer is gone, timed_out after timeout_ns.
  virtual Result<RawAnswer> call(uint16_t kind, const Bytes& body, const Bytes& payload,
                                 int64_t timeout_ns) = 0;
};

using Connector = std::function<Result<std::unique_ptr<Connection>>()>;

}  // namespace efs::tools
