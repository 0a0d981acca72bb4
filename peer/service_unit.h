// The systemd unit (config/efs-peer.service): set up, enabled, started. Main thread; runs systemctl.
#pragma once

#include "peer/options.h"

namespace efs {

// Writes the unit where the package has not installed one, enables and starts it, and waits until the peer
// said that it serves and is mounted. Only for root and the default data directory's layout.
Status start_service(const PeerOptions& options);

}  // namespace efs
