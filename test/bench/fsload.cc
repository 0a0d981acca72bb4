// The loops of test/bench/compare: system calls on files, timed, with nothing else in between.
//   fsload LOAD ARGUMENTS...      prints {"seconds": S, "count": N, "bytes": B}; exit 1 and a message when a
//   call failed
// What is written differs in every block and in every run, so that nothing is stored once that was written
// twice.
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr size_t kBlock = 1u << 20;
constexpr size_t kSmall = 4096;

struct Result {
  double seconds = 0;
  uint64_t count = 0;
  uint64_t bytes = 0;
};
using Words = std::vector<std::string>;

[[noreturn]] void fail(const char* what, const std::string& on) {
  fprintf(stderr, "fsload: %s %s: %s\n", what, on.c_str(), strerror(errno));
  _exit(1);
}

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

uint64_t number(const std::string& word) {
  return strtoull(word.c_str(), nullptr, 10);
}

// Random bytes that no other run has; each block is marked with what no other block has.
class Content {
 public:
  explicit Content(size_t size) : bytes_(size) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) fail("getrandom", "");
    std::mt19937_64 random(seed);
    for (size_t at = 0; at + 8 <= size; at += 8) {
      const uint64_t value = random();
      memcpy(&bytes_[at], &value, 8);
    }
  }
  const char* next() {
    ++marks_;
    for (size_t at = 0; at < bytes_.size(); at += kSmall) memcpy(&bytes_[at], &marks_, sizeof marks_);
    return bytes_.data();
  }

 private:
  std::vector<char> bytes_;
  uint64_t marks_ = 0;
};

int open_or_fail(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (fd < 0) fail("open", path);
  return fd;
}

void close_or_fail(int fd, const std::string& path) {
  if (close(fd) != 0) fail("close", path);
}

// ---- one file ----

// FILE BYTES: written in 1 MiB blocks, fsync, close.
Result sequential_write(const Words& words) {
  const uint64_t blocks = number(words[1]) / kBlock;
  Content content(kBlock);
  const double start = now();
  const int fd = open_or_fail(words[0], O_WRONLY | O_CREAT | O_EXCL);
  for (uint64_t i = 0; i < blocks; ++i) {
    if (write(fd, content.next(), kBlock) != ssize_t(kBlock)) fail("write", words[0]);
  }
  if (fsync(fd) != 0) fail("fsync", words[0]);
  close_or_fail(fd, words[0]);
  return {now() - start, blocks, blocks * kBlock};
}

// FILE BYTES: read to its end in 1 MiB blocks; it must have that many.
Result sequential_read(const Words& words) {
  std::vector<char> block(kBlock);
  uint64_t bytes = 0;
  const double start = now();
  const int fd = open_or_fail(words[0], O_RDONLY);
  while (true) {
    const ssize_t got = read(fd, block.data(), kBlock);
    if (got < 0) fail("read", words[0]);
    if (got == 0) break;
    bytes += uint64_t(got);
  }
  close_or_fail(fd, words[0]);
  const double seconds = now() - start;
  if (bytes != number(words[1])) {
    errno = EIO;
    fail("wrong length of", words[0]);
  }
  return {seconds, bytes / kBlock, bytes};
}

std::vector<off_t> random_places(uint64_t bytes, uint64_t count) {
  std::mt19937_64 random(count);
  std::vector<off_t> places(count);
  for (off_t& place : places) place = off_t(random() % (bytes / kSmall) * kSmall);
  return places;
}

// FILE BYTES COUNT: 4 KiB at random places of a file of that size, fsync at the end.
Result random_write(const Words& words) {
  const auto places = random_places(number(words[1]), number(words[2]));
  Content content(kSmall);
  const double start = now();
  const int fd = open_or_fail(words[0], O_WRONLY);
  for (const off_t place : places) {
    if (pwrite(fd, content.next(), kSmall, place) != ssize_t(kSmall)) fail("pwrite", words[0]);
  }
  if (fsync(fd) != 0) fail("fsync", words[0]);
  close_or_fail(fd, words[0]);
  return {now() - start, places.size(), places.size() * kSmall};
}

// FILE BYTES COUNT: 4 KiB at random places.
Result random_read(const Words& words) {
  const auto places = random_places(number(words[1]), number(words[2]));
  char block[kSmall];
  const double start = now();
  const int fd = open_or_fail(words[0], O_RDONLY);
  for (const off_t place : places) {
    if (pread(fd, block, kSmall, place) != ssize_t(kSmall)) fail("pread", words[0]);
  }
  close_or_fail(fd, words[0]);
  return {now() - start, places.size(), places.size() * kSmall};
}

// FILE COUNT: 4 KiB appended, fsync after each.
Result append_fsync(const Words& words) {
  const uint64_t count = number(words[1]);
  Content content(kSmall);
  const int fd = open_or_fail(words[0], O_WRONLY | O_CREAT | O_APPEND);
  const double start = now();
  for (uint64_t i = 0; i < count; ++i) {
    if (write(fd, content.next(), kSmall) != ssize_t(kSmall)) fail("write", words[0]);
    if (fsync(fd) != 0) fail("fsync", words[0]);
  }
  const double seconds = now() - start;
  close_or_fail(fd, words[0]);
  return {seconds, count, count * kSmall};
}

// ---- many files: DIR COUNT, the files being DIR/p0/f000000 and so on ----

std::string path_of(const std::string& directory, char letter, uint64_t i, int process = 0) {
  char name[64];
  snprintf(name, sizeof name, "/p%d/%c%07llu", process, letter, static_cast<unsigned long long>(i));
  return directory + name;
}

Result each(const Words& words, const std::function<void(uint64_t)>& call) {
  const uint64_t count = number(words[1]);
  const double start = now();
  for (uint64_t i = 0; i < count; ++i) call(i);
  return {now() - start, count, 0};
}

void create_some(const std::string& directory, int process, uint64_t from, uint64_t to) {
  Content content(kSmall);
  for (uint64_t i = from; i < to; ++i) {
    const std::string path = path_of(directory, 'f', i, process);
    const int fd = open_or_fail(path, O_WRONLY | O_CREAT | O_EXCL);
    if (write(fd, content.next(), kSmall) != ssize_t(kSmall)) fail("write", path);
    close_or_fail(fd, path);
  }
}

// DIR COUNT PROCESSES: files of 4 KiB, in a directory of its own by each process.
Result create(const Words& words) {
  const int processes = int(number(words[2]));
  const uint64_t share = number(words[1]) / uint64_t(processes);
  for (int i = 0; i < processes; ++i) {
    const std::string path = words[0] + "/p" + std::to_string(i);
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) fail("mkdir", path);
  }
  auto* ready = static_cast<std::atomic<int>*>(
      mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (ready == MAP_FAILED) fail("mmap", "");
  for (int i = 1; i < processes; ++i) {
    const pid_t child = fork();
    if (child < 0) fail("fork", "");
    if (child != 0) continue;
    ++*ready;
    while (*ready < processes) usleep(100);
    create_some(words[0], i, 0, share);
    _exit(0);
  }
  while (*ready < processes - 1) usleep(100);
  const double start = now();
  ++*ready;
  create_some(words[0], 0, 0, share);
  for (int i = 1; i < processes; ++i) {
    int status = 0;
    if (wait(&status) < 0 || status != 0) fail("a process failed in", words[0]);
  }
  return {now() - start, share * uint64_t(processes), share * uint64_t(processes) * kSmall};
}

// DIR FROM TO: files FROM to TO of very many: a directory a million, p0, p1 and so on.
constexpr uint64_t kMillion = 1000000;

Result create_more(const Words& words) {
  const uint64_t from = number(words[1]), to = number(words[2]);
  const double start = now();
  for (uint64_t at = from; at < to;) {
    const uint64_t group = at / kMillion, end = std::min(to, (group + 1) * kMillion);
    const std::string path = words[0] + "/p" + std::to_string(group);
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) fail("mkdir", path);
    create_some(words[0], int(group), at, end);
    at = end;
  }
  return {now() - start, to - from, (to - from) * kSmall};
}

Result stat_all(const Words& words) {
  struct stat attributes;
  return each(words, [&](uint64_t i) {
    const std::string path = path_of(words[0], 'f', i);
    if (stat(path.c_str(), &attributes) != 0) fail("stat", path);
  });
}

void read_one(const std::string& path) {
  char block[kSmall];
  const int fd = open_or_fail(path, O_RDONLY);
  if (read(fd, block, kSmall) != ssize_t(kSmall)) fail("read", path);
  close_or_fail(fd, path);
}

Result read_all(const Words& words) {
  Result result = each(words, [&](uint64_t i) { read_one(path_of(words[0], 'f', i)); });
  result.bytes = result.count * kSmall;
  return result;
}

// DIR OF COUNT: some of the files 0 to OF that create_more made, chosen at random.
std::vector<std::string> chosen(const Words& words) {
  std::mt19937_64 random(number(words[1]));
  std::vector<std::string> paths(number(words[2]));
  for (std::string& path : paths) {
    const uint64_t i = random() % number(words[1]);
    path = path_of(words[0], 'f', i, int(i / kMillion));
  }
  return paths;
}

Result stat_some(const Words& words) {
  struct stat attributes;
  const auto paths = chosen(words);
  const double start = now();
  for (const std::string& path : paths) {
    if (stat(path.c_str(), &attributes) != 0) fail("stat", path);
  }
  return {now() - start, paths.size(), 0};
}

Result read_some(const Words& words) {
  const auto paths = chosen(words);
  const double start = now();
  for (const std::string& path : paths) read_one(path);
  return {now() - start, paths.size(), paths.size() * kSmall};
}

Result rename_all(const Words& words) {
  return each(words, [&](uint64_t i) {
    const std::string from = path_of(words[0], 'f', i), to = path_of(words[0], 'g', i);
    if (rename(from.c_str(), to.c_str()) != 0) fail("rename", from);
  });
}

// After rename_all.
Result unlink_all(const Words& words) {
  return each(words, [&](uint64_t i) {
    const std::string path = path_of(words[0], 'g', i);
    if (unlink(path.c_str()) != 0) fail("unlink", path);
  });
}

Result mkdir_all(const Words& words) {
  return each(words, [&](uint64_t i) {
    const std::string path = path_of(words[0], 'd', i);
    if (mkdir(path.c_str(), 0755) != 0) fail("mkdir", path);
  });
}

Result rmdir_all(const Words& words) {
  return each(words, [&](uint64_t i) {
    const std::string path = path_of(words[0], 'd', i);
    if (rmdir(path.c_str()) != 0) fail("rmdir", path);
  });
}

// DIR COUNT: empty files, to be listed.
Result create_empty(const Words& words) {
  return each(words, [&](uint64_t i) {
    const std::string path = path_of(words[0], 'f', i);
    if (mknod(path.c_str(), S_IFREG | 0644, 0) != 0) fail("mknod", path);
  });
}

// ---- listing and programs ----

// DIR: getdents64 only; "count" is the entries, "bytes" the nanoseconds until the first were there.
Result list_raw(const Words& words) {
  struct Entry {
    uint64_t number;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
  };
  alignas(8) static char block[1u << 16];
  Result result;
  const double start = now();
  const int fd = open_or_fail(words[0], O_RDONLY | O_DIRECTORY);
  while (true) {
    const ssize_t got = getdents64(fd, block, sizeof block);
    if (got < 0) fail("getdents64", words[0]);
    if (got == 0) break;
    if (result.count == 0) result.bytes = uint64_t((now() - start) * 1e9);
    for (ssize_t at = 0; at < got; at += reinterpret_cast<Entry*>(block + at)->length) ++result.count;
  }
  close_or_fail(fd, words[0]);
  result.seconds = now() - start;
  return result;
}

// PROGRAM ARGUMENTS...: from its start to its end; what it prints goes to /dev/null.
Result program(const Words& words) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  int status = 0;
  const double start = now();
  const int error = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  if (error != 0) {
    errno = error;
    fail("cannot start", words[0]);
  }
  if (waitpid(child, &status, 0) < 0 || status != 0) {
    errno = ECHILD;
    fail("failed:", words[0]);
  }
  const double seconds = now() - start;
  posix_spawn_file_actions_destroy(&actions);
  return {seconds, 1, 0};
}

struct Load {
  size_t arguments;
  Result (*run)(const Words&);
  bool inside = false;  // run in the directory that its first argument names: all paths are as long
};

const std::map<std::string, Load>& loads() {
  static const std::map<std::string, Load> all = {
      {"sequential_write", {2, sequential_write}},
      {"sequential_read", {2, sequential_read}},
      {"random_write", {3, random_write}},
      {"random_read", {3, random_read}},
      {"append_fsync", {2, append_fsync}},
      {"create", {3, create, true}},
      {"create_more", {3, create_more, true}},
      {"create_empty", {2, create_empty, true}},
      {"stat", {2, stat_all, true}},
      {"stat_some", {3, stat_some, true}},
      {"read", {2, read_all, true}},
      {"read_some", {3, read_some, true}},
      {"rename", {2, rename_all, true}},
      {"unlink", {2, unlink_all, true}},
      {"mkdir", {2, mkdir_all, true}},
      {"rmdir", {2, rmdir_all, true}},
      {"list", {1, list_raw}},
      {"program", {1, program}},
  };
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  Words words(argv + std::min(argc, 2), argv + argc);
  const auto found = argc > 1 ? loads().find(argv[1]) : loads().end();
  if (found == loads().end() || words.size() < found->second.arguments) {
    fprintf(stderr, "usage: fsload LOAD ARGUMENTS...; loads:");
    for (const auto& [name, load] : loads()) fprintf(stderr, " %s", name.c_str());
    fprintf(stderr, "\n");
    return 2;
  }
  if (found->second.inside) {
    if (chdir(words[0].c_str()) != 0) fail("chdir", words[0]);
    words[0] = ".";
  }
  const Result result = found->second.run(words);
  printf("{\"seconds\": %.9f, \"count\": %llu, \"bytes\": %llu}\n", result.seconds,
         static_cast<unsigned long long>(result.count), static_cast<unsigned long long>(result.bytes));
  return 0;
}
