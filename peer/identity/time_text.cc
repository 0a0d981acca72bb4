#include "peer/identity/time_text.h"

#include <fmt/format.h>

#include <ctime>

#include "peer/runtime/clock.h"

namespace efs {

std::string utc_text(int64_t wall_ns) {
  const time_t seconds = time_t(wall_ns / kSecond);
  struct tm parts {};
  if (gmtime_r(&seconds, &parts) == nullptr) return "at no time";
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02} UTC", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min);
}

}  // namespace efs
