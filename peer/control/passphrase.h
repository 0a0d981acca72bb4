// Passphrases of key files, as people give them: in a file, or typed on the terminal. Blocking; any thread.
#pragma once

#include <functional>
#include <string>

#include "peer/base/error.h"
#include "peer/base/secret.h"

namespace efs {

inline constexpr size_t kMaxPassphraseBytes = 4096;

// Asks on a terminal, without (passphrases) or with echo. Code::cancelled: no answer came.
using Ask = std::function<Result<std::string>(const std::string& prompt, bool echo)>;

// Asks on /dev/tty, so that what is piped in or out stays as it is. Code::invalid_argument: there is none.
Result<std::string> ask_on_terminal(const std::string& prompt, bool echo);
// stdin is a terminal, and /dev/tty can be asked on.
bool can_ask_on_terminal();

// The file's first line. Code::too_large beyond kMaxPassphraseBytes.
Result<Secret> read_passphrase_file(const std::string& path);
// For a new key: asked twice until both are the same; may be empty. `what` ends the prompt's "Passphrase
// for".
Result<Secret> ask_new_passphrase(const Ask& ask, const std::string& what,
                                  const std::function<void(const std::string&)>& say);
// Takes what was typed, and wipes it where it was.
Secret take_secret(std::string& text);

}  // namespace efs
