#include "peer/identity/key_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <stdexcept>

#include "peer/base/descriptor.h"
#include "peer/identity/limits.h"

namespace efs {

namespace {
constexpr std::string_view kMagic = "efs key ";
constexpr std::string_view kVersion = "1";
constexpr KeyKind kKinds[] = {KeyKind::root, KeyKind::recovery, KeyKind::administrator, KeyKind::user,
                              KeyKind::peer};
constexpr size_t kSeedBytes = 32;
constexpr size_t kSaltBytes = crypto_pwhash_argon2id_SALTBYTES;
constexpr size_t kNonceBytes = crypto_secretbox_NONCEBYTES;
constexpr size_t kSealedBytes = kSaltBytes + kNonceBytes + kSeedBytes + crypto_secretbox_MACBYTES;

struct Lines {
  KeyKind kind = KeyKind::user;
  PublicKey public_key{};
  std::string_view seed;    // hex, or empty
  std::string_view sealed;  // base64url, or empty
};

tl::unexpected<Error> damaged(std::string_view why) {
  return fail(Code::protocol, fmt::format("is a damaged key file: {}; restore it from a copy", why));
}

Result<Secret> derive(const Secret& passphrase, ByteView salt) {
  Secret derived(crypto_secretbox_KEYBYTES);
  const auto words = text(passphrase.reveal());
  if (crypto_pwhash(derived.writable().data(), derived.size(), words.data(), words.size(), salt.data(),
                    crypto_pwhash_OPSLIMIT_INTERACTIVE, crypto_pwhash_MEMLIMIT_INTERACTIVE,
                    crypto_pwhash_ALG_ARGON2ID13) != 0)
    return fail(Code::no_space, "not enough memory to open a key with a passphrase (64 MiB are needed)");
  return derived;
}

Bytes seal_seed(const KeyPair& key, const Secret& passphrase, Random& random) {
  Bytes sealed(kSealedBytes);
  random.fill(std::span(sealed).first(kSaltBytes + kNonceBytes));
  auto derived = derive(passphrase, ByteView(sealed).first(kSaltBytes));
  if (!derived) throw std::bad_alloc();  // as any allocation of 64 MiB that fails
  crypto_secretbox_easy(sealed.data() + kSaltBytes + kNonceBytes, key.seed().reveal().data(), kSeedBytes,
                        sealed.data() + kSaltBytes, derived->reveal().data());
  return sealed;
}

Result<Secret> open_seed(std::string_view encoded, const Secret& passphrase) {
  auto sealed = from_base64(encoded);
  if (!sealed || sealed->size() != kSealedBytes) return damaged("its sealed part has a wrong length");
  if (passphrase.empty())
    return fail(Code::access_denied,
                "is sealed with a passphrase: give it with --passphrase-file, or at a terminal");
  EFS_ASSIGN(Secret derived, derive(passphrase, ByteView(*sealed).first(kSaltBytes)));
  Secret seed(kSeedBytes);
  const uint8_t* box = sealed->data() + kSaltBytes + kNonceBytes;
  if (crypto_secretbox_open_easy(seed.writable().data(), box, sealed->size() - kSaltBytes - kNonceBytes,
                                 sealed->data() + kSaltBytes, derived.reveal().data()) != 0)
    return fail(Code::access_denied, "cannot be opened: the passphrase is wrong; try again");
  return seed;
}

Result<Secret> plain_seed(std::string_view hex) {
  Secret seed(kSeedBytes);
  size_t length = 0;
  if (hex.size() != kSeedBytes * 2 ||
      sodium_hex2bin(seed.writable().data(), seed.size(), hex.data(), hex.size(), nullptr, &length,
                     nullptr) != 0 ||
      length != kSeedBytes)
    return damaged("its seed is not 64 hex digits");
  return seed;
}

// "name: value" lines after the first. Unknown names are skipped.
std::map<std::string_view, std::string_view> split_lines(std::string_view rest) {
  std::map<std::string_view, std::string_view> out;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const size_t colon = line.find(": ");
    if (colon != std::string_view::npos) out.emplace(line.substr(0, colon), line.substr(colon + 2));
  }
  return out;
}

Result<Lines> read_lines(ByteView content) {
  std::string_view all = text(content);
  if (content.size() > kMaxKeyFileBytes || !all.starts_with(kMagic))
    return fail(Code::protocol, "is not a key file: it does not begin with 'efs key'");
  const size_t end = all.find('\n');
  std::string_view version =
      all.substr(kMagic.size(), end == std::string_view::npos ? end : end - kMagic.size());
  if (version.ends_with('\r')) version.remove_suffix(1);
  if (version != kVersion)
    return fail(Code::version,
                fmt::format("is a key file of version '{}', and this program knows version {}: "
                            "install a newer efs",
                            version.substr(0, 16), kVersion));
  if (end == std::string_view::npos) return damaged("it ends after its first line");
  auto found = split_lines(all.substr(end + 1));
  Lines lines;
  bool known = false;
  for (KeyKind kind : kKinds) {
    if (found["kind"] != name_of(kind)) continue;
    lines.kind = kind;
    known = true;
  }
  if (!known) return damaged("it does not say which kind of key it is");
  auto public_key = id_from_hex(found["public"]);
  if (!public_key) return damaged("its public key is not 64 hex digits");
  lines.public_key = *public_key;
  lines.seed = found["seed"];
  lines.sealed = found["sealed"];
  if (lines.seed.empty() == lines.sealed.empty()) return damaged("it needs either a seed or a sealed part");
  return lines;
}

Status write_all(int fd, ByteView bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(from_errno(errno, "write " + path));
    bytes = bytes.subspan(size_t(written));
  }
  if (::fsync(fd) != 0) return fail(from_errno(errno, "sync " + path));
  return {};
}

Status sync_parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  Descriptor directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || ::fsync(directory.get()) != 0) return fail(from_errno(errno, "sync " + parent));
  return {};
}
}  // namespace

std::string_view name_of(KeyKind kind) {
  switch (kind) {
    case KeyKind::root:
      return "root";
    case KeyKind::recovery:
      return "recovery";
    case KeyKind::administrator:
      return "administrator";
    case KeyKind::user:
      return "user";
    case KeyKind::peer:
      return "peer";
  }
  return "unknown";
}

Bytes encode_key(const KeyPair& key, KeyKind kind, const Secret& passphrase, Random& random) {
  Bytes out;
  out.reserve(512);  // so that growing leaves no copy behind
  append(out, view(fmt::format("{}{}\nkind: {}\npublic: {}\n", kMagic, kVersion, name_of(kind),
                               to_hex(key.public_key()))));
  if (!passphrase.empty()) {
    append(out, view("sealed: " + to_base64(seal_seed(key, passphrase, random)) + "\n"));
    return out;
  }
  append(out, view("seed: "));
  std::string hex = to_hex(key.seed().reveal());
  append(out, view(hex));
  wipe({reinterpret_cast<uint8_t*>(hex.data()), hex.size()});
  out.push_back('\n');
  return out;
}

Result<KeyFacts> inspect_key(ByteView content) {
  EFS_ASSIGN(auto lines, read_lines(content));
  return KeyFacts{lines.kind, lines.public_key, !lines.sealed.empty()};
}

Result<KeyFile> parse_key(ByteView content, const Secret& passphrase) {
  EFS_ASSIGN(auto lines, read_lines(content));
  auto seed = lines.sealed.empty() ? plain_seed(lines.seed) : open_seed(lines.sealed, passphrase);
  if (!seed) return fail(std::move(seed.error()));
  KeyFile file{lines.kind, KeyPair::from_seed(std::move(*seed))};
  if (file.key.public_key() != lines.public_key) return damaged("its two halves do not belong together");
  return file;
}

Status write_key_file(const std::string& path, const KeyPair& key, KeyKind kind, const Secret& passphrase,
                      Random& random) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (file.get() < 0 && errno == EEXIST)
    return fail(Code::exists,
                fmt::format("{} exists already; move it away first: a key is never overwritten", path));
  if (file.get() < 0) return fail(from_errno(errno, "create " + path));
  if (::fchmod(file.get(), 0600) != 0) return fail(from_errno(errno, "chmod " + path));
  Bytes content = encode_key(key, kind, passphrase, random);
  auto written = write_all(file.get(), content, path);
  wipe(content);
  if (!written) {
    ::unlink(path.c_str());
    return written;
  }
  return sync_parent(path);
}

Result<Bytes> read_key_file(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return fail(from_errno(errno, "open " + path));
  struct stat facts;
  if (::fstat(file.get(), &facts) != 0) return fail(from_errno(errno, "stat " + path));
  if (!S_ISREG(facts.st_mode)) return fail(Code::protocol, fmt::format("{} is not a key file", path));
  if ((facts.st_mode & 077) != 0)
    return fail(Code::not_permitted,
                fmt::format("{} has mode {:04o}, so that others may use the key; run: chmod 600 {}", path,
                            unsigned(facts.st_mode & 07777), path));
  if (facts.st_size > off_t(kMaxKeyFileBytes))
    return fail(Code::protocol, fmt::format("{} is not a key file", path));
  Bytes content(kMaxKeyFileBytes);
  size_t length = 0;
  while (length < content.size()) {
    const ssize_t got = ::read(file.get(), content.data() + length, content.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(from_errno(errno, "read " + path));
    if (got == 0) break;
    length += size_t(got);
  }
  content.resize(length);
  return content;
}

}  // namespace efs
