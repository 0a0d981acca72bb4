#include "peer/control/exit_code.h"

namespace efs {

int exit_code_of(Code code) {
  switch (code) {
    case Code::ok:
      return kExitDone;
    case Code::invalid_argument:
      return kExitUsage;
    case Code::not_permitted:
    case Code::access_denied:
    case Code::unauthorized:
    case Code::expired:
      return kExitNotPermitted;
    case Code::unreachable:
    case Code::timed_out:
    case Code::closed:
      return kExitUnreachable;
    case Code::not_found:
      return kExitNotFound;
    default:
      return kExitFailed;
  }
}

}  // namespace efs
