// Random operations against a model in plain containers, with kills, clean restarts and power losses between
// them: contents, names, link counts and usage agree, and the checker finds nothing.
#include <cstdlib>
#include <random>
#include <set>

#include "fixture.h"
#include "peer/base/hash.h"
#include "peer/volume/check.h"

using namespace efs;
using namespace efs::test;

namespace {

struct Model {
  struct File {
    std::string bytes;
    int names = 0;
  };
  std::map<std::string, InodeNumber> names;
  std::map<InodeNumber, File> files;
};

class Run {
 public:
  explicit Run(uint64_t seed) : random_(seed), peer_(seed) {}
  void steps(int count) {
    for (int i = 0; i < count; ++i) {
      step();
      if (i % 50 == 49) compare();
    }
    compare();
  }

 private:
  std::string name() { return "n" + std::to_string(random_() % 12); }
  InodeNumber any() {
    if (model_.files.empty()) return 0;
    return std::next(model_.files.begin(), ptrdiff_t(random_() % model_.files.size()))->first;
  }
  std::string bytes() {
    static constexpr size_t kSizes[] = {1, 100, 1500, 3000, 20'000, 70'000, 200'000};
    std::string out(1 + random_() % kSizes[random_() % 7], char('a' + random_() % 3));
    if (random_() % 2) out += std::to_string(random_());
    return out;
  }
  void drop(const std::string& name) {
    auto inode = model_.names[name];
    model_.names.erase(name);
    if (--model_.files[inode].names == 0) model_.files.erase(inode);
  }
  void create() {
    const auto label = name();
    Create create;
    create.parent = kRootInode;
    create.name = label;
    create.mode = 0100644;
    auto reply = peer_.call(create).reply;
    BOOST_REQUIRE(reply.code == (model_.names.contains(label) ? Code::exists : Code::ok));
    if (reply.code != Code::ok) return;
    BOOST_REQUIRE(given_.insert(reply.attributes.inode).second);
    model_.names[label] = reply.attributes.inode;
    model_.files[reply.attributes.inode].names = 1;
  }
  void write() {
    auto inode = any();
    if (inode == 0) return;
    auto& file = model_.files[inode];
    const auto data = bytes();
    const uint64_t offset = random_() % 3 ? random_() % (file.bytes.size() + 1) : random_() % 300'000;
    BOOST_REQUIRE(peer_.write(inode, offset, data).code == Code::ok);
    if (file.bytes.size() < offset + data.size()) file.bytes.resize(offset + data.size());
    file.bytes.replace(offset, data.size(), data);
  }
  void truncate() {
    auto inode = any();
    if (inode == 0) return;
    SetAttributes set;
    set.inode = inode;
    set.size = random_() % 250'000;
    BOOST_REQUIRE(peer_.call(set).reply.code == Code::ok);
    model_.files[inode].bytes.resize(*set.size);
  }
  void allocate() {
    auto inode = any();
    if (inode == 0) return;
    auto& file = model_.files[inode].bytes;
    Allocate allocate;
    allocate.inode = inode;
    allocate.offset = random_() % 200'000;
    allocate.length = 1 + random_() % 50'000;
    const int kind = int(random_() % 3);
    allocate.punch = kind == 0;
    allocate.zero = kind == 1;
    allocate.keep_size = kind == 0 || random_() % 2;
    BOOST_REQUIRE(peer_.call(allocate).reply.code == Code::ok);
    const size_t end = allocate.offset + allocate.length;
    if (!allocate.keep_size && file.size() < end) file.resize(end);
    if (kind != 2)
      for (size_t i = allocate.offset; i < std::min(end, file.size()); ++i) file[i] = 0;
  }
  void unlink() {
    const auto label = name();
    auto code = peer_.call(Unlink{kRootInode, label, false}).reply.code;
    BOOST_REQUIRE(code == (model_.names.contains(label) ? Code::ok : Code::not_found));
    if (code == Code::ok) drop(label);
  }
  void link() {
    auto inode = any();
    const auto label = name();
    if (inode == 0) return;
    Link link;
    link.inode = inode;
    link.parent = kRootInode;
    link.name = label;
    auto code = peer_.call(link).reply.code;
    BOOST_REQUIRE(code == (model_.names.contains(label) ? Code::exists : Code::ok));
    if (code != Code::ok) return;
    model_.names[label] = inode;
    ++model_.files[inode].names;
  }
  void rename() {
    const auto from = name(), to = name();
    Rename rename;
    rename.parent = rename.new_parent = kRootInode;
    rename.name = from;
    rename.new_name = to;
    auto code = peer_.call(rename).reply.code;
    BOOST_REQUIRE(code == (model_.names.contains(from) ? Code::ok : Code::not_found));
    if (code != Code::ok || model_.names[from] == (model_.names.contains(to) ? model_.names[to] : 0)) return;
    const auto inode = model_.names[from];
    if (model_.names.contains(to)) drop(to);
    model_.names.erase(from);
    model_.names[to] = inode;
  }
  void step() {
    switch (random_() % 20) {
      case 0:
      case 1:
      case 2:
        return create();
      case 3:
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
        return write();
      case 9:
      case 10:
        return truncate();
      case 11:
      case 12:
        return allocate();
      case 13:
      case 14:
        return unlink();
      case 15:
        return link();
      case 16:
        return rename();
      case 17:
        return peer_.pass(int64_t(random_() % 3) * kSecond);
      case 18:
        if (random_() % 8 == 0) peer_.restart_cleanly();
        return;
      default:
        if (random_() % 4 == 0) peer_.kill();
        if (random_() % 16 == 0) {
          BOOST_REQUIRE(peer_.call(Sync{}).reply.code == Code::ok);
          peer_.power_loss();
        }
    }
  }
  void compare() {
    auto listing = peer_.call(ReadDirectory{kRootInode}).reply;
    BOOST_REQUIRE_EQUAL(listing.entries.size(), model_.names.size());
    for (const DirectoryEntry entry : listing.entries)
      BOOST_REQUIRE(model_.names.at(std::string(entry.name)) == entry.inode);
    for (auto& [inode, file] : model_.files) {
      auto found = peer_.call(GetAttributes{inode}).reply.attributes;
      BOOST_REQUIRE_EQUAL(found.nlink, uint32_t(file.names));
      BOOST_REQUIRE_EQUAL(found.size, file.bytes.size());
      BOOST_REQUIRE(peer_.read(inode) == file.bytes);
    }
    auto checked = check_volume(*peer_.replica->rows(), &peer_.chunks);
    BOOST_REQUIRE(checked);
    BOOST_REQUIRE_MESSAGE(checked->problems.empty(),
                          (checked->problems.empty() ? std::string() : checked->problems.front()));
  }

  std::mt19937_64 random_;
  TestPeer peer_;
  Model model_;
  std::set<InodeNumber> given_;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(model)

BOOST_AUTO_TEST_CASE(random_operations_agree_with_the_model) {
  const bool longer = std::getenv("EFS_LONG") != nullptr;
  std::vector<uint64_t> seeds = {1, 2, 3, 4, 5, std::random_device{}()};
  if (longer)
    for (uint64_t seed = 100; seed < 300; ++seed) seeds.push_back(seed);
  for (uint64_t seed : seeds) {
    BOOST_TEST_MESSAGE("seed " << seed);
    BOOST_TEST_CONTEXT("seed " << seed) {
      Run(seed).steps(longer ? 2000 : 400);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_checker_finds_and_mends) {
  TestPeer peer;
  auto file = peer.make("a");
  auto other = peer.make("b");
  peer.write(file, 0, std::string(10'000, 'x'));
  peer.replica->checkpoint();
  auto environment = *peer.environments->open(peer.id);
  MetaStore rows(environment);
  {
    auto transaction = rows.begin();
    auto row = *InodeRow::decode(**transaction->get(kInodes, number_key(file)));
    row.nlink = 7;
    transaction->put(kInodes, number_key(file), row.encode());
    auto entry = *EntryRow::decode(**transaction->get(kEntries, name_key(kRootInode, "b")));
    transaction->erase(kEntries, name_key(kRootInode, "b"));
    transaction->erase(kCookies, pair_key(kRootInode, entry.cookie));
    StateRow state = *read_state(*transaction);
    state.usage.files = 99;
    transaction->put(kMeta, kStateKey, state.encode());
    transaction->put(kOvertaken, session_key({9}, file), text(encode(OvertakenRow{true, true, 5})));
    transaction->put(kOvertaken, session_key({9}, other), "?");
    transaction->commit(100);
  }
  auto transaction = rows.begin();
  auto found = check_volume(*transaction, &peer.chunks, transaction.get());
  BOOST_REQUIRE(found);
  BOOST_TEST(found->problems.size() == 4u);
  BOOST_TEST(found->repaired == 4u);
  auto again = check_volume(*transaction, &peer.chunks);
  BOOST_TEST(again->problems.empty());
  auto back = transaction->get(kEntries, name_key(kRootInode, "lost-" + std::to_string(other)));
  BOOST_TEST(back->has_value());
}

BOOST_AUTO_TEST_SUITE_END()
