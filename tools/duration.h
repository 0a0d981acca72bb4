// Spans and points of time as people type them. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace efs::tools {

// "90s", "30m", "24h", "7d", "2w": seconds; nothing for what does not parse, is 0, or above 100 years.
std::optional<int64_t> parse_duration(std::string_view text);
// "2026-11-20", "2026-11-20 08:00", "2026-11-20T08:00:00" (UTC), or a duration before `now_ns`.
std::optional<int64_t> parse_time(std::string_view text, int64_t now_ns);

}  // namespace efs::tools
