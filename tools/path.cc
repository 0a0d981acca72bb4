#include "tools/path.h"

#include <vector>

namespace efs::tools {

std::string absolute_path(std::string_view directory, std::string_view path) {
  std::string whole;
  if (path.empty() || path.front() != '/') whole = std::string(directory) + "/";
  whole += path;
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin < whole.size();) {
    size_t end = std::min(whole.find('/', begin), whole.size());
    std::string_view part = std::string_view(whole).substr(begin, end - begin);
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    begin = end + 1;
  }
  std::string result;
  for (auto part : parts) {
    result += '/';
    result += part;
  }
  return result.empty() ? "/" : result;
}

std::string join_path(std::string_view directory, std::string_view name) {
  std::string result(directory);
  if (result.empty() || result.back() != '/') result += '/';
  return result.append(name);
}

std::string parent_path(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos || slash == 0 ? "/" : std::string(path.substr(0, slash));
}

std::string base_name(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

bool is_below(std::string_view path, std::string_view directory) {
  if (directory == "/") return true;
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace efs::tools
