// Paths of the tree, as text. Pure.
#pragma once

#include <string>
#include <string_view>

namespace efs::tools {

// Absolute and without ".", ".." and double slashes, as a shell's cd sees it: "a/../b" from "/x" is "/x/b",
// whatever a is. A leading "~" means nothing here.
std::string absolute_path(std::string_view directory, std::string_view path);
std::string join_path(std::string_view directory, std::string_view name);
std::string parent_path(std::string_view path);  // of an absolute path; "/" of "/"
std::string base_name(std::string_view path);    // "" of "/"
// `path` is `directory` or below it; whole components.
bool is_below(std::string_view path, std::string_view directory);

}  // namespace efs::tools
