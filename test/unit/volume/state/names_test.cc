// Names in directories: every operation on them, and every error it gives.
#include <boost/test/unit_test.hpp>

#include "map_rows.h"

using namespace efs;
using namespace efs::test;

namespace {
constexpr uint32_t kFile = 0100644, kDir = 0040755;

Unlink unlink_of(InodeNumber parent, std::string name, bool directory = false) {
  return {parent, std::move(name), directory};
}
Rename rename_of(InodeNumber parent, std::string name, InodeNumber to, std::string new_name) {
  Rename rename;
  rename.parent = parent;
  rename.name = std::move(name);
  rename.new_parent = to;
  rename.new_name = std::move(new_name);
  return rename;
}
}  // namespace

BOOST_AUTO_TEST_SUITE(names)

BOOST_AUTO_TEST_CASE(create_makes_what_was_asked) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "file", kFile, user(5));
  auto found = volume.attributes(file);
  BOOST_TEST(found.mode == kFile);
  BOOST_TEST(found.uid == 5u);
  BOOST_TEST(found.nlink == 1u);
  BOOST_TEST(found.btime_ns == volume.now_ns);
  auto before = volume.attributes(kRootInode);
  auto dir = volume.make(kRootInode, "dir", kDir);
  auto after = volume.attributes(kRootInode);
  BOOST_TEST(after.nlink == before.nlink + 1);
  BOOST_TEST(after.mtime_ns == volume.now_ns);
  BOOST_TEST(after.change > before.change);
  BOOST_TEST(volume.attributes(dir).nlink == 2u);
  BOOST_TEST(volume.ask(Lookup{dir, ".."}).attributes.inode == kRootInode);
  BOOST_TEST(volume.ask(Lookup{dir, "."}).attributes.inode == dir);
  BOOST_TEST(volume.usage().files == 3u);
}

BOOST_AUTO_TEST_CASE(create_refuses) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "file", kFile);
  auto dir = volume.make(kRootInode, "dir", kDir);
  auto code = [&](InodeNumber parent, std::string name, uint32_t mode, Credentials who = user(0)) {
    Create create;
    create.parent = parent;
    create.name = std::move(name);
    create.mode = mode;
    return volume.run(create, who).code;
  };
  BOOST_TEST(code(kRootInode, "file", kFile) == Code::exists);
  BOOST_TEST(code(kRootInode, std::string(256, 'x'), kFile) == Code::name_too_long);
  BOOST_TEST(code(kRootInode, std::string(255, 'x'), kFile) == Code::ok);
  BOOST_TEST(code(kRootInode, "", kFile) == Code::invalid_argument);
  BOOST_TEST(code(kRootInode, "..", kFile) == Code::invalid_argument);
  BOOST_TEST(code(kRootInode, "a/b", kFile) == Code::invalid_argument);
  BOOST_TEST(code(kRootInode, std::string("a\0b", 3), kFile) == Code::invalid_argument);
  BOOST_TEST(code(file, "x", kFile) == Code::not_directory);
  BOOST_TEST(code(999, "x", kFile) == Code::stale);
  BOOST_TEST(code(dir, "x", kFile, user(5)) == Code::access_denied);
  BOOST_TEST(code(kRootInode, "null", 0060666, user(5)) == Code::not_permitted);
  BOOST_TEST(code(kRootInode, "null", 0060666) == Code::ok);
  BOOST_TEST(code(kRootInode, "whiteout", 0020000, user(5)) == Code::ok);  // 0:0 is no device
  Create again;
  again.parent = kRootInode;
  again.name = "file";
  again.mode = kFile;
  again.exclusive = false;
  auto reply = volume.run(again);
  BOOST_TEST(reply.code == Code::ok);
  BOOST_TEST(!reply.created);
  BOOST_TEST(reply.attributes.inode == file);
  again.name = "dir";
  BOOST_TEST(volume.run(again).code == Code::is_directory);
}

BOOST_AUTO_TEST_CASE(setgid_directories_give_their_group_on) {
  TestVolume volume;
  auto dir = volume.make(kRootInode, "dir", 0042777);
  SetAttributes chown;
  chown.inode = dir;
  chown.gid = 40;
  volume.run(chown);
  auto sub = volume.make(dir, "sub", kDir, user(5));
  BOOST_TEST(volume.attributes(sub).gid == 40u);
  BOOST_TEST((volume.attributes(sub).mode & 02000) != 0u);
  auto file = volume.make(dir, "f", 0102755, user(5));
  BOOST_TEST(volume.attributes(file).mode == 0100755u);
  auto member = volume.make(dir, "g", 0102755, user(5, {40}));
  BOOST_TEST(volume.attributes(member).mode == 0102755u);
  Create create;
  create.parent = dir;
  create.name = "h";
  create.mode = 0102755;
  auto who = user(5);
  who.groups_known = false;
  BOOST_TEST(volume.run(create, who).code == Code::not_permitted);
}

BOOST_AUTO_TEST_CASE(symbolic_links) {
  TestVolume volume;
  Create create;
  create.parent = kRootInode;
  create.name = "link";
  create.mode = 0120777;
  create.target = "some/where";
  auto reply = volume.run(create);
  BOOST_TEST(reply.attributes.size == 10u);
  BOOST_TEST(volume.ask(ReadLink{reply.attributes.inode}).text == "some/where");
  create.name = "long";
  create.target = std::string(4096, 'x');
  BOOST_TEST(volume.run(create).code == Code::name_too_long);
  create.target = "";
  BOOST_TEST(volume.run(create).code == Code::not_found);
  BOOST_TEST(volume.ask(ReadLink{kRootInode}).code == Code::invalid_argument);
}

BOOST_AUTO_TEST_CASE(links_and_unlinks_count) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "a", kFile);
  volume.write(file, 0, "hello");
  auto dir = volume.make(kRootInode, "dir", kDir);
  Link link;
  link.inode = file;
  link.parent = dir;
  link.name = "b";
  BOOST_TEST(volume.run(link).attributes.nlink == 2u);
  BOOST_TEST(volume.run(link).code == Code::exists);
  link.inode = dir;
  link.name = "c";
  BOOST_TEST(volume.run(link).code == Code::not_permitted);
  BOOST_TEST(volume.run(unlink_of(kRootInode, "dir")).code == Code::is_directory);
  BOOST_TEST(volume.run(unlink_of(kRootInode, "a", true)).code == Code::not_directory);
  BOOST_TEST(volume.run(unlink_of(kRootInode, "dir", true)).code == Code::not_empty);
  BOOST_TEST(volume.run(unlink_of(kRootInode, "none")).code == Code::not_found);
  BOOST_TEST(volume.run(unlink_of(kRootInode, "a")).attributes.nlink == 1u);
  BOOST_TEST(volume.content(file) == "hello");
  BOOST_TEST(volume.run(unlink_of(dir, "b")).attributes.nlink == 0u);
  BOOST_TEST(volume.ask(GetAttributes{file}).code == Code::stale);
  BOOST_TEST(volume.run(unlink_of(kRootInode, "dir", true)).code == Code::ok);
  BOOST_TEST(volume.attributes(kRootInode).nlink == 2u);
  BOOST_TEST(volume.usage().files == 1u);
  BOOST_TEST(volume.usage().bytes == 0u);
}

BOOST_AUTO_TEST_CASE(the_sticky_bit_protects) {
  TestVolume volume;
  auto dir = volume.make(kRootInode, "tmp", 0041777);
  volume.make(dir, "mine", kFile, user(5));
  BOOST_TEST(volume.run(unlink_of(dir, "mine"), user(6)).code == Code::not_permitted);
  BOOST_TEST(volume.run(rename_of(dir, "mine", dir, "theirs"), user(6)).code == Code::not_permitted);
  volume.make(dir, "other", kFile, user(6));
  BOOST_TEST(volume.run(rename_of(dir, "other", dir, "mine"), user(6)).code == Code::not_permitted);
  BOOST_TEST(volume.run(unlink_of(dir, "mine"), user(5)).code == Code::ok);
  BOOST_TEST(volume.run(unlink_of(dir, "other")).code == Code::ok);
}

BOOST_AUTO_TEST_CASE(renames) {
  TestVolume volume;
  auto a = volume.make(kRootInode, "a", kDir);
  auto b = volume.make(a, "b", kDir);
  auto file = volume.make(a, "f", kFile);
  auto other = volume.make(b, "g", kFile);
  BOOST_TEST(volume.run(rename_of(kRootInode, "a", b, "x")).code == Code::invalid_argument);
  BOOST_TEST(volume.run(rename_of(kRootInode, "a", a, "x")).code == Code::invalid_argument);
  BOOST_TEST(volume.run(rename_of(a, "none", a, "x")).code == Code::not_found);
  BOOST_TEST(volume.run(rename_of(a, "f", a, "b")).code == Code::is_directory);
  BOOST_TEST(volume.run(rename_of(a, "b", a, "f")).code == Code::not_directory);
  BOOST_TEST(volume.run(rename_of(a, "f", b, "g")).replaced->inode == other);
  BOOST_TEST(volume.ask(GetAttributes{other}).code == Code::stale);
  BOOST_TEST(volume.ask(Lookup{b, "g"}).attributes.inode == file);
  BOOST_TEST(volume.lookup(a, "f") == Code::not_found);
  auto empty = volume.make(kRootInode, "e", kDir);
  BOOST_TEST(volume.run(rename_of(kRootInode, "e", a, "b")).code == Code::not_empty);
  BOOST_TEST(volume.run(rename_of(a, "b", kRootInode, "e")).code == Code::ok);
  BOOST_TEST(volume.ask(GetAttributes{empty}).code == Code::stale);
  BOOST_TEST(volume.attributes(a).nlink == 2u);
  BOOST_TEST(volume.attributes(kRootInode).nlink == 4u);
  BOOST_TEST(volume.ask(Lookup{b, ".."}).attributes.inode == kRootInode);
  auto no_replace = rename_of(kRootInode, "e", kRootInode, "a");
  no_replace.no_replace = true;
  BOOST_TEST(volume.run(no_replace).code == Code::exists);
  BOOST_TEST(volume.usage().files == 4u);
}

BOOST_AUTO_TEST_CASE(rename_onto_the_same_inode_does_nothing) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "a", kFile);
  Link link;
  link.inode = file;
  link.parent = kRootInode;
  link.name = "b";
  volume.run(link);
  BOOST_TEST(volume.run(rename_of(kRootInode, "a", kRootInode, "b")).code == Code::ok);
  BOOST_TEST(volume.lookup(kRootInode, "a") == Code::ok);
  BOOST_TEST(volume.attributes(file).nlink == 2u);
}

BOOST_AUTO_TEST_CASE(exchange_swaps) {
  TestVolume volume;
  auto a = volume.make(kRootInode, "a", kDir);
  auto b = volume.make(kRootInode, "b", kDir);
  auto sub = volume.make(a, "sub", kDir);
  auto file = volume.make(b, "file", kFile);
  auto swap = rename_of(a, "sub", b, "file");
  swap.exchange = true;
  BOOST_TEST(volume.run(swap).code == Code::ok);
  BOOST_TEST(volume.ask(Lookup{a, "sub"}).attributes.inode == file);
  BOOST_TEST(volume.ask(Lookup{b, "file"}).attributes.inode == sub);
  BOOST_TEST(volume.ask(Lookup{sub, ".."}).attributes.inode == b);
  BOOST_TEST(volume.ask(ReadDirectory{sub}).parents == std::vector{b});
  BOOST_TEST(volume.attributes(a).nlink == 2u);
  BOOST_TEST(volume.attributes(b).nlink == 3u);
  auto up = rename_of(kRootInode, "b", b, "file");
  up.exchange = true;
  BOOST_TEST(volume.run(up).code == Code::invalid_argument);
  std::swap(up.parent, up.new_parent);
  std::swap(up.name, up.new_name);
  BOOST_TEST(volume.run(up).code == Code::invalid_argument);
  up.new_name = "none";
  BOOST_TEST(volume.run(up).code == Code::not_found);
}

BOOST_AUTO_TEST_CASE(junctions_hold_what_is_above_them) {
  TestVolume volume;
  MakeJunction make;
  make.path = {"data", "sets", "one"};
  make.junction.volume[0] = 3;
  make.junction.number = 12;
  auto reply = volume.run(make);
  BOOST_TEST(reply.code == Code::ok);
  BOOST_REQUIRE_EQUAL(reply.parents.size(), 3u);
  auto sets = reply.parents[2];
  BOOST_TEST(volume.run(make).code == Code::ok);
  BOOST_TEST(volume.attributes(sets).nlink == 3u);
  auto found = volume.ask(Lookup{sets, "one"});
  BOOST_REQUIRE(found.junction);
  BOOST_TEST(found.junction->number == 12u);
  BOOST_TEST(volume.run(unlink_of(sets, "one", true)).code == Code::busy);
  BOOST_TEST(volume.run(rename_of(kRootInode, "data", kRootInode, "d")).code == Code::busy);
  BOOST_TEST(volume.run(rename_of(sets, "one", sets, "two")).code == Code::busy);
  auto over = make;
  over.junction.volume[0] = 4;
  BOOST_TEST(volume.run(over).code == Code::exists);
  over.path = {"data", "sets", "one", "below"};
  BOOST_TEST(volume.run(over).code == Code::cross_volume);
  BOOST_TEST(volume.run(make, user(5)).code == Code::not_permitted);
  volume.make(sets, "full", kDir);
  auto full = volume.ask(Lookup{sets, "full"}).attributes.inode;
  volume.make(full, "x", kFile);
  over.path = {"data", "sets", "full"};
  BOOST_TEST(volume.run(over).code == Code::not_empty);
  volume.run(unlink_of(full, "x"));
  BOOST_TEST(volume.run(over).code == Code::ok);
  BOOST_TEST(volume.ask(GetAttributes{full}).code == Code::stale);
  auto listing = volume.ask(ReadDirectory{sets});
  BOOST_REQUIRE_EQUAL(listing.entries.size(), 2u);
  BOOST_TEST((*listing.entries.begin()).junction.has_value());
  RemoveJunction remove;
  remove.path = make.path;
  BOOST_TEST(volume.run(remove).code == Code::not_found);
  remove.volume = make.junction.volume;
  BOOST_TEST(volume.run(remove).code == Code::ok);
  remove.path = over.path;
  remove.volume = over.junction.volume;
  BOOST_TEST(volume.run(remove).code == Code::ok);
  BOOST_TEST(volume.run(rename_of(kRootInode, "data", kRootInode, "d")).code == Code::ok);
  BOOST_TEST(volume.attributes(sets).nlink == 2u);
}

BOOST_AUTO_TEST_CASE(cookies_stay_while_the_directory_changes) {
  TestVolume volume;
  for (int i = 0; i < 100; ++i) volume.make(kRootInode, "f" + std::to_string(i), kFile);
  auto first = volume.ask(ReadDirectory{kRootInode, 0, 40});
  BOOST_REQUIRE_EQUAL(first.entries.size(), 40u);
  BOOST_TEST(!first.end);
  BOOST_TEST((*first.entries.begin()).cookie >= kFirstCookie);
  BOOST_TEST(first.offset > volume.ask(ReadDirectory{kRootInode, 0, 1000}).entries.back().cookie);
  volume.run(unlink_of(kRootInode, "f39"));
  volume.run(unlink_of(kRootInode, "f3"));
  volume.make(kRootInode, "f3", kFile);
  auto rest = volume.ask(ReadDirectory{kRootInode, first.entries.back().cookie, 1000});
  BOOST_TEST(rest.end);
  BOOST_REQUIRE_EQUAL(rest.entries.size(), 61u);
  BOOST_TEST((*rest.entries.begin()).name == "f40");
  BOOST_TEST(rest.entries.back().name == "f3");
  BOOST_TEST(rest.entries.back().cookie >= first.offset);  // who reads since then may leave it out
}

BOOST_AUTO_TEST_CASE(resolve_walks_as_far_as_it_can) {
  TestVolume volume;
  auto a = volume.make(kRootInode, "a", kDir);
  auto b = volume.make(a, "b", 0040700);
  volume.make(b, "c", kFile);
  Resolve resolve;
  resolve.parent = kRootInode;
  resolve.names = {"a", "b", "c", "d"};
  auto reply = volume.ask(resolve);
  BOOST_TEST(reply.walked == 3u);
  BOOST_TEST(volume.ask(resolve, user(5)).walked == 2u);
  BOOST_TEST(volume.ask(Lookup{b, "c"}, user(5)).code == Code::access_denied);
}

BOOST_AUTO_TEST_CASE(held_inodes_live_until_their_last_holder_closes) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  volume.write(file, 0, std::string(5000, 'x'));
  Operation unlink;
  unlink.body = unlink_of(kRootInode, "f");
  SessionId one{1}, two{2};
  unlink.holders = {one, two};
  BOOST_TEST(volume.run(unlink).attributes.nlink == 0u);
  BOOST_TEST(volume.content(file).size() == 5000u);
  BOOST_TEST(volume.usage().files == 2u);
  ReleaseOrphans release{one, {file}};
  volume.run(release);
  BOOST_TEST(volume.content(file).size() == 5000u);
  volume.run(release);
  BOOST_TEST(volume.content(file).size() == 5000u);
  EndSessions end{{two}};
  volume.run(end);
  BOOST_TEST(volume.ask(GetAttributes{file}).code == Code::stale);
  BOOST_TEST(volume.usage().files == 1u);
  BOOST_TEST(volume.usage().stored_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(a_session_gets_each_answer_once) {
  TestVolume volume;
  Operation open;
  open.session = {5};
  open.body = OpenSession{};
  Operation create;
  create.session = {5};
  create.sequence = 1;
  create.acknowledged = 1;
  Create body;
  body.parent = kRootInode;
  body.name = "f";
  body.mode = kFile;
  create.body = body;
  BOOST_TEST(volume.run(create).code == Code::expired);
  volume.run(open);
  auto first = volume.run(create);
  auto again = volume.run(create);
  BOOST_TEST(volume.effects.repeated);
  BOOST_TEST((again == first));
  create.sequence = 2;
  BOOST_TEST(volume.run(create).code == Code::exists);
  create.sequence = 3;
  create.acknowledged = 3;
  std::get<Create>(create.body).name = "g";
  BOOST_TEST(volume.run(create).code == Code::ok);
  create.sequence = 1;
  BOOST_TEST(volume.run(create).code == Code::expired);
  size_t results = 0;
  for (auto& [key, value] : volume.rows.rows) results += key.first == kSessions && key.second.size() == 24;
  BOOST_TEST(results == 1u);
}

BOOST_AUTO_TEST_CASE(who_was_overtaken_is_known_until_it_is_forgiven) {
  TestVolume volume;
  const SessionId late{5};
  const InodeNumber file = volume.make(kRootInode, "f", kFile);
  const auto known = [&] {
    auto row = read_overtaken(volume.rows, late, file);
    BOOST_REQUIRE(row);
    return std::pair(row->bytes, row->attributes);
  };
  const auto run = [&](OperationBody body) {
    Operation operation;
    operation.session = late;
    operation.body = std::move(body);
    BOOST_TEST(volume.run(operation).code == Code::ok);
  };
  const auto by_another = [&](OperationBody body) {
    Operation operation;
    operation.overtaken = {late};
    operation.body = std::move(body);
    BOOST_TEST(volume.run(operation).code == Code::ok);
  };
  by_another(Link{file, kRootInode, "g"});
  by_another(MarkAccess{file});
  BOOST_TEST((known() == std::pair(false, false)));
  SetAttributes mode;
  mode.inode = file;
  mode.mode = 0600;
  by_another(mode);
  BOOST_TEST((known() == std::pair(false, true)));
  WriteExtents write;
  write.inode = file;
  write.bytes = {1};
  by_another(write);
  BOOST_TEST((known() == std::pair(true, true)));
  EndSessions end{{late}};
  end.silent = true;
  volume.run(end);
  BOOST_TEST((known() == std::pair(true, true)));
  run(OpenSession{{}, {file}});
  BOOST_TEST((known() == std::pair(false, false)));
  run(OpenSession{{file}, {}});
  BOOST_TEST((known() == std::pair(true, true)));
  volume.run(EndSessions{{late}});
  BOOST_TEST((known() == std::pair(false, false)));
}

BOOST_AUTO_TEST_CASE(the_last_runs_of_the_owner_are_known) {
  TestVolume volume;
  for (int64_t began = 1; began <= int64_t(kMaxRuns) + 3; ++began) {
    Operation first;
    first.run_ns = began;
    first.body = ReclaimExtents{};
    BOOST_TEST(volume.run(first).code == Code::ok);
    BOOST_TEST(volume.run(ReclaimExtents{}).code == Code::ok);
  }
  const auto runs = read_runs(volume.rows);
  BOOST_REQUIRE(runs);
  BOOST_TEST(runs->began_ns.size() == kMaxRuns);
  BOOST_TEST(runs->began_ns.front() == 4);
  BOOST_TEST(runs->began_ns.back() == int64_t(kMaxRuns) + 3);
}

BOOST_AUTO_TEST_CASE(the_register_grows_by_one) {
  TestVolume volume;
  AppendRegister append{0, {1, 2}};
  BOOST_TEST(volume.run(append, user(5)).code == Code::not_permitted);
  BOOST_TEST(volume.run(append).code == Code::ok);
  BOOST_TEST(volume.run(append).code == Code::conflict);
  append.index = 1;
  BOOST_TEST(volume.run(append).code == Code::ok);
}

// O_TMPFILE: held by who made it, until it is closed or gets a name.
BOOST_AUTO_TEST_CASE(files_without_a_name) {
  TestVolume volume;
  const SessionId session{9};
  auto make = [&](bool exclusive) {
    Operation operation;
    Create create;
    create.parent = kRootInode;
    create.mode = kFile;
    create.open = create.unnamed = true;
    create.exclusive = exclusive;
    operation.session = session;
    operation.body = create;
    Reply reply = volume.run(operation);
    BOOST_REQUIRE(reply.code == Code::ok);
    BOOST_TEST(reply.attributes.nlink == 0u);
    BOOST_TEST(reply.attributes.rdev == 0u);
    return reply.attributes.inode;
  };
  auto link = [&](InodeNumber inode, std::string name) {
    Operation operation;
    operation.session = session;
    operation.body = Link{inode, kRootInode, std::move(name)};
    return volume.run(operation).code;
  };
  const auto named = make(false), dropped = make(false), never = make(true);
  BOOST_TEST(volume.ask(ReadDirectory{kRootInode}).entries.empty());
  volume.write(named, 0, "content");
  BOOST_TEST(link(named, "f") == Code::ok);
  BOOST_TEST(volume.attributes(named).nlink == 1u);
  BOOST_TEST(link(never, "g") == Code::not_found);
  volume.run(ReleaseOrphans{session, {named, dropped, never}});
  BOOST_TEST(volume.ask(GetAttributes{dropped}).code == Code::stale);
  BOOST_TEST(volume.ask(GetAttributes{never}).code == Code::stale);
  BOOST_TEST(volume.content(named) == "content");
  BOOST_TEST(volume.usage().files == 2u);
  volume.run(unlink_of(kRootInode, "f"));
  BOOST_TEST(link(named, "again") == Code::stale);
  BOOST_TEST(volume.usage().files == 1u);
  Create closed;
  closed.parent = kRootInode;
  closed.mode = kFile;
  closed.unnamed = true;
  BOOST_TEST(volume.run(closed).code == Code::invalid_argument);  // nobody would hold it
}

BOOST_AUTO_TEST_CASE(a_rename_leaves_a_whiteout) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  Rename rename = rename_of(kRootInode, "f", kRootInode, "g");
  rename.whiteout = true;
  BOOST_TEST(volume.run(rename).code == Code::ok);
  BOOST_TEST(volume.ask(Lookup{kRootInode, "g"}).attributes.inode == file);
  const Attributes left = volume.ask(Lookup{kRootInode, "f"}).attributes;
  BOOST_TEST(left.mode == 0020000u);
  BOOST_TEST(left.rdev == 0u);
  rename.exchange = true;
  BOOST_TEST(volume.run(rename).code == Code::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()
