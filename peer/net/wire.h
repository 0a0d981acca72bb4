// What travels between peers: sizes, limits and the message header (docs/wire-format.md has the whole).
// Every number here is part of the protocol: both sides must hold the same. Values only: any thread.
#pragma once

#include <string>

#include "peer/base/bytes.h"
#include "peer/base/encoding.h"
#include "peer/base/error.h"
#include "peer/base/shared_bytes.h"

namespace efs {

// ---- records: a 16-bit little-endian length, then that many bytes of ciphertext with its tag ----
inline constexpr size_t kRecordPrefix = 2;
inline constexpr size_t kTagBytes = 16;
inline constexpr size_t kMaxRecord = 65535;  // Noise, section 3; at 1 Gbit/s, 0.5 ms
inline constexpr size_t kMaxRecordPlain = kMaxRecord - kTagBytes;
inline constexpr size_t kMaxHandshakeMessage = 8192;
// A sender changes its key (Noise, 4.2: REKEY) after so many bytes or so much time, whichever is first.
inline constexpr uint64_t kRekeyBytes = uint64_t(1) << 30;
inline constexpr int64_t kRekeyNs = int64_t(600) * 1000 * 1000 * 1000;

// ---- frames: what a record's plaintext is a sequence of ----
// u32 stream, u16 length of the data that follows, u8 type, u8 zero.
inline constexpr size_t kFrameHeader = 8;
enum class FrameType : uint8_t {
  start = 1,  // the data begins with a whole message header
  more = 2,   // the message's next bytes
  rekey = 3,  // no data, the last of its record: the sender's next record has its next key
};
// Messages of one direction that may be in pieces at once; a sender interleaves fewer.
inline constexpr size_t kMaxOpenMessages = 16;

// ---- messages: header, body (msgpack), payload (raw bytes) ----
inline constexpr uint8_t kMessageVersion = 1;
inline constexpr size_t kMessageHeader = 24;
inline constexpr size_t kMaxBody = 1 << 20;
inline constexpr size_t kMaxPayload = 4 << 20;
// What a peer may have asked on one connection without an answer yet. Control requests are exempt from
// the sender's count; a receiver closes the connection at twice these.
inline constexpr size_t kWindowRequests = 1024;
inline constexpr size_t kWindowBytes = 32 << 20;

enum class MessageType : uint8_t { request = 0, answer = 1, error = 2, one_way = 3 };
enum class Priority : uint8_t { control = 0, normal = 1, bulk = 2 };

// u32 length of the whole message, u8 version, u8 flags (type in bits 0-1, priority in bits 4-5, the
// others zero), u16 kind, u64 request id, u32 body length, u32 payload length; little-endian.
struct MessageHeader {
  MessageType type = MessageType::request;
  Priority priority = Priority::normal;
  uint16_t kind = 0;
  uint64_t id = 0;  // of the request; 0 for one_way
  uint32_t body_length = 0;
  uint32_t payload_length = 0;

  size_t total() const { return kMessageHeader + body_length + payload_length; }
  void encode(uint8_t* out) const;
  // From kMessageHeader bytes. Code::version for another format, too_large over a limit, else protocol.
  static Result<MessageHeader> decode(const uint8_t* in);
};

struct Message {
  MessageHeader header;  // the lengths are those of body and payload
  Bytes body;
  SharedBytes payload;
};

// Kinds are given out by range and never reused; an answer has its request's kind.
inline constexpr uint16_t kNetKinds = 0;        // to 15: this layer's own
inline constexpr uint16_t kIdentityKinds = 16;  // to 63: joining, the register
inline constexpr uint16_t kDhtKinds = 64;       // to 95
inline constexpr uint16_t kVolumeKinds = 96;    // to 159
inline constexpr uint16_t kControlKinds = 160;  // to 255: the control socket
inline constexpr uint16_t kMaxKind = 255;

enum class NetKind : uint16_t {
  welcome = 1,  // one_way, from who accepted, the first message: the session is open
  ping = 2,     // request; body and answer: PingBody
  cancel = 3,   // one_way; the header's id names the request that is no longer wanted
  goodbye = 4,  // one_way; body: WireError: why the sender closes
  retire = 5,   // one_way: the sender has no unanswered request here and sends no more
};

// The body of an error, and of a goodbye.
struct WireError {
  uint16_t code = 0;
  std::string message;
  static constexpr auto fields() {
    return std::tuple{field("code", &WireError::code), field("message", &WireError::message)};
  }
};
Bytes encode_error(const Error& error);
Error decode_error(ByteView body);  // what does not decode, or has no code, is Code::protocol

// How far a peer's register reaches, as the identity layer counts it.
struct RegisterMark {
  uint64_t version = 0;
  Id head{};
  static constexpr auto fields() {
    return std::tuple{field("v", &RegisterMark::version), field("h", &RegisterMark::head)};
  }
};

struct PingBody {
  int64_t wall_ns = 0;
  RegisterMark mark;
  static constexpr auto fields() {
    return std::tuple{field("wall", &PingBody::wall_ns), field("register", &PingBody::mark)};
  }
};

}  // namespace efs
