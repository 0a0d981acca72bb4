// What peers of the DHT say to each other, as field lists (peer/base/encoding.h). One request, one answer;
// the transport says from whom, authenticated. All sizes are checked in decode_request() and
// decode_answer(), so that whatever passes them is within limits.h. Pure functions: any thread.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "dht/limits.h"
#include "peer/base/encoding.h"

namespace efs::dht {

// A peer that can be dialled. What stands in `address` is between those who dial.
struct Contact {
  Id id{};
  std::string address;
  static constexpr auto fields() {
    return std::tuple{field("i", &Contact::id), field("a", &Contact::address)};
  }
};
bool valid(const Contact& contact);

// A signed, versioned fact. The DHT does not read `body`: the Checker that it is constructed with says
// whether body vouches for the rest. A removal is a record too (a tombstone): it supersedes what it
// removes, and keeps older copies from coming back until it expires.
struct Record {
  Id key{};
  uint64_t version = 0;
  int64_t expires_wall_ns = 0;
  bool removed = false;
  Bytes body;
  static constexpr auto fields() {
    return std::tuple{field("k", &Record::key), field("v", &Record::version),
                      field("e", &Record::expires_wall_ns), field("r", &Record::removed),
                      field("b", &Record::body)};
  }
};
// Higher version first; at one version a removal, then the greater body: so that everybody who has seen
// the same records keeps the same one. Keys must be equal.
bool supersedes(const Record& a, const Record& b);

// Which record somebody has, without the record.
struct RecordName {
  Id key{};
  uint64_t version = 0;
  uint32_t sum = 0;  // CRC-32C of the body
  static constexpr auto fields() {
    return std::tuple{field("k", &RecordName::key), field("v", &RecordName::version),
                      field("s", &RecordName::sum)};
  }
};

// ---- requests ----

struct Ping {
  static constexpr uint16_t kKind = 1;
  static constexpr auto fields() { return std::tuple{}; }
};
// Answer: Nodes.
struct FindNode {
  static constexpr uint16_t kKind = 2;
  Id target{};
  static constexpr auto fields() { return std::tuple{field("t", &FindNode::target)}; }
};
// Answer: Found. `fresh`: not from a cache.
struct FindValue {
  static constexpr uint16_t kKind = 3;
  Id key{};
  bool fresh = false;
  static constexpr auto fields() {
    return std::tuple{field("k", &FindValue::key), field("f", &FindValue::fresh)};
  }
};
// Answer: Stored. `cache`: keep it for a few minutes only.
struct Store {
  static constexpr uint16_t kKind = 4;
  std::vector<Record> records;
  bool cache = false;
  static constexpr auto fields() {
    return std::tuple{field("r", &Store::records), field("c", &Store::cache)};
  }
};
// "I hold these, and you should": what keeps records at their holders without sending them again.
// Answer: Wanted.
struct Offer {
  static constexpr uint16_t kKind = 5;
  std::vector<RecordName> names;
  static constexpr auto fields() { return std::tuple{field("n", &Offer::names)}; }
};

// ---- answers ----

struct Pong {
  static constexpr uint16_t kKind = 33;
  static constexpr auto fields() { return std::tuple{}; }
};
struct Nodes {
  static constexpr uint16_t kKind = 34;
  std::vector<Contact> contacts;  // closest first
  static constexpr auto fields() { return std::tuple{field("c", &Nodes::contacts)}; }
};
struct Found {
  static constexpr uint16_t kKind = 35;
  std::optional<Record> record;
  std::vector<Contact> contacts;  // only without a record
  static constexpr auto fields() {
    return std::tuple{field("r", &Found::record), field("c", &Found::contacts)};
  }
};
struct Stored {
  static constexpr uint16_t kKind = 36;
  std::vector<uint16_t> codes;  // one a record; Code::conflict: a newer one is held
  static constexpr auto fields() { return std::tuple{field("c", &Stored::codes)}; }
};
struct Wanted {
  static constexpr uint16_t kKind = 37;
  std::vector<Id> keys;       // of what was offered: send these
  std::vector<Record> newer;  // than what was offered
  static constexpr auto fields() { return std::tuple{field("k", &Wanted::keys), field("n", &Wanted::newer)}; }
};
struct Refused {
  static constexpr uint16_t kKind = 38;
  uint16_t code = 0;
  static constexpr auto fields() { return std::tuple{field("c", &Refused::code)}; }
};

using RequestBody = std::variant<Ping, FindNode, FindValue, Store, Offer>;
struct Request {
  std::string address;  // where the sender can be dialled; empty: it cannot, keep it out of your table
  RequestBody body;
  static constexpr auto fields() {
    return std::tuple{field("a", &Request::address), field("m", &Request::body)};
  }
};
using Answer = std::variant<Pong, Nodes, Found, Stored, Wanted, Refused>;

// Code::protocol, version or too_large for what breaks a limit.
Result<Request> decode_request(ByteView bytes);
Result<Answer> decode_answer(ByteView bytes);

}  // namespace efs::dht
