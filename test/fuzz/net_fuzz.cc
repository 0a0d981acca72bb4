// What comes over a connection: a stranger's first message, what somebody with the mesh's secret says of
// itself, and records of a session, with the frames and message headers in them.
#include "peer/base/hash.h"
#include "peer/net/framing.h"
#include "peer/net/handshake.h"
#include "test/fuzz/fuzz.h"

namespace {
using namespace efs;

constexpr Id kMesh{1};
const Bytes kSecret(32, 2);

Bytes sealed(RecordCipher& cipher, ByteView plain) {
  Bytes out(plain.size() + kTagBytes);
  cipher.begin();
  cipher.update(out.data(), plain);
  cipher.seal(out.data() + plain.size());
  return out;
}

void read_records(ByteView input) {
  RecordCipher cipher(RecordCipher::Mode::seal, Secret::copy_of(kSecret));
  MessageReader reader(Secret::copy_of(kSecret));
  std::vector<Message> messages;
  while (input.size() > 1) {
    const size_t length = std::min<size_t>(input.size() - 1, input[0]);
    auto status = reader.read_record(sealed(cipher, input.subspan(1, length)), messages);
    if (!status) break;
    for (const Message& message : messages) {
      if (message.body.size() + message.payload.size() + kMessageHeader != message.header.total())
        std::abort();
      (void)decode_error(message.body);
    }
    if (reader.open_messages() > kMaxOpenMessages) std::abort();
    input = input.subspan(1 + length);
  }
}

// The third message of somebody who knows the mesh's secret, with `payload` inside.
void greet(ByteView payload, const LocalIdentity& local, Random& random) {
  static const Id psk = [] {
    Bytes keyed = to_bytes(view("efs mesh secret 1"));
    append(keyed, kSecret);
    return blake2b(keyed);
  }();
  Bytes prologue = to_bytes(view("efs/1"));
  append(prologue, kMesh);
  Secret static_key = noise_generate(random);
  NoiseHandshake liar({true, prologue, &static_key, psk, 0}, random);
  Handshake responder(local, false, random);
  if (!responder.read(*liar.write({}))) std::abort();
  if (!liar.read(*responder.write({}))) std::abort();
  (void)responder.read(*liar.write(payload)).has_value();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static FixedRandom random;
  static const KeyPair key = KeyPair::generate(random);
  static const LocalIdentity local(key, Id{3}, kMesh, kSecret, random);
  if (size == 0) return 0;
  const ByteView rest = ByteView(data, size).subspan(1);
  if (data[0] == 0) {
    (void)Handshake(local, false, random).read(rest).has_value();
  } else if (data[0] == 1 && rest.size() < kMaxHandshakeMessage / 2) {
    greet(rest, local, random);
  } else {
    read_records(rest);
  }
  if (rest.size() >= kMessageHeader) {
    auto header = MessageHeader::decode(rest.data());
    uint8_t again[kMessageHeader];
    if (header) header->encode(again);
    if (header && !std::equal(again, again + kMessageHeader, rest.data())) std::abort();
  }
  return 0;
}
