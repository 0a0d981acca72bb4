// What the commands of efs-keys share: the register as this peer has it, verified; and how changes of it are
// signed. Blocks; one thread.
//
// A change is signed with the key that --key names, else with the caller's administrator key
// (~/.config/efs/admin.key), else, for root and the peer's own user, by the peer, which refuses when it is
// no administrator. Private keys never leave this process.
#pragma once

#include <optional>

#include "peer/identity/key_file.h"
#include "peer/identity/register.h"
#include "tools/command_line.h"

namespace efs::tools {

struct KeysOptions : PeerOptions {
  std::string key;              // --key
  std::string passphrase_file;  // --passphrase-file
  std::string admin_key;        // the caller's administrator key, whether it exists or not
};

// All of the register, its signatures, chain and rules checked, and its mesh compared with the peer's.
struct VerifiedRegister {
  RegisterState state;
  std::vector<efs::Entry> entries;
  control::Welcome welcome;
};

class KeysContext {
 public:
  KeysContext(Context& context_, KeysOptions& options_, Random& random_)
      : context(context_), options(options_), random(random_) {}

  Result<VerifiedRegister> read_register();
  // The key to sign with, owned here; nullptr: the peer is to sign. Decided once: a key file that is made
  // meanwhile does not sign its own admission.
  Result<const KeyPair*> signing_key(const control::Welcome& welcome);
  // Signs the change and has it ordered. Errors have `what` in front: "cannot add the user alice".
  Status change(const VerifiedRegister& known, Change change, const std::string& what);

  // A passphrase for a new key: --passphrase-file, else asked twice, else none with a warning.
  Result<Secret> new_passphrase(const std::string& path);
  // Reads a private key file, asking for its passphrase when it has one.
  Result<KeyFile> open_key(const std::string& path);

  Context& context;
  KeysOptions& options;
  Random& random;

 private:
  bool decided_ = false;
  std::optional<KeyPair> signing_key_;
};

// Writes a new key of this kind to `path`, with the passphrase that new_passphrase gives.
Result<PublicKey> make_key_file(KeysContext& keys, const std::string& path, KeyKind kind);
// After a change that named the key of that file has failed: the file goes, unless the change may have been
// made all the same (the answer was lost); then it stays, and a warning says so.
void take_back_key_file(KeysContext& keys, const std::string& path, const Error& why);

// A public key as it is passed on: a file with a "public: <64 hex digits>" line, or those digits alone.
// A user's key file will do; an administrator's is refused, as it was meant to sign.
Result<PublicKey> read_public_key(const std::string& path);

}  // namespace efs::tools
