// One volume of this process, mounted: what test/mesh/fuse_local_test.py drives.
//   fuse_local DIR DATA [--volumes]
// Serves until SIGTERM; prints "mounted" when it does, "ended: REASON" at the end. Chunks are kept in memory.
// With --volumes: a second volume at DIR/second.
#include <fmt/format.h>
#include <signal.h>

#include <iostream>
#include <map>
#include <mutex>
#include <set>

#include "peer/runtime/real.h"
#include "peer/volume/checkpointer.h"
#include "peer/volume/local_client.h"
#include "peer/volume/volume_set.h"
#include "vfs/mount.h"

using namespace efs;

namespace {

class MemoryChunks final : public ChunkStore {
 public:
  Status put(const ChunkKey& key, const Id&, const ChunkContent& bytes, Durability) override {
    std::lock_guard lock(mutex_);
    all_.try_emplace(key, to_bytes(bytes.content));
    condemned_.erase(key);
    return {};
  }
  bool contains(const ChunkKey& key) const override {
    std::lock_guard lock(mutex_);
    return all_.contains(key);
  }
  Result<uint32_t> length(const ChunkKey& key) const override {
    std::lock_guard lock(mutex_);
    auto found = all_.find(key);
    if (found == all_.end()) return fail(Code::not_found);
    return uint32_t(found->second.size());
  }
  Status read(const ChunkKey& key, uint32_t offset, std::span<uint8_t> out, bool) const override {
    std::lock_guard lock(mutex_);
    auto found = all_.find(key);
    if (found == all_.end() || offset + out.size() > found->second.size()) return fail(Code::not_found);
    std::copy_n(found->second.begin() + offset, out.size(), out.begin());
    return {};
  }
  Status sync() override { return {}; }
  Status checkpoint_sync() override { return {}; }
  void condemn(const ChunkKey& key) override {
    std::lock_guard lock(mutex_);
    condemned_.insert(key);
  }
  void reap(std::span<const ChunkKey> keys) override {
    std::lock_guard lock(mutex_);
    for (const ChunkKey& key : keys) {
      if (condemned_.erase(key) != 0) all_.erase(key);
    }
  }
  Result<bool> collect() override { return false; }
  std::vector<ChunkKey> list(uint32_t, const std::optional<ChunkId>&, size_t) const override { return {}; }
  std::vector<StoreUsage> usage() const override { return {}; }
  VolumeStored stored(uint32_t) const override { return {}; }
  uint64_t available_bytes() const override { return uint64_t(1) << 36; }
  Status add_store(const StoreLocation&) override { return fail(Code::unsupported); }
  Status remove_store(const std::string&) override { return fail(Code::unsupported); }
  std::vector<std::string> check(bool) override { return {}; }

 private:
  mutable std::mutex mutex_;
  std::map<ChunkKey, Bytes> all_;
  std::set<ChunkKey> condemned_;
};

class LocalVolumes final : public VolumeDirectory {
 public:
  explicit LocalVolumes(VolumeSet& set) {
    for (auto& replica : set.all()) clients_[replica->number()] = std::make_shared<LocalVolume>(replica, 1);
    places_ = std::make_shared<std::vector<VolumePlace>>();
  }
  std::shared_ptr<VolumeClient> client(VolumeNumber number) override {
    auto found = clients_.find(number);
    return found == clients_.end() ? nullptr : found->second;
  }
  Places places() override { return places_; }
  MeshSpace space() override { return {}; }

 private:
  std::map<VolumeNumber, std::shared_ptr<VolumeClient>> clients_;
  Places places_;
};

template <typename T>
T check(Result<T> result) {
  if (result) return std::move(*result);
  std::cerr << to_text(result.error()) << std::endl;
  exit(1);
}

void make_second_volume(VolumeSet& set, SoleReplica& root) {
  VolumeId id{};
  id[0] = 2;
  check(set.create(id, 1, {0755, 0, 0}));
  Request request;
  request.volume = root.id();
  request.body = MakeJunction{{"second"}, Junction{id, 1}};
  root.execute(request, {}, [](VolumeAnswer answer) {
    if (answer.reply.code != Code::ok)
      std::cerr << "no junction: " << name_of(answer.reply.code) << std::endl;
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: fuse_local DIR DATA [--volumes]" << std::endl;
    return 2;
  }
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread
  const std::string data = argv[2];
  auto log = make_stderr_logger(LogLevel::info);
  MemoryChunks chunks;
  FileSystem& files = real_files();
  auto environments = make_lmdb_environments(files, data + "/volumes");
  if (auto made = files.make_directories(data + "/log", 0700); !made) return 1;
  VolumeSetOptions options;
  options.log_directory = data + "/log";
  auto set =
      check(VolumeSet::open({real_clock(), real_random(), files, *log, chunks, *environments}, options));
  VolumeId id{};
  id[0] = 1;
  auto root = check(set->create(id, kRootVolume, {0755, 0, 0}));
  if (argc > 3) make_second_volume(*set, *root);
  Checkpointer checkpointer(*set, real_clock(), *log);
  checkpointer.start();
  int status = 0;
  {
    LocalVolumes volumes(*set);
    MountOptions mount_options;
    mount_options.directory = argv[1];
    auto ended = [](const std::string& reason) {
      std::cout << "ended: " << reason << std::endl;
      kill(getpid(), SIGUSR1);
    };
    auto mount = Mount::start(mount_options, volumes, real_clock(), *log, ended);
    if (mount) {
      std::cout << "mounted" << std::endl;
      int signal = 0;
      sigwait(&signals, &signal);
    } else {
      std::cerr << to_text(mount.error()) << std::endl;
      status = 1;
    }
  }
  checkpointer.stop();
  root.reset();
  if (auto closed = set->close(); !closed) {
    std::cerr << to_text(closed.error()) << std::endl;
    status = 1;
  }
  return status;
}
