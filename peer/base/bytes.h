// Bytes and views of them, hex, big-endian integers for ordered keys. Values only: any thread.
#pragma once

#include <array>
#include <bit>
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

// A number whose bytes here are those of `value` in that order, and back.
template <std::endian order, typename Int>
Int ordered(Int value) {
  if constexpr (order == std::endian::native || sizeof(Int) == 1) return value;
  if constexpr (sizeof(Int) == 2) return Int(__builtin_bswap16(uint16_t(value)));
  if constexpr (sizeof(Int) == 4) return Int(__builtin_bswap32(uint32_t(value)));
  if constexpr (sizeof(Int) == 8) return Int(__builtin_bswap64(uint64_t(value)));
}
template <std::endian order, typename Int>
Int get_ordered(const void* from) {
  Int value;
  std::memcpy(&value, from, sizeof(value));
  return ordered<order>(value);
}
// Big-endian: keys sort as their numbers do.
template <typename Int>
void put_be(std::string& out, Int value) {
  value = ordered<std::endian::big>(value);
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
template <typename Int>
void put_be(Bytes& out, Int value) {
  value = ordered<std::endian::big>(value);
  out.resize(out.size() + sizeof(value));  // append() here: g++ 12 warns of an overflow that is none
  std::memcpy(out.data() + out.size() - sizeof(value), &value, sizeof(value));
}
template <typename Int>
Int get_be(const void* from) {
  return get_ordered<std::endian::big, Int>(from);
}
// Little-endian: fixed headers of files and frames.
template <typename Int>
void put_le(void* to, Int value) {
  value = ordered<std::endian::little>(value);
  std::memcpy(to, &value, sizeof(value));
}
template <typename Int>
Int get_le(const void* from) {
  return get_ordered<std::endian::little, Int>(from);
}

// "1.5 GiB", "312 B": for people.
std::string human_size(uint64_t bytes);
// "10G", "512MiB", "1048576": bytes, powers of 1024; nothing when it does not parse or overflows.
std::optional<uint64_t> parse_size(std::string_view text);

}  // namespace efs
