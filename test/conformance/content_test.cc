// Bytes: read, write, append, truncate, holes, fallocate, copy_file_range, mmap, O_DIRECT, O_SYNC, sizes,
// blocks.
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <memory>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

std::string pattern(size_t length, unsigned seed = 1) {
  std::string out(length, '\0');
  uint32_t state = seed * 2654435761u + 1;
  for (char& byte : out) {
    state = state * 1664525u + 1013904223u;
    byte = char(state >> 24);
  }
  return out;
}
void write_at(int fd, const std::string& bytes, off_t offset) {
  EQ(OK(pwrite(fd, bytes.data(), bytes.size(), offset)), ssize_t(bytes.size()));
}
int64_t blocks(const std::string& path) {
  return info(path).st_blocks;
}

TEST(write, sizes_and_offsets) {
  const std::string bytes = pattern(3 << 20);
  for (size_t size :
       {1u, 2047u, 2048u, 2049u, 4095u, 4096u, 4097u, 65536u, 65537u, 1048576u, 1048577u, 3145728u}) {
    for (off_t offset : {0, 1, 4095, 1048575}) {
      {
        Fd fd(OK(open("f", O_WRONLY | O_CREAT | O_TRUNC, 0644)));
        write_at(fd, bytes.substr(0, size), offset);
      }
      const std::string wanted = std::string(size_t(offset), '\0') + bytes.substr(0, size);
      TRUE(contents(seen("f")) == wanted);
      EQ(info(seen("f")).st_size, off_t(wanted.size()));
    }
  }
}

TEST(write, over_what_is_there) {
  std::string model = pattern(300'000);
  make_file("f", model);
  Fd fd(OK(open("f", O_RDWR)));
  unsigned state = 7;
  for (int i = 0; i < 200; ++i) {
    state = state * 1664525u + 1013904223u;
    const size_t offset = state % 320'000, length = 1 + (state >> 8) % 9000;
    const std::string bytes = pattern(length, state);
    write_at(fd, bytes, off_t(offset));
    if (model.size() < offset + length) model.resize(offset + length);
    model.replace(offset, length, bytes);
    if (i % 20 == 0) TRUE(read_at(fd, model.size() + 1, 0) == model);
  }
  fd.close();
  TRUE(contents(seen("f")) == model);
}

TEST(write, positions) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  EQ(write(fd, "hello", 5), 5);
  EQ(lseek(fd, 0, SEEK_CUR), 5);
  EQ(lseek(fd, -2, SEEK_END), 3);
  EQ(write(fd, "XY!", 3), 3);
  EQ(lseek(fd, 0, SEEK_END), 6);
  EQ(lseek(fd, 100, SEEK_SET), 100);
  EQ(info_of(fd).st_size, 6);  // a position makes no bytes
  char byte;
  EQ(read(fd, &byte, 1), 0);
  FAILS(EINVAL, lseek(fd, -1, SEEK_SET));
  FAILS(EINVAL, lseek(fd, -101, SEEK_CUR));
  FAILS(EINVAL, lseek(fd, 0, 99));
  FAILS(EINVAL, pread(fd, &byte, 1, -1));
  FAILS(EINVAL, pwrite(fd, &byte, 1, -1));
  fd.close();
  EQ(contents(seen("f")), "helXY!");
}

TEST(write, append) {
  make_file("f", "start");
  Fd one(OK(open("f", O_WRONLY | O_APPEND)));
  Fd two(OK(open("f", O_RDWR | O_APPEND)));
  for (int i = 0; i < 20; ++i) {
    EQ(write(one, "aaa", 3), 3);
    EQ(write(two, "bb", 2), 2);
  }
  EQ(lseek(two, 0, SEEK_CUR), 105);
  EQ(pwrite(one, "end", 3, 0), 3);  // Linux: to the end all the same (pwrite(2), BUGS)
  OK(ftruncate(two, 3));
  EQ(write(one, "!", 1), 1);
  one.close();
  two.close();
  EQ(contents(seen("f")), "sta!");
}

TEST(write, vectors) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  char a[] = "one", b[] = "two", c[] = "three";
  const iovec parts[3] = {{a, 3}, {b, 3}, {c, 5}};
  EQ(writev(fd, parts, 3), 11);
  EQ(pwritev(fd, parts, 2, 100), 6);
  char left[4] = {}, right[9] = {};
  const iovec into[2] = {{left, 3}, {right, 8}};
  EQ(preadv(fd, into, 2, 0), 11);
  EQ(std::string(left) + right, "onetwothree");
  volatile int too_few = -1;
  FAILS(EINVAL, writev(fd, parts, too_few));
  fd.close();
  EQ(contents(seen("f")).size(), 106u);
}

TEST(write, file_size_limit) {
  apart([] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    OK(setrlimit(RLIMIT_FSIZE, &limit));
    Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
    EQ(pwrite(fd, std::string(2000, 'x').data(), 2000, 0), 1000);
    FAILS(EFBIG, pwrite(fd, "x", 1, 1000));
    FAILS(EFBIG, ftruncate(fd, 1001));
    FAILS(EFBIG, truncate("f", 1001));
    FAILS(EFBIG, fallocate(fd, 0, 0, 2000));
    OK(ftruncate(fd, 10));
  });
  EQ(info(seen("f")).st_size, 10);
}

TEST(write, up_to_the_largest_file) {
  const uint64_t most = max_file_size();
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  OK(ftruncate(fd, off_t(most)));
  EQ(info(seen("f")).st_size, off_t(most));
  EQ(info(seen("f")).st_blocks, 0);
  write_at(fd, "start", 0);
  write_at(fd, "end", off_t(most - 3));
  write_at(fd, "middle", off_t(most / 2));
  if (most < INT64_MAX) {  // else no offset reaches behind it
    FAILS(EFBIG, pwrite(fd, "x", 1, off_t(most)));
    EQ(pwrite(fd, "xyz", 3, off_t(most - 1)), 1);
    FAILS(EFBIG, ftruncate(fd, off_t(most + 1)));
  }
  FAILS(EINVAL, ftruncate(fd, -1));
  FAILS(EINVAL, truncate("f", -1));
  OK(fsync(fd));
  Fd other(OK(open(seen("f").c_str(), O_RDONLY)));
  EQ(read_at(other, 5, 0), "start");
  EQ(read_at(other, 6, off_t(most / 2)), "middle");
  EQ(read_at(other, 2, off_t(most - 3)), "en");
  EQ(read_at(other, 4, 1'000'000'000), std::string(4, '\0'));
  OK(ftruncate(fd, 1));
  EQ(info(seen("f")).st_size, 1);
  EQ(contents(seen("f")), "s");
}

TEST(truncate, shorter_and_longer) {
  const std::string bytes = pattern(2'500'000);
  for (off_t size : {0, 1, 2047, 2048, 2049, 4096, 100'000, 1048575, 1048576, 1048577, 2'499'999}) {
    make_file("f", bytes);
    OK(truncate("f", size));
    TRUE(contents(seen("f")) == bytes.substr(0, size_t(size)));
    OK(truncate("f", 3'000'000));  // what comes back is zeros
    TRUE(contents(seen("f")) == bytes.substr(0, size_t(size)) + std::string(3'000'000 - size_t(size), '\0'));
  }
}

TEST(truncate, of_an_open_file) {
  make_file("f", pattern(10'000));
  Fd fd(OK(open("f", O_RDWR)));
  read_at(fd, 10'000, 0);
  OK(truncate("f", 5));
  EQ(read_at(fd, 100, 0), pattern(10'000).substr(0, 5));
  OK(ftruncate(fd, 5000));
  TRUE(read_at(fd, 10'000, 0) == pattern(10'000).substr(0, 5) + std::string(4995, '\0'));
  write_at(fd, "tail", 4998);
  EQ(info_of(fd).st_size, 5002);
}

TEST(truncate, permissions_and_types) {
  make_file("f", "content", 0644);
  OK(mkdir("d", 0755));
  OK(mkfifo("p", 0666));
  FAILS(EISDIR, truncate("d", 0));
  FAILS(EINVAL, truncate("p", 0));
  as_user([] { FAILS(EACCES, truncate("f", 0)); });
  EQ(contents(seen("f")), "content");
}

TEST(blocks, count_what_is_stored) {
  make_file("f");
  EQ(blocks(seen("f")), 0);
  Fd fd(OK(open("f", O_RDWR)));
  write_at(fd, pattern(1 << 20), 0);
  OK(fsync(fd));
  EQ(blocks(seen("f")), 2048);
  OK(ftruncate(fd, 1 << 30));
  EQ(blocks(seen("f")), 2048);
  write_at(fd, pattern(65536), 1 << 29);
  OK(fsync(fd));
  EQ(blocks(seen("f")), 2048 + 128);
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
  EQ(blocks(seen("f")), 128);
  OK(ftruncate(fd, 0));
  EQ(blocks(seen("f")), 0);
  make_file("small", "12345");
  TRUE(blocks(seen("small")) <= 8);
}

TEST(blocks, count_what_is_not_sent_yet) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  write_at(fd, pattern(65536), 0);
  EQ(info_of(fd).st_blocks, 128);
  OK(fsync(fd));
  write_at(fd, pattern(65536), 0);
  EQ(info_of(fd).st_blocks, 128);
  EQ(blocks(seen("f")), 128);
  OK(ftruncate(fd, 1 << 20));
  write_at(fd, pattern(65536), 1 << 19);
  EQ(info_of(fd).st_blocks, 256);
  OK(fsync(fd));
  EQ(blocks(seen("f")), 256);
}

TEST(fallocate, grows) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  write_at(fd, "content", 0);
  OK(fallocate(fd, 0, 4096, 1 << 20));
  EQ(info(seen("f")).st_size, (1 << 20) + 4096);
  TRUE(blocks(seen("f")) >= 2048);
  TRUE(contents(seen("f")) == "content" + std::string((1 << 20) + 4096 - 7, '\0'));
  OK(fallocate(fd, 0, 0, 100));
  EQ(info(seen("f")).st_size, (1 << 20) + 4096);
  EQ(posix_fallocate(fd, 0, 2 << 20), 0);
  EQ(info(seen("f")).st_size, 2 << 20);
}

TEST(fallocate, keep_size) {
  make_file("f", "content");
  Fd fd(OK(open("f", O_RDWR)));
  OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
  EQ(info(seen("f")).st_size, 7);
  TRUE(blocks(seen("f")) >= 2048);
  EQ(contents(seen("f")), "content");
  OK(ftruncate(fd, 7));  // what was allocated behind the end may go
  OK(ftruncate(fd, 10'000));
  TRUE(contents(seen("f")) == "content" + std::string(9993, '\0'));
}

TEST(fallocate, punch_hole) {
  const std::string bytes = pattern(1 << 20);
  for (auto [offset, length] : {std::pair<off_t, off_t>{0, 4096},
                                {1, 1},
                                {100, 100'000},
                                {4095, 2},
                                {500'000, 1 << 20},
                                {0, 1 << 20},
                                {2 << 20, 4096}}) {
    make_file("f", bytes);
    Fd fd(OK(open("f", O_RDWR)));
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
    std::string wanted = bytes;
    for (off_t at = offset; at < std::min<off_t>(offset + length, 1 << 20); ++at) wanted[size_t(at)] = 0;
    TRUE(read_at(fd, 2 << 20, 0) == wanted);
    fd.close();
    TRUE(contents(seen("f")) == wanted);
  }
  make_file("small", "0123456789");
  Fd fd(OK(open("small", O_RDWR)));
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3));
  EQ(contents(seen("small")), std::string("01\0\0\0"
                                          "56789",
                                          10));
}

TEST(fallocate, zero_range) {
  const std::string bytes = pattern(200'000);
  make_file("f", bytes);
  Fd fd(OK(open("f", O_RDWR)));
  OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 1000, 50'000));
  std::string wanted = bytes;
  std::fill_n(wanted.begin() + 1000, 50'000, '\0');
  TRUE(contents(seen("f")) == wanted);
  OK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 150'000, 100'000));
  EQ(info(seen("f")).st_size, 200'000);
  std::fill(wanted.begin() + 150'000, wanted.end(), '\0');
  TRUE(contents(seen("f")) == wanted);
  OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 190'000, 100'000));
  EQ(info(seen("f")).st_size, 290'000);
}

TEST(fallocate, keep_size_then_append) {
  make_file("f", "start");
  Fd fd(OK(open("f", O_RDWR))), append(OK(open("f", O_WRONLY | O_APPEND))),
      other(OK(open(seen("f").c_str(), O_WRONLY | O_APPEND)));
  std::string wanted = "start";
  for (const int end : {int(append), int(other), int(append)}) {
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
    EQ(info(seen("f")).st_size, off_t(wanted.size()));
    EQ(lseek(fd, 0, SEEK_END), off_t(wanted.size()));
    EQ(write(end, "-more", 5), 5);
    wanted += "-more";
    EQ(contents(seen("f")), wanted);
    EQ(read_at(fd, 100, 0), wanted);
  }
  EQ(info(seen("f")).st_size, 20);
  TRUE(blocks(seen("f")) >= 2048);
}

TEST(fallocate, zeros_over_what_others_have_just_written) {
  constexpr size_t kSize = 40'000;
  make_file("f", std::string(kSize, 'o'));
  Fd fd(OK(open("f", O_RDWR))), other(OK(open(seen("f").c_str(), O_RDWR)));
  std::string model(kSize, 'o');
  unsigned round = 0;
  for (int mode : {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                   FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE}) {
    const size_t from = 4000 + 100 * round, length = 20'000;
    const std::string theirs = pattern(30'000, ++round);
    read_at(fd, kSize, 0);
    write_at(other, theirs, 1000);  // and nothing has synced it
    model.replace(1000, theirs.size(), theirs);
    OK(fallocate(fd, mode, off_t(from), off_t(length)));
    std::fill_n(model.begin() + off_t(from), length, '\0');
    TRUE(read_at(fd, 2 * kSize, 0) == model);
    TRUE(read_at(other, 2 * kSize, 0) == model);
    write_at(other, "again", off_t(from) + 500);  // and over the zeros
    model.replace(from + 500, 5, "again");
    TRUE(read_at(fd, 2 * kSize, 0) == model);
    TRUE(contents("f") == model);
    TRUE(contents(seen("f")) == model);
  }
}

TEST(fallocate, errors) {
  make_file("f", "content");
  Fd fd(OK(open("f", O_RDWR))), reader(OK(open("f", O_RDONLY))), dir(OK(open(".", O_RDONLY)));
  FAILS(EINVAL, fallocate(fd, 0, 0, 0));
  FAILS(EINVAL, fallocate(fd, 0, -1, 10));
  FAILS(EINVAL, fallocate(fd, 0, 0, -1));
  FAILS(EFBIG, fallocate(fd, 0, INT64_MAX - 10, 100));
  FAILS(EBADF, fallocate(reader, 0, 0, 10));
  FAILS(EBADF, fallocate(dir, 0, 0, 10));
  FAILS(EBADF, fallocate(99, 0, 0, 10));
  FAILS(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
  FAILS(EOPNOTSUPP, fallocate(fd, 0x1000, 0, 10));
  int pipes[2];
  OK(pipe(pipes));
  FAILS(ESPIPE, fallocate(pipes[1], 0, 0, 10));
  OK(mkfifo("p", 0644));
  Fd fifo(OK(open("p", O_RDWR)));
  FAILS(ESPIPE, fallocate(fifo, 0, 0, 10));
  if (!is_ext4()) FAILS(ENOSPC, fallocate(fd, 0, 0, off_t(1) << 43));  // which would take all there is first
  Fd other(OK(open(seen("f").c_str(), O_RDONLY)));
  EQ(read_at(other, 7, 0), "content");
}

TEST(lseek, data_and_holes) {
  constexpr off_t kBig = 1 << 20;
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  write_at(fd, pattern(kBig), kBig);
  write_at(fd, pattern(kBig), 4 * kBig);
  OK(ftruncate(fd, 8 * kBig));
  OK(fsync(fd));
  Fd other(OK(open(seen("f").c_str(), O_RDONLY)));
  for (int at : {int(fd), int(other)}) {
    EQ(lseek(at, 0, SEEK_DATA), kBig);
    EQ(lseek(at, 0, SEEK_HOLE), 0);
    EQ(lseek(at, kBig, SEEK_DATA), kBig);
    EQ(lseek(at, kBig + 5, SEEK_DATA), kBig + 5);
    EQ(lseek(at, kBig + 5, SEEK_HOLE), 2 * kBig);
    EQ(lseek(at, 2 * kBig, SEEK_DATA), 4 * kBig);
    EQ(lseek(at, 4 * kBig, SEEK_HOLE), 5 * kBig);
    EQ(lseek(at, 6 * kBig, SEEK_HOLE), 6 * kBig);
    FAILS(ENXIO, lseek(at, 5 * kBig, SEEK_DATA));
    FAILS(ENXIO, lseek(at, 8 * kBig, SEEK_DATA));
    FAILS(ENXIO, lseek(at, 8 * kBig, SEEK_HOLE));
    FAILS(ENXIO, lseek(at, 9 * kBig, SEEK_HOLE));
    FAILS(ENXIO, lseek(at, -1, SEEK_DATA));
  }
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * kBig, kBig / 2));
  EQ(lseek(other, 2 * kBig, SEEK_DATA), 4 * kBig + kBig / 2);
}

TEST(lseek, data_in_small_and_empty_files) {
  make_file("empty");
  make_file("small", "content");
  Fd empty(OK(open(seen("empty").c_str(), O_RDONLY))), small(OK(open(seen("small").c_str(), O_RDONLY)));
  FAILS(ENXIO, lseek(empty, 0, SEEK_DATA));
  FAILS(ENXIO, lseek(empty, 0, SEEK_HOLE));
  EQ(lseek(small, 0, SEEK_DATA), 0);
  EQ(lseek(small, 3, SEEK_DATA), 3);
  EQ(lseek(small, 0, SEEK_HOLE), 7);  // the end is a hole
  FAILS(ENXIO, lseek(small, 7, SEEK_DATA));
}

TEST(lseek, data_is_whole_blocks) {
  constexpr off_t kBlock = 4096, kSize = 30 * kBlock;
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  OK(ftruncate(fd, kSize));
  write_at(fd, "some bytes", kSize - 128);
  OK(fsync(fd));
  Fd other(OK(open(seen("f").c_str(), O_RDONLY)));
  EQ(lseek(other, kSize - 128, SEEK_HOLE), kSize);
  EQ(lseek(other, 0, SEEK_DATA), kSize - kBlock);
  EQ(lseek(other, kSize - 1, SEEK_DATA), kSize - 1);
  FAILS(ENXIO, lseek(other, kSize, SEEK_DATA));
}

TEST(lseek, allocated_is_a_hole_until_it_is_written) {
  constexpr off_t kBlock = 4096;
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  OK(fallocate(fd, 0, 0, 11 * kBlock));
  write_at(fd, pattern(kBlock), 10 * kBlock);
  OK(fsync(fd));
  Fd other(OK(open(seen("f").c_str(), O_RDONLY)));
  EQ(lseek(other, 0, SEEK_DATA), 10 * kBlock);
  EQ(lseek(other, 0, SEEK_HOLE), 0);
  EQ(lseek(other, 10 * kBlock, SEEK_HOLE), 11 * kBlock);
}

TEST(fallocate, takes_and_gives_whole_blocks) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  OK(fallocate(fd, 0, 4095, 2));
  EQ(info_of(fd).st_size, 4097);
  EQ(info_of(fd).st_blocks, 16);
  write_at(fd, "xy", 4095);
  EQ(info_of(fd).st_blocks, 16);
  OK(fsync(fd));
  EQ(info(seen("f")).st_blocks, 16);
  make_file("small", std::string(1000, 's'));
  Fd small(OK(open("small", O_RDWR)));
  OK(fallocate(small, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
  FAILS(ENXIO, lseek(small, 0, SEEK_DATA));
  EQ(info(seen("small")).st_blocks, 0);
  EQ(contents(seen("small")), std::string(1000, '\0'));
}

TEST(lseek, data_not_yet_sent) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  OK(ftruncate(fd, 1 << 20));
  write_at(fd, pattern(8192), 65536);
  EQ(lseek(fd, 0, SEEK_DATA), 65536);
  EQ(lseek(fd, 65536, SEEK_HOLE), 65536 + 8192);
}

TEST(copy_file_range, whole_and_parts) {
  const std::string bytes = pattern(3'000'000);
  make_file("from", bytes);
  Fd from(OK(open("from", O_RDONLY))), to(OK(open("to", O_RDWR | O_CREAT, 0644)));
  ssize_t left = 3'000'000;
  while (left > 0) {
    const ssize_t copied = OK(copy_file_range(from, nullptr, to, nullptr, size_t(left), 0));
    if (copied == 0) break;
    left -= copied;
  }
  EQ(left, 0);
  EQ(copy_file_range(from, nullptr, to, nullptr, 100, 0), 0);  // at the end
  TRUE(contents(seen("to")) == bytes);
  std::string model = bytes;
  for (auto [in, out, length] : {std::tuple<off_t, off_t, size_t>{5, 1'000'003, 70'000},
                                 {0, 2'999'990, 50'000},
                                 {2'000'000, 0, 4096},
                                 {1'048'570, 77, 12}}) {
    off64_t at_in = in, at_out = out;
    for (size_t done = 0; done < length;) {
      const ssize_t copied = OK(copy_file_range(from, &at_in, to, &at_out, length - done, 0));
      if (copied == 0) break;
      done += size_t(copied);
    }
    EQ(at_out, out + off_t(length));
    if (model.size() < size_t(out) + length) model.resize(size_t(out) + length);
    model.replace(size_t(out), length, bytes.substr(size_t(in), length));
  }
  TRUE(read_at(to, 4'000'000, 0) == model);
  TRUE(contents(seen("to")) == model);
  TRUE(contents(seen("from")) == bytes);
  write_at(to, "changed", 0);  // what was copied is not shared
  to.close();
  EQ(contents(seen("to")).substr(0, 7), "changed");
  TRUE(contents(seen("from")) == bytes);
}

TEST(copy_file_range, small_files_holes_and_itself) {
  make_file("small", "0123456789");
  Fd fd(OK(open("small", O_RDWR)));
  off64_t in = 0, out = 20;
  EQ(copy_file_range(fd, &in, fd, &out, 10, 0), 10);
  EQ(contents(seen("small")), "0123456789" + std::string(10, '\0') + "0123456789");
  in = 0, out = 5;
  FAILS(EINVAL, copy_file_range(fd, &in, fd, &out, 10, 0));  // overlapping
  Fd holes(OK(open("holes", O_RDWR | O_CREAT, 0644))), to(OK(open("to", O_RDWR | O_CREAT, 0644)));
  OK(ftruncate(holes, 1 << 20));
  write_at(holes, "data", 500'000);
  write_at(to, pattern(1 << 20), 0);
  in = out = 0;
  for (size_t done = 0; done < 1 << 20;) {
    const ssize_t copied = OK(copy_file_range(holes, &in, to, &out, (1 << 20) - done, 0));
    if (copied == 0) break;
    done += size_t(copied);
  }
  TRUE(contents(seen("to")) == contents("holes"));
}

TEST(copy_file_range, bytes_not_yet_sent) {
  Fd from(OK(open("from", O_RDWR | O_CREAT, 0644))), to(OK(open("to", O_RDWR | O_CREAT, 0644)));
  const std::string bytes = pattern(100'000), old = pattern(100'000, 2);
  write_at(to, old, 0);
  write_at(from, bytes, 0);
  off64_t in = 0, out = 1000;
  for (size_t done = 0; done < 50'000;)
    done += size_t(OK(copy_file_range(from, &in, to, &out, 50'000 - done, 0)));
  std::string wanted = old;
  wanted.replace(1000, 50'000, bytes.substr(0, 50'000));
  TRUE(read_at(to, 200'000, 0) == wanted);
}

TEST(copy_file_range, errors) {
  make_file("f", "content");
  OK(mkdir("d", 0755));
  Fd reader(OK(open("f", O_RDONLY))), writer(OK(open("w", O_WRONLY | O_CREAT, 0644))),
      appender(OK(open("w", O_WRONLY | O_APPEND))), dir(OK(open("d", O_RDONLY)));
  FAILS(EBADF, copy_file_range(writer, nullptr, writer, nullptr, 1, 0));
  FAILS(EBADF, copy_file_range(reader, nullptr, reader, nullptr, 1, 0));
  FAILS(EBADF, copy_file_range(reader, nullptr, appender, nullptr, 1, 0));
  FAILS(EISDIR, copy_file_range(dir, nullptr, writer, nullptr, 1, 0));
  FAILS(EINVAL, copy_file_range(reader, nullptr, writer, nullptr, 1, 1));
  Fd null(OK(open("/dev/null", O_RDWR)));
  FAILS(EINVAL, copy_file_range(null, nullptr, writer, nullptr, 1, 0));
}

TEST(sendfile, copies) {
  const std::string bytes = pattern(500'000);
  make_file("from", bytes);
  Fd from(OK(open("from", O_RDONLY))), to(OK(open("to", O_RDWR | O_CREAT, 0644)));
  for (size_t done = 0; done < bytes.size();) done += size_t(OK(sendfile(to, from, nullptr, bytes.size())));
  to.close();
  TRUE(contents(seen("to")) == bytes);
}

TEST(sync, flags_and_calls) {
  const std::string bytes = pattern(10'000);
  for (int flag : {O_SYNC, O_DSYNC, O_RSYNC}) {
    Fd fd(OK(open("f", O_RDWR | O_CREAT | O_TRUNC | flag, 0644)));
    write_at(fd, bytes, 0);
    TRUE(contents(seen("f")) == bytes);
  }
  Fd fd(OK(open("g", O_RDWR | O_CREAT, 0644)));
  write_at(fd, bytes, 0);
  OK(fdatasync(fd));
  TRUE(contents(seen("g")) == bytes);
  write_at(fd, "again", 0);
  OK(fsync(fd));
  EQ(contents(seen("g")).substr(0, 5), "again");
  OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
  OK(syncfs(fd));
  Fd dir(OK(open(".", O_RDONLY)));
  OK(fsync(dir));
  Fd reader(OK(open("g", O_RDONLY)));
  OK(fsync(reader));
  int pipes[2];
  OK(pipe(pipes));
  FAILS(EINVAL, fsync(pipes[0]));
}

TEST(direct, reads_and_writes) {
  const size_t size = 1 << 20;
  std::unique_ptr<char, decltype(&free)> room(static_cast<char*>(aligned_alloc(4096, size)), free);
  const std::string bytes = pattern(size);
  memcpy(room.get(), bytes.data(), size);
  Fd fd(OK(open("f", O_RDWR | O_CREAT | O_DIRECT, 0644)));
  EQ(pwrite(fd, room.get(), size, 0), ssize_t(size));
  EQ(pwrite(fd, room.get(), 4096, off_t(size)), 4096);
  TRUE(contents(seen("f")) == bytes + bytes.substr(0, 4096));
  memset(room.get(), 0, size);
  EQ(pread(fd, room.get(), size, 4096), ssize_t(size));
  TRUE(memcmp(room.get(), (bytes + bytes.substr(0, 4096)).data() + 4096, size) == 0);
  // Beside buffered access.
  Fd buffered(OK(open("f", O_RDWR)));
  write_at(buffered, "buffered", 0);
  EQ(pread(fd, room.get(), 4096, 0), 4096);
  EQ(std::string(room.get(), 8), "buffered");
  memset(room.get(), 'D', 4096);
  EQ(pwrite(fd, room.get(), 4096, 0), 4096);
  EQ(read_at(buffered, 8, 0), "DDDDDDDD");
}

TEST(mmap, shared_is_written_back) {
  make_file("f", pattern(100'000));
  {
    Fd fd(OK(open("f", O_RDWR)));
    char* at = static_cast<char*>(mmap(nullptr, 100'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    TRUE(at != MAP_FAILED);
    TRUE(std::string(at, 100'000) == pattern(100'000));
    memcpy(at + 50'000, "mapped", 6);
    EQ(read_at(fd, 6, 50'000), "mapped");  // one view of a file
    write_at(fd, "written", 60'000);
    EQ(std::string(at + 60'000, 7), "written");
    OK(msync(at, 100'000, MS_SYNC));
    EQ(contents(seen("f")).substr(50'000, 6), "mapped");
    memcpy(at, "late", 4);
    OK(munmap(at, 100'000));
  }
  EQ(contents(seen("f")).substr(0, 4), "late");
}

TEST(mmap, after_close_and_unlink) {
  make_file("f", pattern(10'000));
  Fd fd(OK(open("f", O_RDWR)));
  char* at = static_cast<char*>(mmap(nullptr, 10'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  TRUE(at != MAP_FAILED);
  fd.close();
  memcpy(at + 100, "mapped", 6);
  OK(msync(at, 10'000, MS_SYNC));
  EQ(contents(seen("f")).substr(100, 6), "mapped");
  OK(unlink("f"));
  memcpy(at + 200, "gone", 4);
  OK(msync(at, 10'000, MS_SYNC));
  EQ(std::string(at + 100, 6), "mapped");
  EQ(std::string(at + 200, 4), "gone");
  OK(munmap(at, 10'000));
}

TEST(mmap, private_is_not) {
  make_file("f", "content");
  Fd fd(OK(open("f", O_RDONLY)));
  char* at = static_cast<char*>(mmap(nullptr, 7, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  TRUE(at != MAP_FAILED);
  memcpy(at, "private", 7);
  OK(munmap(at, 7));
  EQ(contents(seen("f")), "content");
}

TEST(mmap, errors_and_the_end) {
  make_file("f", "content");
  Fd reader(OK(open("f", O_RDONLY))), writer(OK(open("f", O_WRONLY))), dir(OK(open(".", O_RDONLY)));
  const auto map = [](int fd, int protection, int flags) {
    void* at = mmap(nullptr, 4096, protection, flags, fd, 0);
    return at == MAP_FAILED ? -1 : 0;
  };
  FAILS(EACCES, map(reader, PROT_READ | PROT_WRITE, MAP_SHARED));
  FAILS(EACCES, map(writer, PROT_READ, MAP_SHARED));
  FAILS(ENODEV, map(dir, PROT_READ, MAP_SHARED));
  char* at = static_cast<char*>(mmap(nullptr, 8192, PROT_READ, MAP_SHARED, reader, 0));
  EQ(at[7], '\0');  // zeros to the end of the page
  const pid_t child = fork();
  if (child == 0) _exit(at[4096]);  // and nothing behind
  int status = 0;
  waitpid(child, &status, 0);
  TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

TEST(mmap, time_rises) {
  make_file("f", pattern(10'000));
  const std::string rose = times_risen("f", [] {
    Fd fd(OK(open("f", O_RDWR)));
    char* at = static_cast<char*>(mmap(nullptr, 10'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    at[0] = 'x';
    OK(msync(at, 10'000, MS_SYNC));
    OK(munmap(at, 10'000));
  });
  TRUE(rose == "mc" || rose == "amc");  // mapping it may count as reading
}

TEST(tmpfile, has_no_name) {
  OK(chmod(".", 0777));
  as_user([] {
    umask(027);
    Fd fd(OK(open(".", O_TMPFILE | O_RDWR, 0666)));
    const struct stat made = info_of(fd);
    TRUE(S_ISREG(made.st_mode));
    EQ(made.st_mode & 07777, 0640u);
    EQ(made.st_nlink, 0u);
    EQ(made.st_uid, kUser);
    write_at(fd, "content", 0);
    EQ(read_at(fd, 10, 0), "content");
    OK(fsync(fd));
    EQ(names_in(".").size(), 0u);
  });
  EQ(names_in(seen("")).size(), 0u);
}

TEST(tmpfile, can_be_given_one) {
  Fd fd(OK(open(".", O_TMPFILE | O_RDWR, 0644)));
  write_at(fd, "content", 0);
  OK(linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd)).c_str(), AT_FDCWD, "f", AT_SYMLINK_FOLLOW));
  EQ(info_of(fd).st_nlink, 1u);
  OK(fsync(fd));
  EQ(contents(seen("f")), "content");
  EQ(info(seen("f")).st_nlink, 1u);
  write_at(fd, "more", 7);
  fd.close();
  EQ(contents(seen("f")), "contentmore");
  OK(unlink("f"));
  Fd exclusive(OK(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0644)));
  FAILS(ENOENT, linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(exclusive)).c_str(), AT_FDCWD, "g",
                       AT_SYMLINK_FOLLOW));
}

TEST(tmpfile, errors) {
  make_file("f");
  FAILS(EINVAL, open(".", O_TMPFILE | O_RDONLY, 0644));
  FAILS(ENOTDIR, open("f", O_TMPFILE | O_RDWR, 0644));
  FAILS(ENOENT, open("missing", O_TMPFILE | O_RDWR, 0644));
  as_user([] { FAILS(EACCES, open(".", O_TMPFILE | O_RDWR, 0644)); });
}

}  // namespace
}  // namespace conformance
