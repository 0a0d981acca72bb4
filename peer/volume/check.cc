#include "peer/volume/check.h"

#include <map>
#include <set>

#include "peer/volume/state/view.h"

namespace efs {

namespace {

struct Seen {
  InodeRow row;              // without content
  uint64_t content = 0;      // its length
  uint32_t names = 0;        // entries that lead here
  uint32_t directories = 0;  // entries of directories (and junctions) in it
  uint32_t junctions = 0;    // anywhere below
  uint32_t orphans = 0;
  uint64_t covered = 0;
  InodeNumber parent = 0;  // of the entry
};

class Checker {
 public:
  Checker(const ReadRows& rows, const ChunkStore* chunks, WriteRows* repair)
      : rows_(rows), chunks_(chunks), repair_(repair) {}
  Result<VolumeCheck> run();

 private:
  Status inodes();
  Status entries();
  Status cookies();
  Status extents();
  Status chunk_rows();
  Status others();
  Status links();
  Status usage();
  void entry(std::string_view key, std::string_view value);
  void bring_back(InodeNumber inode, Seen& seen);
  // `mend` is run when repairing.
  void problem(std::string text, const std::function<void(WriteRows&)>& mend = {}) {
    if (out_.problems.size() < kMaxProblems) out_.problems.push_back(std::move(text));
    if (!mend || repair_ == nullptr) return;
    mends_.push_back(mend);
    ++out_.repaired;
  }
  auto drop(Table table, std::string_view key) {
    return [table, copy = std::string(key)](WriteRows& rows) { rows.erase(table, copy); };
  }
  static std::string name(InodeNumber inode) { return "inode " + std::to_string(inode); }

  const ReadRows& rows_;
  const ChunkStore* chunks_;
  WriteRows* repair_;
  VolumeCheck out_;
  StateRow state_;
  VolumeCharter charter_;
  std::map<InodeNumber, Seen> inodes_;
  std::set<InodeNumber> changed_;  // rows to be written again
  std::map<Id, uint64_t> references_;
  std::set<InodeNumber> reclaim_;
  uint64_t stored_ = 0;
  std::vector<std::function<void(WriteRows&)>> mends_;
};

Status Checker::inodes() {
  EFS_TRY(rows_.scan(kReclaim, "", [&](std::string_view key, std::string_view) {
    reclaim_.insert(leading_number(key));
    return true;
  }));
  return rows_.scan(kInodes, "", [&](std::string_view key, std::string_view value) {
    auto row = InodeRow::decode(value);
    const InodeNumber inode = leading_number(key);
    if (!row || key.size() != 8) {
      problem(name(inode) + " has a row that cannot be read", drop(kInodes, key));
      return true;
    }
    if (inode >= state_.next_inode) problem(name(inode) + " has a number that was never given");
    Seen seen;
    seen.content = row->is_regular() ? row->content.size() : 0;
    seen.covered = seen.content;
    if (row->is_regular()) row->content.clear();
    seen.row = std::move(*row);
    inodes_[inode] = std::move(seen);
    return true;
  });
}

void Checker::entry(std::string_view key, std::string_view value) {
  auto row = EntryRow::decode(value);
  const InodeNumber parent = leading_number(key);
  const std::string label(key.size() > 8 ? key.substr(8) : "");
  const std::string where = "entry '" + label + "' of " + name(parent);
  auto above = inodes_.find(parent);
  if (!row) return problem(where + " cannot be read", drop(kEntries, key));
  if (above == inodes_.end() || !above->second.row.is_directory())
    return problem(where + " is in no directory", drop(kEntries, key));
  auto cookie = rows_.get(kCookies, pair_key(parent, row->cookie));
  auto listed = cookie && *cookie ? EntryRow::decode(**cookie) : Result<EntryRow>(fail(Code::not_found));
  if (!listed || listed->name != label || listed->inode != row->inode || listed->type != row->type)
    problem(where + " is not listed as it is", [parent, label, row = *row](WriteRows& rows) mutable {
      row.name = label;
      rows.put(kCookies, pair_key(parent, row.cookie), row.encode());
    });
  if (row->junction) {
    ++above->second.directories;
    InodeNumber at = parent;
    for (size_t depth = 0; depth < 4096; ++depth) {
      auto found = inodes_.find(at);
      if (found == inodes_.end()) break;
      ++found->second.junctions;
      if (at == kRootInode) break;
      at = found->second.row.parent;
    }
    return;
  }
  auto target = inodes_.find(row->inode);
  if (target == inodes_.end()) {
    problem(where + " leads to " + name(row->inode) + ", which is not there",
            [parent, copy = std::string(key), at = row->cookie](WriteRows& rows) {
              rows.erase(kEntries, copy);
              rows.erase(kCookies, pair_key(parent, at));
            });
    return;
  }
  ++target->second.names;
  target->second.parent = parent;
  if ((target->second.row.mode & kTypeBits) != row->type) problem(where + " has the wrong type");
  if (target->second.row.is_directory()) ++above->second.directories;
}

Status Checker::entries() {
  return rows_.scan(kEntries, "", [&](std::string_view key, std::string_view value) {
    entry(key, value);
    return true;
  });
}

Status Checker::cookies() {
  return rows_.scan(kCookies, "", [&](std::string_view key, std::string_view value) {
    auto row = EntryRow::decode(value);
    const InodeNumber parent = leading_number(key);
    auto found = row ? rows_.get(kEntries, name_key(parent, row->name))
                     : Result<std::optional<std::string_view>>(std::nullopt);
    auto entry = found && *found ? EntryRow::decode(**found) : Result<EntryRow>(fail(Code::not_found));
    if (!entry || entry->cookie != trailing_number(key))
      problem("a listing of " + name(parent) + " names what is not in it", drop(kCookies, key));
    auto above = inodes_.find(parent);
    if (above != inodes_.end() && trailing_number(key) >= above->second.row.next_cookie)
      problem(name(parent) + " has a position that was never given");
    return true;
  });
}

Status Checker::extents() {
  InodeNumber last = 0;
  uint64_t last_end = 0;
  return rows_.scan(kExtents, "", [&](std::string_view key, std::string_view value) {
    const InodeNumber inode = leading_number(key);
    auto extent = ExtentRow::decode(key, value);
    if (!extent) {
      problem("an extent of " + name(inode) + " cannot be read", drop(kExtents, key));
      return true;
    }
    auto found = inodes_.find(inode);
    if (found == inodes_.end() && !reclaim_.contains(inode)) {
      problem("an extent belongs to " + name(inode) + ", which is not there", drop(kExtents, key));
      return true;
    }
    if (inode == last && extent->start < last_end) problem("extents of " + name(inode) + " overlap");
    last = inode;
    last_end = extent->end;
    if (extent->chunk) ++references_[*extent->chunk];
    if (found != inodes_.end()) found->second.covered += extent->end - extent->start;
    return true;
  });
}

Status Checker::chunk_rows() {
  std::set<Id> known;
  EFS_TRY(rows_.scan(kChunks, "", [&](std::string_view key, std::string_view value) {
    auto row = ChunkRow::decode(value);
    Id id{};
    if (!row || key.size() != id.size()) {
      problem("a chunk's row cannot be read", drop(kChunks, key));
      return true;
    }
    std::memcpy(id.data(), key.data(), id.size());
    known.insert(id);
    auto counted = references_.find(id);
    const uint64_t references = counted == references_.end() ? 0 : counted->second;
    if (references > 0) stored_ += row->length;
    auto dead = rows_.get(kDead, key);
    const bool listed = dead && dead->has_value();
    if (row->references != references || listed != (references == 0)) {
      problem("chunk " + short_hex(id) + " has " + std::to_string(references) + " references, not " +
                  std::to_string(row->references),
              [id, references, fixed = *row](WriteRows& rows) mutable {
                fixed.references = references;
                rows.put(kChunks, id_key(id), fixed.encode());
                if (references == 0) {
                  rows.put(kDead, id_key(id), "");
                } else {
                  rows.erase(kDead, id_key(id));
                }
              });
    }
    if (chunks_ != nullptr && references > 0) {
      auto length = chunks_->length({charter_.number, id});
      if (!length || *length != row->length)
        problem("chunk " + short_hex(id) + " is not in the store: files that use it cannot be read whole");
    }
    return true;
  }));
  for (const auto& [id, count] : references_) {
    if (!known.contains(id)) problem("chunk " + short_hex(id) + " is used and has no row");
  }
  return {};
}

Status Checker::others() {
  EFS_TRY(rows_.scan(kOrphans, "", [&](std::string_view key, std::string_view) {
    auto found = inodes_.find(trailing_number(key));
    if (key.size() != kSessionNumberKey || found == inodes_.end()) {
      problem("a session holds open what is not there", drop(kOrphans, key));
    } else {
      ++found->second.orphans;
    }
    return true;
  }));
  EFS_TRY(rows_.scan(kOvertaken, "", [&](std::string_view key, std::string_view value) {
    if (key.size() != kSessionNumberKey || !decode<OvertakenRow>(view(value)))
      problem("what a session may not send late of " + name(trailing_number(key)) + " cannot be read",
              drop(kOvertaken, key));
    return true;
  }));
  return rows_.scan(kXattrs, "", [&](std::string_view key, std::string_view) {
    if (!inodes_.contains(leading_number(key)))
      problem("an extended attribute belongs to no inode", drop(kXattrs, key));
    return true;
  });
}

// An inode that has no name gets one in the root.
void Checker::bring_back(InodeNumber inode, Seen& seen) {
  problem(name(inode) + " has no name and nobody has it open", [this, inode](WriteRows& rows) {
    Seen& root = inodes_.at(kRootInode);
    Seen& lost = inodes_.at(inode);
    EntryRow entry;
    entry.inode = inode;
    entry.type = lost.row.mode & kTypeBits;
    entry.cookie = root.row.next_cookie++;
    const std::string label = "lost-" + std::to_string(inode);
    rows.put(kEntries, name_key(kRootInode, label), entry.encode());
    entry.name = label;
    rows.put(kCookies, pair_key(kRootInode, entry.cookie), entry.encode());
    if (lost.row.is_directory()) {
      lost.row.parent = kRootInode;
      ++root.row.nlink;
    }
    changed_.insert(kRootInode);
  });
  if (repair_ != nullptr) seen.names = 1;
}

Status Checker::links() {
  for (auto& [inode, seen] : inodes_) {
    InodeRow& row = seen.row;
    auto expect = [&](auto& has, uint64_t wanted, std::string_view what) {
      if (uint64_t(has) == wanted) return;
      problem(name(inode) + " has " + std::string(what) + " " + std::to_string(has) + ", not " +
                  std::to_string(wanted),
              [this, number = inode](WriteRows&) { changed_.insert(number); });
      if (repair_ != nullptr) has = std::decay_t<decltype(has)>(wanted);
    };
    if (inode != kRootInode && seen.names == 0 && seen.orphans == 0) bring_back(inode, seen);
    const bool gone = seen.names == 0 && inode != kRootInode;
    expect(row.nlink, gone ? 0 : row.is_directory() ? 2 + seen.directories : seen.names, "a link count of");
    expect(row.holders, seen.orphans, "a count of holders of");
    expect(row.covered, seen.covered, "a count of covered bytes of");
    if (row.is_directory()) expect(row.junctions, seen.junctions, "a count of junctions of");
    if (row.is_directory() && seen.names > 1) problem(name(inode) + ", a directory, has several names");
    if (row.is_directory() && seen.parent != 0) expect(row.parent, seen.parent, "its parent at");
  }
  return {};
}

Status Checker::usage() {
  VolumeUsage counted;
  counted.files = inodes_.size();
  counted.stored_bytes = stored_;
  for (const auto& [inode, seen] : inodes_) counted.bytes += seen.covered;
  if (!(counted == state_.usage)) {
    problem("the volume's usage is " + to_text(counted) + ", not " + to_text(state_.usage),
            [this, counted](WriteRows& rows) {
              state_.usage = counted;
              rows.put(kMeta, kStateKey, state_.encode());
            });
  }
  return {};
}

Result<VolumeCheck> Checker::run() {
  EFS_ASSIGN(auto charter, read_charter(rows_));
  if (!charter) return fail(Code::corrupt, "the volume has no charter: nothing can be checked");
  charter_ = *charter;
  EFS_ASSIGN(state_, read_state(rows_));
  EFS_TRY(inodes());
  if (!inodes_.contains(kRootInode)) problem("the root directory is missing");
  EFS_TRY(entries());
  EFS_TRY(cookies());
  EFS_TRY(extents());
  EFS_TRY(chunk_rows());
  EFS_TRY(others());
  EFS_TRY(links());
  EFS_TRY(usage());
  if (repair_ == nullptr) return std::move(out_);
  for (const auto& mend : mends_) mend(*repair_);
  for (InodeNumber inode : changed_) {
    EFS_ASSIGN(auto row, RowsView(*repair_).inode(inode));
    const InodeRow& fixed = inodes_.at(inode).row;
    row.nlink = fixed.nlink;
    row.holders = fixed.holders;
    row.covered = fixed.covered;
    row.junctions = fixed.junctions;
    row.parent = fixed.parent;
    row.next_cookie = fixed.next_cookie;
    repair_->put(kInodes, number_key(inode), row.encode());
  }
  return std::move(out_);
}

}  // namespace

Result<VolumeCheck> check_volume(const ReadRows& rows, const ChunkStore* chunks, WriteRows* repair) {
  return Checker(rows, chunks, repair).run();
}

}  // namespace efs
