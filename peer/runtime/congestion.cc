#include "peer/runtime/congestion.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <string_view>

#include "peer/base/descriptor.h"

namespace efs {

namespace {
std::string congestion_control(int fd) {
  char name[16] = {};  // TCP_CA_NAME_MAX of the kernel
  socklen_t length = sizeof name;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) != 0) return {};
  return {name, strnlen(name, sizeof name)};
}

bool set_congestion_control(int fd, std::string_view name) {
  return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), socklen_t(name.size())) == 0;
}
}  // namespace

void begin_unpaced(int fd) {
  if (!congestion_control(fd).starts_with("bbr")) return;
  if (!set_congestion_control(fd, "cubic")) set_congestion_control(fd, "reno");  // which every kernel has
}

void pace_if_far(int fd, uint32_t far_us) {
  tcp_info info{};
  socklen_t length = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 || info.tcpi_rtt < far_us) return;
  const Descriptor fresh(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));  // has the system's
  const std::string own = fresh.valid() ? congestion_control(fresh.get()) : "";
  if (!own.empty() && own != congestion_control(fd)) set_congestion_control(fd, own);
}

}  // namespace efs
