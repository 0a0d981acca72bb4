// Words, paths, modes, tables, times: the pure parts.
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>

#include "peer/base/hash.h"
#include "peer/control/exit_code.h"
#include "peer/control/socket_path.h"
#include "test/unit/tools/fake_peer.h"
#include "tools/duration.h"
#include "tools/line_editor.h"
#include "tools/mode.h"
#include "tools/path.h"
#include "tools/table.h"
#include "tools/words.h"

namespace efs::tools {

BOOST_AUTO_TEST_SUITE(tools_text)

using Words = std::vector<std::string>;

BOOST_AUTO_TEST_CASE(lines_split_as_a_shell_splits_them) {
  BOOST_TEST(*split_words("ls  -l /a\\ b 'c d' \"e \\\" f\" g'h'i # rest") ==
             (Words{"ls", "-l", "/a b", "c d", "e \" f", "ghi"}));
  BOOST_CHECK(*split_words("  ") == Words{});
  BOOST_CHECK(*split_words("put '' a#b") == (Words{"put", "", "a#b"}));
  BOOST_CHECK(*split_words("x \"\\n\"") == (Words{"x", "\\n"}));
  BOOST_CHECK(split_words("ls 'a").error().code == Code::invalid_argument);
  BOOST_CHECK(split_words("ls a\\").error().code == Code::invalid_argument);
}

BOOST_AUTO_TEST_CASE(quoted_words_come_back) {
  for (std::string word :
       {"plain", "two words", "it's", "a\"b", "back\\slash", "#no comment", "$x `y` *?", ""})
    BOOST_CHECK(*split_words("x " + quote_word(word)) == (Words{"x", word}));
  for (char quote : {'\'', '"'}) {
    std::string word = "it's \"a\" $b \\c";
    std::string line = "x " + std::string(1, quote) + quote_inside(word, quote) + quote;
    BOOST_CHECK(*split_words(line) == (Words{"x", word}));
  }
}

BOOST_AUTO_TEST_CASE(the_last_word_knows_where_it_begins) {
  auto open = last_word("cat '/a b");
  BOOST_TEST(open.begin == 4u);
  BOOST_TEST(open.text == "/a b");
  BOOST_TEST(open.quote == '\'');
  BOOST_CHECK(open.before == Words{"cat"});
  auto empty = last_word("cat x ");
  BOOST_TEST(empty.begin == 6u);
  BOOST_TEST(empty.text == "");
  BOOST_CHECK(empty.before == (Words{"cat", "x"}));
}

BOOST_AUTO_TEST_CASE(completions_are_inserted_quoted) {
  auto one = insertion_for({4, {"/a b.txt"}, 0});
  BOOST_TEST(one.text == "/a\\ b.txt");
  BOOST_TEST(one.whole);
  auto directory = insertion_for({4, {"/a b/"}, '"'});
  BOOST_TEST(directory.text == "\"/a b/");
  BOOST_TEST(!directory.whole);
  BOOST_TEST(insertion_for({4, {"/abc", "/abd"}, 0}).text == "/ab");
  BOOST_TEST(common_start({"\xc3\xa4", "\xc3\xb6"}) == "");  // a and o umlaut share a byte, no character
}

BOOST_AUTO_TEST_CASE(paths_are_made_absolute) {
  BOOST_TEST(absolute_path("/x", "a/../b") == "/x/b");
  BOOST_TEST(absolute_path("/x", "/a//b/.") == "/a/b");
  BOOST_TEST(absolute_path("/x/y", "../..") == "/");
  BOOST_TEST(absolute_path("/", "../../a") == "/a");
  BOOST_TEST(absolute_path("/x", "") == "/x");
  BOOST_TEST(parent_path("/a") == "/");
  BOOST_TEST(parent_path("/a/b") == "/a");
  BOOST_TEST(base_name("/a/b") == "b");
  BOOST_TEST(is_below("/a/b", "/a"));
  BOOST_TEST(!is_below("/ab", "/a"));
  BOOST_TEST(is_below("/ab", "/"));
}

BOOST_AUTO_TEST_CASE(modes_are_read_as_chmod_reads_them) {
  BOOST_TEST(*apply_mode("755", S_IFREG | 0600, 022) == 0755u);
  BOOST_TEST(*apply_mode("u+x,go-r", S_IFREG | 0644, 022) == 0700u);
  BOOST_TEST(*apply_mode("a=rX", S_IFDIR | 0700, 022) == 0555u);
  BOOST_TEST(*apply_mode("a+X", S_IFREG | 0644, 022) == 0644u);
  BOOST_TEST(*apply_mode("+w", S_IFREG | 0444, 022) == 0644u);
  BOOST_TEST(*apply_mode("g=u", S_IFREG | 0640, 022) == 0660u);
  BOOST_TEST(*apply_mode("u+s,+t", S_IFREG | 0755, 022) == 05755u);
  for (const char* wrong : {"", "9", "888", "u", "u+q", "77777", "u+x,", "x+u"})
    BOOST_CHECK_MESSAGE(!apply_mode(wrong, 0644, 022), wrong);
}

BOOST_AUTO_TEST_CASE(tables_align_what_people_see) {
  std::stringstream out;
  Table table({"NAME", "SIZE"}, {1});
  table.row({"\xc3\xa4", "5"});
  table.row({"a\nb", "1234567"});
  table.print(out);
  BOOST_TEST(out.str() == "NAME     SIZE\n\xc3\xa4           5\na?b   1234567\n");
  std::stringstream columns;
  print_columns(columns, {"a", "b", "c"}, 8);
  BOOST_TEST(columns.str() == "a  c\nb\n");
  BOOST_TEST(mode_text(S_IFDIR | S_ISVTX | 0754) == "drwxr-xr-T");
  BOOST_TEST(mode_text(S_IFREG | S_ISUID | 0755) == "-rwsr-xr-x");
  BOOST_TEST(duration_text(65) == "1:05");
  BOOST_TEST(duration_text(7384) == "2:03:04");
}

BOOST_AUTO_TEST_CASE(times_and_spans_are_read) {
  BOOST_TEST(*parse_duration("24h") == 86400);
  BOOST_TEST(*parse_duration("2w") == 14 * 86400);
  for (const char* wrong :
       {"", "0h", "-1h", "5", "5y", "h", "99999999999999999999h", "5000w0", "900000000000w"})
    BOOST_CHECK_MESSAGE(!parse_duration(wrong), wrong);
  BOOST_TEST(*parse_time("1970-01-02", 0) == 86400 * kSecond);
  BOOST_TEST(*parse_time("1970-01-01 01:00", 0) == 3600 * kSecond);
  BOOST_TEST(*parse_time("1h", 7200 * kSecond) == 3600 * kSecond);
  BOOST_CHECK(!parse_time("yesterday", 0));
}

BOOST_AUTO_TEST_CASE(codes_have_their_exit_codes) {
  BOOST_TEST(exit_code_of(Code::ok) == 0);
  BOOST_TEST(exit_code_of(Code::unsupported) == 1);
  BOOST_TEST(exit_code_of(Code::invalid_argument) == 2);
  BOOST_TEST(exit_code_of(Code::access_denied) == 3);
  BOOST_TEST(exit_code_of(Code::unauthorized) == 3);
  BOOST_TEST(exit_code_of(Code::unreachable) == 4);
  BOOST_TEST(exit_code_of(Code::not_found) == 5);
}

BOOST_AUTO_TEST_CASE(each_data_directory_has_its_socket) {
  Surroundings root{0, "/root", "", ""};
  BOOST_TEST(socket_path("/var/lib/efs", root) == "/run/efs/peer.sock");
  BOOST_TEST(socket_path("/var/lib/efs/", root) == "/run/efs/peer.sock");
  std::string other = socket_path("/nonexistent/data", root);
  BOOST_TEST(other == "/run/efs/" + to_hex(blake2b(view("/nonexistent/data"))).substr(0, 16) + ".sock");
  BOOST_TEST(socket_path("/nonexistent/x/../data", root) == other);
  Surroundings user{1000, "/home/ann", "/run/user/1000", ""};
  BOOST_TEST(socket_path("/home/ann/.local/share/efs", user) == "/run/user/1000/efs/peer.sock");
  BOOST_CHECK(socket_candidates("", user) == (Words{"/run/efs/peer.sock", "/run/user/1000/efs/peer.sock"}));
  BOOST_CHECK(socket_candidates("", root) == (Words{"/run/efs/peer.sock"}));
  user.data = "/nonexistent/data";
  BOOST_TEST(socket_candidates("", user).front() == other);
  BOOST_TEST(socket_candidates("", user).back().starts_with("/run/user/1000/efs/"));
  auto none = find_socket("/nonexistent/a.sock", "", user);
  BOOST_CHECK(none.error().code == Code::unreachable);
  BOOST_TEST(none.error().message.find("/nonexistent/a.sock") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace efs::tools
