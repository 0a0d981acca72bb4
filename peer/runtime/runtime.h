// Everything that is not deterministic, in one bundle: what a peer is constructed with.
// References only: the owner (RealRuntime, or a host of the Simulator) outlives whoever holds one.
#pragma once

#include "peer/runtime/clock.h"
#include "peer/runtime/file.h"
#include "peer/runtime/logger.h"
#include "peer/runtime/loop.h"
#include "peer/runtime/stream.h"

namespace efs {

struct Runtime {
  Loop& loop;
  Random& random;  // loop's thread; the real one is thread-safe
  Network& network;
  FileSystem& files;
  Logger& log;
};

}  // namespace efs
