// The real runtime, on libuv. See loop.h, stream.h, file.h for what each part promises.
#pragma once

#include <memory>

#include "peer/runtime/runtime.h"

namespace efs {

struct RealOptions {
  LogLevel log_level = LogLevel::info;
  int pool_threads = 4;                  // UV_THREADPOOL_SIZE
  int64_t awake_ns = 50 * kMicrosecond;  // how long the loop looks for more before it sleeps (real_loop.h)
};

// One event loop and its friends. Constructed and destroyed on the thread that calls run(). What it owns for
// the process: SIGPIPE is ignored, and the first one made sets the size of libuv's pool (unless the
// environment did). Streams, listeners and pending connects are destroyed before it; its destructor waits for
// what the pool still does, a name being resolved included. An exception that leaves a task or callback ends
// the process.
class RealRuntime {
 public:
  explicit RealRuntime(const RealOptions& options);
  ~RealRuntime();
  RealRuntime(const RealRuntime&) = delete;
  RealRuntime& operator=(const RealRuntime&) = delete;

  Runtime& runtime();
  void run();   // until stop(); may be called again
  void stop();  // any thread; what was posted before it still runs
  // SIGTERM, SIGINT and SIGHUP reach `handler` on the loop's thread.
  void on_signal(std::function<void(int)> handler);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Parts that programs use without a loop. Thread-safe, live as long as the process.
const Clock& real_clock();
Random& real_random();
FileSystem& real_files();  // files are made with mode 0600
// From here on a read of a mapped file that fails (SIGBUS: its disk failed, it was cut short) ends the
// process with exit code 1 and a line on stderr that names the file. For the whole process; a second call
// changes nothing.
void report_mapped_file_faults();
// With time and level; for journald with its priority instead. Control characters become '?'.
std::unique_ptr<Logger> make_stderr_logger(LogLevel level);
std::optional<LogLevel> parse_log_level(std::string_view text);

}  // namespace efs
