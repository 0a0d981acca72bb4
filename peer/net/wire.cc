#include "peer/net/wire.h"

namespace efs {

void MessageHeader::encode(uint8_t* out) const {
  put_le<uint32_t>(out, uint32_t(total()));
  out[4] = kMessageVersion;
  out[5] = uint8_t(uint8_t(type) | uint8_t(priority) << 4);
  put_le<uint16_t>(out + 6, kind);
  put_le<uint64_t>(out + 8, id);
  put_le<uint32_t>(out + 16, body_length);
  put_le<uint32_t>(out + 20, payload_length);
}

Result<MessageHeader> MessageHeader::decode(const uint8_t* in) {
  if (in[4] != kMessageVersion) return fail(Code::version, "a message of another format version");
  if ((in[5] & 0xcc) != 0 || in[5] >> 4 > uint8_t(Priority::bulk))
    return fail(Code::protocol, "a message with unknown flags");
  MessageHeader header;
  header.type = MessageType(in[5] & 3);
  header.priority = Priority(in[5] >> 4);
  header.kind = get_le<uint16_t>(in + 6);
  header.id = get_le<uint64_t>(in + 8);
  header.body_length = get_le<uint32_t>(in + 16);
  header.payload_length = get_le<uint32_t>(in + 20);
  if (header.body_length > kMaxBody || header.payload_length > kMaxPayload)
    return fail(Code::too_large, "a message over the limit");
  if (get_le<uint32_t>(in) != header.total()) return fail(Code::protocol, "lengths that do not add up");
  if (header.kind > kMaxKind) return fail(Code::protocol, "a kind out of range");
  return header;
}

Bytes encode_error(const Error& error) {
  return efs::encode(WireError{uint16_t(error.code), error.message.substr(0, 4096)});
}

Error decode_error(ByteView body) {
  auto decoded = decode<WireError>(body);
  if (!decoded || decoded->code == 0) return {Code::protocol, "an error that does not decode"};
  return {Code(decoded->code), std::move(decoded->message)};
}

}  // namespace efs
