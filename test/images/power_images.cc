// Shows: power loss on real files, with LMDB. Two volumes with their log, chunk store and metadata are used
// by three threads, killed, started again and used on, while everything that reaches the kernel is recorded
// (recorder.h). Then disks are made as a power loss at a random moment may leave them, and opened: each must
// hold, exactly, a state of the volumes that is not before what was answered as durable by then, and the
// checkers must find nothing. On every third, power goes again while it recovers. What came back is used on,
// stopped cleanly and started again.
//
// power_images DIRECTORY IMAGES SEED: prints figures, and at the end "N passed, M failed".
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "peer/runtime/real.h"
#include "peer/store/log_format.h"
#include "peer/volume/check.h"
#include "peer/volume/checkpointer.h"
#include "test/images/recorder.h"
#include "test/volume_load.h"

namespace efs::test {
namespace {

constexpr size_t kImagesPerLoad = 20;
constexpr int kLives = 4;
constexpr int kStepsPerLife = 400;
constexpr uint64_t kRecoveryOperations = 2;  // that one recovery adds

// Twenty times as fast, so that checkpoints and collections come often.
class FastClock final : public Clock {
 public:
  int64_t now_ns() const override { return real_clock().now_ns() * 20; }
  int64_t wall_ns() const override { return real_clock().wall_ns(); }
};

class Warnings final : public Logger {
 public:
  void write(LogLevel, std::string_view) override {}
  bool enabled(LogLevel) const override { return false; }
};

VolumeId volume_id(VolumeNumber number) {
  VolumeId id{};
  id[0] = uint8_t(number + 1);
  return id;
}

template <typename T>
void require_ok(const T& result, std::string_view what) {
  require(result.has_value(), fmt::format("{}: {}", what, result ? "" : to_text(result.error())));
}

// What a peer has of a data directory.
class Stack {
 public:
  explicit Stack(const std::string& data) {
    std::filesystem::create_directories(data);
    auto index = open_lmdb(data + "/chunk-index", chunk_index_options());
    require_ok(index, "the chunk index");
    ChunkOptions chunk_options;
    chunk_options.segment_bytes = 1 << 20;
    auto opened = ChunkStore::open(real_files(), *index, {{data + "/chunks", uint64_t(1) << 30}}, true,
                                   logger_, chunk_options);
    require_ok(opened, "the chunk store");
    chunks = std::move(*opened);
    environments_ = make_lmdb_environments(real_files(), data + "/volumes");
    VolumeSetOptions options;
    options.log_directory = data + "/log";
    options.log.file_bytes = 512 << 10;
    options.log.background = true;
    options.reserved_bytes = 0;
    auto volumes =
        VolumeSet::open({clock_, real_random(), real_files(), logger_, *chunks, *environments_}, options);
    require_ok(volumes, "the volumes");
    set = std::move(*volumes);
    for (auto& [id, error] : set->failures()) throw std::runtime_error(to_text(error));
    checkpointer_ = std::make_unique<Checkpointer>(*set, clock_, logger_);
  }
  ~Stack() { stop(); }

  void start_background() {
    ticking_ = std::thread([this] {
      while (!stopping_) {
        checkpointer_->tick();
        usleep(3000);
      }
    });
  }
  void stop() {
    stopping_ = true;
    if (ticking_.joinable()) ticking_.join();
  }
  void close() {
    stop();
    require_ok(set->close(), "close");
  }
  void check() {
    for (const auto& volume : set->all()) {
      auto checked = check_volume(*volume->rows(), chunks.get());
      require_ok(checked, "check");
      require(checked->problems.empty(), checked->problems.empty() ? "" : checked->problems.front());
    }
    const auto problems = chunks->check(false);
    require(problems.empty(), problems.empty() ? "" : problems.front());
  }

  std::unique_ptr<ChunkStore> chunks;
  std::unique_ptr<VolumeSet> set;

 private:
  FastClock clock_;
  Warnings logger_;
  std::unique_ptr<VolumeEnvironments> environments_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::thread ticking_;
  std::atomic<bool> stopping_{false};
};

// A load that was recorded, and what must come back of it.
struct Load {
  std::vector<VolumeLoad> volumes;
  Trace trace;

  uint64_t promised(VolumeNumber number, size_t cut) const {
    uint64_t index = 0;
    for (size_t at = 0; at < cut; ++at) {
      if (trace[at].kind == TraceEvent::promise && trace[at].file == number)
        index = std::max<uint64_t>(index, trace[at].begun);
    }
    return index;
  }
};

void one_life(const std::string& data, Load& load) {
  Stack stack(data);
  std::vector<std::shared_ptr<SoleReplica>> replicas;
  for (VolumeNumber number = 0; number < load.volumes.size(); ++number) {
    auto replica = stack.set->find(volume_id(number));
    if (replica == nullptr) {
      auto made = stack.set->create(volume_id(number), number, {0777, 0, 0});
      require_ok(made, "create");
      replica = *made;
      record_promise(number, 1);
    }
    auto& one = load.volumes[number];
    one.go_on_from(*replica, one.match(*replica, one.answered()));  // a kill loses nothing
    replicas.push_back(std::move(replica));
  }
  stack.start_background();
  std::vector<std::thread> threads;
  std::vector<std::string> wrong(replicas.size());
  for (size_t i = 0; i < replicas.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        for (int step = 0; step < kStepsPerLife; ++step)
          require(load.volumes[i].step(*replicas[i]), "an operation failed on a good disk");
      } catch (const std::exception& error) {
        wrong[i] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& text : wrong) require(text.empty(), text);
}

Load record(const std::string& data, uint64_t seed) {
  std::filesystem::remove_all(data);
  std::filesystem::create_directories(data);
  Load load;
  for (uint32_t number : {0u, 1u}) {
    load.volumes.emplace_back(seed * 2 + number);
    load.volumes.back().on_promise = [number](uint64_t index) { record_promise(number, index); };
  }
  start_recording(data);
  for (int life = 0; life < kLives; ++life) one_life(data, load);
  load.trace = stop_recording();
  return load;
}

// The recorder has seen everything, or the images would show nothing.
void compare_with_disk(const Load& load, const std::string& data) {
  const Disk real = read_disk(data), made = image({}, load.trace, load.trace.size(), nullptr);
  for (const auto& [path, node] : real.nodes) {
    auto at = made.nodes.find(path);
    require(at != made.nodes.end(), path + " was not recorded");
    if (!path.ends_with("lock.mdb"))
      require(*node.bytes == *at->second.bytes, path + " has bytes that were not recorded");
  }
  require(real.nodes.size() == made.nodes.size(), "files were recorded that are not there");
}

void verify(const Load& load, size_t cut, const std::string& data, uint64_t of_recovery) {
  auto volumes = load.volumes;
  for (auto& one : volumes) {
    one.on_promise = nullptr;
    one.forget_inode_numbers();
  }
  {
    Stack stack(data);
    for (VolumeNumber number = 0; number < volumes.size(); ++number) {
      auto replica = stack.set->find(volume_id(number));
      const uint64_t promised = load.promised(number, cut);
      require(replica != nullptr || promised == 0, fmt::format("volume {} is gone", number));
      if (replica == nullptr) continue;
      volumes[number].go_on_from(*replica, volumes[number].match(*replica, promised, of_recovery));
      for (int step = 0; step < 20; ++step)
        require(volumes[number].step(*replica), "an operation failed on a good disk");
    }
    stack.check();
    stack.close();
  }
  Stack stack(data);
  for (VolumeNumber number = 0; number < volumes.size(); ++number) {
    if (auto replica = stack.set->find(volume_id(number)); replica != nullptr)
      volumes[number].match(*replica, volumes[number].answered());
  }
  stack.check();
}

class Images {
 public:
  Images(std::string directory, uint64_t seed)
      : directory_(std::move(directory)), seed_(seed), random_(seed) {}

  int make(size_t count) {
    for (size_t done = 0; done < count; done += kImagesPerLoad) {
      const Load load = record(directory_ + "/live", random_());
      compare_with_disk(load, directory_ + "/live");
      events_ += load.trace.size();
      for (const auto& event : load.trace) {
        punched_ += event.kind == TraceEvent::punch;
        removed_ += event.kind == TraceEvent::remove;
        syncs_ += event.kind == TraceEvent::sync;
        written_ += event.bytes.size();
      }
      note_log_reuse();
      for (size_t i = done; i < std::min(done + kImagesPerLoad, count); ++i) one(load, i);
    }
    std::printf("figure seed %llu: %zu images, power lost again in recovery on %zu of them\n",
                (unsigned long long)seed_, passed_ + failed_, nested_);
    std::printf(
        "figure recorded: %zu events, %zu MiB written, %zu syncs, %zu holes punched, %zu files removed, "
        "log files used again %zu\n",
        events_, written_ >> 20, syncs_, punched_, removed_, reused_);
    std::printf("%zu passed, %zu failed\n", passed_, failed_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  void one(const Load& load, size_t number) {
    static constexpr unsigned kPercents[] = {0, 10, 50, 90, 100};
    const size_t cut = random_() % (load.trace.size() + 1);
    Coins coins{random_, kPercents[random_() % 5]};
    const std::string data = directory_ + "/image";
    Disk disk = image({}, load.trace, cut, &coins);
    uint64_t of_recovery = 0;
    try {
      std::filesystem::remove_all(data);
      write_disk(disk, data);
      if (number % 3 == 2) {  // power goes again while it recovers
        start_recording(data);
        try {
          Stack stack(data);
        } catch (...) {
          stop_recording();
          throw;
        }
        const Trace recovery = stop_recording();
        const size_t again = random_() % (recovery.size() + 1);
        disk = image(disk, recovery, again, &coins);
        std::filesystem::remove_all(data);
        write_disk(disk, data);
        of_recovery = kRecoveryOperations;
        ++nested_;
      }
      verify(load, cut, data, of_recovery);
      ++passed_;
    } catch (const std::exception& error) {
      ++failed_;
      std::printf("image %zu of seed %llu, power lost after %zu of %zu events, %u%% kept: %s\n", number,
                  (unsigned long long)seed_, cut, load.trace.size(), coins.keep_percent, error.what());
      const std::string kept = directory_ + "/failed-" + std::to_string(number);
      std::filesystem::remove_all(kept);
      write_disk(disk, kept);
      std::printf("image %zu is kept in %s\n", number, kept.c_str());
    }
    std::fflush(stdout);
  }

  void note_log_reuse() {
    for (const auto& [path, node] : read_disk(directory_ + "/live/log").nodes) {
      auto header =
          log_format::decode_file_header(ByteView(*node.bytes).first(log_format::kFileHeadersBytes));
      reused_ += header && header->use > 2;
    }
  }

  const std::string directory_;
  const uint64_t seed_;
  std::mt19937_64 random_;
  size_t passed_ = 0, failed_ = 0, nested_ = 0;
  size_t events_ = 0, written_ = 0, syncs_ = 0, punched_ = 0, removed_ = 0, reused_ = 0;
};

}  // namespace
}  // namespace efs::test

int main(int count, char** values) {
  if (count != 4) {
    std::fprintf(stderr, "usage: power_images DIRECTORY IMAGES SEED\n");
    return 2;
  }
  try {
    return efs::test::Images(values[1], std::strtoull(values[3], nullptr, 10))
        .make(std::strtoull(values[2], nullptr, 10));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "power_images: %s\n", error.what());
    return 1;
  }
}
