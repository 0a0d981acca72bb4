// `efs-peer check`: everything on the disks of a peer that does not run, read and compared. Blocking.
#pragma once

#include <functional>

#include "peer/data_directory.h"
#include "peer/options.h"

namespace efs {

// Opens what the directory holds (replaying the log, as a start does), reads every record, row and chunk, and
// accounts for every byte. `say` gets a line for each thing looked at and each problem. The number of
// problems that are left; with `repair`, what can be mended is.
Result<size_t> check_data(DataDirectory& data, const PeerOptions& options, bool repair,
                          const std::function<void(const std::string&)>& say);

}  // namespace efs
