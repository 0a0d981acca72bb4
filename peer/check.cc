#include "peer/check.h"

#include "peer/environments.h"
#include "peer/membership/register_store.h"
#include "peer/volume/check.h"
#include "peer/volume/volume_set.h"

namespace efs {

namespace {

struct Report {
  const std::function<void(const std::string&)>& say;
  size_t problems = 0;
  void problem(const std::string& what) {
    ++problems;
    say("problem: " + what);
  }
};

// Only what is worth a line here; a check prints its own findings.
class QuietLogger : public Logger {
 public:
  explicit QuietLogger(Report& report) : report_(report) {}
  void write(LogLevel level, std::string_view message) override {
    if (level >= LogLevel::warning) report_.say("note: " + std::string(message));
  }
  bool enabled(LogLevel level) const override { return level >= LogLevel::warning; }

 private:
  Report& report_;
};

// This peer's id, for the markers of its stores.
std::optional<PeerId> check_register(DataDirectory& data, Report& report) {
  auto problem = [&](const std::string& what) {
    report.problem(what);
    return std::nullopt;
  };
  auto rows = lmdb_environments(data.path())("register", RegisterStore::options());
  if (!rows) return problem("the register: " + to_text(rows.error()));
  auto store = RegisterStore::open(*rows);
  if (!store) return problem(to_text(store.error()));
  // As if it came from a stranger: every signature too.
  RegisterState state;
  auto entries = (*store)->read(0, SIZE_MAX, SIZE_MAX);
  if (!entries) return problem("the register: " + to_text(entries.error()));
  for (const Bytes& entry : *entries) {
    if (Status applied = state.apply(entry); !applied) {
      return problem(fmt::format("entry {} of the register: {}", state.version(), to_text(applied.error())));
    }
  }
  report.say(fmt::format("register: {} entries, their chain and signatures are right", state.version()));
  auto key = data.peer_key(real_random());
  if (!key) return problem(to_text(key.error()));
  const PeerFacts* self = state.peer_by_key(key->public_key());
  if (self == nullptr) return problem("this peer is no member of the mesh any more");
  return self->id;
}

// After the log was replayed and closed: the rows alone say what the volume is.
Status check_one(VolumeEnvironments& environments, const VolumeId& id, const ChunkStore& chunks, bool repair,
                 Report& report) {
  EFS_ASSIGN(auto environment, environments.open(id));
  MetaStore rows(std::move(environment));
  auto transaction = rows.begin();
  EFS_ASSIGN(const VolumeCheck found,
             check_volume(*transaction, &chunks, repair ? transaction.get() : nullptr));
  for (const auto& line : found.problems) report.problem(fmt::format("volume {}: {}", short_hex(id), line));
  EFS_ASSIGN(const StateRow state, read_state(*transaction));
  report.say(fmt::format("volume {}: {} files, {} in them, {} stored", short_hex(id), state.usage.files,
                         human_size(state.usage.bytes), human_size(state.usage.stored_bytes)));
  if (!repair || found.repaired == 0) return {};
  transaction->commit(rows.applied_index());
  EFS_TRY(rows.checkpoint());
  report.problems -= found.repaired;
  report.say(fmt::format("volume {}: {} problems were mended", short_hex(id), found.repaired));
  return {};
}

}  // namespace

Result<size_t> check_data(DataDirectory& data, const PeerOptions& options, bool repair,
                          const std::function<void(const std::string&)>& say) {
  Report report{say};
  QuietLogger log(report);
  if (!data.complete())
    return fail(Code::not_found, data.path() + " was never completed: there is nothing to check");
  const auto self = check_register(data, report);
  if (!self) return report.problems;

  EFS_ASSIGN(auto index, lmdb_environments(data.path())("chunk-index", chunk_index_options()));
  EFS_ASSIGN(auto chunks, ChunkStore::open(real_files(), std::move(index), options.stores, false, log,
                                           ChunkOptions{.owner = *self}));
  for (const StoreUsage& store : chunks->usage()) {
    if (store.missing)
      report.problem(fmt::format("the store {} is not there: is its disk mounted?", store.directory));
  }
  for (const auto& line : chunks->check(repair)) report.problem(line);
  for (const StoreUsage& store : chunks->usage()) {
    say(fmt::format("store {}: {} chunks, {}", store.directory, store.chunks, human_size(store.used_bytes)));
  }

  auto environments = make_lmdb_environments(real_files(), data.at("volumes"));
  const VolumeSetParts parts{real_clock(), real_random(), real_files(), log, *chunks, *environments};
  VolumeSetOptions set_options;
  set_options.log_directory = data.at("log");
  auto volumes = VolumeSet::open(parts, set_options);
  if (!volumes) {
    report.problem("the log: " + to_text(volumes.error()));
    return report.problems;
  }
  for (const auto& [id, error] : (*volumes)->failures()) {
    report.problem(fmt::format("volume {}: {}", short_hex(id), to_text(error)));
  }
  std::vector<VolumeId> ids;
  for (const auto& replica : (*volumes)->all()) ids.push_back(replica->id());
  EFS_TRY((*volumes)->close());
  for (const VolumeId& id : ids) EFS_TRY(check_one(*environments, id, *chunks, repair, report));
  say(report.problems == 0 ? "no problem found"
                           : fmt::format("{} problems are left{}", report.problems,
                                         repair ? "" : "; 'efs-peer check --repair' mends what can be"));
  return report.problems;
}

}  // namespace efs
