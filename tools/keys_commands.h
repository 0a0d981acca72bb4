// The commands of `efs-keys`, in groups by task.
#pragma once

#include "tools/keys_context.h"

namespace efs::tools {

void add_user_commands(CommandLine& line, KeysContext& keys);    // user, group
void add_grant_commands(CommandLine& line, KeysContext& keys);   // grant, revoke, grants, admin
void add_member_commands(CommandLine& line, KeysContext& keys);  // invite, peer, mesh, login, whoami, audit

// Parses and runs one command line, without the program's name.
int run_efs_keys(Context& context, KeysOptions& options, Random& random, std::vector<std::string> arguments);

}  // namespace efs::tools
