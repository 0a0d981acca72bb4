// The real Connection: the control socket of a peer of this machine.
#pragma once

#include "tools/command_line.h"
#include "tools/connection.h"

namespace efs::tools {

// Looks for the socket (peer/control/socket_path.h) when it is first called: `options` may be parsed later.
Connector socket_connector(const PeerOptions& options);

}  // namespace efs::tools
