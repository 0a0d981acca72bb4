#include "peer/control/socket_path.h"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "peer/base/bytes.h"
#include "peer/base/hash.h"

namespace efs {

namespace {

constexpr const char* kRootData = "/var/lib/efs";
constexpr const char* kRootSockets = "/run/efs";
constexpr size_t kNameDigits = 16;

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string home_of(uint32_t uid) {
  const passwd* entry = getpwuid(uid);
  return entry && entry->pw_dir ? entry->pw_dir : "";
}

Surroundings root() {
  Surroundings result;
  result.home = "/root";
  return result;
}

void add_once(std::vector<std::string>& to, std::string path) {
  if (std::find(to.begin(), to.end(), path) == to.end()) to.push_back(std::move(path));
}

}  // namespace

Surroundings Surroundings::of_this_process() {
  Surroundings result;
  result.uid = geteuid();
  result.home = from_environment("HOME");
  if (result.home.empty()) result.home = home_of(result.uid);
  result.runtime_directory = from_environment("XDG_RUNTIME_DIR");
  result.data = from_environment("EFS_DATA");
  return result;
}

std::string default_data_directory(const Surroundings& who) {
  return who.uid == 0 ? kRootData : who.home + "/.local/share/efs";
}

std::string canonical_path(const std::string& path) {
  std::error_code error;
  auto absolute = std::filesystem::absolute(path, error);
  if (error) absolute = path;
  auto result = std::filesystem::weakly_canonical(absolute, error);
  if (error) result = absolute.lexically_normal();
  std::string text = result.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

std::string socket_directory(const Surroundings& who) {
  if (who.uid == 0) return kRootSockets;
  if (!who.runtime_directory.empty()) return who.runtime_directory + "/efs";
  std::string uid = std::to_string(who.uid);
  struct stat found {};
  if (stat(("/run/user/" + uid).c_str(), &found) == 0) return "/run/user/" + uid + "/efs";
  return "/tmp/efs-" + uid;
}

std::string socket_path(const std::string& data, const Surroundings& who) {
  std::string canonical = canonical_path(data);
  if (canonical == canonical_path(default_data_directory(who))) return socket_directory(who) + "/peer.sock";
  return socket_directory(who) + "/" + to_hex(blake2b(view(canonical))).substr(0, kNameDigits) + ".sock";
}

std::vector<std::string> socket_candidates(const std::string& data, const Surroundings& who) {
  std::vector<std::string> result;
  const std::string& named = data.empty() ? who.data : data;
  if (named.empty()) {
    add_once(result, socket_path(kRootData, root()));
    add_once(result, socket_path(default_data_directory(who), who));
    return result;
  }
  add_once(result, socket_path(named, root()));
  struct stat found {};
  if (stat(named.c_str(), &found) == 0 && found.st_uid != 0 && found.st_uid != who.uid) {
    Surroundings owner;
    owner.uid = found.st_uid;
    owner.home = home_of(found.st_uid);
    add_once(result, socket_path(named, owner));
  }
  add_once(result, socket_path(named, who));
  return result;
}

Result<std::string> find_socket(const std::string& socket, const std::string& data, const Surroundings& who) {
  struct stat found {};
  if (!socket.empty()) {
    if (stat(socket.c_str(), &found) == 0) return socket;
    return fail(Code::unreachable,
                "no peer listens at " + socket + ": there is no such socket; start it with 'efs-peer run'");
  }
  std::string looked;
  for (const auto& candidate : socket_candidates(data, who)) {
    // /tmp is everybody's: only what the caller made itself is trusted there.
    if (stat(candidate.c_str(), &found) == 0 && !(candidate.starts_with("/tmp/") && found.st_uid != who.uid))
      return candidate;
    looked += (looked.empty() ? "" : ", ") + candidate;
  }
  const std::string& named = data.empty() ? who.data : data;
  std::string of = named.empty() ? "on this machine" : "on " + named;
  std::string option = named.empty() ? "" : " --data " + named;
  return fail(Code::unreachable, "no peer runs " + of + " (looked for " + looked +
                                     "); start it with 'efs-peer run" + option +
                                     "', or name its directory with --data DIR");
}

}  // namespace efs
