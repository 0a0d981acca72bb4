#include "peer/identity/prefix.h"

#include <fmt/format.h>

#include <algorithm>

#include "peer/identity/limits.h"

namespace efs {

namespace {
// Well-formed UTF-8 (RFC 3629, 4: no overlong forms, no surrogates).
bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const auto lead = uint8_t(text[at++]);
    if (lead < 0x80) continue;
    const int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4 || text.size() - at < size_t(more)) return false;
    const auto next = uint8_t(text[at]);
    if ((lead == 0xe0 && next < 0xa0) || (lead == 0xed && next > 0x9f) || (lead == 0xf0 && next < 0x90) ||
        (lead == 0xf4 && next > 0x8f))
      return false;
    for (int i = 0; i < more; ++i) {
      if ((uint8_t(text[at++]) & 0xc0) != 0x80) return false;
    }
  }
  return true;
}

bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return is_lower(c) || (c >= 'A' && c <= 'Z');
}
bool is_joiner(char c) {
  return c == '.' || c == '_' || c == '-';
}

Status check_component(std::string_view component, std::string_view prefix) {
  if (component.empty() || component == "." || component == "..")
    return fail(Code::invalid_argument,
                fmt::format("the prefix '{}' has an empty, '.' or '..' component", prefix));
  if (component.size() > kMaxComponentBytes)
    return fail(Code::name_too_long,
                fmt::format("a component of a prefix is longer than {} bytes", kMaxComponentBytes));
  return {};
}
}  // namespace

Status check_prefix(std::string_view prefix) {
  if (prefix.size() > kMaxPrefixBytes)
    return fail(Code::name_too_long, fmt::format("a prefix is longer than {} bytes", kMaxPrefixBytes));
  const bool control =
      std::any_of(prefix.begin(), prefix.end(), [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; });
  if (control || !is_utf8(prefix))
    return fail(Code::invalid_argument,
                "a prefix is text: UTF-8, without zero bytes, line ends and other control characters");
  if (!prefix.starts_with('/'))
    return fail(Code::invalid_argument, fmt::format("the prefix '{}' does not start with '/'", prefix));
  if (prefix == "/") return {};
  std::string_view rest = prefix.substr(1);
  while (true) {
    const size_t slash = rest.find('/');
    EFS_TRY(check_component(rest.substr(0, slash), prefix));
    if (slash == std::string_view::npos) return {};
    rest.remove_prefix(slash + 1);
  }
}

Result<std::string> to_prefix(std::string_view typed) {
  std::string prefix;
  for (char c : typed.substr(0, kMaxPrefixBytes * 2)) {
    if (c != '/' || !prefix.ends_with('/')) prefix.push_back(c);
  }
  if (prefix.size() > 1 && prefix.ends_with('/')) prefix.pop_back();
  EFS_TRY(check_prefix(prefix));
  return prefix;
}

bool prefix_covers(std::string_view prefix, std::string_view path) {
  if (prefix == "/") return path.starts_with('/');
  return !prefix.empty() && path.starts_with(prefix) &&
         (path.size() == prefix.size() || path[prefix.size()] == '/');
}

std::string_view parent_prefix(std::string_view prefix) {
  if (prefix.size() <= 1) return {};
  const size_t slash = prefix.rfind('/');
  if (slash == std::string_view::npos) return {};
  return prefix.substr(0, std::max<size_t>(slash, 1));
}

size_t component_count(std::string_view prefix) {
  return prefix.size() <= 1 ? 0 : size_t(std::count(prefix.begin(), prefix.end(), '/'));
}

std::vector<std::string> components_below(std::string_view prefix, std::string_view path) {
  std::vector<std::string> out;
  size_t at = prefix == "/" ? 1 : prefix.size() + 1;
  while (at < path.size()) {
    const size_t end = std::min(path.find('/', at), path.size());
    out.emplace_back(path.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

Status check_user_name(std::string_view name, std::string_view what) {
  bool good = !name.empty() && name.size() <= 32 && (is_lower(name[0]) || name[0] == '_');
  for (char c : name.substr(0, 33)) good = good && (is_lower(c) || is_digit(c) || is_joiner(c));
  if (good) return {};
  return fail(Code::invalid_argument,
              fmt::format("'{}' is no name for a {}: use at most 32 of a-z, 0-9, '.', '_' and '-', "
                          "beginning with a letter or '_'",
                          name.substr(0, 64), what));
}

Status check_peer_name(std::string_view name, std::string_view what) {
  bool good = !name.empty() && name.size() <= 63 && (is_letter(name[0]) || is_digit(name[0]));
  for (char c : name.substr(0, 64)) good = good && (is_letter(c) || is_digit(c) || is_joiner(c));
  if (good) return {};
  return fail(Code::invalid_argument,
              fmt::format("'{}' is no name for a {}: use at most 63 of A-Z, a-z, 0-9, '.', '_' and '-', "
                          "beginning with a letter or digit",
                          name.substr(0, 64), what));
}

std::string to_peer_name(std::string_view host) {
  std::string name;
  for (char c : host.substr(0, 56)) name.push_back(is_letter(c) || is_digit(c) || is_joiner(c) ? c : '-');
  if (name.empty() || is_joiner(name[0])) name.insert(0, "peer");
  return name;
}

}  // namespace efs
