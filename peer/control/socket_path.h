// Where the control socket of a data directory is: the peer listens there, the tools look there.
//
// A peer that root runs listens in /run/efs, one of another user in $XDG_RUNTIME_DIR/efs (without that
// variable: /run/user/UID/efs where it exists, else /tmp/efs-UID). The name is "peer.sock" for the user's
// default data directory, else the first 16 hex digits of BLAKE2b-256 over the canonical path of the data
// directory, and ".sock". Reads the file system (realpath, stat), changes nothing. Any thread.
#pragma once

#include <string>
#include <vector>

#include "peer/base/error.h"

namespace efs {

// Who runs the program, as far as paths depend on it. `runtime_directory` is empty when unknown.
struct Surroundings {
  uint32_t uid = 0;
  std::string home;
  std::string runtime_directory;  // XDG_RUNTIME_DIR
  std::string data;               // EFS_DATA
  static Surroundings of_this_process();
};

// /var/lib/efs for root, else ~/.local/share/efs.
std::string default_data_directory(const Surroundings& who);
// The path without symbolic links and dots, also of a directory that does not exist yet.
std::string canonical_path(const std::string& path);

// The directory that the sockets of who's peers are in. Made by the peer: 0755 in /run, else 0700.
std::string socket_directory(const Surroundings& who);
// Where a peer run by `who` on `data` listens.
std::string socket_path(const std::string& data, const Surroundings& who);

// What a tool tries, in order. With `data` (or EFS_DATA): that directory's socket, of root's peer, of the
// directory's owner's, then of the caller's. Without: /run/efs/peer.sock, then the caller's own.
std::vector<std::string> socket_candidates(const std::string& data, const Surroundings& who);
// The first of them that is there, or `socket` itself if it is given. Code::unreachable, saying where it
// looked and how to start a peer.
Result<std::string> find_socket(const std::string& socket, const std::string& data, const Surroundings& who);

}  // namespace efs
