// What this process does to the files below one directory, in order, and disks on which power went on the
// way.
//
// The recorder stands between the program (liblmdb included) and the kernel: power_images defines write(2)
// and its like itself, so every call passes through it. It is off but between start() and stop(). mmap(2) is
// not seen: LMDB writes through none, but its lock file, which means nothing after a restart.
//
// Image: what a disk may hold when power goes after `cut` events. All that a sync had covered is there, and
// of everything since, each write, each change of a size and each name is kept or lost by a coin, for each by
// itself: whole, or in part by pages or sectors. (A write through an O_DSYNC descriptor is synced with its
// return.) That is what a disk may do at worst, and more than journals of filesystems let it.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "peer/base/bytes.h"

namespace efs::test {

struct TraceEvent {
  enum Kind { create, make_directory, remove, rename, write, truncate, allocate, punch, sync, promise } kind;
  uint32_t file = 0;  // of its own, whatever its name; promise: the volume
  std::string path, to;
  uint64_t offset = 0, length = 0;
  Bytes bytes;
  bool durable = false;  // write: with its return
  size_t begun = 0;      // sync: covers the events before this one; promise: the operation
};
using Trace = std::vector<TraceEvent>;

// Files by path relative to the directory; a directory has no bytes.
struct Disk {
  struct Node {
    bool directory = false;
    std::shared_ptr<const Bytes> bytes = std::make_shared<Bytes>();
  };
  std::map<std::string, Node> nodes;
};
Disk read_disk(const std::string& directory);
void write_disk(const Disk& disk, const std::string& directory);

// What is there at the start counts as synced.
void start_recording(const std::string& directory);
Trace stop_recording();
void record_promise(uint32_t volume, uint64_t index);

struct Coins {
  std::mt19937_64& random;
  unsigned keep_percent = 50;
};
// `start`: the disk when the recording began. Without coins: everything is kept.
Disk image(const Disk& start, const Trace& trace, size_t cut, const Coins* coins);

}  // namespace efs::test
