// One encrypted connection to one peer: a stream, the handshake on it, then messages both ways.
//
// The happy path: start(); the handshake's three messages; both sides have asked their owner whether this
// identity may come in (identified()); the accepting side sends welcome; opened(); messages.
// It fails once, by broken(), with an error and a reason that is counted: the handshake took over 5 s, a
// record was garbled, replayed, reordered, truncated or over its limits, the stream closed. From then on
// nothing is sent or delivered, and the owner destroys it, but not inside one of its callbacks.
// The loop's thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "peer/net/framing.h"
#include "peer/net/handshake.h"
#include "peer/runtime/runtime.h"

namespace efs {

// Encrypted bytes handed to the stream at once: enough to keep a fast link busy, little enough that a
// heartbeat soon follows.
inline constexpr size_t kStreamWindow = 256 << 10;
inline constexpr int64_t kHandshakeTimeoutNs = 5 * kSecond;
inline constexpr int64_t kGoodbyeTimeoutNs = kSecond;
inline constexpr size_t kLeastProgress = 8 << 10;  // bytes of a record: more than pings bring in seconds

struct SessionOptions {
  int64_t handshake_timeout_ns = kHandshakeTimeoutNs;
  uint64_t rekey_bytes = kRekeyBytes;
  int64_t rekey_ns = kRekeyNs;
};

class Session {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual Greeting greeting() = 0;
    // May the peer come in? An error is told to it (by an accepting side) and ends the session.
    virtual Status identified(Session& session) = 0;
    virtual void opened(Session& session) = 0;
    virtual void received(Session& session, Message message) = 0;
    // Something queued has left: queued_bytes() is lower.
    virtual void progressed(Session& session) = 0;
    // `reason` is a short static word for counters.
    virtual void broken(Session& session, const Error& error, std::string_view reason) = 0;
  };
  // Everything given by reference outlives the session.
  Session(Runtime& runtime, const LocalIdentity& local, Owner& owner, std::unique_ptr<Stream> stream,
          bool initiator, const SessionOptions& options);

  void start();
  bool initiator() const { return handshake_.initiator(); }
  bool open() const { return state_ == State::open; }
  const RemoteIdentity& remote() const { return handshake_.remote(); }
  Address address() const { return stream_->remote(); }
  bool answered() const { return !handshake_.stranger(); }  // something authentic came

  // Queues a message; nothing when the session is not open. The caller bounds queued_bytes().
  void send(Message message);
  size_t queued_bytes() const { return writer_ ? writer_->queued_bytes() : 0; }
  size_t queued_bytes(Priority priority) const { return writer_ ? writer_->queued_bytes(priority) : 0; }
  bool remove_unstarted(uint64_t request_id) { return writer_ && writer_->remove_unstarted(request_id); }
  std::vector<Message> take_unstarted();

  // Ends it without broken(): tells the other side why if it can, and runs `done` when the owner may
  // destroy it (at most a second later, never inside this call).
  void say_goodbye(const Error& error, std::function<void()> done);

  int64_t last_received_ns() const { return last_received_ns_; }
  // Since when less than kLeastProgress has come of the record that has not come to its end (0: none has
  // begun).
  int64_t partial_since_ns() const { return partial_.empty() ? 0 : partial_since_ns_; }
  void excuse(int64_t now_ns) { partial_since_ns_ = now_ns; }  // this process was stopped
  uint64_t bytes_sent() const { return bytes_sent_; }
  uint64_t bytes_received() const { return bytes_received_; }

 private:
  enum class State { handshake, awaiting_welcome, open, leaving, dead };
  void on_data(ByteView data);
  void consume(ByteView data);
  void process(ByteView unit);
  void process_handshake(ByteView message);
  void process_record(ByteView record);
  void finish_handshake();
  void deliver(Message message);
  Status write_handshake();
  void pump();
  void break_off(const Error& error, std::string_view reason);
  bool ended() const { return state_ == State::dead || state_ == State::leaving; }

  Runtime& runtime_;
  Owner& owner_;
  const SessionOptions options_;
  Handshake handshake_;
  State state_ = State::handshake;
  Timer timer_;
  std::optional<MessageWriter> writer_;
  std::optional<MessageReader> reader_;
  Bytes partial_;  // of a record
  bool corked_ = false;
  int64_t last_received_ns_ = 0, partial_since_ns_ = 0;
  size_t partial_seen_ = 0;  // of partial_, then
  int64_t last_rekey_ns_ = 0;
  uint64_t bytes_since_rekey_ = 0;
  uint64_t bytes_sent_ = 0, bytes_received_ = 0;
  std::function<void()> left_;
  std::unique_ptr<Stream> stream_;  // last: its callbacks end before what they use
};

}  // namespace efs
