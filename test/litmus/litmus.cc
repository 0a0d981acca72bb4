// litmus ROUNDS DIR DIR [DIR] [--only CASE] [--list]: coherence of one directory through two or three mounts.
//
// Each case is a few calls through different mounts whose outcome one filesystem would settle: what one call
// has finished, the next sees, whichever mount it goes through. ROUNDS times each, through every pair of
// mounts in turn; the three-mount cases need a third DIR. Prints for each the stale answers, and the longest
// wait for a single call (limit 1 s), without the time in which the machine itself stood still (what runs it
// gave its processors to others); ends with "N passed, N failed". On one ext4 directory given twice all pass.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int64_t kLongestWait = 1'000'000'000;

int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

// How long a processor ran nothing at all: one thread each, before all others there, that only sleeps and
// looks how late it wakes. Without the right to come first it counts nothing.
class Standstill {
 public:
  Standstill() {
    for (unsigned cpu = 0; cpu < std::thread::hardware_concurrency(); ++cpu)
      watchers_.emplace_back([this, cpu] { watch(cpu); });
  }
  ~Standstill() {
    ended_ = true;
    for (auto& watcher : watchers_) watcher.join();
  }

  // In a time that is over.
  int64_t within(int64_t from, int64_t to) {
    for (;;) {
      std::unique_lock lock(mutex_);
      if (std::all_of(seen_.begin(), seen_.end(), [&](const auto& one) { return one.second >= to; })) break;
      lock.unlock();
      usleep(1000);
    }
    std::lock_guard lock(mutex_);
    int64_t sum = 0, upto = from;
    for (const auto& [start, end] : stops_) {  // by their start
      const int64_t begin = std::max(start, upto);
      upto = std::max(upto, std::min(end, to));
      if (begin < upto) sum += upto - begin;
    }
    return sum;
  }
  int64_t in_all() const { return total_.load(); }

 private:
  static constexpr int64_t kSleep = 1'000'000, kOnTime = 3 * kSleep;
  static constexpr size_t kKept = 100'000;

  void watch(unsigned cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_param first{};
    first.sched_priority = 1;
    if (sched_setaffinity(0, sizeof one, &one) != 0 || sched_setscheduler(0, SCHED_FIFO, &first) != 0) return;
    for (int64_t before = now_ns(); !ended_;) {
      usleep(kSleep / 1000);
      const int64_t now = now_ns();
      std::lock_guard lock(mutex_);
      if (now - before > kOnTime) {
        stops_.emplace(before, now);
        total_ += now - before;
        if (stops_.size() > kKept) stops_.erase(stops_.begin());
      }
      seen_[cpu] = before = now;
    }
  }

  std::mutex mutex_;
  std::map<unsigned, int64_t> seen_;       // how far each has looked
  std::multimap<int64_t, int64_t> stops_;  // from, to
  std::atomic<int64_t> total_{0};          // of all processors
  std::atomic<bool> ended_{false};
  std::vector<std::thread> watchers_;
};

Standstill& standstill() {
  static Standstill one;
  return one;
}

// What happens in one round: the failures of all rounds come together here.
class Round {
 public:
  Round(std::vector<std::string> directories, unsigned number)
      : at_(std::move(directories)), number_(number) {}

  unsigned number() const { return number_; }
  std::string path(unsigned mount, const std::string& name) const { return at_[mount] + "/" + name; }
  unsigned mounts() const { return unsigned(at_.size()); }

  // Runs a call, keeps how long it took; -1 is a failure unless wanted.
  template <typename Call>
  auto timed(Call&& call) {
    const int64_t start = now_ns();
    auto result = call();
    const int error = errno;
    const int64_t end = now_ns();
    int64_t seen = longest.load(), took = end - start;
    if (took > kLongestWait / 4) took -= standstill().within(start, end);
    while (took > seen && !longest.compare_exchange_weak(seen, took)) {
    }
    errno = error;
    return result;
  }
  void wrong(const std::string& what) {
    if (failures++ == 0) first = "round " + std::to_string(number_) + ": " + what;
  }
  void expect(bool condition, const std::string& what) {
    if (!condition) wrong(what);
  }

  // Calls through a mount.
  int open(unsigned mount, const std::string& name, int flags) {
    const int fd = timed([&] { return ::open(path(mount, name).c_str(), flags | O_CLOEXEC, 0644); });
    if (fd < 0) wrong("open " + name + ": " + strerrorname_np(errno));
    return fd;
  }
  void close(int fd) {
    if (timed([&] { return ::close(fd); }) != 0) wrong(std::string("close: ") + strerrorname_np(errno));
  }
  void write(int fd, const std::string& bytes, off_t offset) {
    const ssize_t done = timed([&] {
      return offset < 0 ? ::write(fd, bytes.data(), bytes.size())
                        : pwrite(fd, bytes.data(), bytes.size(), offset);
    });
    if (done != ssize_t(bytes.size())) wrong(std::string("write: ") + strerrorname_np(errno));
  }
  std::string read(int fd, size_t length, off_t offset) {
    std::string out(length, '\0');
    const ssize_t got = timed([&] { return pread(fd, out.data(), length, offset); });
    if (got < 0) wrong(std::string("read: ") + strerrorname_np(errno));
    out.resize(size_t(std::max<ssize_t>(got, 0)));
    return out;
  }
  void put(unsigned mount, const std::string& name, const std::string& bytes) {
    const int fd = open(mount, name, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0) return;
    write(fd, bytes, 0);
    close(fd);
  }
  std::string get(unsigned mount, const std::string& name) {
    const int fd = open(mount, name, O_RDONLY);
    if (fd < 0) return "(not opened)";
    std::string out = read(fd, 1 << 20, 0);
    close(fd);
    return out;
  }
  struct stat status(unsigned mount, const std::string& name) {
    struct stat out {};
    if (timed([&] { return stat(path(mount, name).c_str(), &out); }) != 0)
      wrong("stat " + name + ": " + strerrorname_np(errno));
    return out;
  }
  // The errno of a stat; 0 when it is there.
  int absent(unsigned mount, const std::string& name) {
    struct stat out {};
    return timed([&] { return stat(path(mount, name).c_str(), &out); }) == 0 ? 0 : errno;
  }
  void did(int result, const std::string& what) {
    if (result != 0) wrong(what + ": " + strerrorname_np(errno));
  }

  std::atomic<int64_t> longest{0};
  std::atomic<unsigned> failures{0};
  std::string first;

 private:
  const std::vector<std::string> at_;
  const unsigned number_;
};

struct Case {
  std::string name;
  unsigned mounts;
  std::function<void(Round&)> body;
};

std::string lines(const std::string& tag, unsigned count) {
  std::string out;
  for (unsigned i = 0; i < count; ++i) out += tag + std::to_string(i) + "\n";
  return out;
}

std::string shown(const std::string& bytes) {
  std::string out;
  for (char byte : bytes)
    out += byte == '\n' ? std::string(" ") : byte == '\0' ? "\\0" : std::string(1, byte);
  return std::to_string(bytes.size()) + " bytes: " + out;
}

// ---- names ----

void create_and_see(Round& r) {
  r.expect(r.absent(1, "new") == ENOENT, "there before it was made");
  r.put(0, "new", "content");
  r.expect(r.get(1, "new") == "content", "not seen after it was made");
  r.did(r.timed([&] { return mkdir(r.path(1, "dir").c_str(), 0755); }), "mkdir");
  r.expect(S_ISDIR(r.status(0, "dir").st_mode), "a directory not seen");
  r.put(0, "dir/in", "x");
  r.expect(r.absent(1, "dir/in") == 0, "not seen in a new directory");
}

void create_exclusively(Round& r) {
  std::atomic<int> made{0}, there{0};
  std::vector<std::thread> threads;
  for (unsigned mount = 0; mount < r.mounts(); ++mount) {
    threads.emplace_back([&, mount] {
      const int fd =
          r.timed([&] { return open(r.path(mount, "lock").c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644); });
      fd >= 0 ? ++made : errno == EEXIST ? ++there : 0;
      if (fd >= 0) close(fd);
    });
  }
  for (auto& thread : threads) thread.join();
  r.expect(made == 1 && made + there == int(r.mounts()), "made " + std::to_string(made) + " times");
}

void rename_and_see(Round& r) {
  r.put(0, "a", "a");
  r.put(1, "b", "b");
  r.expect(r.get(0, "b") == "b" && r.get(1, "a") == "a", "not seen at first");
  r.did(r.timed([&] { return rename(r.path(0, "a").c_str(), r.path(0, "b").c_str()); }), "rename");
  r.expect(r.absent(1, "a") == ENOENT, "its old name is still there");
  r.expect(r.get(1, "b") == "a", "its new name leads to the old file");
  r.did(r.timed([&] { return rename(r.path(1, "b").c_str(), r.path(1, "c").c_str()); }), "rename back");
  r.expect(r.absent(0, "b") == ENOENT && r.get(0, "c") == "a", "not seen by the first");
}

void unlink_and_miss(Round& r) {
  r.put(0, "f", "content");
  r.expect(r.get(1, "f") == "content", "not seen");
  r.did(r.timed([&] { return unlink(r.path(1, "f").c_str()); }), "unlink");
  r.expect(r.absent(0, "f") == ENOENT, "there after it was removed");
  r.expect(r.timed([&] { return open(r.path(0, "f").c_str(), O_RDONLY); }) == -1 && errno == ENOENT,
           "opened");
  r.put(1, "f", "second");
  r.expect(r.get(0, "f") == "second", "a new file of the same name not seen");
}

void list_and_see(Round& r) {
  const auto count = [&](unsigned mount) {
    const int fd = r.open(mount, ".", O_RDONLY | O_DIRECTORY);
    const int copy = dup(fd);
    DIR* stream = fdopendir(copy);
    int names = 0;
    while (readdir(stream)) ++names;
    closedir(stream);
    r.close(fd);
    return names - 2;
  };
  for (int i = 0; i < 3; ++i) {
    r.put(unsigned(i) % 2, "f" + std::to_string(i), "");
    r.expect(count(0) == i + 1 && count(1) == i + 1, "a listing without what was made");
  }
  r.did(r.timed([&] { return unlink(r.path(0, "f1").c_str()); }), "unlink");
  r.expect(count(1) == 2 && count(0) == 2, "a listing with what was removed");
}

void attributes_and_see(Round& r) {
  r.put(0, "f", "x");
  r.status(1, "f");
  for (mode_t mode : {0600u, 0640u, 0755u}) {
    r.did(r.timed([&] { return chmod(r.path(0, "f").c_str(), mode); }), "chmod");
    r.expect((r.status(1, "f").st_mode & 0777) == mode, "an old mode");
  }
  const timespec times[2] = {{1, 2}, {int(1000 + r.number()), 4}};
  r.did(r.timed([&] { return utimensat(AT_FDCWD, r.path(1, "f").c_str(), times, 0); }), "utimensat");
  r.expect(r.status(0, "f").st_mtim.tv_sec == times[1].tv_sec, "an old time");
  r.did(r.timed([&] { return link(r.path(0, "f").c_str(), r.path(0, "g").c_str()); }), "link");
  r.expect(r.status(1, "f").st_nlink == 2, "an old count of links");
}

// ---- bytes ----

void write_and_read(Round& r) {
  r.put(0, "f", "first");
  const int a = r.open(0, "f", O_RDWR), b = r.open(1, "f", O_RDWR);
  r.expect(r.read(b, 100, 0) == "first", "not what was there");
  for (int i = 0; i < 4; ++i) {
    const std::string bytes = "turn" + std::to_string(i);
    r.write(i % 2 ? b : a, bytes, 0);
    r.expect(r.read(i % 2 ? a : b, 5, 0) == bytes, "bytes from before the write, in open files");
  }
  r.close(a);
  r.close(b);
  r.put(1, "f", "closed");
  r.expect(r.get(0, "f") == "closed", "bytes from before the close");
}

void disjoint_writes(Round& r) {
  r.put(0, "f", std::string(40'000, '.'));
  std::vector<std::thread> threads;
  for (unsigned mount = 0; mount < r.mounts(); ++mount) {
    threads.emplace_back([&, mount] {
      const int fd = r.open(mount, "f", O_RDWR);
      for (unsigned i = mount; i < 40; i += r.mounts())
        r.write(fd, std::string(1000, char('a' + mount)), off_t(i) * 1000);
      r.close(fd);
    });
  }
  for (auto& thread : threads) thread.join();
  std::string wanted;
  for (unsigned i = 0; i < 40; ++i) wanted += std::string(1000, char('a' + i % r.mounts()));
  for (unsigned mount = 0; mount < r.mounts(); ++mount)
    r.expect(r.get(mount, "f") == wanted, "a write was lost");
}

void append_and_append(Round& r) {
  r.put(0, "log", "");
  std::vector<std::thread> threads;
  constexpr unsigned kEach = 20;
  for (unsigned mount = 0; mount < r.mounts(); ++mount) {
    threads.emplace_back([&, mount] {
      const int fd = r.open(mount, "log", O_WRONLY | O_APPEND);
      for (unsigned i = 0; i < kEach; ++i)
        r.write(fd, std::string(1, char('a' + mount)) + std::to_string(i) + "\n", -1);
      r.close(fd);
    });
  }
  for (auto& thread : threads) thread.join();
  for (unsigned mount = 0; mount < r.mounts(); ++mount) {
    std::vector<std::string> found(r.mounts());
    const std::string all = r.get(mount, "log");
    std::istringstream text(all);
    for (std::string line; std::getline(text, line);) {
      const unsigned who = unsigned(line[0] - 'a');
      if (who < found.size()) found[who] += line + "\n";
    }
    for (unsigned who = 0; who < r.mounts(); ++who)
      r.expect(found[who] == lines(std::string(1, char('a' + who)), kEach),
               "lines lost, torn or out of order: mount " + std::to_string(mount) + " sees " + shown(all));
  }
}

void truncate_and_read(Round& r) {
  r.put(0, "f", std::string(10'000, 'x'));
  const int b = r.open(1, "f", O_RDWR);
  r.expect(r.read(b, 10'000, 0).size() == 10'000, "not what was there");
  r.did(r.timed([&] { return truncate(r.path(0, "f").c_str(), 10); }), "truncate");
  r.expect(r.status(1, "f").st_size == 10, "an old size");
  r.expect(r.read(b, 10'000, 0) == std::string(10, 'x'), "bytes behind the new end");
  r.did(r.timed([&] { return ftruncate(b, 5000); }), "ftruncate");
  r.expect(r.get(0, "f") == std::string(10, 'x') + std::string(4990, '\0'), "not zeros behind the old end");
  r.close(b);
}

void follow_a_growing_file(Round& r) {  // tail -f
  r.put(0, "log", "");
  const int reader = r.open(1, "log", O_RDONLY), writer = r.open(0, "log", O_WRONLY | O_APPEND);
  off_t at = 0;
  for (unsigned i = 0; i < 10; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    r.write(writer, line, -1);
    struct stat info {};
    r.did(r.timed([&] { return fstat(reader, &info); }), "fstat");
    r.expect(info.st_size == at + off_t(line.size()), "an old size");
    r.expect(r.read(reader, 100, at) == line, "a line not seen");
    at += off_t(line.size());
  }
  r.close(reader);
  r.close(writer);
}

void watch_times(Round& r) {  // as make does: an open file that another mount grows, shrinks and touches
  r.put(0, "f", "x");
  const int watcher = r.open(1, "f", O_RDONLY), writer = r.open(0, "f", O_RDWR);
  const auto look = [&] {
    struct stat info {};
    r.did(r.timed([&] { return fstat(watcher, &info); }), "fstat");
    const struct stat by_path = r.status(1, "f");
    r.expect(info.st_size == by_path.st_size && info.st_mtim.tv_nsec == by_path.st_mtim.tv_nsec,
             "two answers about one file");
    return info;
  };
  struct stat before = look();
  const auto newer = [&](const char* what, off_t size) {
    const struct stat after = look();
    const auto ns = [](const timespec& time) { return int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec; };
    r.expect(ns(after.st_mtim) > ns(before.st_mtim), std::string("an old time after it was ") + what);
    r.expect(after.st_size == size, std::string("an old size after it was ") + what);
    before = after;
  };
  usleep(12'000);  // ext4's clock moves in steps
  r.write(writer, std::string(5000, 'y'), 0);
  newer("grown", 5000);
  usleep(12'000);
  r.did(r.timed([&] { return ftruncate(writer, 10); }), "ftruncate");
  newer("shrunk", 10);
  usleep(12'000);
  r.did(r.timed([&] { return futimens(writer, nullptr); }), "futimens");
  newer("touched", 10);
  r.close(watcher);
  r.close(writer);
}

void map_after_close(Round& r) {
  r.put(0, "f", std::string(8192, 'a'));
  const int fd = r.open(0, "f", O_RDWR);
  char* bytes = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  r.close(fd);
  bytes[100] = 'M';
  r.did(r.timed([&] { return msync(bytes, 8192, MS_SYNC); }), "msync");
  r.expect(r.get(1, "f")[100] == 'M', "what was mapped and synced is not seen");
  bytes[200] = 'N';
  munmap(bytes, 8192);
  r.expect(r.get(1, "f")[200] == 'N', "what was mapped and let go is not seen");
}

// ---- locks ----

void hand_over_a_lock(Round& r, bool record) {
  r.put(0, "counter", "0");
  const auto set = [&](int fd, short type) {
    if (!record) return flock(fd, type == F_UNLCK ? LOCK_UN : LOCK_EX);
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    return fcntl(fd, F_OFD_SETLKW, &lock);
  };
  constexpr unsigned kEach = 10;
  std::vector<std::thread> threads;
  for (unsigned mount = 0; mount < r.mounts(); ++mount) {
    threads.emplace_back([&, mount] {
      const int fd = r.open(mount, "counter", O_RDWR);
      for (unsigned i = 0; i < kEach; ++i) {
        r.did(r.timed([&] { return set(fd, F_WRLCK); }), "lock");
        const std::string now = r.read(fd, 20, 0);
        r.write(fd, std::to_string(strtoul(now.c_str(), nullptr, 10) + 1), 0);
        r.did(r.timed([&] { return set(fd, F_UNLCK); }), "unlock");
      }
      r.close(fd);
    });
  }
  for (auto& thread : threads) thread.join();
  for (unsigned mount = 0; mount < r.mounts(); ++mount) {
    const std::string counted = r.get(mount, "counter");
    r.expect(counted == std::to_string(kEach * r.mounts()),
             "two had the lock, or saw old bytes: " + counted + " through mount " + std::to_string(mount));
  }
}

void pass_it_round(Round& r) {  // one writes, the next sees it and writes: through all mounts
  r.put(0, "f", "0");
  for (unsigned turn = 1; turn <= 2 * r.mounts(); ++turn) {
    const std::string before = r.get(turn % r.mounts(), "f");
    r.expect(before == std::to_string(turn - 1), "the turn before is not seen");
    r.put(turn % r.mounts(), "f", std::to_string(turn));
    for (unsigned mount = 0; mount < r.mounts(); ++mount)
      r.expect(r.status(mount, "f").st_size == off_t(std::to_string(turn).size()), "an old size");
  }
}

std::vector<Case> cases() {
  return {{"create_and_see", 2, create_and_see},
          {"create_exclusively", 3, create_exclusively},
          {"rename_and_see", 2, rename_and_see},
          {"unlink_and_miss", 2, unlink_and_miss},
          {"list_and_see", 2, list_and_see},
          {"attributes_and_see", 2, attributes_and_see},
          {"write_and_read", 2, write_and_read},
          {"disjoint_writes", 3, disjoint_writes},
          {"append_and_append", 3, append_and_append},
          {"truncate_and_read", 2, truncate_and_read},
          {"follow_a_growing_file", 2, follow_a_growing_file},
          {"watch_times", 2, watch_times},
          {"map_after_close", 2, map_after_close},
          {"hand_over_flock", 3, [](Round& r) { hand_over_a_lock(r, false); }},
          {"hand_over_record_lock", 3, [](Round& r) { hand_over_a_lock(r, true); }},
          {"pass_it_round", 3, pass_it_round}};
}

// True: no stale answer, and no long wait.
bool run(const Case& one, const std::vector<std::string>& directories, unsigned rounds) {
  unsigned stale = 0;
  int64_t longest = 0;
  const int64_t stood_still = standstill().in_all();
  std::string first;
  const unsigned mounts = unsigned(directories.size());
  const unsigned used = std::min(one.mounts, mounts);
  for (unsigned number = 0; number < rounds; ++number) {
    const std::string name = "/" + one.name + "-" + std::to_string(number);
    std::vector<std::string> at;  // the mounts in turn: each comes first, and second
    for (unsigned i = 0; i < used; ++i) {
      const unsigned step = number / mounts % (mounts > 1 ? mounts - 1 : 1);
      at.push_back(directories[(number + i * (used == 2 ? step + 1 : 1)) % mounts] + name);
    }
    if (mkdir(at[0].c_str(), 0755) != 0) {
      std::cout << "mkdir " << at[0] << ": " << strerrorname_np(errno) << "\n";
      return false;
    }
    Round round(at, number);
    one.body(round);
    if (round.failures != 0 && stale++ == 0) first = round.first;
    longest = std::max(longest, round.longest.load());
    std::error_code removed;
    std::filesystem::remove_all(at[0], removed);
    if (removed && stale++ == 0) first = "removing " + at[0] + ": " + removed.message();
  }
  const bool good = stale == 0 && longest < kLongestWait;
  std::cout << (good ? "ok      " : "FAILED  ") << one.name << ": " << rounds << " rounds, " << stale
            << " wrong, longest wait " << longest / 1'000'000 << " ms, processors stood still for "
            << (standstill().in_all() - stood_still) / 1'000'000 << " ms"
            << (first.empty() ? "" : "; " + first) << std::endl;
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> directories;
  std::string only;
  unsigned rounds = argc > 1 ? unsigned(strtoul(argv[1], nullptr, 10)) : 0;
  bool list = false;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else if (word == "--list") {
      list = true;
    } else {
      directories.push_back(word);
    }
  }
  if (!list && (rounds == 0 || directories.size() < 2)) {
    std::cerr << "usage: litmus ROUNDS DIR DIR [DIR] [--only CASE] [--list]\n";
    return 2;
  }
  unsigned passed = 0, failed = 0;
  for (const Case& one : cases()) {
    if (!one.name.starts_with(only)) continue;
    if (list) {
      std::cout << one.name << "\n";
      continue;
    }
    ++(run(one, directories, rounds) ? passed : failed);
  }
  if (list) return 0;
  if (passed + failed == 0) ++failed;
  std::cout << passed << " passed, " << failed << " failed" << std::endl;
  return failed == 0 ? 0 : 1;
}
