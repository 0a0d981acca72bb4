#include "tools/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

namespace efs::tools {

namespace {

constexpr size_t kMaxAnswer = 4096;

class Tty {
 public:
  Tty() : fd_(open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)) {}
  ~Tty() {
    if (hidden_) tcsetattr(fd_, TCSAFLUSH, &before_);
    if (fd_ >= 0) ::close(fd_);
  }
  Tty(const Tty&) = delete;
  Tty& operator=(const Tty&) = delete;
  bool is_open() const { return fd_ >= 0; }

  void hide() {
    if (tcgetattr(fd_, &before_) != 0) return;
    termios quiet = before_;
    quiet.c_lflag &= tcflag_t(~unsigned(ECHO));
    hidden_ = tcsetattr(fd_, TCSAFLUSH, &quiet) == 0;
  }
  bool hidden() const { return hidden_; }
  void say(const std::string& text) {
    [[maybe_unused]] ssize_t written = write(fd_, text.data(), text.size());
  }
  Result<std::string> line() {
    std::string text;
    for (char c = 0; text.size() < kMaxAnswer;) {
      ssize_t got = read(fd_, &c, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return fail(Code::cancelled, "no answer came from the terminal");
      if (c == '\n') return text;
      text += c;
    }
    return fail(Code::too_large, "the answer is too long");
  }

 private:
  int fd_;
  bool hidden_ = false;
  termios before_{};
};

Result<std::string> ask_on_tty(const std::string& prompt, bool echo) {
  Tty tty;
  if (!tty.is_open()) return fail(Code::invalid_argument, "there is no terminal to ask on");
  if (!echo) {
    tty.hide();
    if (!tty.hidden()) return fail(Code::io, "the terminal cannot hide what is typed; use --passphrase-file");
  }
  tty.say(prompt);
  auto answer = tty.line();
  if (!echo) tty.say("\n");
  return answer;
}

}  // namespace

Terminal this_terminal() {
  Terminal result;
  result.output = isatty(STDOUT_FILENO);
  result.errors = isatty(STDERR_FILENO);
  result.input = isatty(STDIN_FILENO) && Tty().is_open();
  winsize size{};
  if (ioctl(result.output ? STDOUT_FILENO : STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    result.width = size.ws_col;
  result.ask = ask_on_tty;
  return result;
}

uint32_t current_umask() {
  mode_t mask = ::umask(0);
  ::umask(mask);
  return mask;
}

}  // namespace efs::tools
