#include "tools/line_editor.h"

#include <editline/readline.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tools/path.h"
#include "tools/words.h"

namespace efs::tools {

namespace {

constexpr int kHistoryLines = 2000;
// libedit's completion has no argument of its own to pass.
std::function<Completion(const std::string&)>* completer = nullptr;

std::string history_file() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  if (state && *state) return std::string(state) + "/efs/history";
  return home && *home ? std::string(home) + "/.local/state/efs/history" : "";
}

void show_choices(const std::vector<std::string>& words) {
  std::fputs("\n", rl_outstream);
  for (const auto& word : words) {
    bool slash = word.size() > 1 && word.back() == '/';
    std::string whole = slash ? word.substr(0, word.size() - 1) : word;
    std::fprintf(rl_outstream, "%s%s  ", base_name(whole).c_str(), slash ? "/" : "");
  }
  std::fputs("\n", rl_outstream);
  rl_forced_update_display();
}

// What Tab does: replaces the word before the cursor itself, since libedit's own way knows no quotes.
int on_tab(int, int) {
  if (!completer) return 0;
  std::string line(rl_line_buffer, size_t(rl_point));
  Completion completion = (*completer)(line);
  if (completion.words.empty()) return 0;
  Insertion insertion = insertion_for(completion);
  std::string before = line.substr(completion.begin);
  std::string text = insertion.text;
  if (insertion.whole) text += completion.quote ? std::string(1, completion.quote) + " " : " ";
  if (text.size() > before.size() || insertion.whole) {
    if (before != text.substr(0, before.size())) {
      rl_delete_text(int(completion.begin), rl_point);
      rl_point = int(completion.begin);
      rl_insert_text(text.c_str());
    } else {
      rl_insert_text(text.c_str() + before.size());
    }
    return 0;
  }
  if (completion.words.size() > 1) show_choices(completion.words);
  return 0;
}

}  // namespace

Insertion insertion_for(const Completion& completion) {
  std::string start = common_start(completion.words);
  std::string text = quote_inside(start, completion.quote);
  if (completion.quote) text.insert(0, 1, completion.quote);
  bool whole = completion.words.size() == 1 && !start.ends_with("/");
  return {std::move(text), whole};
}

LineEditor::LineEditor(std::function<Completion(const std::string& line)> complete)
    : history_path_(history_file()) {
  static std::function<Completion(const std::string&)> kept;
  kept = std::move(complete);
  completer = &kept;
  rl_readline_name = "efs";
  using_history();  // initializes; a later rl_initialize() would drop the history
  stifle_history(kHistoryLines);
  if (!history_path_.empty()) read_history(history_path_.c_str());
  // Tab is a macro of two keys that nobody types: complete, and show the line, since libedit shows what a
  // function inserted with the next key only. (Its rl_bind_key takes rl_insert alone.)
  rl_add_defun("efs-complete", on_tab, 0x1f);
  rl_parse_and_bind(R"(bind ^^ ed-redisplay)");
  rl_parse_and_bind(R"(bind -s ^I '\037\036')");
}

LineEditor::~LineEditor() {
  completer = nullptr;
  if (history_path_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(history_path_).parent_path(), error);
  mode_t before = umask(077);
  write_history(history_path_.c_str());
  umask(before);
}

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  char* text = readline(prompt.c_str());
  if (!text) {
    std::fputs("\n", stdout);
    return std::nullopt;
  }
  std::string line(text);
  std::free(text);
  if (line.find_first_not_of(" \t") != std::string::npos) add_history(line.c_str());
  return line;
}

}  // namespace efs::tools
