// efs-keys on a real register: what is proposed, with whose signature, what is printed and written.
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>

#include "test/unit/tools/fake_peer.h"
#include "test/why.h"
#include "tools/keys_commands.h"

namespace efs::tools {

namespace {

struct KeysFixture : Fixture {
  KeysFixture() {
    context.program = "efs-keys";
    char name[] = "/tmp/efs-keys-XXXXXX";
    directory = mkdtemp(name);
    Genesis genesis;
    genesis.name = "acme";
    genesis.roots = {root.public_key()};
    genesis.created_ns = clock.wall;
    const KeyPair* signer = &root;
    auto founding =
        make_founding(sign_genesis(genesis, {&signer, 1}), root, founder, "first", Id{5}, clock.wall, random);
    BOOST_REQUIRE(founding.has_value());
    append_entry(*founding);
    peer.welcome.mesh = state.mesh();
    peer.welcome.peer = peer_id_of(founder.public_key());
  }
  ~KeysFixture() { std::filesystem::remove_all(directory); }

  void append_entry(const Bytes& entry) {
    auto applied = state.apply(entry);
    BOOST_REQUIRE_MESSAGE(applied.has_value(), efs::test::why(applied));
    peer.register_entries.push_back(entry);
  }
  // Puts what was proposed last in its place, as the root volume's owner would.
  void order() {
    const control::Propose& last = peer.proposals.back();
    Result<Bytes> entry = last.signed_proposal.empty()
                              ? make_own_entry(state, *decode<Change>(last.body), founder, clock.wall, random)
                              : make_entry(state, last.signed_proposal, founder, clock.wall);
    BOOST_REQUIRE_MESSAGE(entry.has_value(), efs::test::why(entry));
    append_entry(*entry);
  }
  int run_keys(std::vector<std::string> arguments) {
    out.str("");
    err.str("");
    context.json = context.quiet = context.yes = false;
    keys_options = {};
    keys_options.admin_key = directory + "/admin.key";
    return run_efs_keys(context, keys_options, random, std::move(arguments));
  }

  KeyPair root = KeyPair::generate(random), founder = KeyPair::generate(random);
  RegisterState state;
  KeysOptions keys_options;
  std::string directory;
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(tools_keys, KeysFixture)

BOOST_AUTO_TEST_CASE(users_are_added_with_a_key_file_and_listed) {
  std::string key = directory + "/alice.key";
  BOOST_TEST(run_keys({"user", "add", "alice", "--home", "/home/alice/", "--out", key}) == 0);
  BOOST_TEST(out.str().starts_with("added user alice, uid 10000\nkey: " + key));
  BOOST_TEST(err.str().find("has no passphrase") != std::string::npos);
  struct stat found {};
  BOOST_TEST(stat(key.c_str(), &found) == 0);
  BOOST_TEST((found.st_mode & 0777) == 0600u);
  order();
  BOOST_TEST(state.user("alice")->home == "/home/alice");
  BOOST_TEST(run_keys({"user", "ls"}) == 0);
  BOOST_TEST(out.str() == "USER     UID    GID  GROUPS  HOME\nalice  10000  10000          /home/alice\n");
  BOOST_TEST(run_keys({"user", "add", "alice", "--out", directory + "/x"}) == 1);
  BOOST_TEST(run_keys({"user", "show", "bob"}) == 5);
  BOOST_TEST(run_keys({"user", "add", "Not A Name"}) == 2);
  BOOST_TEST(run_keys({"group", "add", "staff", "--gid", "500"}) == 0);
  order();
  BOOST_TEST(run_keys({"group", "add", "guests"}) == 0);
  order();
  BOOST_TEST(run_keys({"user", "groups", "alice", "+staff", "+guests"}) == 0);
  order();
  BOOST_TEST(run_keys({"user", "groups", "alice", "-guests"}) == 0);
  order();
  BOOST_CHECK(state.user("alice")->groups == std::set<std::string>{"staff"});
  BOOST_TEST(run_keys({"user", "groups", "alice", "staff"}) == 2);
  BOOST_TEST(run_keys({"whoami", "--json"}) == 0);
  BOOST_TEST(nlohmann::json::parse(out.str())["peer_signs_changes"] == true);
}

BOOST_AUTO_TEST_CASE(a_refused_change_leaves_no_key_behind) {
  peer.propose_error = Error{Code::unauthorized, "this peer is no administrator"};
  BOOST_TEST(run_keys({"user", "add", "alice", "--out", directory + "/alice.key"}) == 3);
  BOOST_TEST(err.str().find("cannot add the user alice: this peer is no administrator") != std::string::npos);
  BOOST_TEST(!std::filesystem::exists(directory + "/alice.key"));
}

// Else a user who was added when the answer was lost would have a key that nobody has.
BOOST_AUTO_TEST_CASE(a_change_that_may_have_been_made_keeps_its_key) {
  peer.propose_error = Error{Code::timed_out, "the root volume's owner did not answer"};
  BOOST_TEST(run_keys({"user", "add", "alice", "--out", directory + "/alice.key"}) == 4);
  BOOST_TEST(err.str().find("warning: " + directory + "/alice.key is kept") != std::string::npos);
  BOOST_TEST(std::filesystem::exists(directory + "/alice.key"));
}

BOOST_AUTO_TEST_CASE(administrators_sign_with_their_own_key) {
  std::string admin = directory + "/admin.key";
  BOOST_TEST(run_keys({"admin", "add", "bob", "--out", admin}) == 0);
  order();
  // Now it lies where the caller's administrator key lies; the peer need not sign.
  peer.welcome.may_change = false;
  BOOST_TEST(run_keys({"grant", "*", "ro", "/pub"}) == 0);
  BOOST_TEST(!peer.proposals.back().signed_proposal.empty());
  BOOST_TEST(peer.proposals.back().body.empty());
  order();
  BOOST_TEST(run_keys({"grants"}) == 0);
  BOOST_TEST(out.str() == "PREFIX  WHO  RIGHT\n/pub    *    ro\n");
  BOOST_TEST(run_keys({"audit", "--json"}) == 0);
  auto entries = nlohmann::json::parse(out.str());
  BOOST_TEST(entries.size() == 3u);
  BOOST_TEST(entries[2]["by"] == "administrator bob");
  // A key that was meant to sign is not taken for a user's.
  BOOST_TEST(run_keys({"user", "add", "carol", "--key", admin}) == 2);
  BOOST_TEST(err.str().find("say --key in front") != std::string::npos);
  std::filesystem::remove(admin);
  BOOST_TEST(run_keys({"revoke", "*", "/pub"}) == 3);
  BOOST_TEST(err.str().find("administrator's key") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(passphrases_are_asked_twice) {
  std::vector<std::string> answers = {"one", "other", "secret", "secret"};
  size_t asked = 0;
  context.terminal.input = true;
  context.terminal.ask = [&](const std::string&, bool echo) -> Result<std::string> {
    BOOST_TEST(!echo);
    return answers.at(asked++);
  };
  std::string admin = directory + "/admin.key";
  BOOST_TEST(run_keys({"admin", "add", "bob", "--out", admin}) == 0);
  BOOST_TEST(asked == 4u);
  BOOST_TEST(err.str() == "They differ.\n");
  order();
  context.terminal.input = false;
  BOOST_TEST(run_keys({"grant", "*", "ro", "/pub"}) == 3);
  BOOST_TEST(err.str().find("--passphrase-file") != std::string::npos);
  context.terminal.input = true;
  answers = {"secret"};
  asked = 0;
  BOOST_TEST(run_keys({"grant", "*", "ro", "/pub"}) == 0);
}

BOOST_AUTO_TEST_CASE(invites_print_the_seed_alone) {
  peer.results["invite"] = {{"seed", "efs://first:7400/SEED"}};
  BOOST_TEST(run_keys({"invite", "--for", "1h", "--uses", "3"}) == 0);
  BOOST_TEST(out.str() == "efs://first:7400/SEED\n");
  BOOST_TEST(peer.commands.back().second["for_seconds"] == 3600);
  BOOST_TEST(run_keys({"invite", "--for", "soon"}) == 2);
  BOOST_TEST(run_keys({"invite", "--uses", "0"}) == 2);
  // With a key, it is signed here.
  BOOST_TEST(run_keys({"admin", "add", "bob", "--out", directory + "/admin.key"}) == 0);
  order();
  peer.results["invite.context"] = {
      {"addresses", {"10.0.0.1:7400"}}, {"mesh", to_hex(state.mesh())}, {"secret", to_base64(Bytes(32, 9))}};
  BOOST_TEST(run_keys({"invite", "--uids", "1000-1999", "--under", "/a"}) == 0);
  auto seed = parse_seed(out.str());
  BOOST_REQUIRE(seed.has_value());
  BOOST_TEST(seed->address == "10.0.0.1:7400");
  auto certificate = read_certificate(seed->invite->certificate.body);
  BOOST_REQUIRE(certificate.has_value());
  BOOST_TEST(certificate->rights.uids.first == 1000u);
  BOOST_TEST(certificate->rights.under[0] == "/a");
  BOOST_TEST(certificate->expires_ns == clock.wall + 24 * kHour);
  BOOST_CHECK(seed->invite->certificate.signer == state.admins().find("bob")->second.key);
}

BOOST_AUTO_TEST_CASE(peers_are_listed_and_revoked) {
  BOOST_TEST(run_keys({"peer", "ls", "--json"}) == 0);
  auto peers = nlohmann::json::parse(out.str());
  BOOST_TEST(peers[0]["name"] == "first");
  BOOST_TEST(peers[0]["standing"] == "member");
  BOOST_TEST(run_keys({"peer", "revoke", "nobody"}) == 5);
  BOOST_TEST(run_keys({"peer", "revoke", "first"}) == 0);
  auto change = decode<Change>(peer.proposals.back().body);
  BOOST_CHECK(std::get<RevokePeer>(*change).peer == peer.welcome.peer);
}

BOOST_AUTO_TEST_CASE(a_forged_register_is_refused) {
  peer.register_entries[0].back() ^= 1;
  BOOST_TEST(run_keys({"audit"}) != 0);
  BOOST_TEST(err.str().find("entry 0 of the register") != std::string::npos);
  BOOST_TEST(out.str() == "");
}

BOOST_AUTO_TEST_CASE(what_is_not_built_says_so) {
  using Line = std::vector<std::string>;
  for (const Line& line : {Line{"login", "--for", "12h"}, Line{"logout"}, Line{"mesh", "rotate-root"},
                           Line{"mesh", "rotate-secret"}}) {
    BOOST_TEST(run_keys(line) == 1);
    BOOST_TEST(err.str().starts_with("efs-keys: not built yet: "), err.str());
  }
  BOOST_TEST(run_keys({"user"}) == 2);
  BOOST_TEST(run_keys({"audit", "--since", "yesterday"}) == 2);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace efs::tools
