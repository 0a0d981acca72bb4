// A page of a mapped file (LMDB maps its own) that cannot be read is a signal, not an error: SIGBUS. The
// kernel's list of mappings says which file it was; reading it takes nothing that a signal handler may not do
// (signal-safety(7)).
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>

#include "peer/runtime/real.h"

namespace efs {

namespace {

void say(const char* text, size_t length) {
  while (length > 0) {
    const ssize_t wrote = ::write(STDERR_FILENO, text, length);
    if (wrote <= 0) return;
    text += wrote;
    length -= size_t(wrote);
  }
}
void say(const char* text) {
  say(text, std::strlen(text));
}

// Reads lines of /proc/self/maps ("start-end mode offset device inode path"), byte by byte through a small
// buffer.
class Mappings {
 public:
  Mappings() : fd_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}
  ~Mappings() {
    if (fd_ >= 0) ::close(fd_);
  }
  // The path of the file that is mapped at this address; null when there is none.
  const char* path_at(uintptr_t address) {
    while (next_line()) {
      const char* at = line_;
      const uintptr_t start = number(at);
      const uintptr_t end = *at == '-' ? number(++at) : 0;
      if (address < start || address >= end) continue;
      const char* path = std::strchr(line_, '/');
      return path;
    }
    return nullptr;
  }

 private:
  bool next_line() {
    size_t length = 0;
    for (;;) {
      if (used_ == filled_) {
        const ssize_t got = fd_ < 0 ? 0 : ::read(fd_, buffer_, sizeof buffer_);
        if (got <= 0) return false;
        filled_ = size_t(got);
        used_ = 0;
      }
      const char c = buffer_[used_++];
      if (c == '\n') break;
      if (length + 1 < sizeof line_) line_[length++] = c;
    }
    line_[length] = 0;
    return true;
  }
  static uintptr_t number(const char*& at) {
    uintptr_t value = 0;
    for (;; ++at) {
      const char c = *at;
      if (c >= '0' && c <= '9') {
        value = value * 16 + uintptr_t(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        value = value * 16 + uintptr_t(c - 'a' + 10);
      } else {
        return value;
      }
    }
  }

  const int fd_;
  char buffer_[512];
  size_t used_ = 0, filled_ = 0;
  char line_[4400];  // PATH_MAX, and what stands before it
};

void on_fault(int, siginfo_t* about, void*) {
  Mappings mappings;
  const char* path = mappings.path_at(reinterpret_cast<uintptr_t>(about->si_addr));
  say("efs-peer: ");
  say(path != nullptr ? path : "a mapped file");
  say(" cannot be read: its disk failed, or the file was cut short; check the disk, then run 'efs-peer "
      "check'\n");
  ::_exit(1);
}

}  // namespace

void report_mapped_file_faults() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace efs
