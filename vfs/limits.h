// The bounds of what a mount lets grow, in one place. Bytes, counts and nanoseconds.
#pragma once

#include "peer/runtime/clock.h"
#include "peer/volume/types.h"

namespace efs {

inline constexpr uint64_t kPieceBytes = kMaxWrite;      // dirty bytes are cut at multiples of this
inline constexpr uint64_t kDirtyFileBytes = 16 << 20;   // above this, until half of it is left, writes wait
inline constexpr uint64_t kDirtyMountBytes = 64 << 20;  // above this they wait for all that their file holds
inline constexpr uint64_t kDirtyHardBytes = 128 << 20;  // above this a file's own go first
inline constexpr int64_t kDirtyAge = 1 * kSecond;       // dirty bytes are sent at the latest after this
// For the owner's answer to what was interrupted; then what waits for something else is left, too.
inline constexpr int64_t kGiveUpPatience = 3 * kSecond;
// A signal that the program handles: it waits on, as on any local disk, until this has passed.
inline constexpr int64_t kInterruptPatience = 5 * kSecond;
inline constexpr int64_t kInterruptCheck = 200 * kMillisecond;  // whether it is being killed meanwhile
inline constexpr int64_t kRetryAfter = 1 * kSecond;             // what could not be sent is tried again
inline constexpr unsigned kWritesInFlight = 8;                  // of one file
inline constexpr size_t kScatteredPieceBytes = 64 << 10;        // up to this, pieces share a request
inline constexpr uint64_t kKeptMountBytes = 64 << 20;  // written, perhaps not yet durable at the owner
inline constexpr unsigned kSyncRounds = 8;             // an owner that restarts again and again
inline constexpr unsigned kReadAheadPieces = 8;        // the window of one file, of kPieceBytes
inline constexpr uint64_t kReadAheadMountBytes = 64 << 20;
inline constexpr size_t kNotifications = 65536;            // waiting to be sent to the kernel
inline constexpr size_t kNotifierThreads = 64;             // that wait for locks of the kernel
inline constexpr int64_t kNewsCheck = 250 * kMillisecond;  // whether news has outlived what it is about
inline constexpr int64_t kHeldForRepeat = kSecond;         // a file that was looked up after ESTALE
inline constexpr unsigned kRepeats = 16;                   // that are tried until one can be held
inline constexpr size_t kCloseBatch = 128;                 // inodes in one Close
inline constexpr int64_t kCloseDelay = 50 * kMillisecond;
inline constexpr size_t kUndurableFiles = 1 << 16;  // closed ones of which it is known that they may be lost
inline constexpr size_t kPageVersions = 1 << 14;    // closed files whose pages may stay in the kernel
// Entries of one ReadDirectory: at first, as many as most directories have; from afar then each time four
// times as many, up to these, with attributes and without.
inline constexpr uint32_t kFirstListing = 128, kListingPage = 1024, kNamesPage = 4096;
inline constexpr unsigned kMaxSymlinks = 40;  // as Linux, path_resolution(7)
inline constexpr size_t kMaxPath = 65536;     // bytes, of a path that a tool names
inline constexpr int64_t kFallbackPatience =
    2 * kSecond;                                       // for a volume on the way that the register bridges
inline constexpr int64_t kDownFor = 5 * kSecond;       // it is not asked again so soon
inline constexpr int64_t kForLong = int64_t(1) << 56;  // until it is recalled
inline constexpr unsigned kMaxThreads = 16;
inline constexpr size_t kCachedInodes = 1 << 17;     // of a volume of another peer, about 250 bytes each
inline constexpr size_t kCachedEntries = 1 << 17;    // and names in it, about 150 bytes each
inline constexpr uint32_t kMissesBeforeFirst = 2;    // lookups in one directory that had to be asked, before
inline constexpr uint32_t kMissesBeforeListing = 8;  // its first page is fetched ahead, and another
inline constexpr uint32_t kPagesAhead = 48;    // of kListingPage; a larger directory would push all else out
inline constexpr size_t kDropBatch = 1 << 13;  // inodes in one DropLeases

}  // namespace efs
