// chmod's modes: "755", "u+x,go-w", "a=rX". Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "peer/base/error.h"

namespace efs::tools {

// The new permission bits of a file of `mode`. Without u, g, o or a, bits in the umask are left alone, as
// chmod(1) has it. Code::invalid_argument for what is neither octal nor symbolic.
Result<uint32_t> apply_mode(std::string_view text, uint32_t mode, uint32_t umask);

}  // namespace efs::tools
