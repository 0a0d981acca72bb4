// Power loss and kills at any step of the disk, with the real log and chunk store on a simulated disk: the
// volume comes back at or after what was synced; after a kill, with all that was answered. The checker finds
// nothing, and every chunk that is used is there, with the bytes that its name says.
//
// Each run loads a volume, lets the disk fail after a random number of its steps, restarts (twice as often
// losing power as being killed; the recovery itself may be cut off too), and goes on from there.
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <random>

#include "peer/base/hash.h"
#include "peer/runtime/simulated.h"
#include "peer/volume/check.h"
#include "peer/volume/checkpointer.h"
#include "test/why.h"

using namespace efs;

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

class Run {
 public:
  explicit Run(uint64_t seed)
      : random_(seed),
        disk_(make_simulated_disk(seed)),
        environments_(make_memory_environments()),
        index_(make_memory_environment(chunk_index_options())) {
    id_[0] = 1;
    BOOST_REQUIRE(start());
    BOOST_REQUIRE(set_->create(id_, 1, {0777, 0, 0}));
    BOOST_REQUIRE(set_->sync());
    replica_ = set_->find(id_);
  }
  void rounds(int count) {
    for (int i = 0; i < count; ++i) {
      disk_->fail_after(int64_t(random_.engine() % 300));
      load();
      crash();
    }
  }

 private:
  Status start() {
    auto chunks =
        ChunkStore::open(disk_->files(), index_, {{"/data/chunks", uint64_t(1) << 30}}, true, logger_);
    if (!chunks) return fail(std::move(chunks.error()));
    chunks_ = std::move(*chunks);
    VolumeSetOptions options;
    options.log_directory = "/data/log";
    options.log.file_bytes = 1 << 20;
    options.reserved_bytes = 0;
    auto set = VolumeSet::open({clock_, random_, disk_->files(), logger_, *chunks_, *environments_}, options);
    if (!set) return fail(std::move(set.error()));
    set_ = std::move(*set);
    for (auto& [volume, error] : set_->failures()) return fail(error);
    checkpointer_ = std::make_unique<Checkpointer>(*set_, clock_, logger_);
    return {};
  }
  void stop() {
    replica_.reset();
    checkpointer_.reset();
    set_.reset();
    chunks_.reset();
  }
  Reply call(RequestBody body, Payload payload = {}) {
    Request request;
    request.who.groups_known = true;
    request.body = std::move(body);
    Reply reply;
    replica_->execute(request, std::move(payload), [&](VolumeAnswer answer) { reply = answer.reply; });
    return reply;
  }
  std::string name() { return "n" + std::to_string(random_.engine() % 8); }
  void load() {
    for (int i = 0; i < 60 && !replica_->failed(); ++i) {
      auto found = call(Lookup{kRootInode, name()});
      switch (random_.engine() % 8) {
        case 0:
        case 1: {
          Create create;
          create.parent = kRootInode;
          create.name = name();
          create.mode = 0100644;
          call(create);
          break;
        }
        case 2:
        case 3:
        case 4: {
          if (found.code != Code::ok) break;
          Write write;
          write.inode = found.attributes.inode;
          write.offset = random_.engine() % 100'000;
          write.durable = random_.engine() % 4 == 0;
          const size_t sizes[] = {100, 5000, 60'000, 120'000};
          call(write, Bytes(sizes[random_.engine() % 4], uint8_t(random_.engine() % 5)));
          break;
        }
        case 5:
          call(Unlink{kRootInode, name(), false});
          break;
        case 6:
          call(Sync{});
          break;
        default:
          clock_.now += int64_t(random_.engine() % 2000) * kMillisecond;
          checkpointer_->tick();
      }
    }
  }
  void crash() {
    const bool power = random_.engine() % 3 != 0;
    const uint64_t answered = replica_->applied_index();
    const uint64_t durable = power ? replica_->durable_index() : answered;
    stop();
    for (int attempt = 0;; ++attempt) {
      if (power) {
        disk_->power_loss();
      } else {
        disk_->process_died();
      }
      disk_->fail_after(attempt < 2 && random_.engine() % 2 ? int64_t(random_.engine() % 20) : -1);
      auto started = start();
      if (started) break;
      stop();
      BOOST_REQUIRE_MESSAGE(attempt < 3, to_text(started.error()));
    }
    disk_->fail_after(-1);
    replica_ = set_->find(id_);
    BOOST_REQUIRE(replica_);
    verify(durable);
  }
  // The rows before recovery's own operations are not looked at again; names and contents are, by the
  // checker.
  void verify(uint64_t durable) {
    BOOST_REQUIRE_GE(replica_->applied_index(), durable);
    auto rows = replica_->rows();
    auto checked = check_volume(*rows, chunks_.get());
    BOOST_REQUIRE(checked);
    BOOST_REQUIRE_MESSAGE(checked->problems.empty(), checked->problems.front());
    auto charter = *read_charter(*rows);
    BOOST_REQUIRE(rows->scan(kChunks, "", [&](std::string_view key, std::string_view value) {
      auto chunk = ChunkRow::decode(value);
      Id id;
      std::memcpy(id.data(), key.data(), id.size());
      if (chunk->references == 0) return true;
      Bytes bytes(chunk->length);
      auto read = chunks_->read({charter->number, id}, 0, bytes);
      BOOST_REQUIRE_MESSAGE(read, test::why(read));
      BOOST_REQUIRE(chunk_id(charter->chunk_key, sha256(bytes)) == id);
      return true;
    }));
  }

  Seeded random_;
  StillClock clock_;
  Quiet logger_;
  std::unique_ptr<SimulatedDisk> disk_;
  std::unique_ptr<VolumeEnvironments> environments_;
  std::shared_ptr<MetaEnvironment> index_;
  std::unique_ptr<ChunkStore> chunks_;
  std::unique_ptr<VolumeSet> set_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::shared_ptr<SoleReplica> replica_;
  VolumeId id_{};
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_volume_survives_power_loss_and_kills_at_any_step) {
  const bool longer = std::getenv("EFS_LONG") != nullptr;
  for (uint64_t seed = 1; seed <= (longer ? 1000u : 40u); ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Run(seed).rounds(4);
    }
  }
}
