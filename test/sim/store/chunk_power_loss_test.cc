// Shows: after power loss at any step, recovery included, every chunk that was put and synced and not erased
// is there, byte for byte; after a kill every chunk whose put() returned; whatever is there reads exactly;
// nothing is lost to holes, to segments that are rewritten, or to an index that is lost; the accounts add up.
//
// How: random puts (small and large, of bytes that shrink and that do not, in all forms, by sync and by
// log), syncs, checkpoints, erasures and collections on one or two simulated stores with small segments; the
// disk fails at a random call or between calls, power is lost or the process dies, sometimes the index goes
// too; the store is opened again (with more failures), compared with a model, and used on.
#include <map>
#include <set>

#include "peer/runtime/simulated.h"
#include "peer/store/chunk_store.h"
#include "seeds.h"
#include "test/sim/disk_environment.h"

namespace efs {
namespace {

using test::Choice;

class NullLogger final : public Logger {
 public:
  void write(LogLevel, std::string_view) override {}
  bool enabled(LogLevel) const override { return false; }
};

struct Known {
  ChunkKey key;
  Bytes bytes;
  Id sha256{};
  PackedBytes packed;
};

class Run {
 public:
  explicit Run(uint64_t seed) : choice_(seed), disk_(make_simulated_disk(seed)) {
    options_.segment_bytes = 65536 << choice_.below(5);
    for (uint64_t store = 0; store <= choice_.below(2); ++store)
      locations_.push_back({"disk" + std::to_string(store) + "/chunks", 1 << 30});
    for (int i = 0; i < 50; ++i) known_.push_back(make_chunk());
  }

  void lives(int count) {
    for (int life = 0; life < count; ++life) {
      open_until_it_works();
      use();
      crash();
    }
    open_until_it_works();
    BOOST_TEST(store_->check(false).empty());
  }

 private:
  Known make_chunk() {
    Known chunk;
    uint64_t most = choice_.one_in(3) ? 200000 : 9000;
    chunk.bytes.resize(1 + choice_.below(most));
    const uint64_t letters = choice_.one_in(2) ? 256 : 3;
    for (auto& byte : chunk.bytes) byte = uint8_t(choice_.below(letters));
    chunk.packed = pack(Compression(choice_.below(3)), chunk.bytes);
    chunk.sha256 = sha256(chunk.bytes);
    chunk.key = {uint32_t(choice_.below(2)), blake2b(chunk.sha256)};
    return chunk;
  }

  void open_until_it_works() {
    for (int attempt = 0;; ++attempt) {
      if (attempt < 4 && choice_.one_in(2)) disk_->fail_after(int64_t(choice_.below(15)) + 1);
      if (index_ == nullptr || (opened_ && choice_.one_in(8)))
        index_ = std::make_shared<test::DiskEnvironment>(
            *disk_, make_memory_environment(chunk_index_options()), [this] { return choice_.one_in(2); });
      auto store = ChunkStore::open(disk_->files(), index_, locations_, !opened_, log_, options_);
      if (store) {
        disk_->fail_after(-1);
        opened_ = true;
        store_ = std::move(*store);
        compare();
        return;
      }
      BOOST_REQUIRE_MESSAGE(store.error().code == Code::io, to_text(store.error()));
      BOOST_REQUIRE(attempt < 10);
      stop();
    }
  }

  bool reads_right(const Known& chunk) {
    const size_t from = choice_.one_in(2) ? choice_.below(chunk.bytes.size()) : 0;
    Bytes bytes(chunk.bytes.size() - from);
    auto status = store_->read(chunk.key, uint32_t(from), bytes);
    if (!status) BOOST_TEST_MESSAGE(to_text(status.error()));
    return status && std::equal(bytes.begin(), bytes.end(), chunk.bytes.begin() + long(from)) &&
           store_->length(chunk.key) == uint32_t(chunk.bytes.size());
  }

  void compare() {
    for (const StoreUsage& usage : store_->usage()) BOOST_REQUIRE(!usage.missing);
    size_t there = 0;
    for (size_t i = 0; i < known_.size(); ++i) {
      bool required = durable_.contains(i) || (only_killed_ && stored_.contains(i));
      if (!store_->contains(known_[i].key)) {
        BOOST_REQUIRE_MESSAGE(!required, "chunk " << i << " is lost");
        stored_.erase(i);
        continue;
      }
      ++there;
      BOOST_REQUIRE_MESSAGE(reads_right(known_[i]), "chunk " << i << " does not read");
      stored_.try_emplace(i, Durability::by_log);
    }
    condemned_.clear();
    uint64_t counted = 0, listed = 0, by_volume = 0;
    for (const StoreUsage& usage : store_->usage()) counted += usage.chunks;
    for (uint32_t volume : {0u, 1u}) {
      listed += store_->list(volume, std::nullopt, 1000).size();
      by_volume += store_->stored(volume).chunks;
    }
    BOOST_TEST(listed == there);
    BOOST_TEST(counted == there);
    BOOST_TEST(by_volume == there);
    if (choice_.one_in(4)) {
      auto problems = store_->check(false);
      BOOST_REQUIRE_MESSAGE(problems.empty(), (problems.empty() ? "" : problems.front()));
    }
  }

  void use() {
    if (!choice_.one_in(4)) disk_->fail_after(int64_t(choice_.below(300)) + 1);
    for (uint64_t steps = choice_.below(150); steps > 0; --steps) {
      if (!step()) return;
    }
  }

  bool step() {
    size_t which = choice_.below(known_.size());
    switch (choice_.below(12)) {
      case 0: {
        if (!store_->sync()) return false;
        for (auto [i, durability] : stored_) {
          if (durability == Durability::by_sync) durable_.insert(i);
        }
        return true;
      }
      case 1: {
        if (!store_->checkpoint_sync()) return false;
        for (auto [i, durability] : stored_) durable_.insert(i);
        return true;
      }
      case 2:
      case 3:
        return store_->collect().has_value();
      case 4:
      case 5:
      case 6: {
        if (!stored_.contains(which)) return true;
        store_->condemn(known_[which].key);
        condemned_.insert(which);
        return true;
      }
      case 7:
        return reap();
      case 8: {
        if (stored_.contains(which)) BOOST_REQUIRE(reads_right(known_[which]) || disk_failed());
        return true;
      }
      default:
        return put(which);
    }
  }

  bool disk_failed() { return !disk_->files().list("."); }

  bool put(size_t which) {
    const Known& chunk = known_[which];
    auto durability = choice_.one_in(2) ? Durability::by_sync : Durability::by_log;
    const bool packed = choice_.one_in(2);
    const ChunkContent content = packed ? ChunkContent(chunk.bytes, chunk.packed) : ChunkContent(chunk.bytes);
    if (!store_->put(chunk.key, chunk.sha256, content, durability)) return false;
    condemned_.erase(which);
    auto [at, fresh] = stored_.try_emplace(which, durability);
    if (durability == Durability::by_sync) at->second = durability;
    return true;
  }

  bool reap() {
    std::vector<ChunkKey> keys;
    for (size_t i : condemned_) {
      keys.push_back(known_[i].key);
      stored_.erase(i);
      durable_.erase(i);
    }
    for (int i = 0; i < 5; ++i)
      keys.push_back(known_[choice_.below(known_.size())].key);  // not condemned: stay
    condemned_.clear();
    store_->reap(keys);
    return true;
  }

  void crash() {
    store_.reset();
    only_killed_ = true;
    stop();
  }

  void stop() {
    if (choice_.one_in(2)) {
      disk_->power_loss();
      only_killed_ = false;
    } else {
      disk_->process_died();
    }
  }

  Choice choice_;
  std::unique_ptr<SimulatedDisk> disk_;
  NullLogger log_;
  ChunkOptions options_;
  std::vector<StoreLocation> locations_;
  std::shared_ptr<MetaEnvironment> index_;
  std::unique_ptr<ChunkStore> store_;
  std::vector<Known> known_;
  std::map<size_t, Durability> stored_;  // put() returned, or found there after a crash
  std::set<size_t> durable_, condemned_;
  bool opened_ = false, only_killed_ = false;
};

BOOST_AUTO_TEST_SUITE(chunk_power_loss)

BOOST_AUTO_TEST_CASE(what_was_synced_is_there_and_all_reads_are_exact) {
  for (uint64_t seed : test::seeds()) {
    BOOST_TEST_CONTEXT("EFS_SEED=" << seed) {
      Run(seed).lives(6);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
