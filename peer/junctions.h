// The junctions of a volume, as its rows have them: to find those whose volume was never entered in the
// register, or is not in it any more (whoever made or removed it died on the way). Any thread.
#pragma once

#include <string>
#include <vector>

#include "peer/store/kv.h"
#include "peer/volume/request.h"

namespace efs {

struct FoundJunction {
  std::vector<std::string> path;  // from the volume's root
  VolumeId volume{};
};

// How many stand below the root: cheap.
Result<uint64_t> count_junctions(const ReadRows& rows);
// All of them; looks only into directories that have some below.
Result<std::vector<FoundJunction>> find_junctions(const ReadRows& rows);

}  // namespace efs
