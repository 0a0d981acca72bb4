#include "tools/words.h"

#include <algorithm>
#include <cstring>

namespace efs::tools {

namespace {

// Reads one line from left to right. `quote` and `escaped` say how it stands at the end.
struct Splitter {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  size_t word_begin = 0;
  char quote = 0;
  bool escaped = false;

  void end_word() {
    if (in_word) words.push_back(std::move(word));
    word.clear();
    in_word = false;
  }
  void begin_word(size_t at) {
    if (!in_word) word_begin = at;
    in_word = true;
  }
  void take_escaped(char c) {
    if (quote == '"' && !std::strchr("\"\\$`", c)) word += '\\';
    word += c;
    escaped = false;
  }
  // False: the rest is a comment.
  bool take(char c, size_t at) {
    if (escaped) {
      take_escaped(c);
    } else if (quote) {
      if (c == quote) {
        quote = 0;
      } else if (c == '\\' && quote == '"') {
        escaped = true;
      } else {
        word += c;
      }
    } else if (c == ' ' || c == '\t' || c == '\n') {
      end_word();
    } else if (c == '#' && !in_word) {
      return false;
    } else {
      begin_word(at);
      if (c == '\\') {
        escaped = true;
      } else if (c == '\'' || c == '"') {
        quote = c;
      } else {
        word += c;
      }
    }
    return true;
  }
  void take_all(std::string_view line) {
    for (size_t i = 0; i < line.size(); ++i) {
      if (!take(line[i], i)) return;
    }
  }
};

}  // namespace

Result<std::vector<std::string>> split_words(std::string_view line) {
  Splitter splitter;
  splitter.take_all(line);
  if (splitter.quote)
    return fail(Code::invalid_argument, std::string("a quote (") + splitter.quote + ") is not closed");
  if (splitter.escaped)
    return fail(Code::invalid_argument, "the line ends in a backslash: nothing follows to escape");
  splitter.end_word();
  return std::move(splitter.words);
}

PartialWord last_word(std::string_view line) {
  Splitter splitter;
  splitter.take_all(line);
  PartialWord result;
  result.begin = splitter.in_word ? splitter.word_begin : line.size();
  result.text = std::move(splitter.word);
  result.quote = splitter.quote;
  result.before = std::move(splitter.words);
  return result;
}

std::string quote_inside(std::string_view word, char quote) {
  const char* special = quote == '\'' ? "" : quote == '"' ? "\"\\$`" : " \t\n'\"\\#$`&|;<>()*?[]{}!";
  std::string result;
  for (char c : word) {
    if (quote == '\'' && c == '\'') {
      result += "'\\''";
      continue;
    }
    if (c && std::strchr(special, c)) result += '\\';
    result += c;
  }
  return result;
}

std::string quote_word(std::string_view word) {
  return word.empty() ? "''" : quote_inside(word, 0);
}

std::string common_start(const std::vector<std::string>& words) {
  if (words.empty()) return "";
  std::string start = words.front();
  for (const auto& word : words) {
    auto differ = std::mismatch(start.begin(), start.end(), word.begin(), word.end());
    start.erase(differ.first, start.end());
  }
  // The next character's bytes may have been split: drop a sequence that is not whole.
  size_t lead = start.size();
  while (lead > 0 && (start[lead - 1] & 0xc0) == 0x80) --lead;
  if (lead > 0 && (start[lead - 1] & 0x80)) {
    uint8_t first = uint8_t(start[lead - 1]);
    size_t needed = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (start.size() - (lead - 1) < needed) start.erase(lead - 1);
  }
  return start;
}

}  // namespace efs::tools
