// Real files: what file.h promises, on the disk under /tmp.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>

#include "peer/base/descriptor.h"
#include "peer/runtime/real.h"
#include "test/unit/runtime/temporary_directory.h"

namespace efs {
namespace {

BOOST_AUTO_TEST_CASE(files_read_and_write) {
  TemporaryDirectory directory;
  FileSystem& files = real_files();
  std::string path = directory / "file";
  BOOST_CHECK(files.open(path, OpenMode::read).error().code == Code::not_found);
  BOOST_CHECK(files.open(path, OpenMode::read_write).error().message.find(path) != std::string::npos);
  auto file = *files.open(path, OpenMode::create_new);
  BOOST_CHECK(files.open(path, OpenMode::create_new).error().code == Code::exists);
  struct stat about;
  BOOST_REQUIRE(stat(path.c_str(), &about) == 0);
  BOOST_CHECK_EQUAL(about.st_mode & 0777, 0600u);

  BOOST_CHECK(file->write(5, view("hello")));
  Bytes out(20, 1);
  BOOST_CHECK_EQUAL(*file->read(0, out), 10u);
  BOOST_CHECK(text(ByteView(out).first(10)) == std::string_view("\0\0\0\0\0hello", 10));
  BOOST_CHECK_EQUAL(*file->read(10, out), 0u);
  BOOST_CHECK_EQUAL(*file->size(), 10u);
  BOOST_CHECK(file->sync());
  BOOST_CHECK(file->truncate(7));
  BOOST_CHECK_EQUAL(*file->size(), 7u);

  auto reader = *files.open(path, OpenMode::read);
  BOOST_CHECK(!reader->write(0, view("x")));
}

bool in_cache(const std::string& path, size_t length) {
  const Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  void* mapped = mmap(nullptr, length, PROT_READ, MAP_SHARED, fd.get(), 0);
  BOOST_REQUIRE(mapped != MAP_FAILED);
  std::vector<unsigned char> pages((length + 4095) / 4096);
  BOOST_REQUIRE(mincore(mapped, length, pages.data()) == 0);
  munmap(mapped, length);
  return std::all_of(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
}

BOOST_AUTO_TEST_CASE(what_is_read_past_the_cache_is_what_is_there) {
  TemporaryDirectory directory;
  const std::string path = directory / "file";
  auto file = *real_files().open(path, OpenMode::create_new);
  constexpr size_t kBlock = File::kDirectAlign;
  Bytes bytes(9 * kBlock + 100);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = uint8_t(i * 7 + i / kBlock);
  BOOST_REQUIRE(file->write(0, bytes));
  BOOST_REQUIRE(file->sync());
  alignas(kBlock) ByteArray<5 * kBlock> front, out;
  // The address and the length of each, aligned and not, and over the end.
  for (const size_t skip : {size_t(0), size_t(1)}) {
    for (const size_t first : {size_t(0), size_t(50), kBlock, 3 * kBlock}) {
      for (const size_t second : {size_t(0), size_t(70), kBlock, 4 * kBlock}) {
        for (const size_t offset : {size_t(0), kBlock, size_t(13), 4 * kBlock}) {
          front.fill(1);
          out.fill(2);
          const std::span a = std::span(front).subspan(skip, first), b = std::span(out).subspan(skip, second);
          const size_t there = std::min(first + second, bytes.size() - offset);
          BOOST_REQUIRE_EQUAL(*file->read_directly(offset, a, b), there);
          Bytes both(a.begin(), a.end());
          both.insert(both.end(), b.begin(), b.end());
          BOOST_REQUIRE(
              std::equal(both.begin(), both.begin() + ptrdiff_t(there), bytes.begin() + ptrdiff_t(offset)));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_not_in_memory_is_not_waited_for) {
  TemporaryDirectory directory;
  const std::string path = directory / "file";
  auto file = *real_files().open(path, OpenMode::create_new);
  const Bytes bytes(16 << 20, 7);  // more than the system reads ahead at once, however quick the disk is
  BOOST_REQUIRE(file->write(0, bytes));
  Bytes out(bytes.size() + 1);
  BOOST_TEST(*file->read_cached(0, out) == bytes.size());
  BOOST_TEST(*file->read_cached(bytes.size(), out) == 0u);
  BOOST_REQUIRE(file->sync());
  const Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (in_cache(path, bytes.size())) {  // a filesystem in memory keeps it
    BOOST_TEST(*file->read_cached(0, out) == bytes.size());
    return;
  }
  // A disk may be so quick that the bytes have come before the system looks for them: then it is tried again.
  auto first = file->read_cached(0, out);
  for (int tries = 1; first && tries < 100; ++tries) {
    BOOST_TEST(*first == bytes.size());
    posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    first = file->read_cached(0, out);
  }
  BOOST_REQUIRE(!first);
  BOOST_TEST((first.error().code == Code::uncached));
  BOOST_TEST(*file->read(0, out) == bytes.size());
  BOOST_TEST(*file->read_cached(0, out) == bytes.size());
  out.resize(bytes.size());
  BOOST_TEST((out == bytes));
}

BOOST_AUTO_TEST_CASE(files_that_do_not_tell_their_size) {
  auto content = real_files().read_file("/proc/self/status");  // its st_size is 0
  BOOST_REQUIRE(content);
  BOOST_CHECK(text(*content).find("Groups:") != std::string_view::npos);
  BOOST_CHECK(real_files().read_file("/proc/self/status", 10).error().code == Code::too_large);
}

BOOST_AUTO_TEST_CASE(vectors_of_any_length) {
  TemporaryDirectory directory;
  auto file = *real_files().open(directory / "file", OpenMode::create);
  std::vector<Bytes> pieces;
  Bytes whole;
  for (int i = 0; i < 1500; ++i) {
    pieces.emplace_back(size_t(i % 7 == 0 ? 0 : i % 977), uint8_t(i));
    append(whole, pieces.back());
  }
  std::vector<ByteView> views(pieces.begin(), pieces.end());
  BOOST_REQUIRE(file->write_vector(3, views));
  BOOST_CHECK(file->write_vector(0, {}));
  Bytes out(whole.size() + 3);
  BOOST_CHECK_EQUAL(*file->read(0, out), out.size());
  BOOST_CHECK(std::equal(whole.begin(), whole.end(), out.begin() + 3));
}

BOOST_AUTO_TEST_CASE(space_is_allocated_and_punched) {
  TemporaryDirectory directory;
  auto file = *real_files().open(directory / "file", OpenMode::create);
  BOOST_CHECK(file->allocate(0, 1 << 20));
  BOOST_CHECK_EQUAL(*file->size(), 1u << 20);
  BOOST_CHECK(file->write(0, Bytes(1 << 20, 7)));
  BOOST_CHECK(file->sync());
  uint64_t before = *file->allocated_bytes();
  BOOST_CHECK(before >= 1 << 20);
  BOOST_CHECK(file->punch(256 << 10, 512 << 10));
  BOOST_CHECK(*file->allocated_bytes() <= before - (512 << 10));
  BOOST_CHECK_EQUAL(*file->size(), 1u << 20);
  Bytes out(1);
  BOOST_CHECK(file->read(300 << 10, out));
  BOOST_CHECK_EQUAL(out[0], 0);
  auto space = *real_files().space(directory.path());
  BOOST_CHECK(space.total_bytes > space.free_bytes && space.free_bytes > 0);
}

BOOST_AUTO_TEST_CASE(names) {
  TemporaryDirectory directory;
  FileSystem& files = real_files();
  BOOST_CHECK(files.make_directories(directory / "a/b/c", 0700));
  BOOST_CHECK(files.make_directories(directory / "a/b/c", 0700));
  BOOST_CHECK(files.exists(directory / "a/b"));
  BOOST_CHECK(files.replace_file(directory / "a/two", view("2")));
  BOOST_CHECK(files.replace_file(directory / "a/one", view("1")));
  BOOST_CHECK(files.make_directories(directory / "a/one/x", 0700).error().code == Code::not_directory);
  BOOST_CHECK((*files.list(directory / "a") == std::vector<std::string>{"b", "one", "two"}));
  BOOST_CHECK(files.rename(directory / "a/one", directory / "a/two"));
  BOOST_CHECK(files.sync_directory(directory / "a"));
  BOOST_CHECK(!files.exists(directory / "a/one"));
  BOOST_CHECK(!files.exists(directory / "a/two/x"));
  std::filesystem::create_symlink("around", directory / "around");
  BOOST_CHECK(files.exists(directory / "around/x"));  // it cannot be looked at: not taken for absent
  BOOST_CHECK(files.read_file(directory / "around/x").error().code == Code::loop);
  BOOST_CHECK(text(*files.read_file(directory / "a/two")) == "1");
  BOOST_CHECK(files.read_file(directory / "a/two", 0).error().code == Code::too_large);
  BOOST_CHECK(files.remove(directory / "a").error().code == Code::not_empty);
  BOOST_CHECK(files.remove(directory / "a/two"));
  BOOST_CHECK(files.remove(directory / "a/two").error().code == Code::not_found);
  BOOST_CHECK(files.remove(directory / "a/b/c"));
  BOOST_CHECK(files.list(directory / "none").error().code == Code::not_found);
}

BOOST_AUTO_TEST_CASE(replacing_leaves_nothing_beside) {
  TemporaryDirectory directory;
  FileSystem& files = real_files();
  BOOST_CHECK(files.replace_file(directory / "f", Bytes(100, 1)));
  BOOST_CHECK(files.replace_file(directory / "f", Bytes(10, 2)));
  BOOST_CHECK(*files.read_file(directory / "f") == Bytes(10, 2));
  BOOST_CHECK((*files.list(directory.path()) == std::vector<std::string>{"f"}));
  BOOST_CHECK(!files.replace_file(directory / "none/f", Bytes(10)));
}

BOOST_AUTO_TEST_CASE(locks) {
  TemporaryDirectory directory;
  auto held = real_files().lock(directory / "lock");
  BOOST_REQUIRE(held);
  auto second = real_files().lock(directory / "lock");
  BOOST_REQUIRE(!second);
  BOOST_CHECK(second.error().code == Code::busy);
  held->reset();
  BOOST_CHECK(real_files().lock(directory / "lock"));
}

}  // namespace
}  // namespace efs
