// A peer's volumes over a simulated disk, restarted at will.
#pragma once

#include <boost/test/unit_test.hpp>
#include <map>
#include <mutex>

#include "peer/runtime/simulated.h"
#include "peer/volume/checkpointer.h"
#include "peer/volume/local_client.h"
#include "peer/volume/volume_set.h"
#include "test/unit/manual_clock.h"
#include "test/why.h"

namespace efs {
inline std::ostream& boost_test_print_type(std::ostream& out, Code code) {
  return out << name_of(code);
}
}  // namespace efs

namespace efs::test {

class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}
  void fill(std::span<uint8_t> out) override {
    for (auto& byte : out) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      byte = uint8_t(state_ >> 56);
    }
  }

 private:
  uint64_t state_;
};

class QuietLogger final : public Logger {
 public:
  void write(LogLevel, std::string_view) override {}
  bool enabled(LogLevel) const override { return false; }
};

// The chunk store's contract in memory. It outlives a crash; power_loss() drops what no sync covered.
class MemoryChunks final : public ChunkStore {
 public:
  struct One {
    Bytes bytes;
    bool condemned = false, synced = false, by_log = false;
    Compression form = Compression::none;
  };
  Status put(const ChunkKey& key, const Id& sha, const ChunkContent& what, Durability durability) override {
    const ByteView bytes = what.content;
    BOOST_REQUIRE(sha == sha256(bytes));
    if (auto hook = std::exchange(before_put, {})) hook();
    std::lock_guard lock(mutex);
    if (full && durability != Durability::again) return fail(Code::no_space);
    auto [at, added] = all.try_emplace(key);
    at->second.condemned = false;
    if (added) {
      at->second.bytes = to_bytes(bytes);
      if (what.packed != nullptr) at->second.form = what.packed->form;
      at->second.by_log = durability != Durability::by_sync;
    } else if (durability == Durability::by_sync) {
      at->second.by_log = false;
    }
    return {};
  }
  bool contains(const ChunkKey& key) const override {
    std::lock_guard lock(mutex);
    return all.contains(key);
  }
  Result<uint32_t> length(const ChunkKey& key) const override {
    std::lock_guard lock(mutex);
    if (unreadable == Code::not_found) return fail(unreadable);
    auto found = all.find(key);
    if (found == all.end()) return fail(Code::not_found);
    return uint32_t(found->second.bytes.size());
  }
  Status read(const ChunkKey& key, uint32_t offset, std::span<uint8_t> out, bool cached) const override {
    if (cached && on_disk) return fail(Code::uncached);
    if (auto hook = std::exchange(before_read, {})) hook();
    std::lock_guard lock(mutex);
    if (unreadable != Code::ok) return fail(unreadable);
    auto found = all.find(key);
    if (found == all.end()) return fail(Code::not_found);
    BOOST_REQUIRE(offset + out.size() <= found->second.bytes.size());
    std::copy_n(found->second.bytes.begin() + offset, out.size(), out.begin());
    return {};
  }
  Status sync() override {
    std::lock_guard lock(mutex);
    for (auto& [key, one] : all) one.synced |= !one.by_log;
    return {};
  }
  Status checkpoint_sync() override {
    if (auto hook = std::exchange(before_checkpoint, {})) hook();
    std::lock_guard lock(mutex);
    for (auto& [key, one] : all) one.synced = true;
    return {};
  }
  void condemn(const ChunkKey& key) override {
    std::lock_guard lock(mutex);
    if (auto found = all.find(key); found != all.end()) found->second.condemned = true;
  }
  void reap(std::span<const ChunkKey> keys) override {
    std::lock_guard lock(mutex);
    for (auto& key : keys)
      if (auto found = all.find(key); found != all.end() && found->second.condemned) all.erase(found);
  }
  Result<bool> collect() override { return false; }
  std::vector<ChunkKey> list(uint32_t volume, const std::optional<ChunkId>& after,
                             size_t limit) const override {
    std::lock_guard lock(mutex);
    std::vector<ChunkKey> out;
    auto at = after ? all.upper_bound({volume, *after}) : all.lower_bound({volume, ChunkId{}});
    for (; at != all.end() && at->first.volume == volume && out.size() < limit; ++at)
      out.push_back(at->first);
    return out;
  }
  std::vector<StoreUsage> usage() const override {
    StoreUsage one;
    one.missing = store_missing;
    return {one};
  }
  VolumeStored stored(uint32_t) const override { return {}; }
  uint64_t available_bytes() const override { return full ? 0 : uint64_t(1) << 40; }
  Status add_store(const StoreLocation&) override { return fail(Code::unsupported); }
  Status remove_store(const std::string&) override { return fail(Code::unsupported); }
  std::vector<std::string> check(bool) override { return {}; }

  void power_loss(SeededRandom& random) {
    for (auto at = all.begin(); at != all.end();) {
      at->second.condemned = false;
      at = !at->second.synced && random.below(2) ? all.erase(at) : std::next(at);
    }
  }
  mutable std::mutex mutex;
  std::map<ChunkKey, One> all;
  bool full = false;
  bool on_disk = false;  // no bytes are in memory
  bool store_missing = false;
  Code unreadable = Code::ok;                 // what a read says
  std::function<void()> before_put;           // run once, with no lock
  std::function<void()> before_checkpoint;    // likewise
  mutable std::function<void()> before_read;  // run once, with no lock
};

inline Credentials user(uint32_t uid) {
  Credentials who;
  who.uid = who.gid = uid;
  who.groups_known = true;
  return who;
}

inline Create new_file(const std::string& name, bool open = false) {
  Create create;
  create.parent = kRootInode;
  create.name = name;
  create.mode = 0100644;
  create.open = open;
  return create;
}

struct TestPeer {
  explicit TestPeer(uint64_t seed = 1)
      : random(seed), disk(make_simulated_disk(seed)), environments(make_memory_environments()) {
    id[0] = 1;
    start();
    BOOST_REQUIRE(set->create(id, 3, {0777, 0, 0}));
    attach();
  }
  ~TestPeer() {
    client.reset();
    replica.reset();
    checkpointer.reset();
    set.reset();
  }
  void start() {
    VolumeSetOptions options;
    options.log_directory = "/data/log";
    options.log.file_bytes = 4 << 20;
    options.reserved_bytes = reserved_bytes;
    auto opened = VolumeSet::open({clock, random, disk->files(), logger, chunks, *environments}, options);
    BOOST_REQUIRE_MESSAGE(opened, test::why(opened));
    set = std::move(*opened);
    checkpointer = std::make_unique<Checkpointer>(*set, clock, logger);
  }
  void attach() {
    for (auto& [volume, error] : set->failures()) BOOST_FAIL(to_text(error));
    replica = set->find(id);
    BOOST_REQUIRE(replica);
    client = std::make_unique<LocalVolume>(replica);
  }
  void stop() {
    client.reset();
    replica.reset();
    checkpointer.reset();
    set.reset();
  }
  void kill() {
    stop();
    disk->process_died();
    start();
    attach();
  }
  void power_loss() {
    stop();
    disk->power_loss();
    chunks.power_loss(random);
    start();
    attach();
  }
  void restart_cleanly() {
    client.reset();
    replica.reset();
    BOOST_REQUIRE(set->close());
    stop();
    disk->process_died();
    start();
    attach();
  }
  VolumeAnswer call(RequestBody body, Payload payload = {}, Credentials who = user(0)) {
    VolumeAnswer out;
    int answers = 0;
    client->call(who, std::move(body), std::move(payload), {}, [&](VolumeAnswer answer) {
      out = std::move(answer);
      ++answers;
    });
    BOOST_REQUIRE_EQUAL(answers, 1);
    return out;
  }
  VolumeAnswer as(const SessionId& session, uint64_t sequence, RequestBody body, Payload payload = {}) {
    Request request;
    request.session = session;
    request.sequence = sequence;
    request.acknowledged = 1;
    request.who = user(0);
    request.body = std::move(body);
    VolumeAnswer out;
    replica->execute(request, std::move(payload), [&](VolumeAnswer answer) { out = std::move(answer); });
    return out;
  }
  InodeNumber make(const std::string& name, bool open = false) {
    auto reply = call(new_file(name, open)).reply;
    BOOST_REQUIRE_EQUAL(int(reply.code), 0);
    return reply.attributes.inode;
  }
  Reply write(InodeNumber inode, uint64_t offset, const std::string& bytes, bool durable = false) {
    Write write;
    write.inode = inode;
    write.offset = offset;
    write.durable = durable;
    write.crc = crc32c(view(bytes));
    return call(write, to_bytes(view(bytes))).reply;
  }
  std::string read(InodeNumber inode, uint64_t offset = 0, uint32_t length = kMaxWrite) {
    auto answer = call(Read{inode, offset, length});
    BOOST_REQUIRE_EQUAL(int(answer.reply.code), 0);
    return std::string(text(answer.payload));
  }
  Code lookup(const std::string& name) { return call(Lookup{kRootInode, name}).reply.code; }
  void pass(int64_t ns) {
    for (; ns > 10 * kSecond; ns -= 10 * kSecond) stand_still(10 * kSecond);
    stand_still(ns);
  }
  // The process does not run meanwhile.
  void stand_still(int64_t ns) {
    clock.now += ns;
    checkpointer->tick();
  }

  VolumeId id{};
  uint64_t reserved_bytes = 0;  // from the next start on
  ManualClock clock;
  SeededRandom random;
  QuietLogger logger;
  MemoryChunks chunks;
  std::unique_ptr<SimulatedDisk> disk;
  std::unique_ptr<VolumeEnvironments> environments;
  std::unique_ptr<VolumeSet> set;
  std::unique_ptr<Checkpointer> checkpointer;
  std::shared_ptr<SoleReplica> replica;
  std::unique_ptr<LocalVolume> client;
};

}  // namespace efs::test
