// Ids written by their first byte, a random source of one seed, a transport that keeps what is sent.
#pragma once

#include <boost/test/unit_test.hpp>

#include "dht/node.h"

namespace efs::dht {

inline Id id_of(uint8_t first, uint8_t last = 0) {
  Id id{};
  id[0] = first;
  id[31] = last;
  return id;
}
inline Contact contact_of(const Id& id) {
  return {id, "at " + short_hex(id)};
}

class TestRandom : public Random {
 public:
  void fill(std::span<uint8_t> out) override {
    for (auto& byte : out)
      byte = uint8_t((state_ = state_ * 6364136223846793005 + 1442695040888963407) >> 56);
  }

 private:
  uint64_t state_ = 1;
};

inline constexpr int64_t kWall = 1'800'000'000 * kSecond;

inline Record record_of(const Id& key, uint64_t version, int64_t expires_wall_ns = kWall + 2 * kHour) {
  return {key, version, expires_wall_ns, false, {uint8_t(version), 2, 3}};
}

struct Outbox : Transport {
  struct Sent {
    Contact to;
    uint64_t request_id;
    Request request;
  };
  std::vector<Sent> sent;
  void send(const Contact& to, uint64_t request_id, Bytes message) override {
    auto request = decode_request(message);
    BOOST_REQUIRE(request);
    sent.push_back({to, request_id, *std::move(request)});
  }
  std::vector<Sent> take() { return std::exchange(sent, {}); }
};

}  // namespace efs::dht
