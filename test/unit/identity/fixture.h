// What the tests of identity share: randomness from a seed, and a mesh that was just founded.
#pragma once

#include <boost/test/unit_test.hpp>
#include <random>

#include "peer/identity/register.h"
#include "test/why.h"

namespace efs {

class SeededRandom : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  void fill(std::span<uint8_t> out) override {
    for (uint8_t& byte : out) byte = uint8_t(engine_());
  }

 private:
  std::mt19937_64 engine_;
};

inline std::string numbered(std::string name, uint32_t number) {
  name += std::to_string(number);
  return name;
}

// Checks that a Result failed with this code and a message that contains `words`, for people.
template <typename T>
void check_refused(const Result<T>& result, Code code, std::string_view words) {
  BOOST_REQUIRE_MESSAGE(!result, "was not refused: " << words);
  BOOST_CHECK_MESSAGE(result.error().code == code, name_of(result.error().code)
                                                       << ": " << result.error().message);
  BOOST_CHECK_MESSAGE(result.error().message.find(words) != std::string::npos, result.error().message);
}
template <typename T>
void check_ok(const Result<T>& result) {
  BOOST_REQUIRE_MESSAGE(result, test::why(result));
}

// A mesh with its founder alone, and the hands to change it.
struct TestMesh {
  static constexpr int64_t kStart = 1'700'000'000 * kSecond;

  explicit TestMesh(uint64_t seed = 1, std::string name = "acme") : random(seed) {
    Genesis genesis;
    genesis.name = std::move(name);
    genesis.roots = {root.public_key(), recovery.public_key()};
    genesis.created_ns = kStart;
    const KeyPair* signers[] = {&root};
    signed_genesis = sign_genesis(genesis, signers);
    random.fill(secret.writable());
    random.fill(root_volume);
    auto entry = make_founding(signed_genesis, root, founder, "first", root_volume, kStart, random);
    check_ok(entry);
    take(*entry);
  }

  void take(const Bytes& entry) {
    check_ok(state.apply(entry));
    entries.push_back(entry);
  }
  // Proposes as `who`, orders as the founder.
  Status change(Change what, const KeyPair& who) {
    now += kSecond;
    auto entry = make_entry(state, make_proposal(state.mesh(), state.version(), std::move(what), who, random),
                            founder, now);
    if (!entry) return fail(entry.error());
    take(*entry);
    return {};
  }
  Status change(Change what) { return change(std::move(what), founder); }

  Certificate server_certificate() const {
    Certificate certificate;
    certificate.rights.uids = UidRange::all();
    certificate.rights.under = {"/"};
    certificate.expires_ns = now + kHour;
    return certificate;
  }
  Invite invite(const Certificate& certificate, const KeyPair& administrator) {
    auto made = make_invite({"first:7400"}, state.mesh(), secret, certificate, administrator, random);
    check_ok(made);
    return std::move(*made);
  }
  Invite invite() { return invite(server_certificate(), founder); }
  Status admit(const SignedJoin& join) {
    now += kSecond;
    auto entry = make_admission(state, join, founder, now, random);
    if (!entry) return fail(entry.error());
    take(*entry);
    return {};
  }
  KeyPair admitted(const std::string& name) { return admitted(name, server_certificate()); }
  KeyPair admitted(const std::string& name, const Certificate& certificate) {
    KeyPair key = KeyPair::generate(random);
    check_ok(admit(make_join(invite(certificate, founder), name, {"10.0.0.2:7400"}, now, key)));
    return key;
  }
  AddVolume charter(const std::string& prefix, const KeyPair& owner) {
    AddVolume volume;
    random.fill(volume.id);
    volume.number = state.free_volume_number();
    volume.prefix = prefix;
    volume.founders = {peer_id_of(owner.public_key())};
    const VolumeFacts* parent = state.volume_for(prefix);
    volume.parent = parent->id;
    size_t count = 0;
    for (char c : prefix) count += c == '/';
    for (char c : parent->prefix) count -= parent->prefix != "/" && c == '/';
    volume.ancestors.assign(count - 1, 7);
    return volume;
  }

  SeededRandom random;
  KeyPair root = KeyPair::generate(random);
  KeyPair recovery = KeyPair::generate(random);
  KeyPair founder = KeyPair::generate(random);
  Secret secret{32};
  Id root_volume{};
  SignedGenesis signed_genesis;
  RegisterState state;
  std::vector<Bytes> entries;
  int64_t now = kStart;
};

}  // namespace efs
