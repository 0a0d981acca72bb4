// One file, as its owner has it, behind a VolumeClient whose answers come when and how the test wants.
#pragma once

#include <algorithm>
#include <deque>
#include <map>

#include "peer/volume/client.h"
#include "test/unit/manual_clock.h"

namespace efs {

class FakeVolume : public VolumeClient {
 public:
  explicit FakeVolume(bool is_local = false, VolumeNumber number = 3) : local_(is_local), number_(number) {}

  // Answers wait in `queue` while this is set; else they come inside call().
  bool deferred = false;
  std::function<Code(const RequestBody&)> refuse;  // before anything is done
  std::deque<std::function<void()>> queue;
  Bytes content, durable;  // durable: what survives lose_power()
  uint64_t change = 1, verifier = 7, logged = 0;
  OwnersLog log{7};
  std::vector<RequestBody> seen;
  std::vector<bool> late;                                      // of those
  std::vector<uint32_t> uids;                                  // likewise
  std::map<std::pair<InodeNumber, std::string>, Reply> names;  // Lookup
  std::map<InodeNumber, Attributes> inodes;                    // GetAttributes of others than the file (9)
  std::map<InodeNumber, std::string> links;                    // ReadLink
  std::function<void(const RequestBody&, Reply&)> shape;       // what is to be said beyond that
  bool down = false;
  bool exclusive = true;  // bytes may be buffered
  bool hears = true;      // of others' changes
  bool ordered = true;    // no WriteScattered that an owner would refuse has come
  int64_t lease_until = 0;
  RecallListener recall;
  std::function<void(bool)> lost;
  std::function<void()> renewed;

  void call(const Credentials& who, RequestBody body, Payload payload, const Options& options,
            Done done) override {
    seen.push_back(body);
    late.push_back(options.late);
    uids.push_back(who.uid);
    if (!deferred) return done(answer(body, payload));
    // Applied when it is answered: a request on its way may be overtaken.
    queue.push_back(
        [this, body, payload = std::move(payload), done = std::move(done)] { done(answer(body, payload)); });
  }
  // Answers one of those that wait; false when none does.
  bool step(size_t index = 0) {
    if (queue.empty()) return false;
    auto at = queue.begin() + ptrdiff_t(index % queue.size());
    auto task = std::move(*at);
    queue.erase(at);
    task();
    return true;
  }
  void lose_power() {
    content = durable;
    restart(log.durable);
    change += 100;
  }
  // `found`: of its log.
  void restart(uint64_t found) {
    log = {verifier + 1, 0, verifier, found};
    ++verifier;
  }

  void poke() override {}
  const VolumeId& id() const override { return id_; }
  VolumeNumber number() const override { return number_; }
  bool local() const override { return local_; }
  void on_recall(RecallListener listener, std::function<bool(InodeNumber)>) override { recall = listener; }
  void on_leases_lost(std::function<void(bool)> listener) override { lost = listener; }
  void on_renewal(std::function<void()> listener) override { renewed = listener; }
  int64_t lease_until_ns() const override { return lease_until; }
  bool may_buffer(InodeNumber) override { return exclusive; }
  bool hears_of(InodeNumber) override { return hears; }
  void on_new_verifier(std::function<void(Resending)>) override {}
  OwnersLog owners_log() const override { return log; }

  Attributes attributes() const {
    Attributes file;
    file.inode = 9;
    file.mode = 0100644;
    file.size = content.size();
    file.change = change;
    return file;
  }

 private:
  VolumeAnswer answer(const RequestBody& body, ByteView payload) {
    VolumeAnswer reply;
    reply.reply.verifier = verifier;
    if (down) reply.reply.code = Code::unreachable;
    if (refuse && reply.reply.code == Code::ok) reply.reply.code = refuse(body);
    if (reply.reply.code != Code::ok) return reply;
    reply.reply.logged = ++logged;
    std::visit([&](const auto& one) { apply(one, payload, reply); }, body);
    if (shape) shape(body, reply.reply);
    return reply;
  }
  void apply(const Write& write, ByteView payload, VolumeAnswer& reply) {
    const uint64_t offset = write.append ? content.size() : write.offset;
    content.resize(std::max<size_t>(content.size(), offset + payload.size()));
    std::copy(payload.begin(), payload.end(), content.begin() + ptrdiff_t(offset));
    ++change;
    if (write.durable) sync();
    reply.reply.offset = offset;
    reply.reply.attributes = attributes();
  }
  void apply(const WriteScattered& write, ByteView payload, VolumeAnswer& reply) {
    size_t at = 0;
    uint64_t end = 0;
    for (const WritePiece& piece : write.pieces) {
      ordered &= piece.offset >= end && piece.length != 0;
      end = piece.offset + piece.length;
      content.resize(std::max<size_t>(content.size(), end));
      std::copy_n(payload.begin() + ptrdiff_t(at), piece.length, content.begin() + ptrdiff_t(piece.offset));
      at += piece.length;
    }
    ordered &= at == payload.size() && at <= kMaxWrite && write.pieces.size() <= kWritePieces;
    ++change;
    if (write.durable) sync();
    reply.reply.attributes = attributes();
  }
  void apply(const Read& read, ByteView, VolumeAnswer& reply) {
    const size_t from = std::min<size_t>(read.offset, content.size());
    const size_t to = std::min<size_t>(from + read.length, content.size());
    Bytes part;
    append(part, ByteView(content).subspan(from, to - from));
    reply.payload = std::move(part);
    reply.reply.attributes = attributes();
  }
  void apply(const SetAttributes& set, ByteView, VolumeAnswer& reply) {
    if (set.size) content.resize(*set.size);
    ++change;
    reply.reply.attributes = attributes();
  }
  void apply(const GetAttributes& get, ByteView, VolumeAnswer& reply) {
    auto found = inodes.find(get.inode);
    reply.reply.attributes = found == inodes.end() ? attributes() : found->second;
  }
  void apply(const Lookup& lookup, ByteView, VolumeAnswer& reply) {
    auto found = names.find({lookup.parent, lookup.name});
    if (found == names.end()) {
      reply.reply.code = Code::not_found;
    } else {
      reply.reply = found->second;
    }
  }
  void apply(const ReadLink& link, ByteView, VolumeAnswer& reply) { reply.reply.text = links[link.inode]; }
  void apply(const Sync&, ByteView, VolumeAnswer&) { sync(); }
  void sync() {
    durable = content;
    log.durable = logged;
  }
  template <typename Other>
  void apply(const Other&, ByteView, VolumeAnswer& reply) {
    reply.reply.attributes = attributes();
  }

  const bool local_;
  const VolumeNumber number_;
  VolumeId id_{};
};

using test::ManualClock;

}  // namespace efs
