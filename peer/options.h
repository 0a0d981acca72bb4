// What a peer is told: by its command line, a YAML file (config/efs.yaml shows every key with its default)
// and what `init` or `join` kept in DATA/efs.yaml. The command line wins, then --config, then DATA.
// Plain values.
#pragma once

#include <string>
#include <vector>

#include "peer/runtime/real.h"
#include "peer/store/chunk_store.h"

namespace efs {

inline constexpr uint16_t kDefaultPort = 7400;

struct PeerOptions {
  std::string data;                   // --data; never kept in a file
  std::string name;                   // of this peer; default: the host's name
  std::vector<StoreLocation> stores;  // default: DATA/chunks
  std::vector<Address> listen;        // default: [::]:7400
  std::vector<Address> advertise;     // default: the address that others see
  std::string mount;                  // a directory; empty: none
  bool mount_read_only = false;
  std::string socket;            // default: by data directory (peer/control/socket_path.h)
  std::vector<std::string> own;  // volumes to make at the next start (--own); kept until they are made
  LogLevel log_level = LogLevel::info;
  uint32_t unreachable_timeout_s = 60;  // vfs.unreachable_timeout; 0: wait for ever
  uint32_t vfs_threads = 3;             // vfs.threads
  uint32_t awake_us = 50;               // awake: how long a thread looks for more before it sleeps
};

// "DIR" or "DIR:SIZE".
Result<StoreLocation> parse_store(const std::string& text);
std::string host_name();

// Lays the keys of a YAML document over `options`. An unknown key, a wrong type or a bad value fails with
// where and what, for people.
Status read_options(const std::string& yaml, const std::string& file_name, PeerOptions& options);
// What `run` needs of them later, as YAML.
std::string write_options(const PeerOptions& options);
// What is not said gets its default; fails on what contradicts.
Status complete_options(PeerOptions& options);

}  // namespace efs
