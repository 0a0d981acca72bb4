// A mount's own thread for what is due later: sending dirty bytes of age, repeating what failed, waking
// interrupted calls. Its tasks must not block.
//
// post() and after() from any thread. stop() (or the destructor) ends it; what has not run is dropped.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "peer/runtime/clock.h"

namespace efs {

class Background {
 public:
  // What is due in kCoarse or more may come so much late, with others: a thousand files that are written in a
  // second then wake the thread a hundred times.
  static constexpr int64_t kCoarse = 100 * kMillisecond, kGrain = 10 * kMillisecond;

  explicit Background(const Clock& clock);
  ~Background() { stop(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void post(std::function<void()> task) { after(0, std::move(task)); }
  void after(int64_t delay_ns, std::function<void()> task);
  const Clock& clock() const { return clock_; }
  void stop();  // not from a task

 private:
  void run();

  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<int64_t, std::function<void()>> tasks_;  // by when they are due
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace efs
