#include "peer/store/directory.h"

namespace efs {
namespace {

std::string parent_of(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Status make_durable_directory(FileSystem& files, const std::string& path) {
  const std::string parent = parent_of(path);
  if (!files.exists(path)) {
    if (parent != path && parent != "." && parent != "/") EFS_TRY(make_durable_directory(files, parent));
    EFS_TRY(files.make_directories(path, 0700));
  }
  return files.sync_directory(parent);
}

}  // namespace efs
