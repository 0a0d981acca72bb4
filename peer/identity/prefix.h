// Path prefixes and names, as the register writes them. Pure: any thread.
//
// A prefix is canonical: "/" or "/a/b", no empty, "." or ".." component, no zero byte, at most
// kMaxPrefixBytes. It covers whole components: "/zxt" covers "/zxt" and "/zxt/a", not "/zxtra".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "peer/base/error.h"

namespace efs {

// Fails with what is wrong, for people (Code::invalid_argument, Code::name_too_long).
Status check_prefix(std::string_view prefix);
// What a person typed, made canonical: "/a//b/" is "/a/b". Fails as check_prefix does.
Result<std::string> to_prefix(std::string_view typed);
// Both canonical.
bool prefix_covers(std::string_view prefix, std::string_view path);
// "/a/b" -> "/a" -> "/" -> "". Walks up from a path to the root.
std::string_view parent_prefix(std::string_view prefix);
size_t component_count(std::string_view prefix);  // 0 of "/"
// "/a", "/a/b/c" -> b, c. `prefix` covers `path`.
std::vector<std::string> components_below(std::string_view prefix, std::string_view path);

// Users and groups: [a-z_][a-z0-9._-]*, at most 32, as Linux has them.
Status check_user_name(std::string_view name, std::string_view what);
// Peers, meshes and administrators: [A-Za-z0-9][A-Za-z0-9._-]*, at most 63.
Status check_peer_name(std::string_view name, std::string_view what);
// A host's name as a peer's: foreign characters become '-'; never empty.
std::string to_peer_name(std::string_view host);

}  // namespace efs
