// Joining extents: what is worth it, and that nobody can tell that it was done.
#include "peer/volume/state/fragments.h"

#include <boost/test/unit_test.hpp>
#include <random>

#include "map_rows.h"
#include "peer/base/hash.h"

using namespace efs;
using namespace efs::test;

namespace {
constexpr uint32_t kFile = 0100644;
constexpr ExtentPlace kEnd{UINT64_MAX, UINT64_MAX};

struct Volume : TestVolume {
  std::vector<FragmentRun> find(size_t limit = 1024) {
    std::vector<FragmentRun> all;
    ExtentPlace at;
    for (;;) {
      auto scan = find_fragments(rows, at, kEnd, limit);
      BOOST_REQUIRE(scan);
      all.insert(all.end(), scan->runs.begin(), scan->runs.end());
      if (!scan->next) return all;
      BOOST_REQUIRE(*scan->next > at);
      at = *scan->next;
    }
  }
  ReplaceExtents join(const FragmentRun& run) {
    Bytes bytes;
    for (const ExtentRow& extent : run.extents) {
      const Bytes& chunk = chunks.at(*extent.chunk);
      append(bytes, ByteView(chunk).subspan(extent.chunk_offset, extent.end - extent.start));
    }
    const auto charter = read_charter(rows);
    const Id id = chunk_id((*charter)->chunk_key, sha256(bytes));
    chunks[id] = bytes;
    return {run.inode, run.start(), run.end(), digest_of(run.extents), id};
  }
  // Joins all that is worth it, once. How many runs there were.
  size_t compact(size_t limit = 1024) {
    const auto runs = find(limit);
    for (const FragmentRun& run : runs) BOOST_REQUIRE(this->run(join(run)).code == Code::ok);
    return runs.size();
  }
  size_t extents(InodeNumber inode) {
    size_t count = 0;
    BOOST_REQUIRE(RowsView(rows).extents(inode, 0, [&](const ExtentRow&) { return ++count > 0; }));
    return count;
  }
  void scatter(InodeNumber inode, uint64_t from, uint64_t count, uint64_t step, uint64_t length = 4096) {
    std::mt19937_64 random(from + count);
    for (uint64_t i = 0; i < count; ++i) {
      std::string bytes(length, char('a' + random() % 26));
      for (size_t at = 0; at + 8 <= length; at += 512) {
        const uint64_t mark = random();
        std::memcpy(bytes.data() + at, &mark, 8);
      }
      BOOST_REQUIRE(write(inode, from + i * step, bytes).code == Code::ok);
    }
  }
  InodeNumber file(const char* name = "f") { return make(kRootInode, name, kFile); }
  void free_dead() {
    FreeChunks free;
    BOOST_REQUIRE(rows.scan(kDead, "", [&](std::string_view key, std::string_view) {
      std::memcpy(free.chunks.emplace_back().data(), key.data(), 32);
      return true;
    }));
    run(free);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(fragments)

BOOST_AUTO_TEST_CASE(small_extents_become_one_and_nobody_can_tell) {
  Volume volume;
  const auto file = volume.file();
  volume.scatter(file, 0, 600, 4096);  // two windows and a half
  const auto content = volume.content(file);
  const auto before = volume.attributes(file);
  const auto usage = volume.usage();
  BOOST_TEST(volume.extents(file) == 600u);
  BOOST_TEST(volume.compact() == 3u);
  BOOST_TEST(volume.extents(file) == 3u);
  BOOST_TEST((volume.content(file) == content));
  BOOST_TEST((volume.attributes(file) == before));
  BOOST_TEST((volume.usage() == usage));
  BOOST_TEST(volume.effects.changes.empty());
  volume.free_dead();
  BOOST_TEST(volume.chunks.size() == 3u);
  BOOST_TEST((volume.content(file) == content));
  BOOST_TEST(volume.compact() == 0u);
}

BOOST_AUTO_TEST_CASE(a_change_of_the_extents_refuses_it) {
  const auto refuses = [](const std::function<void(Volume&, InodeNumber)>& change) {
    Volume volume;
    const auto file = volume.file();
    volume.scatter(file, 0, 100, 4096);
    const auto runs = volume.find();
    BOOST_REQUIRE_EQUAL(runs.size(), 1u);
    const auto replace = volume.join(runs.front());
    change(volume, file);
    const auto rows = volume.rows.rows;
    const auto index = volume.index;
    const Code code = volume.run(replace).code;
    BOOST_TEST((code == Code::conflict || code == Code::stale));
    BOOST_TEST(volume.index == index);
    BOOST_TEST((volume.rows.rows == rows));
  };
  refuses([](Volume& volume, InodeNumber file) { volume.write(file, 50'000, "x"); });
  refuses([](Volume& volume, InodeNumber file) { volume.write(file, 0, std::string(4096, 'x')); });
  refuses([](Volume& volume, InodeNumber file) {
    SetAttributes set;
    set.inode = file;
    set.size = 400'000;
    volume.run(set);
  });
  refuses([](Volume& volume, InodeNumber file) {
    Allocate punch;
    punch.inode = file;
    punch.offset = 409'000;
    punch.length = 10;
    punch.punch = punch.keep_size = true;
    volume.run(punch);
  });
  refuses([](Volume& volume, InodeNumber file) { volume.run(CopyRange{file, 0, file, 100'000, 4096}); });
  refuses([](Volume& volume, InodeNumber) { volume.compact(); });
  refuses([](Volume& volume, InodeNumber) { volume.run(Unlink{kRootInode, "f", false}); });
}

BOOST_AUTO_TEST_CASE(a_change_elsewhere_in_the_file_does_not) {
  Volume volume;
  const auto file = volume.file();
  volume.scatter(file, 0, 100, 4096);
  const auto replace = volume.join(volume.find().front());
  volume.write(file, 500'000, "x");
  SetAttributes set;
  set.inode = file;
  set.mode = 0600;
  volume.run(set);
  BOOST_TEST(volume.run(replace).code == Code::ok);
  BOOST_TEST(volume.extents(file) == 2u);
  // What a damaged log might say.
  auto wrong = replace;
  wrong.start = wrong.end;
  BOOST_TEST(volume.run(wrong).code == Code::invalid_argument);
  wrong.end = wrong.start + kRunWindow + 1;
  BOOST_TEST(volume.run(wrong).code == Code::invalid_argument);
  wrong = replace;
  wrong.inode = kRootInode;
  BOOST_TEST(volume.run(wrong).code == Code::invalid_argument);
}

BOOST_AUTO_TEST_CASE(holes_and_allocated_zeros_stay) {
  Volume volume;
  const auto file = volume.file();
  volume.scatter(file, 0, 20, 4096);
  volume.scatter(file, 30 * 4096, 20, 4096);
  volume.scatter(file, 100 * 4096, 50, 8192);  // every second block a hole
  Allocate zeros;
  zeros.inode = file;
  zeros.offset = 50 * 4096;
  zeros.length = 10 * 4096;
  volume.run(zeros);
  volume.scatter(file, 60 * 4096, 20, 4096);
  const auto content = volume.content(file);
  const auto before = volume.attributes(file);
  BOOST_TEST(volume.compact() == 3u);
  BOOST_TEST(volume.extents(file) == 54u);
  BOOST_TEST((volume.attributes(file) == before));
  BOOST_TEST((volume.content(file) == content));
  BOOST_TEST(volume.ask(SeekData{file, 0, true}).offset == 20u * 4096);
  BOOST_TEST(volume.ask(SeekData{file, 50 * 4096, false}).offset == 60u * 4096);
}

BOOST_AUTO_TEST_CASE(what_is_shared_or_stored_once_is_left_alone) {
  Volume volume;
  const auto file = volume.file(), copy = volume.file("g"), same = volume.file("h");
  volume.scatter(file, 0, 100, 4096);
  volume.run(CopyRange{file, 0, copy, 0, 100 * 4096});
  for (uint64_t i = 0; i < 100; ++i) volume.write(same, i * 4096, std::string(4096, 'z'));
  const auto stored = volume.usage().stored_bytes;
  BOOST_TEST(volume.compact() == 0u);
  BOOST_TEST(volume.usage().stored_bytes == stored);
  volume.run(Unlink{kRootInode, "g", false});
  BOOST_TEST(volume.compact() == 1u);
}

BOOST_AUTO_TEST_CASE(what_grows_slowly_is_not_rewritten_again_and_again) {
  Volume volume;
  const auto file = volume.file();
  uint64_t written = 0;
  for (uint64_t i = 0; i < 256; ++i) {
    volume.scatter(file, i * 4096, 1, 4096);
    for (const FragmentRun& run : volume.find()) {
      written += run.bytes();
      BOOST_REQUIRE(volume.run(volume.join(run)).code == Code::ok);
    }
  }
  BOOST_TEST(written < (8u << 20));
  BOOST_TEST(volume.extents(file) < 40u);
}

BOOST_AUTO_TEST_CASE(a_few_overwrites_of_a_large_extent_are_not_worth_it) {
  Volume volume;
  const auto file = volume.file();
  volume.scatter(file, 0, 256, 4096);
  volume.compact();
  for (uint64_t i = 0; i < 12; ++i) volume.scatter(file, i * 81'920, 1, 4096);
  BOOST_TEST(volume.compact() == 0u);
  for (uint64_t i = 0; i < 12; ++i) volume.scatter(file, i * 81'920 + 40'960, 1, 4096);
  BOOST_TEST(volume.compact() == 1u);
  BOOST_TEST(volume.extents(file) == 1u);
}

BOOST_AUTO_TEST_CASE(chunks_of_which_little_is_left_are_given_back) {
  Volume volume;
  const auto file = volume.file();
  ScatteredExtents write;
  write.inode = file;
  for (uint64_t i = 0; i < 16; ++i) write.pieces.push_back({i * 2 * kRunWindow, 4096});
  write.bytes.resize(16 * 4096);
  for (size_t i = 0; i < write.bytes.size(); ++i) write.bytes[i] = uint8_t(i >> 8);
  volume.run(write);
  BOOST_TEST(volume.compact() == 0u);
  for (uint64_t i = 0; i < 15; ++i) volume.scatter(file, i * 2 * kRunWindow, 1, 4096);
  const auto content = volume.content(file);
  BOOST_TEST(volume.usage().stored_bytes == 31u * 4096);
  BOOST_TEST(volume.compact() == 1u);
  BOOST_TEST(volume.usage().stored_bytes == 16u * 4096);
  BOOST_TEST((volume.content(file) == content));
  BOOST_TEST(volume.compact() == 0u);
}

BOOST_AUTO_TEST_CASE(files_without_a_name_are_left_alone) {
  Volume volume;
  const auto file = volume.file();
  volume.scatter(file, 0, 100, 4096);
  Operation unlink;
  unlink.who = user(0);
  unlink.body = Unlink{kRootInode, "f", false};
  unlink.holders = {SessionId{1}};
  BOOST_TEST(volume.run(unlink).code == Code::ok);
  BOOST_TEST(volume.extents(file) == 100u);
  BOOST_TEST(volume.compact() == 0u);
}

// Random changes and compactions: content, sizes, blocks and usage are those of a volume that is never
// compacted, and what is stored stays within 4/3 of it.
BOOST_AUTO_TEST_CASE(random_changes_agree_with_a_volume_that_is_not_compacted) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      std::mt19937_64 random(seed);
      Volume volume, plain;
      const InodeNumber files[] = {volume.file("a"), volume.file("b")};
      plain.file("a"), plain.file("b");
      size_t joined = 0;
      for (int step = 0; step < 300; ++step) {
        const InodeNumber file = files[random() % 2];
        const uint64_t offset = random() % 200 * 4096 + (random() % 4 ? 0 : random() % 4096);
        OperationBody body;
        switch (random() % 8) {
          case 0: {
            Allocate allocate;
            allocate.inode = file;
            allocate.offset = offset;
            allocate.length = 1 + random() % 50'000;
            allocate.punch = allocate.keep_size = random() % 2;
            allocate.zero = !allocate.punch && random() % 2;
            body = allocate;
            break;
          }
          case 1:
            body = CopyRange{files[random() % 2], random() % 900'000, file, offset, random() % 100'000};
            break;
          case 2: {
            if (random() % 4) continue;
            SetAttributes set;
            set.inode = file;
            set.size = random() % 1'200'000;
            body = set;
            break;
          }
          case 3: {
            ScatteredExtents write;
            write.inode = file;
            uint64_t at = offset;
            for (size_t i = 1 + random() % 15; i > 0; --i) {
              write.pieces.push_back({at, uint32_t(1 + random() % 4096)});
              write.bytes.resize(write.bytes.size() + write.pieces.back().length, uint8_t(random()));
              at += 4096 + random() % 20'000;
            }
            body = write;
            break;
          }
          default: {
            WriteExtents write;
            write.inode = file;
            write.offset = offset;
            write.bytes.resize(1 + random() % 8192);
            for (auto& byte : write.bytes) byte = uint8_t(random());
            body = write;
          }
        }
        const Reply one = volume.run(body), other = plain.run(body);
        BOOST_REQUIRE(one.code == other.code);
        if (random() % 4 == 0) joined += volume.compact(8 + random() % 1000);
        if (random() % 4 == 0) volume.free_dead();
      }
      while (const size_t more = volume.compact()) joined += more;
      BOOST_TEST(joined > 0u);
      volume.free_dead();
      for (const InodeNumber file : files) {
        BOOST_TEST((volume.content(file) == plain.content(file)));
        BOOST_TEST(volume.attributes(file).size == plain.attributes(file).size);
        BOOST_TEST(volume.attributes(file).blocks == plain.attributes(file).blocks);
        BOOST_TEST(volume.attributes(file).change == plain.attributes(file).change);
        BOOST_TEST(volume.extents(file) <= plain.extents(file));
      }
      BOOST_TEST(volume.usage().bytes == plain.usage().bytes);
      BOOST_TEST(volume.usage().stored_bytes <= plain.usage().stored_bytes / 3 * 4 + 1);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
