// What can be asked of a volume: the one protocol between the vfs, the tools, the wire and the log.
//
// A Request is sent to the volume's owner (by RPC, or called in the same process); changing ones are
// stamped by it, logged as they are (but for Write, see there) and applied on every replica. The Reply is
// one structure for all. Names are checked by the owner, never trusted. Kinds and keys are never reused.
//
// Exactly once: a changing request carries its session and a sequence number, rising by one; the owner keeps
// results from `acknowledged` on, so that a repeated request answers again instead of running twice.
// Session zero is the owner's own process, which never repeats.
#pragma once

#include <variant>

#include "peer/volume/entry_list.h"
#include "peer/volume/types.h"

namespace efs {

// ---- reading ----

struct Lookup {  // -> entry (attributes, or junction)
  static constexpr uint16_t kKind = 1;
  InodeNumber parent = 0;
  std::string name;  // "." and ".." included; ".." of the volume's root is its root
  static constexpr auto fields() {
    return std::tuple{field("p", &Lookup::parent), field("n", &Lookup::name)};
  }
};
// Walks several components at once; stops at a junction, a symbolic link, or the first that is missing.
struct Resolve {  // -> entries: one a component that was found; `walked` says how many
  static constexpr uint16_t kKind = 2;
  InodeNumber parent = 0;
  std::vector<std::string> names;  // at most 256
  static constexpr auto fields() {
    return std::tuple{field("p", &Resolve::parent), field("n", &Resolve::names)};
  }
};
struct GetAttributes {
  static constexpr uint16_t kKind = 3;
  InodeNumber inode = 0;
  static constexpr auto fields() { return std::tuple{field("i", &GetAttributes::inode)}; }
};
// A mount opens a file: checked against the mode, and the inode stays until Close even when it is unlinked.
// One that only holds it waits for nobody: what others have buffered of it is not in its attributes.
struct Open {  // -> attributes
  static constexpr uint16_t kKind = 4;
  InodeNumber inode = 0;
  uint32_t want = 0;  // R_OK | W_OK | X_OK as access(2); 0: only hold it
  static constexpr auto fields() { return std::tuple{field("i", &Open::inode), field("w", &Open::want)}; }
};
// The mount has no use for these inodes any more (every Open of each, and every lookup, forgotten).
struct Close {
  static constexpr uint16_t kKind = 5;
  std::vector<InodeNumber> inodes;
  static constexpr auto fields() { return std::tuple{field("i", &Close::inodes)}; }
};
// "." and ".." are not among the entries, whose cookies begin at kFirstCookie: 1 and 2 are left to the
// caller for these two.
inline constexpr uint64_t kFirstCookie = 3;
struct ReadDirectory {  // -> entries, `end`, `parents`, `offset`: the cookie of the next entry that is made
  static constexpr uint16_t kKind = 6;
  InodeNumber inode = 0;
  uint64_t cookie = 0;  // 0: from the start; else a DirectoryEntry::cookie
  uint32_t limit = 1024;
  bool with_attributes = false;
  static constexpr auto fields() {
    return std::tuple{field("i", &ReadDirectory::inode), field("c", &ReadDirectory::cookie),
                      field("l", &ReadDirectory::limit), field("a", &ReadDirectory::with_attributes)};
  }
};
struct ReadLink {  // -> text
  static constexpr uint16_t kKind = 7;
  InodeNumber inode = 0;
  static constexpr auto fields() { return std::tuple{field("i", &ReadLink::inode)}; }
};
struct Read {  // -> payload (shorter only at the end of the file), attributes
  static constexpr uint16_t kKind = 8;
  InodeNumber inode = 0;
  uint64_t offset = 0;
  uint32_t length = 0;  // at most kMaxWrite
  static constexpr auto fields() {
    return std::tuple{field("i", &Read::inode), field("o", &Read::offset), field("l", &Read::length)};
  }
};
struct SeekData {  // -> offset; Code::no_device past the end
  static constexpr uint16_t kKind = 9;
  InodeNumber inode = 0;
  uint64_t offset = 0;
  bool hole = false;  // SEEK_HOLE instead of SEEK_DATA
  static constexpr auto fields() {
    return std::tuple{field("i", &SeekData::inode), field("o", &SeekData::offset),
                      field("h", &SeekData::hole)};
  }
};
struct GetXattr {  // -> text
  static constexpr uint16_t kKind = 10;
  InodeNumber inode = 0;
  std::string name;
  static constexpr auto fields() {
    return std::tuple{field("i", &GetXattr::inode), field("n", &GetXattr::name)};
  }
};
struct ListXattrs {  // -> names
  static constexpr uint16_t kKind = 11;
  InodeNumber inode = 0;
  static constexpr auto fields() { return std::tuple{field("i", &ListXattrs::inode)}; }
};
struct Usage {  // -> usage, available_bytes, available_inodes
  static constexpr uint16_t kKind = 12;
  static constexpr auto fields() { return std::tuple{}; }
};
// Where a file's bytes are: extents with chunk ids and holders (`efs where`).
struct Layout {  // -> extents
  static constexpr uint16_t kKind = 13;
  InodeNumber inode = 0;
  uint64_t offset = 0;
  uint32_t limit = 1024;
  static constexpr auto fields() {
    return std::tuple{field("i", &Layout::inode), field("o", &Layout::offset), field("l", &Layout::limit)};
  }
};
// Everything of `inode` (0: of the volume) that was answered before is durable. Code::stale: there is none.
struct Sync {
  static constexpr uint16_t kKind = 14;
  InodeNumber inode = 0;
  static constexpr auto fields() { return std::tuple{field("i", &Sync::inode)}; }
};
// Begins or renews a session and says what it holds open: after the owner restarted, or the mount came back.
// A session begins with it, and says it again at least every kSessionRenewal; one that was silent for
// kSessionSilence (kSessionGrace after the owner's restart) ends: its unlinked open files are freed, and its
// changing requests answer Code::expired. Code::recalled: the owner has started anew since the last Hello.
// After either: say it, then ask again. A session that had ended begins anew by it, under its name, so that
// the owner knows what comes late; of what it asked before, nobody knows any more whether it was made.
inline constexpr int64_t kSessionRenewal = int64_t(20) * 1000 * 1000 * 1000;
inline constexpr int64_t kSessionSilence = int64_t(300) * 1000 * 1000 * 1000;
inline constexpr int64_t kSessionGrace = int64_t(60) * 1000 * 1000 * 1000;
inline constexpr size_t kMaxOpenInodes = 1 << 20;  // of one session
inline constexpr size_t kInodesPerHello = 50'000;  // 9 bytes each: below kMaxBody
// A lock of a file, as its mount tells of it. POSIX ones (fcntl, open file descriptions' too) and those of
// flock(2) know nothing of each other. Within a session `owner` is who the kernel says: locks of one owner
// never conflict.
inline constexpr uint8_t kUnlocked = 0, kReadLock = 1, kWriteLock = 2;
inline constexpr uint64_t kLockEnd = kMaxFileSize;  // as `end`: however long the file grows
struct FileLock {
  InodeNumber inode = 0;
  bool flock = false;
  uint64_t owner = 0;
  uint8_t type = kUnlocked;
  uint64_t start = 0, end = kLockEnd;  // bytes, both included
  uint32_t pid = 0;                    // for F_GETLK; 0: unknown
  static constexpr auto fields() {
    return std::tuple{field("i", &FileLock::inode), field("f", &FileLock::flock),
                      field("o", &FileLock::owner), field("t", &FileLock::type),
                      field("s", &FileLock::start), field("e", &FileLock::end),
                      field("p", &FileLock::pid)};
  }
};

// Of the session, as the owner has it: when it began, there, and when the owner was started. With another
// beginning than before it had ended in between.
struct SessionMark {
  int64_t began_ns = 0;
  int64_t owner_ns = 0;
  static constexpr auto fields() {
    return std::tuple{field("b", &SessionMark::began_ns), field("o", &SessionMark::owner_ns)};
  }
};

struct Hello {  // -> verifier, session
  static constexpr uint16_t kKind = 15;
  std::vector<InodeNumber> open;
  std::vector<FileLock> locks = {};  // held before: they are again, unless somebody else has them by now
  bool more = false;                 // another Hello follows, with more of both
  bool renew = false;                // no greeting: Code::recalled when the owner has started anew
  // The last that the session was told.
  std::optional<SessionMark> known = {};
  static constexpr auto fields() {
    return std::tuple{field("o", &Hello::open), field("l", &Hello::locks), field("m", &Hello::more),
                      field("r", &Hello::renew), field("k", &Hello::known)};
  }
};
struct Goodbye {  // ends the session
  static constexpr uint16_t kKind = 16;
  static constexpr auto fields() { return std::tuple{}; }
};

// The session believes these no more, but for what it was leased after `mark` (Reply::lease_mark); with
// `all` nothing, but for inodes of which it may have changes. `sent_all`: it has sent all that it had of
// these when its leases were lost, and what it sends from now on is new.
struct DropLeases {
  static constexpr uint16_t kKind = 17;
  std::vector<InodeNumber> inodes;
  uint64_t mark = 0;
  bool all = false, sent_all = false;
  static constexpr auto fields() {
    return std::tuple{field("i", &DropLeases::inodes), field("m", &DropLeases::mark),
                      field("a", &DropLeases::all), field("s", &DropLeases::sent_all)};
  }
};

// Locks last as long as the session. One that was silent for kLockTerm loses them to whoever asks for what
// conflicts; after the owner's restart none is granted until those who were there have said what they held,
// for kLockGrace at most. In memory: they are not logged.
//
// Code::conflict: another holds it; with `wait` the answer comes when it is granted, or Code::conflict when
// too many of the session wait already (ask again). Code::loop: waiting would be a deadlock.
// Code::interrupted: CancelLock came. Repeated under the same ticket it is the same request.
inline constexpr int64_t kLockTerm = int64_t(2000) * 1000 * 1000;
inline constexpr int64_t kLockGrace = int64_t(10) * 1000 * 1000 * 1000;
struct SetLock {
  static constexpr uint16_t kKind = 18;
  FileLock lock;  // kUnlocked lets go of the range
  bool wait = false;
  uint64_t ticket = 0;  // drawn by the session
  static constexpr auto fields() {
    return std::tuple{field("l", &SetLock::lock), field("w", &SetLock::wait), field("k", &SetLock::ticket)};
  }
};
// Who keeps this lock from being granted.
struct GetLock {  // -> lock, when there is one
  static constexpr uint16_t kKind = 19;
  FileLock lock;
  static constexpr auto fields() { return std::tuple{field("l", &GetLock::lock)}; }
};
// A SetLock that waits is answered Code::interrupted; one that was granted stays so.
struct CancelLock {
  static constexpr uint16_t kKind = 20;
  uint64_t ticket = 0;
  static constexpr auto fields() { return std::tuple{field("k", &CancelLock::ticket)}; }
};

// ---- changing ----

// mknod, mkdir, symlink, open(O_CREAT). The mode has the umask applied; the type bits say what is made. Where
// the directory has a default ACL, that decides instead of the umask: `masked` says what this took away.
struct Create {  // -> entry, created
  static constexpr uint16_t kKind = 32;
  InodeNumber parent = 0;
  std::string name;
  uint32_t mode = 0;
  uint32_t rdev = 0;
  std::string target;     // of a symbolic link
  bool exclusive = true;  // false: an existing regular file is answered, another gives Code::stale
  bool open = false;      // held open by the session at once, as by Open
  bool unnamed = false;   // O_TMPFILE: a regular file, open, without the name; `exclusive`: it never gets one
  uint32_t masked = 0;    // permission bits
  static constexpr auto fields() {
    return std::tuple{
        field("p", &Create::parent), field("n", &Create::name),    field("m", &Create::mode),
        field("r", &Create::rdev),   field("t", &Create::target),  field("x", &Create::exclusive),
        field("o", &Create::open),   field("u", &Create::unnamed), field("um", &Create::masked)};
  }
};
struct Link {  // -> entry
  static constexpr uint16_t kKind = 33;
  InodeNumber inode = 0, parent = 0;
  std::string name;
  static constexpr auto fields() {
    return std::tuple{field("i", &Link::inode), field("p", &Link::parent), field("n", &Link::name)};
  }
};
struct Unlink {  // -> attributes of what was unlinked (nlink after)
  static constexpr uint16_t kKind = 34;
  InodeNumber parent = 0;
  std::string name;
  bool directory = false;  // rmdir
  static constexpr auto fields() {
    return std::tuple{field("p", &Unlink::parent), field("n", &Unlink::name), field("d", &Unlink::directory)};
  }
};
struct Rename {  // -> attributes of what moved; `replaced`: of what was at the target
  static constexpr uint16_t kKind = 35;
  InodeNumber parent = 0;
  std::string name;
  InodeNumber new_parent = 0;
  std::string new_name;
  bool no_replace = false, exchange = false;
  bool whiteout = false;  // a character device 0:0 takes the place of what moved (overlayfs)
  static constexpr auto fields() {
    return std::tuple{field("p", &Rename::parent),      field("n", &Rename::name),
                      field("np", &Rename::new_parent), field("nn", &Rename::new_name),
                      field("nr", &Rename::no_replace), field("ex", &Rename::exchange),
                      field("wh", &Rename::whiteout)};
  }
};
struct SetAttributes {  // -> attributes
  static constexpr uint16_t kKind = 36;
  InodeNumber inode = 0;
  std::optional<uint32_t> mode, uid, gid;  // mode: permission bits only
  std::optional<uint64_t> size;
  std::optional<int64_t> atime_ns, mtime_ns;
  bool atime_now = false, mtime_now = false;  // stamped by the owner; allowed to who may write
  bool has_write_handle = false;              // truncation through an open file: no mode check
  bool clear_suid = false;  // the kernel asks to drop setuid and setgid on this write or truncate
  static constexpr auto fields() {
    return std::tuple{field("i", &SetAttributes::inode),      field("m", &SetAttributes::mode),
                      field("u", &SetAttributes::uid),        field("g", &SetAttributes::gid),
                      field("s", &SetAttributes::size),       field("ta", &SetAttributes::atime_ns),
                      field("tm", &SetAttributes::mtime_ns),  field("na", &SetAttributes::atime_now),
                      field("nm", &SetAttributes::mtime_now), field("h", &SetAttributes::has_write_handle),
                      field("cs", &SetAttributes::clear_suid)};
  }
};
// Writes the payload (1..kMaxWrite bytes) at `offset`, or at the end.
//
// A session that has the inode open may write (and Read) whatever the mode says now: Open has checked.
// The owner turns it into what is logged: bytes in the log for small ones, chunks stored first for large
// ones. `durable`: answered only when it survives power loss. `attributes` are set after the bytes, in one
// operation with them: what a mount under an exclusive lease had buffered.
struct Write {  // -> attributes, offset (where it went)
  static constexpr uint16_t kKind = 37;
  InodeNumber inode = 0;
  uint64_t offset = 0;
  bool append = false;
  bool durable = false;
  bool clear_suid = false;
  int64_t mtime_ns = 0;  // the mount's, of a buffered write; 0: now. Never before what the inode has
  uint32_t crc = 0;      // CRC-32C of the payload
  std::optional<SetAttributes> attributes;  // of this inode, without a size
  static constexpr auto fields() {
    return std::tuple{field("i", &Write::inode),       field("o", &Write::offset),
                      field("a", &Write::append),      field("d", &Write::durable),
                      field("cs", &Write::clear_suid), field("tm", &Write::mtime_ns),
                      field("crc", &Write::crc),       field("sa", &Write::attributes)};
  }
};
// fallocate's modes: allocate (grow, or keep the size), punch, zero. Holes read as zeros.
struct Allocate {  // -> attributes
  static constexpr uint16_t kKind = 38;
  InodeNumber inode = 0;
  uint64_t offset = 0, length = 0;
  bool keep_size = false, punch = false, zero = false;
  static constexpr auto fields() {
    return std::tuple{field("i", &Allocate::inode),  field("o", &Allocate::offset),
                      field("l", &Allocate::length), field("k", &Allocate::keep_size),
                      field("p", &Allocate::punch),  field("z", &Allocate::zero)};
  }
};
struct SetXattr {
  static constexpr uint16_t kKind = 39;
  InodeNumber inode = 0;
  std::string name;
  Bytes value;
  bool create = false, replace = false;
  static constexpr auto fields() {
    return std::tuple{field("i", &SetXattr::inode), field("n", &SetXattr::name), field("v", &SetXattr::value),
                      field("c", &SetXattr::create), field("r", &SetXattr::replace)};
  }
};
struct RemoveXattr {
  static constexpr uint16_t kKind = 40;
  InodeNumber inode = 0;
  std::string name;
  static constexpr auto fields() {
    return std::tuple{field("i", &RemoveXattr::inode), field("n", &RemoveXattr::name)};
  }
};
// Volumes below volumes. The name must be absent or an empty directory. Durable before it is answered.
struct MakeJunction {  // -> `parents`: the inodes from the root to the directory the junction is in
  static constexpr uint16_t kKind = 41;
  std::vector<std::string> path;  // from the volume's root; missing directories on the way are made (0755)
  Junction junction;
  static constexpr auto fields() {
    return std::tuple{field("p", &MakeJunction::path), field("j", &MakeJunction::junction)};
  }
};
struct RemoveJunction {
  static constexpr uint16_t kKind = 42;
  std::vector<std::string> path;
  VolumeId volume{};
  static constexpr auto fields() {
    return std::tuple{field("p", &RemoveJunction::path), field("v", &RemoveJunction::volume)};
  }
};
// The root volume only: the register's next entry, as it was signed. Durable before it is answered.
struct AppendRegister {
  static constexpr uint16_t kKind = 43;
  uint64_t index = 0;
  Bytes entry;
  static constexpr auto fields() {
    return std::tuple{field("x", &AppendRegister::index), field("e", &AppendRegister::entry)};
  }
};
// Somebody read it: its access time becomes now, as relatime has it (mount(8)): when it is not after both
// other times, or a day old (marks_access in types.h). Nothing else of it changes.
struct MarkAccess {
  static constexpr uint16_t kKind = 44;
  InodeNumber inode = 0;
  static constexpr auto fields() { return std::tuple{field("i", &MarkAccess::inode)}; }
};
// Bytes of one file put into another, or elsewhere into the same, without moving them: both then name the
// same chunks. Stops at the end of `from`, and after kCopyExtents extents: whoever asked goes on from there.
inline constexpr size_t kCopyExtents = 1024;
struct CopyRange {  // -> attributes (of `inode`), offset: how many bytes
  static constexpr uint16_t kKind = 45;
  InodeNumber from = 0;
  uint64_t from_offset = 0;
  InodeNumber inode = 0;
  uint64_t offset = 0, length = 0;
  static constexpr auto fields() {
    return std::tuple{field("f", &CopyRange::from), field("fo", &CopyRange::from_offset),
                      field("i", &CopyRange::inode), field("o", &CopyRange::offset),
                      field("l", &CopyRange::length)};
  }
};

// The volume's settings, all of them. For who administers the volume. Durable before it is answered.
struct SetPolicy {
  static constexpr uint16_t kKind = 48;
  static constexpr uint32_t kLevel = 2;
  VolumePolicy policy;
  static constexpr auto fields() { return std::tuple{field("p", &SetPolicy::policy)}; }
};
// The payload, cut into these pieces, at their offsets: what was written here and there, in one operation.
// They rise and do not overlap. Otherwise as Write.
inline constexpr size_t kWritePieces = 256;
struct WritePiece {
  uint64_t offset = 0;
  uint32_t length = 0;
  static constexpr auto fields() {
    return std::tuple{field("o", &WritePiece::offset), field("l", &WritePiece::length)};
  }
};
struct WriteScattered {  // -> attributes
  static constexpr uint16_t kKind = 46;
  static constexpr uint32_t kLevel = 2;
  InodeNumber inode = 0;
  std::vector<WritePiece> pieces;  // 1..kWritePieces
  bool durable = false;
  int64_t mtime_ns = 0;
  uint32_t crc = 0;
  static constexpr auto fields() {
    return std::tuple{field("i", &WriteScattered::inode), field("p", &WriteScattered::pieces),
                      field("d", &WriteScattered::durable), field("tm", &WriteScattered::mtime_ns),
                      field("crc", &WriteScattered::crc)};
  }
};

using ReadRequest = std::variant<Lookup, Resolve, GetAttributes, Open, Close, ReadDirectory, ReadLink, Read,
                                 SeekData, GetXattr, ListXattrs, Usage, Layout, Sync, Hello, Goodbye>;
using ChangeRequest = std::variant<Create, Link, Unlink, Rename, SetAttributes, Write, Allocate, SetXattr,
                                   RemoveXattr, MakeJunction, RemoveJunction, AppendRegister, MarkAccess,
                                   CopyRange, SetPolicy, WriteScattered>;
using RequestBody =
    std::variant<Lookup, Resolve, GetAttributes, Open, Close, ReadDirectory, ReadLink, Read, SeekData,
                 GetXattr, ListXattrs, Usage, Layout, Sync, Hello, Goodbye, DropLeases, SetLock, GetLock,
                 CancelLock, Create, Link, Unlink, Rename, SetAttributes, Write, Allocate, SetXattr,
                 RemoveXattr, MakeJunction, RemoveJunction, AppendRegister, MarkAccess, CopyRange, SetPolicy,
                 WriteScattered>;

struct Request {
  VolumeId volume{};
  Credentials who;
  SessionId session{};
  uint64_t sequence = 0;      // of a changing request in its session; 0: none
  uint64_t acknowledged = 0;  // results below this sequence are not needed any more
  RequestBody body;
  bool leases = false;  // the session can be asked to forget: what it is told may be leased
  bool late = false;    // VolumeClient::Options::late
  static constexpr auto fields() {
    return std::tuple{field("v", &Request::volume),       field("w", &Request::who),
                      field("s", &Request::session),      field("q", &Request::sequence),
                      field("a", &Request::acknowledged), field("b", &Request::body),
                      field("l", &Request::leases),       field("lt", &Request::late)};
  }
};
inline bool concerns_locks(const RequestBody& body) {
  return std::holds_alternative<SetLock>(body) || std::holds_alternative<GetLock>(body) ||
         std::holds_alternative<CancelLock>(body);
}
inline bool changes(const RequestBody& body) {
  return std::visit([](const auto& one) { return std::decay_t<decltype(one)>::kKind >= 32; }, body);
}

// Of a Reply. The directory: the one that was asked, with its entries, absent names and listing.
inline constexpr uint8_t kLeaseInode = 1;      // its attributes, and with them its bytes
inline constexpr uint8_t kLeaseDirectory = 2;  // the answered entry, absence or listing
inline constexpr uint8_t kLeaseExclusive = 4;  // written bytes of the inode may stay with the session
// A session's leases end this long after it was last heard, and are renewed well before.
inline constexpr int64_t kLeaseTerm = int64_t(1500) * 1000 * 1000;
inline constexpr int64_t kLeaseRenewal = int64_t(400) * 1000 * 1000;

// What a session is asked to forget (message kind kVolumeRecall, from the owner): attributes of `inode`,
// with `content` its bytes too, with `name` that entry of the directory `inode` instead. With `flush`: to
// hand in what it has buffered of it, and to buffer no more.
struct RecallItem {
  InodeNumber inode = 0;
  bool content = false;
  bool flush = false;
  std::string name;
  static constexpr auto fields() {
    return std::tuple{field("i", &RecallItem::inode), field("c", &RecallItem::content),
                      field("f", &RecallItem::flush), field("n", &RecallItem::name)};
  }
};
struct Recall {
  VolumeId volume{};
  SessionId session{};  // as its mount named it
  std::vector<RecallItem> items;
  static constexpr auto fields() {
    return std::tuple{field("v", &Recall::volume), field("s", &Recall::session), field("i", &Recall::items)};
  }
};

struct ExtentLayout {
  uint64_t offset = 0;
  uint64_t length = 0;
  Id chunk{};
  std::vector<Id> holders;
  static constexpr auto fields() {
    return std::tuple{field("o", &ExtentLayout::offset), field("l", &ExtentLayout::length),
                      field("c", &ExtentLayout::chunk), field("h", &ExtentLayout::holders)};
  }
};

struct Reply {
  Code code = Code::ok;
  std::string message;  // with an error: for people
  Attributes attributes;
  std::optional<Junction> junction;    // Lookup: the entry is one, and there are no attributes
  std::optional<Attributes> parent;    // the directory after a change of its entries
  std::optional<Attributes> replaced;  // Rename: what was at the target
  EntryList entries;                   // ReadDirectory, Resolve
  std::vector<std::string> names;      // ListXattrs
  std::vector<InodeNumber> parents;    // MakeJunction; ReadDirectory: of the directory above
  std::vector<ExtentLayout> extents;   // Layout
  std::string text;                    // ReadLink, GetXattr
  uint64_t offset = 0;                 // Write, SeekData, ReadDirectory
  uint32_t walked = 0;                 // Resolve
  bool end = false;                    // ReadDirectory: nothing follows
  bool created = false;                // Create: it was not there
  VolumeUsage usage;
  uint64_t available_bytes = 0;
  std::optional<uint64_t> available_inodes;  // not from older owners
  uint64_t verifier = 0;  // drawn anew at each start of the owner after an unclean stop: a mount that sees a
                          // new one must send again what was not durable
  // Of the owner's log: where it was when it answered; up to where it is known to be on disk. An owner that
  // has started anew says, before and in its answer to Hello, which verifier was the one before, and what of
  // the log it found.
  uint64_t logged = 0, durable = 0, verifier_before = 0, recovered = 0;
  uint32_t payload_crc = 0;      // CRC-32C of the payload, from another peer: checked where it arrives
  uint8_t lease = 0;             // kLease...: what of this may be believed without asking again
  uint64_t lease_mark = 0;       // of the owner's grants, at this one
  uint64_t leases_lost = 0;      // a session that sees another number than before has lost its leases
  std::optional<FileLock> lock;  // GetLock
  // Hello; not from older owners.
  std::optional<SessionMark> session;
  static constexpr auto fields() {
    return std::tuple{field("c", &Reply::code),
                      field("m", &Reply::message),
                      field("a", &Reply::attributes),
                      field("j", &Reply::junction),
                      field("p", &Reply::parent),
                      field("r", &Reply::replaced),
                      field("e", &Reply::entries),
                      field("n", &Reply::names),
                      field("ps", &Reply::parents),
                      field("x", &Reply::extents),
                      field("t", &Reply::text),
                      field("o", &Reply::offset),
                      field("w", &Reply::walked),
                      field("z", &Reply::end),
                      field("k", &Reply::created),
                      field("u", &Reply::usage),
                      field("f", &Reply::available_bytes),
                      field("fi", &Reply::available_inodes),
                      field("y", &Reply::verifier),
                      field("g", &Reply::logged),
                      field("d", &Reply::durable),
                      field("yb", &Reply::verifier_before),
                      field("gr", &Reply::recovered),
                      field("h", &Reply::payload_crc),
                      field("l", &Reply::lease),
                      field("lm", &Reply::lease_mark),
                      field("ll", &Reply::leases_lost),
                      field("lk", &Reply::lock),
                      field("ss", &Reply::session)};
  }
};

inline Reply error_reply(Error error) {
  Reply reply;
  reply.code = error.code;
  reply.message = std::move(error.message);
  return reply;
}
inline Reply error_reply(Code code, std::string message = {}) {
  return error_reply(Error{code, std::move(message)});
}

}  // namespace efs
