// A peer that is not there: answers the control socket's requests from memory. One volume ("/") with a small
// file system, and one more below it at /other, whose inodes are its own; commands get canned JSON.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "peer/runtime/clock.h"
#include "tools/connection.h"
#include "tools/context.h"
#include "tools/efs_commands.h"

namespace efs::tools {

struct FakeInode {
  VolumeId volume{};
  Attributes attributes;
  std::string content;  // or a symbolic link's target
  std::map<std::string, uint64_t> entries;
};

class FakePeer {
 public:
  FakePeer();
  Result<RawAnswer> answer(uint16_t kind, const Bytes& body, const Bytes& payload);

  // ---- what tests set and look at ----
  std::map<std::string, nlohmann::json> results;                 // by command name
  std::map<std::string, Error> errors;                           // by command name
  std::vector<std::pair<std::string, nlohmann::json>> commands;  // as they came
  std::vector<Bytes> register_entries;
  std::vector<control::Propose> proposals;
  std::optional<Error> propose_error;
  control::Welcome welcome;
  std::set<std::string> denied;       // paths that resolve to access_denied
  std::set<std::string> unreachable;  // paths whose volume has no owner
  int syncs = 0;
  int connections = 0;
  bool down = false;

  uint64_t make(const std::string& path, uint32_t mode, const std::string& content = "");
  uint64_t make_volume(const std::string& path);
  FakeInode* find(const std::string& path);
  std::string content(const std::string& path);

 private:
  Result<RawAnswer> resolve(const control::ResolvePath& wanted);
  Reply serve(const Request& request, const Bytes& payload, Bytes& out);
  uint64_t walk(const std::string& path, bool follow, int depth, Code& code);
  FakeInode* inode(const VolumeId& volume, InodeNumber number);
  uint64_t add(const VolumeId& volume, uint32_t mode, const std::string& content);

  std::map<uint64_t, FakeInode> inodes_;
  uint64_t next_ = 1;
};

class FakeConnection : public Connection {
 public:
  explicit FakeConnection(FakePeer& peer) : peer_(peer) { ++peer_.connections; }
  Result<RawAnswer> call(uint16_t kind, const Bytes& body, const Bytes& payload, int64_t) override {
    if (peer_.down) return fail(Code::closed);
    return peer_.answer(kind, body, payload);
  }

 private:
  FakePeer& peer_;
};

class FakeClock : public Clock {
 public:
  int64_t now_ns() const override { return now += step; }
  int64_t wall_ns() const override { return wall; }
  mutable int64_t now = 0;
  int64_t step = 0;
  int64_t wall = int64_t(1'800'000'000) * kSecond;
};

class FakeRandom : public Random {
 public:
  void fill(std::span<uint8_t> out) override {
    for (auto& byte : out)
      byte = uint8_t((state_ = state_ * 6364136223846793005u + 1442695040888963407u) >> 56);
  }

 private:
  uint64_t state_ = 7;
};

// A program on a fake peer: run() gives the exit code, out and err what it printed.
struct Fixture {
  FakePeer peer;
  FakeClock clock;
  FakeRandom random;
  std::stringstream in, out, err;
  EfsOptions options;
  Context context{"efs", connector(), clock, in, out, err};

  Connector connector() {
    return [this]() -> Result<std::unique_ptr<Connection>> {
      if (peer.down) return fail(Code::unreachable, "no peer runs on this machine");
      return std::make_unique<FakeConnection>(peer);
    };
  }
  int run(std::vector<std::string> arguments) {
    out.str("");
    out.clear();
    err.str("");
    context.json = context.quiet = context.yes = false;
    options = {};
    return run_efs(context, options, std::move(arguments));
  }
};

}  // namespace efs::tools
