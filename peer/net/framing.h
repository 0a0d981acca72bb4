// Messages to records and back. Pure: no stream, no clock; one session's thread.
//
// A record carries frames: whole small messages, or pieces of large ones, encrypted from the messages'
// own buffers into the record, and decrypted straight into the new message's buffers. Six lanes wait:
// control, normal and bulk, each small (fits a record) before large; pieces of up to kInterleaved large
// messages a lane take turns; every eighth record goes to the lowest lane that waits, so that none
// starves. Small messages of one priority arrive in the order in which they were sent; nothing else is
// promised on order.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "peer/net/cipher.h"
#include "peer/net/wire.h"

namespace efs {

class MessageWriter {
 public:
  static constexpr size_t kInterleaved = 4;  // 3 lanes of them stay under kMaxOpenMessages
  explicit MessageWriter(Secret key) : cipher_(RecordCipher::Mode::seal, std::move(key)) {}

  void push(Message message);
  bool empty() const { return queued_bytes() == 0; }
  // Of messages that are not (wholly) in a record yet.
  size_t queued_bytes() const { return queued_[0] + queued_[1] + queued_[2]; }
  size_t queued_bytes(Priority priority) const { return queued_[size_t(priority)]; }
  // The next record, with its length in front; only when not empty().
  Bytes next_record();
  // The next record also tells the reader that the one after it has the next key.
  void rekey_next() { rekey_ = true; }
  // What no byte of has left yet, oldest first: the connection broke.
  std::vector<Message> take_unstarted();
  // Removes the request of this id when no byte of it has left yet.
  bool remove_unstarted(uint64_t request_id);

 private:
  struct Outgoing {
    Message message;
    uint8_t header[kMessageHeader];
    uint32_t stream = 0;
    size_t sent = 0;  // of the header, the body, the payload, as one string
    size_t left() const { return message.header.total() - sent; }
  };
  struct Frame {
    Outgoing* message;
    size_t length;
  };
  static constexpr size_t kLanes = 6;
  struct Lane {
    std::deque<std::unique_ptr<Outgoing>> waiting, started;
    bool empty() const { return waiting.empty() && started.empty(); }
  };
  size_t pick_lane();
  size_t& queued_of(const Outgoing& message) { return queued_[size_t(message.message.header.priority)]; }
  void plan(std::vector<Frame>& frames, size_t& space);
  void seal_frame(const Frame& frame, uint8_t*& out);

  RecordCipher cipher_;
  Lane lanes_[kLanes];
  size_t queued_[3] = {};  // by priority
  uint32_t next_stream_ = 1;
  unsigned records_ = 0;
  bool rekey_ = false;
  std::vector<std::unique_ptr<Outgoing>> finished_;  // in the record that is being made
};

class MessageReader {
 public:
  explicit MessageReader(Secret key) : cipher_(RecordCipher::Mode::open, std::move(key)) {}

  // One record without its length; what it completes is in `completed` after all of it has
  // authenticated. After an error (Code::unauthorized: it did not authenticate; too_large, version,
  // protocol: it did, but breaks the rules) the connection must end.
  Status read_record(ByteView record, std::vector<Message>& completed);
  size_t open_messages() const { return open_.size(); }

 private:
  struct Incoming {
    Message message;
    Bytes payload;  // the message's, until it is whole
    size_t received = 0;
  };
  class Source;
  Status read_frames(Source& source);
  Status read_frame(Source& source);
  Status start(Source& source, uint32_t stream, size_t& length);
  Status take_data(Source& source, Incoming& incoming, size_t length);

  RecordCipher cipher_;
  std::unordered_map<uint32_t, Incoming> open_;
  std::vector<Message> completed_;
  bool rekey_ = false;
};

}  // namespace efs
