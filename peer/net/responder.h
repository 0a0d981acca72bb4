// How a handler answers one request: once, now or later. Copies share the one answer. When the last copy
// goes without an answer, the caller gets Code::closed ("dropped unanswered"). Used, copied and destroyed
// on the loop's thread only.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "peer/base/error.h"
#include "peer/base/shared_bytes.h"

namespace efs {

struct Answer {
  Bytes body;
  SharedBytes payload;
};

class Responder {
 public:
  // What a server keeps of a request while it is being handled.
  struct Pending {
    std::function<void(Result<Answer>)> send;  // empty once answered, or when nobody waits any more
    std::function<void()> on_cancel;
    bool cancelled = false;
    Pending() = default;
    Pending(const Pending&) = delete;
    Pending& operator=(const Pending&) = delete;
    ~Pending() { finish(efs::fail(Code::closed, "the request was dropped unanswered")); }
    void finish(Result<Answer> result) {
      on_cancel = nullptr;
      if (auto run = std::exchange(send, nullptr)) run(std::move(result));
    }
    void cancel() {
      cancelled = true;
      if (auto run = std::exchange(on_cancel, nullptr)) run();
    }
  };
  explicit Responder(std::shared_ptr<Pending> pending) : pending_(std::move(pending)) {}

  void answer(Bytes body, SharedBytes payload = {}) const {
    pending_->finish(Answer{std::move(body), std::move(payload)});
  }
  void fail(Error error) const { pending_->finish(efs::fail(std::move(error))); }

  // The caller gave up, or its connection is gone: nobody reads the answer. It must be given all the same.
  bool cancelled() const { return pending_->cancelled; }
  // Runs once when that happens, unless it was answered before; never inside this call.
  void on_cancel(std::function<void()> run) const { pending_->on_cancel = std::move(run); }

 private:
  std::shared_ptr<Pending> pending_;
};

}  // namespace efs
