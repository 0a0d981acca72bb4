// The exit codes of every program of efs (docs/commands.md). Pure: any thread.
#pragma once

#include "peer/base/error.h"

namespace efs {

enum ExitCode : int {
  kExitDone = 0,
  kExitFailed = 1,
  kExitUsage = 2,         // the command line was wrong
  kExitNotPermitted = 3,  // mode bits, rights, keys, an ended invite
  kExitUnreachable = 4,   // no peer, no owner, no quorum answers
  kExitNotFound = 5,
};

int exit_code_of(Code code);

}  // namespace efs
