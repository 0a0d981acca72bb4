#include "tools/duration.h"

#include <charconv>
#include <ctime>
#include <string>

#include "peer/runtime/clock.h"

namespace efs::tools {

std::optional<int64_t> parse_duration(std::string_view text) {
  constexpr int64_t kMaxSeconds = int64_t(100) * 366 * 24 * 3600;
  int64_t count = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  std::string_view unit = text.substr(size_t(end - text.data()));
  if (error != std::errc() || unit.size() != 1 || count <= 0) return std::nullopt;
  int64_t seconds = 0;
  switch (unit.front()) {
    case 's':
      seconds = 1;
      break;
    case 'm':
      seconds = 60;
      break;
    case 'h':
      seconds = 3600;
      break;
    case 'd':
      seconds = 24 * 3600;
      break;
    case 'w':
      seconds = 7 * 24 * 3600;
      break;
    default:
      return std::nullopt;
  }
  if (count > kMaxSeconds / seconds) return std::nullopt;
  return count * seconds;
}

std::optional<int64_t> parse_time(std::string_view text, int64_t now_ns) {
  if (auto before = parse_duration(text)) return now_ns - *before * kSecond;
  for (const char* format : {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S",
                             "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M UTC"}) {
    tm parts{};
    std::string whole(text);
    const char* end = strptime(whole.c_str(), format, &parts);
    if (end && *end == '\0') return int64_t(timegm(&parts)) * kSecond;
  }
  return std::nullopt;
}

}  // namespace efs::tools
