// Commands on files: what is printed, what changes, which exit code.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>

#include "test/unit/tools/fake_peer.h"

namespace efs::tools {

namespace {

// A directory of this machine that goes away again.
struct Scratch {
  Scratch() {
    char name[] = "/tmp/efs-tools-XXXXXX";
    path = mkdtemp(name);
  }
  ~Scratch() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(path + "/" + name).parent_path());
    std::ofstream(path + "/" + name, std::ios::binary) << content;
    return path + "/" + name;
  }
  std::string read(const std::string& name) {
    std::ifstream file(path + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string path;
};

struct TreeFixture : Fixture {
  TreeFixture() {
    peer.make("/docs", S_IFDIR | 0755);
    peer.make("/docs/a.txt", S_IFREG | 0644, "hello\n");
    peer.make("/docs/b.jpg", S_IFREG | 0600, "picture");
    peer.make("/docs/.hidden", S_IFREG | 0644, "");
    peer.make("/docs/deep", S_IFDIR | 0700);
    peer.make("/docs/deep/c.txt", S_IFREG | 0644, "deep");
    peer.make("/link", S_IFLNK | 0777, "docs/a.txt");
    peer.make_volume("/other");
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(tools_files, TreeFixture)

BOOST_AUTO_TEST_CASE(ls_lists_as_ls_does) {
  BOOST_TEST(run({"ls"}) == 0);
  BOOST_TEST(out.str() == "docs\nlink\nother\n");
  BOOST_TEST(run({"ls", "-a", "/docs"}) == 0);
  BOOST_TEST(out.str() == ".hidden\na.txt\nb.jpg\ndeep\n");
  BOOST_TEST(run({"ls", "-p", "docs"}) == 0);
  BOOST_TEST(out.str() == "a.txt\nb.jpg\ndeep/\n");
  BOOST_TEST(run({"ls", "-l", "/"}) == 0);
  BOOST_TEST(out.str().find("lrwxrwxrwx") != std::string::npos);
  BOOST_TEST(out.str().find("link -> docs/a.txt") != std::string::npos);
  BOOST_TEST(run({"ls", "--json", "/docs/a.txt"}) == 0);
  auto json = nlohmann::json::parse(out.str());
  BOOST_TEST(json.size() == 1u);
  BOOST_TEST(json[0]["type"] == "file");
  BOOST_TEST(json[0]["size"] == 6);
  BOOST_TEST(json[0]["mode"] == "0644");
}

BOOST_AUTO_TEST_CASE(a_volume_that_nobody_answers_for_is_still_listed) {
  peer.unreachable.insert("/other");
  BOOST_TEST(run({"ls", "/"}) == 0);
  BOOST_TEST(out.str() == "docs\nlink\nother\n");
  BOOST_TEST(run({"find", "/"}) == 4);
  BOOST_TEST(err.str().find("cannot list /other: no owner of its volume can be reached") !=
             std::string::npos);
  BOOST_TEST(out.str().find("/docs/deep/c.txt") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(errors_say_what_and_have_their_exit_codes) {
  BOOST_TEST(run({"ls", "/none"}) == 5);
  BOOST_TEST(err.str() == "efs: cannot list /none: it does not exist\n");
  peer.denied.insert("/docs");
  BOOST_TEST(run({"ls", "/docs"}) == 3);
  BOOST_TEST(run({"cat", "/docs/deep"}) == 1);
  BOOST_TEST(run({"rm", "/docs/deep"}) == 1);
  BOOST_TEST(err.str() == "efs: cannot remove /docs/deep: it is a directory; use rm -r\n");
  BOOST_TEST(run({"rm", "-r", "/"}) == 2);
  BOOST_TEST(run({"chmod", "u+q", "/docs"}) == 2);
  BOOST_TEST(run({"mv", "/docs", "/docs/deep"}) == 2);
  // The first failure decides; the rest is still done.
  BOOST_TEST(run({"cat", "/none", "/docs/a.txt"}) == 5);
  BOOST_TEST(out.str() == "hello\n");
}

BOOST_AUTO_TEST_CASE(wrong_usage_is_2_and_help_is_0) {
  BOOST_TEST(run({"nonsense"}) == 2);
  BOOST_TEST(run({"cat"}) == 2);
  BOOST_TEST(err.str() == "efs: wrong usage: PATH is required; see 'efs cat --help'\n");
  BOOST_TEST(run({"ls", "--nonsense"}) == 2);
  BOOST_TEST(run({"put", "x"}) == 2);
  BOOST_TEST(run({}) == 2);
  BOOST_TEST(run({"find", "/", "-type", "q"}) == 2);
  for (const auto& name : efs_command_names()) {
    BOOST_TEST(run({name, "--help"}) == 0);
    BOOST_TEST(out.str().find("Example:") != std::string::npos, name << " has no example");
  }
}

BOOST_AUTO_TEST_CASE(find_tree_du_stat) {
  BOOST_TEST(run({"find", "/docs", "-name", "*.txt", "-type", "f"}) == 0);
  BOOST_TEST(out.str() == "/docs/a.txt\n/docs/deep/c.txt\n");
  BOOST_TEST(run({"tree", "/docs"}) == 0);
  BOOST_TEST(out.str() == "/docs\n├── a.txt\n├── b.jpg\n└── deep\n    └── c.txt\n\n1 directories, 3 files\n");
  BOOST_TEST(run({"du", "-b", "/docs"}) == 0);
  BOOST_TEST(out.str() == "512         /docs/deep\n1536        /docs\n");
  BOOST_TEST(run({"stat", "--json", "/link"}) == 0);
  auto json = nlohmann::json::parse(out.str());
  BOOST_TEST(json[0]["target"] == "docs/a.txt");
  BOOST_TEST(json[0]["prefix"] == "/");
}

BOOST_AUTO_TEST_CASE(directories_links_and_times) {
  BOOST_TEST(run({"mkdir", "/x/y"}) == 5);
  BOOST_TEST(run({"mkdir", "-p", "/x/y/z"}) == 0);
  BOOST_TEST(peer.find("/x/y/z")->attributes.mode == uint32_t(S_IFDIR | 0755));
  BOOST_TEST(run({"mkdir", "/x"}) == 1);
  BOOST_TEST(run({"touch", "/x/new"}) == 0);
  BOOST_TEST(peer.find("/x/new")->attributes.mode == uint32_t(S_IFREG | 0644));
  BOOST_TEST(run({"touch", "/x/new"}) == 0);
  BOOST_TEST(peer.find("/x/new")->attributes.mtime_ns == 42);
  BOOST_TEST(run({"ln", "-s", "../docs", "/x/up"}) == 0);
  BOOST_TEST(peer.content("/x/up") == "../docs");
  BOOST_TEST(run({"ln", "/docs/a.txt", "/x/y"}) == 0);
  BOOST_TEST(peer.content("/x/y/a.txt") == "hello\n");
  BOOST_TEST(run({"ln", "/docs/a.txt", "/other/a"}) == 1);
  BOOST_TEST(err.str().find("different volumes") != std::string::npos);
  BOOST_TEST(run({"chmod", "-R", "go-rwx", "/docs"}) == 0);
  BOOST_TEST(peer.find("/docs/deep/c.txt")->attributes.mode == uint32_t(S_IFREG | 0600));
  BOOST_TEST(run({"chmod", "-w", "/docs/a.txt"}) == 0);
  BOOST_TEST(peer.find("/docs/a.txt")->attributes.mode == uint32_t(S_IFREG | 0400));
  BOOST_TEST(run({"chown", "12345:54321", "/docs/a.txt"}) == 0);
  BOOST_TEST(peer.find("/docs/a.txt")->attributes.uid == 12345u);
  BOOST_TEST(peer.find("/docs/a.txt")->attributes.gid == 54321u);
  BOOST_TEST(run({"chown", "no-such-user-here", "/docs"}) == 2);
}

BOOST_AUTO_TEST_CASE(rm_and_mv) {
  BOOST_TEST(run({"mv", "/docs/a.txt", "/docs/deep"}) == 0);
  BOOST_TEST(peer.content("/docs/deep/a.txt") == "hello\n");
  BOOST_TEST(run({"mv", "/docs/deep", "/other/moved"}) == 0);  // into another volume
  BOOST_TEST(peer.content("/other/moved/c.txt") == "deep");
  BOOST_TEST((peer.find("/docs/deep") == nullptr));
  BOOST_TEST(run({"rm", "-r", "/docs"}) == 0);
  BOOST_TEST((peer.find("/docs") == nullptr));
  BOOST_TEST(run({"rm", "-f", "/docs"}) == 0);
  BOOST_TEST(run({"rm", "/docs"}) == 5);
}

BOOST_AUTO_TEST_CASE(rm_does_not_reach_into_volumes) {
  peer.make("/d", S_IFDIR | 0755);
  peer.make_volume("/d/v");
  peer.make("/d/v/keep", S_IFREG | 0644, "kept");
  BOOST_TEST(run({"rm", "-r", "/d"}) == 1);
  BOOST_TEST(err.str().find("'efs volume rm'") != std::string::npos);
  BOOST_TEST(peer.content("/d/v/keep") == "kept");
}

BOOST_AUTO_TEST_CASE(put_and_get_keep_every_byte_and_hole) {
  Scratch scratch;
  std::string big(3 << 20, '\0');
  for (size_t i = 0; i < 1000; ++i) big[i] = big[big.size() - 1 - i] = char(i);
  std::string local = scratch.write("in/big", big);
  scratch.write("in/sub/small", "small");
  std::filesystem::create_symlink("sub/small", scratch.path + "/in/link");
  BOOST_TEST(run({"put", scratch.path + "/in", "/other"}) == 0);
  BOOST_CHECK(peer.content("/other/in/big") == big);
  BOOST_TEST(peer.content("/other/in/sub/small") == "small");
  BOOST_TEST(peer.content("/other/in/link") == "sub/small");
  BOOST_TEST(peer.syncs == 1);  // durable, one sync for the volume
  BOOST_TEST(run({"get", "/other/in", scratch.path + "/out"}) == 0);
  BOOST_CHECK(scratch.read("out/big") == big);
  BOOST_TEST(scratch.read("out/sub/small") == "small");
  BOOST_TEST(std::filesystem::read_symlink(scratch.path + "/out/link") == "sub/small");
  BOOST_TEST(run({"cp", "/other/in", "/docs"}) == 1);
  BOOST_TEST(run({"cp", "-r", "/other/in", "/docs"}) == 0);
  BOOST_CHECK(peer.content("/docs/in/big") == big);
  // A file that ends in a hole, over a longer one.
  truncate(local.c_str(), 5);
  truncate(local.c_str(), 2 << 20);
  BOOST_TEST(run({"put", local, "/other/in/big"}) == 0);
  BOOST_CHECK(peer.content("/other/in/big") == big.substr(0, 5) + std::string((2 << 20) - 5, '\0'));
}

BOOST_AUTO_TEST_CASE(dash_is_standard_input_and_output) {
  in.str(std::string(1500000, 'x') + "end");
  BOOST_TEST(run({"put", "-", "/docs/piped"}) == 0);
  BOOST_TEST(peer.content("/docs/piped").size() == 1500003u);
  BOOST_TEST(run({"get", "/docs/piped", "-"}) == 0);
  BOOST_TEST(out.str() == peer.content("/docs/piped"));
  BOOST_TEST(run({"put", "-", "/docs"}) == 1);
  BOOST_TEST(run({"get", "/docs/none", "-"}) == 5);
}

BOOST_AUTO_TEST_CASE(put_says_what_failed_and_goes_on) {
  Scratch scratch;
  scratch.write("in/a", "a");
  mkfifo((scratch.path + "/in/fifo").c_str(), 0600);
  scratch.write("in/z", "z");
  BOOST_TEST(run({"put", scratch.path + "/in", "/new"}) == 1);
  BOOST_TEST(peer.content("/new/a") == "a");
  BOOST_TEST(peer.content("/new/z") == "z");
  BOOST_TEST(err.str().find("in/fifo to /new/fifo: it is neither file, directory nor symbolic link") !=
             std::string::npos);
  BOOST_TEST(run({"put", scratch.path + "/none", "/new"}) == 5);
}

BOOST_AUTO_TEST_CASE(preserve_keeps_mode_and_times) {
  Scratch scratch;
  std::string local = scratch.write("tool", "#!");
  chmod(local.c_str(), 0751);
  timespec times[2] = {{1000, 0}, {1000, 7}};
  utimensat(AT_FDCWD, local.c_str(), times, 0);
  BOOST_TEST(run({"put", "-p", local, "/docs/"}) == 0);
  BOOST_TEST((peer.find("/docs/tool")->attributes.mode & 07777) == 0751u);
  BOOST_TEST(peer.find("/docs/tool")->attributes.mtime_ns == 1000 * kSecond + 7);
}

BOOST_AUTO_TEST_CASE(a_bar_is_drawn_on_terminals_when_it_takes_long) {
  std::string big(5 << 20, 'x');
  peer.make("/big", S_IFREG | 0644, big);
  Scratch scratch;
  BOOST_TEST(run({"get", "/big", scratch.path + "/big"}) == 0);
  BOOST_TEST(err.str() == "");
  context.terminal.errors = true;
  BOOST_TEST(run({"get", "/big", scratch.path + "/big"}) == 0);
  BOOST_TEST(err.str() == "");  // it was quick
  clock.step = kSecond;
  BOOST_TEST(run({"get", "/big", scratch.path + "/big"}) == 0);
  BOOST_TEST(err.str().find("% of 5.0 MiB") != std::string::npos);
  BOOST_TEST(err.str().find(" left") != std::string::npos);
  BOOST_TEST(run({"--quiet", "get", "/big", scratch.path + "/big"}) == 0);
  BOOST_TEST(err.str() == "");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace efs::tools
