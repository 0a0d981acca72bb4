#include "peer/runtime/real_stream.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <utility>

#include "peer/runtime/congestion.h"

namespace efs {

namespace {

constexpr unsigned kKeepAliveSeconds = 15;  // then a probe a second; dead after 10 of them
constexpr int kNotSentBytes = 128 << 10;

Address from_sockaddr(const sockaddr_storage& storage, socklen_t length) {
  char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "0";
  getnameinfo(reinterpret_cast<const sockaddr*>(&storage), length, host, sizeof host, port, sizeof port,
              NI_NUMERICHOST | NI_NUMERICSERV);
  constexpr std::string_view kMapped = "::ffff:";  // IPv4 on a socket for both, RFC 4291 2.5.5.2
  std::string_view text = host;
  if (text.starts_with(kMapped) && text.find('.') != std::string_view::npos)
    text.remove_prefix(kMapped.size());
  return Address{.host = std::string(text), .port = uint16_t(std::atoi(port)), .is_unix = false};
}

Address address_of(int fd, bool is_unix, decltype(getsockname)* get) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (get(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0)
    return Address{.host = "?", .port = 0, .is_unix = is_unix};
  if (!is_unix) return from_sockaddr(storage, length);
  const auto& name = reinterpret_cast<const sockaddr_un&>(storage);
  size_t bytes = length > offsetof(sockaddr_un, sun_path) ? length - offsetof(sockaddr_un, sun_path) : 0;
  return Address{
      .host = std::string(name.sun_path, strnlen(name.sun_path, bytes)), .port = 0, .is_unix = true};
}

std::optional<UnixPeer> credentials(int fd) {
  ucred who{};
  socklen_t length = sizeof who;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return std::nullopt;
  UnixPeer peer{.uid = who.uid, .gid = who.gid, .pid = who.pid, .groups = {}};
  static_assert(sizeof(gid_t) == sizeof(uint32_t));
  length = 0;  // the first call says how long the list is
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length) != 0 && errno != ERANGE) return peer;
  peer.groups.resize(length / sizeof(gid_t));
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &length) != 0) peer.groups.clear();
  return peer;
}

}  // namespace

Error from_uv(int status, std::string_view what) {
  if (status == UV_EOF) return Error{Code::closed, fmt::format("{}: closed by the other side", what)};
  if (status == UV_EPIPE || status == UV_ECONNABORTED) status = UV_ECONNRESET;
  return from_errno(-status, what);  // libuv's numbers are negated errnos on Linux
}

class RealStream final : public Stream {
 public:
  explicit RealStream(std::shared_ptr<Socket> socket) : socket_(std::move(socket)) {}
  ~RealStream() override {
    socket_->silence();
    socket_->close();
  }

  void start(std::function<void(ByteView)> on_data, std::function<void(Error)> on_close) override {
    assert(!socket_->on_close_);
    socket_->on_data_ = std::move(on_data);
    socket_->on_close_ = std::move(on_close);
    if (!socket_->is_open()) return socket_->end_soon(UV_EOF);
    socket_->set_reading(true);
  }

  void write(std::vector<Bytes> pieces, std::function<void()> on_sent) override {
    Socket& socket = *socket_;
    if (!socket.is_open() || socket.write_error_) return;  // on_close tells, or has told
    for (Bytes& piece : pieces) {
      socket.gathered_.bytes += piece.size();
      socket.queued_bytes_ += piece.size();
      if (!piece.empty()) socket.gathered_.pieces.push_back(std::move(piece));
    }
    if (on_sent) socket.gathered_.on_sent.push_back(std::move(on_sent));
    if (!socket.writing_) socket.send_gathered();
  }

  size_t queued_bytes() const override { return socket_->queued_bytes_; }
  void pause(bool paused) override { socket_->set_reading(!paused); }
  Address remote() const override { return socket_->remote_; }
  Address local() const override { return socket_->local_; }
  std::optional<UnixPeer> unix_peer() const override { return socket_->unix_peer_; }

 private:
  std::shared_ptr<Socket> socket_;
};

struct Socket::WriteRequest {
  uv_write_t request;
  std::shared_ptr<Socket> socket;
  Batch batch;
};

std::shared_ptr<Socket> Socket::make(RealLoop& loop, bool is_unix) {
  std::shared_ptr<Socket> socket(new Socket(loop, is_unix));
  [[maybe_unused]] int failed =
      is_unix ? uv_pipe_init(loop.uv(), &socket->pipe, 0) : uv_tcp_init(loop.uv(), &socket->tcp);
  assert(!failed);  // makes no descriptor yet
  socket->handle.data = socket.get();
  socket->self_ = socket;
  return socket;
}

Socket::~Socket() {
  assert(!self_);
}

void Socket::close() {
  if (!is_open()) return;
  uv_close(&handle, [](uv_handle_t* closed) {
    // The last thing that libuv does with it; the requests have called back before.
    auto last = std::move(static_cast<Socket*>(closed->data)->self_);
  });
  queued_bytes_ = 0;
  Batch dropped = std::exchange(gathered_, {});
}

std::unique_ptr<Stream> Socket::become_stream() {
  int fd = -1;
  uv_fileno(&handle, &fd);
  local_ = address_of(fd, is_unix, getsockname);
  remote_ = address_of(fd, is_unix, getpeername);
  if (is_unix) {
    unix_peer_ = credentials(fd);
  } else {
    uv_tcp_nodelay(&tcp, 1);
    pace_if_far(fd);
    // Without this the kernel takes megabytes of bulk that a heartbeat then waits behind: what is not sent
    // yet stays here, where the sender still chooses the order (tcp(7); measured under bulk at 1 Gbit/s:
    // a control request takes 12 to 14 ms, against 19 to 25).
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kNotSentBytes, sizeof kNotSentBytes);
    uv_tcp_keepalive(&tcp, 1, kKeepAliveSeconds);
  }
  return std::make_unique<RealStream>(shared_from_this());
}

// What the callbacks hold goes now, unless one of them is running: then when it returns.
void Socket::silence() {
  silent_ = true;
  if (in_data_) return;
  auto on_data = std::exchange(on_data_, nullptr);
  auto on_close = std::exchange(on_close_, nullptr);
}

void Socket::set_reading(bool reading) {
  if (!is_open() || reading == reading_ || !on_close_) return;
  reading_ = reading;
  if (!reading) {
    uv_read_stop(&stream);
    if (write_error_) end_soon(write_error_);
    return;
  }
  int status = uv_read_start(
      &stream,
      [](uv_handle_t* reader, size_t, uv_buf_t* buffer) {
        auto room = static_cast<Socket*>(reader->data)->loop.read_buffer();
        *buffer = uv_buf_init(room.data(), unsigned(room.size()));
      },
      [](uv_stream_t* reader, ssize_t length, const uv_buf_t* buffer) {
        static_cast<Socket*>(reader->data)->arrived(length, buffer);
      });
  if (status < 0) end_soon(status);
}

void Socket::arrived(ssize_t length, const uv_buf_t* buffer) noexcept {
  if (length == 0 || silent_) return;  // 0: nothing to read yet
  auto keep = shared_from_this();
  loop.found_something();
  if (length < 0) return end(write_error_ ? write_error_ : int(length));
  in_data_ = true;
  on_data_({reinterpret_cast<const uint8_t*>(buffer->base), size_t(length)});
  in_data_ = false;
  if (silent_) silence();
}

// What the socket takes at once needs no request: libuv would look at the socket again for each.
void Socket::send_gathered() {
  Batch batch = std::exchange(gathered_, {});
  std::vector<uv_buf_t> buffers;
  buffers.reserve(batch.pieces.size() + 1);
  for (Bytes& piece : batch.pieces)
    buffers.push_back(uv_buf_init(reinterpret_cast<char*>(piece.data()), unsigned(piece.size())));
  size_t taken = 0;
  if (!buffers.empty()) {
    const int status = uv_try_write(&stream, buffers.data(), unsigned(buffers.size()));
    taken = size_t(std::max(status, 0));  // an error meets the request below too
  }
  if (taken == batch.bytes) {
    queued_bytes_ -= taken;
    if (batch.on_sent.empty()) return;
    return loop.post([self = shared_from_this(), done = std::move(batch.on_sent)] { self->tell(done); });
  }
  size_t whole = 0, left = taken;
  while (left >= buffers[whole].len) left -= buffers[whole++].len;
  buffers.erase(buffers.begin(), buffers.begin() + ptrdiff_t(whole));
  buffers.front().base += left;
  buffers.front().len -= left;
  auto request = std::make_unique<WriteRequest>();
  request->socket = shared_from_this();
  request->batch = std::move(batch);
  request->request.data = request.get();
  writing_ = true;
  int status = uv_write(&request->request, &stream, buffers.data(), unsigned(buffers.size()),
                        [](uv_write_t* done, int result) {
                          std::unique_ptr<WriteRequest> owned(static_cast<WriteRequest*>(done->data));
                          auto socket = owned->socket;
                          socket->sent(std::move(owned), result);
                        });
  if (status == 0) {
    request.release();  // the callback owns it
    return;
  }
  // Refused at once, so there is no callback: reported as if there had been one.
  loop.post([owned = std::shared_ptr<WriteRequest>(std::move(request)), status] {
    auto again = std::make_unique<WriteRequest>();
    again->batch = std::move(owned->batch);
    owned->socket->sent(std::move(again), status);
  });
}

void Socket::sent(std::unique_ptr<WriteRequest> request, int status) noexcept {
  writing_ = false;
  if (!is_open()) return;
  queued_bytes_ -= request->batch.bytes;
  if (status < 0) {
    // What the other side sent before it went away may still wait to be read: reading ends soon, and then
    // this is the reason.
    write_error_ = status;
    gathered_ = {};
    queued_bytes_ = 0;
    if (!reading_) end(status);
    return;
  }
  if (!gathered_.pieces.empty() || !gathered_.on_sent.empty()) send_gathered();
  tell(request->batch.on_sent);
}

void Socket::tell(const std::vector<std::function<void()>>& on_sent) {
  for (const auto& one : on_sent) {
    if (silent_ || !is_open()) return;
    one();
  }
}

void Socket::end_soon(int status) {
  loop.post([self = shared_from_this(), status] { self->end(status); });
}

void Socket::end(int status) {
  reading_ = false;
  close();
  if (silent_ || !on_close_) return;
  auto on_data = std::exchange(on_data_, nullptr);
  auto on_close = std::exchange(on_close_, nullptr);
  on_close(from_uv(status, "connection to " + remote_.to_text()));
}

}  // namespace efs
