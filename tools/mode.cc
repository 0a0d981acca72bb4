#include "tools/mode.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

namespace efs::tools {

namespace {

constexpr uint32_t kAll = 07777;

std::optional<uint32_t> parse_octal(std::string_view text) {
  if (text.empty() || text.size() > 5) return std::nullopt;
  uint32_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '7') return std::nullopt;
    value = value * 8 + uint32_t(c - '0');
  }
  return value <= kAll ? std::optional(value) : std::nullopt;
}

// u, g, o, a at the front; 0 when there is none.
uint32_t take_who(std::string_view& clause) {
  uint32_t who = 0;
  for (; !clause.empty(); clause.remove_prefix(1)) {
    switch (clause.front()) {
      case 'u':
        who |= S_ISUID | S_IRWXU;
        break;
      case 'g':
        who |= S_ISGID | S_IRWXG;
        break;
      case 'o':
        who |= S_ISVTX | S_IRWXO;
        break;
      case 'a':
        who |= kAll;
        break;
      default:
        return who;
    }
  }
  return who;
}

std::optional<uint32_t> bits_of(char c, uint32_t mode) {
  switch (c) {
    case 'r':
      return 0444;
    case 'w':
      return 0222;
    case 'x':
      return 0111;
    case 'X':
      return S_ISDIR(mode) || (mode & 0111) ? 0111 : 0;
    case 's':
      return S_ISUID | S_ISGID;
    case 't':
      return S_ISVTX;
    case 'u':
      return (mode >> 6 & 7) * 0111;
    case 'g':
      return (mode >> 3 & 7) * 0111;
    case 'o':
      return (mode & 7) * 0111;
    default:
      return std::nullopt;
  }
}

// One clause: who, then one or more of +-= with permissions. False: it cannot be read.
bool apply_clause(std::string_view clause, uint32_t& mode, uint32_t umask) {
  uint32_t who = take_who(clause);
  uint32_t reach = who ? who : kAll & ~umask;
  if (clause.empty()) return false;
  while (!clause.empty()) {
    char operation = clause.front();
    if (operation != '+' && operation != '-' && operation != '=') return false;
    clause.remove_prefix(1);
    uint32_t bits = 0;
    for (; !clause.empty() && !std::strchr("+-=", clause.front()); clause.remove_prefix(1)) {
      auto one = bits_of(clause.front(), mode);
      if (!one) return false;
      bits |= *one;
    }
    bits &= reach;
    if (operation == '+') mode |= bits;
    if (operation == '-') mode &= ~bits;
    if (operation == '=') mode = (mode & ~((who ? who : kAll) & 0777)) | bits;
  }
  return true;
}

}  // namespace

Result<uint32_t> apply_mode(std::string_view text, uint32_t mode, uint32_t umask) {
  if (auto octal = parse_octal(text)) return *octal;
  uint32_t result = mode;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    if (!apply_clause(text.substr(begin, end - begin), result, umask))
      return fail(Code::invalid_argument,
                  "'" + std::string(text) + "' is no mode; write it as 755 or as u+x,go-w");
    begin = end + 1;
  }
  return result & kAll;
}

}  // namespace efs::tools
