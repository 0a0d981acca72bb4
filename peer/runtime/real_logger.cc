// To stderr, by spdlog: with time and level for a person at a terminal; under systemd with the priority that
// journald reads (sd-daemon(3)) instead, since it stamps the time itself.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "peer/runtime/real.h"

namespace efs {

namespace {

// JOURNAL_STREAM is "device:inode" of the journal's socket; a redirected stderr is another file
// (systemd.exec(5)).
bool stderr_is_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat about;
  unsigned long long device = 0, inode = 0;
  return stream && std::sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
         ::fstat(STDERR_FILENO, &about) == 0 && about.st_dev == device && about.st_ino == inode;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
      return spdlog::level::trace;
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::string_view journal_priority(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
    case LogLevel::debug:
      return "<7>";
    case LogLevel::info:
      return "<6>";
    case LogLevel::warning:
      return "<4>";
    case LogLevel::error:
      return "<3>";
  }
  return "<3>";
}

bool is_control(char c) {
  return uint8_t(c) < 0x20 || c == 0x7f;
}

class StderrLogger final : public Logger {
 public:
  explicit StderrLogger(LogLevel level)
      : level_(level),
        journal_(stderr_is_journal()),
        logger_("efs", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    logger_.set_level(spdlog::level::trace);
    logger_.set_pattern(journal_ ? "%v" : "%Y-%m-%d %H:%M:%S.%e %l: %v");
  }

  bool enabled(LogLevel level) const override { return level >= level_; }

  void write(LogLevel level, std::string_view message) override {
    if (!enabled(level)) return;
    bool foreign = std::any_of(message.begin(), message.end(), is_control);
    if (!foreign && !journal_) return logger_.log(spdlog_level(level), message);
    std::string line(journal_ ? journal_priority(level) : "");
    line += message;
    // Names from elsewhere stand in messages: none may end a line, or steer a terminal.
    std::replace_if(line.begin(), line.end(), is_control, '?');
    logger_.log(spdlog_level(level), line);
  }

 private:
  const LogLevel level_;
  const bool journal_;
  spdlog::logger logger_;
};

}  // namespace

std::unique_ptr<Logger> make_stderr_logger(LogLevel level) {
  return std::make_unique<StderrLogger>(level);
}

std::optional<LogLevel> parse_log_level(std::string_view text) {
  if (text == "trace") return LogLevel::trace;
  if (text == "debug") return LogLevel::debug;
  if (text == "info") return LogLevel::info;
  if (text == "warning" || text == "warn") return LogLevel::warning;
  if (text == "error") return LogLevel::error;
  return std::nullopt;
}

}  // namespace efs
