#include "peer/net/session.h"

#include <algorithm>

namespace efs {
namespace {

Message net_message(NetKind kind, MessageType type = MessageType::one_way) {
  Message message;
  message.header.type = type;
  message.header.priority = Priority::control;
  message.header.kind = uint16_t(kind);
  return message;
}

bool is(const Message& message, NetKind kind) {
  return message.header.type == MessageType::one_way && message.header.kind == uint16_t(kind);
}

std::string_view reason_of(const Error& error) {
  if (error.code == Code::unauthorized) return "garbled record";
  if (error.code == Code::too_large) return "oversized message";
  if (error.code == Code::version) return "unknown format";
  return "broken rules";
}

}  // namespace

Session::Session(Runtime& runtime, const LocalIdentity& local, Owner& owner, std::unique_ptr<Stream> stream,
                 bool initiator, const SessionOptions& options)
    : runtime_(runtime),
      owner_(owner),
      options_(options),
      handshake_(local, initiator, runtime.random),
      timer_(runtime.loop),
      stream_(std::move(stream)) {}

void Session::start() {
  last_received_ns_ = runtime_.loop.clock().now_ns();
  timer_.start(options_.handshake_timeout_ns, [this] {
    break_off({Code::timed_out, "the handshake took too long"}, "handshake timeout");
  });
  stream_->start([this](ByteView data) { on_data(data); },
                 [this](Error error) {
                   if (state_ == State::leaving) {
                     auto left = std::move(left_);
                     if (left) left();
                   } else if (!partial_.empty() && error.code == Code::closed) {
                     break_off({Code::closed, "the connection ended in the middle of a record"}, "truncated");
                   } else {
                     break_off(error, "connection lost");
                   }
                 });
  if (initiator() && !write_handshake())
    break_off({Code::protocol, "the handshake does not start"}, "broken rules");
}

void Session::on_data(ByteView data) {
  last_received_ns_ = runtime_.loop.clock().now_ns();
  bytes_received_ += data.size();
  corked_ = true;  // answers to what comes in one read leave in one write
  consume(data);
  corked_ = false;
  pump();
}

void Session::consume(ByteView data) {
  while (!data.empty() && !ended()) {
    if (partial_.empty() && data.size() >= kRecordPrefix) {
      size_t whole = kRecordPrefix + get_le<uint16_t>(data.data());
      if (data.size() >= whole) {
        process(data.subspan(kRecordPrefix, whole - kRecordPrefix));
        data = data.subspan(whole);
        continue;
      }
    }
    size_t whole =
        partial_.size() < kRecordPrefix ? kRecordPrefix : kRecordPrefix + get_le<uint16_t>(partial_.data());
    size_t take = std::min(whole - partial_.size(), data.size());
    if (partial_.empty() || partial_.size() >= partial_seen_ + kLeastProgress) {
      partial_since_ns_ = last_received_ns_;
      partial_seen_ = partial_.size();
    }
    append(partial_, data.first(take));
    data = data.subspan(take);
    if (partial_.size() < kRecordPrefix) continue;
    whole = kRecordPrefix + get_le<uint16_t>(partial_.data());
    if (state_ == State::handshake && whole > kRecordPrefix + kMaxHandshakeMessage)
      return break_off({Code::too_large, "a handshake message over the limit"},
                       handshake_.stranger() ? "stranger" : "oversized message");
    if (partial_.size() < whole) continue;
    Bytes unit = std::move(partial_);
    partial_.clear();
    process(ByteView(unit).subspan(kRecordPrefix));
    if (partial_.empty() && !ended()) {  // keep the allocation
      unit.clear();
      partial_ = std::move(unit);
    }
  }
}

void Session::process(ByteView unit) {
  if (state_ == State::handshake) {
    process_handshake(unit);
  } else if (!ended()) {
    process_record(unit);
  }
}

// ---- handshake ----

Status Session::write_handshake() {
  EFS_ASSIGN(auto message, handshake_.write(owner_.greeting()));
  if (message.size() > kMaxHandshakeMessage) return fail(Code::too_large, "the handshake is over its limit");
  Bytes framed(kRecordPrefix);
  put_le<uint16_t>(framed.data(), uint16_t(message.size()));
  append(framed, message);
  bytes_sent_ += framed.size();
  std::vector<Bytes> pieces;
  pieces.push_back(std::move(framed));
  stream_->write(std::move(pieces), {});
  return {};
}

void Session::process_handshake(ByteView message) {
  bool stranger = handshake_.stranger() && !initiator();
  if (message.size() > kMaxHandshakeMessage)
    return break_off({Code::too_large, "a handshake message over the limit"},
                     stranger ? "stranger" : "oversized message");
  if (auto read = handshake_.read(message); !read)
    return break_off(read.error(), stranger ? "stranger" : "bad identity");
  if (handshake_.done()) return finish_handshake();  // a responder's third message
  if (initiator()) {
    if (auto allowed = owner_.identified(*this); !allowed) return break_off(allowed.error(), "refused");
  }
  if (ended()) return;
  if (auto written = write_handshake(); !written) return break_off(written.error(), "broken rules");
  if (handshake_.done()) finish_handshake();
}

void Session::finish_handshake() {
  auto keys = handshake_.split();
  writer_.emplace(std::move(keys.send));
  reader_.emplace(std::move(keys.receive));
  last_rekey_ns_ = runtime_.loop.clock().now_ns();
  if (initiator()) {
    state_ = State::awaiting_welcome;
    return;
  }
  state_ = State::open;
  // A refusal is told: the owner answers broken() with say_goodbye(), for which the session is open.
  if (auto allowed = owner_.identified(*this); !allowed) {
    timer_.stop();
    return owner_.broken(*this, allowed.error(), "refused");
  }
  timer_.stop();
  send(net_message(NetKind::welcome));
  owner_.opened(*this);
}

// ---- messages ----

void Session::process_record(ByteView record) {
  std::vector<Message> completed;
  if (auto read = reader_->read_record(record, completed); !read)
    return break_off(read.error(), reason_of(read.error()));
  for (Message& message : completed) {
    if (ended()) return;
    deliver(std::move(message));
  }
}

void Session::deliver(Message message) {
  if (is(message, NetKind::goodbye)) return break_off(decode_error(message.body), "goodbye");
  if (state_ == State::awaiting_welcome) {
    if (!is(message, NetKind::welcome))
      return break_off({Code::protocol, "the first message is not a welcome"}, "broken rules");
    timer_.stop();
    state_ = State::open;
    return owner_.opened(*this);
  }
  owner_.received(*this, std::move(message));
}

void Session::send(Message message) {
  if (state_ != State::open) return;
  writer_->push(std::move(message));
  if (!corked_) pump();
}

std::vector<Message> Session::take_unstarted() {
  return writer_ ? writer_->take_unstarted() : std::vector<Message>{};
}

void Session::pump() {
  if (!writer_ || state_ == State::dead) return;
  std::vector<Bytes> records;
  size_t queued = stream_->queued_bytes();
  int64_t now = runtime_.loop.clock().now_ns();
  while (!writer_->empty() && queued < kStreamWindow) {
    if (bytes_since_rekey_ >= options_.rekey_bytes || now - last_rekey_ns_ >= options_.rekey_ns) {
      writer_->rekey_next();
      bytes_since_rekey_ = 0;
      last_rekey_ns_ = now;
    }
    records.push_back(writer_->next_record());
    queued += records.back().size();
    bytes_since_rekey_ += records.back().size();
    bytes_sent_ += records.back().size();
  }
  if (records.empty()) return;
  stream_->write(std::move(records), [this] {
    if (state_ == State::leaving && writer_->empty() && stream_->queued_bytes() == 0) {
      auto left = std::move(left_);
      if (left) left();
    } else {
      pump();
      if (state_ == State::open) owner_.progressed(*this);
    }
  });
}

// ---- the end ----

void Session::break_off(const Error& error, std::string_view reason) {
  if (ended()) return;
  state_ = State::dead;
  timer_.stop();
  owner_.broken(*this, error, reason);
}

void Session::say_goodbye(const Error& error, std::function<void()> done) {
  bool can_tell = state_ == State::open;
  if (can_tell) writer_->take_unstarted();
  if (can_tell) {
    Message goodbye = net_message(NetKind::goodbye);
    goodbye.body = encode_error(error);
    writer_->push(std::move(goodbye));
  }
  state_ = can_tell ? State::leaving : State::dead;
  left_ = std::move(done);
  auto leave = [this] {
    auto left = std::move(left_);
    if (left) left();
  };
  timer_.start(can_tell ? kGoodbyeTimeoutNs : 0, leave);
  if (can_tell) pump();
}

}  // namespace efs
