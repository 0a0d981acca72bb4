// Listening and connecting on libuv. Inside efs_real only; the loop's thread only.
#pragma once

#include "peer/runtime/logger.h"
#include "peer/runtime/real_loop.h"
#include "peer/runtime/stream.h"

namespace efs {

class RealNetwork final : public Network {
 public:
  RealNetwork(RealLoop& loop, Logger& log) : loop_(loop), log_(log) {}
  // Names are resolved here and now: addresses to listen on are few, and read at start.
  Result<std::unique_ptr<Listener>> listen(const Address& address,
                                           std::function<void(std::unique_ptr<Stream>)> on_accept) override;
  Pending connect(const Address& address, int64_t timeout_ns,
                  std::function<void(Result<std::unique_ptr<Stream>>)> done) override;

 private:
  RealLoop& loop_;
  Logger& log_;
};

}  // namespace efs
