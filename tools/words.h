// The shell's words: splitting a line with quotes and backslashes, quoting a word again. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "peer/base/error.h"

namespace efs::tools {

// As sh splits: spaces separate, '...' is literal, in "..." a backslash escapes " \ $ `, outside anything.
// '#' at the start of a word begins a comment. Code::invalid_argument for an open quote or a lone
// backslash at the end.
Result<std::vector<std::string>> split_words(std::string_view line);

// The word under the cursor at the line's end, for completion.
struct PartialWord {
  size_t begin = 0;                 // where it starts in the line, quote included
  std::string text;                 // unquoted
  char quote = 0;                   // ' or " when one is open
  std::vector<std::string> before;  // the complete words before it
};
PartialWord last_word(std::string_view line);

// With backslashes before what split_words would not take literally.
std::string quote_word(std::string_view word);
// As it continues inside `quote` (0: none), without the closing quote.
std::string quote_inside(std::string_view word, char quote);
// The longest start that all of them share, whole UTF-8 characters.
std::string common_start(const std::vector<std::string>& words);

}  // namespace efs::tools
