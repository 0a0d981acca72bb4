#include "peer/net/noise.h"

#include <sodium.h>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace efs {
namespace {

constexpr size_t kHashBytes = 64;
constexpr size_t kHashBlock = 128;  // BLAKE2b's block, for HMAC (RFC 2104)
constexpr size_t kKeyBytes = 32;
constexpr size_t kTag = crypto_aead_chacha20poly1305_IETF_ABYTES;

class Blake2b {
 public:
  Blake2b() { crypto_generichash_init(&state_, nullptr, 0, kHashBytes); }
  Blake2b& add(ByteView bytes) {
    crypto_generichash_update(&state_, bytes.data(), bytes.size());
    return *this;
  }
  NoiseHash finish() {
    NoiseHash out;
    crypto_generichash_final(&state_, out.data(), out.size());
    return out;
  }
  ~Blake2b() { sodium_memzero(&state_, sizeof state_); }

 private:
  crypto_generichash_state state_;
};

NoiseHash hmac(ByteView key, ByteView data, ByteView more = {}) {  // keys here are never over a block
  ByteArray<kHashBlock> inner{}, outer{};
  std::copy(key.begin(), key.end(), inner.begin());
  std::copy(key.begin(), key.end(), outer.begin());
  for (auto& byte : inner) byte ^= 0x36;
  for (auto& byte : outer) byte ^= 0x5c;
  NoiseHash middle = Blake2b().add(inner).add(data).add(more).finish();
  NoiseHash out = Blake2b().add(outer).add(middle).finish();
  wipe(inner);
  wipe(outer);
  wipe(middle);
  return out;
}

// 4.3: HKDF with two or three outputs.
struct Derived {
  NoiseHash first{}, second{}, third{};
  ~Derived() {
    wipe(first);
    wipe(second);
    wipe(third);
  }
};
void derive(Derived& out, ByteView chaining_key, ByteView input, bool three) {
  const uint8_t one = 1, two = 2, last = 3;
  NoiseHash temporary = hmac(chaining_key, input);
  out.first = hmac(temporary, {&one, 1});
  out.second = hmac(temporary, out.first, {&two, 1});
  if (three) out.third = hmac(temporary, out.second, {&last, 1});
  wipe(temporary);
}

ByteArray<12> nonce_bytes(uint64_t nonce) {  // 12.3: 32 zero bits, then the nonce, little-endian
  ByteArray<12> out{};
  put_le<uint64_t>(out.data() + 4, nonce);
  return out;
}

}  // namespace

NoiseKey noise_public(const Secret& private_key) {
  NoiseKey out{};
  crypto_scalarmult_base(out.data(), private_key.reveal().data());
  return out;
}

Secret noise_generate(Random& random) {
  Secret key(kKeyBytes);
  random.fill(key.writable());
  return key;
}

// 7.5: XX.  -> e   <- e, ee, s, es   -> s, se
std::span<const NoiseHandshake::Token> NoiseHandshake::tokens_of(int message) {
  static constexpr Token first[] = {Token::e};
  static constexpr Token second[] = {Token::e, Token::ee, Token::s, Token::es};
  static constexpr Token third[] = {Token::s, Token::se};
  if (message == 0) return first;
  if (message == 1) return second;
  return third;
}

NoiseHandshake::NoiseHandshake(const Config& config, Random& random)
    : initiator_(config.initiator),
      random_(random),
      static_key_(config.static_key),
      psk_position_(config.psk_position) {
  if (sodium_init() < 0) throw std::runtime_error("libsodium does not start");
  std::string name = "Noise_XX";
  if (psk_position_ != kNoPsk) {
    psk_ = Secret::copy_of(config.psk);
    name += "psk" + std::to_string(psk_position_);
  }
  name += "_25519_ChaChaPoly_BLAKE2b";
  std::copy(name.begin(), name.end(), hash_.begin());  // 5.2: shorter than a hash, so padded with zeros
  chaining_key_ = Secret::copy_of(hash_);
  mix_hash(config.prologue);
}

void NoiseHandshake::mix_hash(ByteView data) {
  hash_ = Blake2b().add(hash_).add(data).finish();
}

void NoiseHandshake::set_key(ByteView key) {
  key_ = Secret::copy_of(key.first(kKeyBytes));
  nonce_ = 0;
}

void NoiseHandshake::mix_key(ByteView input) {
  Derived out;
  derive(out, chaining_key_.reveal(), input, false);
  chaining_key_ = Secret::copy_of(out.first);
  set_key(out.second);
}

void NoiseHandshake::mix_key_and_hash(ByteView input) {
  Derived out;
  derive(out, chaining_key_.reveal(), input, true);
  chaining_key_ = Secret::copy_of(out.first);
  mix_hash(out.second);
  set_key(out.third);
}

bool NoiseHandshake::mix_dh(const Secret& mine, const NoiseKey& theirs) {
  Secret shared(kKeyBytes);
  // Fails on points of low order, which give a key that anyone knows.
  if (crypto_scalarmult(shared.writable().data(), mine.reveal().data(), theirs.data()) != 0) return false;
  mix_key(shared.reveal());
  return true;
}

bool NoiseHandshake::mix_dh_of(Token token) {
  if (token == Token::ee) return mix_dh(ephemeral_, remote_ephemeral_);
  // es: the initiator's ephemeral and the responder's static key; se: the other way round.
  bool mine_is_ephemeral = (token == Token::es) == initiator_;
  return mine_is_ephemeral ? mix_dh(ephemeral_, remote_static_) : mix_dh(*static_key_, remote_ephemeral_);
}

void NoiseHandshake::encrypt_and_hash(Bytes& out, ByteView plain) {
  size_t start = out.size();
  if (key_.empty()) {
    append(out, plain);
  } else {
    out.resize(start + plain.size() + kTag);
    auto nonce = nonce_bytes(nonce_++);
    crypto_aead_chacha20poly1305_ietf_encrypt(out.data() + start, nullptr, plain.data(), plain.size(),
                                              hash_.data(), hash_.size(), nullptr, nonce.data(),
                                              key_.reveal().data());
  }
  mix_hash(ByteView(out).subspan(start));
}

Result<Bytes> NoiseHandshake::decrypt_and_hash(ByteView sealed) {
  Bytes out;
  if (key_.empty()) {
    out = to_bytes(sealed);
  } else {
    if (sealed.size() < kTag) return fail(Code::protocol, "a handshake message is too short");
    out.resize(sealed.size() - kTag);
    auto nonce = nonce_bytes(nonce_++);
    if (crypto_aead_chacha20poly1305_ietf_decrypt(out.data(), nullptr, nullptr, sealed.data(), sealed.size(),
                                                  hash_.data(), hash_.size(), nonce.data(),
                                                  key_.reveal().data()) != 0)
      return fail(Code::unauthorized, "a handshake message does not authenticate");
  }
  mix_hash(sealed);
  return out;
}

bool NoiseHandshake::write_token(Token token, Bytes& out) {
  if (token == Token::e) {
    ephemeral_ = noise_generate(random_);
    NoiseKey key = noise_public(ephemeral_);
    append(out, key);
    mix_hash(key);
    if (psk_position_ != kNoPsk) mix_key(key);  // 9.2
  } else if (token == Token::s) {
    encrypt_and_hash(out, noise_public(*static_key_));
  } else if (token == Token::psk) {
    mix_key_and_hash(psk_.reveal());
  } else {
    return mix_dh_of(token);
  }
  return true;
}

Status NoiseHandshake::read_token(Token token, ByteView& rest) {
  if (token == Token::e) {
    if (rest.size() < kKeyBytes) return fail(Code::protocol, "a handshake message is too short");
    std::copy_n(rest.begin(), kKeyBytes, remote_ephemeral_.begin());
    rest = rest.subspan(kKeyBytes);
    mix_hash(remote_ephemeral_);
    if (psk_position_ != kNoPsk) mix_key(remote_ephemeral_);
  } else if (token == Token::s) {
    size_t length = kKeyBytes + (key_.empty() ? 0 : kTag);
    if (rest.size() < length) return fail(Code::protocol, "a handshake message is too short");
    EFS_ASSIGN(auto key, decrypt_and_hash(rest.first(length)));
    std::copy_n(key.begin(), kKeyBytes, remote_static_.begin());
    rest = rest.subspan(length);
  } else if (token == Token::psk) {
    mix_key_and_hash(psk_.reveal());
  } else if (!mix_dh_of(token)) {
    return fail(Code::unauthorized, "a key of low order in the handshake");
  }
  return {};
}

Result<Bytes> NoiseHandshake::finish(Result<Bytes> result) {
  if (result) {
    ++next_message_;
  } else {
    failed_ = true;
  }
  return result;
}

Result<Bytes> NoiseHandshake::write(ByteView payload) {
  if (!my_turn()) return fail(Code::protocol, "not this side's turn in the handshake");
  Bytes out;
  if (apply_psk_before()) write_token(Token::psk, out);
  for (Token token : tokens_of(next_message_))
    if (!write_token(token, out)) return finish(fail(Code::unauthorized, "a key of low order"));
  if (apply_psk_after()) write_token(Token::psk, out);
  encrypt_and_hash(out, payload);
  return finish(std::move(out));
}

Result<Bytes> NoiseHandshake::read(ByteView message) {
  if (failed_ || done() || my_turn()) return fail(Code::protocol, "not the other side's turn");
  ByteView rest = message;
  auto one = [&](Token token) {
    auto status = read_token(token, rest);
    return status ? Error{} : status.error();
  };
  if (apply_psk_before()) one(Token::psk);
  for (Token token : tokens_of(next_message_))
    if (Error error = one(token); error.code != Code::ok) return finish(fail(std::move(error)));
  if (apply_psk_after()) one(Token::psk);
  return finish(decrypt_and_hash(rest));
}

NoiseHandshake::Keys NoiseHandshake::split() {
  Derived out;
  derive(out, chaining_key_.reveal(), {}, false);
  Secret first = Secret::copy_of(ByteView(out.first).first(kKeyBytes));
  Secret second = Secret::copy_of(ByteView(out.second).first(kKeyBytes));
  ephemeral_ = Secret();
  key_ = Secret();
  if (initiator_) return {std::move(first), std::move(second)};
  return {std::move(second), std::move(first)};
}

}  // namespace efs
