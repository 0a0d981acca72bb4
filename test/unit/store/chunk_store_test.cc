// Chunks on real files: reads at any offset, damage, erasing and giving space back, missing and foreign
// stores, full ones, an index that is lost, and threads. (Power losses: test/sim/store/.)
#include "peer/store/chunk_store.h"

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <random>
#include <thread>

#include "chunk_fixture.h"
#include "peer/runtime/real.h"
#include "peer/runtime/simulated.h"

namespace efs {
namespace {

using namespace test;

BOOST_AUTO_TEST_SUITE(chunk_store)

BOOST_AUTO_TEST_CASE(any_part_of_a_chunk_reads_exactly) {
  Stores stores;
  auto store = stores.open(true);
  for (size_t size : {size_t(1), size_t(4095), size_t(4096), size_t(4097), size_t(100000), kMaxChunkBytes}) {
    Chunk chunk(unsigned(size), size);
    put(*store, chunk);
    BOOST_TEST((store->length(chunk.key) == uint32_t(size)));
    std::mt19937 random(1);
    for (int i = 0; i < 50; ++i) {
      uint32_t offset = uint32_t(random() % size);
      Bytes part(random() % (size - offset) + 1);
      BOOST_REQUIRE(store->read(chunk.key, offset, part));
      BOOST_TEST((std::equal(part.begin(), part.end(), chunk.bytes.begin() + offset)));
    }
    Bytes beyond(2);
    BOOST_TEST((store->read(chunk.key, uint32_t(size - 1), beyond).error().code == Code::invalid_argument));
  }
  Bytes none(1);
  BOOST_TEST((store->read({7, {}}, 0, none).error().code == Code::not_found));
  BOOST_TEST((store->put({7, {}}, {}, {}, Durability::by_log).error().code == Code::invalid_argument));
}

BOOST_AUTO_TEST_CASE(what_is_not_in_memory_is_not_waited_for) {
  Stores stores;
  auto store = stores.open(true);
  for (size_t size : {size_t(5000), size_t(300'000)}) {  // with its table in the way, and beside it
    const Chunk chunk(unsigned(size), size);
    put(*store, chunk);
    Bytes part(4096);
    const auto is_right = [&] { return std::equal(part.begin(), part.end(), chunk.bytes.begin() + 100); };
    BOOST_REQUIRE(store->read(chunk.key, 100, part, true));
    BOOST_TEST(is_right());
    forget_bytes(stores.directory.path());
    const auto now = store->read(chunk.key, 100, part, true);
    BOOST_TEST((now ? is_right() : now.error().code == Code::uncached));
    BOOST_REQUIRE(store->read(chunk.key, 100, part));
    BOOST_TEST(is_right());
    BOOST_TEST(store->read(chunk.key, 100, part, true).has_value());
  }
}

BOOST_AUTO_TEST_CASE(a_damaged_block_is_corrupt_and_the_others_read) {
  Stores stores;
  auto store = stores.open(true);
  Chunk chunk(1, 64 << 10);
  put(*store, chunk);
  damage(stores.directory.path(), ByteView(chunk.bytes).subspan(3 * 4096 + 5, 64));
  Bytes part(4096);
  BOOST_TEST(store->read(chunk.key, 2 * 4096, part).has_value());
  BOOST_TEST((store->read(chunk.key, 3 * 4096, part).error().code == Code::corrupt));
  BOOST_TEST((store->read(chunk.key, 4 * 4096 - 1, part).error().code == Code::corrupt));
  BOOST_TEST(store->read(chunk.key, 4 * 4096, part).has_value());
  BOOST_TEST(store->check(false).size() == 1u);
  BOOST_TEST(store->check(true).size() == 1u);
  BOOST_TEST(store->check(false).empty());
  BOOST_TEST(!store->contains(chunk.key));
  put(*store, chunk);
  BOOST_TEST(reads(*store, chunk));
}

// Who puts back from a copy what could not be read stores the same bytes.
BOOST_AUTO_TEST_CASE(a_damaged_chunk_that_is_stored_again_is_whole) {
  for (const bool indexed : {false, true}) {
    Stores stores;
    auto store = stores.open(true);
    Chunk chunk(1, 64 << 10);
    put(*store, chunk);
    if (indexed) BOOST_REQUIRE(store->checkpoint_sync());
    damage(stores.directory.path(), ByteView(chunk.bytes).subspan(3 * 4096 + 5, 64));
    BOOST_TEST(!reads(*store, chunk));
    put(*store, chunk);
    BOOST_TEST(reads(*store, chunk));
    BOOST_REQUIRE(store->checkpoint_sync());
    BOOST_TEST(reads(*store, chunk));
    BOOST_TEST(store->usage()[0].chunks == 1u);
    BOOST_TEST(store->stored(7).chunks == 1u);
    BOOST_TEST(store->check(false).empty());
    store.reset();
    store = stores.open(false);
    BOOST_TEST(reads(*store, chunk));
  }
}

BOOST_AUTO_TEST_CASE(a_chunk_that_is_stored_again_after_it_was_condemned_stays) {
  Stores stores;
  auto store = stores.open(true);
  Chunk kept(1, 5000), gone(2, 5000);
  put(*store, kept);
  put(*store, gone);
  store->condemn(kept.key);
  store->condemn(gone.key);
  put(*store, kept);
  const ChunkKey keys[] = {kept.key, gone.key};
  store->reap(keys);
  BOOST_TEST(reads(*store, kept));
  BOOST_TEST(!store->contains(gone.key));
  BOOST_TEST((store->list(7, std::nullopt, 10) == std::vector<ChunkKey>{kept.key}));
}

BOOST_AUTO_TEST_CASE(erased_space_comes_back_by_holes_and_by_rewriting) {
  Stores stores;
  auto store = stores.open(true);
  std::vector<Chunk> chunks;
  for (unsigned i = 0; i < 40; ++i) chunks.emplace_back(i, 300000);
  for (const Chunk& chunk : chunks) put(*store, chunk);
  BOOST_REQUIRE(store->checkpoint_sync());
  uint64_t full = store->usage()[0].used_bytes;
  for (size_t i = 0; i < chunks.size(); i += 2) erase(*store, chunks[i]);
  for (int i = 0; i < 10; ++i) BOOST_REQUIRE(store->collect());
  uint64_t half = store->usage()[0].used_bytes;
  BOOST_TEST(half < full * 7 / 10);
  for (size_t i = 1; i < chunks.size(); i += 2) BOOST_TEST(reads(*store, chunks[i]));
  for (size_t i = 1; i < 36; i += 2) erase(*store, chunks[i]);
  for (int i = 0; i < 10; ++i) BOOST_REQUIRE(store->collect());
  BOOST_TEST(store->usage()[0].used_bytes < full / 4);
  BOOST_TEST(reads(*store, chunks[37]));
  BOOST_TEST(reads(*store, chunks[39]));
  BOOST_TEST(store->check(false).empty());
  store.reset();
  store = stores.open(false);
  BOOST_TEST(store->usage()[0].chunks == 2u);
  BOOST_TEST(reads(*store, chunks[39]));
}

BOOST_AUTO_TEST_CASE(a_lost_index_is_rebuilt_from_the_segments) {
  Stores stores;
  std::vector<Chunk> chunks;
  for (unsigned i = 0; i < 30; ++i) chunks.emplace_back(i, 1 + i * 9000);
  {
    auto store = stores.open(true);
    for (const Chunk& chunk : chunks) put(*store, chunk);
    BOOST_REQUIRE(store->checkpoint_sync());
  }
  stores.index = make_memory_environment(chunk_index_options());
  auto store = stores.open(false);
  for (const Chunk& chunk : chunks) BOOST_TEST(reads(*store, chunk));
  BOOST_TEST(store->check(false).empty());
}

BOOST_AUTO_TEST_CASE(a_store_that_is_not_mounted_is_missing_and_never_filled) {
  Stores stores;
  Chunk chunk(1, 5000);
  {
    auto store = stores.open(true);
    put(*store, chunk);
    BOOST_REQUIRE(store->checkpoint_sync());
  }
  std::filesystem::rename(stores.directory / "chunks", stores.directory / "elsewhere");
  std::filesystem::create_directory(stores.directory / "chunks");
  for (bool create : {false, true}) {
    auto store = stores.open(create);
    BOOST_TEST(store->usage()[0].missing);
    BOOST_TEST(stores.log.last.find("is its disk mounted?") != std::string::npos);
    BOOST_TEST(!store->contains(chunk.key));
    Bytes bytes(10);
    BOOST_TEST((store->read(chunk.key, 0, bytes).error().code == Code::io));
    BOOST_TEST(
        (store->put(chunk.key, chunk.sum, chunk.bytes, Durability::by_log).error().code == Code::no_space));
    BOOST_TEST(std::filesystem::is_empty(stores.directory / "chunks"));
  }
  std::filesystem::remove(stores.directory / "chunks");
  std::filesystem::rename(stores.directory / "elsewhere", stores.directory / "chunks");
  BOOST_TEST(reads(*stores.open(false), chunk));
}

BOOST_AUTO_TEST_CASE(a_marker_that_cannot_be_looked_at_is_an_error_and_none_is_made) {
  Stores stores;
  { auto store = stores.open(true); }
  auto disk = make_simulated_disk(1);
  auto index = make_memory_environment(chunk_index_options());
  for (bool create : {true, false}) {
    {
      BOOST_REQUIRE(ChunkStore::open(disk->files(), index, {{"disk/chunks", 0}}, create, stores.log));
    }
    disk->fail_after(0);
    auto store = ChunkStore::open(disk->files(), index, {{"disk/chunks", 0}}, create, stores.log);
    BOOST_REQUIRE(!store);
    BOOST_TEST((store.error().code == Code::io));
    disk->process_died();
  }
}

BOOST_AUTO_TEST_CASE(another_peers_store_is_left_alone) {
  Stores stores;
  { auto store = stores.open(true); }
  stores.options.owner[0] = 1;
  stores.index = make_memory_environment(chunk_index_options());
  auto store = stores.open(true);
  BOOST_TEST(store->usage()[0].missing);
  BOOST_TEST(stores.log.last.find("another peer") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_marker_of_a_newer_format_is_refused) {
  Stores stores;
  { auto store = stores.open(true); }
  std::ofstream(stores.directory / "chunks/marker") << "efs chunk store, format 3\n";
  auto store =
      ChunkStore::open(real_files(), stores.index, stores.locations, false, stores.log, stores.options);
  BOOST_REQUIRE(!store);
  BOOST_TEST((store.error().code == Code::version));
}

BOOST_AUTO_TEST_CASE(a_store_at_its_limit_is_full_and_another_takes_over) {
  Stores stores;
  stores.locations[0].limit_bytes = 1 << 20;
  auto store = stores.open(true);
  std::vector<Chunk> chunks;
  for (unsigned i = 0; i < 20; ++i) chunks.emplace_back(i, 200000);
  size_t fit = 0;
  while (store->put(chunks[fit].key, chunks[fit].sum, chunks[fit].bytes, Durability::by_sync)) ++fit;
  BOOST_TEST(fit >= 4u);
  BOOST_TEST(fit <= 5u);
  BOOST_TEST(store->usage()[0].used_bytes <= uint64_t(1 << 20));
  BOOST_TEST(
      (store->put(chunks[fit].key, chunks[fit].sum, chunks[fit].bytes, Durability::by_sync).error().code ==
       Code::no_space));
  BOOST_REQUIRE(store->sync());
  BOOST_REQUIRE(store->add_store({stores.directory / "more", 1 << 30}));
  BOOST_TEST((store->add_store({stores.directory / "more", 1 << 30}).error().code == Code::exists));
  for (const Chunk& chunk : chunks) put(*store, chunk);
  BOOST_REQUIRE(store->checkpoint_sync());
  store.reset();
  stores.locations.push_back({stores.directory / "more", 0});
  store = stores.open(false);
  for (const Chunk& chunk : chunks) BOOST_TEST(reads(*store, chunk));
}

// Its one segment is the one that is written to, and would not be full for long.
BOOST_AUTO_TEST_CASE(a_full_store_has_room_again_after_deletes) {
  for (const auto& [length, keep_every] : {std::pair(200000u, 1000u), {10000u, 4u}}) {  // holes; rewriting
    Stores stores;
    stores.locations[0].limit_bytes = 2 << 20;
    auto store = stores.open(true);
    std::vector<Chunk> chunks;
    for (unsigned i = 0; i < 400; ++i) chunks.emplace_back(i, length);
    size_t fit = 0;
    while (store->put(chunks[fit].key, chunks[fit].sum, chunks[fit].bytes, Durability::by_sync)) ++fit;
    for (size_t i = 1; i < fit; ++i) {
      if (i % keep_every != 0) erase(*store, chunks[i]);
    }
    for (int i = 0; i < 3; ++i) BOOST_REQUIRE(store->collect());
    BOOST_TEST(store->usage()[0].used_bytes < uint64_t(1 << 20));
    BOOST_TEST(reads(*store, chunks[0]));
    for (size_t i = fit; i < fit + fit / 2; ++i) put(*store, chunks[i]);
    BOOST_TEST(store->check(false).empty());
  }
}

// One segment a call, and no pause between those that cost nothing: a large delete is given back soon.
BOOST_AUTO_TEST_CASE(what_is_given_back_for_little_is_asked_for_at_once) {
  for (const unsigned keep_every : {1000u, 20u, 2u}) {  // whole segments; all but few of each; holes
    Stores stores;
    auto store = stores.open(true);
    std::vector<Chunk> chunks;
    for (unsigned i = 0; i < 80; ++i) chunks.emplace_back(i, 300000);
    for (const Chunk& chunk : chunks) put(*store, chunk);
    BOOST_TEST(!*store->collect());
    const uint64_t full = store->usage()[0].used_bytes;
    for (unsigned i = 0; i < chunks.size(); ++i) {
      if (i % keep_every != 0) erase(*store, chunks[i]);
    }
    int calls = 1;
    while (*store->collect()) ++calls;
    const uint64_t left = store->usage()[0].used_bytes;
    if (keep_every == 20u) {
      BOOST_TEST(calls < 5);  // where bytes are moved it pauses
    } else {
      BOOST_TEST(calls > 5);
      BOOST_TEST(left < full / keep_every + full / 4);
    }
    for (unsigned i = 0; i < chunks.size(); i += keep_every) BOOST_TEST(reads(*store, chunks[i]));
  }
}

BOOST_AUTO_TEST_CASE(a_small_disk_keeps_room_for_metadata) {
  auto disk = make_simulated_disk(1);
  disk->set_capacity(8 << 20);
  Stores stores;
  auto index = make_memory_environment(chunk_index_options());
  auto opened = ChunkStore::open(disk->files(), index, {{"disk/chunks", 1 << 30}}, true, stores.log);
  BOOST_REQUIRE(opened);
  for (unsigned i = 0; i < 100; ++i) {
    const Chunk chunk(i, 100000);
    (void)(*opened)->put(chunk.key, chunk.sum, chunk.bytes, Durability::by_sync);
  }
  const auto space = disk->files().space("disk");
  BOOST_REQUIRE(space);
  BOOST_TEST(space->free_bytes >= space->total_bytes / 4);
  BOOST_TEST(space->free_bytes < space->total_bytes / 3);
}

BOOST_AUTO_TEST_CASE(a_disk_that_others_filled_is_looked_at_again) {
  auto disk = make_simulated_disk(1);
  disk->set_capacity(8 << 20);
  Stores stores;
  auto index = make_memory_environment(chunk_index_options());
  auto opened = ChunkStore::open(disk->files(), index, {{"disk/chunks", 0}}, true, stores.log);
  BOOST_REQUIRE(opened);
  ChunkStore& store = **opened;
  auto other = *disk->files().open("disk/other", OpenMode::create);
  BOOST_REQUIRE(other->write(0, Bytes(7 << 20, 1)));
  std::vector<Chunk> chunks;
  for (unsigned i = 0; i < 30; ++i) chunks.emplace_back(i, 100000);
  size_t fit = 0;
  for (int attempt = 0; attempt < 200; ++attempt) {
    const Chunk& chunk = chunks[fit];
    fit += store.put(chunk.key, chunk.sum, chunk.bytes, Durability::by_sync).has_value();
  }
  BOOST_TEST(fit < 12u);
  BOOST_REQUIRE(other->truncate(0));
  BOOST_REQUIRE(store.collect());
  for (const Chunk& chunk : chunks) put(store, chunk);
}

BOOST_AUTO_TEST_CASE(threads_put_read_and_erase_while_space_is_collected) {
  Stores stores;
  stores.options.segment_bytes = 1 << 20;
  auto store = stores.open(true);
  std::vector<Chunk> chunks;
  for (unsigned i = 0; i < 60; ++i) chunks.emplace_back(i, 1000 + i * 2500);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned part = 0; part < 2; ++part) {
    threads.emplace_back([&, part] {
      std::mt19937 random(part);
      for (int i = 0; i < 400; ++i) {
        const Chunk& chunk = chunks[random() % 30 * 2 + part];  // its own, so that it knows what is there
        if (!store->put(chunk.key, chunk.sum, chunk.bytes, Durability::by_sync)) ++wrong;
        if (!reads(*store, chunk)) ++wrong;
        if (i % 3 != 0) erase(*store, chunk);
        if (i % 50 == 0 && !store->sync()) ++wrong;
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop) {
      if (!store->collect()) ++wrong;
    }
  });
  threads.emplace_back([&] {
    std::mt19937 random(9);
    while (!stop) {
      const Chunk& chunk = chunks[random() % chunks.size()];
      Bytes bytes(chunk.bytes.size());
      auto status = store->read(chunk.key, 0, bytes);
      if (status ? bytes != chunk.bytes : status.error().code != Code::not_found) ++wrong;
    }
  });
  threads[0].join();
  threads[1].join();
  stop = true;
  threads[2].join();
  threads[3].join();
  BOOST_TEST(wrong == 0);
  BOOST_TEST(store->check(false).empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
