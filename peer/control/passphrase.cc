#include "peer/control/passphrase.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

#include "peer/base/descriptor.h"

namespace efs {

namespace {

void wipe_text(std::string& text) {
  wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  text.clear();
}

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
    text.reserve(kMaxPassphraseBytes);  // never moved: no copy of a passphrase stays behind
    for (char c = 0; text.size() < kMaxPassphraseBytes;) {
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

}  // namespace

Result<std::string> ask_on_terminal(const std::string& prompt, bool echo) {
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

bool can_ask_on_terminal() {
  return isatty(STDIN_FILENO) && Tty().is_open();
}

Result<Secret> read_passphrase_file(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return fail(from_errno(errno, "open the passphrase file " + path));
  std::string text(kMaxPassphraseBytes + 1, '\0');
  size_t length = 0;
  ssize_t got = 0;
  while (length < text.size() && (got = read(file.get(), text.data() + length, text.size() - length)) != 0) {
    if (got > 0) length += size_t(got);
    if (got < 0 && errno != EINTR) break;
  }
  if (got < 0) {
    const int number = errno;
    wipe_text(text);
    return fail(from_errno(number, "read the passphrase file " + path));
  }
  const size_t end = std::string_view(text).substr(0, length).find_first_of("\r\n");
  const size_t line = end == std::string::npos ? length : end;
  Secret secret = line > kMaxPassphraseBytes ? Secret() : Secret::copy_of(view(text).first(line));
  wipe_text(text);
  if (line > kMaxPassphraseBytes) return fail(Code::too_large, path + " is too large for a passphrase");
  return secret;
}

Result<Secret> ask_new_passphrase(const Ask& ask, const std::string& what,
                                  const std::function<void(const std::string&)>& say) {
  for (;;) {
    EFS_ASSIGN(auto first, ask("Passphrase for " + what + " (may be empty): ", false));
    auto second = ask("Once more: ", false);
    const bool same = second && first == *second;
    if (second) wipe_text(*second);
    if (same) return take_secret(first);
    wipe_text(first);
    if (!second) return fail(second.error());
    say("They differ.");
  }
}

Secret take_secret(std::string& text) {
  Secret secret = Secret::copy_of(view(text));
  wipe_text(text);
  return secret;
}

}  // namespace efs
