// The disk of a simulated host: names and contents with the promises of file.h, and the faults of
// simulated.h.
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "peer/runtime/simulated.h"
#include "peer/runtime/simulated_names.h"
#include "peer/runtime/simulated_random.h"

namespace efs {

namespace {

constexpr uint64_t kDefaultCapacity = uint64_t(1) << 40;
constexpr uint64_t kFileLimit = uint64_t(1) << 62;
constexpr uint64_t kUnsyncedBytes = 32 << 20;  // the kernel writes back on its own, so that this has a bound

// What files, locks and the filesystem share; files that outlive the disk keep it.
struct State {
  explicit State(uint64_t seed) : random(seed) {}

  SimulatedRandom random;
  SimulatedNames names;
  std::map<std::string, uint64_t> locks;  // path -> who holds it
  uint64_t last_lock = 0;
  uint64_t capacity = kDefaultCapacity;
  uint64_t epoch = 0;  // of the process that uses it
  int64_t calls = 0;
  int64_t calls_left = -1;  // 0: the disk has failed; negative: it will not
  bool last_write = false;  // the first write after that may still happen in part

  bool failed() const { return calls_left == 0; }
  Status alive() const {
    if (failed()) return fail(Code::io, "the simulated disk has failed");
    return {};
  }
  // At the start of each call that changes something.
  Status change() {
    EFS_TRY(alive());
    ++calls;
    if (calls_left > 0 && --calls_left == 0) last_write = true;
    return {};
  }
  void next_process() {
    ++epoch;
    locks.clear();
    calls_left = -1;
    last_write = false;
  }
  Status make_room(uint64_t pages) {
    auto full = [&] { return (names.used_pages() + pages) * SimulatedContent::kPageBytes > capacity; };
    if (pages == 0 || !full()) return {};
    names.sync_all();  // what was removed is free once that is committed, and a full disk commits
    if (full()) return fail(Code::no_space, "the simulated disk is full");
    return {};
  }
};

class SimulatedFile final : public File {
 public:
  SimulatedFile(std::shared_ptr<State> state, SimulatedNode::Ref node, bool writable)
      : state_(std::move(state)), node_(std::move(node)), epoch_(state_->epoch), writable_(writable) {}

  Result<size_t> read(uint64_t offset, std::span<uint8_t> out) const override {
    EFS_TRY(usable());
    return node_->content.read(offset, out);
  }

  Status write(uint64_t offset, ByteView bytes) override {
    return write_vector(offset, std::span<const ByteView>(&bytes, 1));
  }

  Status write_vector(uint64_t offset, std::span<const ByteView> pieces) override {
    uint64_t length = 0;
    for (ByteView piece : pieces) length += piece.size();
    if (auto ready = begin(offset, length); !ready) {
      if (state_->failed() && writable_ && epoch_ == state_->epoch && length <= kFileLimit)
        write_part(offset, pieces);
      return ready;
    }
    EFS_TRY(state_->make_room(node_->content.missing_pages(offset, length)));
    for (ByteView piece : pieces) {
      put(offset, piece);
      offset += piece.size();
    }
    if (node_->content.unsynced_bytes() > kUnsyncedBytes) node_->content.sync();
    return {};
  }

  Status sync() override {
    EFS_TRY(begin(0, 0));
    node_->content.sync();
    return {};
  }

  Status truncate(uint64_t size) override {
    EFS_TRY(begin(size, 0));
    counted([&] { node_->content.truncate(size); });
    return {};
  }

  Status allocate(uint64_t offset, uint64_t length) override {
    EFS_TRY(begin(offset, length));
    if (length == 0) return fail(Code::invalid_argument);
    EFS_TRY(state_->make_room(node_->content.missing_pages(offset, length)));
    counted([&] { node_->content.allocate(offset, length); });
    return {};
  }

  Status punch(uint64_t offset, uint64_t length) override {
    EFS_TRY(begin(offset, length));
    if (length == 0) return fail(Code::invalid_argument);
    counted([&] { node_->content.punch(offset, length); });
    return {};
  }

  Result<uint64_t> size() const override {
    EFS_TRY(usable());
    return node_->content.size();
  }

  Result<uint64_t> allocated_bytes() const override {
    EFS_TRY(usable());
    return node_->content.pages() * SimulatedContent::kPageBytes;
  }

 private:
  Status usable() const {
    if (epoch_ != state_->epoch) return fail(Code::io, "the process that opened this file has died");
    return state_->alive();
  }
  Status begin(uint64_t offset, uint64_t length) {
    EFS_TRY(usable());
    if (!writable_) return fail(Code::bad_handle, "the file is open for reading only");
    if (offset > kFileLimit || length > kFileLimit - offset) return fail(Code::too_large);
    return state_->change();
  }
  template <typename Action>
  void counted(Action action) {
    uint64_t before = node_->content.pages();
    action();
    node_->used_pages += node_->content.pages() - before;
  }
  void write_part(uint64_t offset, std::span<const ByteView> pieces) {
    if (pieces.empty() || !std::exchange(state_->last_write, false)) return;
    ByteView part = pieces[0].first(size_t(state_->random.below(pieces[0].size() + 1)));
    if (state_->make_room(node_->content.missing_pages(offset, part.size()))) put(offset, part);
  }
  void put(uint64_t offset, ByteView bytes) {
    counted([&] { node_->content.write(offset, bytes); });
  }

  const std::shared_ptr<State> state_;
  const SimulatedNode::Ref node_;
  const uint64_t epoch_;
  const bool writable_;
};

class SimulatedFiles final : public FileSystem {
 public:
  explicit SimulatedFiles(std::shared_ptr<State> state) : state_(std::move(state)) {}

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    EFS_TRY(state_->alive());
    EFS_ASSIGN(auto place, state_->names.find(path));
    if (!place.node) {
      if (mode == OpenMode::read || mode == OpenMode::read_write) return absent("open", path);
      EFS_TRY(state_->change());
      place.node = state_->names.create(place);
    } else if (mode == OpenMode::create_new) {
      return fail(Code::exists, fmt::format("create {}: it exists already", path));
    }
    if (place.node->directory) return fail(Code::is_directory, fmt::format("open {}: a directory", path));
    return std::make_unique<SimulatedFile>(state_, place.node, mode != OpenMode::read);
  }

  Status remove(const std::string& path) override {
    EFS_TRY(state_->alive());
    EFS_ASSIGN(auto place, state_->names.find(path));
    if (!place.node) return absent("remove", path);
    EFS_TRY(state_->change());
    Status removed = state_->names.remove(place);
    return removed;
  }

  Status rename(const std::string& from, const std::string& to) override {
    EFS_TRY(state_->alive());
    EFS_ASSIGN(auto source, state_->names.find(from));
    EFS_ASSIGN(auto target, state_->names.find(to));
    if (!source.node) return absent("rename", from);
    if ((to + "/").starts_with(from + "/") && to != from) {
      return fail(Code::invalid_argument, fmt::format("rename {}: {} is below it", from, to));
    }
    EFS_TRY(state_->change());
    Status renamed = state_->names.rename(source, target);
    return renamed;
  }

  Status make_directories(const std::string& path, unsigned) override {
    EFS_TRY(state_->alive());
    auto place = state_->names.find(path);
    if (place && place->node && place->node->directory) return {};
    EFS_TRY(state_->change());
    Status made = state_->names.make_directories(path);
    return made;
  }

  Result<std::vector<std::string>> list(const std::string& path) override {
    EFS_ASSIGN(auto node, directory("list", path));
    std::vector<std::string> names;
    for (const auto& [name, child] : node->entries) names.push_back(name);
    return names;
  }

  bool exists(const std::string& path) override {
    if (state_->failed()) return true;
    auto place = state_->names.find(path);
    return place && place->node;
  }

  Status sync_directory(const std::string& path) override {
    EFS_ASSIGN(auto node, directory("sync directory", path));
    EFS_TRY(state_->change());
    state_->names.sync_directory(*node);
    return {};
  }

  Result<DiskSpace> space(const std::string& path) override {
    EFS_TRY(state_->alive());
    EFS_ASSIGN(auto place, state_->names.find(path));
    if (!place.node) return absent("statvfs", path);
    uint64_t used = state_->names.used_pages() * SimulatedContent::kPageBytes;
    return DiskSpace{.total_bytes = state_->capacity,
                     .free_bytes = state_->capacity - std::min(used, state_->capacity)};
  }

  Result<std::shared_ptr<void>> lock(const std::string& path) override {
    EFS_TRY(open(path, OpenMode::create));
    if (state_->locks.count(path)) return fail(Code::busy, path + " is locked by another process");
    uint64_t id = ++state_->last_lock;
    state_->locks[path] = id;
    // Released unless its process died before, and perhaps another holds it now.
    return std::shared_ptr<void>(state_.get(), [state = state_, path, id](void*) {
      auto held = state->locks.find(path);
      if (held != state->locks.end() && held->second == id) state->locks.erase(held);
    });
  }

 private:
  static tl::unexpected<Error> absent(std::string_view call, const std::string& path) {
    return fail(Code::not_found, fmt::format("{} {}: no such file or directory", call, path));
  }

  Result<SimulatedNode::Ref> directory(std::string_view call, const std::string& path) {
    EFS_TRY(state_->alive());
    EFS_ASSIGN(auto place, state_->names.find(path));
    if (!place.node) return absent(call, path);
    if (!place.node->directory)
      return fail(Code::not_directory, fmt::format("{} {}: not a directory", call, path));
    return place.node;
  }

  const std::shared_ptr<State> state_;
};

class Disk final : public SimulatedDisk {
 public:
  explicit Disk(uint64_t seed) : state_(std::make_shared<State>(seed)), files_(state_) {}

  FileSystem& files() override { return files_; }
  void power_loss() override {
    state_->next_process();
    state_->names.power_loss(state_->random);
  }
  void process_died() override { state_->next_process(); }
  void set_capacity(uint64_t bytes) override { state_->capacity = bytes; }
  void fail_after(int64_t calls) override {
    state_->calls_left = calls;
    state_->last_write = calls == 0;
  }
  int64_t calls() const override { return state_->calls; }
  void flip_bit(const std::string& path, uint64_t bit) override {
    auto place = state_->names.find(path);
    assert(place && place->node && !place->node->directory);
    SimulatedNode& node = *place->node;
    uint64_t before = node.content.pages();
    node.content.flip_bit(bit);
    node.used_pages += node.content.pages() - before;
  }

 private:
  const std::shared_ptr<State> state_;
  SimulatedFiles files_;
};

}  // namespace

std::unique_ptr<SimulatedDisk> make_simulated_disk(uint64_t seed) {
  return std::make_unique<Disk>(seed);
}

}  // namespace efs
