// Bytes that several hold and nobody changes: what is kept until it is answered, and sent meanwhile, is one
// copy. Any thread; copying it copies a pointer.
#pragma once

#include <memory>

#include "peer/base/bytes.h"

namespace efs {

class SharedBytes {
 public:
  SharedBytes() = default;
  SharedBytes(Bytes bytes) {
    if (!bytes.empty()) held_ = std::make_shared<Bytes>(std::move(bytes));
  }

  ByteView view() const { return held_ ? ByteView(*held_) : ByteView(); }
  operator ByteView() const { return view(); }
  size_t size() const { return held_ ? held_->size() : 0; }
  bool empty() const { return size() == 0; }
  void clear() { held_.reset(); }
  // As bytes to be changed: these, when nobody else holds them, else a copy.
  Bytes release() && {
    Bytes out;
    if (held_ && held_.use_count() == 1) {
      out = std::move(*held_);
    } else if (held_) {
      out = *held_;
    }
    held_.reset();
    return out;
  }

 private:
  std::shared_ptr<Bytes> held_;
};

}  // namespace efs
