// Records: what goes in comes out, in whatever pieces; nothing that is garbled, replayed, reordered,
// truncated or oversized does, and nothing crashes.
#include "peer/net/framing.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <map>

#include "test/unit/net/helpers.h"

using namespace efs;

namespace {

Message message_of(uint64_t id, Priority priority, Bytes body, Bytes payload) {
  Message message;
  message.header = {.type = MessageType::request, .priority = priority, .kind = 100, .id = id};
  message.body = std::move(body);
  message.payload = std::move(payload);
  return message;
}

ByteView without_prefix(const Bytes& record) {
  return ByteView(record).subspan(kRecordPrefix);
}

struct Pair {
  MessageWriter writer{secret_of_byte(1)};
  MessageReader reader{secret_of_byte(1)};
  std::vector<Message> take(const Bytes& record) {
    std::vector<Message> out;
    auto status = reader.read_record(without_prefix(record), out);
    BOOST_REQUIRE(status.has_value());
    return out;
  }
};

// A record made of any plaintext, as a peer that breaks the rules would.
Bytes sealed(ByteView plain) {
  RecordCipher cipher(RecordCipher::Mode::seal, secret_of_byte(1));
  Bytes out(plain.size() + kTagBytes);
  cipher.begin();
  cipher.update(out.data(), plain);
  cipher.seal(out.data() + plain.size());
  return out;
}

Bytes frame(uint32_t stream, FrameType type, ByteView data) {
  Bytes out(kFrameHeader);
  put_le<uint32_t>(out.data(), stream);
  put_le<uint16_t>(out.data() + 4, uint16_t(data.size()));
  out[6] = uint8_t(type);
  append(out, data);
  return out;
}

Bytes header_bytes(uint32_t body, uint32_t payload) {
  MessageHeader header{.kind = 100, .id = 1, .body_length = body, .payload_length = payload};
  Bytes out(kMessageHeader);
  header.encode(out.data());
  return out;
}

Code code_of(ByteView plain) {
  MessageReader reader(secret_of_byte(1));
  std::vector<Message> out;
  auto status = reader.read_record(sealed(plain), out);
  return status ? Code::ok : status.error().code;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(framing)

BOOST_AUTO_TEST_CASE(every_size_comes_through) {
  TestRandom random(1);
  Pair pair;
  std::map<uint64_t, Message> sent, got;
  size_t records = 0;
  const size_t sizes[] = {0, 1, 100, 30000, 32768 - 24, 32768, 65000, 65495, 65496, 65519, 70000, 1 << 20};
  uint64_t id = 0;
  for (size_t body : sizes) {
    for (size_t payload : {size_t(0), size_t(1), size_t(65519), kMaxPayload}) {
      Message message =
          message_of(id, Priority(id % 3), random_bytes(random, body), random_bytes(random, payload));
      sent[id] = message;
      pair.writer.push(std::move(message));
    }
  }
  while (!pair.writer.empty()) {
    Bytes record = pair.writer.next_record();
    BOOST_REQUIRE(record.size() <= kRecordPrefix + kMaxRecord);
    if (++records % 100 == 50) pair.writer.rekey_next();
    for (Message& message : pair.take(record)) got[message.header.id] = std::move(message);
    BOOST_REQUIRE(pair.reader.open_messages() <= kMaxOpenMessages);
  }
  BOOST_REQUIRE(got.size() == sent.size());
  for (auto& [number, message] : sent) {
    BOOST_TEST((got[number].body == message.body));
    BOOST_TEST((text(got[number].payload) == text(message.payload)));
    BOOST_TEST(got[number].header.kind == 100);
    BOOST_TEST(int(got[number].header.priority) == int(message.header.priority));
  }
  BOOST_TEST(pair.writer.queued_bytes() == 0u);
  BOOST_TEST(pair.reader.open_messages() == 0u);
}

BOOST_AUTO_TEST_CASE(a_heartbeat_does_not_wait_behind_bulk) {
  Pair pair;
  for (int i = 0; i < 20; ++i) pair.writer.push(message_of(100 + i, Priority::bulk, {}, Bytes(kMaxPayload)));
  pair.take(pair.writer.next_record());
  pair.writer.push(message_of(1, Priority::control, Bytes(10), {}));
  pair.writer.push(message_of(2, Priority::normal, Bytes(10), {}));
  std::vector<uint64_t> order;
  for (int i = 0; i < 2; ++i)
    for (const Message& message : pair.take(pair.writer.next_record())) order.push_back(message.header.id);
  BOOST_REQUIRE(order.size() == 2);  // in the next record, or after the one that was bulk's turn
  BOOST_TEST(order[0] == 1u);
  BOOST_TEST(order[1] == 2u);
}

BOOST_AUTO_TEST_CASE(bulk_does_not_starve) {
  Pair pair;
  pair.writer.push(message_of(1, Priority::bulk, {}, Bytes(1 << 20)));
  bool done = false;
  for (int i = 0; i < 400 && !done; ++i) {
    for (int k = 0; k < 4; ++k) pair.writer.push(message_of(10, Priority::control, Bytes(30000), {}));
    for (const Message& message : pair.take(pair.writer.next_record())) done |= message.header.id == 1;
  }
  BOOST_TEST(done);
}

BOOST_AUTO_TEST_CASE(small_ones_of_a_priority_stay_in_order) {
  TestRandom random(3);
  Pair pair;
  uint64_t next = 1, expected = 1;
  for (int round = 0; round < 200; ++round) {
    for (uint64_t i = random.below(12); i > 0; --i)
      pair.writer.push(message_of(next++, Priority::normal, Bytes(random.below(30000)), {}));
    if (pair.writer.empty()) continue;
    for (const Message& message : pair.take(pair.writer.next_record()))
      BOOST_REQUIRE(message.header.id == expected++);
  }
  while (!pair.writer.empty())
    for (const Message& message : pair.take(pair.writer.next_record()))
      BOOST_REQUIRE(message.header.id == expected++);
  BOOST_TEST(expected == next);
}

BOOST_AUTO_TEST_CASE(what_was_not_sent_comes_back) {
  Pair pair;
  for (uint64_t id = 1; id <= 10; ++id)
    pair.writer.push(message_of(id, Priority::normal, {}, Bytes(1 << 20, uint8_t(id))));
  pair.writer.next_record();
  BOOST_TEST(!pair.writer.remove_unstarted(1));
  BOOST_TEST(pair.writer.remove_unstarted(9));
  auto back = pair.writer.take_unstarted();
  BOOST_TEST(back.size() == 8u);
  for (const Message& message : back) BOOST_TEST(message.payload.view()[0] == message.header.id);
  while (!pair.writer.empty()) pair.writer.next_record();
  BOOST_TEST(pair.writer.queued_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(garbled_replayed_reordered_truncated) {
  auto records_of = [] {
    MessageWriter writer(secret_of_byte(1));
    std::vector<Bytes> records;
    for (uint64_t id = 1; id <= 3; ++id) {
      writer.push(message_of(id, Priority::normal, Bytes(50, 1), Bytes(500, 2)));
      records.push_back(writer.next_record());
    }
    return records;
  };
  auto records = records_of();
  auto code = [](std::vector<Bytes> fed) {
    MessageReader reader(secret_of_byte(1));
    for (const Bytes& record : fed) {
      std::vector<Message> out;
      if (auto status = reader.read_record(without_prefix(record), out); !status) {
        BOOST_TEST(out.empty());
        return status.error().code;
      }
    }
    return Code::ok;
  };
  BOOST_TEST(code(records) == Code::ok);
  BOOST_TEST(code({records[0], records[0]}) == Code::unauthorized);
  BOOST_TEST(code({records[0], records[2]}) == Code::unauthorized);
  BOOST_TEST(code({records[1]}) == Code::unauthorized);
  for (size_t at = kRecordPrefix; at < records[0].size(); ++at) {
    Bytes garbled = records[0];
    garbled[at] ^= uint8_t(1 << at % 8);
    BOOST_REQUIRE(code({garbled}) == Code::unauthorized);
  }
  for (size_t length = kRecordPrefix; length < records[0].size(); ++length) {
    Bytes cut(records[0].begin(), records[0].begin() + ptrdiff_t(length));
    BOOST_REQUIRE(code({cut}) != Code::ok);
  }
}

BOOST_AUTO_TEST_CASE(rules_that_an_authentic_peer_can_break) {
  Bytes whole = header_bytes(4, 0);
  append(whole, Bytes(4));
  BOOST_TEST(code_of(frame(1, FrameType::start, whole)) == Code::ok);
  BOOST_TEST(code_of(frame(1, FrameType::more, whole)) == Code::protocol);
  BOOST_TEST(code_of(frame(1, FrameType::start, {})) == Code::protocol);
  BOOST_TEST(code_of(frame(1, FrameType::start, Bytes(10))) == Code::protocol);
  BOOST_TEST(code_of(frame(1, FrameType(9), whole)) == Code::version);
  BOOST_TEST(code_of(frame(0, FrameType::rekey, whole)) == Code::protocol);
  BOOST_TEST(code_of(Bytes(5)) == Code::protocol);
  Bytes longer = whole;
  longer.push_back(0);
  BOOST_TEST(code_of(frame(1, FrameType::start, longer)) == Code::too_large);
  Bytes overlong = frame(1, FrameType::start, whole);
  put_le<uint16_t>(overlong.data() + 4, 60000);
  BOOST_TEST(code_of(overlong) == Code::protocol);
  Bytes twice = frame(1, FrameType::start, header_bytes(4, 0));
  append(twice, frame(1, FrameType::start, header_bytes(4, 0)));
  BOOST_TEST(code_of(twice) == Code::protocol);
  Bytes after_rekey = frame(0, FrameType::rekey, {});
  append(after_rekey, frame(1, FrameType::start, whole));
  BOOST_TEST(code_of(after_rekey) == Code::protocol);
  BOOST_TEST(code_of(frame(1, FrameType::start, header_bytes(kMaxBody + 1, 0))) == Code::too_large);
  BOOST_TEST(code_of(frame(1, FrameType::start, header_bytes(0, kMaxPayload + 1))) == Code::too_large);
  BOOST_TEST(code_of(frame(1, FrameType::start, header_bytes(0xffffffff, 0xffffffff))) == Code::too_large);
  Bytes other_version = whole;
  other_version[4] = 2;
  BOOST_TEST(code_of(frame(1, FrameType::start, other_version)) == Code::version);
  Bytes many;
  for (uint32_t stream = 1; stream <= kMaxOpenMessages + 1; ++stream)
    append(many, frame(stream, FrameType::start, header_bytes(4, 0)));
  BOOST_TEST(code_of(many) == Code::too_large);
}

BOOST_AUTO_TEST_CASE(noise_as_plaintext_never_crashes) {
  TestRandom random(9);
  for (int i = 0; i < 20000; ++i) {
    Bytes plain = random_bytes(random, 1 + random.below(200));
    if (i % 2 == 0 && plain.size() > 8) {  // plausible headers go deeper
      plain[4] = uint8_t(plain.size() - 8);
      plain[5] = 0;
      plain[6] = 1;
      plain[7] = 0;
    }
    if (i % 4 == 0 && plain.size() > 32) {
      Bytes header = header_bytes(uint32_t(random.below(300)), uint32_t(random.below(300)));
      std::copy(header.begin(), header.end(), plain.begin() + 8);
    }
    code_of(plain);
    MessageHeader::decode(random_bytes(random, kMessageHeader).data()).has_value();
  }
  BOOST_TEST(true);
}

// The header's bytes are a released format.
BOOST_AUTO_TEST_CASE(golden_header) {
  MessageHeader header{.type = MessageType::answer,
                       .priority = Priority::bulk,
                       .kind = 0x1a,
                       .id = 0x0102030405060708,
                       .body_length = 5,
                       .payload_length = 0x10000};
  uint8_t bytes[kMessageHeader];
  header.encode(bytes);
  BOOST_TEST(to_hex(bytes) == "1d00010001211a0008070605040302010500000000000100");
  auto decoded = MessageHeader::decode(bytes);
  BOOST_REQUIRE(decoded.has_value());
  BOOST_TEST(decoded->id == header.id);
  BOOST_TEST(decoded->payload_length == header.payload_length);
}

BOOST_AUTO_TEST_SUITE_END()
