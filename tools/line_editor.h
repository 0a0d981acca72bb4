// Lines from a terminal, edited by libedit, with history and completion. One a process, one thread.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "tools/shell.h"

namespace efs::tools {

class LineEditor {
 public:
  explicit LineEditor(std::function<Completion(const std::string& line)> complete);
  ~LineEditor();  // saves the history, mode 0600
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;
  // Nothing at the end of input (Ctrl-D).
  std::optional<std::string> read(const std::string& prompt);

 private:
  std::string history_path_;
};

// What replaces the word from `begin` on, quoted, and whether it is whole: then a space and a closing
// quote follow. Nothing when the words say no more than the line.
struct Insertion {
  std::string text;
  bool whole = false;
};
Insertion insertion_for(const Completion& completion);

}  // namespace efs::tools
