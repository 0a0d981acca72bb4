#include "peer/runtime/real.h"

#include <array>
#include <cassert>
#include <csignal>
#include <cstdlib>

#include "peer/runtime/real_loop.h"
#include "peer/runtime/real_network.h"

namespace efs {

struct RealRuntime::Impl {
  explicit Impl(const RealOptions& options)
      : logger(make_stderr_logger(options.log_level)),
        loop(real_clock(), options.awake_ns),
        network(loop, *logger),
        bundle{loop, real_random(), network, real_files(), *logger} {}
  ~Impl() {
    for (uv_signal_t& signal : signals) {
      if (handler) uv_close(reinterpret_cast<uv_handle_t*>(&signal), nullptr);
    }
  }

  // Closed handles are let go by the loop's destructor: they stand before it here, so that they outlive it.
  std::array<uv_signal_t, 3> signals;
  std::function<void(int)> handler;
  std::unique_ptr<Logger> logger;
  RealLoop loop;
  RealNetwork network;
  Runtime bundle;
};

RealRuntime::RealRuntime(const RealOptions& options) {
  // Both are the process's: a connection that breaks is an error, not a signal; libuv makes its pool on first
  // use, and reads this then.
  std::signal(SIGPIPE, SIG_IGN);
  ::setenv("UV_THREADPOOL_SIZE", std::to_string(options.pool_threads).c_str(), 0);
  impl_ = std::make_unique<Impl>(options);
}

RealRuntime::~RealRuntime() = default;

Runtime& RealRuntime::runtime() {
  return impl_->bundle;
}
void RealRuntime::run() {
  impl_->loop.run();
}
void RealRuntime::stop() {
  impl_->loop.stop();
}

void RealRuntime::on_signal(std::function<void(int)> handler) {
  bool first = !impl_->handler;
  impl_->handler = std::move(handler);
  assert(impl_->handler);
  if (!first) return;
  constexpr std::array kSignals = {SIGTERM, SIGINT, SIGHUP};
  for (size_t i = 0; i < kSignals.size(); ++i) {
    uv_signal_t& signal = impl_->signals[i];
    uv_signal_init(impl_->loop.uv(), &signal);
    signal.data = impl_.get();
    uv_signal_start(
        &signal, [](uv_signal_t* from, int number) { static_cast<Impl*>(from->data)->handler(number); },
        kSignals[i]);
  }
}

}  // namespace efs
