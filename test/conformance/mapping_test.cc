// mmap(2) of a file that others change meanwhile; mprotect, msync, mremap.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <memory>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

constexpr size_t kPage = 4096;

// A shared mapping of the first pages of a file.
class Mapping {
 public:
  Mapping(int fd, size_t length, int protection = PROT_READ) : length_(length) {
    void* at = mmap(nullptr, length, protection, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) OK(-1);
    start_ = static_cast<char*>(at);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { munmap(start_, length_); }
  operator char*() const { return start_; }
  std::string text(size_t at, size_t length) const { return {start_ + at, length}; }
  void grow(size_t length) {
    void* at = mremap(start_, length_, length, MREMAP_MAYMOVE);
    if (at == MAP_FAILED) OK(-1);
    start_ = static_cast<char*>(at);
    length_ = length;
  }

 private:
  char* start_;
  size_t length_;
};

int signal_of_reading(const char* at) {  // 0: none
  const pid_t child = OK(fork());
  if (child == 0) _exit(*static_cast<const volatile char*>(at) & 0);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(mmap, shows_what_others_write) {
  make_file("f", std::string(3 * kPage, 'o'));
  Fd fd(OK(open("f", O_RDONLY))), other(OK(open(seen("f").c_str(), O_RDWR)));
  const Mapping map(fd, 3 * kPage);
  for (const char* round : {"one", "two", "six"}) {
    EQ(map.text(kPage - 5, 1), "o");
    EQ(pwrite(other, round, 3, kPage - 2), 3);  // in two pages
    EQ(map.text(kPage - 3, 5), "o" + std::string(round) + "o");
    TRUE(map.text(kPage + 1, 2 * kPage - 1) == std::string(2 * kPage - 1, 'o'));
  }
  EQ(pwrite(other, "unread before", 13, 2 * kPage), 13);
  EQ(map.text(2 * kPage, 13), "unread before");
}

TEST(mmap, shows_what_others_write_after_close) {
  make_file("f", "old content");
  Fd fd(OK(open("f", O_RDONLY)));
  const Mapping map(fd, kPage);
  EQ(map.text(0, 11), "old content");
  fd.close();
  Fd other(OK(open(seen("f").c_str(), O_RDWR)));
  EQ(pwrite(other, "new", 3, 0), 3);
  EQ(map.text(0, 11), "new content");
  OK(rename(seen("f").c_str(), seen("g").c_str()));
  EQ(pwrite(other, "moved", 5, 0), 5);
  EQ(map.text(0, 11), "movedontent");
}

TEST(mmap, shows_what_others_write_after_a_rest) {  // longer than what is believed without news
  make_file("f", "old content");
  Fd fd(OK(open("f", O_RDONLY))), other(OK(open(seen("f").c_str(), O_RDWR)));
  const Mapping map(fd, kPage);
  EQ(map.text(0, 3), "old");
  usleep(2'500'000);
  EQ(pwrite(other, "new", 3, 0), 3);
  EQ(map.text(0, 3), "new");
}

TEST(mmap, shows_what_others_allocate_and_copy) {
  make_file("f", std::string(2 * kPage, 'o'));
  make_file("g", "copied");
  Fd fd(OK(open("f", O_RDONLY))), other(OK(open(seen("f").c_str(), O_RDWR))),
      source(OK(open(seen("g").c_str(), O_RDONLY)));
  const Mapping map(fd, 2 * kPage);
  EQ(map.text(0, 2), "oo");
  OK(fallocate(other, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, kPage));
  EQ(map.text(0, 2), std::string("o\0", 2));
  EQ(map.text(kPage, 3), std::string("\0oo", 3));
  off64_t in = 0, out = 5;
  EQ(copy_file_range(source, &in, other, &out, 6, 0), 6);
  EQ(map.text(4, 8), std::string("\0copied\0", 8));
}

TEST(mmap, shows_what_is_appended_by_turns) {
  make_file("f", "start");
  Fd fd(OK(open("f", O_RDONLY))), other(OK(open(seen("f").c_str(), O_WRONLY | O_APPEND)));
  const Mapping map(fd, kPage);
  std::string wanted = "start";
  for (int mode : {O_WRONLY, O_RDWR, O_WRONLY, O_RDWR}) {
    Fd mine(OK(open("f", mode | O_APPEND)));
    EQ(map.text(wanted.size(), 1), std::string(1, '\0'));
    EQ(write(other, "-other", 6), 6);
    EQ(write(mine, "-mine", 5), 5);
    wanted += "-other-mine";
    EQ(map.text(0, wanted.size()), wanted);
  }
  EQ(contents(seen("f")), wanted);
}

TEST(mmap, ends_where_others_have_truncated) {
  make_file("f", std::string(3 * kPage, 'o'));
  Fd fd(OK(open("f", O_RDONLY)));
  const Mapping map(fd, 3 * kPage);
  EQ(map.text(2 * kPage, 3), "ooo");
  OK(truncate(seen("f").c_str(), kPage + 3));
  EQ(signal_of_reading(map + 2 * kPage), SIGBUS);
  EQ(signal_of_reading(map + kPage), 0);
  EQ(map.text(kPage, 5), std::string("ooo\0\0", 5));
  OK(truncate(seen("f").c_str(), 3 * kPage));  // and what comes back is zeros
  EQ(info_of(fd).st_size, off_t(3 * kPage));
  EQ(signal_of_reading(map + 2 * kPage), 0);
  EQ(map.text(kPage + 2, 3), std::string("o\0\0", 3));
  EQ(map.text(2 * kPage, 3), std::string(3, '\0'));
}

TEST(mmap, grows_with_the_file) {
  make_file("f", "start");
  Fd fd(OK(open("f", O_RDONLY))), other(OK(open(seen("f").c_str(), O_RDWR)));
  Mapping map(fd, kPage);
  EQ(map.text(0, 6), std::string("start\0", 6));
  EQ(pwrite(other, "more", 4, 5), 4);
  EQ(pwrite(other, "far", 3, 2 * kPage), 3);
  EQ(info_of(fd).st_size, off_t(2 * kPage) + 3);
  EQ(map.text(0, 10), std::string("startmore\0", 10));
  map.grow(3 * kPage);
  EQ(map.text(0, 9), "startmore");
  EQ(map.text(kPage, 3), std::string(3, '\0'));
  EQ(map.text(2 * kPage, 4), std::string("far\0", 4));
  map.grow(4 * kPage);
  EQ(signal_of_reading(map + 3 * kPage), SIGBUS);  // a mapping may be longer than its file
}

TEST(mmap, of_two_writers_by_turns) {
  make_file("f", std::string(2 * kPage, 'o'));
  Fd fd(OK(open("f", O_RDWR))), other(OK(open(seen("f").c_str(), O_RDWR)));
  const Mapping map(fd, 2 * kPage, PROT_READ | PROT_WRITE);
  for (int i = 0; i < 5; ++i) {
    map[0] = char('a' + i);
    OK(msync(map, 2 * kPage, MS_SYNC));
    EQ(read_at(other, 1, 0), std::string(1, char('a' + i)));
    const char theirs = char('A' + i);
    EQ(pwrite(other, &theirs, 1, 1), 1);
    EQ(map.text(0, 3), std::string(1, char('a' + i)) + theirs + "o");
  }
}

TEST(mmap, stores_beside_direct_reads_and_writes) {  // and truncation, and holes: one file at all times
  constexpr size_t kMax = 16 * kPage;
  uint32_t state = 20'260'101;
  const auto below = [&](size_t limit) {
    state = state * 1664525u + 1013904223u;
    return size_t(state >> 8) % limit;
  };
  Fd direct(OK(open("f", O_RDWR | O_CREAT | O_DIRECT, 0644))), buffered(OK(open("f", O_RDWR)));
  OK(ftruncate(buffered, kMax));
  const Mapping map(buffered, kMax, PROT_READ | PROT_WRITE);
  const std::unique_ptr<char, decltype(&free)> room(static_cast<char*>(aligned_alloc(kPage, kMax)), free);
  std::string model(kMax, '\0');
  for (int step = 0; step < 2000; ++step) {
    const size_t what = below(5), fill = 1 + below(255);
    size_t at = below(kMax), length = 1 + below(kMax - at);
    if (what == 0) {  // direct writes are of whole pages
      at -= at % kPage;
      length = (1 + (length - 1) / kPage) * kPage;
      memset(room.get(), int(fill), length);
      EQ(OK(pwrite(direct, room.get(), length, off_t(at))), ssize_t(length));
      model.resize(std::max(model.size(), at + length));
      model.replace(at, length, length, char(fill));
    } else if (what == 1 && at < model.size()) {
      length = std::min(length, model.size() - at);
      memset(map + at, int(fill), length);
      model.replace(at, length, length, char(fill));
    } else if (what == 2) {
      OK(ftruncate(buffered, off_t(at)));
      model.resize(at);
    } else if (what == 3) {
      OK(fallocate(buffered, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(at), off_t(length)));
      if (at < model.size()) {
        length = std::min(length, model.size() - at);
        model.replace(at, length, length, '\0');
      }
    } else if (what == 4) {
      const std::string bytes(length, char(fill));
      EQ(OK(pwrite(buffered, bytes.data(), length, off_t(at))), ssize_t(length));
      model.resize(std::max(model.size(), at + length));
      model.replace(at, length, bytes);
    }
    const size_t through = below(3);
    std::string found;
    if (through == 0) {
      found.assign(room.get(), size_t(OK(pread(direct, room.get(), kMax, 0))));
    } else if (through == 1) {
      found = read_at(buffered, kMax, 0);
    } else {
      found = map.text(0, size_t(info_of(buffered).st_size));
    }
    if (found != model) {
      const size_t differs =
          size_t(std::mismatch(found.begin(), found.end(), model.begin(), model.end()).first - found.begin());
      note_failure(__FILE__, __LINE__,
                   "after step " + std::to_string(step) + " (" + std::to_string(what) +
                       "), looked at through " + std::to_string(through) + ": " +
                       std::to_string(found.size()) + " bytes; wanted " + std::to_string(model.size()) +
                       "; differs at " + std::to_string(differs));
      return;
    }
  }
  OK(msync(map, kMax, MS_SYNC));
  TRUE(contents(seen("f")) == model);
}

TEST(mmap, protection_follows_the_descriptor) {
  make_file("f", "content");
  Fd reader(OK(open("f", O_RDONLY))), writer(OK(open("f", O_WRONLY))), both(OK(open("f", O_RDWR)));
  const auto map = [](int fd, int protection, int flags, size_t length = kPage, off_t offset = 0) {
    return long(mmap(nullptr, length, protection, flags, fd, offset));
  };
  FAILS(EACCES, map(reader, PROT_WRITE, MAP_SHARED));
  FAILS(EACCES, map(reader, PROT_WRITE, MAP_SHARED_VALIDATE));
  FAILS(EACCES, map(writer, PROT_WRITE, MAP_SHARED));
  FAILS(EACCES, map(writer, PROT_READ, MAP_PRIVATE));
  FAILS(EINVAL, map(both, PROT_READ, MAP_SHARED, 0));
  FAILS(EINVAL, map(both, PROT_READ, MAP_SHARED, kPage, 1));
  FAILS(EINVAL, map(both, PROT_READ, 0));
  FAILS(EOPNOTSUPP, map(both, PROT_READ, MAP_SHARED_VALIDATE | 0x800000));
  const Mapping read_only(reader, kPage), shared(both, kPage);
  FAILS(EACCES, mprotect(read_only, kPage, PROT_READ | PROT_WRITE));
  OK(mprotect(read_only, kPage, PROT_NONE));
  EQ(signal_of_reading(read_only), SIGSEGV);
  OK(mprotect(shared, kPage, PROT_READ | PROT_WRITE));
  shared[0] = 'C';
  OK(msync(shared, kPage, MS_SYNC));
  EQ(contents(seen("f")), "Content");
  void* at = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, reader, 0);
  OK(mprotect(at, kPage, PROT_READ | PROT_WRITE));  // a copy is one's own
  *static_cast<char*>(at) = 'p';
  OK(munmap(at, kPage));
  EQ(contents(seen("f")), "Content");
}

TEST(msync, flags_and_errors) {
  make_file("f", std::string(2 * kPage, 'o'));
  Fd fd(OK(open("f", O_RDWR)));
  const Mapping map(fd, 2 * kPage, PROT_READ | PROT_WRITE);
  map[0] = 'a';
  OK(msync(map, kPage, MS_SYNC));
  EQ(contents(seen("f")).substr(0, 2), "ao");
  map[kPage] = 'b';
  OK(msync(map + kPage, 1, MS_SYNC | MS_INVALIDATE));
  EQ(contents(seen("f")).substr(kPage, 2), "bo");
  OK(msync(map, 2 * kPage, MS_ASYNC));
  OK(msync(map, 2 * kPage, MS_INVALIDATE));
  OK(msync(map, 2 * kPage, 0));
  OK(msync(map, 0, MS_SYNC));
  FAILS(EINVAL, msync(map, kPage, MS_SYNC | MS_ASYNC));
  FAILS(EINVAL, msync(map, kPage, 0x100));
  FAILS(EINVAL, msync(map + 1, kPage, MS_SYNC));
  OK(munmap(map + kPage, kPage));
  map[1] = 'c';
  FAILS(ENOMEM, msync(map, 2 * kPage, MS_SYNC));  // and what is there is written all the same
  FAILS(ENOMEM, msync(map + kPage, kPage, MS_ASYNC));
  EQ(contents(seen("f")).substr(0, 3), "aco");
  OK(mlock(map, kPage));
  FAILS(EBUSY, msync(map, kPage, MS_SYNC | MS_INVALIDATE));
}

}  // namespace
}  // namespace conformance
