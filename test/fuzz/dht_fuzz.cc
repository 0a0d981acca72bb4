// What peers of the DHT say to each other.
#include "dht/messages.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const efs::ByteView bytes(data, size);
  if (auto request = efs::dht::decode_request(bytes)) {
    auto again = efs::dht::decode_request(efs::encode(*request));
    if (!again || !efs::equal_values(*again, *request)) std::abort();
  }
  if (auto answer = efs::dht::decode_answer(bytes)) {
    auto again = efs::dht::decode_answer(efs::encode(*answer));
    if (!again || !efs::equal_values(*again, *answer)) std::abort();
  }
  return 0;
}
