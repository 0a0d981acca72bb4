// A TCP or Unix socket on libuv. Inside efs_real only; the loop's thread only.
//
// The RealStream that a user holds is a shell over a Socket, which lives until libuv has called back for the
// last time: destroying the shell, from within its own callbacks too, closes the socket and silences it.
//
//   write -> nothing under way: as much as the socket takes at once, the rest by uv_write; else it gathers,
//   and
//            goes out as one when that is done
//   read  -> the loop's buffer -> on_data
//   end of stream, error of either -> on_close, once, after the last data; the descriptor is closed by then
#pragma once

#include <uv.h>

#include <memory>

#include "peer/runtime/real_loop.h"
#include "peer/runtime/stream.h"

namespace efs {

class Socket : public std::enable_shared_from_this<Socket> {
 public:
  static std::shared_ptr<Socket> make(RealLoop& loop, bool is_unix);
  ~Socket();

  RealLoop& loop;
  const bool is_unix;
  union {
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    uv_stream_t stream;
    uv_handle_t handle;
  };

  bool is_open() const { return !uv_is_closing(&handle); }
  // Any number of times; libuv's last callback lets go of the socket.
  void close();
  // Once connected: options, addresses, and the shell for the user.
  std::unique_ptr<Stream> become_stream();

 private:
  friend class RealStream;
  struct WriteRequest;
  struct Batch {
    std::vector<Bytes> pieces;
    std::vector<std::function<void()>> on_sent;
    size_t bytes = 0;
  };

  Socket(RealLoop& owner, bool unix_socket) : loop(owner), is_unix(unix_socket) {}
  void set_reading(bool reading);
  void arrived(ssize_t length, const uv_buf_t* buffer) noexcept;
  void send_gathered();
  void sent(std::unique_ptr<WriteRequest> request, int status) noexcept;
  void tell(const std::vector<std::function<void()>>& on_sent);
  void end(int status);
  void end_soon(int status);  // not within the user's call
  void silence();

  std::shared_ptr<Socket> self_;  // while libuv has the handle
  std::function<void(ByteView)> on_data_;
  std::function<void(Error)> on_close_;
  Batch gathered_;
  size_t queued_bytes_ = 0;
  int write_error_ = 0;  // libuv's; reported when reading ends
  bool writing_ = false;
  bool reading_ = false;
  bool silent_ = false;  // the shell is gone
  bool in_data_ = false;
  Address local_, remote_;
  std::optional<UnixPeer> unix_peer_;
};

// Code::closed for an orderly end, else what libuv says; `what` leads the message.
Error from_uv(int status, std::string_view what);

}  // namespace efs
