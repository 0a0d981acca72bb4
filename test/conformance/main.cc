// conformance DIR [SEEN-DIR] [--list] [--only PART] [--known FILE] [--where NAME] [--verbose]
//
// Runs the tests below DIR; SEEN-DIR is the same directory on another mount. --only: tests whose names begin
// with PART. --known: tests that may fail, one a line: its name or *, the --where names it is about (with
// commas between), always or sometimes, and why. Those are printed and counted apart, and one of `always`
// that passes counts as failed, so that the list stays true. Ends with the line "N passed, N failed".
#include <poll.h>
#include <signal.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>

#include "test/conformance/conformance.h"

namespace conformance {

namespace {
constexpr long kExt4Magic = 0xEF53;
constexpr int kSeconds = 60;  // of one test

std::string base_here, base_seen;  // of all tests
std::string test_here, test_seen;
int report_fd = 2;

struct Options {
  std::string only, known, where;
  bool list = false, verbose = false;
};
}  // namespace

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

const std::string& here() {
  return test_here;
}
std::string seen(const std::string& path) {
  return test_seen + "/" + path;
}
bool two_mounts() {
  return base_here != base_seen;
}
bool is_ext4() {
  struct statfs space {};
  return statfs(base_here.c_str(), &space) == 0 && space.f_type == kExt4Magic;
}

void note_failure(const char* file, int line, const std::string& what) {
  const char* name = strrchr(file, '/');
  const std::string text =
      std::string(name ? name + 1 : file) + ":" + std::to_string(line) + ": " + what + "\n";
  [[maybe_unused]] const ssize_t written = write(report_fd, text.data(), text.size());
}

namespace {

void remove_all(const std::string& path) {
  const std::string command = "rm -rf --one-file-system '" + path + "'";
  [[maybe_unused]] const int status = system(command.c_str());
}

// In the child: the test. Leaves by _exit.
[[noreturn]] void run_body(const Test& test) {
  umask(022);
  signal(SIGPIPE, SIG_IGN);
  setsid();  // what it leaves running ends with it
  try {
    OK(chdir(test_here.c_str()));
    test.body();
  } catch (const Failed&) {
  } catch (const std::exception& error) {
    note_failure(__FILE__, __LINE__, error.what());
  }
  _exit(0);
}

// What failed; empty when nothing did.
std::string run(const Test& test) {
  test_here = base_here + "/" + test.name;
  test_seen = base_seen + "/" + test.name;
  if (mkdir(test_here.c_str(), 0755) != 0) return "mkdir of its directory: " + error_name(errno) + "\n";
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return "no pipe\n";
  const pid_t child = fork();
  if (child == 0) {
    report_fd = report[1];
    run_body(test);
  }
  close(report[1]);
  std::string failures;
  pollfd wait{report[0], POLLIN, 0};
  const int64_t until = now_ns() + int64_t(kSeconds) * 1'000'000'000;
  while (true) {
    const int64_t left_ms = (until - now_ns()) / 1'000'000;
    if (left_ms <= 0 || poll(&wait, 1, int(left_ms)) == 0) {
      failures += "still running after " + std::to_string(kSeconds) + " s\n";
      break;
    }
    char buffer[4096];
    const ssize_t got = read(report[0], buffer, sizeof buffer);
    if (got <= 0) break;
    failures.append(buffer, size_t(got));
  }
  close(report[0]);
  kill(-child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  if (failures.empty() && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
    failures =
        WIFSIGNALED(status) ? std::string("ended by ") + strsignal(WTERMSIG(status)) + "\n" : "ended early\n";
  remove_all(test_here);
  return failures;
}

struct Excuse {
  bool always = false;
  std::string reason;
};

std::map<std::string, Excuse> read_known(const std::string& path, const std::string& where) {
  std::map<std::string, Excuse> known;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name, places, how, reason;
    if (line.starts_with('#') || !(words >> name >> places >> how)) continue;
    std::getline(words, reason);
    if (("," + places + ",").find("," + where + ",") != std::string::npos)
      known[name] = {how == "always", reason};
  }
  return known;
}

void print_result(const std::string& head, const std::string& failures) {
  std::cout << head << "\n";
  std::istringstream lines(failures);
  for (std::string line; std::getline(lines, line);) std::cout << "        " << line << "\n";
  std::cout << std::flush;
}

int run_all(const Options& options) {
  const auto known = read_known(options.known, options.where);
  size_t passed = 0, failed = 0, excused = 0;
  for (const Test& test : tests()) {
    if (!test.name.starts_with(options.only)) continue;
    const int64_t start = now_ns();
    const std::string failures = run(test);
    auto excuse = known.find(test.name);
    if (excuse == known.end()) excuse = known.find("*");
    if (failures.empty() && excuse != known.end() && excuse->second.always) {
      ++failed;
      print_result("PASSED  " + test.name + ", though it is listed as failing: take it off the list", "");
    } else if (failures.empty()) {
      ++passed;
      if (options.verbose)
        print_result("ok      " + test.name + " " + std::to_string((now_ns() - start) / 1'000'000) + " ms",
                     "");
    } else if (excuse != known.end()) {
      ++excused;
      print_result("known   " + test.name + ":" + excuse->second.reason, failures);
    } else {
      ++failed;
      print_result("FAILED  " + test.name, failures);
    }
  }
  if (excused != 0) std::cout << excused << " failed as " << options.known << " says" << std::endl;
  if (passed + failed + excused == 0) ++failed;  // no such test
  std::cout << passed << " passed, " << failed << " failed" << std::endl;
  return failed == 0 ? 0 : 1;
}

}  // namespace

// In `child`'s place: the failures of a process that is not the test's own reach the same report.
void apart(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      body();
    } catch (const Failed&) {
    } catch (const std::exception& error) {
      note_failure(__FILE__, __LINE__, error.what());
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status)) note_failure(__FILE__, __LINE__, "a child of the test was killed");
}

uint64_t max_file_size() {
  constexpr uint64_t kExt4 = (uint64_t(1) << 44) - 4096;  // 2^32 - 1 blocks of 4 KiB
  return is_ext4() ? kExt4 : uint64_t(INT64_MAX);
}

int main_of(int argc, char** argv) {
  Options options;
  std::vector<std::string> directories;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--list") {
      options.list = true;
    } else if (word == "--verbose") {
      options.verbose = true;
    } else if ((word == "--only" || word == "--known" || word == "--where") && i + 1 < argc) {
      (word == "--only" ? options.only : word == "--known" ? options.known : options.where) = argv[++i];
    } else {
      directories.push_back(word);
    }
  }
  std::stable_sort(tests().begin(), tests().end(), [](auto& a, auto& b) { return a.name < b.name; });
  if (options.list) {
    for (const Test& test : tests()) std::cout << test.name << "\n";
    return 0;
  }
  if (directories.empty() || directories.size() > 2) {
    std::cerr << "usage: conformance DIR [SEEN-DIR] [--list] [--only PART] [--known FILE] [--where NAME] "
                 "[--verbose]\n";
    return 2;
  }
  if (geteuid() != 0) {
    std::cerr << "conformance: acts as several users: run it as root\n";
    return 2;
  }
  base_here = directories.front();
  base_seen = directories.back();
  return run_all(options);
}

}  // namespace conformance

int main(int argc, char** argv) {
  return conformance::main_of(argc, argv);
}
