// Entries of a directory, packed one after another into one piece of memory: as an owner sends them, and as
// who lists keeps them (docs/wire-format.md). A listing of a million names is a million of these and no more.
//
// Values: any thread. What was decoded is valid (encoding.h), so that whoever walks it has nothing to check.
#pragma once

#include <optional>
#include <string_view>

#include "peer/volume/types.h"

namespace efs {

struct DirectoryEntry {
  std::string_view name;  // in an EntryList: a NUL follows it, and it is good until the list changes or ends
  uint64_t cookie = 0;    // where the entry after this one begins; stable while the directory changes
  InodeNumber inode = 0;
  uint32_t mode = 0;                     // type bits at least
  std::optional<Attributes> attributes;  // ReadDirectory::with_attributes
  std::optional<Junction> junction;
};

class EntryList {
 public:
  class Iterator {
   public:
    Iterator() = default;  // of no list
    DirectoryEntry operator*() const;
    // Of that, without the rest.
    uint64_t cookie() const;
    InodeNumber inode() const;
    bool has_attributes() const;
    Iterator& operator++();
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    friend class EntryList;
    explicit Iterator(const uint8_t* at) : at_(at) {}
    const uint8_t* at_ = nullptr;
  };

  // Of names without a NUL, of 1..kMaxName bytes: others are left out.
  void add(const DirectoryEntry& entry);
  Iterator begin() const { return Iterator(packed_.data()); }
  Iterator end() const { return Iterator(packed_.data() + packed_.size()); }
  bool empty() const { return packed_.empty(); }
  // Both walk the list. back() is for one that is not empty.
  size_t size() const;
  DirectoryEntry back() const;

  void erase_from(Iterator first);       // that one and all that follow
  void hide_attributes(Iterator entry);  // as if it had come without

  bool valid() const;
  static constexpr auto fields() { return std::tuple{field("p", &EntryList::packed_)}; }

 private:
  Bytes packed_;
};

}  // namespace efs
