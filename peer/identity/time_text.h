// Wall time as people read it. Pure: any thread.
#pragma once

#include <cstdint>
#include <string>

namespace efs {

// "2026-11-20 08:00 UTC", of nanoseconds since 1970.
std::string utc_text(int64_t wall_ns);

}  // namespace efs
