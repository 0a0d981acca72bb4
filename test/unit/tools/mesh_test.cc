// Commands on the mesh, and the shell: what is asked of the peer, what is printed, what is refused.
#include <sys/stat.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>

#include "test/unit/tools/fake_peer.h"
#include "tools/shell.h"

namespace efs::tools {

namespace {

const char* kStatus = R"({"health": "HEALTH_WARN", "reasons": ["root.key lies here", "third is down"],
  "peers": [{"id": "aaaaaaaaaaaaaaaa", "name": "first", "address": "10.0.0.1:7400", "state": "up", "used_bytes": 1024,
             "capacity_bytes": 1048576, "version": "0.1.0", "rtt_ms": null, "clock_offset_ms": 0.25},
            {"id": "bbbbbbbbbbbbbbbb", "name": "third", "address": "10.0.0.3:7400", "state": "down", "used_bytes": 0,
             "capacity_bytes": 0, "version": "0.1.0", "rtt_ms": 1.5, "clock_offset_ms": -3}],
  "volumes": [{"id": "cc", "prefix": "/", "owners": ["bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa"],
               "leader": "aaaaaaaaaaaaaaaa", "state": "ok", "used_bytes": 2048, "files": 7}]})";

struct MeshFixture : Fixture {
  MeshFixture() {
    peer.results["status"] = nlohmann::json::parse(kStatus);
    peer.results["peer.ls"] = {{"peers", peer.results["status"]["peers"]}};
    peer.results["volume.ls"] = {{"volumes", peer.results["status"]["volumes"]}};
  }
  const nlohmann::json& last(const std::string& name) {
    for (auto at = peer.commands.rbegin(); at != peer.commands.rend(); ++at) {
      if (at->first == name) return at->second;
    }
    static const nlohmann::json none;
    return none;
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(tools_mesh, MeshFixture)

BOOST_AUTO_TEST_CASE(status_has_health_first_and_json_as_it_came) {
  BOOST_TEST(run({"status"}) == 0);
  std::string text = out.str();
  BOOST_TEST(text.starts_with("HEALTH_WARN: root.key lies here; third is down\n"));
  BOOST_TEST(text.find("first,third") != std::string::npos);  // the leader first
  BOOST_TEST(text.find("-3.0 ms") != std::string::npos);
  BOOST_TEST(run({"status", "--quiet"}) == 0);
  BOOST_TEST(out.str() == "HEALTH_WARN: root.key lies here; third is down\n");
  BOOST_TEST(run({"status", "--json"}) == 0);
  BOOST_CHECK(nlohmann::json::parse(out.str()) == peer.results["status"]);
  BOOST_TEST(run({"--json", "status"}) == 0);
  BOOST_CHECK(nlohmann::json::parse(out.str()) == peer.results["status"]);
}

BOOST_AUTO_TEST_CASE(status_without_a_peer_is_4) {
  peer.down = true;
  BOOST_TEST(run({"status"}) == 4);
  BOOST_TEST(err.str() == "efs: cannot tell the status: no peer runs on this machine\n");
}

BOOST_AUTO_TEST_CASE(volumes_are_made_listed_and_removed) {
  peer.results["volume.create"] = {{"id", "dd"}, {"prefix", "/v"}, {"owners", {"aaaaaaaaaaaaaaaa"}}};
  BOOST_TEST(run({"volume", "create", "/v/", "--on", "first"}) == 0);
  BOOST_TEST(out.str() == "created /v on first\n");
  BOOST_CHECK(last("volume.create") ==
              nlohmann::json({{"prefix", "/v"}, {"replicas", 1}, {"on", {"first"}}, {"data", "owners"}}));
  BOOST_TEST(run({"volume", "ls"}) == 0);
  BOOST_TEST(out.str() ==
             "VOLUME  OWNERS       STATE     USED  FILES\n/       first,third  ok     2.0 KiB      7\n");
  BOOST_TEST(run({"volume", "rm", "/v"}) == 2);  // without a terminal, --yes
  BOOST_TEST(err.str().find("--yes") != std::string::npos);
  BOOST_TEST(last("volume.rm").is_null());
  BOOST_TEST(run({"volume", "rm", "/v", "--yes"}) == 0);
  BOOST_TEST(last("volume.rm")["prefix"] == "/v");
  BOOST_TEST(run({"volume", "set", "/v", "nonsense"}) == 2);
  BOOST_TEST(run({"volume", "set", "/v", "quota=5G"}) == 0);
  BOOST_TEST(last("volume.set")["value"] == "5G");
}

BOOST_AUTO_TEST_CASE(questions_are_asked_on_terminals) {
  std::string answer = "n";
  context.terminal.input = true;
  context.terminal.ask = [&](const std::string&, bool) -> Result<std::string> { return answer; };
  BOOST_TEST(run({"peer", "rm", "third"}) == 1);
  BOOST_TEST(err.str().find("This will remove the peer third") != std::string::npos);
  BOOST_TEST(last("peer.rm").is_null());
  answer = "y";
  BOOST_TEST(run({"peer", "rm", "third"}) == 0);
  BOOST_TEST(last("peer.rm")["peer"] == "third");
}

BOOST_AUTO_TEST_CASE(what_is_not_built_says_so) {
  for (std::vector<std::string> line :
       std::vector<std::vector<std::string>>{{"volume", "create", "/v", "--replicas", "3"},
                                             {"volume", "create", "/v", "--data", "spread"},
                                             {"volume", "create", "/v", "--on", "a,b"},
                                             {"volume", "set", "/v", "replicas=3"},
                                             {"volume", "add-owner", "/v", "third"},
                                             {"volume", "remove-owner", "/v", "third"},
                                             {"volume", "move", "/v", "first", "third"},
                                             {"volume", "transfer", "/v", "third"},
                                             {"volume", "recover", "/v", "--from", "third", "--accept-loss"},
                                             {"peer", "drain", "third"},
                                             {"store", "drain", "/disk2"},
                                             {"scrub"},
                                             {"scrub", "/v"},
                                             {"--peer", "10.0.0.2:7400", "--key", "my.key", "ls"}}) {
    BOOST_TEST(run(line) == 1, line[0]);
    BOOST_TEST(err.str().starts_with("efs: not built yet: "), err.str());
    std::string text = err.str();
    BOOST_TEST(std::count(text.begin(), text.end(), '\n') == 1);
  }
  BOOST_TEST(peer.commands.empty());
}

BOOST_AUTO_TEST_CASE(stores_mounts_and_where) {
  peer.results["store.ls"] = nlohmann::json::parse(
      R"({"stores": [{"directory": "/d", "capacity_bytes": 1024, "used_bytes": 512, "chunks": 3, "missing": true}]})");
  BOOST_TEST(run({"store", "ls"}) == 0);
  BOOST_TEST(out.str() ==
             "DIRECTORY   USED  CAPACITY  CHUNKS  STATE\n/d         512 B   1.0 KiB       3  missing\n");
  BOOST_TEST(run({"store", "add", "/disk2/:10G"}) == 0);
  BOOST_CHECK(last("store.add") ==
              nlohmann::json({{"directory", "/disk2"}, {"limit_bytes", uint64_t(10) << 30}}));
  BOOST_TEST(run({"store", "add", "/disk2:lots"}) == 2);
  BOOST_TEST(run({"store", "rm", "/disk2"}) == 2);
  BOOST_TEST(run({"mount", "/mnt/../mnt/efs/", "--read-only"}) == 0);
  BOOST_CHECK(last("mount") == nlohmann::json({{"directory", "/mnt/efs"}, {"read_only", true}}));
  BOOST_TEST(run({"umount", "/mnt/efs"}) == 0);
  peer.results["where"] = nlohmann::json::parse(
      R"({"volume": "cccccccccccccccc", "prefix": "/", "owners": [{"id": "aaaaaaaaaaaaaaaa", "name": "first"}],
          "chunks": [{"offset": 0, "length": 1048576, "chunk": "eeeeeeeeeeeeeeee", "holders": ["bbbbbbbbbbbbbbbb"]}]})");
  BOOST_TEST(run({"where", "/x"}) == 0);
  BOOST_TEST(out.str() ==
             "volume  /  cccccccccccc\nowners  first\n\nOFFSET   LENGTH  CHUNK         HOLDERS\n"
             "     0  1048576  eeeeeeeeeeee  third\n");
  BOOST_TEST(run({"where", "@alice"}) == 0);
  BOOST_TEST(last("where")["user"] == "alice");
  peer.errors["mount"] = {Code::unauthorized, "only root\nmay do that"};
  BOOST_TEST(run({"mount", "/efs"}) == 3);
  BOOST_TEST(err.str() == "efs: cannot mount on /efs: only root may do that\n");  // one line
}

BOOST_AUTO_TEST_CASE(the_shell_has_a_place_to_be_in) {
  peer.make("/a b", S_IFDIR | 0755);
  peer.make("/a b/file one", S_IFREG | 0644, "1");
  BOOST_TEST(run_line(context, options, "cd '/a b'"));
  BOOST_TEST(context.directory == "/a b");
  BOOST_TEST(run_line(context, options, "ls --json"));
  BOOST_TEST(!context.json);  // held for one line
  out.str("");
  BOOST_TEST(run_line(context, options, "cat file\\ one; "));
  BOOST_TEST(err.str().find("file one;") != std::string::npos);  // ';' is no separator here
  out.str("");
  BOOST_TEST(run_line(context, options, "cat file\\ one"));
  BOOST_TEST(out.str() == "1");
  out.str("");
  BOOST_TEST(run_line(context, options, "pwd"));
  BOOST_TEST(out.str() == "/a b\n");
  err.str("");
  BOOST_TEST(run_line(context, options, "cd nowhere"));
  BOOST_TEST(err.str() == "efs: cannot go to /a b/nowhere: it does not exist\n");
  BOOST_TEST(run_line(context, options, "cd .."));
  BOOST_TEST(context.directory == "/");
  BOOST_TEST(run_line(context, options, "   "));
  BOOST_TEST(run_line(context, options, "ls 'open"));
  BOOST_TEST(!run_line(context, options, "exit"));
}

BOOST_AUTO_TEST_CASE(the_shell_outlives_its_peers_restart) {
  BOOST_TEST(run_line(context, options, "ls"));
  peer.down = true;
  err.str("");
  BOOST_TEST(run_line(context, options, "ls"));
  BOOST_TEST(err.str() == "efs: cannot list /: the peer of this machine went away; is efs-peer running?\n");
  peer.down = false;
  err.str("");
  BOOST_TEST(run_line(context, options, "ls"));
  BOOST_TEST(err.str() == "");
  BOOST_TEST(peer.connections == 2);
}

BOOST_AUTO_TEST_CASE(the_shell_completes_commands_and_paths) {
  using Words = std::vector<std::string>;
  peer.make("/docs", S_IFDIR | 0755);
  peer.make("/docs/a one", S_IFREG | 0644);
  peer.make("/docs/a two", S_IFREG | 0644);
  peer.make("/docs/.b", S_IFREG | 0644);
  BOOST_CHECK(complete(context, "st").words == (Words{"stat", "status", "store"}));
  BOOST_CHECK(complete(context, "volume c").words == Words{"create"});
  BOOST_CHECK(complete(context, "ls /d").words == Words{"/docs/"});
  Completion quoted = complete(context, "cat \"/docs/a ");
  BOOST_CHECK(quoted.words == (Words{"/docs/a one", "/docs/a two"}));
  BOOST_TEST(quoted.begin == 4u);
  BOOST_TEST(quoted.quote == '"');
  BOOST_CHECK(complete(context, "cat /docs/a\\ t").words == Words{"/docs/a two"});
  BOOST_CHECK(complete(context, "ls /docs/.").words == Words{"/docs/.b"});
  context.directory = "/docs";
  BOOST_CHECK(complete(context, "cat a").words == (Words{"a one", "a two"}));
  BOOST_CHECK(complete(context, "put /et").words == Words{"/etc/"});  // of this machine
  BOOST_TEST(complete(context, "cat /nowhere/").words.empty());
}

BOOST_AUTO_TEST_CASE(without_a_terminal_there_is_usage_and_no_shell) {
  BOOST_TEST(run_program(context, options, {}) == 2);
  BOOST_TEST(err.str().find("Usage: efs") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace efs::tools
