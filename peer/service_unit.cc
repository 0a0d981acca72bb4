#include "peer/service_unit.h"

#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "peer/service_unit_text.h"

extern char** environ;

namespace efs {

namespace {

constexpr const char* kPackagedUnit = "/lib/systemd/system/efs-peer.service";
constexpr const char* kOwnUnit = "/etc/systemd/system/efs-peer.service";

Status run(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  if (int error = posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ);
      error != 0) {
    return fail(Code::unsupported,
                fmt::format("cannot run {}: {}; without systemd, start 'efs-peer run' by other means",
                            words[0], std::strerror(error)));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  std::string line;
  for (const auto& word : words) line += word.c_str() + std::string(" ");
  return fail(Code::io, fmt::format("'{}' failed; 'journalctl -u efs-peer' tells why",
                                    line.substr(0, line.size() - 1)));
}

// The packaged unit, for another program or data directory.
std::string unit_text(const PeerOptions& options, const std::string& program) {
  std::string text = kPackagedUnitText;
  auto replace = [&text](std::string_view what, const std::string& with) {
    const size_t at = text.find(what);
    if (at != std::string::npos) text.replace(at, what.size(), with);
  };
  replace("ConditionPathExists=/var/lib/efs/", "ConditionPathExists=" + options.data + "/");
  replace("/usr/bin/efs-peer run --config /etc/efs/efs.yaml", program + " run --data " + options.data);
  return "# Written by efs-peer --service.\n" + text;
}

bool same_file(const char* path, const std::string& other) {
  struct stat a {
  }, b{};
  return stat(path, &a) == 0 && stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace

Status start_service(const PeerOptions& options) {
  if (geteuid() != 0) return fail(Code::not_permitted, "only root sets up a service; run it as root");
  std::string program(4096, '\0');
  const ssize_t length = readlink("/proc/self/exe", program.data(), program.size());
  program.resize(length > 0 ? size_t(length) : 0);
  const bool packaged = options.data == "/var/lib/efs" && access(kPackagedUnit, F_OK) == 0 &&
                        same_file("/usr/bin/efs-peer", program);
  if (!packaged) EFS_TRY(real_files().replace_file(kOwnUnit, view(unit_text(options, program))));
  EFS_TRY(run({"systemctl", "daemon-reload"}));
  EFS_TRY(run({"systemctl", "enable", "--quiet", "efs-peer"}));
  // Returns when the peer said that it serves and is mounted (Type=notify).
  if (run({"systemctl", "restart", "efs-peer"})) return {};
  (void)run({"journalctl", "-u", "efs-peer", "-n", "3", "-o", "cat", "--no-pager", "-q"});
  return fail(Code::io, "the service does not start: see above, and 'journalctl -u efs-peer'");
}

}  // namespace efs
