// Listening: bind, listen, accept into a Socket each.
//
// Connecting: resolve (numbers at once, names on the pool) -> for each address in turn: dial, until its share
// of the time is used up -> the first that answers is the stream; else one error with what each said. Whoever
// drops the token stops it: what libuv still calls back finds nobody (a weak_ptr) and closes its socket.
#include "peer/runtime/real_network.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/un.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "peer/runtime/congestion.h"
#include "peer/runtime/real_stream.h"

namespace efs {

namespace {

constexpr int kBacklog = 511;
constexpr size_t kUnixPathBytes = sizeof(sockaddr_un::sun_path);  // with the terminating zero
constexpr size_t kAddressesTried = 16;
constexpr int64_t kAcceptComplaintEvery = 10 * kSecond;

std::string shown_host(const Address& address) {
  return address.host.find(':') == std::string::npos ? address.host : "[" + address.host + "]";
}

Error listen_error(int status, const Address& address) {
  if (status == UV_EADDRINUSE) {
    return {Code::busy,
            fmt::format("port {} on {} is in use by another program: stop that one (ss -ltnp shows "
                        "it), or choose another port",
                        address.port, shown_host(address))};
  }
  Error error = from_errno(-status, "listen on " + address.to_text());
  if (status == UV_EACCES && !address.is_unix && address.port < 1024)
    error.message += "; a port below 1024 needs CAP_NET_BIND_SERVICE";
  if (status == UV_EADDRNOTAVAIL) error.message += "; this host has no such address";
  return error;
}

using SocketAddress = sockaddr_storage;

std::optional<SocketAddress> numeric(const Address& address) {
  SocketAddress storage{};
  if (uv_ip4_addr(address.host.c_str(), address.port, reinterpret_cast<sockaddr_in*>(&storage)) == 0)
    return storage;
  if (uv_ip6_addr(address.host.c_str(), address.port, reinterpret_cast<sockaddr_in6*>(&storage)) == 0)
    return storage;
  return std::nullopt;
}

std::vector<SocketAddress> copy_addresses(const addrinfo* list) {
  std::vector<SocketAddress> addresses;
  for (; list && addresses.size() < kAddressesTried; list = list->ai_next) {
    if (list->ai_family != AF_INET && list->ai_family != AF_INET6) continue;
    SocketAddress storage{};
    std::memcpy(&storage, list->ai_addr, list->ai_addrlen);
    addresses.push_back(storage);
  }
  return addresses;
}

addrinfo stream_hints() {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  return hints;
}

const sockaddr* as_sockaddr(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Result<SocketAddress> resolve_now(const Address& address) {
  if (auto number = numeric(address)) return *number;
  addrinfo hints = stream_hints();
  addrinfo* list = nullptr;
  int failed = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &list);
  auto addresses = failed ? std::vector<SocketAddress>{} : copy_addresses(list);
  if (!failed) freeaddrinfo(list);
  if (!addresses.empty()) return addresses[0];
  return fail(Code::unreachable, fmt::format("listen on {}: the name does not resolve: {}", address.to_text(),
                                             failed ? gai_strerror(failed) : "it has no IP address"));
}

// What a listening socket is to libuv; lives until its close callback, like Socket.
struct ListenSocket : std::enable_shared_from_this<ListenSocket> {
  ListenSocket(RealLoop& owner, Logger& logger) : loop(owner), log(logger) {}

  void init(bool is_unix);
  int listen();
  void close();
  void accept(int status) noexcept;
  void complain(int status);

  RealLoop& loop;
  Logger& log;
  union {
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    uv_stream_t stream;
    uv_handle_t handle;
  };
  Address address;
  std::function<void(std::unique_ptr<Stream>)> on_accept;
  bool accepting = false;
  bool closed = false;
  int64_t complained_ns = 0;
  std::shared_ptr<ListenSocket> self;  // while libuv has the handle
};

void ListenSocket::init(bool is_unix) {
  address.is_unix = is_unix;
  [[maybe_unused]] int failed = is_unix ? uv_pipe_init(loop.uv(), &pipe, 0) : uv_tcp_init(loop.uv(), &tcp);
  assert(!failed);
  handle.data = this;
  self = shared_from_this();
}

int ListenSocket::listen() {
  return uv_listen(&stream, kBacklog, [](uv_stream_t* server, int status) {
    static_cast<ListenSocket*>(server->data)->accept(status);
  });
}

void ListenSocket::close() {
  if (closed) return;
  closed = true;
  uv_close(&handle,
           [](uv_handle_t* done) { auto last = std::move(static_cast<ListenSocket*>(done->data)->self); });
  if (!accepting) auto gone = std::exchange(on_accept, nullptr);
}

void ListenSocket::accept(int status) noexcept {
  if (status < 0) return complain(status);
  auto socket = Socket::make(loop, address.is_unix);
  if (int failed = uv_accept(&stream, &socket->stream); failed < 0) {
    socket->close();
    return complain(failed);
  }
  auto keep = shared_from_this();
  accepting = true;
  on_accept(socket->become_stream());
  accepting = false;
  if (closed) on_accept = nullptr;
}

void ListenSocket::complain(int status) {
  int64_t now = loop.clock().now_ns();
  if (complained_ns && now - complained_ns < kAcceptComplaintEvery) return;
  complained_ns = now;
  log.warning("a connection to {} was not accepted: {}; the limit of open files (ulimit -n) may be too low",
              address.to_text(), uv_strerror(status));
}

class RealListener final : public Listener {
 public:
  explicit RealListener(std::shared_ptr<ListenSocket> socket) : socket_(std::move(socket)) {}
  ~RealListener() override { socket_->close(); }
  Address address() const override { return socket_->address; }

 private:
  std::shared_ptr<ListenSocket> socket_;
};

// Whether a program answers on a Unix socket; a file that nobody answers on was left by one that died.
bool somebody_answers(const std::string& path) {
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  int failed = ::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name);
  bool refused = failed && errno == ECONNREFUSED;
  ::close(fd);
  return !refused;
}

std::string parent_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

Status listen_unix(ListenSocket& socket, const Address& address) {
  if (address.host.size() >= kUnixPathBytes)
    return fail(Code::name_too_long,
                "listen on " + address.to_text() + ": the path is too long for a socket");
  int status = uv_pipe_bind(&socket.pipe, address.host.c_str());
  if (status == UV_EADDRINUSE) {
    if (somebody_answers(address.host)) {
      return fail(Code::busy, fmt::format("another program listens on {}: is efs-peer running already?",
                                          address.to_text()));
    }
    ::unlink(address.host.c_str());
    status = uv_pipe_bind(&socket.pipe, address.host.c_str());
  }
  // libuv says EACCES for ENOENT, as on Windows.
  if (status == UV_EACCES && ::access(parent_of(address.host).c_str(), F_OK) != 0) status = UV_ENOENT;
  if (status == 0) status = socket.listen();
  if (status < 0) return fail(from_errno(-status, "listen on " + address.to_text()));
  socket.address = address;
  return {};
}

Status listen_tcp(ListenSocket& socket, const Address& address) {
  EFS_ASSIGN(SocketAddress to, resolve_now(address));
  int status = uv_tcp_bind(&socket.tcp, as_sockaddr(to), 0);
  int fd = -1;
  if (status == 0 && uv_fileno(&socket.handle, &fd) == 0) begin_unpaced(fd);
  if (status == 0) status = socket.listen();
  if (status < 0) return fail(listen_error(status, address));
  SocketAddress given{};
  int length = sizeof given;
  uv_tcp_getsockname(&socket.tcp, reinterpret_cast<sockaddr*>(&given), &length);
  socket.address = address;
  // The port stands in the same place for both families.
  socket.address.port = ntohs(reinterpret_cast<const sockaddr_in&>(given).sin_port);
  return {};
}

// libuv makes a socket only when it connects it.
int open_tcp(uv_tcp_t& tcp, int family) {
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  begin_unpaced(fd);
  const int status = uv_tcp_open(&tcp, fd);
  if (status < 0) close(fd);
  return status;
}

class Attempt : public std::enable_shared_from_this<Attempt> {
 public:
  Attempt(RealLoop& loop, const Address& address, int64_t timeout_ns,
          std::function<void(Result<std::unique_ptr<Stream>>)> done)
      : loop_(loop),
        address_(address),
        deadline_ns_(loop.clock().now_ns() + timeout_ns),
        done_(std::move(done)),
        timer_(loop) {}
  ~Attempt() {
    if (socket_) socket_->close();
  }

  void start();

 private:
  struct Resolve {
    uv_getaddrinfo_t request;
    std::weak_ptr<Attempt> attempt;
  };
  struct Dial {
    uv_connect_t request;
    std::shared_ptr<Socket> socket;
    std::weak_ptr<Attempt> attempt;
  };

  int resolve();
  void resolved(int status, const addrinfo* list);
  void try_next();
  int dial(const SocketAddress* to);
  void dialled(int status);
  void finish(Result<std::unique_ptr<Stream>> result) noexcept;
  void give_up(Code code, const std::string& why);

  RealLoop& loop_;
  const Address address_;
  const int64_t deadline_ns_;
  std::function<void(Result<std::unique_ptr<Stream>>)> done_;
  Timer timer_;
  std::vector<SocketAddress> addresses_;
  size_t tried_ = 0;
  std::shared_ptr<Socket> socket_;
  std::string complaints_;
};

void Attempt::start() {
  if (auto number = numeric(address_); number && !address_.is_unix) addresses_ = {*number};
  if (!address_.is_unix && addresses_.empty()) {
    timer_.start(deadline_ns_ - loop_.clock().now_ns(), [this] {
      auto keep = shared_from_this();
      give_up(Code::timed_out, "the name server did not answer in time");
    });
    if (resolve() == 0) return;
  }
  loop_.post([weak = weak_from_this()] {
    if (auto attempt = weak.lock()) attempt->try_next();
  });
}

int Attempt::resolve() {
  auto* pending = new Resolve{{}, weak_from_this()};
  pending->request.data = pending;
  addrinfo hints = stream_hints();
  int status = uv_getaddrinfo(
      loop_.uv(), &pending->request,
      [](uv_getaddrinfo_t* request, int result, addrinfo* list) {
        std::unique_ptr<Resolve> owned(static_cast<Resolve*>(request->data));
        if (auto attempt = owned->attempt.lock()) attempt->resolved(result, list);
        uv_freeaddrinfo(list);
      },
      address_.host.c_str(), std::to_string(address_.port).c_str(), &hints);
  if (status < 0) delete pending;
  return status;
}

void Attempt::resolved(int status, const addrinfo* list) {
  if (!done_) return;
  addresses_ = copy_addresses(list);
  if (status < 0 || addresses_.empty())
    return give_up(Code::unreachable, fmt::format("the name does not resolve: {}", uv_strerror(status)));
  try_next();
}

void Attempt::try_next() {
  size_t count = address_.is_unix ? 1 : addresses_.size();
  if (tried_ == count) return give_up(Code::unreachable, "no address to try");
  int64_t left = deadline_ns_ - loop_.clock().now_ns();
  int64_t share = left / int64_t(count - tried_);
  const SocketAddress* to = address_.is_unix ? nullptr : &addresses_[tried_];
  ++tried_;
  timer_.start(share, [this] {
    auto keep = shared_from_this();
    dialled(UV_ETIMEDOUT);
  });
  if (int status = dial(to); status < 0) dialled(status);
}

int Attempt::dial(const SocketAddress* to) {
  socket_ = Socket::make(loop_, address_.is_unix);
  auto* pending = new Dial{{}, socket_, weak_from_this()};
  pending->request.data = pending;
  auto connected = [](uv_connect_t* request, int status) {
    std::unique_ptr<Dial> owned(static_cast<Dial*>(request->data));
    auto attempt = owned->attempt.lock();
    // Another address was tried since, or nobody waits: that socket is closing already.
    if (attempt && attempt->socket_ == owned->socket) attempt->dialled(status);
  };
  if (address_.is_unix) {  // libuv would cut a long path short
    if (address_.host.size() >= kUnixPathBytes) {
      delete pending;
      return UV_ENAMETOOLONG;
    }
    uv_pipe_connect(&pending->request, &socket_->pipe, address_.host.c_str(), connected);
    return 0;
  }
  int status = open_tcp(socket_->tcp, to->ss_family);
  if (status == 0) status = uv_tcp_connect(&pending->request, &socket_->tcp, as_sockaddr(*to), connected);
  if (status < 0) delete pending;
  return status;
}

void Attempt::dialled(int status) {
  timer_.stop();
  auto socket = std::exchange(socket_, nullptr);
  if (status == 0) return finish(socket->become_stream());
  socket->close();
  Error error = from_errno(-status, "");
  std::string why = uv_strerror(status);
  if (addresses_.size() > 1) {
    char host[INET6_ADDRSTRLEN] = "?";
    uv_ip_name(as_sockaddr(addresses_[tried_ - 1]), host, sizeof host);
    why = fmt::format("{}: {}", host, why);
  }
  if (tried_ < addresses_.size()) {
    complaints_ += why + "; ";
    return try_next();
  }
  give_up(error.code, complaints_ + why);
}

void Attempt::give_up(Code code, const std::string& why) {
  finish(fail(code, fmt::format("connect to {}: {}", address_.to_text(), why)));
}

void Attempt::finish(Result<std::unique_ptr<Stream>> result) noexcept {
  timer_.stop();
  if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
}

}  // namespace

Result<std::unique_ptr<Listener>> RealNetwork::listen(
    const Address& address, std::function<void(std::unique_ptr<Stream>)> on_accept) {
  auto socket = std::make_shared<ListenSocket>(loop_, log_);
  socket->init(address.is_unix);
  socket->on_accept = std::move(on_accept);
  Status listening = address.is_unix ? listen_unix(*socket, address) : listen_tcp(*socket, address);
  if (!listening) {
    socket->close();
    return fail(std::move(listening.error()));
  }
  return std::make_unique<RealListener>(std::move(socket));
}

Network::Pending RealNetwork::connect(const Address& address, int64_t timeout_ns,
                                      std::function<void(Result<std::unique_ptr<Stream>>)> done) {
  auto attempt = std::make_shared<Attempt>(loop_, address, timeout_ns, std::move(done));
  attempt->start();
  return attempt;
}

}  // namespace efs
