// Directories that are there after power loss too. Any thread.
#pragma once

#include <string>

#include "peer/runtime/file.h"

namespace efs {

// Makes `path` and what of its parents is missing, and syncs each name: when it returns, files that are
// synced in `path` can be found. Right after any crash of an earlier call.
Status make_durable_directory(FileSystem& files, const std::string& path);

}  // namespace efs
