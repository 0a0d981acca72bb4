// What bounds identity: everything that can grow, in one place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "peer/runtime/clock.h"

namespace efs {

inline constexpr size_t kMaxPrefixBytes = 4096;
inline constexpr size_t kMaxComponentBytes = 255;
inline constexpr size_t kMaxAddresses = 16;  // of one peer or invite
inline constexpr size_t kMaxAddressBytes = 262;
inline constexpr size_t kMaxRootKeys = 16;
inline constexpr size_t kMaxUnderPrefixes = 16;  // of one admission
inline constexpr size_t kMaxOwners = 7;          // of one volume
inline constexpr size_t kMaxUserKeys = 16;
inline constexpr size_t kMaxUserGroups = 256;
inline constexpr size_t kMaxAncestors = kMaxPrefixBytes / 2;
inline constexpr size_t kMaxEpochLinks = 64;  // in one record; longer histories start anew in the register
inline constexpr size_t kMaxSealedSecrets = 1024;
inline constexpr size_t kMaxStores = 256;  // in one peer's record
inline constexpr uint32_t kMaxVolumeNumber = (1u << 20) - 1;
inline constexpr uint32_t kMaxInviteUses = 10000;

inline constexpr size_t kMaxGenesisBytes = 8 << 10;
inline constexpr size_t kMaxInviteBytes = 8 << 10;  // decoded
inline constexpr size_t kMaxKeyFileBytes = 4 << 10;
inline constexpr size_t kMaxProposalBytes = 192 << 10;
inline constexpr size_t kMaxEntryBytes = 256 << 10;
inline constexpr size_t kMaxRecordBytes = 64 << 10;
inline constexpr size_t kMaxDepth = 12;

// The year 2116: sums of stamps and lives stay far from overflow.
inline constexpr int64_t kMaxStampNs = int64_t(1) << 62;
// A joining peer's clock, and a record's maker's, may differ from the owner's by this much.
inline constexpr int64_t kMaxClockDifferenceNs = 5 * kMinute;
// A proposal must have been made within this many entries of where it is ordered.
inline constexpr uint64_t kProposalWindow = 1024;
inline constexpr int64_t kMaxRecordLifeNs = 14 * 24 * kHour;

// Where new users' and groups' ids start, when nobody names one.
inline constexpr uint32_t kFirstGivenUid = 10000;

}  // namespace efs
