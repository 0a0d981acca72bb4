// MetaStore over both environments: what a reader sees, what a checkpoint keeps, what a failing one loses
// (nothing), and rows and environments that are damaged or too new.
#include "peer/store/meta_store.h"

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "fixture.h"

namespace efs {
namespace {

using test::TemporaryDirectory;

constexpr Table kFirst = 0, kSecond = 1;

// Small enough for sanitizers, which need the address space themselves.
MetaOptions options() {
  return {{"first", "second"}, uint64_t(1) << 30};
}

using RowMap = std::map<std::string, std::string>;

RowMap all_rows(const ReadRows& rows, Table table, std::string_view from = "") {
  RowMap found;
  auto status = rows.scan(table, from, [&](std::string_view key, std::string_view value) {
    BOOST_TEST(!found.contains(std::string(key)));
    if (!found.empty()) BOOST_TEST((found.rbegin()->first < key));
    found.emplace(key, value);
    return true;
  });
  BOOST_REQUIRE(status);
  return found;
}

std::optional<std::string> value_of(const ReadRows& rows, Table table, std::string_view key) {
  auto value = rows.get(table, key);
  BOOST_REQUIRE(value);
  if (!*value) return std::nullopt;
  return std::string(**value);
}

void put_one(MetaStore& store, std::string_view key, std::string_view value, uint64_t index) {
  auto transaction = store.begin();
  transaction->put(kFirst, key, value);
  transaction->commit(index);
}

// Refuses to write while `full` is set.
class FullDisk final : public MetaEnvironment {
 public:
  explicit FullDisk(std::shared_ptr<MetaEnvironment> below) : below_(std::move(below)) {}
  Status write(const std::vector<Change>& changes) override {
    if (full) return fail(Code::no_space, "the disk is full");
    return below_->write(changes);
  }
  std::unique_ptr<ReadRows> snapshot() const override { return below_->snapshot(); }
  uint64_t used_bytes() const override { return below_->used_bytes(); }
  bool full = false;

 private:
  std::shared_ptr<MetaEnvironment> below_;
};

// Random transactions and checkpoints against a map, with a restart now and then: after a restart the rows
// are those of the last checkpoint.
void compare_with_model(const std::function<std::shared_ptr<MetaEnvironment>()>& open, unsigned seed) {
  std::mt19937 random(seed);
  auto environment = open();
  auto store = std::make_unique<MetaStore>(environment);
  RowMap model[2], durable[2];
  uint64_t index = 0, durable_index = 0;
  for (int step = 0; step < 400; ++step) {
    RowMap changed[2] = {model[0], model[1]};
    auto transaction = store->begin();
    for (unsigned i = random() % 6; i > 0; --i) {
      Table table = random() % 2;
      std::string key = "key" + std::to_string(random() % 60);
      if (random() % 3 == 0) {
        transaction->erase(table, key);
        changed[table].erase(key);
      } else {
        std::string value(random() % (random() % 20 == 0 ? 20000 : 40), char('a' + random() % 26));
        transaction->put(table, key, value);
        changed[table][key] = value;
      }
    }
    BOOST_TEST((all_rows(*transaction, 0) == changed[0]));
    BOOST_TEST((all_rows(*store->read(), 0) == model[0]));
    if (random() % 8 != 0) {
      transaction->commit(++index);
      for (Table table : {kFirst, kSecond}) model[table] = changed[table];
    }
    transaction.reset();
    if (random() % 10 == 0) {
      BOOST_REQUIRE(store->checkpoint());
      for (Table table : {kFirst, kSecond}) durable[table] = model[table];
      durable_index = index;
    }
    if (random() % 40 == 0) {
      store.reset();
      environment.reset();
      environment = open();
      store = std::make_unique<MetaStore>(environment);
      for (Table table : {kFirst, kSecond}) model[table] = durable[table];
      index = durable_index;
    }
    BOOST_TEST(store->applied_index() == index);
    BOOST_TEST(store->checkpointed_index() == durable_index);
    auto rows = store->read();
    for (Table table : {kFirst, kSecond}) {
      std::string from = "key" + std::to_string(random() % 60);
      BOOST_TEST((all_rows(*rows, table) == model[table]));
      BOOST_TEST(
          (all_rows(*rows, table, from) == RowMap(model[table].lower_bound(from), model[table].end())));
      auto expected = model[table].find(from);
      auto found = value_of(*rows, table, from);
      BOOST_TEST((expected == model[table].end() ? !found : found == expected->second));
    }
  }
}

BOOST_AUTO_TEST_SUITE(meta_store)

BOOST_AUTO_TEST_CASE(rows_are_those_of_a_map_in_memory) {
  for (unsigned seed : {1u, 2u, 3u}) {
    auto environment = make_memory_environment(options());
    compare_with_model([&] { return environment; }, seed);
  }
}

BOOST_AUTO_TEST_CASE(rows_are_those_of_a_map_in_lmdb) {
  TemporaryDirectory directory;
  unsigned seed = 4;
  compare_with_model(
      [&] {
        auto environment = open_lmdb(directory / "a/b", options());
        BOOST_REQUIRE(environment);
        return *environment;
      },
      seed);
}

BOOST_AUTO_TEST_CASE(a_reader_keeps_its_moment_through_commits_and_checkpoints) {
  TemporaryDirectory directory;
  auto lmdb = open_lmdb(directory / "meta", options());
  BOOST_REQUIRE(lmdb);
  for (const auto& environment : {make_memory_environment(options()), *lmdb}) {
    MetaStore store(environment);
    put_one(store, "a", "1", 1);
    auto first = store.read();
    put_one(store, "a", "2", 2);
    auto second = store.read();
    BOOST_REQUIRE(store.checkpoint());
    put_one(store, "b", "3", 3);
    BOOST_REQUIRE(store.checkpoint());
    BOOST_TEST((all_rows(*first, kFirst) == RowMap{{"a", "1"}}));
    BOOST_TEST((all_rows(*second, kFirst) == RowMap{{"a", "2"}}));
    BOOST_TEST((all_rows(*store.read(), kFirst) == RowMap{{"a", "2"}, {"b", "3"}}));
  }
}

BOOST_AUTO_TEST_CASE(a_transaction_that_spans_a_checkpoint_is_whole) {
  MetaStore store(make_memory_environment(options()));
  put_one(store, "a", "1", 1);
  auto transaction = store.begin();
  transaction->put(kFirst, "b", "2");
  BOOST_REQUIRE(store.checkpoint());
  BOOST_TEST((all_rows(*transaction, kFirst) == RowMap{{"a", "1"}, {"b", "2"}}));
  transaction->commit(2);
  BOOST_TEST(store.checkpointed_index() == 1u);
  BOOST_TEST(store.dirty_transactions() == 1u);
  BOOST_TEST((all_rows(*store.read(), kFirst) == RowMap{{"a", "1"}, {"b", "2"}}));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_on_a_full_disk_loses_nothing_and_is_tried_again) {
  auto disk = std::make_shared<FullDisk>(make_memory_environment(options()));
  MetaStore store(disk);
  put_one(store, "a", "1", 1);
  disk->full = true;
  BOOST_TEST((store.checkpoint().error().code == Code::no_space));
  put_one(store, "b", "2", 2);
  BOOST_TEST((store.checkpoint().error().code == Code::no_space));
  BOOST_TEST(store.checkpointed_index() == 0u);
  BOOST_TEST((all_rows(*store.read(), kFirst) == RowMap{{"a", "1"}, {"b", "2"}}));
  disk->full = false;
  BOOST_REQUIRE(store.checkpoint());
  BOOST_TEST(store.checkpointed_index() == 2u);
  BOOST_TEST(store.dirty_transactions() == 0u);
  BOOST_TEST((all_rows(*disk->snapshot(), kFirst) == RowMap{{"a", "1"}, {"b", "2"}}));
}

BOOST_AUTO_TEST_CASE(what_the_rows_refer_to_is_synced_first_and_its_failure_stops_the_checkpoint) {
  auto environment = make_memory_environment(options());
  MetaStore store(environment);
  put_one(store, "a", "1", 1);
  auto failing = store.checkpoint([] { return Status(fail(Code::io, "no sync")); });
  BOOST_TEST((failing.error().code == Code::io));
  BOOST_TEST(all_rows(*environment->snapshot(), kFirst).empty());
  BOOST_TEST(value_of(*store.read(), kFirst, "a").value() == "1");
  put_one(store, "b", "2", 2);
  bool synced = false;
  BOOST_REQUIRE(store.checkpoint([&] {
    synced = true;
    return Status();
  }));
  BOOST_TEST(synced);
  BOOST_TEST((all_rows(*environment->snapshot(), kFirst) == RowMap{{"a", "1"}, {"b", "2"}}));
}

BOOST_AUTO_TEST_CASE(a_full_map_is_no_space_and_what_was_there_stays) {
  TemporaryDirectory directory;
  auto small = options();
  small.max_bytes = 1 << 20;
  auto environment = open_lmdb(directory / "meta", small);
  BOOST_REQUIRE(environment);
  MetaStore store(*environment);
  put_one(store, "a", "1", 1);
  BOOST_REQUIRE(store.checkpoint());
  put_one(store, "big", std::string(2 << 20, 'x'), 2);
  auto status = store.checkpoint();
  BOOST_REQUIRE(!status);
  BOOST_TEST((status.error().code == Code::no_space));
  BOOST_TEST(status.error().message.find(directory.path()) != std::string::npos);
  BOOST_TEST(value_of(*store.read(), kFirst, "a").value() == "1");
  BOOST_TEST(value_of(*store.read(), kFirst, "big")->size() == size_t(2 << 20));
}

BOOST_AUTO_TEST_CASE(what_erased_rows_took_is_taken_again) {
  TemporaryDirectory directory;
  auto environment = open_lmdb(directory / "meta", options());
  BOOST_REQUIRE(environment);
  MetaStore store(*environment);
  constexpr uint64_t kBytes = 4 << 20;
  put_one(store, "a", std::string(kBytes, 'x'), 1);
  BOOST_REQUIRE(store.checkpoint());
  const uint64_t used = store.used_bytes();
  BOOST_TEST(used > kBytes);
  BOOST_TEST(store.reusable_bytes() < kBytes / 16);
  {
    auto transaction = store.begin();
    transaction->erase(kFirst, "a");
    transaction->commit(2);
  }
  BOOST_REQUIRE(store.checkpoint());
  BOOST_TEST(store.reusable_bytes() >= kBytes);
  put_one(store, "b", "one more makes the list of the last usable", 3);
  BOOST_REQUIRE(store.checkpoint());
  put_one(store, "c", std::string(kBytes, 'y'), 4);
  BOOST_REQUIRE(store.checkpoint());
  BOOST_TEST(store.reusable_bytes() < kBytes / 16);
  BOOST_TEST(store.used_bytes() < used + kBytes / 16);
}

BOOST_AUTO_TEST_CASE(large_and_empty_values_and_long_keys_are_kept) {
  TemporaryDirectory directory;
  std::string key(kMaxKeyBytes, 'k');
  std::string big(kMaxValueBytes, 'v');
  {
    auto environment = open_lmdb(directory / "meta", options());
    BOOST_REQUIRE(environment);
    MetaStore store(*environment);
    auto transaction = store.begin();
    transaction->put(kFirst, key, "");
    transaction->put(kSecond, "big", big);
    transaction->commit(7);
    BOOST_REQUIRE(store.checkpoint());
    BOOST_TEST(store.used_bytes() > kMaxValueBytes);
  }
  auto environment = open_lmdb(directory / "meta", options());
  BOOST_REQUIRE(environment);
  MetaStore store(*environment);
  BOOST_TEST(store.applied_index() == 7u);
  BOOST_TEST(value_of(*store.read(), kFirst, key).value() == "");
  BOOST_TEST((value_of(*store.read(), kSecond, "big") == big));
  BOOST_TEST(!value_of(*store.read(), kFirst, std::string(kMaxKeyBytes + 1, 'k')));
  BOOST_TEST(all_rows(*store.read(), kFirst, std::string(kMaxKeyBytes + 1, 'k')).empty());
}

BOOST_AUTO_TEST_CASE(a_damaged_row_is_corrupt_and_its_neighbours_are_read) {
  TemporaryDirectory directory;
  {
    auto environment = open_lmdb(directory / "meta", options());
    MetaStore store(*environment);
    put_one(store, "good", "this row is well", 1);
    put_one(store, "hurt", "this row will be hurt", 2);
    BOOST_REQUIRE(store.checkpoint());
  }
  {
    std::fstream file(directory / "meta/data.mdb", std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    size_t hits = 0;
    for (size_t at = bytes.find("this row will"); at != std::string::npos;
         at = bytes.find("this row will", at + 1)) {
      file.seekp(long(at));
      file.put('T');
      ++hits;
    }
    BOOST_REQUIRE(hits > 0);
  }
  auto environment = open_lmdb(directory / "meta", options());
  BOOST_REQUIRE(environment);
  MetaStore store(*environment);
  auto rows = store.read();
  BOOST_TEST(value_of(*rows, kFirst, "good").value() == "this row is well");
  BOOST_TEST((rows->get(kFirst, "hurt").error().code == Code::corrupt));
  BOOST_TEST((rows->scan(kFirst, "", [](auto, auto) { return true; }).error().code == Code::corrupt));
}

BOOST_AUTO_TEST_CASE(an_environment_of_a_newer_format_is_refused) {
  TemporaryDirectory directory;
  {
    auto environment = open_lmdb(directory / "meta", options());
    BOOST_REQUIRE(environment);
    std::string format;
    put_be(format, uint32_t(2));
    BOOST_REQUIRE((*environment)->write({{kStoreTable, "format", format}}));
  }
  auto environment = open_lmdb(directory / "meta", options());
  BOOST_REQUIRE(!environment);
  BOOST_TEST((environment.error().code == Code::version));
  BOOST_TEST(environment.error().message.find("format 2") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_file_that_is_not_an_environment_is_refused) {
  TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "meta");
  std::ofstream(directory / "meta/data.mdb") << std::string(100000, 'x');
  auto environment = open_lmdb(directory / "meta", options());
  BOOST_REQUIRE(!environment);
  BOOST_TEST((environment.error().code == Code::corrupt));
}

// Each transaction moves an amount from one row to another: a reader that does not see the same sum in
// every scan, and by single gets, saw half a transaction.
BOOST_AUTO_TEST_CASE(readers_on_threads_see_whole_transactions_while_checkpoints_run) {
  TemporaryDirectory directory;
  auto environment = open_lmdb(directory / "meta", options());
  BOOST_REQUIRE(environment);
  MetaStore store(*environment);
  constexpr int kRows = 50, kEach = 100;
  auto key_of = [](int row) { return "row" + std::to_string(row); };
  {
    auto transaction = store.begin();
    for (int row = 0; row < kRows; ++row) transaction->put(kFirst, key_of(row), std::to_string(kEach));
    transaction->commit(1);
  }
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<int> scans{0};
  auto read = [&] {
    while (!stop) {
      auto rows = store.read();
      int sum = 0, sum_of_gets = 0;
      auto status = rows->scan(kFirst, "", [&](std::string_view, std::string_view value) {
        sum += std::stoi(std::string(value));
        return true;
      });
      for (int row = 0; row < kRows; ++row)
        sum_of_gets += std::stoi(std::string(rows->get(kFirst, key_of(row))->value()));
      if (!status || sum != kRows * kEach || sum_of_gets != sum) ++wrong;
      ++scans;
    }
  };
  auto checkpoint = [&] {
    while (!stop) {
      if (!store.checkpoint()) ++wrong;
      std::this_thread::yield();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(read);
  threads.emplace_back(checkpoint);
  std::mt19937 random(1);
  uint64_t index = 1;
  while (index < 3000 || scans < 50) {
    auto transaction = store.begin();
    std::string from = key_of(int(random() % kRows)), to = key_of(int(random() % kRows));
    int amount = int(random() % 10);
    int had = std::stoi(std::string(transaction->get(kFirst, from)->value()));
    transaction->put(kFirst, from, std::to_string(had - amount));
    int has = std::stoi(std::string(transaction->get(kFirst, to)->value()));
    transaction->put(kFirst, to, std::to_string(has + amount));
    transaction->commit(++index);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  BOOST_TEST(wrong == 0);
  BOOST_REQUIRE(store.checkpoint());
  BOOST_TEST(store.checkpointed_index() == index);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
