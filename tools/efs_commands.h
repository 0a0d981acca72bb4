// The commands of `efs`, in groups by task. Each adds its options and what it runs to the command line.
#pragma once

#include "tools/command_line.h"

namespace efs::tools {

void add_mesh_commands(CommandLine& line);      // status, where, mount, volume, peer, store
void add_listing_commands(CommandLine& line);   // ls, tree, stat, du, find
void add_file_commands(CommandLine& line);      // mkdir, rm, mv, chmod, chown, ln, touch
void add_transfer_commands(CommandLine& line);  // cat, put, get, cp

// Parses and runs one command of efs: a program's arguments or a shell's line. `options` gets --socket and
// --data before the peer is called.
struct EfsOptions : PeerOptions {
  std::string remote;  // --peer
  std::string key;
};
int run_efs(Context& context, EfsOptions& options, std::vector<std::string> arguments);
std::vector<std::string> efs_command_names();

}  // namespace efs::tools
