#include "peer/volume/state/schema.h"

#include "peer/base/hash.h"

namespace efs {

namespace {

constexpr uint8_t kRowVersion = 1;

// Fixed layouts: integers big-endian, in order; a reader past the end stays failed.
class RowReader {
 public:
  explicit RowReader(std::string_view row) : row_(row) { ok_ = take<uint8_t>() == kRowVersion; }
  template <typename Int>
  Int take() {
    if (row_.size() < sizeof(Int)) {
      ok_ = false;
      return 0;
    }
    Int value = get_be<Int>(row_.data());
    row_.remove_prefix(sizeof(Int));
    return value;
  }
  template <typename Int>
  void take(Int& value) {
    value = take<Int>();
  }
  Id take_id() {
    Id id{};
    if (row_.size() < id.size()) {
      ok_ = false;
      return id;
    }
    std::memcpy(id.data(), row_.data(), id.size());
    row_.remove_prefix(id.size());
    return id;
  }
  std::string_view rest() const { return row_; }
  bool ok() const { return ok_; }

 private:
  std::string_view row_;
  bool ok_ = true;
};

std::string row_start(size_t size) {
  std::string row;
  row.reserve(size);
  row.push_back(char(kRowVersion));
  return row;
}

auto corrupt(std::string_view what) {
  return fail(Code::corrupt, std::string("a row of ") + std::string(what) + " cannot be read");
}

}  // namespace

std::vector<std::string> volume_tables() {
  return {"inodes",   "entries", "cookies", "extents", "xattrs",   "chunks",  "dead",
          "sessions", "orphans", "reclaim", "meta",    "register", "history", "overtaken"};
}

std::string number_key(uint64_t number) {
  std::string key;
  put_be(key, number);
  return key;
}
std::string pair_key(uint64_t first, uint64_t second) {
  std::string key;
  key.reserve(16);
  put_be(key, first);
  put_be(key, second);
  return key;
}
std::string name_key(InodeNumber inode, std::string_view name) {
  std::string key;
  key.reserve(8 + name.size());
  put_be(key, inode);
  key.append(name);
  return key;
}
std::string session_key(const SessionId& session) {
  return std::string(text(session));
}
std::string session_key(const SessionId& session, uint64_t number) {
  std::string key(text(session));
  put_be(key, number);
  return key;
}
uint64_t leading_number(std::string_view key) {
  return key.size() < 8 ? 0 : get_be<uint64_t>(key.data());
}
uint64_t trailing_number(std::string_view key) {
  return key.size() < 8 ? 0 : get_be<uint64_t>(key.data() + key.size() - 8);
}

std::string InodeRow::encode() const {
  std::string row = row_start(128 + content.size());
  for (uint32_t value : {mode, uid, gid, nlink, rdev}) put_be(row, value);
  put_be(row, size);
  put_be(row, covered);
  for (int64_t value : {atime_ns, mtime_ns, ctime_ns, btime_ns}) put_be(row, value);
  put_be(row, change);
  put_be(row, generation);
  put_be(row, xattr_bytes);
  put_be(row, holders);
  if (is_directory()) {
    put_be(row, parent);
    put_be(row, next_cookie);
    put_be(row, junctions);
  }
  row += content;
  return row;
}

Result<InodeRow> InodeRow::decode(std::string_view bytes) {
  RowReader in(bytes);
  InodeRow row;
  for (uint32_t* value : {&row.mode, &row.uid, &row.gid, &row.nlink, &row.rdev}) in.take(*value);
  in.take(row.size);
  in.take(row.covered);
  for (int64_t* value : {&row.atime_ns, &row.mtime_ns, &row.ctime_ns, &row.btime_ns}) in.take(*value);
  in.take(row.change);
  in.take(row.generation);
  in.take(row.xattr_bytes);
  in.take(row.holders);
  if (row.is_directory()) {
    in.take(row.parent);
    in.take(row.next_cookie);
    in.take(row.junctions);
  }
  if (!in.ok()) return corrupt("inodes");
  row.content = in.rest();
  return row;
}

Attributes attributes_of(InodeNumber inode, const InodeRow& row) {
  Attributes out;
  out.inode = inode;
  out.generation = row.generation;
  out.mode = row.mode;
  out.uid = row.uid;
  out.gid = row.gid;
  out.nlink = row.nlink;
  out.size = row.size;
  out.blocks = block_end(row.covered) / 512;
  out.rdev = row.is_regular() ? 0 : row.rdev;
  out.atime_ns = row.atime_ns;
  out.mtime_ns = row.mtime_ns;
  out.ctime_ns = row.ctime_ns;
  out.btime_ns = row.btime_ns;
  out.change = row.change;
  out.xattr_bytes = row.xattr_bytes;
  if (row.is_directory()) {
    out.size = 4096;
    out.blocks = 8;
  }
  return out;
}

std::string EntryRow::encode() const {
  std::string row = row_start(32 + name.size());
  put_be(row, inode);
  put_be(row, cookie);
  put_be(row, type);
  if (inode == 0) {
    const Junction target = junction.value_or(Junction{});
    row.append(text(target.volume));
    put_be(row, target.number);
  }
  row += name;
  return row;
}

Result<EntryRow> EntryRow::decode(std::string_view bytes) {
  RowReader in(bytes);
  EntryRow row;
  in.take(row.inode);
  in.take(row.cookie);
  in.take(row.type);
  if (row.inode == 0) {
    row.junction.emplace();
    row.junction->volume = in.take_id();
    in.take(row.junction->number);
  }
  if (!in.ok()) return corrupt("entries");
  row.name = in.rest();
  return row;
}

std::string ExtentRow::encode() const {
  std::string row = row_start(48);
  put_be(row, start);
  if (chunk) {
    put_be(row, chunk_offset);
    row.append(text(*chunk));
  }
  return row;
}

Result<ExtentRow> ExtentRow::decode(std::string_view key, std::string_view bytes) {
  RowReader in(bytes);
  ExtentRow row;
  in.take(row.start);
  if (!in.rest().empty()) {
    in.take(row.chunk_offset);
    row.chunk = in.take_id();
  }
  row.end = trailing_number(key);
  if (!in.ok() || key.size() != 16 || row.start >= row.end) return corrupt("extents");
  return row;
}

std::string ChunkRow::encode() const {
  std::string row = row_start(16);
  put_be(row, length);
  put_be(row, references);
  put_be(row, uint8_t(0));
  return row;
}

Result<ChunkRow> ChunkRow::decode(std::string_view bytes) {
  RowReader in(bytes);
  ChunkRow row;
  in.take(row.length);
  in.take(row.references);
  if (in.take<uint8_t>() != 0 || !in.ok()) return corrupt("chunks");
  return row;
}

std::string StateRow::encode() const {
  std::string row = row_start(80);
  for (uint64_t value : {next_inode, reserved_inodes, usage.files, usage.bytes, usage.stored_bytes,
                         uint64_t(time_ns), index, register_entries, uint64_t(run_ns)})
    put_be(row, value);
  return row;
}

Result<StateRow> StateRow::decode(std::string_view bytes) {
  RowReader in(bytes);
  StateRow row;
  for (uint64_t* value :
       {&row.next_inode, &row.reserved_inodes, &row.usage.files, &row.usage.bytes, &row.usage.stored_bytes})
    in.take(*value);
  in.take(row.time_ns);
  in.take(row.index);
  in.take(row.register_entries);
  if (!in.rest().empty()) in.take(row.run_ns);
  if (!in.ok()) return corrupt("meta");
  return row;
}

Result<std::optional<VolumeCharter>> read_charter(const ReadRows& rows) {
  EFS_ASSIGN(auto found, rows.get(kMeta, kCharterKey));
  if (!found) return std::nullopt;
  auto charter = decode<VolumeCharter>(view(*found));
  if (!charter) return corrupt("meta");
  return std::optional(*charter);
}

Result<StateRow> read_state(const ReadRows& rows) {
  EFS_ASSIGN(auto found, rows.get(kMeta, kStateKey));
  if (!found) return corrupt("meta");
  return StateRow::decode(*found);
}

Result<VolumePolicy> read_policy(const ReadRows& rows) {
  EFS_ASSIGN(auto found, rows.get(kMeta, kPolicyKey));
  if (!found) return VolumePolicy{};
  auto policy = decode<VolumePolicy>(view(*found));
  if (!policy || name_of(policy->compression).empty()) return corrupt("meta");
  return *policy;
}

Result<RunsRow> read_runs(const ReadRows& rows) {
  EFS_ASSIGN(auto found, rows.get(kMeta, kRunsKey));
  if (!found) return RunsRow{};
  auto runs = decode<RunsRow>(view(*found));
  if (!runs) return corrupt("meta");
  return runs;
}

Result<OvertakenRow> read_overtaken(const ReadRows& rows, const SessionId& session, InodeNumber inode) {
  EFS_ASSIGN(auto found, rows.get(kOvertaken, session_key(session, inode)));
  if (!found) return OvertakenRow{};
  auto row = decode<OvertakenRow>(view(*found));
  if (!row) return corrupt("overtaken");
  return row;
}

Id chunk_id(const ByteArray<32>& key, const Id& sha256_of_bytes) {
  constexpr uint8_t kSha256 = 1;
  ByteArray<33> tagged;
  tagged[0] = kSha256;
  std::copy(sha256_of_bytes.begin(), sha256_of_bytes.end(), tagged.begin() + 1);
  return blake2b(tagged, key);
}

}  // namespace efs
