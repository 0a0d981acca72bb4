// A chunk store on real files with small segments, chunks to put into it, and damage to do to it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <random>

#include "fixture.h"
#include "peer/base/descriptor.h"
#include "peer/runtime/real.h"
#include "peer/store/chunk_store.h"

namespace efs::test {

class KeptLogger final : public Logger {
 public:
  void write(LogLevel, std::string_view message) override { last = message; }
  bool enabled(LogLevel level) const override { return level >= LogLevel::error; }
  std::string last;
};

struct Chunk {
  explicit Chunk(unsigned seed, size_t size) : bytes(size) {
    std::mt19937 random(seed);
    for (auto& byte : bytes) byte = uint8_t(random());
    sum = sha256(bytes);
    key = {7, blake2b(sum)};
  }
  Bytes bytes;
  Id sum{};
  ChunkKey key;
};

struct Stores {
  TemporaryDirectory directory;
  KeptLogger log;
  std::shared_ptr<MetaEnvironment> index = make_memory_environment(chunk_index_options());
  ChunkOptions options{{}, 4 << 20};
  std::vector<StoreLocation> locations{{directory / "chunks", 1 << 30}};

  std::unique_ptr<ChunkStore> open(bool create) {
    auto store = ChunkStore::open(real_files(), index, locations, create, log, options);
    BOOST_REQUIRE(store);
    return std::move(*store);
  }
};

inline void put(ChunkStore& store, const Chunk& chunk, Durability durability = Durability::by_log) {
  BOOST_REQUIRE(store.put(chunk.key, chunk.sum, chunk.bytes, durability));
}

inline bool reads(const ChunkStore& store, const Chunk& chunk) {
  Bytes bytes(chunk.bytes.size());
  return store.read(chunk.key, 0, bytes) && bytes == chunk.bytes;
}

inline void damage(const std::string& directory, ByteView what) {
  size_t hits = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    size_t at = bytes.find(text(what));
    if (at == std::string::npos) continue;
    file.seekp(long(at));
    file.put(char(~what[0]));
    ++hits;
  }
  BOOST_REQUIRE(hits > 0);
}

// From the system's cache, as far as it lets itself be told.
inline void forget_bytes(const std::string& directory) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const Descriptor file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    ::fdatasync(file.get());
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
}

inline void erase(ChunkStore& store, const Chunk& chunk) {
  store.condemn(chunk.key);
  store.reap(std::span(&chunk.key, 1));
}

}  // namespace efs::test
