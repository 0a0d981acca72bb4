#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "peer/runtime/stream.h"

namespace efs {

namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr size_t kUnixPathLimit = 107;  // sun_path of unix(7), less its terminating zero
constexpr size_t kHostLimit = 253;      // RFC 1035: a name of 255 octets on the wire

auto bad(std::string_view text, std::string_view why) {
  return fail(Code::invalid_argument, fmt::format("\"{}\" is not an address: {}", text, why));
}

bool plausible_host(std::string_view host) {
  return host.size() <= kHostLimit && std::all_of(host.begin(), host.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  std::string_view(".-_:%").find(c) != std::string_view::npos;
         });
}

Result<Address> parse_unix(std::string_view text) {
  std::string_view path = text.substr(kUnixPrefix.size());
  if (path.empty() || path[0] != '/')
    return bad(text, "a path from the root follows unix: (unix:/run/efs/peer.sock)");
  if (path.size() > kUnixPathLimit)
    return bad(text, fmt::format("the path of a Unix socket has at most {} bytes", kUnixPathLimit));
  if (path.find('\0') != std::string_view::npos) return bad(text, "a path holds no zero byte");
  return Address{.host = std::string(path), .port = 0, .is_unix = true};
}

}  // namespace

Result<Address> Address::parse(std::string_view text, uint16_t default_port) {
  if (text.starts_with(kUnixPrefix)) return parse_unix(text);
  std::string_view host = text, port;
  bool has_port = false;
  if (text.starts_with('[')) {
    size_t end = text.find(']');
    if (end == std::string_view::npos) return bad(text, "the ] after the IPv6 address is missing");
    host = text.substr(1, end - 1);
    std::string_view rest = text.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') return bad(text, "only :port may follow ]");
    if (host.find(':') == std::string_view::npos) return bad(text, "brackets are for IPv6 addresses");
    has_port = !rest.empty();
    if (has_port) port = rest.substr(1);
  } else if (size_t colon = text.find(':'); colon != std::string_view::npos) {
    if (text.find(':', colon + 1) != std::string_view::npos)
      return bad(text, "write an IPv6 address in brackets: [2001:db8::1]:7400");
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    has_port = true;
  }
  if (host.empty()) return bad(text, "it names no host (for every address of this host: [::]:7400)");
  if (!plausible_host(host)) return bad(text, "the host is neither a name nor an IP address");
  uint16_t number = default_port;
  if (has_port) {
    auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size())
      return bad(text, "the port is a number from 0 to 65535");
  }
  return Address{.host = std::string(host), .port = number, .is_unix = false};
}

std::string Address::to_text() const {
  if (is_unix) return std::string(kUnixPrefix) + host;
  if (host.find(':') != std::string::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

}  // namespace efs
