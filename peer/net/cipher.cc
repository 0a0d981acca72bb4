#include "peer/net/cipher.h"

#include <openssl/evp.h>
#include <sodium.h>

#include <cstdlib>
#include <new>

namespace efs {
namespace {
EVP_CIPHER_CTX* as_context(void* context) {
  return static_cast<EVP_CIPHER_CTX*>(context);
}
void must(int result) {  // libcrypto fails here only out of memory or by our own mistake
  if (result != 1) std::abort();
}
}  // namespace

void RecordCipher::Free::operator()(void* context) const {
  EVP_CIPHER_CTX_free(as_context(context));
}

RecordCipher::RecordCipher(Mode mode, Secret key)
    : mode_(mode), key_(std::move(key)), context_(EVP_CIPHER_CTX_new()) {
  if (!context_) throw std::bad_alloc();
  must(EVP_CipherInit_ex(as_context(context_.get()), EVP_chacha20_poly1305(), nullptr, nullptr, nullptr,
                         mode_ == Mode::seal));
  install();
}
RecordCipher::RecordCipher(RecordCipher&&) noexcept = default;
RecordCipher::~RecordCipher() = default;

void RecordCipher::install() {
  must(EVP_CipherInit_ex(as_context(context_.get()), nullptr, nullptr, key_.reveal().data(), nullptr, -1));
}

void RecordCipher::begin() {
  ByteArray<12> nonce{};
  put_le<uint64_t>(nonce.data() + 4, nonce_++);
  must(EVP_CipherInit_ex(as_context(context_.get()), nullptr, nullptr, nullptr, nonce.data(), -1));
}

void RecordCipher::update(uint8_t* out, ByteView in) {
  if (in.empty()) return;
  int length = 0;
  must(EVP_CipherUpdate(as_context(context_.get()), out, &length, in.data(), int(in.size())));
}

void RecordCipher::seal(uint8_t* tag) {
  int length = 0;
  uint8_t none[kTagBytes];
  must(EVP_CipherFinal_ex(as_context(context_.get()), none, &length));
  must(EVP_CIPHER_CTX_ctrl(as_context(context_.get()), EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag));
}

bool RecordCipher::open(const uint8_t* tag) {
  int length = 0;
  uint8_t none[kTagBytes];
  must(EVP_CIPHER_CTX_ctrl(as_context(context_.get()), EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                           const_cast<uint8_t*>(tag)));
  return EVP_CipherFinal_ex(as_context(context_.get()), none, &length) == 1;
}

void RecordCipher::rekey() {
  ByteArray<12> nonce{};
  put_le<uint64_t>(nonce.data() + 4, ~uint64_t(0));
  const ByteArray<32> zeros{};
  ByteArray<32 + kTagBytes> sealed;
  crypto_aead_chacha20poly1305_ietf_encrypt(sealed.data(), nullptr, zeros.data(), zeros.size(), nullptr, 0,
                                            nullptr, nonce.data(), key_.reveal().data());
  key_ = Secret::copy_of(ByteView(sealed).first(32));
  wipe(sealed);
  install();
}

}  // namespace efs
