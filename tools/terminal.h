// The terminal that a program runs on, as a Context wants it.
#pragma once

#include "tools/context.h"

namespace efs::tools {

// Looks at descriptors 0, 1 and 2. Questions and passphrases are asked on /dev/tty, so that what is piped
// in or out stays as it is; there are none without one.
Terminal this_terminal();
// The process's, which it keeps.
uint32_t current_umask();

}  // namespace efs::tools
