// Prefixes match by whole components; names are what every host can take.
#include "peer/identity/prefix.h"

#include <boost/test/unit_test.hpp>

#include "peer/identity/time_text.h"
#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

BOOST_AUTO_TEST_CASE(prefixes_cover_whole_components) {
  BOOST_CHECK(prefix_covers("/", "/"));
  BOOST_CHECK(prefix_covers("/", "/a"));
  BOOST_CHECK(prefix_covers("/zxt", "/zxt"));
  BOOST_CHECK(prefix_covers("/zxt", "/zxt/a"));
  BOOST_CHECK(!prefix_covers("/zxt", "/zxtra"));
  BOOST_CHECK(!prefix_covers("/zxt/a", "/zxt"));
  BOOST_CHECK(!prefix_covers("", "/zxt"));
  BOOST_CHECK(!prefix_covers("/", ""));
}

BOOST_AUTO_TEST_CASE(prefixes_are_canonical) {
  for (const char* good : {"/", "/a", "/a/b", "/...", "/ä b", "/a.b"}) check_ok(check_prefix(good));
  for (const char* bad : {"", "a", "//", "/a/", "/a//b", "/.", "/a/..", "/../a"})
    check_refused(check_prefix(bad), Code::invalid_argument, "prefix");
  check_refused(check_prefix(std::string_view("/a\0b", 4)), Code::invalid_argument, "zero byte");
  // RFC 3629, 4: the ranges of the second byte, and the ends of each length.
  for (const char* good : {"/\xc2\x80", "/\xdf\xbf", "/\xe0\xa0\x80", "/\xed\x9f\xbf", "/\xef\xbf\xbf",
                           "/\xf0\x90\x80\x80", "/\xf4\x8f\xbf\xbf"})
    check_ok(check_prefix(good));
  for (const char* bad :
       {"/a\nb", "/\x7f", "/\x80", "/\xc0\xaf", "/\xc1\xbf", "/\xc2", "/\xc2\x41", "/\xe0\x9f\xbf",
        "/\xe2\x82", "/\xed\xa0\x80", "/\xf0\x8f\xbf\xbf", "/\xf4\x90\x80\x80", "/\xf5\x80\x80\x80", "/\xff"})
    check_refused(check_prefix(bad), Code::invalid_argument, "UTF-8");
  check_ok(check_prefix(std::string("/").append(255, 'x')));
  check_refused(check_prefix(std::string("/").append(256, 'x')), Code::name_too_long, "255");
  BOOST_CHECK_EQUAL(*to_prefix("/a//b/"), "/a/b");
  BOOST_CHECK_EQUAL(*to_prefix("//"), "/");
  check_refused(to_prefix("a/b"), Code::invalid_argument, "does not start with '/'");
  check_refused(to_prefix("/a/../b"), Code::invalid_argument, "component");
  BOOST_CHECK_EQUAL(parent_prefix("/a/b"), "/a");
  BOOST_CHECK_EQUAL(parent_prefix("/a"), "/");
  BOOST_CHECK_EQUAL(parent_prefix("/"), "");
  BOOST_CHECK_EQUAL(parent_prefix("nonsense"), "");
  BOOST_CHECK_EQUAL(component_count("/"), 0);
  BOOST_CHECK_EQUAL(component_count("/a/b"), 2);
}

BOOST_AUTO_TEST_CASE(names) {
  for (const char* good : {"alice", "_x", "a-b.c_d9"}) check_ok(check_user_name(good, "user"));
  for (const char* bad : {"", "Alice", "9a", "a b", "a/b", "-a", "@a", "*", "\xc3\xa4"})
    check_refused(check_user_name(bad, "user"), Code::invalid_argument, "no name for a user");
  check_refused(check_user_name(std::string(33, 'a'), "user"), Code::invalid_argument, "no name");
  for (const char* good : {"first", "Host-1.example.org", "9"}) check_ok(check_peer_name(good, "peer"));
  for (const char* bad : {"", "-a", ".a", "a b", "a/b"})
    check_refused(check_peer_name(bad, "peer"), Code::invalid_argument, "no name");
  BOOST_CHECK_EQUAL(to_peer_name("first"), "first");
  BOOST_CHECK_EQUAL(to_peer_name("my host"), "my-host");
  for (const char* any : {"", "-", "\xff\xfe", "a/b", "...."})
    check_ok(check_peer_name(to_peer_name(any), "peer"));
  check_ok(check_peer_name(to_peer_name(std::string(300, 'x')), "peer"));
}

BOOST_AUTO_TEST_CASE(times_for_people) {
  BOOST_CHECK_EQUAL(utc_text(1'700'000'000 * kSecond), "2023-11-14 22:13 UTC");
  BOOST_CHECK_EQUAL(utc_text(0), "1970-01-01 00:00 UTC");
  BOOST_CHECK(!utc_text(INT64_MIN).empty());
  BOOST_CHECK(!utc_text(INT64_MAX).empty());
}

}  // namespace
}  // namespace efs
