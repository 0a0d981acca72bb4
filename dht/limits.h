// Every bound and interval of the DHT. Times in nanoseconds.
//
// k, alpha, refresh, replacement caches: Maymounkov and Mazieres, "Kademlia: A Peer-to-peer Information
// System Based on the XOR Metric" (2002), sections 2.3 to 2.5.
#pragma once

#include <cstddef>
#include <cstdint>

#include "peer/runtime/clock.h"

namespace efs::dht {

// Shape.
inline constexpr size_t kReplicas = 20;     // k: holders of a record, contacts in a reply
inline constexpr size_t kParallel = 3;      // alpha: requests of one lookup in flight
inline constexpr size_t kBucketSize = 256;  // so that a few hundred peers all know each other
inline constexpr size_t kReplacements = 16;
inline constexpr size_t kValueQuorum = 3;   // holders whose answers a lookup compares, highest version wins
inline constexpr size_t kRefreshWidth = 4;  // a refresh wants contacts on the way, not all k at the end
inline constexpr size_t kHandOverRank = 3;  // so many closest holders hand a record to a peer that joins
inline constexpr size_t kReturnRank = 2 * kReplicas;  // and so many to a peer that was away
inline constexpr int kFailuresToForget = 2;           // in a row

// Messages.
inline constexpr size_t kMaxAddressBytes = 256;
inline constexpr size_t kMaxRecordBytes = 64 << 10;    // of the body
inline constexpr size_t kMaxBatchBytes = 256 << 10;    // of the records in one message
inline constexpr size_t kMaxBatchRecords = 128;        // in one Store
inline constexpr size_t kMaxOffers = 512;              // names in one Offer
inline constexpr size_t kMaxMessageBytes = 512 << 10;  // encoded, checked before anything is allocated

// State.
inline constexpr size_t kMaxUpkeepRequests = 512;  // of ours in flight: more, and upkeep waits
inline constexpr size_t kMaxLookups = 256;         // at once; more are refused with Code::overloaded
inline constexpr size_t kMaxPublications = 128;    // at once
inline constexpr size_t kMaxLookupRequests = 128;  // of one lookup, answered or not
inline constexpr size_t kMaxCandidates = 256;      // of one lookup
inline constexpr size_t kMaxHeard = 128;           // contacts heard of, waiting for a first ping
inline constexpr size_t kMaxFormer = 512;          // contacts that stopped answering, kept to find them again
inline constexpr size_t kMaxSilent = 512;          // contacts heard of that did not answer
inline constexpr size_t kMaxHandOvers = 256;       // peers waiting to be handed records
inline constexpr size_t kMaxCached = 512;          // records kept because a lookup passed by
inline constexpr size_t kMaxSenders = 2048;        // whose rate is counted

// What one sender may ask: tokens a second, and saved up. A request costs one, and one for every eight
// records or names in it.
inline constexpr double kSenderRate = 200;
inline constexpr double kSenderBurst = 1000;

// Waiting.
inline constexpr int64_t kSlowAfter = 1 * kSecond;       // a lookup asks somebody else too
inline constexpr int64_t kRequestTimeout = 5 * kSecond;  // and now the request has failed

// Upkeep.
inline constexpr int64_t kSlot = 10 * kSecond;        // between rounds of pings
inline constexpr int kHeardPerSlot = 4;               // first pings a slot
inline constexpr int kFormerEvery = 3;                // a former contact is tried every so many slots
inline constexpr int kHealingPings = 8;               // instead of one, a slot, while old contacts come back
inline constexpr int kHealingReturns = 5;             // within a minute: that was no peer, but the network
inline constexpr int64_t kHealing = 5 * kMinute;      // for so long after they did
inline constexpr int64_t kStaleAfter = 15 * kMinute;  // a contact silent for so long is pinged
inline constexpr int64_t kNeighbours = 20 * kMinute;  // between lookups of the own id
inline constexpr int64_t kNeighboursSoon = 10 * kSecond;  // after the mesh changed under us
inline constexpr int64_t kSilentTime = 30 * kMinute;      // who never answered is not tried again so soon
inline constexpr int64_t kBucketRefresh = 1 * kHour;
inline constexpr int64_t kSweep = 1 * kMinute;  // between looks for records to republish or drop
inline constexpr size_t kSweepRecords = 2048;   // republished in one sweep
inline constexpr size_t kSweepPublications = 32;
inline constexpr int64_t kHandOverSlice = 100 * kMillisecond;
inline constexpr size_t kHandOverRecords = 512;  // looked at in one slice
inline constexpr int64_t kRepublish =
    20 * kMinute;  // in the smallest mesh; see Node::republish_interval_ns()
inline constexpr int64_t kCacheTime = 5 * kMinute;

// Life of records.
inline constexpr int64_t kRecordTtl = 24 * kHour;    // in the smallest mesh; see Node::record_ttl_ns()
inline constexpr int64_t kMaxTtl = 60 * 24 * kHour;  // an expiry further away is refused

}  // namespace efs::dht
