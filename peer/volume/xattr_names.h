// Extended attributes that mean something to efs (linux/xattr.h); state/acl.h says what ACLs are.
#pragma once

#include <string_view>

namespace efs {

inline constexpr std::string_view kAccessAcl = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAcl = "system.posix_acl_default";
inline bool is_acl(std::string_view xattr) {
  return xattr == kAccessAcl || xattr == kDefaultAcl;
}
// What a program may do whoever runs it (capabilities(7)): it goes as setuid does, with what is written.
inline constexpr std::string_view kCapability = "security.capability";

}  // namespace efs
