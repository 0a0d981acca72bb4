// The register on the disk: replayed as it was, one at a time or many, and refused when it is damaged.
#include "peer/membership/register_store.h"

#include "test/unit/identity/fixture.h"

namespace efs {
namespace {

struct Fixture {
  Fixture() {
    for (uint32_t i = 0; i < 20; ++i) {
      AddUser user;
      user.name = numbered("user", i);
      user.uid = user.gid = 1000 + i;
      check_ok(mesh.change(user));
    }
  }
  TestMesh mesh;
  std::shared_ptr<MetaEnvironment> rows = make_memory_environment(RegisterStore::options());

  std::unique_ptr<RegisterStore> open() {
    auto store = RegisterStore::open(rows);
    check_ok(store);
    return std::move(*store);
  }
  std::vector<Bytes> some(size_t from, size_t to) const {
    return {mesh.entries.begin() + ptrdiff_t(from), mesh.entries.begin() + ptrdiff_t(to)};
  }
  void write(uint64_t index, const std::optional<Bytes>& entry) {
    std::string key;
    put_be(key, index);
    MetaEnvironment::Change change{0, key, std::nullopt};
    if (entry) change.value = text(*entry);
    check_ok(rows->write({change}));
  }
};

BOOST_FIXTURE_TEST_CASE(entries_outlive_a_restart, Fixture) {
  {
    auto store = open();
    BOOST_CHECK_EQUAL(store->state().version(), 0);
    check_ok(store->append(some(0, 1)));
    check_ok(store->append(some(1, 15)));  // many with one sync
    check_ok(store->append(some(15, 21)));
    BOOST_CHECK(store->state().head() == mesh.state.head());
  }
  auto store = open();
  BOOST_CHECK_EQUAL(store->state().version(), mesh.state.version());
  BOOST_CHECK(store->state().head() == mesh.state.head());
  BOOST_CHECK(store->state().user("user19") != nullptr);
  auto part = store->read(5, 3);
  check_ok(part);
  BOOST_CHECK(*part == some(5, 8));
  BOOST_CHECK_EQUAL(store->read(0, 100, 1)->size(), 1);
  BOOST_CHECK(store->read(21, 5)->empty());
}

BOOST_FIXTURE_TEST_CASE(what_comes_before_a_bad_entry_is_kept, Fixture) {
  auto store = open();
  auto entries = some(0, 6);
  entries[4].back() ^= 1;
  BOOST_CHECK(!store->append(entries));
  BOOST_CHECK_EQUAL(store->state().version(), 4);
  BOOST_CHECK(store->state().user("user2") != nullptr);
  BOOST_CHECK(store->state().user("user3") == nullptr);
  check_refused(store->append(some(5, 7)), Code::conflict, "is not the next one");
  store.reset();
  store = open();
  BOOST_CHECK_EQUAL(store->state().version(), 4);
  check_ok(store->append(some(4, 21)));
  BOOST_CHECK(store->state().head() == mesh.state.head());
}

BOOST_FIXTURE_TEST_CASE(a_gap_is_refused, Fixture) {
  check_ok(open()->append(mesh.entries));
  write(7, std::nullopt);
  check_refused(RegisterStore::open(rows), Code::corrupt, "entry 7 of the register is missing");
}

BOOST_FIXTURE_TEST_CASE(a_damaged_entry_is_refused_and_named, Fixture) {
  check_ok(open()->append(mesh.entries));
  Bytes damaged = mesh.entries[7];
  damaged[damaged.size() / 2] ^= 4;
  write(7, damaged);
  auto opened = RegisterStore::open(rows);
  BOOST_REQUIRE(!opened);
  BOOST_CHECK(opened.error().message.find("of the register") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(addresses_are_remembered, Fixture) {
  const PeerId peer = peer_id_of(mesh.founder.public_key());
  check_ok(open()->remember_addresses(peer, {"a:1", "b:2"}));
  BOOST_CHECK((open()->addresses().at(peer) == std::vector<std::string>{"a:1", "b:2"}));
  check_ok(open()->remember_addresses(peer, {"c:3"}));
  BOOST_CHECK((open()->addresses().at(peer) == std::vector<std::string>{"c:3"}));
}

}  // namespace
}  // namespace efs
