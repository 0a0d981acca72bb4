// Where efs-peer talks to the person who started it, also when it goes to the background.
//
// With detach(), the process that was started stays until its child says ready() or finish(code): what the
// child prints until then reaches the person's own stdout and stderr, while its log goes to a file.
// The main thread, but ready() and error() may be called on the loop's.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace efs {

class Console {
 public:
  Console();
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // In the process that was started: waits, then returns its exit code. In the child: nothing.
  std::optional<int> detach(const std::string& data_directory, const std::string& log_file);
  void print(std::string_view text);
  void error(std::string_view line);
  void ready();           // it serves: the waiting process, or the service manager (sd_notify), is told
  void finish(int code);  // it ended, before or after

 private:
  void report(int code);
  int out_, err_;
  int waiting_ = -1;  // the pipe to who waits
};

}  // namespace efs
