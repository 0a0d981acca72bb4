#include "peer/volume/state/acl.h"

#include <algorithm>

namespace efs {

namespace {
constexpr size_t kHeader = 4, kEntry = 8;
constexpr uint32_t kVersion = 2;
constexpr uint16_t kOwner = 0x01, kUser = 0x02, kOwningGroup = 0x04, kGroup = 0x08, kMask = 0x10,
                   kOther = 0x20;
constexpr uint32_t kNobody = UINT32_MAX;  // the id of entries that name nobody

bool is_named(uint16_t tag) {
  return tag == kUser || tag == kGroup;
}
}  // namespace

// Entries stand in the order of their tags: owner, users, owning group, groups, mask, others; the mask is
// needed where somebody is named. In which order those are does not matter.
Result<Acl> Acl::decode(ByteView value) {
  if (value.size() < kHeader || (value.size() - kHeader) % kEntry != 0) return fail(Code::invalid_argument);
  if (get_le<uint32_t>(value.data()) != kVersion) return fail(Code::unsupported);
  if ((value.size() - kHeader) / kEntry > kMaxAclEntries) return fail(Code::no_space);
  Acl acl;
  uint16_t seen = 0, last = 0;
  for (size_t at = kHeader; at < value.size(); at += kEntry) {
    Entry entry{get_le<uint16_t>(&value[at]), get_le<uint16_t>(&value[at + 2]),
                get_le<uint32_t>(&value[at + 4])};
    const uint16_t tag = entry.tag;
    const bool known = tag == kOwner || tag == kUser || tag == kOwningGroup || tag == kGroup ||
                       tag == kMask || tag == kOther;
    if (!known || entry.permissions > 7) return fail(Code::invalid_argument);
    if (tag < last || (tag == last && !is_named(tag))) return fail(Code::invalid_argument);
    if (is_named(tag) && entry.id == kNobody) return fail(Code::invalid_argument);
    if (!is_named(tag)) entry.id = kNobody;
    seen |= last = tag;
    acl.entries_.push_back(entry);
  }
  if (acl.empty()) return acl;
  constexpr uint16_t kBase = kOwner | kOwningGroup | kOther;
  if ((seen & kBase) != kBase) return fail(Code::invalid_argument);
  if ((seen & (kUser | kGroup)) != 0 && (seen & kMask) == 0) return fail(Code::invalid_argument);
  return acl;
}

std::string Acl::encode() const {
  Bytes out(kHeader + entries_.size() * kEntry);
  put_le<uint32_t>(out.data(), kVersion);
  uint8_t* at = out.data() + kHeader;
  for (const Entry& entry : entries_) {
    put_le<uint16_t>(at, entry.tag);
    put_le<uint16_t>(at + 2, entry.permissions);
    put_le<uint32_t>(at + 4, entry.id);
    at += kEntry;
  }
  return std::string(text(out));
}

Acl::Entry& Acl::group_class() {
  const auto mask =
      std::find_if(entries_.begin(), entries_.end(), [](auto& one) { return one.tag == kMask; });
  if (mask != entries_.end()) return *mask;
  return *std::find_if(entries_.begin(), entries_.end(), [](auto& one) { return one.tag == kOwningGroup; });
}

uint32_t Acl::mode() const {
  uint32_t mode = 0;
  for (const Entry& entry : entries_) {
    if (entry.tag == kOwner) mode |= uint32_t(entry.permissions) << 6;
    if (entry.tag == kOwningGroup) mode |= uint32_t(entry.permissions) << 3;
    if (entry.tag == kMask) mode = (mode & ~070u) | uint32_t(entry.permissions) << 3;
    if (entry.tag == kOther) mode |= entry.permissions;
  }
  return mode;
}

void Acl::set_mode(uint32_t mode) {
  entries_.front().permissions = (mode >> 6) & 7;
  group_class().permissions = (mode >> 3) & 7;
  entries_.back().permissions = mode & 7;
}

uint32_t Acl::limit_to(uint32_t mode) {
  set_mode(mode & (uint32_t(entries_.front().permissions) << 6 | uint32_t(group_class().permissions) << 3 |
                   entries_.back().permissions));
  return this->mode();
}

// The owner; else a named user; else any group that grants it; else, who is in none of the groups, others.
// The mask limits named users and all groups.
bool Acl::allows(uint32_t uid, uint32_t gid, const Credentials& who, uint32_t want) const {
  uint32_t mask = 7;
  for (const Entry& entry : entries_) {
    if (entry.tag == kMask) mask = entry.permissions;
  }
  const auto grants = [want](uint32_t permissions) { return (want & ~permissions & 7) == 0; };
  bool in_some = false, every_group_grants = true;
  for (const Entry& entry : entries_) {
    const bool granted = grants(entry.permissions & (entry.tag == kOther || entry.tag == kOwner ? 7 : mask));
    if (entry.tag == kOwner && who.uid == uid) return granted;
    if (entry.tag == kUser && who.uid == entry.id) return granted;
    if (entry.tag == kOwningGroup || entry.tag == kGroup) {
      every_group_grants &= granted;
      if (!in_group(who, entry.tag == kGroup ? entry.id : gid)) continue;
      in_some = true;
      if (granted) return true;
    }
    if (entry.tag == kOther) return granted && !in_some && (who.groups_known || every_group_grants);
  }
  return false;
}

bool in_group(const Credentials& who, uint32_t gid) {
  return who.gid == gid || std::find(who.groups.begin(), who.groups.end(), gid) != who.groups.end();
}

}  // namespace efs
