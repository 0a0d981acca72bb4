// Structures to msgpack and back (https://github.com/msgpack/msgpack/blob/master/spec.md).
//
// A structure names its fields once:
//
//     struct Grant {
//       std::string who;
//       uint32_t rights = 0;
//       static constexpr auto fields() {
//         return std::tuple{field("who", &Grant::who), field("rights", &Grant::rights)};
//       }
//     };
//
// and that list drives encode(), decode(), ==, to_text() and the fuzz targets. It is a map with string
// keys: a field that has its default value is left out, one that is missing gets its default, unknown ones
// are skipped, so that old and new programs read each other. Keys are never reused.
//
// A std::variant of such structures, each with a `static constexpr uint16_t kKind`, is the map
// {"k": kind, "b": body}; kinds are never reused, an unknown one fails with Code::version.
//
// What is decoded is never trusted: parse() bounds size, depth and count before it allocates, and every
// other mismatch is Code::protocol. So is a structure whose `bool valid() const` says no. Values only: any
// thread. No exception leaves this header's functions.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

#include "peer/base/bytes.h"
#include "peer/base/error.h"

namespace efs {

template <typename Struct, typename Member>
struct Field {
  std::string_view name;
  Member Struct::*member;
};
template <typename Struct, typename Member>
constexpr Field<Struct, Member> field(std::string_view name, Member Struct::*member) {
  return {name, member};
}
template <typename T>
concept HasFields = requires { T::fields(); };

// Appends msgpack values to a buffer, where all of them are when it ends. Integers take their shortest form.
class Encoder {
 public:
  explicit Encoder(Bytes& out) : out_(out) {}
  ~Encoder() { hand_over(); }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  void map(size_t count);
  void array(size_t count);
  void unsigned_integer(uint64_t value);
  void signed_integer(int64_t value);
  void boolean(bool value);
  void string(std::string_view value);
  void binary(ByteView value);
  void nil();

 private:
  // Mostly a byte or two, which a vector takes long to append: gathered first.
  void write(const char* data, size_t length) {
    if (length > gathered_.size() - used_) hand_over();
    if (length > gathered_.size()) return append(out_, {reinterpret_cast<const uint8_t*>(data), length});
    std::memcpy(gathered_.data() + used_, data, length);
    used_ += length;
  }
  void hand_over() {
    append(out_, {gathered_.data(), used_});
    used_ = 0;
  }
  friend struct EncoderSink;
  Bytes& out_;
  size_t used_ = 0;
  std::array<uint8_t, 256> gathered_;
};

// One value inside a Document; lives as long as it. Accessors are false on another type.
class Value {
 public:
  explicit Value(const void* object) : object_(object) {}
  bool get(uint64_t& out) const;
  bool get(int64_t& out) const;
  bool get(bool& out) const;
  bool get(std::string_view& out) const;
  bool get(ByteView& out) const;
  bool is_nil() const;
  bool is_map() const;
  // The number of elements of an array or map; nothing for others.
  std::optional<size_t> size() const;
  Value element(size_t index) const;  // of an array, index < size()
  // Of a map, index < size().
  bool has_key(size_t index, std::string_view key) const;
  Value value(size_t index) const;
  std::optional<Value> at(std::string_view key) const;  // the first with this key

 private:
  const void* object_;
};

// A vector grows with what it decodes: a count that was only promised allocates this many.
inline constexpr size_t kReservedElements = 256;

struct DecodeLimits {
  size_t bytes = 4 << 20;     // of the whole document
  size_t elements = 1 << 20;  // of one array or map
  size_t depth = 16;
};

// Parsed msgpack. Strings and binaries point into the bytes it was parsed from: those must outlive it.
class Document {
 public:
  static Result<Document> parse(ByteView bytes, const DecodeLimits& limits = {});
  Document(Document&&) noexcept;
  Document& operator=(Document&&) noexcept;
  ~Document();
  Value root() const;

 private:
  struct Impl;
  explicit Document(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// ---- the kinds of fields ----

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};
template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <typename T>
struct IsByteArray : std::false_type {};
template <size_t N>
struct IsByteArray<std::array<uint8_t, N>> : std::true_type {};
template <typename T>
struct IsVariant : std::false_type {};
template <typename... T>
struct IsVariant<std::variant<T...>> : std::true_type {};

template <typename T>
void encode_value(Encoder& out, const T& value);
// Code::ok, Code::protocol (a wrong type or range) or Code::version (an unknown kind of a variant).
template <typename T>
Code decode_value(const Value& in, T& value);

template <typename T>
bool equal_values(const T& a, const T& b) {
  if constexpr (HasFields<T>) {
    return std::apply([&](const auto&... f) { return (... && equal_values(a.*f.member, b.*f.member)); },
                      T::fields());
  } else if constexpr (IsVector<T>::value) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const auto& x, const auto& y) { return equal_values(x, y); });
  } else if constexpr (IsOptional<T>::value) {
    return a.has_value() == b.has_value() && (!a || equal_values(*a, *b));
  } else if constexpr (IsVariant<T>::value) {
    return a.index() == b.index() &&
           std::visit([&](const auto& x) { return equal_values(x, std::get<std::decay_t<decltype(x)>>(b)); },
                      a);
  } else {
    return a == b;
  }
}
template <HasFields T>
bool operator==(const T& a, const T& b) {
  return equal_values(a, b);
}

template <HasFields T>
void encode_fields(Encoder& out, const T& value) {
  [[maybe_unused]] static const T defaults{};
  std::apply(
      [&](const auto&... f) {
        out.map((size_t(0) + ... + size_t(!equal_values(value.*f.member, defaults.*f.member))));
        [[maybe_unused]] auto one = [&](const auto& item) {
          if (equal_values(value.*item.member, defaults.*item.member)) return;
          out.string(item.name);
          encode_value(out, value.*item.member);
        };
        (one(f), ...);
      },
      T::fields());
}

template <typename T>
Code refuse_invalid(const T& value) {
  if constexpr (requires { value.valid(); }) return value.valid() ? Code::ok : Code::protocol;
  return Code::ok;
}

// Whoever has the same list encodes it in this order: then one look at each field finds all there is. What is
// left over is of another version, and each field is searched for.
template <HasFields T>
Code decode_fields(const Value& in, T& value) {
  if (!in.is_map()) return Code::protocol;
  const size_t count = *in.size();
  size_t next = 0;
  Code code = Code::ok;
  [[maybe_unused]] auto in_order = [&](const auto& item) {
    if (next == count) return false;
    if (in.has_key(next, item.name)) code = decode_value(in.value(next++), value.*item.member);
    return code == Code::ok;
  };
  std::apply([&](const auto&... f) { (void)(... && in_order(f)); }, T::fields());
  if (code != Code::ok) return code;
  if (next == count) return refuse_invalid(value);
  [[maybe_unused]] auto anywhere = [&](const auto& item) {
    if (auto found = in.at(item.name)) code = decode_value(*found, value.*item.member);
    return code == Code::ok;
  };
  std::apply([&](const auto&... f) { (void)(... && anywhere(f)); }, T::fields());
  return code == Code::ok ? refuse_invalid(value) : code;
}

template <typename... T>
void encode_variant(Encoder& out, const std::variant<T...>& value) {
  std::visit(
      [&](const auto& body) {
        out.map(2);
        out.string("k");
        out.unsigned_integer(std::decay_t<decltype(body)>::kKind);
        out.string("b");
        encode_fields(out, body);
      },
      value);
}

template <typename... T>
Code decode_variant(const Value& in, std::variant<T...>& value) {
  auto kind = in.at("k");
  auto body = in.at("b");
  uint64_t number = 0;
  if (!kind || !body || !kind->get(number)) return Code::protocol;
  Code code = Code::version;
  auto one = [&](auto alternative) {
    if (decltype(alternative)::kKind != number) return false;
    code = decode_fields(*body, alternative);
    value = std::move(alternative);
    return true;
  };
  (void)(one(T{}) || ...);
  return code;
}

template <typename T>
void encode_value(Encoder& out, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    out.boolean(value);
  } else if constexpr (std::is_enum_v<T>) {
    out.unsigned_integer(uint64_t(value));
  } else if constexpr (std::is_integral_v<T> && std::is_unsigned_v<T>) {
    out.unsigned_integer(value);
  } else if constexpr (std::is_integral_v<T>) {
    out.signed_integer(value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    out.string(value);
  } else if constexpr (std::is_same_v<T, Bytes> || IsByteArray<T>::value) {
    out.binary(value);
  } else if constexpr (IsVector<T>::value) {
    out.array(value.size());
    for (const auto& element : value) encode_value(out, element);
  } else if constexpr (IsOptional<T>::value) {
    if (value) {
      encode_value(out, *value);
    } else {
      out.nil();
    }
  } else if constexpr (IsVariant<T>::value) {
    encode_variant(out, value);
  } else {
    encode_fields(out, value);
  }
}

template <typename T>
Code decode_value(const Value& in, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return in.get(value) ? Code::ok : Code::protocol;
  } else if constexpr (std::is_enum_v<T>) {
    uint64_t number = 0;
    if (!in.get(number) || number > std::underlying_type_t<T>(-1)) return Code::protocol;
    value = T(number);
    return Code::ok;
  } else if constexpr (std::is_integral_v<T>) {
    std::conditional_t<std::is_unsigned_v<T>, uint64_t, int64_t> number = 0;
    if (!in.get(number) || !std::in_range<T>(number)) return Code::protocol;
    value = T(number);
    return Code::ok;
  } else if constexpr (std::is_same_v<T, std::string>) {
    std::string_view found;
    if (!in.get(found)) return Code::protocol;
    value = found;
    return Code::ok;
  } else if constexpr (std::is_same_v<T, Bytes>) {
    ByteView found;
    if (!in.get(found)) return Code::protocol;
    value.assign(found.begin(), found.end());
    return Code::ok;
  } else if constexpr (IsByteArray<T>::value) {
    ByteView found;
    if (!in.get(found) || found.size() != value.size()) return Code::protocol;
    std::copy(found.begin(), found.end(), value.begin());
    return Code::ok;
  } else if constexpr (IsVector<T>::value) {
    auto count = in.is_map() ? std::nullopt : in.size();
    if (!count) return Code::protocol;
    value.clear();
    value.reserve(std::min(*count, kReservedElements));
    for (size_t i = 0; i < *count; ++i) {
      if (Code code = decode_value(in.element(i), value.emplace_back()); code != Code::ok) return code;
    }
    return Code::ok;
  } else if constexpr (IsOptional<T>::value) {
    if (in.is_nil()) {
      value.reset();
      return Code::ok;
    }
    return decode_value(in, value.emplace());
  } else if constexpr (IsVariant<T>::value) {
    return decode_variant(in, value);
  } else {
    return decode_fields(in, value);
  }
}

// ---- whole structures ----

template <typename T>
void encode_to(Bytes& out, const T& value) {
  Encoder encoder(out);
  encode_value(encoder, value);
}
template <typename T>
Bytes encode(const T& value) {
  Bytes out;
  encode_to(out, value);
  return out;
}
template <typename T>
Result<T> decode(ByteView bytes, const DecodeLimits& limits = {}) {
  EFS_ASSIGN(auto document, Document::parse(bytes, limits));
  T value{};
  switch (decode_value(document.root(), value)) {
    case Code::ok:
      return value;
    case Code::version:
      return fail(Code::version, "of a kind that this program does not know");
    default:
      return fail(Code::protocol, "a field has a wrong type or range");
  }
}

// {name: "x", mode: 420}: for logs and tests; ids and binaries in hex. `encoded` is msgpack.
std::string msgpack_to_text(ByteView encoded);
template <HasFields T>
std::string to_text(const T& value) {
  return msgpack_to_text(encode(value));
}

}  // namespace efs
