#include "peer/service_unit.h"

#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "peer/control/socket_path.h"
#include "peer/net/local.h"
#include "peer/service_unit_text.h"

extern char** environ;

namespace efs {

namespace {

constexpr const char* kPackagedUnit = "/lib/systemd/system/efs-peer.service";
constexpr const char* kOwnUnit = "/etc/systemd/system/efs-peer.service";
constexpr int kWaitSeconds = 60;
constexpr int kGivesUpAfter = 20;  // looks, 100 ms apart, that found no process: it ends as soon as it starts

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

bool is_mounted(const std::string& directory) {
  struct stat here {
  }, above{};
  return stat(directory.c_str(), &here) == 0 && stat((directory + "/..").c_str(), &above) == 0 &&
         here.st_dev != above.st_dev;
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
  EFS_TRY(run({"systemctl", "restart", "efs-peer"}));
  const std::string socket =
      options.socket.empty() ? socket_path(options.data, Surroundings::of_this_process()) : options.socket;
  int not_running = 0;
  for (int tenth = 0; tenth < kWaitSeconds * 10 && not_running < kGivesUpAfter; ++tenth) {
    if (LocalClient::connect(socket).has_value() && (options.mount.empty() || is_mounted(options.mount)))
      return {};
    if (!run({"systemctl", "is-active", "--quiet", "efs-peer"})) ++not_running;
    usleep(100'000);
  }
  (void)run({"journalctl", "-u", "efs-peer", "-n", "3", "-o", "cat", "--no-pager", "-q"});
  if (not_running >= kGivesUpAfter)
    return fail(Code::io, "the service ends again as soon as it starts: see 'journalctl -u efs-peer'");
  return fail(
      Code::timed_out,
      fmt::format("the service did not serve within {} seconds: see 'journalctl -u efs-peer'", kWaitSeconds));
}

}  // namespace efs
