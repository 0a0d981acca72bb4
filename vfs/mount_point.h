// Taking and giving back a directory of this machine for a mount. Any thread; may block.
#pragma once

#include <string>

#include "peer/base/error.h"

namespace efs {

struct MountPointOptions {
  bool read_only = false;
  bool allow_other = true;
  bool suid_and_devices = false;
};

// Checks the directory, replaces a stale mount of efs, makes a missing directory (as root, when its parent is
// there). Gives its absolute path.
Result<std::string> prepare_mount_point(const std::string& directory);

// Mounts as root: opens /dev/fuse, mount(2). Gives the descriptor that the session serves. Users who are not
// root mount by fusermount3, through libfuse.
Result<int> mount_as_root(const std::string& directory, const MountPointOptions& options);

// Detaches the mount at once; programs may still have files open there. False: it was not there.
bool detach_mount(const std::string& directory);

// Whether a mount of efs is what is on top at this path, by /proc/self/mountinfo.
bool is_efs_mount(const std::string& directory);
// "MAJOR:MINOR" of that mount; empty when there is none.
std::string device_of_mount(const std::string& directory);

}  // namespace efs
