// The files that this mount has open, and when the owner is told that they no longer are.
//
// A File lives here from its first open until its last handle is gone and its bytes are at the owner; then
// the owner gets a Close
// (from afar: several at a time). An open that comes while the Close is on its way waits for its answer, so
// that the two cannot overtake each other. Any thread.
#pragma once

#include <mutex>
#include <unordered_map>

#include "vfs/limits.h"
#include "vfs/open_file.h"

namespace efs {

class Files : public std::enable_shared_from_this<Files> {
 public:
  explicit Files(FileContext& context) : context_(context) {}

  using Acquired = std::function<void(std::shared_ptr<OpenFile>)>;
  // One more user of this inode; every acquire is paired with a release.
  void acquire(std::shared_ptr<VolumeClient> client, InodeNumber inode, Acquired then);
  void release(const std::shared_ptr<OpenFile>& file);
  // One more user if there is one already and no Close is on its way, else nullptr.
  std::shared_ptr<OpenFile> share(uint64_t node);

  // Whether a program has it open here; it may be known a little longer.
  bool in_use(uint64_t node) const;
  // The file, if it is open here.
  std::shared_ptr<OpenFile> find(uint64_t node) const;
  size_t count() const { return count_.load(std::memory_order_relaxed); }
  std::vector<std::shared_ptr<OpenFile>> all() const;
  std::vector<std::shared_ptr<OpenFile>> of_volume(VolumeNumber volume) const;

  // The version of the pages that the kernel may still have of a file that was closed (0: unknown).
  uint64_t version_of(uint64_t node) const;
  // It has lost what it had not on disk: versions of pages, too, may be counted anew.
  void owner_restarted(const VolumeClient& client);

  // The mount ends: see OpenFile::end(). Nothing is kept here from now on.
  void end();

 private:
  struct Entry {
    std::shared_ptr<OpenFile> file;
    unsigned users = 0;
    bool closing = false;  // a Close is on its way
    std::vector<Acquired> waiting;
  };
  void settle(uint64_t node);
  void settle_later(uint64_t node, int64_t delay_ns);
  // With mutex_ held.
  std::shared_ptr<OpenFile> make(std::shared_ptr<VolumeClient> client, InodeNumber inode);
  void note_undurable(uint64_t node, OpenFile& file);
  void drop_durable(VolumeNumber volume, const OwnersLog& log);
  void send_closes(VolumeNumber volume);
  void closed(const std::vector<uint64_t>& nodes);

  FileContext& context_;
  mutable std::mutex mutex_;
  bool ended_ = false;
  std::unordered_map<uint64_t, Entry> open_;
  std::unordered_map<VolumeNumber, std::vector<uint64_t>> closes_;  // to be sent together
  // Closed files whose bytes the owner had not on its disk then.
  using Undurable = OpenFile::Undurable;
  std::unordered_map<uint64_t, Undurable> undurable_;
  size_t look_at_undurable_ = kUndurableFiles / 16;
  struct Version {
    uint64_t node = 0, version = 0;
  };
  std::vector<Version> versions_ = std::vector<Version>(kPageVersions);  // by node modulo its size: a cache
  std::atomic<size_t> count_{0};
};

}  // namespace efs
