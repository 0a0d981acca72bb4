// Key files: their text, passphrases, modes, and what is refused with which words.
#include "peer/identity/key_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>

#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

struct Directory {
  Directory() {
    char name[] = "/tmp/efs-key-test-XXXXXX";
    BOOST_REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string path;
};

Secret words(std::string_view text) {
  return Secret::copy_of(view(text));
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  BOOST_REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

BOOST_AUTO_TEST_CASE(keys_survive_their_files) {
  SeededRandom random(1);
  for (KeyKind kind :
       {KeyKind::root, KeyKind::recovery, KeyKind::administrator, KeyKind::user, KeyKind::peer}) {
    KeyPair key = KeyPair::generate(random);
    const Bytes content = encode_key(key, kind, {}, random);
    BOOST_CHECK(text(content).starts_with("efs key 1\nkind: "));
    auto parsed = parse_key(content, {});
    check_ok(parsed);
    BOOST_CHECK(parsed->kind == kind);
    BOOST_CHECK(parsed->key.public_key() == key.public_key());
    BOOST_CHECK(!inspect_key(content)->sealed);
  }
}

BOOST_AUTO_TEST_CASE(passphrases_seal_keys) {
  SeededRandom random(1);
  KeyPair key = KeyPair::generate(random);
  const Bytes content = encode_key(key, KeyKind::root, words("correct horse"), random);
  BOOST_CHECK(text(content).find(to_hex(key.seed().reveal())) == std::string_view::npos);
  auto facts = inspect_key(content);
  check_ok(facts);
  BOOST_CHECK(facts->sealed);
  BOOST_CHECK(facts->public_key == key.public_key());
  auto parsed = parse_key(content, words("correct horse"));
  check_ok(parsed);
  BOOST_CHECK(parsed->key.public_key() == key.public_key());
  check_refused(parse_key(content, words("wrong")), Code::access_denied, "the passphrase is wrong");
  check_refused(parse_key(content, {}), Code::access_denied, "sealed with a passphrase");
}

BOOST_AUTO_TEST_CASE(what_is_no_key_file_is_said_so) {
  SeededRandom random(1);
  KeyPair key = KeyPair::generate(random), other = KeyPair::generate(random);
  const Bytes content = encode_key(key, KeyKind::root, {}, random);
  const std::string good(text(content));
  auto parse = [](const std::string& bad) { return parse_key(view(bad), {}); };
  check_refused(parse(""), Code::protocol, "not a key file");
  check_refused(parse("-----BEGIN PRIVATE KEY-----\n"), Code::protocol, "not a key file");
  check_refused(parse("efs key 1" + std::string(10000, ' ')), Code::protocol, "not a key file");
  check_refused(parse(replaced(good, "key 1", "key 2")), Code::version, "install a newer efs");
  check_refused(parse("efs key 1"), Code::protocol, "ends after its first line");
  check_refused(parse(replaced(good, "root", "king")), Code::protocol, "which kind");
  check_refused(parse(replaced(good, "public: ", "public: x")), Code::protocol, "public key");
  check_refused(parse(replaced(good, "seed: ", "seed: x")), Code::protocol, "64 hex digits");
  check_refused(parse(replaced(good, "seed: ", "sealed: ")), Code::protocol, "wrong length");
  check_refused(parse(replaced(good, "seed: ", "other: ")), Code::protocol, "either a seed or a sealed part");
  check_refused(parse(replaced(good, to_hex(key.public_key()), to_hex(other.public_key()))), Code::protocol,
                "belong together");
  check_ok(parse(good + "comment: kept for later\r\n"));
}

BOOST_AUTO_TEST_CASE(files_are_private_and_never_overwritten) {
  Directory directory;
  SeededRandom random(1);
  KeyPair key = KeyPair::generate(random);
  const std::string path = directory.path + "/root.key";
  const mode_t mask = ::umask(0);
  auto written = write_key_file(path, key, KeyKind::root, {}, random);
  ::umask(mask);
  check_ok(written);
  BOOST_CHECK_EQUAL(unsigned(std::filesystem::status(path).permissions()), 0600u);
  auto content = read_key_file(path);
  check_ok(content);
  BOOST_CHECK(parse_key(*content, {})->key.public_key() == key.public_key());
  check_refused(write_key_file(path, key, KeyKind::root, {}, random), Code::exists, "never overwritten");
  for (unsigned mode : {0640u, 0604u, 0620u, 0666u}) {
    BOOST_REQUIRE_EQUAL(::chmod(path.c_str(), mode), 0);
    check_refused(read_key_file(path), Code::not_permitted, "run: chmod 600 " + path);
  }
  BOOST_REQUIRE_EQUAL(::chmod(path.c_str(), 0400), 0);
  check_ok(read_key_file(path));
  check_refused(read_key_file(directory.path + "/none"), Code::not_found, "open " + directory.path + "/none");
  check_refused(read_key_file(directory.path), Code::protocol, "is not a key file");
  check_refused(write_key_file(directory.path + "/no/such.key", key, KeyKind::root, {}, random),
                Code::not_found, "create");
  check_refused(write_key_file(path + "/x", key, KeyKind::root, {}, random), Code::not_directory, "create");
}

}  // namespace
}  // namespace efs
