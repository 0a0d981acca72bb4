// The simulated disk: what it promises is what file.h says. Shown over many seeds: what was synced is there
// after every power loss; what was not is sometimes lost, sometimes kept and sometimes torn; names likewise;
// and what the process reads before the crash follows a plain model.
#include <boost/test/unit_test.hpp>
#include <set>

#include "peer/runtime/simulated.h"
#include "peer/runtime/simulated_random.h"

namespace efs {
namespace {

Bytes contents(FileSystem& files, const std::string& path) {
  auto bytes = files.read_file(path, 1 << 30);
  BOOST_REQUIRE(bytes);
  return *bytes;
}

BOOST_AUTO_TEST_CASE(reads_what_was_written) {
  auto disk = make_simulated_disk(1);
  FileSystem& files = disk->files();
  BOOST_CHECK(files.open("/d/f", OpenMode::create).error().code == Code::not_found);
  BOOST_CHECK(files.make_directories("/d/e", 0700));
  BOOST_CHECK(files.open("/d/f", OpenMode::read).error().code == Code::not_found);
  auto file = *files.open("/d/f", OpenMode::create_new);
  BOOST_CHECK(files.open("/d/f", OpenMode::create_new).error().code == Code::exists);
  BOOST_CHECK(files.open("/d/f/g", OpenMode::create).error().code == Code::not_directory);
  BOOST_CHECK(files.open("/d", OpenMode::create).error().code == Code::is_directory);
  BOOST_CHECK(file->write(5, view("hello")));
  Bytes out(20, 1);
  BOOST_CHECK_EQUAL(*file->read(0, out), 10u);
  BOOST_CHECK(text(ByteView(out).first(10)) == std::string_view("\0\0\0\0\0hello", 10));
  BOOST_CHECK_EQUAL(*file->read(11, out), 0u);
  auto reader = *files.open("/d/f", OpenMode::read);
  BOOST_CHECK(reader->write(0, view("x")).error().code == Code::bad_handle);
  BOOST_CHECK(files.rename("/d/f", "/d/e").error().code == Code::is_directory);
  BOOST_CHECK(files.rename("/d", "/d/e/d").error().code == Code::invalid_argument);
  BOOST_CHECK(files.remove("/d").error().code == Code::not_empty);
  BOOST_CHECK(files.remove("/d/f"));
  BOOST_CHECK(!files.exists("/d/f"));
  BOOST_CHECK_EQUAL(*file->size(), 10u);  // open, and gone from the tree
  BOOST_CHECK((*files.list("/d") == std::vector<std::string>{"e"}));
  BOOST_CHECK(files.replace_file("/d/r", view("1")));
  BOOST_CHECK(files.replace_file("/d/r", view("2")));
  BOOST_CHECK(text(contents(files, "/d/r")) == "2");
  BOOST_CHECK((*files.list("/d") == std::vector<std::string>{"e", "r"}));
}

// Random changes, against a plain array of bytes.
BOOST_AUTO_TEST_CASE(contents_follow_a_model) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      SimulatedRandom random(seed);
      auto disk = make_simulated_disk(seed);
      auto file = *disk->files().open("/f", OpenMode::create);
      Bytes model;
      for (int step = 0; step < 300; ++step) {
        uint64_t offset = random.below(40000),
                 length = random.below(3) ? random.below(300) : random.below(20000);
        switch (random.below(6)) {
          case 0:
            BOOST_REQUIRE(file->truncate(offset));
            model.resize(offset);
            break;
          case 1:
            BOOST_REQUIRE(file->punch(offset, length + 1));
            for (size_t i = offset; i < std::min<size_t>(model.size(), offset + length + 1); ++i)
              model[i] = 0;
            break;
          case 2:
            BOOST_REQUIRE(file->allocate(offset, length + 1));
            model.resize(std::max<size_t>(model.size(), offset + length + 1));
            break;
          case 3:
            BOOST_REQUIRE(file->sync());
            break;
          default: {
            Bytes bytes(length, uint8_t(random.below(4)));
            BOOST_REQUIRE(file->write(offset, bytes));
            if (bytes.empty()) break;
            model.resize(std::max<size_t>(model.size(), offset + length));
            std::copy(bytes.begin(), bytes.end(), model.begin() + long(offset));
          }
        }
        BOOST_REQUIRE_EQUAL(*file->size(), model.size());
        BOOST_REQUIRE(contents(disk->files(), "/f") == model);
        BOOST_REQUIRE_EQUAL(*file->allocated_bytes(),
                            (uint64_t(1) << 40) - disk->files().space("/")->free_bytes);
      }
      BOOST_REQUIRE(file->sync());
      BOOST_REQUIRE(disk->files().sync_directory("/"));
      disk->power_loss();
      BOOST_REQUIRE(contents(disk->files(), "/f") == model);
    }
  }
}

// Every byte of the file carries the number of the write it came from. After a power loss each sector must
// hold what the last sync left there, or what a later write put there.
BOOST_AUTO_TEST_CASE(synced_bytes_survive_and_others_may) {
  int lost = 0, kept = 0, torn = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      SimulatedRandom random(seed);
      auto disk = make_simulated_disk(seed);
      auto file = *disk->files().open("/f", OpenMode::create);
      Bytes now;
      auto write = [&](uint8_t number) {
        uint64_t offset = random.below(20000);
        Bytes bytes(1 + random.below(9000), number);
        BOOST_REQUIRE(file->write(offset, bytes));
        now.resize(std::max<size_t>(now.size(), offset + bytes.size()));
        std::copy(bytes.begin(), bytes.end(), now.begin() + long(offset));
        return std::pair<size_t, size_t>(offset, offset + bytes.size());
      };
      for (uint8_t number = 1; number < 10; ++number) write(number);
      BOOST_REQUIRE(file->sync());
      BOOST_REQUIRE(disk->files().sync_directory("/"));
      Bytes synced = now;
      std::vector<std::set<uint8_t>> allowed(30000);
      for (size_t i = 0; i < allowed.size(); ++i) allowed[i].insert(i < synced.size() ? synced[i] : 0);
      std::vector<std::pair<size_t, size_t>> later;
      for (uint8_t number = 10; number < 14; ++number) {
        later.push_back(write(number));
        for (size_t i = later.back().first; i < later.back().second; ++i) allowed[i].insert(number);
      }
      disk->power_loss();
      BOOST_CHECK(!file->read(0, now));  // the process died with its descriptors
      Bytes after = contents(disk->files(), "/f");
      BOOST_REQUIRE(after.size() >= synced.size() && after.size() <= now.size());
      for (size_t i = 0; i < after.size(); ++i) BOOST_REQUIRE(allowed[i].count(after[i]));
      auto [begin, end] = later.back();
      size_t there = 0;
      for (size_t i = begin; i < std::min(end, after.size()); ++i) there += after[i] == 13;
      ++(there == 0 ? lost : there == end - begin ? kept : torn);
      if (there != 0 && there != end - begin) {
        for (size_t i = begin + 1; i < std::min(end, after.size()); ++i)
          BOOST_REQUIRE((after[i] == 13) == (after[i - 1] == 13) || i % 512 == 0);
      }
    }
  }
  BOOST_CHECK_GT(lost, 30);
  BOOST_CHECK_GT(kept, 30);
  BOOST_CHECK_GT(torn, 30);
}

BOOST_AUTO_TEST_CASE(synced_names_survive_and_others_may) {
  std::set<std::vector<std::string>> outcomes;
  int both_or_none = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    auto disk = make_simulated_disk(seed);
    FileSystem& files = disk->files();
    auto touch = [&](const std::string& path, std::string_view what) {
      auto file = *files.open(path, OpenMode::create);
      BOOST_REQUIRE(file->write(0, view(what)) && file->sync());
    };
    BOOST_REQUIRE(files.make_directories("/d", 0700) && files.sync_directory("/"));
    touch("/d/old", "old");
    touch("/d/gone", "gone");
    touch("/d/target", "before");
    BOOST_REQUIRE(files.sync_directory("/d"));
    touch("/d/new", "new");
    BOOST_REQUIRE(files.remove("/d/gone"));
    touch("/d/fresh", "after");
    BOOST_REQUIRE(files.rename("/d/fresh", "/d/target"));
    disk->power_loss();
    BOOST_REQUIRE(files.exists("/d/old"));
    std::string target(text(contents(files, "/d/target")));
    BOOST_REQUIRE(target == "before" || target == "after");
    BOOST_REQUIRE(!(target == "after" && files.exists("/d/fresh")));  // a rename is whole
    if (files.exists("/d/gone")) BOOST_REQUIRE(text(contents(files, "/d/gone")) == "gone");
    if (files.exists("/d/new")) BOOST_REQUIRE(text(contents(files, "/d/new")) == "new");
    both_or_none += files.exists("/d/gone") != files.exists("/d/new");
    outcomes.insert(*files.list("/d"));
  }
  BOOST_CHECK_EQUAL(outcomes.size(), 2u * 2 * 2);  // with and without: gone, new, fresh
  BOOST_CHECK_GT(both_or_none, 30);
}

BOOST_AUTO_TEST_CASE(replace_file_leaves_old_or_new) {
  int old_one = 0, new_one = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    auto disk = make_simulated_disk(seed);
    BOOST_REQUIRE(disk->files().replace_file("/f", Bytes(3000, 1)));
    disk->fail_after(int64_t(seed % 7));
    bool done = disk->files().replace_file("/f", Bytes(5000, 2)).has_value();
    disk->power_loss();
    Bytes after = contents(disk->files(), "/f");
    BOOST_REQUIRE(after == Bytes(3000, 1) || after == Bytes(5000, 2));
    if (done) BOOST_REQUIRE(after == Bytes(5000, 2));
    ++(after.size() == 3000 ? old_one : new_one);
  }
  BOOST_CHECK_GT(old_one, 20);
  BOOST_CHECK_GT(new_one, 20);
}

BOOST_AUTO_TEST_CASE(a_new_directory_may_be_lost_with_all_below) {
  int there = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    auto disk = make_simulated_disk(seed);
    FileSystem& files = disk->files();
    BOOST_REQUIRE(files.make_directories("/a/b", 0700));
    BOOST_REQUIRE(files.replace_file("/a/b/f", view("x")));  // syncs /a/b, not what leads there
    disk->power_loss();
    if (files.exists("/a/b")) {
      ++there;
      BOOST_REQUIRE(files.exists("/a/b/f"));
    }
  }
  BOOST_CHECK_GT(there, 10);
  BOOST_CHECK_LT(there, 90);
}

BOOST_AUTO_TEST_CASE(a_killed_process_loses_no_bytes) {
  auto disk = make_simulated_disk(3);
  FileSystem& files = disk->files();
  auto file = *files.open("/f", OpenMode::create);
  auto lock = *files.lock("/lock");
  BOOST_REQUIRE(file->write(0, view("unsynced")));
  BOOST_CHECK(files.lock("/lock").error().code == Code::busy);
  disk->process_died();
  BOOST_CHECK(file->write(0, view("x")).error().code == Code::io);
  BOOST_CHECK(text(contents(files, "/f")) == "unsynced");
  auto next = files.lock("/lock");
  BOOST_REQUIRE(next);
  lock.reset();  // of the dead process: releases nothing now
  BOOST_CHECK(files.lock("/lock").error().code == Code::busy);
  next->reset();
  BOOST_CHECK(files.lock("/lock"));
}

BOOST_AUTO_TEST_CASE(power_goes_at_the_nth_step) {
  auto disk = make_simulated_disk(4);
  FileSystem& files = disk->files();
  auto file = *files.open("/f", OpenMode::create);
  int64_t before = disk->calls();
  disk->fail_after(2);
  BOOST_CHECK(file->write(0, view("one")));
  BOOST_CHECK(file->sync());
  BOOST_CHECK(file->sync().error().code == Code::io);
  Bytes out(3);
  BOOST_CHECK(file->read(0, out).error().code == Code::io);
  BOOST_CHECK(files.open("/f", OpenMode::read).error().code == Code::io);
  BOOST_CHECK(files.exists("/none"));  // nobody can tell
  BOOST_CHECK_EQUAL(disk->calls(), before + 2);
  disk->process_died();
  BOOST_CHECK(text(contents(files, "/f")) == "one");
}

BOOST_AUTO_TEST_CASE(a_full_disk) {
  auto disk = make_simulated_disk(5);
  FileSystem& files = disk->files();
  disk->set_capacity(100 << 10);
  auto file = *files.open("/f", OpenMode::create);
  BOOST_CHECK(file->write(0, Bytes(60 << 10, 1)));
  BOOST_CHECK(file->allocate(0, 101 << 10).error().code == Code::no_space);
  auto other = *files.open("/g", OpenMode::create);
  BOOST_CHECK(other->write(0, Bytes(50 << 10, 1)).error().code == Code::no_space);
  BOOST_CHECK(file->write(0, Bytes(60 << 10, 2)));  // takes no more than it has
  BOOST_CHECK_EQUAL(files.space("/")->free_bytes, 40u << 10);
  file.reset();
  BOOST_CHECK(files.remove("/f"));
  BOOST_CHECK(other->write(0, Bytes(50 << 10, 1)));
  BOOST_CHECK(other->punch(0, 40 << 10));  // 13 pages, less 10
  BOOST_CHECK_EQUAL(files.space("/")->free_bytes, 88u << 10);
}

BOOST_AUTO_TEST_CASE(a_flipped_bit_stays_flipped) {
  auto disk = make_simulated_disk(6);
  FileSystem& files = disk->files();
  BOOST_REQUIRE(files.replace_file("/f", Bytes(10000, 0)));
  auto file = *files.open("/f", OpenMode::read_write);
  BOOST_REQUIRE(file->write(4096, Bytes(10, 1)));  // the same page as the bit, not synced
  disk->flip_bit("/f", 8 * 5000 + 3);
  BOOST_CHECK_EQUAL(contents(files, "/f")[5000], 8);
  disk->power_loss();
  BOOST_CHECK_EQUAL(contents(files, "/f")[5000], 8);
}

}  // namespace
}  // namespace efs
