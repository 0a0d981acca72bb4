// Which of the kernel's congestion controls (tcp(7), TCP_CONGESTION) a connection to another peer has.
//
// The system's own, except that BBR is for peers that are far. It sends each burst by a timer, at the rate
// that it has measured, and probes the path by sending nearly nothing for a while: right across the internet;
// to a neighbour each timer costs more than the packets (docs/decisions/0010). A socket that has been BBR's
// keeps the timers, so each begins without. Any thread; what the kernel refuses stays as it was.
#pragma once

#include <cstdint>

namespace efs {

inline constexpr uint32_t kFarUs = 5000;  // there and back

void begin_unpaced(int fd);  // a TCP socket, before connect(2) or listen(2): who is accepted inherits it
void pace_if_far(int fd, uint32_t far_us = kFarUs);  // connected

}  // namespace efs
