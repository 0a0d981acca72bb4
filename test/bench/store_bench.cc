// How fast the store is here: rows, log and chunks, each line one figure. Not a test: run it by hand, in a
// release build.
//   build/release/test/store_bench DIRECTORY     (on the disk to be measured; what it makes there goes)
#include <fmt/core.h>
#include <time.h>

#include <atomic>
#include <filesystem>
#include <random>
#include <thread>

#include "peer/base/hash.h"
#include "peer/runtime/real.h"
#include "peer/store/chunk_store.h"
#include "peer/store/log.h"
#include "peer/store/meta_store.h"

namespace efs {
namespace {

double seconds_of(const std::function<void()>& work) {
  int64_t start = real_clock().now_ns();
  work();
  return double(real_clock().now_ns() - start) / 1e9;
}

// Of this thread's processor alone: what a busy machine does not change.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + double(now.tv_nsec) / 1e9;
}

template <typename T>
void need(const Result<T>& result, std::string_view what) {
  if (result) return;
  fmt::print(stderr, "store_bench: {}: {}\n", what, to_text(result.error()));
  std::exit(1);
}

std::string key_of(uint64_t number) {
  std::string key;
  put_be(key, number * 0x9e3779b97f4a7c15);
  return key;
}

void rows(const std::string& path) {
  constexpr uint64_t kTransactions = 200000, kRowsEach = 4, kReads = 1000000;
  auto environment = open_lmdb(path, {{"rows"}, uint64_t(1) << 36});
  need(environment, "open");
  MetaStore store(*environment);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) {
      if (store.dirty_bytes() < (16 << 20)) {
        std::this_thread::yield();
        continue;
      }
      need(store.checkpoint(), "checkpoint");
    }
  });
  const std::string value(120, 'v');
  double processor = processor_seconds();
  double took = seconds_of([&] {
    for (uint64_t i = 1; i <= kTransactions; ++i) {
      auto transaction = store.begin();
      for (uint64_t row = 0; row < kRowsEach; ++row) transaction->put(0, key_of(i * kRowsEach + row), value);
      transaction->commit(i);
    }
  });
  processor = processor_seconds() - processor;
  fmt::print("transactions of 4 rows, checkpoints behind  {:>10.0f} /s, {:.0f} /s of its core\n",
             kTransactions / took, kTransactions / processor);
  stop = true;
  writer.join();
  took = seconds_of([&] { need(store.checkpoint(), "checkpoint"); });
  auto read_some = [&](std::string_view what) {
    std::mt19937_64 random(1);
    uint64_t found = 0;
    double read_processor = processor_seconds();
    double read_took = seconds_of([&] {
      for (uint64_t i = 0; i < kReads; ++i) {
        auto read = store.read();
        auto row = read->get(0, key_of(kRowsEach + random() % (kTransactions * kRowsEach)));
        if (row && *row) ++found;
      }
    });
    if (found != kReads) fmt::print(stderr, "store_bench: {} of {} rows were found\n", found, kReads);
    read_processor = processor_seconds() - read_processor;
    fmt::print("{:<42}  {:>10.0f} /s, {:.0f} /s of its core\n", what, kReads / read_took,
               kReads / read_processor);
  };
  read_some("reads of one row, in LMDB (800,000 rows)");
  for (uint64_t i = 1; i <= 50000; ++i) {
    auto transaction = store.begin();
    transaction->put(0, key_of(kRowsEach + i * 16), value);
    transaction->commit(kTransactions + i);
  }
  read_some("the same under an overlay of 50,000");
  took = seconds_of([&] { need(store.checkpoint(), "checkpoint"); });
  fmt::print("checkpoint of 50,000 rows                   {:>10.1f} ms\n", took * 1e3);
}

void log_rates(const std::string& path) {
  LogOptions options;
  options.background = true;
  auto log = Log::open(real_files(), path, options, [](const Log::Record&) { return Status(); });
  need(log, "open log");
  const Bytes payload(300, 'p');
  constexpr uint64_t kAppends = 400000, kSyncs = 2000;
  int64_t worst = 0;
  double took = seconds_of([&] {
    for (uint64_t i = 1; i <= kAppends; ++i) {
      int64_t start = real_clock().now_ns();
      need((*log)->append(Log::Record{1, 1, i, payload}), "append");
      worst = std::max(worst, real_clock().now_ns() - start);
      if (i % 10000 == 0) (*log)->release(1, i - 5000);
    }
  });
  fmt::print("log appends of 300 bytes                    {:>10.0f} /s, longest {:.1f} ms\n", kAppends / took,
             double(worst) / 1e6);
  need((*log)->sync(), "sync");
  took = seconds_of([&] {
    for (uint64_t i = 1; i <= kSyncs; ++i) {
      need((*log)->append(Log::Record{1, 1, kAppends + i, payload}), "append");
      need((*log)->sync(), "sync");
    }
  });
  fmt::print("log append and sync, one thread             {:>10.0f} /s\n", kSyncs / took);
  took = seconds_of([&] {
    std::vector<std::thread> threads;
    for (uint32_t group = 2; group < 10; ++group) {
      threads.emplace_back([&, group] {
        for (uint64_t i = 1; i <= kSyncs / 2; ++i) {
          need((*log)->append(Log::Record{group, 1, i, payload}), "append");
          need((*log)->sync(), "sync");
        }
      });
    }
    for (auto& thread : threads) thread.join();
  });
  fmt::print("log append and sync, eight threads          {:>10.0f} /s\n", kSyncs * 4 / took);
}

class StderrLogger final : public Logger {
 public:
  void write(LogLevel, std::string_view message) override { fmt::print(stderr, "{}\n", message); }
  bool enabled(LogLevel level) const override { return level >= LogLevel::warning; }
};

void chunks(const std::string& path) {
  StderrLogger log;
  auto index = open_lmdb(path + "/index", chunk_index_options());
  need(index, "open index");
  auto store = ChunkStore::open(real_files(), *index, {{path + "/store", uint64_t(8) << 30}}, true, log);
  need(store, "open chunks");
  auto measure = [&](uint32_t volume, size_t size, uint64_t count) {
    Bytes bytes(size, 'c');
    auto key_at = [&](uint64_t i) {
      ChunkKey key{volume, {}};
      put_le(key.chunk.data(), i * 0x9e3779b97f4a7c15);
      return key;
    };
    double took = seconds_of([&] {
      for (uint64_t i = 0; i < count; ++i)
        need((*store)->put(key_at(i), {}, bytes, Durability::by_sync), "put");
    });
    double mib = double(size) * double(count) / (1 << 20);
    fmt::print("chunks of {:>4} KiB, put                      {:>10.0f} /s  {:>6.0f} MiB/s\n", size >> 10,
               double(count) / took, mib / took);
    took = seconds_of([&] { need((*store)->sync(), "sync"); });
    double checkpoint = seconds_of([&] { need((*store)->checkpoint_sync(), "checkpoint"); });
    fmt::print("  sync {:.0f} ms, then checkpoint {:.0f} ms\n", took * 1e3, checkpoint * 1e3);
    took = seconds_of([&] {
      for (uint64_t i = 0; i < count; ++i) need((*store)->read(key_at(i), 0, bytes), "read");
    });
    fmt::print("chunks of {:>4} KiB, read from the page cache {:>10.0f} /s  {:>6.0f} MiB/s\n", size >> 10,
               double(count) / took, mib / took);
  };
  measure(1, 1 << 20, 1024);
  measure(2, 64 << 10, 4000);
  measure(3, 4 << 10, 20000);
}

}  // namespace
}  // namespace efs

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: store_bench DIRECTORY\n");
    return 2;
  }
  std::string directory = std::string(argv[1]) + "/store-bench";
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  efs::rows(directory + "/rows");
  efs::log_rates(directory + "/log");
  efs::chunks(directory + "/chunks");
  std::filesystem::remove_all(directory);
}
