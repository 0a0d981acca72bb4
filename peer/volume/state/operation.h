// What is logged and applied: one Operation a log record, the same on every replica.
//
// A changing request becomes one as it is, but for Write (WriteExtents) and WriteScattered
// (ScatteredExtents). The owner adds what only it knows and what must not differ between replicas: the time,
// who holds open what is being unlinked. Operations of the owner itself (kinds from 64 on) keep the volume's
// house. Encoded as a field list; an unknown kind in a log stops that replica loudly. Values: any thread.
#pragma once

#include "peer/volume/request.h"
#include "peer/volume/state/schema.h"

namespace efs {

inline constexpr size_t kMaxBytesInLog = 64 << 10;     // content up to this size travels in the operation
inline constexpr size_t kMaxHolders = 1024;            // sessions a volume keeps at a time
inline constexpr size_t kMaxResultsPerSession = 4096;  // unacknowledged results that a session may leave
inline constexpr uint64_t kExtentsPerStep = 2048;      // of a file: what one operation frees or cuts
inline constexpr size_t kChunksPerStep = 1024;         // chunks freed by one operation
inline constexpr uint64_t kInodeBlock = 1 << 16;       // numbers reserved at a time

// Bytes that are in the operation, or in chunks that were stored before it was proposed. One or the other.
struct ChunkReference {
  Id chunk{};
  uint32_t length = 0;
  static constexpr auto fields() {
    return std::tuple{field("c", &ChunkReference::chunk), field("l", &ChunkReference::length)};
  }
};
struct WriteExtents {
  static constexpr uint16_t kKind = 37;
  InodeNumber inode = 0;
  uint64_t offset = 0;
  bool append = false;
  bool clear_suid = false;
  int64_t mtime_ns = 0;
  Bytes bytes;                              // at most kMaxBytesInLog
  std::vector<ChunkReference> chunks;       // one after another from the offset on
  std::optional<SetAttributes> attributes;  // set after them
  static constexpr auto fields() {
    return std::tuple{field("i", &WriteExtents::inode),     field("o", &WriteExtents::offset),
                      field("a", &WriteExtents::append),    field("cs", &WriteExtents::clear_suid),
                      field("tm", &WriteExtents::mtime_ns), field("b", &WriteExtents::bytes),
                      field("c", &WriteExtents::chunks),    field("sa", &WriteExtents::attributes)};
  }
};
struct ScatteredExtents {
  static constexpr uint16_t kKind = 46;
  static constexpr uint32_t kLevel = 2;
  InodeNumber inode = 0;
  std::vector<WritePiece> pieces;
  int64_t mtime_ns = 0;
  Bytes bytes;           // of the pieces, one after another; at most kMaxBytesInLog
  ChunkReference chunk;  // or this holds them
  static constexpr auto fields() {
    return std::tuple{field("i", &ScatteredExtents::inode), field("p", &ScatteredExtents::pieces),
                      field("tm", &ScatteredExtents::mtime_ns), field("b", &ScatteredExtents::bytes),
                      field("c", &ScatteredExtents::chunk)};
  }
};
// Begins the session, if it has not. What it sends late of `overtaken` is to be refused from now on, that of
// `forgiven` not any more (OvertakenRow).
struct OpenSession {
  static constexpr uint16_t kKind = 64;
  std::vector<InodeNumber> overtaken = {}, forgiven = {};
  static constexpr auto fields() {
    return std::tuple{field("o", &OpenSession::overtaken), field("f", &OpenSession::forgiven)};
  }
};
// The sessions have ended: their results and what they held open go. Those that were `silent` may come back:
// what others have overtaken stays known.
struct EndSessions {
  static constexpr uint16_t kKind = 65;
  std::vector<SessionId> sessions;
  bool silent = false;
  static constexpr auto fields() {
    return std::tuple{field("s", &EndSessions::sessions), field("z", &EndSessions::silent)};
  }
};
// A session closed inodes that were unlinked meanwhile.
struct ReleaseOrphans {
  static constexpr uint16_t kKind = 66;
  SessionId session{};
  std::vector<InodeNumber> inodes;
  static constexpr auto fields() {
    return std::tuple{field("s", &ReleaseOrphans::session), field("i", &ReleaseOrphans::inodes)};
  }
};
// Forgets those of the chunks that nothing refers to.
struct FreeChunks {
  static constexpr uint16_t kKind = 67;
  std::vector<Id> chunks;
  static constexpr auto fields() { return std::tuple{field("c", &FreeChunks::chunks)}; }
};
// Frees up to kExtentsPerStep extents of deleted files.
struct ReclaimExtents {
  static constexpr uint16_t kKind = 68;
  static constexpr auto fields() { return std::tuple{}; }
};
// Inode numbers below `until` may be given. `skip`: none below the former limit any more (after an unclean
// stop: some may have been given by operations that are lost).
struct ReserveInodes {
  static constexpr uint16_t kKind = 69;
  InodeNumber until = 0;
  bool skip = false;
  uint64_t verifier = 0;  // with `skip`: the new one (Reply::verifier)
  static constexpr auto fields() {
    return std::tuple{field("u", &ReserveInodes::until), field("s", &ReserveInodes::skip),
                      field("v", &ReserveInodes::verifier)};
  }
};
// Makes an empty volume of rows that hold nothing.
struct FormatVolume {
  static constexpr uint16_t kKind = 70;
  VolumeCharter charter;
  uint32_t mode = 0755, uid = 0, gid = 0;  // of its root
  static constexpr auto fields() {
    return std::tuple{field("c", &FormatVolume::charter), field("m", &FormatVolume::mode),
                      field("u", &FormatVolume::uid), field("g", &FormatVolume::gid)};
  }
};

// The volume knows operations up to this format level from now on. Every owner has said before that it does.
struct RaiseLevel {
  static constexpr uint16_t kKind = 72;
  uint32_t level = 0;
  static constexpr auto fields() { return std::tuple{field("l", &RaiseLevel::level)}; }
};

// The extents of [start, end) become one, of a chunk that was stored and holds the same bytes: if they still
// are what they were (digest_of in fragments.h). Nobody sees a difference. Code::conflict: they are not.
struct ReplaceExtents {
  static constexpr uint16_t kKind = 71;
  static constexpr uint32_t kLevel = 2;
  InodeNumber inode = 0;
  uint64_t start = 0, end = 0;
  Id was{};
  Id chunk{};
  static constexpr auto fields() {
    return std::tuple{field("i", &ReplaceExtents::inode), field("s", &ReplaceExtents::start),
                      field("e", &ReplaceExtents::end), field("w", &ReplaceExtents::was),
                      field("c", &ReplaceExtents::chunk)};
  }
};

using OperationBody =
    std::variant<Create, Link, Unlink, Rename, SetAttributes, WriteExtents, Allocate, SetXattr, RemoveXattr,
                 MakeJunction, RemoveJunction, AppendRegister, MarkAccess, CopyRange, SetPolicy,
                 ScatteredExtents, OpenSession, EndSessions, ReleaseOrphans, FreeChunks, ReclaimExtents,
                 ReserveInodes, FormatVolume, RaiseLevel, ReplaceExtents>;

// The format level that a volume must have for this operation: a kind's kLevel, 1 for those without.
uint32_t level_of(const OperationBody& body);
// The one inode that is named by its number as what it is about, if any.
InodeNumber subject_of(const OperationBody& body);
// It sets mode, owner or times, or what is a part of them.
bool sets_attributes(const OperationBody& body);

struct Operation {
  Credentials who;
  SessionId session{};
  uint64_t sequence = 0, acknowledged = 0;
  int64_t time_ns = 0;
  bool held = false;               // the session has the inode open: the mode was checked then
  std::vector<SessionId> holders;  // of what loses its last name
  uint64_t durable_index = 0;      // operations up to this one were known to be durable when this was logged
  // Sessions that may send late what this undoes: of the one inode that it is about (subject_of).
  std::vector<SessionId> overtaken;
  int64_t run_ns = 0;  // the first operation of a run of the owner: when that began
  OperationBody body;
  static constexpr auto fields() {
    return std::tuple{field("w", &Operation::who),       field("s", &Operation::session),
                      field("q", &Operation::sequence),  field("a", &Operation::acknowledged),
                      field("t", &Operation::time_ns),   field("h", &Operation::held),
                      field("hs", &Operation::holders),  field("d", &Operation::durable_index),
                      field("o", &Operation::overtaken), field("r", &Operation::run_ns),
                      field("b", &Operation::body)};
  }
};

// A log record: a format byte, then the field list.
Bytes encode_operation(const Operation& operation);
// Code::version for a format or kind that this program does not know, Code::corrupt for the rest.
Result<Operation> decode_operation(ByteView record);

}  // namespace efs
