// Under which names POSIX ACLs are set and asked for (linux/xattr.h); state/acl.h says what they are.
#pragma once

#include <string_view>

namespace efs {

inline constexpr std::string_view kAccessAcl = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAcl = "system.posix_acl_default";
inline bool is_acl(std::string_view xattr) {
  return xattr == kAccessAcl || xattr == kDefaultAcl;
}

}  // namespace efs
