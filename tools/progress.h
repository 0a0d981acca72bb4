// A line on the terminal while something takes longer than a second: how much, how fast, how long still.
// Draws on `err` at most ten times a second, nothing at all without a terminal or with --quiet.
#pragma once

#include "tools/context.h"

namespace efs::tools {

class Progress {
 public:
  // total_bytes 0: unknown, then without bar and time left.
  Progress(Context& context, std::string title, uint64_t total_bytes);
  ~Progress();  // wipes the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void add(uint64_t bytes);
  void rename(std::string title) { title_ = std::move(title); }

 private:
  void draw(int64_t now_ns);
  Context& context_;
  std::string title_;
  uint64_t total_bytes_;
  uint64_t done_bytes_ = 0;
  int64_t started_ns_;
  int64_t drawn_ns_ = 0;
  bool visible_ = false;
};

}  // namespace efs::tools
