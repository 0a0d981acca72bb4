// The state machine of a volume: pure, the same on every replica.
//
// apply() runs one operation inside a transaction: the rows it leaves and its Reply depend on the rows
// before and the operation alone. When the Reply is an error, the transaction must be dropped: rows may be
// half changed. Semantics are POSIX's (IEEE 1003.1-2017) and, where that leaves room, those of Linux's ext4;
// docs/volumes.md lists what was chosen. No waiting, no clock, no I/O but the rows. One thread a transaction.
#pragma once

#include "peer/volume/state/operation.h"

namespace efs {

struct Stamp {
  uint64_t index = 0;   // of the operation in its volume's log
  int64_t time_ns = 0;  // never behind the volume's last
};

// What follows from an operation outside the rows; the replica sees to it.
struct Effects {
  struct StoredChunk {
    Id chunk{};
    Id sha256{};
    Bytes bytes;
    bool as_sent = false;  // these are all bytes that the operation carries
  };
  std::vector<StoredChunk> store;  // to be stored by_log before the transaction commits
  std::vector<Id> named;           // chunks that were without reference or unknown and are named now
  std::vector<Id> freed;           // to be condemned
  struct Change {
    InodeNumber inode = 0;
    bool content = false;
    InodeNumber parent = 0;
    std::string name;
  };
  std::vector<Change> changes;  // for the kernel's caches
  bool repeated = false;        // answered from the session's results; nothing was changed
};

Reply apply(WriteRows& rows, const Stamp& stamp, const Operation& operation, Effects& effects);

// Requests below kind 32 but Open, Close, Sync, Hello and Goodbye, which are the replica's (Read answers
// attributes only: see plan_read). `held`: the session has the inode open.
Reply read(const ReadRows& rows, const Request& request, bool held);

// Where the bytes of a Read are. Pieces that are missing are zeros.
struct ReadPlan {
  struct Piece {
    uint32_t at = 0;  // in the answer
    uint32_t length = 0;
    Id chunk{};
    uint32_t chunk_offset = 0;
  };
  Attributes attributes;
  uint32_t length = 0;  // of the answer: shorter than asked only at the end of the file
  std::string content;  // goes to the answer's start (small files)
  std::vector<Piece> pieces;
};
Result<ReadPlan> plan_read(const ReadRows& rows, const Credentials& who, const Read& request, bool held);

// May `who` open it so? (Open)
class RowsView;
Status check_open(const RowsView& view, InodeNumber inode, const InodeRow& row, const Credentials& who,
                  uint32_t want);

// The inode that loses its last name by this operation, if any: whose holders the owner stamps.
Result<std::optional<InodeNumber>> loses_last_name(const ReadRows& rows, const OperationBody& body);

}  // namespace efs
