// Random operations on one volume, and a model in plain containers of what must be there after each of them:
// for tests that take the power away and look at what comes back.
//
// The history has the state after every operation that was logged, by its index. What is recovered at index
// N must be the state at N, exactly: names, link counts, sizes, every byte, junctions, register entries.
// Wrong: std::runtime_error that says what. One thread; the volume may do its own housekeeping on others.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>
#include <random>
#include <set>
#include <stdexcept>

#include "peer/volume/sole_replica.h"

namespace efs::test {

inline void require(bool right, const std::string& what) {
  if (!right) throw std::runtime_error(what);
}

struct VolumeState {
  struct File {
    std::shared_ptr<const std::string> bytes = std::make_shared<std::string>();
    uint32_t names = 0;
  };
  std::map<std::string, InodeNumber> names;  // 0: a create that failed; its number is not known
  std::map<InodeNumber, File> files;
  std::map<std::string, VolumeId> junctions;
  std::vector<Bytes> entries;

  void drop(const std::string& name) {
    auto inode = names.at(name);
    names.erase(name);
    if (--files[inode].names == 0) files.erase(inode);
  }
};

inline Reply ask(SoleReplica& replica, RequestBody body, Payload payload = {}, Payload* out = nullptr) {
  Request request;
  request.who.groups_known = true;
  request.body = std::move(body);
  Reply reply;
  replica.execute(request, std::move(payload), [&](VolumeAnswer answer) {
    reply = std::move(answer.reply);
    if (out != nullptr) *out = std::move(answer.payload);
  });
  return reply;
}

// What the volume holds, as it reads.
inline VolumeState read_state_of(SoleReplica& replica) {
  auto must = [](const Reply& reply, const std::string& what) {
    require(reply.code == Code::ok,
            fmt::format("{} does not read: {} {}", what, name_of(reply.code), reply.message));
  };
  VolumeState state;
  ReadDirectory list;
  list.inode = kRootInode;
  const auto listing = ask(replica, list);
  must(listing, "the root");
  require(listing.end, "the listing has no end");
  for (const DirectoryEntry entry : listing.entries) {
    const std::string name(entry.name);
    if (entry.junction) {
      state.junctions[name] = entry.junction->volume;
      continue;
    }
    state.names[name] = entry.inode;
    if (state.files.contains(entry.inode)) continue;
    const auto found = ask(replica, GetAttributes{entry.inode});
    must(found, name);
    auto bytes = std::make_shared<std::string>();
    while (bytes->size() < found.attributes.size) {
      Payload part;
      must(ask(replica, Read{entry.inode, bytes->size(), kMaxWrite}, {}, &part), name);
      require(!part.empty(), name + " ends early");
      bytes->append(text(part));
    }
    state.files[entry.inode] = {std::move(bytes), found.attributes.nlink};
  }
  if (replica.number() == kRootVolume) {
    auto entries = replica.register_entries(0, SIZE_MAX);
    require(entries.has_value(), "the register does not read");
    state.entries = std::move(*entries);
  }
  return state;
}

// "" when they are the same.
inline std::string difference(const VolumeState& wanted, const VolumeState& found) {
  if (wanted.junctions != found.junctions) return "other junctions";
  if (wanted.entries != found.entries)
    return fmt::format("{} register entries, not {}", found.entries.size(), wanted.entries.size());
  for (const auto& [name, inode] : found.names) {
    if (!wanted.names.contains(name)) return name + " should not be there";
  }
  for (const auto& [name, inode] : wanted.names) {
    auto at = found.names.find(name);
    if (at == found.names.end()) return name + " is not there";
    if (inode != 0 && at->second != inode) return name + " is another file";
    const auto& want = wanted.files.at(inode);
    const auto& have = found.files.at(at->second);
    if (want.names != have.names) return fmt::format("{} has {} names, not {}", name, have.names, want.names);
    if (want.bytes->size() != have.bytes->size())
      return fmt::format("{} has {} bytes, not {}", name, have.bytes->size(), want.bytes->size());
    if (*want.bytes != *have.bytes) {
      auto [a, b] = std::mismatch(want.bytes->begin(), want.bytes->end(), have.bytes->begin());
      return fmt::format("{} differs at byte {} of {}", name, a - want.bytes->begin(), want.bytes->size());
    }
  }
  return "";
}

class VolumeLoad {
 public:
  explicit VolumeLoad(uint64_t seed) : random_(seed) { history_.push_back({0, 0, {}}); }

  // After each answer that promised durability: operations up to this index.
  std::function<void(uint64_t index)> on_promise;
  uint64_t promised() const { return promised_; }
  uint64_t answered() const { return answered_; }

  // One random operation. False: the disk has failed.
  bool step(SoleReplica& replica) {
    switch (random_() % 16) {
      case 0:
      case 1:
      case 2:
        return create(replica);
      case 3:
      case 4:
      case 5:
      case 6:
        return random_() % 4 != 0 ? write(replica) : write_scattered(replica);
      case 7:
        return truncate(replica);
      case 8:
        return allocate(replica);
      case 9:
      case 10:
        return unlink(replica);
      case 11:
        return link(replica);
      case 12:
        return rename(replica);
      case 13:
        return random_() % 3 ? true : junction(replica);
      case 14:
        return replica.number() != kRootVolume || random_() % 3 ? true : append_entry(replica);
      default:
        return sync(replica);
    }
  }

  // The state that came back; it must be the one that stands in the history at the recovered index, and that
  // must not be below `at_least`. `of_recovery`: so many operations at the end may be of recoveries that were
  // cut off (they change nothing that can be seen here) instead of the load's.
  VolumeState match(SoleReplica& replica, uint64_t at_least, uint64_t of_recovery = 0) const {
    const uint64_t index = replica.recovered_index();
    require(index >= at_least, fmt::format("volume {} came back at operation {}, {} was durable",
                                           replica.number(), index, at_least));
    VolumeState found = read_state_of(replica);
    std::string wrong;
    for (uint64_t at = index; at >= at_least && at + of_recovery >= index; --at) {
      const std::string here = difference_at(at, found);
      if (here.empty()) return found;
      wrong += fmt::format("; as of {}: {}", at, here);
      if (at == 0) break;
    }
    throw std::runtime_error(fmt::format("volume {} at operation {}, {} was durable, {} answered{}",
                                         replica.number(), index, at_least, answered_, wrong));
  }

  // The load continues on what was recovered; what was lost is forgotten.
  void go_on_from(SoleReplica& replica, VolumeState state) {
    for (const auto& [inode, file] : state.files) given_.insert(inode);
    while (!history_.empty() && history_.back().index > replica.recovered_index()) history_.pop_back();
    state_ = std::move(state);
    answered_ = replica.applied_index();
    note(replica.recovered_index(), replica.recovered_index());
    promised_ = std::max(replica.durable_index(), std::min(promised_, replica.recovered_index()));
  }

  // For a copy that goes on from an earlier moment, at which fewer numbers were given.
  void forget_inode_numbers() { given_.clear(); }

 private:
  struct Moment {
    uint64_t after, index;  // the operation is one of (after, index]; UINT64_MAX: if it was logged at all
    VolumeState state;
  };

  std::string difference_at(uint64_t index, const VolumeState& found) const {
    std::string wrong;
    auto at = std::upper_bound(history_.begin(), history_.end(), index,
                               [](uint64_t i, const Moment& moment) { return i < moment.index; });
    if (at == history_.begin()) return "there was no such operation";
    for (--at; at != history_.end() && (at->index <= index || at->after < index); ++at) {
      const std::string here = difference(at->state, found);
      if (here.empty()) return "";
      wrong += (wrong.empty() ? "" : ", or ") + here;
    }
    return wrong;
  }
  void note(uint64_t after, uint64_t index) { history_.push_back({after, index, state_}); }
  void promise(uint64_t index) {
    promised_ = std::max(promised_, index);
    if (on_promise) on_promise(index);
  }
  uint64_t pick(uint64_t below) { return random_() % below; }
  std::string name() { return "n" + std::to_string(pick(8)); }
  InodeNumber any() {
    if (state_.files.empty()) return 0;
    return std::next(state_.files.begin(), ptrdiff_t(pick(state_.files.size())))->first;
  }
  std::string content() {
    static constexpr size_t kSizes[] = {50, 1500, 5000, 30'000, 60'000, 100'000, 130'000};
    std::string out(1 + pick(kSizes[pick(7)]), char('a' + pick(3)));
    if (pick(4) != 0) {  // else perhaps equal to another one
      for (size_t i = 0; i + 8 <= out.size(); i += 8) {
        const uint64_t word = random_();
        std::memcpy(out.data() + i, &word, 8);
      }
    }
    return out;
  }

  // `effect` on the model, when the operation was done.
  template <typename Effect>
  bool change(SoleReplica& replica, RequestBody body, Code expected, bool durable, Effect effect,
              Payload payload = {}) {
    const uint64_t before = replica.applied_index();
    const Reply reply = ask(replica, std::move(body), std::move(payload));
    const uint64_t now = replica.applied_index();
    if (reply.code == Code::ok) {
      require(expected == Code::ok, "an operation succeeded that could not");
      effect(state_, reply);
      note(before, now);
      answered_ = now;
      if (durable) promise(now == before + 1 ? now : before);
      return true;
    }
    if (reply.code == expected) return true;
    require(reply.code == Code::io, fmt::format("{} {}", name_of(reply.code), reply.message));
    if (expected == Code::ok) {  // it may have been logged
      VolumeState old = state_;
      effect(state_, reply);
      note(before, UINT64_MAX);
      state_ = std::move(old);
    }
    return false;
  }

  bool create(SoleReplica& replica) {
    Create create;
    create.parent = kRootInode;
    create.name = name();
    create.mode = 0100644;
    const Code expected = state_.names.contains(create.name) ? Code::exists : Code::ok;
    return change(replica, create, expected, false, [&](VolumeState& state, const Reply& reply) {
      const InodeNumber inode = reply.attributes.inode;
      if (reply.code == Code::ok)
        require(given_.insert(inode).second, fmt::format("inode number {} was given twice", inode));
      state.names[create.name] = inode;
      state.files[inode].names = 1;
    });
  }
  bool write(SoleReplica& replica) {
    const InodeNumber inode = any();
    if (inode == 0) return true;
    const std::string data = content();
    Write write;
    write.inode = inode;
    write.append = pick(5) == 0;
    const size_t size = state_.files[inode].bytes->size();
    write.offset = pick(3) != 0 ? pick(size + 1) : pick(150'000);
    write.durable = pick(5) == 0;
    const size_t offset = write.append ? size : write.offset;
    auto effect = [&](VolumeState& state, const Reply&) {
      auto bytes = std::make_shared<std::string>(*state.files[inode].bytes);
      if (bytes->size() < offset + data.size()) bytes->resize(offset + data.size());
      bytes->replace(offset, data.size(), data);
      state.files[inode].bytes = std::move(bytes);
    };
    return change(replica, write, Code::ok, write.durable, effect, Bytes(data.begin(), data.end()));
  }
  bool write_scattered(SoleReplica& replica) {
    WriteScattered write;
    write.inode = any();
    if (write.inode == 0) return true;
    write.durable = pick(5) == 0;
    Bytes payload;
    uint64_t at = pick(1000);
    for (uint64_t pieces = 2 + pick(20); pieces > 0; --pieces) {
      const auto length = uint32_t(1 + pick(pick(4) != 0 ? 2000 : 8000));
      write.pieces.push_back({at, length});
      for (uint32_t i = 0; i < length; ++i) payload.push_back(uint8_t(random_()));
      at += length + pick(10'000);
    }
    auto effect = [&](VolumeState& state, const Reply&) {
      auto bytes = std::make_shared<std::string>(*state.files[write.inode].bytes);
      size_t from = 0;
      for (const WritePiece& piece : write.pieces) {
        if (bytes->size() < piece.offset + piece.length) bytes->resize(piece.offset + piece.length);
        std::copy_n(payload.begin() + ptrdiff_t(from), piece.length,
                    bytes->begin() + ptrdiff_t(piece.offset));
        from += piece.length;
      }
      state.files[write.inode].bytes = std::move(bytes);
    };
    return change(replica, write, Code::ok, write.durable, effect, payload);
  }
  bool truncate(SoleReplica& replica) {
    SetAttributes set;
    set.inode = any();
    set.size = pick(150'000);
    if (set.inode == 0) return true;
    return change(replica, set, Code::ok, false, [&](VolumeState& state, const Reply&) {
      auto bytes = std::make_shared<std::string>(*state.files[set.inode].bytes);
      bytes->resize(*set.size);
      state.files[set.inode].bytes = std::move(bytes);
    });
  }
  bool allocate(SoleReplica& replica) {
    Allocate allocate;
    allocate.inode = any();
    if (allocate.inode == 0) return true;
    allocate.offset = pick(150'000);
    allocate.length = 1 + pick(50'000);
    const uint64_t kind = pick(3);
    allocate.punch = kind == 0;
    allocate.zero = kind == 1;
    allocate.keep_size = kind == 0 || pick(2) != 0;
    return change(replica, allocate, Code::ok, false, [&](VolumeState& state, const Reply&) {
      auto bytes = std::make_shared<std::string>(*state.files[allocate.inode].bytes);
      const size_t end = allocate.offset + allocate.length;
      if (!allocate.keep_size && bytes->size() < end) bytes->resize(end);
      if (kind != 2) {
        for (size_t i = allocate.offset; i < std::min(end, bytes->size()); ++i) (*bytes)[i] = 0;
      }
      state.files[allocate.inode].bytes = std::move(bytes);
    });
  }
  bool unlink(SoleReplica& replica) {
    const auto label = name();
    const Code expected = state_.names.contains(label) ? Code::ok : Code::not_found;
    return change(replica, Unlink{kRootInode, label, false}, expected, false,
                  [&](VolumeState& state, const Reply&) { state.drop(label); });
  }
  bool link(SoleReplica& replica) {
    Link link;
    link.inode = any();
    link.parent = kRootInode;
    link.name = name();
    if (link.inode == 0) return true;
    const Code expected = state_.names.contains(link.name) ? Code::exists : Code::ok;
    return change(replica, link, expected, false, [&](VolumeState& state, const Reply&) {
      state.names[link.name] = link.inode;
      ++state.files[link.inode].names;
    });
  }
  bool rename(SoleReplica& replica) {
    Rename rename;
    rename.parent = rename.new_parent = kRootInode;
    rename.name = name();
    rename.new_name = name();
    const Code expected = state_.names.contains(rename.name) ? Code::ok : Code::not_found;
    return change(replica, rename, expected, false, [&](VolumeState& state, const Reply&) {
      const InodeNumber inode = state.names.at(rename.name);
      auto target = state.names.find(rename.new_name);
      if (target != state.names.end() && target->second == inode) return;  // POSIX: nothing happens
      if (target != state.names.end()) state.drop(rename.new_name);
      state.names.erase(rename.name);
      state.names[rename.new_name] = inode;
    });
  }
  bool junction(SoleReplica& replica) {
    const auto label = "j" + std::to_string(pick(3));
    auto found = state_.junctions.find(label);
    if (found != state_.junctions.end()) {
      return change(replica, RemoveJunction{{label}, found->second}, Code::ok, true,
                    [&](VolumeState& state, const Reply&) { state.junctions.erase(label); });
    }
    Junction to;
    for (auto& byte : to.volume) byte = uint8_t(random_());
    to.number = uint32_t(100 + pick(1000));
    return change(replica, MakeJunction{{label}, to}, Code::ok, true,
                  [&](VolumeState& state, const Reply&) { state.junctions[label] = to.volume; });
  }
  bool append_entry(SoleReplica& replica) {
    const Bytes entry(1 + pick(300), uint8_t(random_()));
    return change(replica, AppendRegister{state_.entries.size(), entry}, Code::ok, true,
                  [&](VolumeState& state, const Reply&) { state.entries.push_back(entry); });
  }
  bool sync(SoleReplica& replica) {
    const uint64_t before = replica.applied_index();
    if (ask(replica, Sync{}).code != Code::ok) return false;
    promise(before);
    return true;
  }

  std::mt19937_64 random_;
  VolumeState state_;
  std::vector<Moment> history_;
  std::set<InodeNumber> given_;  // ever; none may come again, whatever was lost
  uint64_t promised_ = 0, answered_ = 0;
};

}  // namespace efs::test
