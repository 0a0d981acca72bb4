// Bytes that several hold and nobody changes: what is kept until it is answered, and sent meanwhile, is one
// copy. Any thread; copying it copies a pointer.
#pragma once

#include <memory>

#include "peer/base/bytes.h"

namespace efs {

class SharedBytes {
 public:
  SharedBytes() = default;
  SharedBytes(Bytes bytes) : held_(std::make_shared<const Bytes>(std::move(bytes))) {}

  ByteView view() const { return held_ ? ByteView(*held_) : ByteView(); }
  operator ByteView() const { return view(); }
  size_t size() const { return held_ ? held_->size() : 0; }
  bool empty() const { return size() == 0; }
  void clear() { held_.reset(); }

 private:
  std::shared_ptr<const Bytes> held_;
};

}  // namespace efs
