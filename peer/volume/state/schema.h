// The tables of a volume, their keys and rows (docs/volume-format.md): pure values, any thread.
//
// Integers in keys are big-endian, so that rows of one inode stand together and in order. Hot rows (inodes,
// entries, cookies, extents, chunks, state) have a fixed binary layout behind a version byte; the others are
// field lists. A row that does not parse is Code::corrupt: it came from a disk.
#pragma once

#include "peer/store/kv.h"
#include "peer/volume/types.h"

namespace efs {

enum VolumeTable : Table {
  kInodes = 0,     // ino -> InodeRow
  kEntries = 1,    // parent ino, name -> EntryRow
  kCookies = 2,    // parent ino, cookie -> EntryRow with name
  kExtents = 3,    // ino, end of the extent -> ExtentRow (the end, so that one forward scan finds any offset)
  kXattrs = 4,     // ino, name -> value
  kChunks = 5,     // chunk id -> ChunkRow
  kDead = 6,       // chunk id of a row in kChunks without references: to be freed
  kSessions = 7,   // session -> SessionRow; session, sequence -> Reply
  kOrphans = 8,    // session, ino: unlinked and still open there
  kReclaim = 9,    // ino that is gone and whose extents are not yet
  kMeta = 10,      // "volume" -> VolumeCharter, "state" -> StateRow, "verifier" -> 8 bytes, "policy" ->
                   // VolumePolicy, "runs" -> RunsRow
  kRegister = 11,  // root volume: index -> entry
  kHistory = 12,   // for snapshots; empty in this format level
  kOvertaken = 13,  // session, ino -> OvertakenRow
};
std::vector<std::string> volume_tables();  // names, by number

// Volumes begin at level 1, and are raised when an operation of a higher level is needed: so those that need
// none can go back to the program that made them. 2: SetPolicy.
inline constexpr uint32_t kFormatLevel = 2;

// ---- keys ----
std::string number_key(uint64_t number);
std::string pair_key(uint64_t first, uint64_t second);
std::string name_key(InodeNumber inode, std::string_view name);
std::string session_key(const SessionId& session);
std::string session_key(const SessionId& session, uint64_t number);
inline constexpr size_t kSessionNumberKey = sizeof(SessionId) + 8;  // bytes
inline std::string_view id_key(const Id& id) {
  return text(id);
}
// The number that a key starts with; 0 when it is too short.
uint64_t leading_number(std::string_view key);
uint64_t trailing_number(std::string_view key);

// ---- rows ----
struct InodeRow {
  uint32_t mode = 0, uid = 0, gid = 0, nlink = 0;
  uint32_t rdev = 0;  // of devices; kMayBeNamed of a file without a name
  uint64_t size = 0;
  uint64_t covered = 0;  // bytes that extents, or `content`, cover
  int64_t atime_ns = 0, mtime_ns = 0, ctime_ns = 0, btime_ns = 0;
  uint64_t change = 0, generation = 0;
  uint32_t xattr_bytes = 0;  // of all names, each with its NUL
  uint32_t holders = 0;      // sessions in kOrphans, once nlink is 0
  uint64_t parent = 0;       // directories
  uint64_t next_cookie = 0;  // directories
  uint32_t junctions = 0;    // directories: how many stand anywhere below
  std::string content;       // a small file's bytes from offset 0, or a symbolic link's target

  bool is_directory() const { return (mode & kTypeBits) == 0040000; }
  bool is_regular() const { return (mode & kTypeBits) == 0100000; }
  bool is_symlink() const { return (mode & kTypeBits) == 0120000; }
  // O_TMPFILE: no name yet.
  static constexpr uint32_t kMayBeNamed = 1;
  bool may_be_named() const { return is_regular() && nlink == 0 && rdev == kMayBeNamed; }
  bool has_extents() const { return is_regular() && covered != content.size(); }
  std::string encode() const;
  static Result<InodeRow> decode(std::string_view row);
};
Attributes attributes_of(InodeNumber inode, const InodeRow& row);

struct EntryRow {
  InodeNumber inode = 0;  // 0: a junction
  uint64_t cookie = 0;    // of kEntries
  uint32_t type = 0;      // type bits of the mode
  std::optional<Junction> junction;
  std::string name;  // of kCookies

  std::string encode() const;
  static Result<EntryRow> decode(std::string_view row);
};

struct ExtentRow {
  uint64_t start = 0, end = 0;  // `end` from the key
  std::optional<Id> chunk;      // nothing: zeros that are allocated
  uint32_t chunk_offset = 0;

  std::string encode() const;
  static Result<ExtentRow> decode(std::string_view key, std::string_view row);
};

struct ChunkRow {
  uint32_t length = 0;
  uint64_t references = 0;  // extents that name it
  // Holders: none listed means every owner of the volume, the one placement of this format level.
  std::string encode() const;
  static Result<ChunkRow> decode(std::string_view row);
};

struct StateRow {
  InodeNumber next_inode = kRootInode + 1;
  InodeNumber reserved_inodes = kRootInode + 1;  // numbers below this may be given
  VolumeUsage usage;
  int64_t time_ns = 0;  // of the last stamp
  uint64_t index = 0;   // of the last operation
  uint64_t register_entries = 0;
  int64_t run_ns = 0;  // when the last run of the owner began that changed anything; 0: not known
  std::string encode() const;
  static Result<StateRow> decode(std::string_view row);
};

struct VolumeCharter {
  uint32_t format_level = 1;
  VolumeId id{};
  VolumeNumber number = 0;
  ByteArray<32> chunk_key{};  // keys the ids of its chunks
  int64_t created_ns = 0;
  static constexpr auto fields() {
    return std::tuple{field("f", &VolumeCharter::format_level), field("id", &VolumeCharter::id),
                      field("n", &VolumeCharter::number), field("k", &VolumeCharter::chunk_key),
                      field("t", &VolumeCharter::created_ns)};
  }
};

struct SessionRow {
  uint64_t acknowledged = 0;  // results below were dropped
  int64_t since_ns = 0;
  static constexpr auto fields() {
    return std::tuple{field("a", &SessionRow::acknowledged), field("t", &SessionRow::since_ns)};
  }
};

// Others have changed the inode since the session could not: what it sends late of it is refused. Stays over
// the session's end, if that was for its silence.
struct OvertakenRow {
  bool bytes = false, attributes = false;
  int64_t time_ns = 0;  // of that change, and then of the session's end
  static constexpr auto fields() {
    return std::tuple{field("b", &OvertakenRow::bytes), field("a", &OvertakenRow::attributes),
                      field("t", &OvertakenRow::time_ns)};
  }
};

// When the last runs of the owner began that changed anything, the oldest first.
inline constexpr size_t kMaxRuns = 16;
struct RunsRow {
  std::vector<int64_t> began_ns;
  static constexpr auto fields() { return std::tuple{field("b", &RunsRow::began_ns)}; }
};

inline constexpr std::string_view kCharterKey = "volume";
inline constexpr std::string_view kStateKey = "state";
inline constexpr std::string_view kVerifierKey = "verifier";
inline constexpr std::string_view kPolicyKey = "policy";
inline constexpr std::string_view kRunsKey = "runs";

// Nothing when the volume was never created in these rows.
Result<std::optional<VolumeCharter>> read_charter(const ReadRows& rows);
Result<StateRow> read_state(const ReadRows& rows);
Result<VolumePolicy> read_policy(const ReadRows& rows);
Result<RunsRow> read_runs(const ReadRows& rows);
Result<OvertakenRow> read_overtaken(const ReadRows& rows, const SessionId& session, InodeNumber inode);

// A chunk's id: BLAKE2b-256 under the volume's key over a tag for the algorithms (1: SHA-256) and the hash.
Id chunk_id(const ByteArray<32>& key, const Id& sha256_of_bytes);

}  // namespace efs
