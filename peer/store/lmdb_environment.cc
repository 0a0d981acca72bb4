// Rows in LMDB (http://www.lmdb.tech/doc/), each value with a format byte in front and a CRC32C behind
// (docs/on-disk-format.md). Fully synced: a commit is durable when it returns, and a power loss leaves the
// last one that did. Read transactions are pooled: renewing one is a store to its slot, no system call.
#include <fcntl.h>
#include <fmt/format.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "peer/base/descriptor.h"
#include "peer/base/hash.h"
#include "peer/store/meta_store.h"

namespace efs {
namespace {
#ifdef __SANITIZE_THREAD__  // whose shadow leaves little for us
constexpr uint64_t kAddressSpace = uint64_t(1) << 33;
#else
constexpr uint64_t kAddressSpace = UINT64_MAX;
#endif

constexpr uint32_t kEnvironmentFormat = 1;
constexpr uint8_t kRowFormat = 1;
constexpr size_t kRowOverhead = 1 + 4;
constexpr unsigned kMaxReaders = 1000;  // threads that read at once
constexpr std::string_view kStoreTableName = "efs";
constexpr std::string_view kFormatKey = "format";

Error lmdb_error(int number, std::string_view what, const std::string& path) {
  Code code = Code::io;
  std::string_view advice;
  switch (number) {
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
      code = Code::no_space;
      break;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_BAD_DBI:
      code = Code::corrupt;
      advice = "; check the disk, then run 'efs-peer check --repair'";
      break;
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
      code = Code::version;
      break;
    case MDB_READERS_FULL:
      code = Code::overloaded;
      break;
    case MDB_PANIC:
      advice = "; an earlier write failed, restart efs-peer";
      break;
    case ENOMEM:
      advice = "; is the address space limited (ulimit -v)?";
      break;
    default:
      break;
  }
  return {code, fmt::format("{} {}: {}{}", what, path, mdb_strerror(number), advice)};
}

MDB_val to_val(std::string_view bytes) {
  return {bytes.size(), const_cast<char*>(bytes.data())};
}
std::string_view from_val(const MDB_val& value) {
  return {static_cast<const char*>(value.mv_data), value.mv_size};
}

struct SubDatabase {
  MDB_dbi dbi = 0;
  uint32_t checksum_seed = 0;  // of its name, so that a row in another table is not mistaken for one here
};

uint32_t row_checksum(const SubDatabase& table, std::string_view key, std::string_view format_and_value) {
  return crc32c(view(format_and_value), crc32c(view(key), table.checksum_seed));
}

class LmdbEnvironment final : public MetaEnvironment {
 public:
  explicit LmdbEnvironment(std::string path) : path_(std::move(path)) {}
  ~LmdbEnvironment() override;

  Status open(const MetaOptions& options);
  Status write(const std::vector<Change>& changes) override;
  std::unique_ptr<ReadRows> snapshot() const override;
  uint64_t used_bytes() const override;
  uint64_t reusable_bytes() const override;

 private:
  friend class LmdbSnapshot;

  Status make_whole();
  Status open_tables(const MetaOptions& options);
  Status check_format(MDB_txn* txn);
  Status write_all(MDB_txn* txn, const std::vector<Change>& changes);
  Status write_one(MDB_cursor* cursor, const SubDatabase& table, const Change& change);
  Result<std::string_view> checked(Table table, std::string_view key, const MDB_val& found) const;
  const SubDatabase* sub_database(Table table) const;
  int acquire(MDB_txn** txn) const;
  void release(MDB_txn* txn) const;

  const std::string path_;
  MDB_env* env_ = nullptr;
  std::vector<SubDatabase> tables_;
  SubDatabase store_table_;
  mutable std::mutex idle_mutex_;
  mutable std::vector<MDB_txn*> idle_;  // reset read transactions
};

class LmdbSnapshot final : public ReadRows {
 public:
  explicit LmdbSnapshot(const LmdbEnvironment& environment) : environment_(environment) {
    failure_ = environment_.acquire(&txn_);
  }
  ~LmdbSnapshot() override {
    if (txn_ != nullptr) environment_.release(txn_);
  }

  Result<std::optional<std::string_view>> get(Table table, std::string_view key) const override;
  Status scan(Table table, std::string_view from, const Visit& visit) const override;

 private:
  const LmdbEnvironment& environment_;
  MDB_txn* txn_ = nullptr;
  int failure_ = 0;
};

// ---- opening ----

// LMDB syncs its file, not the directory entries that lead to it.
Status sync_directory(const std::filesystem::path& path) {
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return fail(from_errno(errno, "open " + path.string()));
  if (::fsync(directory.get()) < 0) return fail(from_errno(errno, "sync " + path.string()));
  return {};
}

LmdbEnvironment::~LmdbEnvironment() {
  for (MDB_txn* txn : idle_) mdb_txn_abort(txn);
  if (env_ != nullptr) mdb_env_close(env_);
}

Status LmdbEnvironment::open(const MetaOptions& options) {
  std::filesystem::path directory = std::filesystem::absolute(path_);
  std::error_code error;
  bool made = std::filesystem::create_directories(directory, error);
  if (error) return fail(from_errno(error.value(), "make directory " + path_));
  if (made) std::filesystem::permissions(directory, std::filesystem::perms::owner_all, error);

  int failed = mdb_env_create(&env_);
  if (failed == 0) failed = mdb_env_set_mapsize(env_, std::min(options.max_bytes, kAddressSpace));
  if (failed == 0) failed = mdb_env_set_maxdbs(env_, MDB_dbi(options.tables.size() + 1));
  if (failed == 0) failed = mdb_env_set_maxreaders(env_, kMaxReaders);
  if (failed == 0) failed = mdb_env_open(env_, path_.c_str(), MDB_NOTLS, 0600);
  if (failed == 0) failed = mdb_reader_check(env_, nullptr);
  if (failed != 0) return fail(lmdb_error(failed, "open metadata", path_));
  EFS_TRY(make_whole());
  EFS_TRY(open_tables(options));
  EFS_TRY(sync_directory(directory));
  EFS_TRY(sync_directory(directory.parent_path()));
  auto index = read_checkpointed_index(*this);
  if (!index)
    return fail(index.error().code, fmt::format("open metadata {}: {}", path_, to_text(index.error())));
  return {};
}

// Pages beyond the end of a file that was cut short would be a SIGBUS; zeros read as damaged pages and rows.
// (A file may end before its last page without damage: one that was taken and given back by the same
// transaction.)
Status LmdbEnvironment::make_whole() {
  MDB_envinfo info;
  MDB_stat stat;
  mdb_filehandle_t file = -1;
  int failed = mdb_env_info(env_, &info);
  if (failed == 0) failed = mdb_env_stat(env_, &stat);
  if (failed == 0) failed = mdb_env_get_fd(env_, &file);
  if (failed != 0) return fail(lmdb_error(failed, "open metadata", path_));
  struct stat about;
  if (::fstat(file, &about) != 0) return fail(from_errno(errno, "look at the metadata in " + path_));
  const auto wanted = off_t((info.me_last_pgno + 1) * stat.ms_psize);
  if (about.st_size < wanted && ::ftruncate(file, wanted) != 0)
    return fail(from_errno(errno, "open the metadata in " + path_));
  return {};
}

Status LmdbEnvironment::open_tables(const MetaOptions& options) {
  MDB_txn* txn = nullptr;
  int failed = mdb_txn_begin(env_, nullptr, 0, &txn);
  if (failed != 0) return fail(lmdb_error(failed, "open metadata", path_));
  auto open_one = [&](const std::string& name) {
    SubDatabase table;
    table.checksum_seed = crc32c(view(name));
    if (failed == 0) failed = mdb_dbi_open(txn, name.c_str(), MDB_CREATE, &table.dbi);
    return table;
  };
  store_table_ = open_one(std::string(kStoreTableName));
  Status format;
  if (failed == 0) format = check_format(txn);
  for (const std::string& name : options.tables) tables_.push_back(open_one(name));
  if (failed != 0 || !format) {
    mdb_txn_abort(txn);
    if (!format) return format;
    return fail(lmdb_error(failed, "open the tables of", path_));
  }
  failed = mdb_txn_commit(txn);
  if (failed != 0) return fail(lmdb_error(failed, "open the tables of", path_));
  return {};
}

Status LmdbEnvironment::check_format(MDB_txn* txn) {
  MDB_val key = to_val(kFormatKey);
  MDB_val found;
  int failed = mdb_get(txn, store_table_.dbi, &key, &found);
  if (failed == 0) {
    EFS_ASSIGN(auto value, checked(kStoreTable, kFormatKey, found));
    uint32_t format = value.size() == 4 ? get_be<uint32_t>(value.data()) : 0;
    if (format == kEnvironmentFormat) return {};
    return fail(Code::version,
                fmt::format("the metadata in {} has format {}, this program knows {}: start it with "
                            "the version of efs-peer that wrote it, or a newer one",
                            path_, format, kEnvironmentFormat));
  }
  if (failed != MDB_NOTFOUND) return fail(lmdb_error(failed, "read the format of", path_));
  std::string value;
  put_be(value, kEnvironmentFormat);
  return write_all(txn, {{kStoreTable, kFormatKey, value}});
}

// ---- writing ----

const SubDatabase* LmdbEnvironment::sub_database(Table table) const {
  if (table == kStoreTable) return &store_table_;
  return table < tables_.size() ? &tables_[table] : nullptr;
}

Status LmdbEnvironment::write(const std::vector<Change>& changes) {
  MDB_txn* txn = nullptr;
  int failed = mdb_txn_begin(env_, nullptr, 0, &txn);
  if (failed != 0) return fail(lmdb_error(failed, "write metadata", path_));
  auto written = write_all(txn, changes);
  if (!written) {
    mdb_txn_abort(txn);
    return written;
  }
  failed = mdb_txn_commit(txn);
  if (failed != 0) return fail(lmdb_error(failed, "write metadata", path_));
  return {};
}

Status LmdbEnvironment::write_all(MDB_txn* txn, const std::vector<Change>& changes) {
  for (size_t at = 0; at < changes.size();) {
    Table number = changes[at].table;
    const SubDatabase* table = sub_database(number);
    if (table == nullptr)
      return fail(Code::invalid_argument, fmt::format("{} has no table {}", path_, number));
    MDB_cursor* cursor = nullptr;
    int failed = mdb_cursor_open(txn, table->dbi, &cursor);
    if (failed != 0) return fail(lmdb_error(failed, "write metadata", path_));
    Status written;
    for (; written && at < changes.size() && changes[at].table == number; ++at)
      written = write_one(cursor, *table, changes[at]);
    mdb_cursor_close(cursor);
    EFS_TRY(written);
  }
  return {};
}

Status LmdbEnvironment::write_one(MDB_cursor* cursor, const SubDatabase& table, const Change& change) {
  MDB_val key = to_val(change.key);
  if (!change.value) {
    int failed = mdb_cursor_get(cursor, &key, nullptr, MDB_SET);
    if (failed == 0) failed = mdb_cursor_del(cursor, 0);
    if (failed != 0 && failed != MDB_NOTFOUND) return fail(lmdb_error(failed, "erase metadata in", path_));
    return {};
  }
  MDB_val row{change.value->size() + kRowOverhead, nullptr};
  int failed = mdb_cursor_put(cursor, &key, &row, MDB_RESERVE);
  if (failed != 0) return fail(lmdb_error(failed, "write metadata in", path_));
  auto* to = static_cast<uint8_t*>(row.mv_data);
  to[0] = kRowFormat;
  if (!change.value->empty()) std::memcpy(to + 1, change.value->data(), change.value->size());
  size_t covered = 1 + change.value->size();
  put_le(to + covered, row_checksum(table, change.key, {reinterpret_cast<char*>(to), covered}));
  return {};
}

uint64_t LmdbEnvironment::used_bytes() const {
  MDB_envinfo info;
  MDB_stat stat;
  if (mdb_env_info(env_, &info) != 0 || mdb_env_stat(env_, &stat) != 0) return 0;
  return (uint64_t(info.me_last_pgno) + 1) * stat.ms_psize;
}

// The list of free pages is a table of its own: a row for each transaction, which begins with their number.
uint64_t LmdbEnvironment::reusable_bytes() const {
  constexpr MDB_dbi kFreePages = 0;
  MDB_stat stat;
  MDB_txn* txn = nullptr;
  if (mdb_env_stat(env_, &stat) != 0 || acquire(&txn) != 0) return 0;
  uint64_t pages = 0;
  MDB_cursor* cursor = nullptr;
  if (mdb_cursor_open(txn, kFreePages, &cursor) == 0) {
    MDB_val key, row;
    while (mdb_cursor_get(cursor, &key, &row, MDB_NEXT) == 0) {
      size_t count = 0;
      if (row.mv_size >= sizeof(count)) std::memcpy(&count, row.mv_data, sizeof(count));
      pages += count;
    }
    mdb_cursor_close(cursor);
  }
  release(txn);
  return pages * stat.ms_psize;
}

// ---- reading ----

int LmdbEnvironment::acquire(MDB_txn** txn) const {
  {
    std::lock_guard lock(idle_mutex_);
    if (!idle_.empty()) {
      *txn = idle_.back();
      idle_.pop_back();
    }
  }
  if (*txn == nullptr) return mdb_txn_begin(env_, nullptr, MDB_RDONLY, txn);
  int failed = mdb_txn_renew(*txn);
  if (failed != 0) {
    mdb_txn_abort(*txn);
    *txn = nullptr;
  }
  return failed;
}

void LmdbEnvironment::release(MDB_txn* txn) const {
  mdb_txn_reset(txn);
  std::lock_guard lock(idle_mutex_);
  idle_.push_back(txn);
}

std::unique_ptr<ReadRows> LmdbEnvironment::snapshot() const {
  return std::make_unique<LmdbSnapshot>(*this);
}

Result<std::string_view> LmdbEnvironment::checked(Table table, std::string_view key,
                                                  const MDB_val& found) const {
  std::string_view row = from_val(found);
  size_t covered = row.size() - 4;
  if (row.size() < kRowOverhead || get_le<uint32_t>(row.data() + covered) !=
                                       row_checksum(*sub_database(table), key, row.substr(0, covered)))
    return fail(Code::corrupt,
                fmt::format("a row of {} is damaged (table {}, key {})", path_, table, to_hex(view(key))));
  if (uint8_t(row[0]) != kRowFormat)
    return fail(Code::version, fmt::format("a row of {} has format {}, this program knows {}", path_,
                                           unsigned(uint8_t(row[0])), kRowFormat));
  return row.substr(1, covered - 1);
}

Result<std::optional<std::string_view>> LmdbSnapshot::get(Table table, std::string_view key) const {
  if (failure_ != 0) return fail(lmdb_error(failure_, "read metadata", environment_.path_));
  const SubDatabase* database = environment_.sub_database(table);
  if (database == nullptr || key.empty() || key.size() > kMaxKeyBytes) return std::nullopt;
  MDB_val wanted = to_val(key);
  MDB_val found;
  int failed = mdb_get(txn_, database->dbi, &wanted, &found);
  if (failed == MDB_NOTFOUND) return std::nullopt;
  if (failed != 0) return fail(lmdb_error(failed, "read metadata", environment_.path_));
  EFS_ASSIGN(auto value, environment_.checked(table, key, found));
  return value;
}

Status LmdbSnapshot::scan(Table table, std::string_view from, const Visit& visit) const {
  if (failure_ != 0) return fail(lmdb_error(failure_, "read metadata", environment_.path_));
  const SubDatabase* database = environment_.sub_database(table);
  if (database == nullptr) return {};
  MDB_cursor* cursor = nullptr;
  int failed = mdb_cursor_open(txn_, database->dbi, &cursor);
  if (failed != 0) return fail(lmdb_error(failed, "read metadata", environment_.path_));
  std::unique_ptr<MDB_cursor, void (*)(MDB_cursor*)> closer(cursor, mdb_cursor_close);

  std::string_view start = from.substr(0, kMaxKeyBytes);  // no key is longer
  MDB_val key = to_val(start);
  MDB_val value;
  failed = mdb_cursor_get(cursor, &key, &value, start.empty() ? MDB_FIRST : MDB_SET_RANGE);
  for (; failed == 0; failed = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
    if (from_val(key) < from) continue;
    EFS_ASSIGN(auto row, environment_.checked(table, from_val(key), value));
    if (!visit(from_val(key), row)) return {};
  }
  if (failed != MDB_NOTFOUND) return fail(lmdb_error(failed, "read metadata", environment_.path_));
  return {};
}

}  // namespace

Result<std::shared_ptr<MetaEnvironment>> open_lmdb(const std::string& path, const MetaOptions& options) {
  if (options.tables.size() > kMaxTables) return fail(Code::invalid_argument, "too many tables for " + path);
  auto environment = std::make_shared<LmdbEnvironment>(path);
  EFS_TRY(environment->open(options));
  return environment;
}

}  // namespace efs
