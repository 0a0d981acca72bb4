// Text for people: tables, times, modes, sizes. Pure.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "peer/base/bytes.h"
#include "peer/base/error.h"

namespace efs::tools {

// Columns as wide as their widest cell, two spaces apart; those named in `right` to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> heads, std::vector<size_t> right = {});
  void row(std::vector<std::string> cells);
  void print(std::ostream& out) const;
  bool empty() const { return rows_.empty(); }

 private:
  std::vector<std::string> heads_;  // empty: no line of heads
  std::vector<size_t> right_;
  std::vector<std::vector<std::string>> rows_;
};

// Characters on a terminal, not bytes: UTF-8 is counted by its leading bytes.
size_t text_width(std::string_view text);
// Names in as many columns as fit, down and then right, as ls.
void print_columns(std::ostream& out, const std::vector<std::string>& names, int width);
// Control characters as '?', so that a file's name cannot drive a terminal.
std::string printable(std::string_view name);

std::string mode_text(uint32_t mode);     // "drwxr-xr-x"
std::string type_name(uint32_t mode);     // "file", "directory", "symlink", ...
char type_letter(uint32_t mode);          // as find -type: f d l p s b c
std::string time_text(int64_t ns);        // "2026-11-20 08:00", local time
std::string time_text_exact(int64_t ns);  // "2026-11-20 08:00:00.123456789 +0000"
std::string user_text(uint32_t uid);      // the name where this machine has one
std::string group_text(uint32_t gid);
std::string duration_text(int64_t seconds);  // "1:05", "2:03:04"

}  // namespace efs::tools
