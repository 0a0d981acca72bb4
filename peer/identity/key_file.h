// Key files: what `init` and `efs-keys` write for people to keep, and a peer keeps in its data directory.
//
// Four lines of text, mode 0600:
//     efs key 1
//     kind: root
//     public: <64 hex digits>
//     seed: <64 hex digits>            or, under a passphrase,
//     sealed: <salt, nonce and box, in base64url>   (crypto_pwhash argon2id13, then crypto_secretbox,
//                                                    https://doc.libsodium.org)
// encode_key() and parse_key() are pure and take any thread, argon2id 64 MiB and some 100 ms with a
// passphrase. read_key_file() and write_key_file() call the kernel, and block.
#pragma once

#include <optional>
#include <string>

#include "peer/identity/keys.h"

namespace efs {

enum class KeyKind : uint8_t { root = 1, recovery, administrator, user, peer };
std::string_view name_of(KeyKind kind);

struct KeyFile {
  KeyKind kind = KeyKind::user;
  KeyPair key;
};

// `passphrase` empty: none. The bytes returned hold the key: wipe() them.
Bytes encode_key(const KeyPair& key, KeyKind kind, const Secret& passphrase, Random& random);

// What can be known without the passphrase.
struct KeyFacts {
  KeyKind kind = KeyKind::user;
  PublicKey public_key{};
  bool sealed = false;
};
Result<KeyFacts> inspect_key(ByteView content);

// Fails, for people, with Code::protocol (no key file, or damaged), version (a newer format), access_denied
// (a passphrase is missing or wrong). A passphrase given for a file without one is ignored.
Result<KeyFile> parse_key(ByteView content, const Secret& passphrase);

// Creates PATH with mode 0600 and syncs it and its directory; never replaces a file (Code::exists).
Status write_key_file(const std::string& path, const KeyPair& key, KeyKind kind, const Secret& passphrase,
                      Random& random);
// The content, for inspect_key and parse_key: wipe() it. Refuses files that others than the owner may read
// or write (Code::not_permitted), and what is no regular file. Messages name the path.
Result<Bytes> read_key_file(const std::string& path);

}  // namespace efs
