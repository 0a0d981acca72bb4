// Joins fragmented files in the background, for all volumes of a peer: when, and how much at a time.
//
// A thread of its own, which sleeps without a timeout while nothing is due: reading what is to be joined may
// take a disk's time, and must not delay checkpoints. Under load it does little (kBusyRound every
// kBusyPause), so that it neither takes a disk away nor waits for ever.
#pragma once

#include <condition_variable>
#include <thread>

#include "peer/volume/volume_set.h"

namespace efs {

inline constexpr int64_t kCompactPause = 100 * kMillisecond;  // between rounds
inline constexpr uint64_t kCompactRound = 4 << 20;            // bytes read and written in one
inline constexpr int64_t kBusyPause = 250 * kMillisecond;
inline constexpr uint64_t kBusyRound = 1 << 20;
inline constexpr uint64_t kBusyRate = 300;  // requests a second, of all volumes

class Compactor {
 public:
  Compactor(VolumeSet& volumes, const Clock& clock) : volumes_(volumes), clock_(clock) {}
  ~Compactor() { stop(); }

  void start();
  void stop();           // waits for the round that runs
  void wake_when_due();  // called every now and then; costs nothing when nothing is
  // One round of what is due. Not while the thread runs.
  void round();

 private:
  void run();
  bool due() const;
  void measure();  // how busy the volumes are

  VolumeSet& volumes_;
  const Clock& clock_;
  uint64_t requests_ = 0;
  int64_t measured_ns_ = 0, last_round_ns_ = 0;
  bool busy_ = false;
  size_t first_ = 0;  // the volume that is asked first

  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false, stopping_ = false;  // mutex_
  std::thread thread_;
};

}  // namespace efs
