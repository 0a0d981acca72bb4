#include "peer/base/encoding.h"

#include <msgpack.hpp>
#include <utility>

namespace efs {

struct EncoderSink {
  Encoder& encoder;
  void write(const char* data, size_t length) { encoder.write(data, length); }
};

namespace {
msgpack::packer<EncoderSink> packer(EncoderSink& sink) {
  return msgpack::packer<EncoderSink>(sink);
}
const msgpack::object& as_object(const void* object) {
  return *static_cast<const msgpack::object*>(object);
}
bool reference_all(msgpack::type::object_type, std::size_t, void*) {
  return true;
}

void print(std::string& out, const msgpack::object& object) {
  using namespace msgpack::type;
  switch (object.type) {
    case NIL:
      out += "nil";
      break;
    case BOOLEAN:
      out += object.via.boolean ? "true" : "false";
      break;
    case POSITIVE_INTEGER:
      out += std::to_string(object.via.u64);
      break;
    case NEGATIVE_INTEGER:
      out += std::to_string(object.via.i64);
      break;
    case STR:
      out += '"';
      out.append(object.via.str.ptr, object.via.str.size);
      out += '"';
      break;
    case BIN:
      out += to_hex({reinterpret_cast<const uint8_t*>(object.via.bin.ptr), object.via.bin.size});
      break;
    case ARRAY:
      out += '[';
      for (uint32_t i = 0; i < object.via.array.size; ++i) {
        if (i > 0) out += ", ";
        print(out, object.via.array.ptr[i]);
      }
      out += ']';
      break;
    case MAP:
      out += '{';
      for (uint32_t i = 0; i < object.via.map.size; ++i) {
        if (i > 0) out += ", ";
        const auto& pair = object.via.map.ptr[i];
        if (pair.key.type == STR) {
          out.append(pair.key.via.str.ptr, pair.key.via.str.size);
        } else {
          print(out, pair.key);
        }
        out += ": ";
        print(out, pair.val);
      }
      out += '}';
      break;
    default:
      out += "?";
  }
}
}  // namespace

void Encoder::map(size_t count) {
  EncoderSink sink{*this};
  packer(sink).pack_map(uint32_t(count));
}
void Encoder::array(size_t count) {
  EncoderSink sink{*this};
  packer(sink).pack_array(uint32_t(count));
}
void Encoder::unsigned_integer(uint64_t value) {
  EncoderSink sink{*this};
  packer(sink).pack_uint64(value);
}
void Encoder::signed_integer(int64_t value) {
  EncoderSink sink{*this};
  packer(sink).pack_int64(value);
}
void Encoder::boolean(bool value) {
  EncoderSink sink{*this};
  value ? packer(sink).pack_true() : packer(sink).pack_false();
}
void Encoder::string(std::string_view value) {
  EncoderSink sink{*this};
  packer(sink).pack_str(uint32_t(value.size())).pack_str_body(value.data(), uint32_t(value.size()));
}
void Encoder::binary(ByteView value) {
  EncoderSink sink{*this};
  packer(sink)
      .pack_bin(uint32_t(value.size()))
      .pack_bin_body(reinterpret_cast<const char*>(value.data()), uint32_t(value.size()));
}
void Encoder::nil() {
  EncoderSink sink{*this};
  packer(sink).pack_nil();
}

bool Value::get(uint64_t& out) const {
  const auto& object = as_object(object_);
  if (object.type != msgpack::type::POSITIVE_INTEGER) return false;
  out = object.via.u64;
  return true;
}
bool Value::get(int64_t& out) const {
  const auto& object = as_object(object_);
  if (object.type == msgpack::type::POSITIVE_INTEGER && std::in_range<int64_t>(object.via.u64)) {
    out = int64_t(object.via.u64);
    return true;
  }
  if (object.type != msgpack::type::NEGATIVE_INTEGER) return false;
  out = object.via.i64;
  return true;
}
bool Value::get(bool& out) const {
  const auto& object = as_object(object_);
  if (object.type != msgpack::type::BOOLEAN) return false;
  out = object.via.boolean;
  return true;
}
bool Value::get(std::string_view& out) const {
  const auto& object = as_object(object_);
  if (object.type != msgpack::type::STR) return false;
  out = {object.via.str.ptr, object.via.str.size};
  return true;
}
bool Value::get(ByteView& out) const {
  const auto& object = as_object(object_);
  if (object.type != msgpack::type::BIN) return false;
  out = {reinterpret_cast<const uint8_t*>(object.via.bin.ptr), object.via.bin.size};
  return true;
}
bool Value::is_nil() const {
  return as_object(object_).type == msgpack::type::NIL;
}
bool Value::is_map() const {
  return as_object(object_).type == msgpack::type::MAP;
}

std::optional<size_t> Value::size() const {
  const auto& object = as_object(object_);
  if (object.type == msgpack::type::ARRAY) return object.via.array.size;
  if (object.type == msgpack::type::MAP) return object.via.map.size;
  return std::nullopt;
}

Value Value::element(size_t index) const {
  return Value(&as_object(object_).via.array.ptr[index]);
}

bool Value::has_key(size_t index, std::string_view key) const {
  const msgpack::object& name = as_object(object_).via.map.ptr[index].key;
  return name.type == msgpack::type::STR && key == std::string_view(name.via.str.ptr, name.via.str.size);
}
Value Value::value(size_t index) const {
  return Value(&as_object(object_).via.map.ptr[index].val);
}
std::optional<Value> Value::at(std::string_view key) const {
  const size_t count = is_map() ? *size() : 0;
  for (size_t index = 0; index < count; ++index) {
    if (has_key(index, key)) return value(index);
  }
  return std::nullopt;
}

struct Document::Impl {
  msgpack::object_handle handle;
};

Document::Document(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;
Document::~Document() = default;
Value Document::root() const {
  return Value(&impl_->handle.get());
}

Result<Document> Document::parse(ByteView bytes, const DecodeLimits& limits) {
  if (bytes.size() > limits.bytes) return fail(Code::too_large, "a message is over its size limit");
  try {
    auto impl = std::make_unique<Impl>();
    size_t offset = 0;
    // A container cannot have more elements than bytes follow it: bounds what parsing allocates.
    const size_t elements = std::min(limits.elements, bytes.size());
    bool referenced = false;
    impl->handle = msgpack::unpack(
        reinterpret_cast<const char*>(bytes.data()), bytes.size(), offset, referenced, reference_all, nullptr,
        msgpack::unpack_limit(elements, elements, bytes.size(), bytes.size(), bytes.size(), limits.depth));
    if (offset != bytes.size()) return fail(Code::protocol, "bytes follow the message");
    return Document(std::move(impl));
  } catch (const std::exception&) {
    return fail(Code::protocol, "not a msgpack message, or over its limits");
  }
}

std::string msgpack_to_text(ByteView encoded) {
  std::string out;
  try {
    auto handle = msgpack::unpack(reinterpret_cast<const char*>(encoded.data()), encoded.size());
    print(out, handle.get());
  } catch (const std::exception&) {
    out = "(not msgpack)";
  }
  return out;
}

}  // namespace efs
