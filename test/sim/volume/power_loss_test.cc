// Shows: power loss and kills at any step of the disk, the steps of recovery itself included. Each volume
// comes back as it was after some operation, exactly (every name, every byte), and that is not before what
// was synced; after a kill, not before what was answered. No inode number is given twice. The checkers of
// rows and chunks find nothing, and what nobody names any more is freed in the end. Compaction runs all the
// while (in the checkpointer's tick) and is cut off with the rest.
//
// How: two volumes on one real log and one real chunk store with small files, on a simulated disk; LMDB is in
// memory, each commit a step of the disk. Random operations against a model (test/volume_load.h), with
// checkpoints, holes, rewritten segments and log files used again; the disk fails at the Nth step; power is
// lost or the process dies; recovery is cut off too, and what was recovered is used on. EFS_SEED=N repeats
// one run, EFS_LONG=1 makes 1,000.
#include <boost/test/unit_test.hpp>
#include <cstdlib>

#include "peer/runtime/simulated.h"
#include "peer/store/log_format.h"
#include "peer/volume/check.h"
#include "peer/volume/checkpointer.h"
#include "test/sim/disk_environment.h"
#include "test/volume_load.h"

using namespace efs;
using efs::test::require;

namespace {

struct StillClock final : Clock {
  int64_t now_ns() const override { return now; }
  int64_t wall_ns() const override { return now; }
  int64_t now = kSecond;
};
struct Seeded final : Random {
  explicit Seeded(uint64_t seed) : engine(seed) {}
  void fill(std::span<uint8_t> out) override {
    for (auto& byte : out) byte = uint8_t(engine());
  }
  std::mt19937_64 engine;
};
struct Quiet final : Logger {
  void write(LogLevel, std::string_view) override {}
  bool enabled(LogLevel) const override { return false; }
};

class Environments final : public VolumeEnvironments {
 public:
  Environments(SimulatedDisk& disk, std::function<bool()> coin) : disk_(disk), coin_(std::move(coin)) {}
  Result<std::shared_ptr<MetaEnvironment>> open(const VolumeId& id) override {
    EFS_ASSIGN(auto inner, inner_->open(id));
    return std::make_shared<test::DiskEnvironment>(disk_, std::move(inner), coin_);
  }
  Result<std::vector<VolumeId>> list() override { return inner_->list(); }
  Status remove(const VolumeId& id) override { return inner_->remove(id); }

 private:
  SimulatedDisk& disk_;
  const std::function<bool()> coin_;
  const std::unique_ptr<VolumeEnvironments> inner_ = make_memory_environments();
};

constexpr uint64_t kRecoveryOperations =
    2;  // that one recovery adds: new inode numbers, its own sessions' end

// What all runs did together: a test of holes and reused files in which there were none shows nothing.
struct Totals {
  uint64_t operations = 0, power_losses = 0, kills = 0, cut_recoveries = 0;
  uint64_t runs_with_holes = 0, runs_with_removed_segments = 0, runs_with_reused_log_files = 0;
  uint64_t operations_lost = 0, joined_runs = 0;
};

class Run {
 public:
  static constexpr int64_t kNoFailure = -1;

  Run(uint64_t seed, Totals& totals)
      : totals_(totals),
        random_(seed),
        disk_(make_simulated_disk(seed)),
        environments_(std::make_unique<Environments>(*disk_, [this] { return one_in(2); })),
        index_(std::make_shared<test::DiskEnvironment>(*disk_, make_memory_environment(chunk_index_options()),
                                                       [this] { return one_in(2); })) {
    set_options_.log_directory = "/data/log";
    set_options_.log.file_bytes = 131072u << below(3);
    set_options_.log.spare_files = uint32_t(below(3));
    set_options_.reserved_bytes = 0;
    chunk_options_.segment_bytes = 262144u << below(3);
    for (VolumeNumber number : {0, 1}) {
      volumes_.push_back({{}, number, test::VolumeLoad(seed * 2 + number), nullptr});
      volumes_.back().id[0] = uint8_t(number + 1);
    }
    require_ok(start());
    for (auto& volume : volumes_) {
      require_ok(set_->create(volume.id, volume.number, {0777, 0, 0}));
      volume.replica = set_->find(volume.id);
      volume.load.go_on_from(*volume.replica, {});
    }
  }

  // Loads, and fails at a random step, as many times. Then all is well, and nothing is left over.
  void rounds(int count) {
    for (int i = 0; i < count; ++i) {
      load(int64_t(below(500)));
      crash(!one_in(3));
    }
    load(kNoFailure);
    for (auto& volume : volumes_) require(!volume.replica->failed(), "a volume failed on a good disk");
    check_nothing_is_left_over();
    note_reuse();
  }

  // Power goes in the load, then at that step of recovery. False: recovery has fewer steps.
  bool recovery_cut_at(int64_t step, bool kill_first) {
    load(int64_t(100 + below(300)));
    if (kill_first) {  // kill, restart, load, power loss
      crash(false, 0);
      load(int64_t(below(300)));
    }
    const bool cut = crash(true, 1, step);
    load(kNoFailure);
    crash(true, 0);
    return cut;
  }

 private:
  struct Volume {
    VolumeId id{};
    VolumeNumber number = 0;
    test::VolumeLoad load;
    std::shared_ptr<SoleReplica> replica;
  };

  uint64_t below(uint64_t bound) { return random_.engine() % bound; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <typename T>
  void require_ok(const T& result) {
    require(result.has_value(), result ? "" : to_text(result.error()));
  }

  Status start() {
    auto chunks = ChunkStore::open(disk_->files(), index_, {{"/data/chunks", uint64_t(1) << 30}}, true,
                                   logger_, chunk_options_);
    if (!chunks) return fail(std::move(chunks.error()));
    chunks_ = std::move(*chunks);
    auto set =
        VolumeSet::open({clock_, random_, disk_->files(), logger_, *chunks_, *environments_}, set_options_);
    if (!set) return fail(std::move(set.error()));
    set_ = std::move(*set);
    for (auto& [volume, error] : set_->failures()) return fail(error);
    checkpointer_ = std::make_unique<Checkpointer>(*set_, clock_, logger_);
    return {};
  }
  void stop() {
    for (auto& volume : volumes_) {
      if (volume.replica) totals_.joined_runs += volume.replica->joined_runs();
      volume.replica.reset();
    }
    checkpointer_.reset();
    set_.reset();
    chunks_.reset();
  }

  void load(int64_t fail_after) {
    disk_->fail_after(fail_after);
    for (uint64_t steps = 100 + below(100); steps > 0; --steps) {
      Volume& volume = volumes_[below(volumes_.size())];
      if (one_in(8)) {
        clock_.now += int64_t(below(one_in(4) ? 40'000 : 2500)) * kMillisecond;
        checkpointer_->tick();
      } else if (one_in(12)) {
        (void)chunks_->collect();  // fails when the disk has
      } else if (!volume.load.step(*volume.replica)) {
        require(fail_after != kNoFailure, "an operation failed on a good disk");
        return;
      }
      ++totals_.operations;
    }
  }

  // Recovers, cut off `cuts` times (at `step`, or at random ones). False: it was over before that step.
  bool crash(bool power, int cuts = 2, int64_t step = kNoFailure) {
    std::vector<uint64_t> answered;
    for (auto& volume : volumes_) answered.push_back(volume.load.answered());
    stop();
    bool lost_power = false;
    uint64_t cut_off = 0;
    for (int attempt = 0;; ++attempt) {
      if (attempt > 0 && step == kNoFailure) power = one_in(2);
      power ? disk_->power_loss() : disk_->process_died();
      ++(power ? totals_.power_losses : totals_.kills);
      lost_power |= power;
      int64_t fail_at = kNoFailure;
      if (attempt < cuts && step != kNoFailure) fail_at = step;
      if (attempt < cuts && step == kNoFailure && one_in(2)) fail_at = int64_t(below(25));
      disk_->fail_after(fail_at);
      auto started = start();
      const bool failed = !disk_->files().list("/data");
      cut_off += failed;
      if (started && !failed) break;
      require(failed, "recovery failed on a good disk: " + (started ? "" : to_text(started.error())));
      stop();
    }
    disk_->fail_after(-1);
    totals_.cut_recoveries += cut_off;
    for (size_t i = 0; i < volumes_.size(); ++i) {
      verify(volumes_[i], lost_power ? volumes_[i].load.promised() : answered[i], cut_off);
      totals_.operations_lost += answered[i] - std::min(answered[i], volumes_[i].replica->recovered_index());
    }
    const auto problems = chunks_->check(false);
    require(problems.empty(), problems.empty() ? "" : problems.front());
    return cut_off > 0;
  }

  void verify(Volume& volume, uint64_t at_least, uint64_t cut_off) {
    volume.replica = set_->find(volume.id);
    require(volume.replica != nullptr, "a volume is gone");
    auto state = volume.load.match(*volume.replica, at_least, cut_off * kRecoveryOperations);
    volume.load.go_on_from(*volume.replica, std::move(state));
    auto checked = check_volume(*volume.replica->rows(), chunks_.get());
    require_ok(checked);
    require(checked->problems.empty(), checked->problems.empty() ? "" : checked->problems.front());
  }

  // Of the bytes of a chunk store: every chunk is one that its volume names.
  void check_nothing_is_left_over() {
    for (int i = 0; i < 40; ++i) {
      clock_.now += 6 * kSecond;
      checkpointer_->tick();
    }
    for (auto& volume : volumes_) {
      auto rows = volume.replica->rows();
      for (const ChunkKey& key : chunks_->list(volume.number, std::nullopt, 1 << 20)) {
        auto row = rows->get(kChunks, id_key(key.chunk));
        require(row && *row, "a chunk that nobody names was not freed");
      }
    }
  }

  void note_reuse() {
    bool holes = false, removed = false, reused = false;
    auto& files = disk_->files();
    const std::string segments = "/data/chunks/segments/";
    const auto names = *files.list(segments);
    for (const auto& name : names) {
      auto file = *files.open(segments + name, OpenMode::read);
      holes |= *file->allocated_bytes() < *file->size();
    }
    removed = names.empty() || names.front() != "00000001.seg";
    const auto logs = *files.list("/data/log");
    for (const auto& name : logs) {
      auto file = *files.open("/data/log/" + name, OpenMode::read);
      Bytes bytes(log_format::kFileHeadersBytes);
      (void)*file->read(0, bytes);
      reused |= log_format::decode_file_header(bytes)->use > 2;
    }
    totals_.runs_with_holes += holes;
    totals_.runs_with_removed_segments += removed;
    totals_.runs_with_reused_log_files += reused;
  }

  Totals& totals_;
  Seeded random_;
  StillClock clock_;
  Quiet logger_;
  std::unique_ptr<SimulatedDisk> disk_;
  std::unique_ptr<VolumeEnvironments> environments_;
  std::shared_ptr<MetaEnvironment> index_;
  VolumeSetOptions set_options_;
  ChunkOptions chunk_options_;
  std::unique_ptr<ChunkStore> chunks_;
  std::unique_ptr<VolumeSet> set_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::vector<Volume> volumes_;
};

std::vector<uint64_t> seeds(uint64_t shorter, uint64_t longer) {
  if (const char* one = std::getenv("EFS_SEED")) return {std::strtoull(one, nullptr, 10)};
  const uint64_t count = std::getenv("EFS_LONG") != nullptr ? longer : shorter;
  std::vector<uint64_t> all;
  for (uint64_t seed = 1; seed <= count; ++seed) all.push_back(seed);
  all.push_back(std::random_device{}());
  return all;
}

void each_seed(uint64_t shorter, uint64_t longer, const std::function<void(uint64_t, Totals&)>& body) {
  Totals totals;
  uint64_t runs = 0;
  for (uint64_t seed : seeds(shorter, longer)) {
    ++runs;
    try {
      body(seed, totals);
    } catch (const std::exception& error) {
      BOOST_FAIL("EFS_SEED=" << seed << ": " << error.what());
    }
  }
  std::printf(
      "figure %s: %llu seeds, %llu operations, %llu power losses, %llu kills, %llu recoveries cut off, %llu "
      "operations lost, %llu runs of extents joined\n",
      boost::unit_test::framework::current_test_case().p_name->c_str(), (unsigned long long)runs,
      (unsigned long long)totals.operations, (unsigned long long)totals.power_losses,
      (unsigned long long)totals.kills, (unsigned long long)totals.cut_recoveries,
      (unsigned long long)totals.operations_lost, (unsigned long long)totals.joined_runs);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(volume_power_loss)

BOOST_AUTO_TEST_CASE(a_volume_survives_power_loss_and_kills_at_any_step) {
  Totals all;
  each_seed(60, 1000, [&](uint64_t seed, Totals& totals) {
    Run(seed, totals).rounds(4);
    all = totals;
  });
  if (std::getenv("EFS_SEED") == nullptr) {
    std::printf(
        "figure runs with holes: %llu, with removed segments: %llu, with log files used again: %llu\n",
        (unsigned long long)all.runs_with_holes, (unsigned long long)all.runs_with_removed_segments,
        (unsigned long long)all.runs_with_reused_log_files);
    BOOST_TEST(all.runs_with_holes > 0u);
    BOOST_TEST(all.runs_with_removed_segments > 0u);
    BOOST_TEST(all.runs_with_reused_log_files > 0u);
    BOOST_TEST(all.operations_lost > 0u);
    BOOST_TEST(all.joined_runs > 100u);
  }
}

BOOST_AUTO_TEST_CASE(power_is_lost_at_every_step_of_recovery) {
  each_seed(4, 100, [](uint64_t seed, Totals& totals) {
    for (int64_t step = 0; Run(seed, totals).recovery_cut_at(step, false); ++step) {
    }
  });
}

BOOST_AUTO_TEST_CASE(kill_restart_load_and_power_loss_at_every_step_of_recovery) {
  each_seed(4, 100, [](uint64_t seed, Totals& totals) {
    for (int64_t step = 0; Run(seed, totals).recovery_cut_at(step, true); ++step) {
    }
  });
}

BOOST_AUTO_TEST_SUITE_END()
