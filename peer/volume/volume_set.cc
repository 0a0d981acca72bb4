#include "peer/volume/volume_set.h"

#include "peer/store/directory.h"

namespace efs {

namespace {

class LmdbEnvironments final : public VolumeEnvironments {
 public:
  LmdbEnvironments(FileSystem& files, std::string directory)
      : files_(files), directory_(std::move(directory)) {}
  Result<std::shared_ptr<MetaEnvironment>> open(const VolumeId& id) override {
    EFS_TRY(make_durable_directory(files_, directory_));
    MetaOptions options;
    options.tables = volume_tables();
    EFS_ASSIGN(auto environment, open_lmdb(directory_ + "/" + to_hex(id), options));
    EFS_TRY(files_.sync_directory(directory_));
    return environment;
  }
  Result<std::vector<VolumeId>> list() override {
    std::vector<VolumeId> out;
    if (!files_.exists(directory_)) return out;
    EFS_ASSIGN(auto names, files_.list(directory_));
    for (const auto& name : names) {
      if (auto id = id_from_hex(name)) out.push_back(*id);
    }
    return out;
  }
  Status remove(const VolumeId& id) override {
    const std::string path = directory_ + "/" + to_hex(id);
    EFS_ASSIGN(auto names, files_.list(path));
    for (const auto& name : names) EFS_TRY(files_.remove(path + "/" + name));
    EFS_TRY(files_.remove(path));
    return files_.sync_directory(directory_);
  }

 private:
  FileSystem& files_;
  const std::string directory_;
};

class MemoryEnvironments final : public VolumeEnvironments {
 public:
  Result<std::shared_ptr<MetaEnvironment>> open(const VolumeId& id) override {
    auto& environment = environments_[id];
    if (!environment) {
      MetaOptions options;
      options.tables = volume_tables();
      environment = make_memory_environment(options);
    }
    return environment;
  }
  Result<std::vector<VolumeId>> list() override {
    std::vector<VolumeId> out;
    for (const auto& [id, environment] : environments_) out.push_back(id);
    return out;
  }
  Status remove(const VolumeId& id) override {
    environments_.erase(id);
    return {};
  }

 private:
  std::map<VolumeId, std::shared_ptr<MetaEnvironment>> environments_;
};

// What the log holds of each group, in order; a lower index supersedes what follows it.
using LogByVolume = std::map<VolumeNumber, std::vector<LoggedOperation>>;
void collect(LogByVolume& all, const Log::Record& record) {
  auto& one = all[record.group];
  while (!one.empty() && one.back().index >= record.index) one.pop_back();
  one.push_back({record.index, to_bytes(record.payload)});
}

}  // namespace

std::unique_ptr<VolumeEnvironments> make_lmdb_environments(FileSystem& files, const std::string& directory) {
  return std::make_unique<LmdbEnvironments>(files, directory);
}
std::unique_ptr<VolumeEnvironments> make_memory_environments() {
  return std::make_unique<MemoryEnvironments>();
}

Result<std::unique_ptr<VolumeSet>> VolumeSet::open(const VolumeSetParts& parts,
                                                   const VolumeSetOptions& options) {
  std::unique_ptr<VolumeSet> set(new VolumeSet(parts, options));
  EFS_TRY(set->start());
  return set;
}
VolumeSet::~VolumeSet() = default;

ReplicaParts VolumeSet::replica_parts() {
  auto free_bytes = [this] {
    const auto space = parts_.files.space(options_.log_directory);
    return space ? space->free_bytes : UINT64_MAX;
  };
  auto run_apart = [this](const Leases::Then& task) {
    std::function<void(Leases::Then)> run;
    {
      std::shared_lock lock(mutex_);
      run = run_apart_;
    }
    run ? run(task) : task();
  };
  return {parts_.clock, parts_.random,           parts_.logger, parts_.chunks, log_.get(),
          free_bytes,   options_.reserved_bytes, opened_ns_,    run_apart};
}

void VolumeSet::run_apart_by(std::function<void(Leases::Then)> run) {
  std::lock_guard lock(mutex_);
  run_apart_ = std::move(run);
}

Status VolumeSet::start() {
  LogByVolume logged;
  LogOptions log_options = options_.log;
  log_options.random = &parts_.random;
  EFS_ASSIGN(log_, Log::open(parts_.files, options_.log_directory, log_options,
                             [&](const Log::Record& record) -> Status {
                               collect(logged, record);
                               return {};
                             }));
  EFS_ASSIGN(auto ids, parts_.environments.list());
  for (const VolumeId& id : ids) {
    auto open_one = [&]() -> Result<std::shared_ptr<SoleReplica>> {
      EFS_ASSIGN(auto environment, parts_.environments.open(id));
      auto rows = std::make_unique<MetaStore>(std::move(environment));
      EFS_ASSIGN(auto charter, read_charter(*rows->read()));
      if (!charter) return std::shared_ptr<SoleReplica>();
      if (charter->id != id) return fail(Code::corrupt, "its directory holds another volume's rows");
      auto& records = logged[charter->number];
      EFS_ASSIGN(auto replica, SoleReplica::open(replica_parts(), std::move(rows), std::move(records)));
      return std::shared_ptr<SoleReplica>(std::move(replica));
    };
    auto opened = open_one();
    if (!opened) {
      parts_.logger.error("volume {} cannot be served: {}. Stop the peer and run 'efs-peer check'",
                          to_hex(id), to_text(opened.error()));
      failures_.emplace_back(id, std::move(opened.error()));
    } else if (*opened == nullptr) {
      parts_.logger.info("volume {} was being made when the peer stopped; it is empty and not served",
                         to_hex(id));
    } else {
      volumes_[id] = std::move(*opened);
    }
  }
  for (const auto& [number, records] : logged) {
    if (!find(number)) unclaimed_.push_back(number);
  }
  measure_room();
  return {};
}

void VolumeSet::release_removed(const std::set<VolumeNumber>& there) {
  std::vector<VolumeNumber> removed;
  {
    std::lock_guard lock(mutex_);
    for (const VolumeNumber number : std::exchange(unclaimed_, {}))
      (there.contains(number) ? unclaimed_ : removed).push_back(number);
  }
  for (const VolumeNumber number : removed) log_->release(number, UINT64_MAX);
}

Result<std::shared_ptr<SoleReplica>> VolumeSet::create(const VolumeId& id, VolumeNumber number,
                                                       const RootAttributes& root) {
  if (number >= kMaxVolumes) return fail(Code::invalid_argument, "a volume's number has 20 bits");
  std::unique_lock lock(mutex_);
  for (const auto& [other, volume] : volumes_) {
    if (other == id || volume->number() == number)
      return fail(Code::exists, "volume " + std::to_string(number) + " is here already");
  }
  EFS_ASSIGN(auto environment, parts_.environments.open(id));
  auto rows = std::make_unique<MetaStore>(std::move(environment));
  VolumeCharter charter;
  charter.id = id;
  charter.number = number;
  charter.created_ns = parts_.clock.wall_ns();
  parts_.random.fill(charter.chunk_key);
  EFS_TRY(SoleReplica::format(*rows, charter, root));
  EFS_ASSIGN(auto replica, SoleReplica::open(replica_parts(), std::move(rows), {}));
  auto shared = std::shared_ptr<SoleReplica>(std::move(replica));
  shared->measure_room();
  volumes_[id] = shared;
  return shared;
}

Status VolumeSet::remove(const VolumeId& id) {
  std::shared_ptr<SoleReplica> replica;
  {
    std::unique_lock lock(mutex_);
    auto found = volumes_.find(id);
    if (found == volumes_.end()) return fail(Code::not_found);
    replica = std::move(found->second);
    volumes_.erase(found);
  }
  replica->retire();
  const VolumeNumber number = replica->number();
  // Its rows last: a kill on the way leaves a volume that is found, and removed again.
  constexpr size_t kBatch = 1024;
  std::optional<ChunkId> after;
  for (;;) {
    const auto keys = parts_.chunks.list(number, after, kBatch);
    for (const ChunkKey& key : keys) parts_.chunks.condemn(key);
    parts_.chunks.reap(keys);
    if (keys.size() < kBatch) break;
    after = keys.back().chunk;
  }
  EFS_TRY(parts_.chunks.checkpoint_sync());
  EFS_TRY(parts_.environments.remove(id));
  log_->release(number, UINT64_MAX);
  return {};
}

std::shared_ptr<SoleReplica> VolumeSet::find(const VolumeId& id) const {
  std::shared_lock lock(mutex_);
  auto found = volumes_.find(id);
  return found == volumes_.end() ? nullptr : found->second;
}
std::shared_ptr<SoleReplica> VolumeSet::find(VolumeNumber number) const {
  std::shared_lock lock(mutex_);
  for (const auto& [id, volume] : volumes_) {
    if (volume->number() == number) return volume;
  }
  return nullptr;
}
std::vector<std::shared_ptr<SoleReplica>> VolumeSet::all() const {
  std::shared_lock lock(mutex_);
  std::vector<std::shared_ptr<SoleReplica>> out;
  for (const auto& [id, volume] : volumes_) out.push_back(volume);
  return out;
}
std::vector<std::pair<VolumeId, Error>> VolumeSet::failures() const {
  std::shared_lock lock(mutex_);
  return failures_;
}

Status VolumeSet::sync() {
  const auto volumes = all();
  std::vector<uint64_t> applied;
  for (const auto& volume : volumes) applied.push_back(volume->applied_index());
  EFS_TRY(parts_.chunks.sync());
  EFS_TRY(log_->sync());
  for (size_t i = 0; i < volumes.size(); ++i) volumes[i]->note_durable(applied[i]);
  return {};
}

Status VolumeSet::close() {
  for (const auto& volume : all()) {
    if (volume->failed()) return fail(Code::io, "a volume's disk failed: the next start recovers");
    EFS_TRY(volume->checkpoint());
  }
  EFS_TRY(parts_.chunks.checkpoint_sync());  // what these freed: after a clean start nobody looks for it
  return log_->close_cleanly();
}

void VolumeSet::measure_room() {
  for (const auto& volume : all()) volume->measure_room();
}

}  // namespace efs
