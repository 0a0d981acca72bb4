// The handshake against the vectors that Debian's golang-github-flynn-noise-dev ships: every one of XX with
// our cipher and hash, with the key in each position. A missing file is a failure, not a skip.
#include "peer/net/noise.h"

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <map>

#include "peer/net/cipher.h"
#include "test/unit/net/helpers.h"

using namespace efs;

namespace {

constexpr const char* kVectors = "/usr/share/gocode/src/github.com/flynn/noise/vectors.txt";

struct Vector {
  std::string name;
  std::map<std::string, std::string> values;
};

std::vector<Vector> read_vectors() {
  std::ifstream file(kVectors);
  BOOST_REQUIRE_MESSAGE(file.good(),
                        kVectors << " is missing: apt-get install golang-github-flynn-noise-dev");
  std::vector<Vector> out;
  for (std::string line; std::getline(file, line);) {
    auto equals = line.find('=');
    if (equals == std::string::npos) continue;
    std::string key = line.substr(0, equals), value = line.substr(equals + 1);
    if (key == "handshake") out.push_back({value, {}});
    if (!out.empty()) out.back().values[key] = value;
  }
  return out;
}

class FixedRandom : public Random {  // gives the vector's ephemeral key
 public:
  explicit FixedRandom(Bytes bytes) : bytes_(std::move(bytes)) {}
  void fill(std::span<uint8_t> out) override {
    BOOST_REQUIRE(out.size() == bytes_.size());
    std::copy(bytes_.begin(), bytes_.end(), out.begin());
  }

 private:
  Bytes bytes_;
};

void run_vector(Vector& vector, int psk_position) {
  auto value = [&](const std::string& key) { return *from_hex(vector.values[key]); };
  FixedRandom init_random(value("gen_init_ephemeral")), resp_random(value("gen_resp_ephemeral"));
  Secret init_static = Secret::copy_of(value("init_static"));
  Secret resp_static = Secret::copy_of(value("resp_static"));
  Bytes prologue = value("prologue"), psk = value("preshared_key");
  NoiseHandshake initiator({true, prologue, &init_static, psk, psk_position}, init_random);
  NoiseHandshake responder({false, prologue, &resp_static, psk, psk_position}, resp_random);
  for (int i = 0; i < 3; ++i) {
    std::string number = "msg_" + std::to_string(i);
    Bytes payload = value(number + "_payload");
    auto& writer = i % 2 == 0 ? initiator : responder;
    auto& reader = i % 2 == 0 ? responder : initiator;
    BOOST_TEST(writer.my_turn());
    auto message = writer.write(payload);
    BOOST_REQUIRE(message.has_value());
    BOOST_TEST(to_hex(*message) == vector.values[number + "_ciphertext"]);
    auto read = reader.read(*message);
    BOOST_REQUIRE(read.has_value());
    BOOST_TEST(to_hex(*read) == to_hex(payload));
  }
  BOOST_REQUIRE(initiator.done());
  BOOST_REQUIRE(responder.done());
  BOOST_TEST(to_hex(initiator.hash()) == to_hex(responder.hash()));
  BOOST_TEST(to_hex(responder.remote_static()) == to_hex(noise_public(init_static)));
  BOOST_TEST(to_hex(initiator.remote_static()) == to_hex(noise_public(resp_static)));
  auto init_keys = initiator.split();
  auto resp_keys = responder.split();
  RecordCipher init_seal(RecordCipher::Mode::seal, std::move(init_keys.send));
  RecordCipher resp_open(RecordCipher::Mode::open, std::move(resp_keys.receive));
  RecordCipher resp_seal(RecordCipher::Mode::seal, std::move(resp_keys.send));
  RecordCipher init_open(RecordCipher::Mode::open, std::move(init_keys.receive));
  for (int i = 3; vector.values.count("msg_" + std::to_string(i) + "_payload"); ++i) {
    std::string number = "msg_" + std::to_string(i);
    Bytes payload = value(number + "_payload");
    auto& seal = i % 2 == 1 ? init_seal : resp_seal;
    auto& open = i % 2 == 1 ? resp_open : init_open;
    Bytes sealed(payload.size() + kTagBytes);
    seal.begin();
    seal.update(sealed.data(), payload);
    seal.seal(sealed.data() + payload.size());
    BOOST_TEST(to_hex(sealed) == vector.values[number + "_ciphertext"]);
    Bytes opened(payload.size());
    open.begin();
    open.update(opened.data(), ByteView(sealed).first(payload.size()));
    BOOST_TEST(open.open(sealed.data() + payload.size()));
    BOOST_TEST(to_hex(opened) == to_hex(payload));
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(noise)

BOOST_AUTO_TEST_CASE(published_vectors) {
  const std::map<std::string, int> names = {{"Noise_XX_25519_ChaChaPoly_BLAKE2b", NoiseHandshake::kNoPsk},
                                            {"Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b", 0},
                                            {"Noise_XXpsk1_25519_ChaChaPoly_BLAKE2b", 1},
                                            {"Noise_XXpsk2_25519_ChaChaPoly_BLAKE2b", 2},
                                            {"Noise_XXpsk3_25519_ChaChaPoly_BLAKE2b", 3}};
  std::map<std::string, int> found;
  for (Vector& vector : read_vectors()) {
    auto name = names.find(vector.name);
    if (name == names.end()) continue;
    ++found[vector.name];
    BOOST_TEST_CONTEXT(vector.name) run_vector(vector, name->second);
  }
  for (const auto& [name, position] : names)
    BOOST_TEST(found[name] >= 2, name << ": " << found[name] << " vectors in the file");
  BOOST_TEST(found["Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b"] >= 4);
}

BOOST_AUTO_TEST_CASE(out_of_turn_and_damaged) {
  TestRandom random(1);
  Secret a = noise_generate(random), b = noise_generate(random), psk = noise_generate(random);
  for (int damaged = 0; damaged < 3; ++damaged) {
    for (size_t where : {size_t(0), size_t(31), size_t(33), size_t(40)}) {
      NoiseHandshake initiator({true, {}, &a, psk.reveal(), 0}, random);
      NoiseHandshake responder({false, {}, &b, psk.reveal(), 0}, random);
      BOOST_TEST(!responder.write({}).has_value());
      for (int i = 0; i <= damaged; ++i) {
        auto& writer = i % 2 == 0 ? initiator : responder;
        auto& reader = i % 2 == 0 ? responder : initiator;
        auto message = writer.write({});
        BOOST_REQUIRE(message.has_value());
        if (i == damaged) (*message)[where % message->size()] ^= 4;
        BOOST_TEST(reader.read(*message).has_value() == (i < damaged));
        if (i == damaged) {
          BOOST_TEST(!reader.read(*message).has_value());
          BOOST_TEST(!reader.write({}).has_value());
        }
      }
    }
  }
}

// A point of low order would give a key that everybody knows (RFC 7748, section 6.1).
BOOST_AUTO_TEST_CASE(low_order_points) {
  TestRandom random(2);
  Secret a = noise_generate(random);
  NoiseHandshake responder({false, {}, &a, {}, NoiseHandshake::kNoPsk}, random);
  BOOST_TEST(responder.read(Bytes(32)).has_value());
  BOOST_TEST(!responder.write({}).has_value());
}

BOOST_AUTO_TEST_CASE(rekey_changes_both_sides_alike) {
  RecordCipher seal(RecordCipher::Mode::seal, secret_of_byte(7));
  RecordCipher open(RecordCipher::Mode::open, secret_of_byte(7));
  Bytes plain(100, 3), first, sealed(100), opened(100);
  uint8_t tag[kTagBytes];
  for (int i = 0; i < 5; ++i) {
    seal.begin();
    seal.update(sealed.data(), plain);
    seal.seal(tag);
    BOOST_TEST(sealed != first);
    first = sealed;
    open.begin();
    open.update(opened.data(), sealed);
    BOOST_TEST(open.open(tag));
    BOOST_TEST(opened == plain);
    seal.rekey();
    open.rekey();
  }
  seal.rekey();
  seal.begin();
  seal.update(sealed.data(), plain);
  seal.seal(tag);
  open.begin();
  open.update(opened.data(), sealed);
  BOOST_TEST(!open.open(tag));
}

BOOST_AUTO_TEST_SUITE_END()
