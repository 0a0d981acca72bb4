// Bytes and views of them, hex, big-endian integers for ordered keys. Values only: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace efs {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;
template <size_t N>
using ByteArray = std::array<uint8_t, N>;
// A 256-bit id or hash: peers, meshes, volumes, chunks, DHT keys.
using Id = ByteArray<32>;

inline ByteView view(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes to_bytes(ByteView bytes) {
  return {bytes.begin(), bytes.end()};
}
inline void append(Bytes& out, ByteView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Lower-case hex and back; from_hex is nothing on odd length or a foreign character.
std::string to_hex(ByteView bytes);
std::optional<Bytes> from_hex(std::string_view text);
std::optional<Id> id_from_hex(std::string_view text);
// The first 12 hex digits: how ids are shown to people.
std::string short_hex(const Id& id);
// RFC 4648 base64url without padding: how invites are written. from_base64 accepts only that form.
std::string to_base64(ByteView bytes);
std::optional<Bytes> from_base64(std::string_view text);

// Big-endian: keys sort as their numbers do.
template <typename Int>
void put_be(std::string& out, Int value) {
  for (int shift = int(sizeof(Int)) * 8 - 8; shift >= 0; shift -= 8)
    out.push_back(char(uint64_t(value) >> shift));
}
template <typename Int>
void put_be(Bytes& out, Int value) {
  for (int shift = int(sizeof(Int)) * 8 - 8; shift >= 0; shift -= 8)
    out.push_back(uint8_t(uint64_t(value) >> shift));
}
template <typename Int>
Int get_be(const void* from) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) value = value << 8 | bytes[i];
  return Int(value);
}
// Little-endian: fixed headers of files and frames.
template <typename Int>
void put_le(void* to, Int value) {
  auto* bytes = static_cast<uint8_t*>(to);
  for (size_t i = 0; i < sizeof(Int); ++i) bytes[i] = uint8_t(uint64_t(value) >> (8 * i));
}
template <typename Int>
Int get_le(const void* from) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) value |= uint64_t(bytes[i]) << (8 * i);
  return Int(value);
}

// "1.5 GiB", "312 B": for people.
std::string human_size(uint64_t bytes);
// "10G", "512MiB", "1048576": bytes, powers of 1024; nothing when it does not parse or overflows.
std::optional<uint64_t> parse_size(std::string_view text);

}  // namespace efs
