#include "peer/net/framing.h"

#include <algorithm>

namespace efs {
namespace {
constexpr size_t kSmall = 32 << 10;  // with its header: several of these share a record
constexpr unsigned kLowestLaneEvery = 8;
}  // namespace

// ---- writing ----

void MessageWriter::push(Message message) {
  auto outgoing = std::make_unique<Outgoing>();
  message.header.body_length = uint32_t(message.body.size());
  message.header.payload_length = uint32_t(message.payload.size());
  message.header.encode(outgoing->header);
  queued_[size_t(message.header.priority)] += message.header.total();
  bool large = message.header.total() > kSmall;
  size_t lane = size_t(message.header.priority) * 2 + size_t(large);
  outgoing->message = std::move(message);
  lanes_[lane].waiting.push_back(std::move(outgoing));
}

size_t MessageWriter::pick_lane() {
  bool lowest = ++records_ % kLowestLaneEvery == 0;
  for (size_t i = 0; i < kLanes; ++i) {
    size_t lane = lowest ? kLanes - 1 - i : i;
    if (!lanes_[lane].empty()) return lane;
  }
  return 0;
}

// Fills a record: from the lane whose turn it is, then from what else waits, in order. One frame a
// large message and record.
void MessageWriter::plan(std::vector<Frame>& frames, size_t& space) {
  size_t first = pick_lane();
  for (size_t i = 0; i <= kLanes; ++i) {
    Lane& lane = lanes_[i == 0 ? first : i - 1];
    const size_t interleaved = (&lane - lanes_) % 2 == 1 ? kInterleaved : 1;  // small ones stay in order
    while (!lane.empty() && space > kFrameHeader + kMessageHeader) {
      if (lane.started.size() < interleaved && !lane.waiting.empty()) {
        lane.started.push_front(std::move(lane.waiting.front()));
        lane.waiting.pop_front();
        lane.started.front()->stream = next_stream_++;
      }
      auto message = std::move(lane.started.front());
      lane.started.pop_front();
      size_t length = std::min(space - kFrameHeader, message->left());
      frames.push_back({message.get(), length});
      space -= kFrameHeader + length;
      if (length == message->left()) {
        finished_.push_back(std::move(message));
      } else {
        lane.started.push_back(std::move(message));
      }
    }
  }
}

void MessageWriter::seal_frame(const Frame& frame, uint8_t*& out) {
  Outgoing& message = *frame.message;
  uint8_t header[kFrameHeader] = {};
  put_le<uint32_t>(header, message.stream);
  put_le<uint16_t>(header + 4, uint16_t(frame.length));
  header[6] = uint8_t(message.sent == 0 ? FrameType::start : FrameType::more);
  cipher_.update(out, header);
  out += kFrameHeader;
  size_t left = frame.length;
  size_t part_start = 0;
  for (ByteView part :
       {ByteView(message.header), ByteView(message.message.body), message.message.payload.view()}) {
    size_t part_end = part_start + part.size();
    if (left > 0 && message.sent < part_end) {
      size_t length = std::min(left, part_end - message.sent);
      cipher_.update(out, part.subspan(message.sent - part_start, length));
      out += length;
      left -= length;
      message.sent += length;
    }
    part_start = part_end;
  }
}

Bytes MessageWriter::next_record() {
  std::vector<Frame> frames;
  size_t space = kMaxRecordPlain - (rekey_ ? kFrameHeader : 0);
  const size_t all = space;
  plan(frames, space);
  size_t plain = all - space + (rekey_ ? kFrameHeader : 0);
  Bytes record(kRecordPrefix + plain + kTagBytes);
  put_le<uint16_t>(record.data(), uint16_t(plain + kTagBytes));
  uint8_t* out = record.data() + kRecordPrefix;
  cipher_.begin();
  for (const Frame& frame : frames) {
    seal_frame(frame, out);
    queued_of(*frame.message) -= frame.length;
  }
  if (rekey_) {
    uint8_t header[kFrameHeader] = {};
    header[6] = uint8_t(FrameType::rekey);
    cipher_.update(out, header);
    out += kFrameHeader;
  }
  cipher_.seal(out);
  if (rekey_) cipher_.rekey();
  rekey_ = false;
  finished_.clear();
  return record;
}

std::vector<Message> MessageWriter::take_unstarted() {
  std::vector<Message> out;
  for (Lane& lane : lanes_) {
    for (auto& waiting : lane.waiting) {
      queued_of(*waiting) -= waiting->left();
      out.push_back(std::move(waiting->message));
    }
    lane.waiting.clear();
  }
  return out;
}

bool MessageWriter::remove_unstarted(uint64_t request_id) {
  for (Lane& lane : lanes_) {
    auto found = std::find_if(lane.waiting.begin(), lane.waiting.end(), [&](const auto& waiting) {
      const auto& header = waiting->message.header;
      return header.type == MessageType::request && header.id == request_id;
    });
    if (found == lane.waiting.end()) continue;
    queued_of(**found) -= (*found)->left();
    lane.waiting.erase(found);
    return true;
  }
  return false;
}

// ---- reading ----

// A record's plaintext, decrypted as far as it is asked for. What comes from it is not authenticated
// before finish(), so until then it may only fill bounded buffers.
class MessageReader::Source {
 public:
  Source(RecordCipher& cipher, ByteView record)
      : cipher_(cipher), rest_(record.first(record.size() - kTagBytes)), tag_(record.last(kTagBytes)) {
    cipher_.begin();
  }
  size_t left() const { return rest_.size(); }
  void take(uint8_t* out, size_t length) {
    cipher_.update(out, rest_.first(length));
    rest_ = rest_.subspan(length);
  }
  bool finish() {
    uint8_t scratch[1024];
    while (left() > 0) take(scratch, std::min(left(), sizeof scratch));
    return cipher_.open(tag_.data());
  }

 private:
  RecordCipher& cipher_;
  ByteView rest_, tag_;
};

Status MessageReader::read_record(ByteView record, std::vector<Message>& completed) {
  if (record.size() <= kTagBytes) return fail(Code::protocol, "a record is too short");
  completed_.clear();
  Source source(cipher_, record);
  Status parsed = read_frames(source);
  if (!source.finish()) return fail(Code::unauthorized, "a record does not authenticate");
  EFS_TRY(parsed);
  if (rekey_) cipher_.rekey();
  rekey_ = false;
  completed = std::move(completed_);
  return {};
}

Status MessageReader::read_frames(Source& source) {
  while (source.left() > 0) EFS_TRY(read_frame(source));
  return {};
}

Status MessageReader::read_frame(Source& source) {
  if (rekey_ || source.left() < kFrameHeader) return fail(Code::protocol, "a frame is cut short");
  uint8_t header[kFrameHeader];
  source.take(header, sizeof header);
  uint32_t stream = get_le<uint32_t>(header);
  size_t length = get_le<uint16_t>(header + 4);
  if (header[7] != 0 || length > source.left()) return fail(Code::protocol, "a frame header is wrong");
  if (FrameType(header[6]) == FrameType::rekey) {
    if (length != 0 || stream != 0) return fail(Code::protocol, "a rekey frame with data");
    rekey_ = true;
    return {};
  }
  if (length == 0) return fail(Code::protocol, "an empty frame");
  if (FrameType(header[6]) == FrameType::start) {
    EFS_TRY(start(source, stream, length));
  } else if (FrameType(header[6]) != FrameType::more) {
    return fail(Code::version, "a frame of an unknown type");
  }
  auto found = open_.find(stream);
  if (found == open_.end()) return fail(Code::protocol, "a piece of a message that did not start");
  EFS_TRY(take_data(source, found->second, length));
  if (found->second.received == found->second.message.header.total()) {
    found->second.message.payload = std::move(found->second.payload);
    completed_.push_back(std::move(found->second.message));
    open_.erase(found);
  }
  return {};
}

Status MessageReader::start(Source& source, uint32_t stream, size_t& length) {
  if (length < kMessageHeader) return fail(Code::protocol, "a message without its header");
  if (open_.size() >= kMaxOpenMessages) return fail(Code::too_large, "too many messages at once");
  if (open_.count(stream) > 0) return fail(Code::protocol, "a message that started twice");
  uint8_t bytes[kMessageHeader];
  source.take(bytes, sizeof bytes);
  length -= kMessageHeader;
  EFS_ASSIGN(auto header, MessageHeader::decode(bytes));
  Incoming& incoming = open_[stream];
  incoming.message.header = header;
  incoming.message.body.reserve(header.body_length);  // pages are touched only when bytes come
  incoming.payload.reserve(header.payload_length);
  incoming.received = kMessageHeader;
  return {};
}

Status MessageReader::take_data(Source& source, Incoming& incoming, size_t length) {
  Message& message = incoming.message;
  if (length > message.header.total() - incoming.received)
    return fail(Code::too_large, "a message longer than its header says");
  auto fill = [&](Bytes& part, size_t whole) {
    size_t count = std::min(length, whole - part.size());
    if (count == 0) return;
    part.resize(part.size() + count);
    source.take(part.data() + part.size() - count, count);
    length -= count;
    incoming.received += count;
  };
  fill(message.body, message.header.body_length);
  fill(incoming.payload, message.header.payload_length);
  return {};
}

}  // namespace efs
