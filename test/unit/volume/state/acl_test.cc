// POSIX ACLs: their bytes, what they allow, and how changes of a volume keep them.
#include "peer/volume/state/acl.h"

#include <boost/test/unit_test.hpp>
#include <random>

#include "map_rows.h"
#include "peer/volume/state/view.h"

using namespace efs;
using namespace efs::test;

namespace {
constexpr uint16_t kOwner = 1, kUser = 2, kOwningGroup = 4, kGroup = 8, kMask = 16, kOther = 32;
constexpr uint32_t kNobody = UINT32_MAX;
struct Line {
  uint16_t tag, permissions;
  uint32_t id = kNobody;
};

Bytes acl_of(const std::vector<Line>& lines) {
  Bytes acl(4 + lines.size() * 8);
  put_le<uint32_t>(acl.data(), 2);
  for (size_t i = 0; i < lines.size(); ++i) {
    put_le<uint16_t>(&acl[4 + i * 8], lines[i].tag);
    put_le<uint16_t>(&acl[6 + i * 8], lines[i].permissions);
    put_le<uint32_t>(&acl[8 + i * 8], lines[i].id);
  }
  return acl;
}
Code code_of(const std::vector<Line>& lines) {
  auto acl = Acl::decode(acl_of(lines));
  return acl ? Code::ok : acl.error().code;
}
// user::rw-, user:7:rwx, group::r--, group:8:-wx, mask::rw-, other::r--
const std::vector<Line> kRich{{kOwner, 6},    {kUser, 7, 7}, {kOwningGroup, 4},
                              {kGroup, 3, 8}, {kMask, 6},    {kOther, 4}};

SetXattr set_acl(InodeNumber inode, std::string_view name, Bytes value) {
  SetXattr set;
  set.inode = inode;
  set.name = name;
  set.value = std::move(value);
  return set;
}
std::string get(TestVolume& volume, InodeNumber inode, std::string_view name) {
  const Reply reply = volume.ask(GetXattr{inode, std::string(name)});
  return reply.code == Code::no_attribute ? "none" : reply.text;
}
std::string bytes_of(const std::vector<Line>& lines) {
  return std::string(text(acl_of(lines)));
}
Reply create(TestVolume& volume, InodeNumber parent, std::string name, uint32_t mode, uint32_t umask,
             Credentials who = user(5)) {
  Create body;
  body.parent = parent;
  body.name = std::move(name);
  body.mode = mode & ~umask;
  body.masked = mode & umask;
  if ((mode & 0170000) == 0120000) body.target = "x";
  Reply reply = volume.run(body, std::move(who));
  BOOST_REQUIRE(reply.code == Code::ok);
  return reply;
}
bool opens(TestVolume& volume, InodeNumber inode, const Credentials& who, uint32_t want) {
  const RowsView view(volume.rows);
  return check_open(view, inode, view.inode(inode).value(), who, want).has_value();
}
}  // namespace

BOOST_AUTO_TEST_SUITE(acls)

BOOST_AUTO_TEST_CASE(their_bytes_come_back) {
  for (const auto& lines :
       {kRich, std::vector<Line>{{kOwner, 6}, {kOwningGroup, 4}, {kOther, 0}},
        std::vector<Line>{{kOwner, 7}, {kOwningGroup, 7}, {kMask, 1}, {kOther, 7}}, std::vector<Line>{}}) {
    auto acl = Acl::decode(acl_of(lines));
    BOOST_REQUIRE(acl);
    BOOST_TEST(acl->encode() == bytes_of(lines));
  }
  // Ids of entries that name nobody are of no account.
  auto acl = Acl::decode(acl_of({{kOwner, 6, 3}, {kOwningGroup, 4, 0}, {kOther, 0, 9}}));
  BOOST_REQUIRE(acl);
  BOOST_TEST(acl->encode() == bytes_of({{kOwner, 6}, {kOwningGroup, 4}, {kOther, 0}}));
}

BOOST_AUTO_TEST_CASE(what_is_not_an_acl_is_refused) {
  BOOST_TEST(code_of({{kOwner, 6}}) == Code::invalid_argument);
  BOOST_TEST(code_of({{kOwner, 6}, {kOwningGroup, 4}}) == Code::invalid_argument);
  BOOST_TEST(code_of({{kOwner, 8}, {kOwningGroup, 4}, {kOther, 0}}) == Code::invalid_argument);
  BOOST_TEST(code_of({{kOwner, 6}, {kOther, 0}, {kOwningGroup, 4}}) == Code::invalid_argument);
  BOOST_TEST(code_of({{kOwner, 6}, {kOwner, 6}, {kOwningGroup, 4}, {kOther, 0}}) == Code::invalid_argument);
  BOOST_TEST(code_of({{kOwner, 6}, {kOwningGroup, 4}, {64, 1}, {kOther, 0}}) == Code::invalid_argument);
  BOOST_TEST(code_of({{0, 6}, {kOwner, 6}, {kOwningGroup, 4}, {kOther, 0}}) == Code::invalid_argument);
  // Somebody is named: then there is a mask, and the name is one.
  BOOST_TEST(code_of({{kOwner, 6}, {kUser, 4, 7}, {kOwningGroup, 4}, {kOther, 0}}) == Code::invalid_argument);
  BOOST_TEST(code_of({{kOwner, 6}, {kUser, 4}, {kOwningGroup, 4}, {kMask, 4}, {kOther, 0}}) ==
             Code::invalid_argument);
  // Named ones in any order, even twice: as Linux.
  BOOST_TEST(code_of({{kOwner, 6},
                      {kUser, 4, 9},
                      {kUser, 4, 7},
                      {kUser, 4, 7},
                      {kOwningGroup, 4},
                      {kMask, 4},
                      {kOther, 0}}) == Code::ok);
  Bytes bytes = acl_of(kRich);
  put_le<uint32_t>(bytes.data(), 1);
  BOOST_TEST(Acl::decode(bytes).error().code == Code::unsupported);
  std::vector<Line> many{{kOwner, 6}};
  for (uint32_t id = 0; id < kMaxAclEntries; ++id) many.push_back({kUser, 4, id});
  for (Line rest : {Line{kOwningGroup, 4}, Line{kMask, 4}, Line{kOther, 0}}) many.push_back(rest);
  BOOST_TEST(code_of(many) == Code::no_space);
}

// Every prefix, and bytes changed at random: an answer, never more; and what is taken holds together.
BOOST_AUTO_TEST_CASE(hostile_bytes) {
  const Bytes whole = acl_of(kRich);
  for (size_t size = 0; size < whole.size(); ++size) {
    auto acl = Acl::decode(ByteView(whole).first(size));
    BOOST_TEST((!acl || acl->empty()));
  }
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    Bytes bytes = whole;
    for (int change = 0; change < 3; ++change) bytes[random() % bytes.size()] = uint8_t(random() % 40);
    auto acl = Acl::decode(bytes);
    if (!acl) continue;
    const uint32_t mode = acl->mode();
    BOOST_TEST(mode <= 0777u);
    Acl limited = *acl;
    BOOST_TEST(limited.limit_to(0753) == (mode & 0753));
    BOOST_TEST(limited.mode() == (mode & 0753));
    acl->allows(1, 2, user(3, {4}), 7);
    BOOST_TEST((Acl::decode(view(acl->encode())) == *acl));
  }
}

BOOST_AUTO_TEST_CASE(who_is_allowed) {
  const Acl acl = Acl::decode(acl_of(kRich)).value();
  const auto may = [&](const Credentials& who, uint32_t want) { return acl.allows(5, 6, who, want); };
  BOOST_TEST(may(user(5), 6));
  BOOST_TEST(!may(user(5, {8}), 1));  // the owner, whatever the groups
  BOOST_TEST(may(user(7), 6));
  BOOST_TEST(!may(user(7), 1));      // the mask
  BOOST_TEST(may(user(9, {6}), 4));  // the owning group
  BOOST_TEST(!may(user(9, {6}), 2));
  BOOST_TEST(may(user(9, {8}), 2));
  BOOST_TEST(!may(user(9, {8}), 1));  // the mask
  BOOST_TEST(!may(user(9, {8}), 4));  // in a group that has it not: others' rights do not count
  BOOST_TEST(may(user(9, {6, 8}), 4));
  BOOST_TEST(may(user(9, {6, 8}), 2));
  BOOST_TEST(!may(user(9, {6, 8}), 6));  // no single entry grants both
  BOOST_TEST(may(user(9), 4));
  BOOST_TEST(!may(user(9), 2));
  Credentials unknown;
  unknown.uid = unknown.gid = 9;
  BOOST_TEST(!may(unknown, 4));  // may be in 8
  unknown.groups_known = true;
  BOOST_TEST(may(unknown, 4));
}

BOOST_AUTO_TEST_CASE(modes) {
  Acl acl = Acl::decode(acl_of(kRich)).value();
  BOOST_TEST(acl.mode() == 0664u);
  acl.set_mode(0751);
  BOOST_TEST(
      acl.encode() ==
      bytes_of({{kOwner, 7}, {kUser, 7, 7}, {kOwningGroup, 4}, {kGroup, 3, 8}, {kMask, 5}, {kOther, 1}}));
  Acl plain = Acl::decode(acl_of({{kOwner, 7}, {kOwningGroup, 5}, {kOther, 5}})).value();
  BOOST_TEST(plain.is_mode());
  BOOST_TEST(plain.limit_to(0640) == 0640u);
  BOOST_TEST(plain.encode() == bytes_of({{kOwner, 6}, {kOwningGroup, 4}, {kOther, 0}}));
}

// ---- in a volume ----

BOOST_AUTO_TEST_CASE(an_acl_is_set_and_removed) {
  TestVolume volume;
  const auto file = volume.make(kRootInode, "f", 0100644, user(5));
  const uint64_t before = volume.attributes(file).change;
  BOOST_TEST(volume.run(set_acl(file, kAccessAcl, acl_of(kRich)), user(6)).code == Code::not_permitted);
  BOOST_TEST(volume.run(set_acl(file, kAccessAcl, acl_of(kRich)), user(5)).attributes.mode == 0100664u);
  BOOST_REQUIRE_EQUAL(volume.effects.changes.size(), 1u);
  BOOST_TEST(volume.effects.changes[0].inode == file);
  BOOST_TEST(volume.attributes(file).change > before);
  BOOST_TEST(get(volume, file, kAccessAcl) == bytes_of(kRich));
  BOOST_TEST(volume.ask(ListXattrs{file}).names == std::vector<std::string>{std::string(kAccessAcl)});
  // One that the mode can say becomes the mode.
  const Bytes plain = acl_of({{kOwner, 6}, {kOwningGroup, 4}, {kOther, 0}});
  BOOST_TEST(volume.run(set_acl(file, kAccessAcl, plain), user(5)).attributes.mode == 0100640u);
  BOOST_TEST(get(volume, file, kAccessAcl) == "none");
  BOOST_TEST(volume.attributes(file).xattr_bytes == 0u);
  // Removing leaves the mode as it is, and is no error when there is none. So is an empty one.
  volume.run(set_acl(file, kAccessAcl, acl_of(kRich)), user(5));
  BOOST_TEST(volume.run(RemoveXattr{file, std::string(kAccessAcl)}, user(6)).code == Code::not_permitted);
  for (int i = 0; i < 2; ++i)
    BOOST_TEST(volume.run(RemoveXattr{file, std::string(kAccessAcl)}, user(5)).attributes.mode == 0100664u);
  volume.run(set_acl(file, kAccessAcl, acl_of(kRich)), user(5));
  BOOST_TEST(volume.run(set_acl(file, kAccessAcl, acl_of({})), user(5)).attributes.mode == 0100664u);
  BOOST_TEST(get(volume, file, kAccessAcl) == "none");
  BOOST_TEST(volume.run(set_acl(file, kAccessAcl, acl_of({{kOwner, 6}})), user(5)).code ==
             Code::invalid_argument);
  const auto link = create(volume, kRootInode, "l", 0120777, 0).attributes.inode;
  BOOST_TEST(volume.run(set_acl(link, kAccessAcl, acl_of(kRich)), user(5)).code == Code::unsupported);
}

BOOST_AUTO_TEST_CASE(default_acls_are_of_directories) {
  TestVolume volume;
  const auto file = volume.make(kRootInode, "f", 0100644), directory = volume.make(kRootInode, "d", 0040755);
  BOOST_TEST(volume.run(set_acl(file, kDefaultAcl, acl_of(kRich))).code == Code::access_denied);
  BOOST_TEST(volume.run(set_acl(file, kDefaultAcl, acl_of({}))).code == Code::ok);
  BOOST_TEST(volume.run(set_acl(directory, kDefaultAcl, acl_of(kRich))).attributes.mode == 0040755u);
  BOOST_TEST(get(volume, directory, kDefaultAcl) == bytes_of(kRich));
  BOOST_TEST(get(volume, directory, kAccessAcl) == "none");
  // One of the three base entries is kept: it is no mode.
  const std::vector<Line> plain{{kOwner, 7}, {kOwningGroup, 5}, {kOther, 0}};
  BOOST_TEST(volume.run(set_acl(directory, kDefaultAcl, acl_of(plain))).code == Code::ok);
  BOOST_TEST(get(volume, directory, kDefaultAcl) == bytes_of(plain));
  BOOST_TEST(volume.run(RemoveXattr{directory, std::string(kDefaultAcl)}).code == Code::ok);
  BOOST_TEST(volume.attributes(directory).xattr_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(setting_one_drops_the_group_bit_of_who_is_not_in_the_group) {
  TestVolume volume;
  const auto file = volume.make(kRootInode, "f", 0102755);
  SetAttributes chown;
  chown.inode = file;
  chown.uid = 5;
  chown.gid = 9;
  volume.run(chown);
  SetAttributes chmod;
  chmod.inode = file;
  chmod.mode = 02755;
  BOOST_TEST(volume.run(chmod).attributes.mode == 0102755u);
  BOOST_TEST(volume.run(set_acl(file, kAccessAcl, acl_of(kRich)), user(5, {9})).attributes.mode == 0102664u);
  BOOST_TEST(volume.run(set_acl(file, kAccessAcl, acl_of(kRich)), user(5)).attributes.mode == 0100664u);
}

BOOST_AUTO_TEST_CASE(chmod_changes_the_mask_and_chown_nothing) {
  TestVolume volume;
  const auto file = volume.make(kRootInode, "f", 0100644, user(5));
  volume.run(set_acl(file, kAccessAcl, acl_of(kRich)), user(5));
  SetAttributes set;
  set.inode = file;
  set.mode = 0710;
  BOOST_TEST(volume.run(set, user(5)).attributes.mode == 0100710u);
  const std::string changed =
      bytes_of({{kOwner, 7}, {kUser, 7, 7}, {kOwningGroup, 4}, {kGroup, 3, 8}, {kMask, 1}, {kOther, 0}});
  BOOST_TEST(get(volume, file, kAccessAcl) == changed);
  SetAttributes chown;
  chown.inode = file;
  chown.uid = 70;
  BOOST_TEST(volume.run(chown).code == Code::ok);
  BOOST_TEST(get(volume, file, kAccessAcl) == changed);
}

BOOST_AUTO_TEST_CASE(what_is_made_under_a_default_acl) {
  TestVolume volume;
  const auto top = volume.make(kRootInode, "d", 0040777);
  volume.run(set_acl(top, kDefaultAcl, acl_of(kRich)));
  // The umask is not asked; the mode that was wanted limits the ACL.
  const auto file = create(volume, top, "f", 0100666, 077).attributes;
  BOOST_TEST(file.mode == 0100664u);
  BOOST_TEST(get(volume, file.inode, kAccessAcl) == bytes_of(kRich));
  BOOST_TEST(get(volume, file.inode, kDefaultAcl) == "none");
  BOOST_TEST(file.xattr_bytes == kAccessAcl.size() + 1);
  const auto tight = create(volume, top, "tight", 0100600, 0).attributes;
  BOOST_TEST(tight.mode == 0100600u);
  BOOST_TEST(
      get(volume, tight.inode, kAccessAcl) ==
      bytes_of({{kOwner, 6}, {kUser, 7, 7}, {kOwningGroup, 4}, {kGroup, 3, 8}, {kMask, 0}, {kOther, 0}}));
  const auto fifo = create(volume, top, "p", 0010640, 0777).attributes;
  BOOST_TEST(fifo.mode == 0010640u);
  const auto directory = create(volume, top, "sub", 0040777, 022).attributes;
  BOOST_TEST(directory.mode == 0040664u);
  BOOST_TEST(get(volume, directory.inode, kAccessAcl) == bytes_of(kRich));
  BOOST_TEST(get(volume, directory.inode, kDefaultAcl) == bytes_of(kRich));
  const auto link = create(volume, top, "l", 0120777, 022).attributes;
  BOOST_TEST(link.mode == 0120777u);
  BOOST_TEST(link.xattr_bytes == 0u);
  // Who sends no umask asks for what it wants.
  BOOST_TEST(create(volume, top, "tool", 0100644, 0).attributes.mode == 0100644u);
  BOOST_TEST(create(volume, kRootInode, "plain", 0100666, 027).attributes.mode == 0100640u);
  // A default ACL of three entries gives a mode alone.
  volume.run(set_acl(top, kDefaultAcl, acl_of({{kOwner, 7}, {kOwningGroup, 5}, {kOther, 0}})));
  const auto simple = create(volume, top, "simple", 0100666, 077).attributes;
  BOOST_TEST(simple.mode == 0100640u);
  BOOST_TEST(simple.xattr_bytes == 0u);
  Operation unnamed;
  unnamed.who = user(5);
  Create body;
  body.parent = directory.inode;
  body.mode = 0100600;
  body.masked = 066;
  body.open = body.unnamed = true;
  unnamed.body = body;
  SetAttributes chmod;  // so that 5 may make something there
  chmod.inode = directory.inode;
  chmod.mode = 0777;
  volume.run(chmod);
  const Reply nameless = volume.run(unnamed);
  BOOST_REQUIRE(nameless.code == Code::ok);
  BOOST_TEST(nameless.attributes.mode == 0100664u);
  BOOST_TEST(get(volume, nameless.attributes.inode, kAccessAcl) == bytes_of(kRich));
}

BOOST_AUTO_TEST_CASE(nothing_is_left_of_what_is_deleted) {
  TestVolume volume;
  const auto top = volume.make(kRootInode, "d", 0040777);
  volume.run(set_acl(top, kDefaultAcl, acl_of(kRich)));
  create(volume, top, "f", 0100666, 0);
  volume.run(Unlink{top, "f", false});
  volume.run(Unlink{kRootInode, "d", true});
  for (auto& [key, value] : volume.rows.rows) BOOST_TEST(key.first != kXattrs);
}

BOOST_AUTO_TEST_CASE(the_owner_decides_by_them) {
  TestVolume volume;
  const auto directory = volume.make(kRootInode, "d", 0040700, user(5));
  const auto file = volume.make(directory, "f", 0100600, user(5));
  volume.write(file, 0, "text");
  const std::vector<Line> names{{kOwner, 7}, {kUser, 5, 7}, {kOwningGroup, 0}, {kMask, 7}, {kOther, 0}};
  const std::vector<Line> reads{{kOwner, 6}, {kUser, 4, 7}, {kOwningGroup, 0}, {kMask, 6}, {kOther, 0}};
  const auto looks = [&](uint32_t uid) {
    return volume.ask(Lookup{directory, "f"}, user(uid)).code == Code::ok;
  };
  BOOST_TEST(!looks(7));
  volume.run(set_acl(directory, kAccessAcl, acl_of(names)));
  volume.run(set_acl(file, kAccessAcl, acl_of(reads)));
  BOOST_TEST(looks(7));
  BOOST_TEST(!looks(8));
  BOOST_TEST(opens(volume, file, user(7), kRead));
  BOOST_TEST(!opens(volume, file, user(7), kWrite));
  BOOST_TEST(!opens(volume, file, user(8), kRead));
  BOOST_TEST(plan_read(volume.rows, user(7), Read{file, 0, 4}, false).has_value());
  BOOST_TEST(!plan_read(volume.rows, user(8), Read{file, 0, 4}, false).has_value());
  BOOST_TEST(volume.write(file, 0, "x", user(7)).code == Code::access_denied);
  BOOST_TEST(volume.ask(ReadDirectory{directory, 0, 10, false}, user(7)).code == Code::ok);
  BOOST_TEST(volume.run(Unlink{directory, "f", false}, user(7)).code == Code::access_denied);
  volume.run(set_acl(directory, kAccessAcl,
                     acl_of({{kOwner, 7}, {kUser, 7, 7}, {kOwningGroup, 0}, {kMask, 7}, {kOther, 0}})));
  BOOST_TEST(volume.run(Unlink{directory, "f", false}, user(7)).code == Code::ok);
}

// Groups that are not known yet: only what holds in any case.
BOOST_AUTO_TEST_CASE(groups_that_exclude) {
  TestVolume volume;
  const auto file = volume.make(kRootInode, "f", 0100604, user(5));
  Credentials unknown;
  unknown.uid = unknown.gid = 9;
  BOOST_TEST(!opens(volume, file, unknown, kRead));
  BOOST_TEST(opens(volume, file, user(9), kRead));
  BOOST_TEST(!opens(volume, file, user(9, {5}), kRead));
}

BOOST_AUTO_TEST_CASE(a_damaged_acl_lets_nobody_in) {
  TestVolume volume;
  const auto file = volume.make(kRootInode, "f", 0100644, user(5));
  volume.run(set_acl(file, kAccessAcl, acl_of(kRich)));
  volume.rows.rows[{kXattrs, name_key(file, kAccessAcl)}] = "nonsense";
  const RowsView view(volume.rows);
  const auto row = view.inode(file).value();
  BOOST_TEST(view.may(file, row, user(7), kRead).error().code == Code::corrupt);
  BOOST_TEST(view.may(file, row, user(5), kRead).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
