// Where a peer's tables are kept: LMDB in the data directory, or memory under simulation.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "peer/store/meta_store.h"

namespace efs {

// `name` is a path below the data directory: "register", "dht", "chunk-index", "volumes/ID".
using OpenEnvironment = std::function<Result<std::shared_ptr<MetaEnvironment>>(const std::string& name,
                                                                               const MetaOptions& options)>;

OpenEnvironment lmdb_environments(const std::string& data_directory);

}  // namespace efs
