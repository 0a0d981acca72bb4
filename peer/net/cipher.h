// A session's bulk cipher: ChaCha20-Poly1305 (RFC 8439) by libcrypto, with the nonces and REKEY of Noise
// (revision 34, 4.2 and 11.3). One direction, one owner, any thread. A record is begin(), update()s over
// its pieces, so that nothing is gathered first, and finish().
#pragma once

#include <memory>

#include "peer/base/bytes.h"
#include "peer/base/secret.h"
#include "peer/net/wire.h"

namespace efs {

class RecordCipher {
 public:
  enum class Mode { seal, open };
  RecordCipher(Mode mode, Secret key);  // 32 bytes
  RecordCipher(RecordCipher&&) noexcept;
  ~RecordCipher();

  void begin();                                 // the next record
  void update(uint8_t* out, ByteView in);       // in place is fine: out == in.data()
  void seal(uint8_t* tag);                      // ends a record: writes kTagBytes
  [[nodiscard]] bool open(const uint8_t* tag);  // ends a record: false when anything in it was changed
  void rekey();                                 // from the next record on

 private:
  struct Free {
    void operator()(void* context) const;
  };
  void install();
  Mode mode_;
  Secret key_;
  uint64_t nonce_ = 0;
  std::unique_ptr<void, Free> context_;  // EVP_CIPHER_CTX
};

}  // namespace efs
