// The blocking side of the control socket: plain sockets, unix(7).
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "peer/net/local.h"

namespace efs {

Result<LocalClient> LocalClient::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Code::name_too_long, "the path of the socket " + path + " is too long for a Unix socket");
  std::memcpy(address.sun_path, path.data(), path.size());
  LocalClient client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), path);
  if (client.descriptor_ < 0) return fail(from_errno(errno, "socket for " + path));
  int result = 0;
  do {
    result = ::connect(client.descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address);
  } while (result < 0 && errno == EINTR);
  if (result == 0) return client;
  if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR)
    return fail(Code::unreachable,
                "no efs-peer serves at " + path +
                    ": start one with 'efs-peer run', or say which with --data or --socket");
  if (errno == EACCES || errno == EPERM)
    return fail(Code::not_permitted, "this user may not open the socket " + path);
  return fail(from_errno(errno, "connect to " + path));
}

LocalClient::LocalClient(LocalClient&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      path_(std::move(other.path_)),
      next_id_(other.next_id_) {}
LocalClient& LocalClient::operator=(LocalClient&& other) noexcept {
  if (this == &other) return *this;
  close();
  descriptor_ = std::exchange(other.descriptor_, -1);
  path_ = std::move(other.path_);
  next_id_ = other.next_id_;
  return *this;
}
LocalClient::~LocalClient() {
  close();
}

void LocalClient::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

Error LocalClient::lost(std::string_view what) const {
  if (errno == EAGAIN || errno == EWOULDBLOCK)
    return {Code::timed_out, "efs-peer at " + path_ + " did not answer in time"};
  if (errno == 0 || errno == EPIPE || errno == ECONNRESET)
    return {Code::closed, "efs-peer at " + path_ + " ended before it answered"};
  return from_errno(errno, std::string(what) + " " + path_);
}

Status LocalClient::set_timeout(int64_t timeout_ns) {
  timeval time{.tv_sec = timeout_ns / kSecond, .tv_usec = timeout_ns % kSecond / kMicrosecond};
  if (timeout_ns > 0 && time.tv_sec == 0 && time.tv_usec == 0) time.tv_usec = 1;
  for (int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    if (::setsockopt(descriptor_, SOL_SOCKET, option, &time, sizeof time) < 0)
      return fail(from_errno(errno, "setsockopt of " + path_));
  return {};
}

Status LocalClient::send_all(ByteView bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(lost("send to"));
    bytes = bytes.subspan(size_t(count));
  }
  return {};
}

Status LocalClient::receive_all(std::span<uint8_t> out) {
  while (!out.empty()) {
    errno = 0;
    ssize_t count = ::recv(descriptor_, out.data(), out.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail(lost("receive from"));
    out = out.subspan(size_t(count));
  }
  return {};
}

Result<Answer> LocalClient::call(uint16_t kind, ByteView body, ByteView payload, int64_t timeout_ns) {
  if (descriptor_ < 0) return fail(Code::closed, "the connection to efs-peer at " + path_ + " has ended");
  if (body.size() > kMaxBody || payload.size() > kMaxPayload)
    return fail(Code::too_large, "a request over the limit");
  MessageHeader request{.kind = kind,
                        .id = next_id_++,
                        .body_length = uint32_t(body.size()),
                        .payload_length = uint32_t(payload.size())};
  uint8_t bytes[kMessageHeader];
  request.encode(bytes);
  MessageHeader reply;
  Answer answer;
  auto exchange = [&]() -> Status {
    EFS_TRY(set_timeout(timeout_ns));
    for (ByteView part : {ByteView(bytes), body, payload}) EFS_TRY(send_all(part));
    EFS_TRY(receive_all(bytes));
    EFS_ASSIGN(reply, MessageHeader::decode(bytes));
    bool answers = reply.type == MessageType::answer || reply.type == MessageType::error;
    if (!answers || reply.id != request.id)
      return fail(Code::protocol, "what serves at " + path_ + " does not talk as an efs-peer does");
    answer.body.resize(reply.body_length);
    Bytes received(reply.payload_length);
    EFS_TRY(receive_all(answer.body));
    EFS_TRY(receive_all(received));
    answer.payload = std::move(received);
    return {};
  };
  if (auto status = exchange(); !status) {
    close();
    return fail(std::move(status.error()));
  }
  if (reply.type == MessageType::error) return fail(decode_error(answer.body));
  return answer;
}

}  // namespace efs
