#include "peer/volume/entry_list.h"

#include <cstring>

namespace efs {

namespace {

// Little-endian, without gaps: this, then of a junction its volume and number, the attributes, the name and a
// NUL.
enum Flags : uint8_t { kJunction = 1, kHidden = 2 };
constexpr size_t kFlagsAt = 0, kAttributesAt = 1, kNameAt = 2, kModeAt = 3, kCookieAt = 7, kInodeAt = 15;
constexpr size_t kHeadBytes = 23;
constexpr size_t kJunctionBytes = sizeof(VolumeId) + sizeof(VolumeNumber);

template <typename Each>
void for_each_attribute(Each each) {
  std::apply([&](const auto&... one) { (each(one.member), ...); }, Attributes::fields());
}
template <typename Member>
constexpr size_t size_of(Member Attributes::*) {
  return sizeof(Member);
}
constexpr size_t kAttributesBytes =
    std::apply([](const auto&... one) { return (size_of(one.member) + ...); }, Attributes::fields());
static_assert(kAttributesBytes <= UINT8_MAX && kMaxName <= UINT8_MAX);

size_t junction_bytes(const uint8_t* entry) {
  return (entry[kFlagsAt] & kJunction) != 0 ? kJunctionBytes : 0;
}
size_t bytes_of(const uint8_t* entry) {
  return kHeadBytes + junction_bytes(entry) + entry[kAttributesAt] + entry[kNameAt] + 1;
}

void put_attributes(uint8_t* to, const Attributes& attributes) {
  for_each_attribute([&](auto member) {
    put_le(to, attributes.*member);
    to += size_of(member);
  });
}

// Newer programs append attributes: those that this one does not know are passed over, and in an older one's
// list the last ones are missing.
Attributes get_attributes(const uint8_t* from, size_t bytes) {
  Attributes attributes;
  for_each_attribute([&](auto member) {
    if (bytes < size_of(member)) return void(bytes = 0);
    attributes.*member = get_le<std::decay_t<decltype(attributes.*member)>>(from);
    from += size_of(member);
    bytes -= size_of(member);
  });
  return attributes;
}

}  // namespace

DirectoryEntry EntryList::Iterator::operator*() const {
  DirectoryEntry entry;
  entry.mode = get_le<uint32_t>(at_ + kModeAt);
  entry.cookie = cookie();
  entry.inode = inode();
  const uint8_t* rest = at_ + kHeadBytes;
  if (junction_bytes(at_) != 0) {
    Junction& junction = entry.junction.emplace();
    std::memcpy(junction.volume.data(), rest, junction.volume.size());
    junction.number = get_le<VolumeNumber>(rest + junction.volume.size());
    rest += kJunctionBytes;
  }
  const size_t attributes = at_[kAttributesAt];
  if (has_attributes()) entry.attributes = get_attributes(rest, attributes);
  entry.name = text({rest + attributes, at_[kNameAt]});
  return entry;
}

uint64_t EntryList::Iterator::cookie() const {
  return get_le<uint64_t>(at_ + kCookieAt);
}

InodeNumber EntryList::Iterator::inode() const {
  return get_le<InodeNumber>(at_ + kInodeAt);
}

bool EntryList::Iterator::has_attributes() const {
  return at_[kAttributesAt] != 0 && (at_[kFlagsAt] & kHidden) == 0;
}

EntryList::Iterator& EntryList::Iterator::operator++() {
  at_ += bytes_of(at_);
  return *this;
}

void EntryList::add(const DirectoryEntry& entry) {
  if (entry.name.empty() || entry.name.size() > kMaxName || entry.name.find('\0') != std::string_view::npos)
    return;
  uint8_t head[kHeadBytes];
  head[kFlagsAt] = entry.junction ? kJunction : 0;
  head[kAttributesAt] = entry.attributes ? kAttributesBytes : 0;
  head[kNameAt] = uint8_t(entry.name.size());
  put_le(head + kModeAt, entry.mode);
  put_le(head + kCookieAt, entry.cookie);
  put_le(head + kInodeAt, entry.inode);
  const size_t before = packed_.size();
  packed_.resize(before + bytes_of(head));
  uint8_t* to = packed_.data() + before;
  std::memcpy(to, head, kHeadBytes);
  to += kHeadBytes;
  if (entry.junction) {
    std::memcpy(to, entry.junction->volume.data(), entry.junction->volume.size());
    put_le(to + entry.junction->volume.size(), entry.junction->number);
    to += kJunctionBytes;
  }
  if (entry.attributes) {
    put_attributes(to, *entry.attributes);
    to += kAttributesBytes;
  }
  std::memcpy(to, entry.name.data(), entry.name.size());
  to[entry.name.size()] = 0;
}

size_t EntryList::size() const {
  size_t count = 0;
  for (auto at = begin(); at != end(); ++at) ++count;
  return count;
}

DirectoryEntry EntryList::back() const {
  auto last = begin();
  for (auto next = last; next != end(); ++next) last = next;
  return *last;
}

void EntryList::erase_from(Iterator first) {
  packed_.resize(size_t(first.at_ - packed_.data()));
}

void EntryList::hide_attributes(Iterator entry) {
  packed_[size_t(entry.at_ - packed_.data()) + kFlagsAt] |= kHidden;
}

bool EntryList::valid() const {
  for (ByteView left = packed_; !left.empty();) {
    if (left.size() < kHeadBytes || (left[kFlagsAt] & ~(kJunction | kHidden)) != 0) return false;
    const size_t size = bytes_of(left.data());
    const size_t name = left[kNameAt];
    if (left.size() < size || name == 0) return false;
    // The first NUL is the one that follows it.
    if (std::memchr(left.data() + size - 1 - name, 0, name + 1) != left.data() + size - 1) return false;
    left = left.subspan(size);
  }
  return true;
}

}  // namespace efs
