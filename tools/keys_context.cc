#include "tools/keys_context.h"

#include <cstdio>
#include <fstream>
#include <ostream>
#include <sstream>

#include "peer/control/passphrase.h"
#include "peer/identity/limits.h"

namespace efs::tools {

namespace {

Result<std::string> read_small_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(from_errno(errno, "open " + path));
  std::string text(kMaxKeyFileBytes + 1, '\0');
  file.read(text.data(), std::streamsize(text.size()));
  text.resize(size_t(file.gcount()));
  if (text.size() > kMaxKeyFileBytes) return fail(Code::too_large, path + " is too large for a key");
  return text;
}

}  // namespace

Result<VerifiedRegister> KeysContext::read_register() {
  VerifiedRegister result;
  EFS_ASSIGN(result.welcome, context.peer.hello());
  EFS_ASSIGN(auto entries, context.peer.register_entries(0));
  for (const auto& bytes : entries) {
    std::string which = "entry " + std::to_string(result.entries.size()) + " of the register";
    EFS_TRY_ABOUT(which, result.state.apply(bytes));
    auto entry = read_entry(bytes);
    if (!entry) return fail_about(which, entry.error());
    result.entries.push_back(std::move(*entry));
  }
  if (result.entries.empty())
    return fail(Code::unreachable, "this peer has no register yet; try again in a moment");
  if (result.state.mesh() != result.welcome.mesh)
    return fail(Code::corrupt, "the register of this peer is another mesh's");
  return result;
}

Result<Secret> KeysContext::new_passphrase(const std::string& path) {
  if (!options.passphrase_file.empty()) return read_passphrase_file(options.passphrase_file);
  if (context.terminal.input && context.terminal.ask) {
    return ask_new_passphrase(context.terminal.ask, path,
                              [this](const std::string& line) { context.err << line << "\n"; });
  }
  context.err << context.program << ": warning: the key in " << path
              << " has no passphrase; use --passphrase-file, or run this on a terminal\n";
  return Secret();
}

Result<KeyFile> KeysContext::open_key(const std::string& path) {
  EFS_ASSIGN(auto content, read_key_file(path));
  auto parse = [&]() -> Result<KeyFile> {
    EFS_ASSIGN(auto facts, inspect_key(content));
    Secret passphrase;
    if (facts.sealed && !options.passphrase_file.empty()) {
      EFS_ASSIGN(passphrase, read_passphrase_file(options.passphrase_file));
    } else if (facts.sealed && context.terminal.input && context.terminal.ask) {
      EFS_ASSIGN(auto typed, context.terminal.ask("Passphrase of " + path + ": ", false));
      passphrase = take_secret(typed);
    } else if (facts.sealed) {
      return fail(Code::access_denied,
                  "it has a passphrase: use --passphrase-file, or run this on a terminal");
    }
    return parse_key(content, passphrase);
  };
  auto result = parse();
  wipe(content);
  if (!result) return fail_about("the key file " + path, result.error());
  return result;
}

Result<const KeyPair*> KeysContext::signing_key(const control::Welcome& welcome) {
  if (decided_) return signing_key_ ? &*signing_key_ : nullptr;
  std::string path = options.key;
  if (path.empty() && !options.admin_key.empty() && std::ifstream(options.admin_key).good())
    path = options.admin_key;
  if (!path.empty()) {
    EFS_ASSIGN(auto file, open_key(path));
    signing_key_ = std::move(file.key);
    decided_ = true;
    return &*signing_key_;
  }
  decided_ = welcome.may_change;
  if (decided_) return nullptr;
  return fail(Code::unauthorized,
              "it takes an administrator's key: say --key FILE, keep one at " +
                  (options.admin_key.empty() ? "~/.config/efs/admin.key" : options.admin_key) +
                  ", or run it as root on a peer that is an administrator");
}

Status KeysContext::change(const VerifiedRegister& known, Change change, const std::string& what) {
  auto key = signing_key(known.welcome);
  if (!key) return fail_about(what, key.error());
  control::Propose proposal;
  if (*key) {
    proposal.signed_proposal =
        make_proposal(known.state.mesh(), known.state.version(), std::move(change), **key, random);
  } else {
    proposal.body = encode(change);
  }
  EFS_TRY_ABOUT(what, context.peer.propose(proposal));
  return {};
}

Result<PublicKey> make_key_file(KeysContext& keys, const std::string& path, KeyKind kind) {
  EFS_ASSIGN(auto passphrase, keys.new_passphrase(path));
  KeyPair key = KeyPair::generate(keys.random);
  EFS_TRY(write_key_file(path, key, kind, passphrase, keys.random));
  return key.public_key();
}

void take_back_key_file(KeysContext& keys, const std::string& path, const Error& why) {
  const bool refused = why.code != Code::timed_out && why.code != Code::closed &&
                       why.code != Code::unreachable && why.code != Code::cancelled;
  if (refused) {
    std::remove(path.c_str());
  } else {
    keys.context.err << keys.context.program << ": warning: " << path
                     << " is kept: the change may have been made all the same; 'efs-keys audit' shows it\n";
  }
}

Result<PublicKey> read_public_key(const std::string& path) {
  EFS_ASSIGN(auto text, read_small_file(path));
  if (auto facts = inspect_key(view(text))) {
    bool user = facts->kind == KeyKind::user;
    wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
    if (user) return facts->public_key;
    return fail(Code::invalid_argument, path + " is the key file of a " + std::string(name_of(facts->kind)) +
                                            "; to sign with it, say --key in front: efs-keys --key " + path +
                                            " ...");
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("public:")) line = line.substr(7);
    size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos) continue;
    line = line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1);
    if (auto key = id_from_hex(line)) return *key;
  }
  return fail(
      Code::invalid_argument,
      path + " holds no public key; it is the line 'public: ...' of a key file, or its 64 digits alone");
}

}  // namespace efs::tools
