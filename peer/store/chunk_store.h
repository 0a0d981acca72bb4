// Chunks on this peer's disks: immutable bytes under (volume, chunk id).
//
// Append-only segment files in one or more stores (directories, each with a marker file, so that an
// unmounted disk is noticed and never filled), and an index that is rebuilt from the segments when lost.
// A record is header {format, volume, chunk, length, stored form, SHA-256, CRC32C}, a CRC32C for every
// 4 KiB of the bytes, and the bytes; packed ones (packing.h) have a CRC32C for each piece as it is stored.
// Reads check the blocks or pieces they touch: Code::corrupt, never bad data. Names, lengths and the SHA-256
// are those of the content, however it is stored: equal content is stored once.
//
// put() returns when the bytes are in the kernel. They survive a kill; after power loss only what sync()
// covered, or what the caller puts again from its log. Erased space comes back in the background: holes of
// at least 64 KiB in sealed segments, segments under 30% live rewritten. Nothing that was not erased is
// ever lost to that, at any step of it.
//
// Erasing is in two steps, so that a chunk that is stored again meanwhile stays: condemn() when the
// operation that freed it is applied, reap() when that operation is checkpointed.
//
// Threads: all of it from any thread; hashing and packing are the caller's. Limits: a chunk is 1..1 MiB.
#pragma once

#include <memory>
#include <vector>

#include "peer/base/hash.h"
#include "peer/runtime/file.h"
#include "peer/runtime/logger.h"
#include "peer/store/meta_store.h"
#include "peer/store/packing.h"

namespace efs {

inline constexpr size_t kMaxChunkBytes = 1 << 20;

using ChunkId = Id;
struct ChunkKey {
  uint32_t volume = 0;
  ChunkId chunk{};
  auto operator<=>(const ChunkKey&) const = default;
};

struct StoreLocation {
  std::string directory;
  uint64_t limit_bytes = 0;  // 0: 80% of what is free at first; 5% (kReservedPart) always stays free
};

struct StoreUsage {
  std::string directory;
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t chunks = 0;
  bool missing = false;  // its marker is not there: not mounted?
};

// What a volume's chunks take in all stores together.
struct VolumeStored {
  uint64_t chunks = 0;
  uint64_t content_bytes = 0;  // their lengths
  uint64_t stored_bytes = 0;   // on the disks, with headers and checksums
  auto operator<=>(const VolumeStored&) const = default;
};

// What is put: the content, and how it is stored when packing helped. Both outlive the call.
struct ChunkContent {
  ChunkContent() = default;
  ChunkContent(ByteView bytes) : content(bytes) {}
  ChunkContent(const Bytes& bytes) : content(bytes) {}
  ChunkContent(ByteView bytes, const PackedBytes& as_packed)
      : content(bytes), packed(as_packed.form == Compression::none ? nullptr : &as_packed) {}
  ByteView content;
  const PackedBytes* packed = nullptr;
};

enum class Durability {
  by_sync,  // the next sync() must cover it
  by_log,   // the caller's log has the bytes: checkpoint_sync() covers it
  again,    // likewise, from its log: it was taken before, so there is room for it while the disk has some
};

struct ChunkOptions {
  Id owner{};  // this peer's id, in the markers: another peer's disk is not taken for ours
  uint64_t segment_bytes = 256 << 20;
};

// The tables that open() expects in `index`.
MetaOptions chunk_index_options();

class ChunkStore {
 public:
  // Makes the markers on first use (`create`); a store whose marker is missing or another's is opened as
  // missing, reported, and left alone; so is one that the index knows and that has lost its marker, with
  // `create` too. Recovers what was put since the last checkpoint. Code::version, Code::io, Code::corrupt
  // (the index: remove it, it is rebuilt). Two locations must not be one directory.
  static Result<std::unique_ptr<ChunkStore>> open(FileSystem& files, std::shared_ptr<MetaEnvironment> index,
                                                  const std::vector<StoreLocation>& stores, bool create,
                                                  Logger& log, const ChunkOptions& options = {});
  virtual ~ChunkStore() = default;

  // Does nothing for a chunk that is there, but to make it stay and to heed `durability`; one that a read
  // found damaged since the start is stored anew. Code::no_space when no store has room.
  virtual Status put(const ChunkKey& key, const Id& sha256, const ChunkContent& bytes,
                     Durability durability) = 0;
  virtual bool contains(const ChunkKey& key) const = 0;
  virtual Result<uint32_t> length(const ChunkKey& key) const = 0;
  // offset + out.size() <= length. Code::not_found, Code::corrupt, Code::io. With `cached`: Code::uncached
  // instead of waiting for a disk.
  virtual Status read(const ChunkKey& key, uint32_t offset, std::span<uint8_t> out,
                      bool cached = false) const = 0;

  virtual Status sync() = 0;             // every put by_sync before this call
  virtual Status checkpoint_sync() = 0;  // every put before this call, and the index

  // What is condemned is forgotten at a restart: whoever replays condemns again, or sweeps with list().
  virtual void condemn(const ChunkKey& key) = 0;
  virtual void reap(std::span<const ChunkKey> keys) = 0;  // those still condemned
  // Once in a while, from a background thread: give space back, a bounded piece of work (one segment) a call.
  // True: that was much for little, as after the delete of large files; there may be more of it at once.
  // A chunk that was erased after a crash lost sight of that comes back as garbage: list() shows it.
  virtual Result<bool> collect() = 0;
  // Keys of a volume in order, from `after` (exclusive), at most `limit`: for sweeps and checks.
  virtual std::vector<ChunkKey> list(uint32_t volume, const std::optional<ChunkId>& after,
                                     size_t limit) const = 0;

  virtual std::vector<StoreUsage> usage() const = 0;
  virtual VolumeStored stored(uint32_t volume) const = 0;
  // How many bytes a write may still bring before Code::no_space.
  virtual uint64_t available_bytes() const = 0;
  virtual Status add_store(const StoreLocation& location) = 0;
  // Takes nothing new from now on, and is to be left out of the next open(). Code::not_found; Code::busy
  // while it holds chunks.
  virtual Status remove_store(const std::string& directory) = 0;
  // Offline: every record read and verified; problems as text, for efs-peer check. With `repair`, the index
  // is rebuilt and bad records are dropped from it.
  virtual std::vector<std::string> check(bool repair) = 0;
};

}  // namespace efs
