#include "peer/environments.h"

namespace efs {

OpenEnvironment lmdb_environments(const std::string& data_directory) {
  return [data_directory](const std::string& name, const MetaOptions& options) {
    return open_lmdb(data_directory + "/" + name, options);
  };
}

}  // namespace efs
