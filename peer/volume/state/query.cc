// What a volume answers without being changed.
#include <algorithm>

#include "peer/volume/state/machine.h"
#include "peer/volume/state/view.h"

namespace efs {

namespace {

constexpr uint32_t kMaxEntriesPerReply = 4096;
constexpr size_t kMaxResolve = 256;
// An answer to ReadDirectory stays below this: names, and this much for the rest of an entry.
constexpr size_t kMaxListingBytes = 512 << 10, kEntryBytes = 64, kAttributesBytes = 160;

class Query {
 public:
  Query(const ReadRows& rows, const Credentials& who, bool held) : view_(rows), who_(who), held_(held) {}

  Status answer(const Lookup& request);
  Status answer(const Resolve& request);
  Status answer(const GetAttributes& request);
  Status answer(const ReadDirectory& request);
  Status answer(const ReadLink& request);
  Status answer(const Read& request);
  Status answer(const SeekData& request);
  Status answer(const GetXattr& request);
  Status answer(const ListXattrs& request);
  Status answer(const Usage& request);
  Status answer(const Layout& request);
  template <typename Other>
  Status answer(const Other&) {
    return fail(Code::invalid_argument);
  }

  Reply reply;

 private:
  Result<InodeRow> searchable(InodeNumber inode);
  // The entry of `name`, "." and ".." included.
  Result<std::optional<EntryRow>> step(InodeNumber parent, const std::string& name);
  Status describe(const EntryRow& row, bool with_attributes, DirectoryEntry& out);
  Result<InodeRow> file(InodeNumber inode, uint32_t want);

  RowsView view_;
  const Credentials& who_;
  const bool held_;
};

Result<InodeRow> Query::searchable(InodeNumber inode) {
  EFS_ASSIGN(auto row, view_.inode(inode));
  if (!row.is_directory()) return fail(Code::not_directory);
  EFS_TRY(view_.may(inode, row, who_, kExecute));
  return row;
}

Result<std::optional<EntryRow>> Query::step(InodeNumber parent, const std::string& name) {
  EFS_ASSIGN(auto row, searchable(parent));
  if (name == "." || name == "..") {
    EntryRow self;
    self.inode = name == "." ? parent : row.parent;
    self.type = 0040000;
    return std::optional(self);
  }
  EFS_TRY(check_name(name));
  return view_.entry(parent, name);
}

// All but its name.
Status Query::describe(const EntryRow& row, bool with_attributes, DirectoryEntry& out) {
  out.cookie = row.cookie;
  out.inode = row.inode;
  out.mode = row.type;
  out.junction = row.junction;
  if (with_attributes && !row.junction) {
    EFS_ASSIGN(auto inode, view_.inode(row.inode));
    out.attributes = attributes_of(row.inode, inode);
  }
  return {};
}

Status Query::answer(const Lookup& request) {
  EFS_ASSIGN(auto entry, step(request.parent, request.name));
  if (!entry) return fail(Code::not_found);
  reply.junction = entry->junction;
  if (entry->junction) return {};
  EFS_ASSIGN(auto row, view_.inode(entry->inode));
  reply.attributes = attributes_of(entry->inode, row);
  return {};
}

Status Query::answer(const Resolve& request) {
  if (request.names.size() > kMaxResolve) return fail(Code::invalid_argument);
  InodeNumber at = request.parent;
  for (const std::string& name : request.names) {
    auto entry = step(at, name);
    if (!entry) {
      if (reply.walked == 0) return fail(std::move(entry.error()));
      break;  // what was found stands; asked again from there, the error shows
    }
    if (!*entry) break;
    DirectoryEntry found;
    found.name = name;
    EFS_TRY(describe(**entry, true, found));
    at = found.inode;
    const bool goes_on = found.attributes && (found.attributes->mode & kTypeBits) == 0040000;
    reply.entries.add(found);
    ++reply.walked;
    if (!goes_on) break;
  }
  return {};
}

Status Query::answer(const GetAttributes& request) {
  EFS_ASSIGN(auto row, view_.inode(request.inode));
  reply.attributes = attributes_of(request.inode, row);
  return {};
}

Status Query::answer(const ReadDirectory& request) {
  EFS_ASSIGN(auto found_row, view_.find_inode(request.inode));
  if (!found_row) return fail(Code::not_found);  // removed while it is read: getdents(2)
  const InodeRow& row = *found_row;
  if (!row.is_directory()) return fail(Code::not_directory);
  if (!held_) EFS_TRY(view_.may(request.inode, row, who_, kRead));
  // Names need the right to read, what they lead to the right to search.
  const bool with_attributes = request.with_attributes && view_.may(request.inode, row, who_, kExecute);
  const uint32_t limit = std::clamp(request.limit, 1u, kMaxEntriesPerReply);
  if (request.cookie == UINT64_MAX) {
    reply.end = true;
    return {};
  }
  std::vector<EntryRow> found;  // whose attributes are to be read, once the scan is over
  size_t count = 0, bytes = 0;
  Status status;
  const auto show = [&](const EntryRow& of) -> Status {
    DirectoryEntry entry;
    entry.name = of.name;
    EFS_TRY(describe(of, with_attributes, entry));
    reply.entries.add(entry);
    return {};
  };
  reply.end = true;
  EFS_TRY(view_.rows().scan(kCookies, pair_key(request.inode, request.cookie + 1),
                            [&](std::string_view key, std::string_view value) {
                              if (leading_number(key) != request.inode) return false;
                              if (count == limit || bytes > kMaxListingBytes) {
                                reply.end = false;
                                return false;
                              }
                              auto entry = EntryRow::decode(value);
                              if (!entry) {
                                status = fail(std::move(entry.error()));
                                return false;
                              }
                              bytes +=
                                  entry->name.size() + kEntryBytes + (with_attributes ? kAttributesBytes : 0);
                              ++count;
                              if (with_attributes) {
                                found.push_back(std::move(*entry));
                              } else {
                                status = show(*entry);
                              }
                              return status.has_value();
                            }));
  EFS_TRY(status);
  for (const EntryRow& entry : found) EFS_TRY(show(entry));
  reply.offset = row.next_cookie;
  reply.parents = {row.parent};
  reply.attributes = attributes_of(request.inode, row);
  return {};
}

Status Query::answer(const ReadLink& request) {
  EFS_ASSIGN(auto row, view_.inode(request.inode));
  if (!row.is_symlink()) return fail(Code::invalid_argument);
  reply.text = row.content;
  reply.attributes = attributes_of(request.inode, row);
  return {};
}

Result<InodeRow> Query::file(InodeNumber inode, uint32_t want) {
  EFS_ASSIGN(auto row, view_.inode(inode));
  if (row.is_directory()) return fail(Code::is_directory);
  if (!row.is_regular()) return fail(Code::invalid_argument);
  if (!held_) EFS_TRY(view_.may(inode, row, who_, want));
  return row;
}

Status Query::answer(const Read& request) {
  EFS_ASSIGN(auto row, file(request.inode, kRead));
  reply.attributes = attributes_of(request.inode, row);
  return {};
}

// lseek(2). Data is what was written, in whole blocks, as programs that know of blocks expect it; what was
// only allocated is a hole, and so is the end of the file.
Status Query::answer(const SeekData& request) {
  EFS_ASSIGN(auto row, view_.inode(request.inode));
  if (!row.is_regular()) return fail(Code::invalid_argument);
  if (request.offset >= row.size) return fail(Code::no_device);
  uint64_t at = request.offset;
  std::optional<uint64_t> data;
  const auto goes_on = [&](uint64_t start, uint64_t end) {
    start = block_start(start);
    end = block_end(end);
    if (end <= at) return true;
    if (!request.hole) {
      data = std::max(at, start);
      return false;
    }
    if (start > at) return false;
    at = end;
    return true;
  };
  if (row.has_extents()) {
    EFS_TRY(view_.extents(request.inode, block_start(at), [&](const ExtentRow& extent) {
      return !extent.chunk || goes_on(extent.start, extent.end);
    }));
  } else if (!row.content.empty()) {
    goes_on(0, row.content.size());
  }
  if (request.hole) {
    reply.offset = std::min(at, row.size);
    return {};
  }
  if (!data || *data >= row.size) return fail(Code::no_device);
  reply.offset = *data;
  return {};
}

Status Query::answer(const GetXattr& request) {
  EFS_ASSIGN(auto row, view_.inode(request.inode));
  if (request.name.size() > kMaxXattrName) return fail(Code::range);
  if (request.name == "user." || request.name == "security." || (request.name == "trusted." && who_.uid == 0))
    return fail(Code::invalid_argument);
  if (request.name.starts_with("user.")) {
    if (!row.is_regular() && !row.is_directory()) return fail(Code::no_attribute);
    if (!held_) EFS_TRY(view_.may(request.inode, row, who_, kRead));
  } else if (request.name.starts_with("trusted.")) {
    if (who_.uid != 0) return fail(Code::no_attribute);
  } else if (!request.name.starts_with("security.") && !request.name.starts_with("system.posix_acl_")) {
    return fail(Code::unsupported);
  }
  if (row.xattr_bytes == 0) return fail(Code::no_attribute);
  EFS_ASSIGN(auto found, view_.rows().get(kXattrs, name_key(request.inode, request.name)));
  if (!found) return fail(Code::no_attribute);
  reply.text = *found;
  return {};
}

Status Query::answer(const ListXattrs& request) {
  EFS_ASSIGN(auto row, view_.inode(request.inode));
  if (row.xattr_bytes == 0) return {};
  return view_.rows().scan(kXattrs, number_key(request.inode), [&](std::string_view key, std::string_view) {
    if (leading_number(key) != request.inode) return false;
    key.remove_prefix(8);
    if (who_.uid == 0 || !key.starts_with("trusted.")) reply.names.emplace_back(key);
    return true;
  });
}

Status Query::answer(const Usage&) {
  EFS_ASSIGN(auto state, read_state(view_.rows()));
  reply.usage = state.usage;
  return {};
}

Status Query::answer(const Layout& request) {
  EFS_ASSIGN(auto row, file(request.inode, 0));
  const uint32_t limit = std::clamp(request.limit, 1u, kMaxEntriesPerReply);
  reply.attributes = attributes_of(request.inode, row);
  reply.end = true;
  if (!row.has_extents()) return {};
  return view_.extents(request.inode, request.offset, [&](const ExtentRow& extent) {
    if (reply.extents.size() == limit) {
      reply.end = false;
      return false;
    }
    ExtentLayout out;
    out.offset = extent.start;
    out.length = extent.end - extent.start;
    if (extent.chunk) out.chunk = *extent.chunk;
    reply.extents.push_back(std::move(out));
    return true;
  });
}

}  // namespace

Reply read(const ReadRows& rows, const Request& request, bool held) {
  Query query(rows, request.who, held);
  auto status = std::visit([&](const auto& body) { return query.answer(body); }, request.body);
  if (!status) return error_reply(std::move(status.error()));
  return std::move(query.reply);
}

Result<ReadPlan> plan_read(const ReadRows& rows, const Credentials& who, const Read& request, bool held) {
  RowsView view(rows);
  EFS_ASSIGN(auto row, view.inode(request.inode));
  if (row.is_directory()) return fail(Code::is_directory);
  if (!row.is_regular()) return fail(Code::invalid_argument);
  if (request.length > kMaxWrite) return fail(Code::too_large);
  if (!held) EFS_TRY(view.may(request.inode, row, who, kRead));
  ReadPlan plan;
  plan.attributes = attributes_of(request.inode, row);
  if (request.offset >= row.size) return plan;
  plan.length = uint32_t(std::min<uint64_t>(request.length, row.size - request.offset));
  const uint64_t end = request.offset + plan.length;
  if (!row.has_extents()) {
    if (request.offset < row.content.size()) plan.content = row.content.substr(request.offset, plan.length);
    return plan;
  }
  EFS_TRY(view.extents(request.inode, request.offset, [&](const ExtentRow& extent) {
    if (extent.start >= end) return false;
    if (!extent.chunk) return true;
    const uint64_t from = std::max(extent.start, request.offset);
    ReadPlan::Piece piece;
    piece.at = uint32_t(from - request.offset);
    piece.length = uint32_t(std::min(extent.end, end) - from);
    piece.chunk = *extent.chunk;
    piece.chunk_offset = extent.chunk_offset + uint32_t(from - extent.start);
    plan.pieces.push_back(piece);
    return extent.end < end;
  }));
  return plan;
}

Status check_open(const RowsView& view, InodeNumber inode, const InodeRow& row, const Credentials& who,
                  uint32_t want) {
  if (want != 0) EFS_TRY(view.may(inode, row, who, want & 7));
  if (row.is_directory() && (want & kWrite)) return fail(Code::is_directory);
  return {};
}

}  // namespace efs
