// A file descriptor that is closed with its owner. Moves, never copies.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "peer/base/error.h"

namespace efs {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // Some filesystems tell of a late write's error here.
  Status close() {
    if (::close(std::exchange(fd_, -1)) != 0) return fail(from_errno(errno, "close"));
    return {};
  }

 private:
  int fd_;
};

}  // namespace efs
