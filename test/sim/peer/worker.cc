#include "test/sim/peer/worker.h"

#include <fmt/format.h>

#include "peer/base/hash.h"

namespace efs::test {

namespace {
constexpr uint32_t kBasicLength = 3000;  // above what lives in the inode
constexpr uint64_t kAppendsPerRound = 3;
constexpr size_t kAppendLength = 16;
}  // namespace

// Of a round: what is written, and then each append with its number.
Bytes Worker::content() const {
  const uint32_t length = number_ % 5 == 0 ? 100'000 : kBasicLength + uint32_t(number_ % 7) * 500;
  Bytes out(length);
  for (uint32_t i = 0; i < length; ++i) out[i] = uint8_t(i * 31 + number_ * 7 + name_.size());
  return out;
}

void Worker::violate(const std::string& what) {
  violations_.push_back(fmt::format("{} round {}: {}", name_, number_, what));
}

void Worker::begin() {
  auto client = host_.view ? host_.view->client(volume_) : nullptr;
  if (!client) {
    idle_ = true;
    return;
  }
  client_ = client;
  client->on_new_verifier([weak = weak_from_this()](VolumeClient::Resending) {
    if (auto self = weak.lock()) self->disturbed_ = true;
  });
  disturbed_ = false;
  Create make;
  make.parent = kRootInode;
  make.name = name_;
  make.mode = 0040755;
  ask(make, {}, &Worker::made_directory);
}

void Worker::ask(RequestBody body, Payload payload, Next next) {
  auto client = client_.lock();
  if (!client) {
    idle_ = true;
    return;
  }
  client->call(kRootUser, std::move(body), std::move(payload), {},
               [weak = weak_from_this(), next](VolumeAnswer answer) {
                 if (auto self = weak.lock()) self->answered(answer, next);
               });
}

// The next request comes a moment later, never inside the answer.
void Worker::answered(const VolumeAnswer& answer, Next next) {
  if (answer.reply.code == Code::closed || dead()) {
    idle_ = true;
    return;
  }
  if (answer.reply.code != Code::ok) {
    disturbed_ = true;
    ++failures_;
  }
  host_.runtime->loop.after(kMillisecond, [weak = weak_from_this(), next, reply = answer.reply] {
    if (auto self = weak.lock()) ((*self).*next)(reply);
  });
}

void Worker::made_directory(Reply reply) {
  if (reply.code != Code::ok) {
    // After an unknown outcome the same name is asked for again; only then may it be there.
    directory_ = 0;
    ++number_;
    if (stopping_ || number_ > 5) {
      idle_ = true;
      return;
    }
    Lookup find{kRootInode, name_};
    return ask(find, {}, &Worker::made_directory);
  }
  directory_ = reply.attributes.inode;
  round();
}

void Worker::round() {
  if (stopping_) {
    idle_ = true;
    return;
  }
  ++number_;
  disturbed_ = false;
  appends_ = 0;
  Create make;
  make.parent = directory_;
  make.name = temporary();
  make.mode = 0100644;
  ask(make, {}, &Worker::created);
}

void Worker::created(Reply reply) {
  if (reply.code == Code::exists) violate("a name never used before exists: the request ran twice");
  if (reply.code != Code::ok) return kept(reply);
  inode_ = reply.attributes.inode;
  Write write;
  write.inode = inode_;
  Bytes bytes = content();
  write.crc = crc32c(bytes);
  size_ = bytes.size();
  ask(write, std::move(bytes), &Worker::written);
}

void Worker::written(Reply reply) {
  if (reply.code != Code::ok || disturbed_) return kept(reply);
  appended(std::move(reply));
}

void Worker::appended(Reply reply) {
  if (reply.code != Code::ok || disturbed_) return kept(reply);
  if (appends_ > 0) {
    if (reply.offset != size_)
      violate(fmt::format("an append went to {} instead of {}", reply.offset, size_));
    size_ += kAppendLength;
  }
  if (appends_ == kAppendsPerRound) return ask(Sync{inode_}, {}, &Worker::synced);
  ++appends_;
  Bytes bytes(kAppendLength, uint8_t(appends_));
  Write write;
  write.inode = inode_;
  write.append = true;
  write.crc = crc32c(bytes);
  ask(write, std::move(bytes), &Worker::appended);
}

void Worker::synced(Reply reply) {
  if (reply.code != Code::ok || disturbed_) return kept(reply);
  ask(Rename{directory_, temporary(), directory_, final_name(), true, false}, {}, &Worker::renamed);
}

void Worker::renamed(Reply reply) {
  if (reply.code == Code::exists || reply.code == Code::not_found)
    violate("a rename found its names moved: the request ran twice, or something synced is gone");
  if (reply.code != Code::ok || disturbed_) return kept(reply);
  ask(Sync{}, {}, &Worker::kept);
}

// The end of a round, good or bad.
void Worker::kept(Reply reply) {
  if (reply.code == Code::ok && !disturbed_) {
    Bytes bytes = content();
    for (uint64_t i = 1; i <= kAppendsPerRound; ++i) bytes.insert(bytes.end(), kAppendLength, uint8_t(i));
    promised_[final_name()] = std::move(bytes);
    ++rounds_;
    if (rounds_ % 4 == 0) {  // an older one goes, so that space is freed under the load too
      const std::string oldest = promised_.begin()->first;
      promised_.erase(oldest);
      return ask(Unlink{directory_, oldest, false}, {}, &Worker::unlinked);
    }
  }
  host_.runtime->loop.after(pause_ns_, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->round();
  });
}

void Worker::unlinked(Reply reply) {
  if (reply.code == Code::not_found) violate("what was promised was not there to be removed");
  host_.runtime->loop.after(pause_ns_, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->round();
  });
}

std::vector<std::string> Worker::check(Host& reader) const {
  std::vector<std::string> wrong;
  if (promised_.empty()) return wrong;
  for (const auto& [name, bytes] : promised_) {
    const std::string what = fmt::format("{}/{} read by {}", name_, name, reader.address);
    const VolumeAnswer found = mesh_.call(reader, volume_, Resolve{kRootInode, {name_, name}});
    if (found.reply.code != Code::ok || found.reply.walked != 2) {
      wrong.push_back(fmt::format("{}: not found ({})", what, name_of(found.reply.code)));
      continue;
    }
    Read read;
    read.inode = found.reply.entries.back().inode;
    read.length = kMaxWrite;
    const VolumeAnswer got = mesh_.call(reader, volume_, read);
    if (got.reply.code != Code::ok)
      wrong.push_back(what + ": " + to_text(Error{got.reply.code, got.reply.message}));
    else if (text(got.payload) != text(bytes))
      wrong.push_back(
          fmt::format("{}: {} bytes, not the {} that were promised", what, got.payload.size(), bytes.size()));
  }
  return wrong;
}

}  // namespace efs::test
