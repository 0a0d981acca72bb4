#include "peer/console.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "peer/base/descriptor.h"
#include "peer/runtime/real.h"

namespace efs {

namespace {
void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return;
    text.remove_prefix(size_t(wrote));
  }
}

// As sd_notify(3) does: one datagram to the socket that the service manager named, '@' for an abstract one.
void tell_service_manager(std::string_view state) {
  const char* name = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  const size_t length = name == nullptr ? 0 : std::strlen(name);
  if (length < 2 || length >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name, length);
  if (name[0] == '@') address.sun_path[0] = 0;
  const Descriptor out(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!out.valid()) return;
  (void)::sendto(out.get(), state.data(), state.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address),
                 socklen_t(offsetof(sockaddr_un, sun_path) + length));
}
}  // namespace

Console::Console() : out_(fcntl(1, F_DUPFD_CLOEXEC, 3)), err_(fcntl(2, F_DUPFD_CLOEXEC, 3)) {}

Console::~Console() {
  for (int fd : {out_, err_, waiting_}) {
    if (fd >= 0) ::close(fd);
  }
}

std::optional<int> Console::detach(const std::string& data_directory, const std::string& log_file) {
  (void)real_files().make_directories(data_directory,
                                      0700);  // the log may lie in it; what is wrong is said later
  const int log = ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) {
    error("efs-peer: cannot write the log " + log_file + ": " + std::strerror(errno) +
          "; name another with --log-file");
    return 1;
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    error(std::string("efs-peer: cannot go to the background: ") + std::strerror(errno));
    return 1;
  }
  const pid_t child = ::fork();
  if (child < 0) {
    error(std::string("efs-peer: cannot go to the background: ") + std::strerror(errno));
    return 1;
  }
  if (child > 0) {
    ::close(ends[1]);
    unsigned char code = 1;
    ssize_t got;
    do {
      got = ::read(ends[0], &code, 1);
    } while (got < 0 && errno == EINTR);
    if (got == 1) return code;
    int status = 0;
    ::waitpid(child, &status, 0);  // it died without a word
    error("efs-peer: it ended unexpectedly; its log is " + log_file);
    return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
  }
  ::close(ends[0]);
  waiting_ = ends[1];
  ::setsid();
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(nothing, 0);
  ::dup2(log, 1);
  ::dup2(log, 2);
  ::close(nothing);
  ::close(log);
  return std::nullopt;
}

void Console::print(std::string_view text) {
  write_all(out_, text);
}
void Console::error(std::string_view line) {
  write_all(err_, std::string(line) + "\n");
}

void Console::report(int code) {
  if (waiting_ < 0) return;
  const auto byte = static_cast<unsigned char>(code);
  write_all(waiting_, {reinterpret_cast<const char*>(&byte), 1});
  for (int* fd : {&waiting_, &out_, &err_}) {  // the person's terminal is let go
    ::close(*fd);
    *fd = -1;
  }
}

void Console::ready() {
  tell_service_manager("READY=1");
  report(0);
}
void Console::finish(int code) {
  report(code == 0 ? 1 : code);  // heard only when it never served
}

}  // namespace efs
