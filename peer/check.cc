#include "peer/check.h"

#include <algorithm>

#include "peer/environments.h"
#include "peer/locator.h"
#include "peer/membership/register_store.h"
#include "peer/volume/check.h"
#include "peer/volume/volume_set.h"
#include "peer/volume_host.h"

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

// What the register says of this peer.
struct Member {
  PeerId id{};  // for the markers of its stores
  std::vector<VolumeId> owned;
};

void check_secrets(DataDirectory& data, Report& report) {
  if (auto secret = data.mesh_secret(); !secret) report.problem(to_text(secret.error()));
  if (auto genesis = data.genesis(); !genesis) report.problem(to_text(genesis.error()));
}

std::optional<Member> check_register(DataDirectory& data, Report& report) {
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
  if (state.version() == 0) return problem(lost_register(data.path()).message);
  report.say(fmt::format("register: {} entries, their chain and signatures are right", state.version()));
  auto key = data.peer_key(real_random());
  if (!key) return problem(to_text(key.error()));
  const PeerFacts* self = state.peer_by_key(key->public_key());
  if (self == nullptr) return problem("this peer is no member of the mesh any more");
  Member member{self->id, {}};
  for (const VolumeFacts* volume : state.volumes()) {
    if (std::find(volume->owners.begin(), volume->owners.end(), self->id) != volume->owners.end())
      member.owned.push_back(volume->id);
  }
  return member;
}

// Tables that are made again when they are lost: the chunk index from the segments, the DHT's records by
// those whose they are.
Status remove_tables(DataDirectory& data, const char* name) {
  EFS_ASSIGN(const auto files, real_files().list(data.at(name)));
  for (const auto& file : files) EFS_TRY(real_files().remove(data.at(name) + "/" + file));
  return real_files().sync_directory(data.at(name));
}

Result<std::unique_ptr<ChunkStore>> open_chunks(DataDirectory& data, const PeerOptions& options,
                                                const PeerId& self, bool repair, Logger& log,
                                                Report& report) {
  auto open = [&]() -> Result<std::unique_ptr<ChunkStore>> {
    EFS_ASSIGN(auto index, lmdb_environments(data.path())("chunk-index", chunk_index_options()));
    return ChunkStore::open(real_files(), std::move(index), options.stores, false, log,
                            ChunkOptions{.owner = self});
  };
  auto chunks = open();
  if (chunks || chunks.error().code != Code::corrupt || !repair) return chunks;
  report.say("note: " + to_text(chunks.error()));
  EFS_TRY(remove_tables(data, "chunk-index"));
  chunks = open();
  if (chunks) report.say("the chunk index was damaged, and is made again from what the stores hold");
  return chunks;
}

Status check_dht(DataDirectory& data, bool repair, Report& report) {
  auto look = [&]() -> Status {
    EFS_ASSIGN(const auto rows, lmdb_environments(data.path())("dht", Locator::options()));
    const auto snapshot = rows->snapshot();
    for (Table table = 0; table < Locator::options().tables.size(); ++table)
      EFS_TRY(snapshot->scan(table, {}, [](std::string_view, std::string_view) { return true; }));
    return {};
  };
  Status looked = look();
  if (looked) return {};
  if (looked.error().code == Code::corrupt && repair) {
    EFS_TRY(remove_tables(data, "dht"));
    report.say("the records of the DHT were damaged and are gone: others bring them again");
    return {};
  }
  report.problem("the records of the DHT: " + to_text(looked.error()));
  return {};
}

// Volumes that were made here and of which there is nothing any more.
Status check_all_are_there(DataDirectory& data, const Member& member, const VolumeSet& volumes,
                           Report& report) {
  EFS_ASSIGN(const auto made, read_volumes_made(real_files(), data.path()));
  for (const VolumeId& id : member.owned) {
    const auto failures = volumes.failures();
    const bool failed =
        std::any_of(failures.begin(), failures.end(), [&](const auto& one) { return one.first == id; });
    if (made.contains(id) && !failed && volumes.find(id) == nullptr)
      report.problem(fmt::format("volume {}: its metadata is not in {}/volumes any more; put it back",
                                 short_hex(id), data.path()));
  }
  return {};
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
  EFS_ASSIGN(const auto charter, read_charter(*transaction));
  report.say(fmt::format("volume {}: {} files, {} in them, {} in chunks, which take {}", short_hex(id),
                         state.usage.files, human_size(state.usage.bytes),
                         human_size(state.usage.stored_bytes),
                         human_size(charter ? chunks.stored(charter->number).stored_bytes : 0)));
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
  check_secrets(data, report);
  const auto member = check_register(data, report);
  if (!member) return report.problems;
  EFS_TRY(check_dht(data, repair, report));

  auto opened = open_chunks(data, options, member->id, repair, log, report);
  if (!opened) {
    report.problem("the chunk stores: " + to_text(opened.error()));
    return report.problems;
  }
  const std::unique_ptr<ChunkStore> chunks = std::move(*opened);
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
  EFS_TRY(check_all_are_there(data, *member, **volumes, report));
  std::vector<VolumeId> ids;
  for (const auto& replica : (*volumes)->all()) ids.push_back(replica->id());
  EFS_TRY((*volumes)->close());
  for (const VolumeId& id : ids) {
    if (Status checked = check_one(*environments, id, *chunks, repair, report); !checked)
      report.problem(fmt::format("volume {}: {}", short_hex(id), to_text(checked.error())));
  }
  say(report.problems == 0 ? "no problem found"
                           : fmt::format("{} problems are left{}", report.problems,
                                         repair ? "" : "; 'efs-peer check --repair' mends what can be"));
  return report.problems;
}

}  // namespace efs
