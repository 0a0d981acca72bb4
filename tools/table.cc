#include "tools/table.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <ostream>

namespace efs::tools {

Table::Table(std::vector<std::string> heads, std::vector<size_t> right)
    : heads_(std::move(heads)), right_(std::move(right)) {}

void Table::row(std::vector<std::string> cells) {
  for (auto& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

void Table::print(std::ostream& out) const {
  std::vector<size_t> widths;
  auto measure = [&](const std::vector<std::string>& cells) {
    widths.resize(std::max(widths.size(), cells.size()));
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], text_width(cells[i]));
  };
  measure(heads_);
  for (const auto& cells : rows_) measure(cells);
  auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      std::string gap(widths[i] - text_width(cells[i]), ' ');
      bool to_right = std::find(right_.begin(), right_.end(), i) != right_.end();
      text += to_right ? gap + cells[i] : cells[i] + gap;
      if (i + 1 < cells.size()) text += "  ";
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out << text << "\n";
  };
  if (!heads_.empty()) line(heads_);
  for (const auto& cells : rows_) line(cells);
}

size_t text_width(std::string_view text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

void print_columns(std::ostream& out, const std::vector<std::string>& names, int width) {
  size_t widest = 0;
  for (const auto& name : names) widest = std::max(widest, text_width(name));
  size_t columns = std::max<size_t>(1, size_t(std::max(width, 1)) / (widest + 2));
  size_t rows = (names.size() + columns - 1) / columns;
  for (size_t row = 0; row < rows; ++row) {
    std::string line;
    for (size_t i = row; i < names.size(); i += rows) {
      line += names[i];
      if (i + rows < names.size()) line.append(widest + 2 - text_width(names[i]), ' ');
    }
    out << line << "\n";
  }
}

std::string printable(std::string_view name) {
  std::string result(name);
  for (char& c : result) {
    if (uint8_t(c) < 0x20 || c == 0x7f) c = '?';
  }
  return result;
}

char type_letter(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return 'd';
    case S_IFLNK:
      return 'l';
    case S_IFIFO:
      return 'p';
    case S_IFSOCK:
      return 's';
    case S_IFBLK:
      return 'b';
    case S_IFCHR:
      return 'c';
    default:
      return 'f';
  }
}

std::string type_name(uint32_t mode) {
  switch (type_letter(mode)) {
    case 'd':
      return "directory";
    case 'l':
      return "symlink";
    case 'p':
      return "fifo";
    case 's':
      return "socket";
    case 'b':
      return "block device";
    case 'c':
      return "character device";
    default:
      return "file";
  }
}

std::string mode_text(uint32_t mode) {
  std::string text = "?rwxrwxrwx";
  char type = type_letter(mode);
  text[0] = type == 'f' ? '-' : type;
  for (unsigned bit = 0; bit < 9; ++bit) {
    if (!(mode & (0400u >> bit))) text[bit + 1] = '-';
  }
  auto special = [&](uint32_t flag, size_t at, char with_x, char without) {
    if (mode & flag) text[at] = text[at] == 'x' ? with_x : without;
  };
  special(S_ISUID, 3, 's', 'S');
  special(S_ISGID, 6, 's', 'S');
  special(S_ISVTX, 9, 't', 'T');
  return text;
}

namespace {

std::string format_time(int64_t ns, const char* format) {
  time_t seconds = time_t(ns / 1'000'000'000 - (ns % 1'000'000'000 < 0));
  tm parts{};
  localtime_r(&seconds, &parts);
  char text[64];
  size_t length = strftime(text, sizeof text, format, &parts);
  return {text, length};
}

}  // namespace

std::string time_text(int64_t ns) {
  return format_time(ns, "%Y-%m-%d %H:%M");
}

std::string time_text_exact(int64_t ns) {
  int64_t fraction = ((ns % 1'000'000'000) + 1'000'000'000) % 1'000'000'000;
  return format_time(ns, "%Y-%m-%d %H:%M:%S") + fmt::format(".{:09}", fraction) + format_time(ns, " %z");
}

std::string user_text(uint32_t uid) {
  const passwd* entry = getpwuid(uid);
  return entry ? entry->pw_name : std::to_string(uid);
}

std::string group_text(uint32_t gid) {
  const group* entry = getgrgid(gid);
  return entry ? entry->gr_name : std::to_string(gid);
}

std::string duration_text(int64_t seconds) {
  if (seconds >= 3600) return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

}  // namespace efs::tools
