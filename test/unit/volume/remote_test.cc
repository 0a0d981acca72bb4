// A volume over the wire, in the simulator: answers, repetition over broken connections and restarts,
// deadlines, interruption, rights.
#include "fixture.h"
#include "peer/volume/remote_client.h"
#include "peer/volume/service.h"
#include "peer/volume/session_trust.h"

using namespace efs;
using namespace efs::test;

namespace {

struct RemotePair {
  explicit RemotePair(uint64_t seed = 1) : simulator(seed), owner(seed) {
    disks.push_back(make_simulated_disk(seed + 100));
    disks.push_back(make_simulated_disk(seed + 200));
    for (int i = 0; i < 2; ++i) keys.push_back(KeyPair::generate(random));
    start_owner();
    start_mount();
  }
  ~RemotePair() {
    remote.reset();
    service.reset();
    mount_rpc.reset();
    owner_rpc.reset();
    router.reset();
  }
  std::unique_ptr<Rpc> make_rpc(Runtime& runtime, const KeyPair& key, RpcOptions options = {}) {
    return std::make_unique<Rpc>(
        runtime, key, Id{7}, secret, [](const PeerId&, const PublicKey&) { return Admission::admitted; },
        std::move(options));
  }
  void start_owner() {
    auto& runtime = simulator.add_host("10.0.0.1", *disks[0]);
    owner_rpc = make_rpc(runtime, keys[0]);
    BOOST_REQUIRE(owner_rpc->listen(*Address::parse("10.0.0.1:7400")));
    VolumeAccess access;
    access.may_act = [this](const PeerId&, uint32_t uid) { return uid != forbidden; };
    access.may_administer = [](const PeerId&, const Request&) { return false; };
    service = std::make_unique<VolumeService>(runtime.loop, *owner_rpc, *owner.set, access);
  }
  void stop_owner() {
    service.reset();
    owner_rpc.reset();
    simulator.remove_host("10.0.0.1");
  }
  void start_mount() {
    auto& runtime = simulator.add_host("10.0.0.2", *disks[1]);
    RpcOptions options;
    options.on_peer_up = [this](const PeerInfo& peer) { router->on_peer_up(peer.id); };
    mount_rpc = make_rpc(runtime, keys[1], std::move(options));
    mount_rpc->set_route(peer_id_of(keys[0].public_key()), {*Address::parse("10.0.0.1:7400")});
    VolumeLocator locator;
    locator.locate = [this](const VolumeId&) {
      return std::vector<PeerId>{peer_id_of(keys[0].public_key())};
    };
    router = RecallRouter::make(runtime.loop, *mount_rpc);
    remote = std::make_unique<RemoteVolume>(runtime.loop, *mount_rpc, random, locator, owner.id, 3,
                                            60 * kSecond, router);
  }
  // What is under way is lost, and the mount finds no way.
  void cut_off() {
    mount_rpc->drop(peer_id_of(keys[0].public_key()));
    simulator.run_for(3 * kSecond);
  }
  void reconnect() {
    mount_rpc->set_route(peer_id_of(keys[0].public_key()), {*Address::parse("10.0.0.1:7400")});
  }
  // Says at once that it has forgotten what is recalled. How often all leases were lost for good since:
  int& hear_of_leases() {
    remote->on_recall([](const Recall&, auto forgotten) { forgotten(); }, {});
    remote->on_leases_lost([this](bool for_good) { leases_lost += for_good; });
    return leases_lost = 0;
  }
  // The mount is not heard while the owner's time passes.
  void end_session() { owner.pass(kSessionSilence + kMinute); }
  std::shared_ptr<std::optional<VolumeAnswer>> begin(RequestBody body, Payload payload = {},
                                                     VolumeClient::Options options = {},
                                                     Credentials who = user(0)) {
    auto out = std::make_shared<std::optional<VolumeAnswer>>();
    remote->call(who, std::move(body), std::move(payload), options, [out](VolumeAnswer answer) {
      BOOST_REQUIRE(!*out);
      *out = std::move(answer);
    });
    return out;
  }
  VolumeAnswer wait(const std::shared_ptr<std::optional<VolumeAnswer>>& out) {
    BOOST_REQUIRE(simulator.run_until([&] { return out->has_value(); }, 120 * kSecond));
    return std::move(**out);
  }
  VolumeAnswer call(RequestBody body, Payload payload = {}) {
    return wait(begin(std::move(body), std::move(payload)));
  }

  Simulator simulator;
  SeededRandom random{77};
  TestPeer owner;
  std::vector<std::unique_ptr<SimulatedDisk>> disks;
  std::vector<KeyPair> keys;
  Bytes secret = Bytes(32, 5);
  uint32_t forbidden = 1000;
  int leases_lost = 0;
  std::unique_ptr<Rpc> owner_rpc, mount_rpc;
  std::unique_ptr<VolumeService> service;
  std::shared_ptr<RecallRouter> router;
  std::unique_ptr<RemoteVolume> remote;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(remote)

BOOST_AUTO_TEST_CASE(short_reads_are_tried_until_one_has_to_wait) {
  InlineReads reads;
  BOOST_TEST(!reads.may_try(InlineReads::kMostBytes + 1));
  for (int i = 0; i < 3; ++i) {
    BOOST_TEST(reads.may_try(InlineReads::kMostBytes));
    reads.tried(InlineReads::kLong);
  }
  BOOST_TEST(reads.may_try(1));
  reads.tried(InlineReads::kLong + 1);
  for (unsigned i = 0; i < InlineReads::kLeftToPool; ++i) BOOST_TEST(!reads.may_try(1));
  BOOST_TEST(reads.may_try(1));
}

BOOST_AUTO_TEST_CASE(requests_go_over_the_wire) {
  RemotePair pair;
  auto made = pair.call(new_file("f", true)).reply;
  BOOST_TEST(made.code == Code::ok);
  Write write;
  write.inode = made.attributes.inode;
  Bytes bytes(300'000, 7);
  write.crc = crc32c(bytes);
  BOOST_TEST(pair.call(write, bytes).reply.code == Code::ok);
  auto read = pair.call(Read{made.attributes.inode, 100, 1 << 20});
  BOOST_TEST(read.payload.size() == 299'900u);
  BOOST_TEST(read.payload.view()[5] == 7);
  BOOST_TEST(pair.call(Sync{}).reply.code == Code::ok);
  BOOST_TEST(pair.call(Lookup{kRootInode, "none"}).reply.code == Code::not_found);
  // In memory or not, by the loop or the pool.
  for (bool on_disk : {false, true}) {
    pair.owner.chunks.on_disk = on_disk;
    auto part = pair.call(Read{made.attributes.inode, 65'530, 10});
    BOOST_TEST(part.reply.code == Code::ok);
    BOOST_TEST(part.payload.size() == 10u);
  }
  // Held open by the mount, over the wire.
  pair.owner.call(Unlink{kRootInode, "f", false});
  BOOST_TEST(pair.call(Read{made.attributes.inode, 0, 10}).payload.size() == 10u);
  BOOST_TEST(pair.call(Close{{made.attributes.inode}}).reply.code == Code::ok);
  BOOST_TEST(pair.call(GetAttributes{made.attributes.inode}).reply.code == Code::stale);
}

BOOST_AUTO_TEST_CASE(rights_are_checked) {
  RemotePair pair;
  auto denied = pair.wait(pair.begin(Lookup{kRootInode, "x"}, {}, {}, user(1000)));
  BOOST_TEST(denied.reply.code == Code::unauthorized);
  MakeJunction junction;
  junction.path = {"a"};
  BOOST_TEST(pair.call(junction).reply.code == Code::unauthorized);
}

BOOST_AUTO_TEST_CASE(each_change_runs_once_over_breaking_connections) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    RemotePair pair(seed);
    pair.call(Lookup{kRootInode, "x"});
    pair.simulator.faults().break_chance = 0.05;
    std::vector<std::shared_ptr<std::optional<VolumeAnswer>>> calls;
    for (int i = 0; i < 100; ++i) calls.push_back(pair.begin(new_file("f" + std::to_string(i))));
    pair.simulator.run_for(10 * kSecond);
    pair.simulator.faults().break_chance = 0;
    for (auto& one : calls) BOOST_TEST(pair.wait(one).reply.code == Code::ok);
    BOOST_TEST(pair.owner.call(Usage{}).reply.usage.files == 101u);
  }
}

// A change that waits for another mount is not in the way of what comes after it, however much that is.
BOOST_AUTO_TEST_CASE(one_change_that_waits_has_no_others_refused) {
  RemotePair pair;
  Write write;
  write.inode = pair.owner.make("f");
  const SessionId other{9, 9};
  bool answers = false;
  Leases::Then forgotten;
  Leases& leases = pair.owner.replica->leases();
  leases.attach(other, [&](const Recall&, Leases::Then then) { answers ? then() : forgotten.swap(then); });
  BOOST_REQUIRE(leases.own(other, write.inode));
  const auto waits = pair.begin(write, Bytes{1});
  pair.simulator.run_for(kSecond);
  BOOST_REQUIRE(forgotten);
  std::vector<std::shared_ptr<std::optional<VolumeAnswer>>> calls;
  for (size_t i = 0; i < kMaxResultsPerSession + 100; ++i) {
    if (i % 1000 == 0) pair.simulator.run_for(kSecond);
    calls.push_back(pair.begin(new_file(std::to_string(i))));
  }
  pair.simulator.run_for(kSecond);
  BOOST_TEST(!waits->has_value());
  BOOST_TEST(pair.call(Lookup{kRootInode, "0"}).reply.code == Code::ok);
  answers = true;
  forgotten();
  BOOST_TEST(pair.wait(waits).reply.code == Code::ok);
  for (auto& one : calls) BOOST_TEST(pair.wait(one).reply.code == Code::ok);
}

BOOST_AUTO_TEST_CASE(a_restarted_owner_is_greeted_again) {
  RemotePair pair;
  int verifiers = 0;
  pair.remote->on_new_verifier([&](VolumeClient::Resending) { ++verifiers; });
  auto made = pair.call(new_file("f", true)).reply;
  pair.owner.call(Unlink{kRootInode, "f", false});
  pair.stop_owner();
  pair.owner.kill();
  auto waiting = pair.begin(GetAttributes{made.attributes.inode});
  pair.simulator.run_for(3 * kSecond);
  BOOST_TEST(!waiting->has_value());
  pair.start_owner();
  BOOST_TEST(pair.wait(waiting).reply.attributes.nlink == 0u);
  BOOST_TEST(verifiers == 1);
  pair.owner.pass(kSessionGrace + 30 * kSecond);
  BOOST_TEST(pair.call(GetAttributes{made.attributes.inode}).reply.code == Code::ok);
}

// Else a line that is appended takes the place of one that is still to be sent again, which then overwrites
// it.
BOOST_AUTO_TEST_CASE(nothing_overtakes_what_is_sent_again) {
  RemotePair pair;
  VolumeClient::Resending resending;
  pair.remote->on_new_verifier([&](const VolumeClient::Resending& token) { resending = token; });
  const InodeNumber inode = pair.call(new_file("f", true)).reply.attributes.inode;
  BOOST_TEST(pair.call(Sync{inode}).reply.code == Code::ok);
  Write line;
  line.inode = inode;
  line.append = true;
  BOOST_TEST(pair.call(line, to_bytes(view("one."))).reply.offset == 0u);
  pair.stop_owner();
  pair.owner.power_loss();
  const auto second = pair.begin(line, to_bytes(view("two.")));
  const auto read = pair.begin(Read{inode, 0, 100});
  pair.simulator.run_for(3 * kSecond);
  pair.start_owner();
  BOOST_REQUIRE(pair.simulator.run_until([&] { return resending.use_count() != 0; }, 60 * kSecond));
  pair.simulator.run_for(3 * kSecond);
  BOOST_TEST(!second->has_value());
  BOOST_TEST(!read->has_value());
  Write first;
  first.inode = inode;
  VolumeClient::Options late;
  late.late = true;
  BOOST_TEST(pair.wait(pair.begin(first, to_bytes(view("one.")), late)).reply.code == Code::ok);
  first.offset = 100;  // whose bytes nobody has: it has its place
  BOOST_TEST(pair.call(first, Bytes{1}).reply.code == Code::ok);
  BOOST_TEST(pair.call(Hello{}).reply.code == Code::ok);
  BOOST_TEST(!second->has_value());
  resending.reset();
  BOOST_TEST(pair.wait(second).reply.offset == 101u);
  BOOST_TEST(text(pair.wait(read).payload).substr(0, 4) == "one.");
}

// It has told its owner of what it has open and believes to be there, not of what was just put there.
BOOST_AUTO_TEST_CASE(who_takes_away_another_file_than_it_believes_looks_again) {
  for (const bool replaces : {false, true}) {
    RemotePair pair;
    pair.owner.clock.now = int64_t(1) << 60;  // of when the mount was heard: just now, all the time
    pair.owner.make("a");
    pair.owner.make("c");
    const InodeNumber moved = pair.owner.make("b");
    std::vector<VolumeClient::Forgotten> unsaid;
    pair.remote->on_recall(
        [&](const Recall&, VolumeClient::Forgotten forgotten) { unsaid.push_back(std::move(forgotten)); },
        {});
    for (const std::string name : {"a", "b"}) pair.call(Lookup{kRootInode, name});
    Request request;
    request.body = Rename{kRootInode, "b", kRootInode, "a"};
    request.who = user(0);
    bool renamed = false;
    pair.owner.replica->execute(request, {}, [&](VolumeAnswer) { renamed = true; });
    BOOST_REQUIRE(pair.simulator.run_until([&] { return !unsaid.empty(); }, kSecond));
    BOOST_TEST(!renamed);
    RequestBody takes_away = Unlink{kRootInode, "a"};
    if (replaces) takes_away = Rename{kRootInode, "c", kRootInode, "a"};
    BOOST_TEST(pair.call(takes_away).reply.code == Code::stale);
    BOOST_TEST(pair.call(Open{moved, R_OK}).reply.code == Code::ok);
    for (auto& forgotten : unsaid) forgotten();
    BOOST_REQUIRE(pair.simulator.run_until([&] { return renamed; }, kSecond));
    BOOST_TEST(pair.call(takes_away).reply.code == Code::ok);
    BOOST_TEST(pair.call(Read{moved, 0, 10}).reply.code == Code::ok);
  }
}

BOOST_AUTO_TEST_CASE(names_that_the_owner_lost_are_counted) {
  RemotePair pair;
  BOOST_TEST(pair.call(new_file("kept")).reply.code == Code::ok);
  BOOST_TEST(pair.call(Sync{}).reply.code == Code::ok);
  for (const uint64_t lost : {0, 1}) {
    if (lost != 0) BOOST_TEST(pair.call(new_file("lost")).reply.code == Code::ok);
    pair.stop_owner();
    pair.owner.power_loss();
    pair.start_owner();
    BOOST_TEST(pair.call(Lookup{kRootInode, "kept"}).reply.code == Code::ok);
    BOOST_TEST(pair.remote->owners_log().names_lost == lost);
  }
  BOOST_TEST(pair.call(Lookup{kRootInode, "lost"}).reply.code == Code::not_found);
}

// The kernel may believe what it was told under them for so long.
BOOST_AUTO_TEST_CASE(leases_that_nobody_used_are_given_back_after_their_term) {
  RemotePair pair;
  pair.owner.clock.now = int64_t(1) << 60;  // of when the mount was heard: just now, all the time
  int& lost = pair.hear_of_leases();
  const InodeNumber inode = pair.owner.make("f");
  BOOST_TEST(pair.call(GetAttributes{inode}).reply.lease != 0);
  const Leases& leases = pair.owner.replica->leases();
  lost = 0;
  BOOST_REQUIRE(pair.simulator.run_until([&] { return lost != 0; }, 2 * kMinute));
  BOOST_TEST(pair.remote->lease_until_ns() == 0);
  pair.simulator.run_for(kLeaseTerm - 10 * kMillisecond);
  BOOST_TEST(leases.holders(inode).size() == 1u);
  pair.simulator.run_for(kSecond);
  BOOST_TEST(leases.holders(inode).empty());
}

// Nor do they end while the mount answers by them, or has a file open.
BOOST_AUTO_TEST_CASE(leases_that_are_used_are_kept) {
  for (const bool open : {false, true}) {
    RemotePair pair;
    pair.owner.clock.now = int64_t(1) << 60;  // of when the mount was heard: just now, all the time
    int& lost = pair.hear_of_leases();
    const InodeNumber inode = pair.owner.make("f");
    BOOST_TEST(pair.call(GetAttributes{inode}).reply.lease != 0);
    lost = 0;
    if (open) BOOST_TEST(pair.call(Open{inode, R_OK}).reply.code == Code::ok);
    for (int i = 0; i < 4; ++i) {
      pair.simulator.run_for(kMinute / 2);
      if (!open) pair.remote->use_leases();
    }
    BOOST_TEST(lost == 0);
    if (open) BOOST_TEST(pair.call(Close{{inode}}).reply.code == Code::ok);
    pair.simulator.run_for(2 * kMinute);
    BOOST_TEST(lost != 0);
  }
}

// Also of a mount that is heard all the time, and has no need to renew them.
BOOST_AUTO_TEST_CASE(who_holds_leases_hears_of_each_renewal) {
  RemotePair pair;
  int renewals = pair.hear_of_leases();
  pair.remote->on_renewal([&] { ++renewals; });
  const InodeNumber inode = pair.owner.make("f");
  for (int i = 0; i < 40; ++i) {
    BOOST_TEST(pair.call(GetAttributes{inode}).reply.lease != 0);
    pair.simulator.run_for(100 * kMillisecond);
  }
  BOOST_TEST(renewals >= 5);
}

// What it holds exclusively stays until it says that it has sent what it kept; and until then it may be
// fenced.
BOOST_AUTO_TEST_CASE(who_has_given_its_leases_back_and_is_fenced_hears_of_it) {
  RemotePair pair;
  pair.owner.clock.now = int64_t(1) << 60;  // of when the mount was heard: just now, all the time
  int& lost = pair.hear_of_leases();
  const Reply made = pair.call(new_file("f", true)).reply;
  BOOST_TEST((made.lease & kLeaseExclusive) != 0);
  const InodeNumber inode = made.attributes.inode;
  lost = 0;
  BOOST_REQUIRE(pair.simulator.run_until([&] { return lost == 1; }, 12 * kMinute));
  pair.simulator.run_for(kLeaseTerm + kSecond);
  Leases& leases = pair.owner.replica->leases();
  BOOST_REQUIRE(leases.holders(inode).size() == 1u);
  leases.fence(leases.holders(inode).at(0));
  BOOST_TEST(pair.owner.write(inode, 0, "new").code == Code::ok);
  BOOST_REQUIRE(pair.simulator.run_until([&] { return lost == 2; }, kMinute));
  BOOST_TEST(pair.call(DropLeases{{inode}, made.lease_mark, false, true}).reply.code ==
             Code::ok);  // it has sent all
  VolumeClient::Options late;
  late.late = true;
  Write write;
  write.inode = inode;
  BOOST_TEST(pair.wait(pair.begin(write, to_bytes(view("now")), late)).reply.code == Code::ok);
}

BOOST_AUTO_TEST_CASE(an_ended_session_begins_anew) {
  RemotePair pair;
  BOOST_TEST(pair.call(new_file("a")).reply.code == Code::ok);
  pair.end_session();
  BOOST_TEST(pair.call(new_file("b")).reply.code == Code::ok);
  BOOST_TEST(pair.call(new_file("b")).reply.code == Code::exists);
}

// Whether the owner tells it, or it says Hello before that.
BOOST_AUTO_TEST_CASE(what_is_late_after_the_sessions_end_undoes_nothing) {
  for (const bool cut : {false, true}) {
    RemotePair pair;
    const int& lost = pair.hear_of_leases();
    const Reply made = pair.call(new_file("f", true)).reply;
    BOOST_TEST((made.lease & kLeaseExclusive) != 0);
    const InodeNumber inode = made.attributes.inode;
    if (cut) pair.cut_off();
    pair.end_session();
    BOOST_TEST(pair.owner.write(inode, 0, "new").code == Code::ok);
    if (cut) pair.reconnect();
    Write write;
    write.inode = inode;
    VolumeClient::Options late;
    late.late = true;
    BOOST_TEST(pair.wait(pair.begin(write, to_bytes(view("old")), late)).reply.code == Code::io);
    BOOST_TEST(pair.owner.read(inode) == "new");
    BOOST_TEST(lost > 0);
    BOOST_TEST(pair.call(DropLeases{{inode}, 0, false, true}).reply.code == Code::ok);  // it has sent all
    BOOST_TEST(pair.wait(pair.begin(write, to_bytes(view("now")), late)).reply.code == Code::ok);
  }
}

// What may have run does not run again; what was not sent before does.
BOOST_AUTO_TEST_CASE(what_was_not_answered_before_the_sessions_end_is_not_repeated) {
  RemotePair pair;
  const InodeNumber inode = pair.owner.make("f");
  const auto size = [&] { return pair.owner.call(GetAttributes{inode}).reply.attributes.size; };
  BOOST_TEST(pair.call(Open{inode, W_OK}).reply.code == Code::ok);
  Write write;
  write.inode = inode;
  write.append = true;
  const auto lost = pair.begin(write, to_bytes(view("abc")));
  BOOST_REQUIRE(pair.simulator.run_until([&] { return size() == 3; }, kSecond));
  BOOST_REQUIRE(!lost->has_value());
  pair.cut_off();
  const auto later = pair.begin(write, to_bytes(view("de")));
  pair.end_session();
  BOOST_TEST(!lost->has_value());
  pair.reconnect();
  BOOST_TEST(pair.wait(lost).reply.code == Code::unreachable);
  BOOST_TEST(pair.wait(later).reply.code == Code::ok);
  BOOST_TEST(size() == 5u);
}

namespace {
struct Interruptible : VolumeClient::Options {
  Interruptible() { interrupted = std::make_shared<std::atomic<bool>>(false); }
  VolumeAnswer interrupt(RemotePair& pair, const std::shared_ptr<std::optional<VolumeAnswer>>& call) {
    *interrupted = true;
    pair.remote->poke();
    return pair.wait(call);
  }
};
}  // namespace

// Its answer comes late, or never and is asked for again.
BOOST_AUTO_TEST_CASE(what_a_create_has_opened_that_was_given_up_is_closed) {
  for (const bool lost : {false, true}) {
    RemotePair pair;
    pair.call(Lookup{kRootInode, "x"});
    const auto files = [&] { return pair.owner.call(Usage{}).reply.usage.files; };
    Create create = new_file("", true);
    create.unnamed = true;
    Interruptible options;
    const auto call = pair.begin(create, {}, options);
    BOOST_REQUIRE(pair.simulator.run_until([&] { return files() == 2; }, kSecond));
    BOOST_REQUIRE(!call->has_value());
    lost ? pair.cut_off() : pair.simulator.set_partition("10.0.0.2", 1);
    BOOST_TEST(options.interrupt(pair, call).reply.code == Code::interrupted);
    BOOST_TEST(files() == 2u);
    lost ? pair.reconnect() : pair.simulator.set_partition("10.0.0.2", 0);
    BOOST_TEST(pair.simulator.run_until([&] { return files() == 1; }, 30 * kSecond), "closed");
    BOOST_TEST(pair.call(new_file("f")).reply.created);
  }
}

BOOST_AUTO_TEST_CASE(a_create_that_was_given_up_makes_nothing_later) {
  RemotePair pair;
  pair.call(Lookup{kRootInode, "x"});
  pair.stop_owner();
  Interruptible options;
  const auto call = pair.begin(new_file("f", true), {}, options);
  pair.simulator.run_for(5 * kSecond);
  BOOST_TEST(options.interrupt(pair, call).reply.code == Code::interrupted);
  pair.start_owner();
  BOOST_TEST(pair.call(Lookup{kRootInode, "f"}).reply.code == Code::not_found);
  pair.simulator.run_for(5 * kSecond);
  BOOST_TEST((pair.owner.lookup("f") == Code::not_found));
}

// Another program of the mount has opened the file before the answer came.
BOOST_AUTO_TEST_CASE(what_others_have_opened_meanwhile_stays_open) {
  RemotePair pair;
  const SessionId other{9, 9};
  bool answers = false;
  Leases::Then forgotten;
  Leases& leases = pair.owner.replica->leases();
  leases.attach(other, [&](const Recall&, Leases::Then then) { answers ? then() : forgotten.swap(then); });
  BOOST_REQUIRE(leases.share(other, kRootInode, true));
  Interruptible options;
  const auto call = pair.begin(new_file("f", true), {}, options);
  pair.simulator.run_for(kSecond);
  BOOST_REQUIRE(forgotten);
  BOOST_TEST(options.interrupt(pair, call).reply.code == Code::interrupted);
  const InodeNumber inode = pair.owner.call(Lookup{kRootInode, "f"}).reply.attributes.inode;
  BOOST_TEST(pair.call(Open{inode, R_OK}).reply.code == Code::ok);
  answers = true;
  forgotten();
  pair.simulator.run_for(kSecond);
  BOOST_TEST(pair.owner.call(Unlink{kRootInode, "f", false}).reply.code == Code::ok);
  BOOST_TEST(pair.call(GetAttributes{inode}).reply.code == Code::ok);
  BOOST_TEST(pair.call(Close{{inode}}).reply.code == Code::ok);
  BOOST_TEST(pair.call(GetAttributes{inode}).reply.code == Code::stale);
}

BOOST_AUTO_TEST_CASE(calls_end_when_nobody_answers) {
  RemotePair pair;
  pair.call(Lookup{kRootInode, "x"});
  pair.stop_owner();
  const int64_t begun = pair.simulator.now_ns();
  VolumeClient::Options options;
  options.timeout_ns = 5 * kSecond;
  BOOST_TEST(pair.wait(pair.begin(new_file("late"), {}, options)).reply.code == Code::unreachable);
  BOOST_TEST(pair.simulator.now_ns() - begun < 6 * kSecond);
  options.interrupted = std::make_shared<std::atomic<bool>>(false);
  options.timeout_ns = 0;
  auto call = pair.begin(new_file("given up"), {}, options);
  pair.simulator.run_for(kSecond);
  *options.interrupted = true;
  pair.remote->poke();
  BOOST_TEST(pair.wait(call).reply.code == Code::interrupted);
  auto dropped = pair.begin(Lookup{kRootInode, "x"});
  pair.remote.reset();
  BOOST_REQUIRE(dropped->has_value());
  BOOST_TEST((*dropped)->reply.code == Code::closed);
}

namespace {
SetLock lock_of(InodeNumber inode, uint64_t owner, uint8_t type, uint64_t ticket, bool wait = false) {
  SetLock request;
  request.lock = {inode, false, owner, type, 0, 9, 0};
  request.ticket = ticket;
  request.wait = wait;
  return request;
}
}  // namespace

// One peer leaves room for others, however many sessions it names; and what is refused leaves nothing behind.
BOOST_AUTO_TEST_CASE(one_peer_has_a_part_of_the_sessions) {
  RemotePair pair;
  uint32_t number = 0;
  const auto ask = [&](RequestBody body, bool leases) {
    Request request;
    request.volume = pair.owner.id;
    put_le<uint32_t>(request.session.data(), number);
    request.leases = leases;
    request.body = std::move(body);
    std::optional<Reply> reply;
    pair.mount_rpc->call(peer_id_of(pair.keys[0].public_key()), kVolumeCall, encode(request), {},
                         {kMinute, Priority::control}, [&](Result<Answer> answer) {
                           BOOST_REQUIRE(answer);
                           auto decoded = decode<Reply>(answer->body);
                           BOOST_REQUIRE(decoded);
                           reply = std::move(*decoded);
                         });
    BOOST_REQUIRE(pair.simulator.run_until([&] { return reply.has_value(); }, kMinute));
    return *reply;
  };
  for (; number < kMaxSessionsOfPeer; ++number) BOOST_TEST(ask(Hello{}, false).code == Code::ok);
  const Reply refused = ask(Hello{}, true);
  BOOST_TEST(refused.code == Code::overloaded);
  BOOST_TEST(refused.message.find("unmount") != std::string::npos);
  Hello renewal;
  renewal.renew = true;
  for (; number < kMaxSessionsOfPeer + kMaxLeaseSessions; ++number)
    BOOST_REQUIRE(ask(renewal, true).code == Code::recalled);
  number = 1;
  BOOST_TEST(ask(Hello{}, false).code == Code::ok);  // one that is there
  BOOST_TEST(ask(Goodbye{}, false).code == Code::ok);
  pair.remote->on_recall([](const Recall&, auto forgotten) { forgotten(); }, {});
  const InodeNumber inode = pair.owner.make("f");
  BOOST_TEST(pair.call(GetAttributes{inode}).reply.lease != 0);
  number = 2;
  ask(Goodbye{}, false);
  BOOST_TEST(ask(Hello{}, false).code == Code::ok);
}

// Hellos that wait for a thread of the pool are counted, too.
BOOST_AUTO_TEST_CASE(one_peer_has_a_part_of_the_sessions_however_fast_it_asks) {
  RemotePair pair;
  const InodeNumber inode = pair.owner.make("f");
  size_t begun = 0, refused = 0;
  const auto ask = [&](uint32_t number, RequestBody body) {
    Request request;
    request.volume = pair.owner.id;
    put_le<uint32_t>(request.session.data(), number);
    request.leases = true;
    request.body = std::move(body);
    pair.mount_rpc->call(peer_id_of(pair.keys[0].public_key()), kVolumeCall, encode(request), {},
                         {kMinute, Priority::control}, [&](Result<Answer> answer) {
                           BOOST_REQUIRE(answer);
                           const auto reply = decode<Reply>(answer->body);
                           BOOST_REQUIRE(reply);
                           reply->code == Code::ok ? ++begun : ++refused;
                         });
  };
  const uint32_t asked = 4 * kMaxSessionsOfPeer;
  for (uint32_t number = 0; number < asked; ++number)
    ask(number, Hello{{inode}, {}, false, false, SessionMark{1, 1}});
  BOOST_REQUIRE(pair.simulator.run_until([&] { return begun + refused == asked; }, kMinute));
  BOOST_TEST(begun == kMaxSessionsOfPeer);
  // Those that have ended make room.
  for (uint32_t number = 0; number < asked; ++number) ask(number, Goodbye{});
  BOOST_REQUIRE(pair.simulator.run_until([&] { return begun + refused == 2 * asked; }, kMinute));
  begun = refused = 0;
  ask(asked, Hello{});
  BOOST_REQUIRE(pair.simulator.run_until([&] { return begun + refused == 1; }, kMinute));
  BOOST_TEST(begun == 1u);
}

// Its Hello is answered by a thread of the pool, and its Goodbye comes before that is heard on the loop.
BOOST_AUTO_TEST_CASE(who_has_said_goodbye_is_not_asked_to_forget) {
  RemotePair pair;
  Request request;
  request.volume = pair.owner.id;
  request.session = {5};
  request.leases = true;
  request.body = Hello{{pair.owner.make("f")}};
  bool answered = false;
  pair.mount_rpc->call(peer_id_of(pair.keys[0].public_key()), kVolumeCall, encode(request), {},
                       {kMinute, Priority::control}, [&](Result<Answer>) { answered = true; });
  Bytes named = to_bytes(peer_id_of(pair.keys[1].public_key()));
  append(named, request.session);
  SessionId session;  // as the owner names it
  std::copy_n(blake2b(named).begin(), session.size(), session.begin());
  session[0] |= 1;
  set_limited(session, false);
  while (pair.owner.replica->heard_ns(session) == 0) BOOST_REQUIRE(pair.simulator.step());
  BOOST_TEST(!answered);
  BOOST_TEST(pair.owner.as(session, 0, Goodbye{}).reply.code == Code::ok);
  BOOST_REQUIRE(pair.simulator.run_until([&] { return answered; }, kMinute));
  BOOST_TEST(!pair.owner.replica->leases().share(session, kRootInode));
}

// Asked once, answered when it is free, over broken connections; the deadline is for the owner's silence.
BOOST_AUTO_TEST_CASE(a_lock_is_waited_for) {
  RemotePair pair;
  const InodeNumber inode = pair.owner.make("f");
  BOOST_TEST(pair.owner.call(lock_of(inode, 1, kWriteLock, 1)).reply.code == Code::ok);
  BOOST_TEST(pair.call(lock_of(inode, 1, kWriteLock, 1)).reply.code == Code::conflict);
  VolumeClient::Options options;
  options.timeout_ns = 5 * kSecond;
  auto waiting = pair.begin(lock_of(inode, 1, kWriteLock, 2, true), {}, options);
  pair.simulator.faults().break_chance = 0.02;
  pair.simulator.run_for(40 * kSecond);
  pair.simulator.faults().break_chance = 0;
  BOOST_TEST(!waiting->has_value());
  BOOST_TEST(pair.owner.call(lock_of(inode, 1, kUnlocked, 0)).reply.code == Code::ok);
  BOOST_TEST(pair.wait(waiting).reply.code == Code::ok);
  auto seen = pair.owner.call(GetLock{{inode, false, 1, kReadLock, 5, 5, 0}}).reply;
  BOOST_REQUIRE(seen.lock);
  BOOST_TEST(seen.lock->end == 9u);
  // Given up: the owner forgets it.
  auto other = pair.begin(lock_of(inode, 2, kWriteLock, 3, true), {}, options);
  pair.simulator.run_for(kSecond);
  BOOST_TEST(pair.call(CancelLock{3}).reply.code == Code::ok);
  BOOST_TEST(pair.wait(other).reply.code == Code::interrupted);
  auto late = pair.begin(lock_of(inode, 2, kWriteLock, 4, true), {}, options);
  pair.stop_owner();
  BOOST_TEST(pair.wait(late).reply.code == Code::unreachable);
}

BOOST_AUTO_TEST_CASE(more_than_the_owner_lets_wait_get_their_turn) {
  RemotePair pair;
  const InodeNumber inode = pair.owner.make("f");
  BOOST_TEST(pair.owner.call(lock_of(inode, 1, kWriteLock, 1)).reply.code == Code::ok);
  std::vector<std::shared_ptr<std::optional<VolumeAnswer>>> calls;
  for (uint64_t i = 0; i < 2 * kMaxLockWaits; ++i)
    calls.push_back(pair.begin(lock_of(inode, i, kReadLock, 10 + i, true)));
  pair.simulator.run_for(3 * kSecond);
  for (auto& one : calls) BOOST_TEST(!one->has_value());
  // Also who does not wait there can be taken back.
  const uint64_t last = 2 * kMaxLockWaits - 1;
  BOOST_TEST(pair.call(CancelLock{10 + last}).reply.code == Code::ok);
  BOOST_TEST(pair.wait(calls.back()).reply.code == Code::interrupted);
  calls.pop_back();
  BOOST_TEST(pair.owner.call(lock_of(inode, 1, kUnlocked, 0)).reply.code == Code::ok);
  for (auto& one : calls) BOOST_TEST(pair.wait(one).reply.code == Code::ok);
  for (uint64_t i = 0; i < last; ++i) pair.call(lock_of(inode, i, kUnlocked, 0));
  pair.simulator.run_for(kSecond);
  BOOST_TEST(!pair.owner.call(GetLock{{inode, false, 1, kWriteLock, 0, 9, 0}}).reply.lock.has_value());
}

BOOST_AUTO_TEST_CASE(locks_outlive_their_owners_restart) {
  RemotePair pair;
  auto made = pair.call(new_file("f", true)).reply;
  const InodeNumber inode = made.attributes.inode;
  BOOST_TEST(pair.call(lock_of(inode, 1, kWriteLock, 1)).reply.code == Code::ok);
  pair.stop_owner();
  pair.owner.kill();
  // Somebody at the owner asks first: he is not answered before the mount has said what it holds.
  std::optional<Code> first;
  pair.owner.client->call(user(0), lock_of(inode, 1, kWriteLock, 1), {}, {},
                          [&](VolumeAnswer answer) { first = answer.reply.code; });
  BOOST_TEST(!first);
  pair.start_owner();
  BOOST_REQUIRE(pair.simulator.run_until([&] { return first.has_value(); }, 30 * kSecond));
  BOOST_TEST((*first == Code::conflict));
  BOOST_TEST(pair.call(lock_of(inode, 1, kUnlocked, 0)).reply.code == Code::ok);
  BOOST_TEST(pair.owner.call(lock_of(inode, 1, kWriteLock, 2)).reply.code == Code::ok);
  // The mount goes: what it held and waited for goes too.
  auto waits = pair.begin(lock_of(inode, 7, kWriteLock, 9, true));
  pair.simulator.run_for(kSecond);
  pair.remote.reset();
  BOOST_TEST((*waits)->reply.code == Code::closed);
  pair.simulator.run_for(kSecond);
  BOOST_TEST(pair.owner.call(lock_of(inode, 1, kUnlocked, 0)).reply.code == Code::ok);
  BOOST_TEST(pair.owner.call(lock_of(inode, 2, kWriteLock, 3)).reply.code == Code::ok);
}

// A session that holds nothing and asks nothing is waited for, too: it says so when its owner is back.
BOOST_AUTO_TEST_CASE(who_holds_nothing_keeps_nobody_from_locking) {
  for (const bool listens : {false, true}) {
    RemotePair pair;
    pair.mount_rpc->keep_alive(peer_id_of(pair.keys[0].public_key()), true);
    if (listens) pair.remote->on_recall([](const Recall&, auto forgotten) { forgotten(); }, {});
    const InodeNumber inode = pair.call(new_file("f")).reply.attributes.inode;
    pair.simulator.run_for(5 * kSecond);
    for (int round = 0; round < 3; ++round) {
      pair.stop_owner();
      pair.owner.kill();
      std::optional<Code> locked;
      pair.owner.client->call(user(0), lock_of(inode, 1, kWriteLock, 1), {}, {},
                              [&](VolumeAnswer answer) { locked = answer.reply.code; });
      pair.start_owner();
      BOOST_REQUIRE(pair.simulator.run_until([&] { return locked.has_value(); }, 3 * kSecond));
      BOOST_TEST((*locked == Code::ok));
      BOOST_TEST(pair.owner.call(lock_of(inode, 1, kUnlocked, 0)).reply.code == Code::ok);
    }
  }
}

// One that is heard and does not forget is fenced in the end. Was it fenced sooner, for its silence, what it
// has been leased since is not taken from it: it would go on believing that.
BOOST_AUTO_TEST_CASE(who_is_fenced_sooner_is_not_fenced_again) {
  for (const bool sooner : {false, true}) {
    RemotePair pair;
    const InodeNumber inode = pair.owner.make("f"), other = pair.owner.make("g");
    pair.owner.clock.now = int64_t(1) << 60;  // of when the mount was heard: just now, all the time
    std::vector<VolumeClient::Forgotten> unsaid;
    pair.remote->on_recall(
        [&](const Recall&, VolumeClient::Forgotten forgotten) { unsaid.push_back(std::move(forgotten)); },
        {});
    BOOST_TEST(pair.call(GetAttributes{inode}).reply.lease != 0);
    Leases& leases = pair.owner.replica->leases();
    const SessionId session = leases.holders(inode).at(0);
    bool answered = false;
    leases.announce({}, {{inode, true, 0, {}}}, [&] { answered = true; });
    pair.simulator.run_for(kRecallPatience + kLeaseTerm / 2);
    BOOST_TEST(leases.ends_ns(session) != 0);
    if (sooner) leases.fence(session);
    BOOST_TEST((pair.call(GetAttributes{other}).reply.lease != 0) == sooner);
    BOOST_TEST(!answered);
    pair.simulator.run_for(kLeaseTerm);
    BOOST_TEST(answered);
    BOOST_TEST(leases.holders(inode).empty());
    BOOST_TEST(leases.holders(other).size() == size_t(sooner));
  }
}

// Whoever is asked for what it has buffered, and goes on with other things.
BOOST_AUTO_TEST_CASE(who_never_has_sent_all_is_fenced) {
  for (const bool refused : {false, true}) {
    RemotePair pair;
    pair.owner.clock.now = int64_t(1) << 60;
    std::vector<VolumeClient::Forgotten> unsaid;
    pair.remote->on_recall(
        [&](const Recall&, VolumeClient::Forgotten forgotten) { unsaid.push_back(std::move(forgotten)); },
        {});
    const InodeNumber inode = pair.call(new_file("f", true)).reply.attributes.inode;
    bool answered = false;
    Request ask;
    ask.body = GetAttributes{inode};
    pair.owner.replica->execute(ask, {}, [&](VolumeAnswer) { answered = true; });
    Write write;
    write.inode = inode;
    write.offset = refused ? UINT64_MAX : 0;
    int64_t waited_ns = 0;
    for (; !answered && waited_ns < 2 * kLongestFlush; waited_ns += kSecond) {
      const Reply reply = pair.call(write, Bytes(10)).reply;
      BOOST_TEST((reply.code == Code::ok) == !refused);
      pair.simulator.run_for(kSecond);
      pair.owner.clock.now += kSecond;
    }
    BOOST_TEST(answered);
    BOOST_TEST(waited_ns > (refused ? kFlushPatience / 2 : kLongestFlush / 2));
    BOOST_TEST(waited_ns < (refused ? 2 * kFlushPatience : 2 * kLongestFlush));
  }
}

BOOST_AUTO_TEST_SUITE_END()
