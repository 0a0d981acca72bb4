// What a read gives: parts of bytes that others may hold too, in order. Values; any thread.
#pragma once

#include <utility>
#include <vector>

#include "peer/base/shared_bytes.h"

namespace efs {

class ReadBytes {
 public:
  ReadBytes() = default;
  ReadBytes(SharedBytes bytes) {
    const size_t length = bytes.size();
    add(std::move(bytes), 0, length);
  }
  ReadBytes(Bytes bytes) : ReadBytes(SharedBytes(std::move(bytes))) {}

  // [from, from + length) of `bytes`.
  void add(SharedBytes bytes, size_t from, size_t length) {
    if (length == 0) return;
    parts_.push_back(bytes.view().subspan(from, length));
    held_.push_back(std::move(bytes));
    size_ += length;
  }
  const std::vector<ByteView>& parts() const { return parts_; }
  size_t size() const { return size_; }
  Bytes joined() const {
    Bytes all;
    all.reserve(size_);
    for (const ByteView part : parts_) append(all, part);
    return all;
  }

 private:
  std::vector<SharedBytes> held_;
  std::vector<ByteView> parts_;
  size_t size_ = 0;
};

}  // namespace efs
