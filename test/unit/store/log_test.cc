// The log on real files: what replay yields, release, group commit on threads, damage and newer formats.
// (Power losses: test/sim/store/.)
#include "peer/store/log.h"

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <thread>

#include "fixture.h"
#include "peer/base/hash.h"
#include "peer/runtime/real.h"
#include "peer/runtime/simulated.h"
#include "peer/store/log_format.h"
#include "test/why.h"

namespace efs {
namespace {

using test::TemporaryDirectory;

struct Replayed {
  uint32_t group;
  uint64_t term, index;
  std::string payload;
  bool operator==(const Replayed&) const = default;
};

LogOptions small() {
  LogOptions options;
  options.file_bytes = 64 << 10;
  return options;
}

Result<std::unique_ptr<Log>> open(const std::string& path, std::vector<Replayed>* replayed = nullptr,
                                  LogOptions options = small()) {
  return Log::open(real_files(), path, options, [&](const Log::Record& record) {
    if (replayed != nullptr)
      replayed->push_back({record.group, record.term, record.index, std::string(text(record.payload))});
    return Status();
  });
}

void append_one(Log& log, uint32_t group, uint64_t index, std::string_view payload) {
  BOOST_REQUIRE(log.append(Log::Record{group, 1, index, view(payload)}));
}

// Where `text` stands in the files of a directory.
void overwrite(const std::string& directory, std::string_view text, char with) {
  size_t hits = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    size_t at = bytes.find(text);
    if (at == std::string::npos) continue;
    file.seekp(long(at));
    file.put(with);
    ++hits;
  }
  BOOST_REQUIRE(hits > 0);
}

BOOST_AUTO_TEST_SUITE(log_files)

BOOST_AUTO_TEST_CASE(what_was_appended_is_replayed_in_order) {
  TemporaryDirectory directory;
  std::vector<Replayed> wanted, found;
  {
    auto log = open(directory / "a/log");
    BOOST_REQUIRE(log);
    BOOST_TEST(!(*log)->unclean_start());
    for (uint64_t i = 1; i <= 500; ++i) {
      wanted.push_back({uint32_t(i % 3), i / 10, i, std::string(i * 3, char('a' + i % 26))});
      BOOST_REQUIRE((*log)->append(Log::Record{wanted.back().group, i / 10, i, view(wanted.back().payload)}));
    }
    BOOST_TEST((*log)->dirty());
    BOOST_REQUIRE((*log)->sync());
    BOOST_TEST(!(*log)->dirty());
  }
  auto log = open(directory / "a/log", &found);
  BOOST_REQUIRE(log);
  BOOST_TEST((found == wanted));
  BOOST_TEST((*log)->unclean_start());
  BOOST_REQUIRE((*log)->close_cleanly());
  BOOST_TEST(((*log)->append(Log::Record{}).error().code == Code::closed));
  log->reset();
  found.clear();
  log = open(directory / "a/log", &found);
  BOOST_TEST((found == wanted));
  BOOST_TEST(!(*log)->unclean_start());
}

BOOST_AUTO_TEST_CASE(released_files_are_used_again_and_the_log_stays_small) {
  TemporaryDirectory directory;
  auto log = open(directory / "log");
  BOOST_REQUIRE(log);
  std::string payload(5000, 'x');
  for (uint64_t i = 1; i <= 1000; ++i) {
    append_one(**log, 1, i, payload);
    if (i % 20 == 0) (*log)->release(1, i - 3);
    BOOST_TEST((*log)->bytes_on_disk() <= uint64_t(7) * (64 << 10));
  }
  BOOST_REQUIRE((*log)->sync());
  log->reset();
  std::vector<Replayed> found;
  log = open(directory / "log", &found);
  BOOST_REQUIRE(log);
  BOOST_REQUIRE(!found.empty());
  BOOST_TEST(found.back().index == 1000u);
}

// What programs write stands in records as it is, and behind them when the file is used again: what looks
// like records there, of whichever use comes next, neither counts nor keeps the log from opening.
BOOST_AUTO_TEST_CASE(records_that_programs_write_do_not_count) {
  TemporaryDirectory directory;
  LogOptions options = small();
  options.random = &real_random();
  std::string forged;
  for (uint64_t sequence = 1; sequence <= 100; ++sequence) {
    using namespace log_format;
    const RecordHeader header{Kind::record, 0, 7, sequence, 1, 1, Mark{sequence + 1000, 0}};
    forged += text(encode(header, {}));
  }
  {
    auto log = open(directory / "log", nullptr, options);
    BOOST_REQUIRE(log);
    for (uint64_t i = 1; i <= 155; ++i) {
      append_one(**log, 1, i, forged);
      BOOST_REQUIRE((*log)->sync());
      (*log)->release(1, i);
    }
  }
  std::vector<Replayed> found;
  auto log = open(directory / "log", &found, options);
  BOOST_REQUIRE_MESSAGE(log, test::why(log));
  for (const auto& one : found) BOOST_TEST(one.group == 1u);
}

BOOST_AUTO_TEST_CASE(the_largest_record_fits_and_a_larger_one_is_refused) {
  TemporaryDirectory directory;
  std::string large(8 << 20, 'l');
  std::vector<Replayed> found;
  {
    auto log = open(directory / "log");
    append_one(**log, 1, 1, large);
    append_one(**log, 1, 2, "small");
    std::string larger = large + "x";
    BOOST_TEST(((*log)->append(Log::Record{1, 1, 3, view(larger)}).error().code == Code::too_large));
  }
  BOOST_REQUIRE(open(directory / "log", &found));
  BOOST_REQUIRE(found.size() == 2);
  BOOST_TEST((found[0].payload == large));
  BOOST_TEST(found[1].payload == "small");
}

BOOST_AUTO_TEST_CASE(a_torn_tail_is_normal) {
  TemporaryDirectory directory;
  {
    auto log = open(directory / "log");
    append_one(**log, 1, 1, "first");
    append_one(**log, 1, 2, "second, torn");
  }
  overwrite(directory / "log", "second, torn", 'S');
  std::vector<Replayed> found;
  auto log = open(directory / "log", &found);
  BOOST_REQUIRE(log);
  BOOST_TEST(found.size() == 1u);
  append_one(**log, 1, 2, "another second");
  log->reset();
  found.clear();
  BOOST_REQUIRE(open(directory / "log", &found));
  BOOST_REQUIRE(found.size() == 2);
  BOOST_TEST(found[1].payload == "another second");
}

BOOST_AUTO_TEST_CASE(damage_below_what_was_synced_is_told_and_nothing_is_cut_off) {
  TemporaryDirectory directory;
  {
    auto log = open(directory / "log");
    append_one(**log, 1, 1, "first");
    append_one(**log, 1, 2, "second, synced");
    BOOST_REQUIRE((*log)->sync());
    append_one(**log, 1, 3, "third knows of the sync");
  }
  overwrite(directory / "log", "second, synced", 'S');
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto log = open(directory / "log");
    BOOST_REQUIRE(!log);
    BOOST_TEST((log.error().code == Code::corrupt));
    BOOST_TEST(log.error().message.find(directory.path()) != std::string::npos);
  }
  overwrite(directory / "log", "Second, synced", 's');
  std::vector<Replayed> found;
  BOOST_REQUIRE(open(directory / "log", &found));
  BOOST_TEST(found.size() == 3u);
}

BOOST_AUTO_TEST_CASE(a_log_of_a_newer_format_is_refused) {
  TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "log");
  Bytes header(64 << 10);
  std::copy_n("efs log\n", 8, header.begin());
  put_le(&header[8], uint32_t(2));
  put_le(&header[16], uint64_t(1));
  put_le(&header[40], uint64_t(2));
  put_le(&header[12], crc32c(ByteView(header).first(64)));
  std::ofstream(directory / "log/00000001.log")
      .write(reinterpret_cast<char*>(header.data()), long(header.size()));
  auto log = open(directory / "log");
  BOOST_REQUIRE(!log);
  BOOST_TEST((log.error().code == Code::version));
}

// There is no room for a whole file; then for none.
BOOST_AUTO_TEST_CASE(on_a_full_disk_a_log_opens_and_goes_on_in_smaller_files) {
  auto disk = make_simulated_disk(1);
  LogOptions options;
  options.file_bytes = 8 << 20;
  disk->set_capacity(options.file_bytes * 2 + (1 << 20));
  std::vector<uint64_t> found;
  auto reopen = [&] {
    found.clear();
    return Log::open(disk->files(), "disk/log", options, [&](const Log::Record& record) {
      found.push_back(record.index);
      return Status();
    });
  };
  auto log = reopen();
  BOOST_REQUIRE(log);
  const std::string payload(10000, 'x');
  uint64_t index = 0;
  for (int start = 0; start < 3; ++start) {
    for (int i = 0; i < 200; ++i) {
      append_one(**log, 1, ++index, payload);
      (*log)->release(1, index - 1);
    }
    BOOST_REQUIRE((*log)->sync());
    log->reset();
    disk->process_died();
    log = reopen();
    BOOST_REQUIRE_MESSAGE(log, test::why(log));
    BOOST_REQUIRE(!found.empty());
    BOOST_TEST(found.back() == index);
    BOOST_TEST((*log)->bytes_on_disk() < options.file_bytes * 2);
  }
  disk->set_capacity(options.file_bytes * 8);
  for (int i = 0; i < 2000; ++i) {
    append_one(**log, 1, ++index, payload);
    (*log)->release(1, index - 1);
  }
  BOOST_TEST((*log)->bytes_on_disk() > options.file_bytes * 2);  // they have grown
}

BOOST_AUTO_TEST_CASE(threads_append_and_sync_while_files_are_prepared_and_released) {
  TemporaryDirectory directory;
  LogOptions options = small();
  options.background = true;
  constexpr uint64_t kRecords = 400;
  {
    auto log = open(directory / "log", nullptr, options);
    BOOST_REQUIRE(log);
    std::atomic<int> failures{0};
    std::vector<std::thread> threads;
    for (uint32_t group = 1; group <= 4; ++group) {
      threads.emplace_back([&, group] {
        for (uint64_t i = 1; i <= kRecords; ++i) {
          std::string payload(100 + i % 900, char('0' + group));
          if (!(*log)->append(Log::Record{group, 1, i, view(payload)})) ++failures;
          if (i % 16 == 0 && !(*log)->sync()) ++failures;
          if (i % 50 == 0) (*log)->release(group, i / 2);
        }
      });
    }
    for (auto& thread : threads) thread.join();
    BOOST_TEST(failures == 0);
    BOOST_REQUIRE((*log)->close_cleanly());
  }
  std::vector<Replayed> found;
  auto log = open(directory / "log", &found);
  BOOST_REQUIRE(log);
  for (uint32_t group = 1; group <= 4; ++group) {
    std::vector<uint64_t> indices;
    for (const auto& record : found) {
      if (record.group == group && record.index > kRecords / 2) indices.push_back(record.index);
    }
    BOOST_REQUIRE(indices.size() == kRecords / 2);
    BOOST_TEST(std::is_sorted(indices.begin(), indices.end()));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
