// Rows in a std::map, with transactions that can be dropped: what the state machine's tests run on.
#pragma once

#include <map>

#include "peer/volume/state/machine.h"

namespace efs::test {

using RowKey = std::pair<Table, std::string>;

class MapRows : public ReadRows {
 public:
  Result<std::optional<std::string_view>> get(Table table, std::string_view key) const override {
    auto found = rows.find({table, std::string(key)});
    if (found == rows.end()) return std::nullopt;
    return std::optional<std::string_view>(found->second);
  }
  Status scan(Table table, std::string_view from, const Visit& visit) const override {
    for (auto at = rows.lower_bound({table, std::string(from)}); at != rows.end() && at->first.first == table;
         ++at)
      if (!visit(at->first.second, at->second)) break;
    return {};
  }
  std::map<RowKey, std::string> rows;
};

// Changes in place, and takes them back unless committed.
class MapTransaction : public WriteRows {
 public:
  explicit MapTransaction(MapRows& base) : base_(base) {}
  ~MapTransaction() override {
    for (auto& [key, value] : before_) {
      if (value) {
        base_.rows[key] = *value;
      } else {
        base_.rows.erase(key);
      }
    }
  }
  Result<std::optional<std::string_view>> get(Table table, std::string_view key) const override {
    return base_.get(table, key);
  }
  Status scan(Table table, std::string_view from, const Visit& visit) const override {
    return base_.scan(table, from, visit);
  }
  void put(Table table, std::string_view key, std::string_view value) override {
    std::string copy(value);
    remember(table, key);
    base_.rows[{table, std::string(key)}] = std::move(copy);
  }
  void erase(Table table, std::string_view key) override {
    remember(table, key);
    base_.rows.erase({table, std::string(key)});
  }
  void commit() { before_.clear(); }

 private:
  void remember(Table table, std::string_view key) {
    RowKey row{table, std::string(key)};
    auto found = base_.rows.find(row);
    before_.try_emplace(row, found == base_.rows.end() ? std::nullopt : std::optional(found->second));
  }
  MapRows& base_;
  std::map<RowKey, std::optional<std::string>> before_;
};

inline Credentials user(uint32_t uid, std::vector<uint32_t> groups = {}) {
  Credentials who;
  who.uid = who.gid = uid;
  who.groups = std::move(groups);
  who.groups_known = true;
  return who;
}

// A volume of rows alone: every operation goes through its encoding, as through the log.
struct TestVolume {
  explicit TestVolume(uint32_t level = kFormatLevel) {
    FormatVolume format;
    format.charter.id[0] = 7;
    format.charter.chunk_key.fill(9);
    format.mode = 0777;
    BOOST_REQUIRE(run(format).code == Code::ok);
    if (level > 1) BOOST_REQUIRE(run(RaiseLevel{level}).code == Code::ok);
  }
  Reply run(OperationBody body, Credentials who = user(0)) {
    Operation operation;
    operation.who = std::move(who);
    operation.body = std::move(body);
    return run(std::move(operation));
  }
  Reply run(Operation operation) {
    operation.time_ns = now_ns += 1000;
    auto decoded = decode_operation(encode_operation(operation));
    BOOST_REQUIRE(decoded);
    BOOST_REQUIRE(*decoded == operation);
    MapTransaction transaction(rows);
    effects = {};
    Reply reply = apply(transaction, {index + 1, now_ns}, *decoded, effects);
    if (reply.code == Code::ok && !effects.repeated) {
      transaction.commit();
      ++index;
      for (auto& chunk : effects.store) chunks[chunk.chunk] = chunk.bytes;
      for (auto& chunk : effects.freed) chunks.erase(chunk);
    }
    return reply;
  }
  Reply ask(RequestBody body, Credentials who = user(0), bool held = false) {
    Request request;
    request.who = std::move(who);
    request.body = std::move(body);
    return read(rows, request, held);
  }
  InodeNumber make(InodeNumber parent, std::string name, uint32_t mode, Credentials who = user(0)) {
    Create create;
    create.parent = parent;
    create.name = std::move(name);
    create.mode = mode;
    Reply reply = run(create, std::move(who));
    BOOST_REQUIRE_EQUAL(int(reply.code), 0);
    return reply.attributes.inode;
  }
  Reply write(InodeNumber inode, uint64_t offset, std::string_view bytes, Credentials who = user(0)) {
    WriteExtents write;
    write.inode = inode;
    write.offset = offset;
    write.bytes = to_bytes(view(bytes));
    return run(write, std::move(who));
  }
  std::string content(InodeNumber inode) {
    std::string all;
    for (;;) {
      Read request{inode, all.size(), kMaxWrite};
      auto plan = plan_read(rows, user(0), request, true);
      BOOST_REQUIRE(plan);
      if (plan->length == 0) return all;
      std::string piece(plan->length, '\0');
      std::copy(plan->content.begin(), plan->content.end(), piece.begin());
      for (auto& one : plan->pieces) {
        auto chunk = chunks.find(one.chunk);
        BOOST_REQUIRE(chunk != chunks.end());
        BOOST_REQUIRE(one.chunk_offset + one.length <= chunk->second.size());
        std::copy_n(chunk->second.begin() + one.chunk_offset, one.length, piece.begin() + one.at);
      }
      all += piece;
    }
  }
  Attributes attributes(InodeNumber inode) { return ask(GetAttributes{inode}).attributes; }
  VolumeUsage usage() { return ask(Usage{}).usage; }
  Code lookup(InodeNumber parent, std::string name) { return ask(Lookup{parent, name}).code; }

  MapRows rows;
  Effects effects;
  std::map<Id, Bytes> chunks;
  uint64_t index = 0;
  int64_t now_ns = 1'000'000'000;
};

}  // namespace efs::test

namespace efs {
inline std::ostream& boost_test_print_type(std::ostream& out, Code code) {
  return out << name_of(code);
}
}  // namespace efs
