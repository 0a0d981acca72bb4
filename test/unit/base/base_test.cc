// Bytes, hashes (against published vectors), secrets, error names.
#include <boost/test/unit_test.hpp>

#include "peer/base/bytes.h"
#include "peer/base/error.h"
#include "peer/base/hash.h"
#include "peer/base/secret.h"

namespace efs {
namespace {

BOOST_AUTO_TEST_CASE(crc32c_vectors) {
  // RFC 3720, B.4.
  BOOST_CHECK_EQUAL(crc32c(Bytes(32, 0)), 0x8a9136aau);
  BOOST_CHECK_EQUAL(crc32c(Bytes(32, 0xff)), 0x62a8ab43u);
  BOOST_CHECK_EQUAL(crc32c(view("123456789")), 0xe3069283u);
  BOOST_CHECK_EQUAL(crc32c(view("6789"), crc32c(view("12345"))), 0xe3069283u);
}

BOOST_AUTO_TEST_CASE(hash_vectors) {
  // FIPS 180-4 example; RFC 7693's BLAKE2 with a 32-byte digest of "abc".
  BOOST_CHECK_EQUAL(to_hex(sha256(view("abc"))),
                    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  BOOST_CHECK_EQUAL(to_hex(blake2b(view("abc"))),
                    "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

BOOST_AUTO_TEST_CASE(text_forms) {
  BOOST_CHECK_EQUAL(to_hex(Bytes{0, 255, 16}), "00ff10");
  BOOST_CHECK(!from_hex("0"));
  BOOST_CHECK(!from_hex("zz"));
  BOOST_CHECK(*from_hex("00fF10") == (Bytes{0, 255, 16}));
  for (size_t length = 0; length < 70; ++length) {
    Bytes bytes(length, uint8_t(length * 37));
    BOOST_CHECK(*from_base64(to_base64(bytes)) == bytes);
  }
  BOOST_CHECK(!from_base64("a*b"));
  BOOST_CHECK_EQUAL(*parse_size("10G"), 10ull << 30);
  BOOST_CHECK_EQUAL(*parse_size("1MiB"), 1ull << 20);
  BOOST_CHECK_EQUAL(*parse_size("7"), 7ull);
  BOOST_CHECK(!parse_size("G"));
  BOOST_CHECK(!parse_size("10X"));
  BOOST_CHECK(!parse_size("99999999999E"));
}

BOOST_AUTO_TEST_CASE(big_endian_keys_sort) {
  std::string a, b;
  put_be<uint64_t>(a, 255);
  put_be<uint64_t>(b, 256);
  BOOST_CHECK(a < b);
  BOOST_CHECK_EQUAL(get_be<uint64_t>(b.data()), 256u);
}

BOOST_AUTO_TEST_CASE(secrets) {
  Secret secret = Secret::copy_of(Bytes{1, 2, 3});
  BOOST_CHECK(secret.equals(Bytes{1, 2, 3}));
  BOOST_CHECK(!secret.equals(Bytes{1, 2, 4}));
  BOOST_CHECK(!secret.equals(Bytes{1, 2}));
  Secret moved = std::move(secret);
  BOOST_CHECK(moved.clone().equals(moved.reveal()));
  static_assert(!std::is_copy_constructible_v<Secret>);
}

BOOST_AUTO_TEST_CASE(errno_round_trip) {
  for (int number : {ENOENT, EEXIST, ENOTEMPTY, EACCES, EPERM, ENOSPC, EXDEV, ESTALE, EIO}) {
    BOOST_CHECK_EQUAL(to_errno(from_errno(number, "x").code), number);
  }
  BOOST_CHECK_EQUAL(from_errno(ENOENT, "open /x").message, "open /x: No such file or directory");
}

}  // namespace
}  // namespace efs
