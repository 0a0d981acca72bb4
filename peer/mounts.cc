#include "peer/mounts.h"

namespace efs {

Mounts::~Mounts() {
  *alive_ = false;
}

void Mounts::mount(const std::string& at, bool read_only, Done done) {
  if (closing_) return done(fail(Code::closed, "this peer is stopping"));
  if (!at.starts_with('/'))
    return done(fail(Code::invalid_argument, fmt::format("'{}': give an absolute path", at)));
  if (mounts_.contains(at))
    return done(fail(Code::busy, fmt::format("the tree is mounted at {} already", at)));
  const uint64_t number = ++last_number_;
  auto directory = make_directory_();
  mounts_[at] = {directory, nullptr, read_only, number};
  MountOptions options;
  options.directory = at;
  options.read_only = read_only;
  options.threads = options_.vfs_threads;
  options.unreachable_timeout_ns = int64_t(options_.unreachable_timeout_s) * kSecond;
  options.loop = &runtime_.loop;
  options.poll_ns = options_.awake_us * kMicrosecond;
  auto result = std::make_shared<Result<std::unique_ptr<Mount>>>(fail(Code::cancelled));
  auto on_end = [this, alive = alive_, at, number, &loop = runtime_.loop](const std::string& reason) {
    loop.post([this, alive, at, number, reason] {
      if (*alive) ended(at, number, reason);
    });
  };
  jobs_.run(
      [this, options, on_end, result, directory] {
        *result = Mount::start(options, *directory, runtime_.loop.clock(), runtime_.log, on_end);
      },
      [this, at, number, result, done, directory] {
        auto found = mounts_.find(at);
        if (!*result) {
          if (found != mounts_.end() && found->second.number == number) mounts_.erase(found);
          return done(fail(result->error()));
        }
        if (found == mounts_.end() || found->second.number != number) {  // unmounted meanwhile
          return destroy({directory, std::move(**result), false, 0},
                         [done, at] { done(fail(Code::cancelled, at + " was unmounted meanwhile")); });
        }
        found->second.mount = std::move(**result);
        runtime_.log.info("mounted at {}", at);
        done({});
      });
}

void Mounts::ended(const std::string& at, uint64_t number, const std::string& reason) {
  auto found = mounts_.find(at);
  if (found == mounts_.end() || found->second.number != number || !found->second.mount) return;
  runtime_.log.warning("the mount at {} is gone{}{}", at, reason.empty() ? "" : ": ", reason);
  auto entry = std::move(found->second);
  mounts_.erase(found);
  destroy(std::move(entry), [] {});
}

void Mounts::unmount(const std::string& at, Done done) {
  auto found = mounts_.find(at);
  if (found == mounts_.end()) {
    return done(fail(Code::not_found,
                     fmt::format("this peer has no mount at {}: 'efs status' shows its mounts", at)));
  }
  auto entry = std::move(found->second);
  mounts_.erase(found);
  destroy(std::move(entry), [done] { done({}); });
}

void Mounts::unmount_all(std::function<void()> done) {
  closing_ = true;
  auto mounts = std::exchange(mounts_, {});
  for (auto& [at, entry] : mounts) {
    if (!entry.mount) continue;  // being mounted: what was mounted by then is unmounted at once
    entry.mount->unmount();      // all begin now: the pool has few threads to wait on
    destroy(std::move(entry), [] {});
  }
  jobs_.when_idle(std::move(done));
}

void Mounts::destroy(Entry entry, std::function<void()> done) {
  auto dying = std::make_shared<Entry>(std::move(entry));
  jobs_.run([dying] { dying->mount.reset(); },
            [dying, done = std::move(done)] {
              dying->directory.reset();  // its clients end on the loop
              done();
            });
}

std::map<std::string, bool> Mounts::list() const {
  std::map<std::string, bool> out;
  for (const auto& [at, entry] : mounts_) out[at] = entry.read_only;
  return out;
}

}  // namespace efs
