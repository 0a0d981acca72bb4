// Sequences of filesystem calls, run on real directories and on a model in memory, which must agree.
//
// An Operation is a few small numbers; whoever runs it says what came of it as text: an errno, or what was
// read. Paths have up to three of four names, so that operations meet. Open files live in slots.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace model {

enum class Kind : uint8_t {
  open,
  close,
  write,
  read,
  ftruncate,
  truncate,
  fallocate,
  copy,
  seek,
  map_write,
  fsync,
  fstat,
  stat,
  mkdir,
  rmdir,
  unlink,
  rename,
  link,
  symlink,
  readlink,
  mkfifo,
  chmod,
  list,
  set_xattr,
  get_xattr,
  remove_xattr,
  list_xattr,
  count
};

struct Operation {
  Kind kind = Kind::stat;
  uint8_t mount = 0;        // 0 or 1: which directory is used
  std::string path, other;  // other: a second path, or a symbolic link's target
  uint8_t slot = 0, slot2 = 0;
  uint32_t offset = 0, offset2 = 0, length = 0;
  uint32_t flags = 0;  // of the call; what they mean depends on it
  uint32_t seed = 0;   // of bytes
};
std::string to_text(const Operation& operation);

inline constexpr unsigned kSlots = 6;
inline constexpr uint32_t kMaxFile = 300'000;

// Bytes that a seed stands for.
std::string bytes_of(uint32_t seed, uint32_t length);
std::string describe(const std::string& bytes);  // length and hash

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint32_t next() {
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return uint32_t((state_ * 0x2545F4914F6CDD1Du) >> 32);
  }
  uint32_t below(uint32_t limit) { return next() % limit; }

 private:
  uint64_t state_;
};
Operation draw(Random& random, unsigned mounts);

// Runs operations one after another.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual std::string run(const Operation& operation) = 0;
  virtual std::string dump() = 0;  // the whole tree: one line a name
};
std::unique_ptr<Runner> make_model();
// In these directories, which are the same one through one or two mounts; empty at first.
std::unique_ptr<Runner> make_real(std::vector<std::string> directories);

}  // namespace model
