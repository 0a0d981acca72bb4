// Bytes into the tree, out of it, and within it. Blocks; one thread.
//
// Directories are copied with everything below; holes stay holes; symbolic links below the first are copied
// as links. A failure below a directory is reported and the rest goes on; the Status is of the top itself.
// What was put is durable when the call returns. An existing file is overwritten in place, not replaced.
#pragma once

#include "tools/context.h"
#include "tools/tree.h"

namespace efs::tools {

struct CopyOptions {
  bool preserve = false;  // times and mode; owner and group as far as allowed
  bool recursive = true;  // false: a directory is an error
};

// `from` "-" is context.in. `to` is what is made, not the directory it is made in.
Status put_into_tree(Context& context, const std::string& from, const std::string& to,
                     const CopyOptions& options);
// `to` "-" is context.out.
Status get_from_tree(Context& context, const std::string& from, const std::string& to,
                     const CopyOptions& options);
Status copy_in_tree(Context& context, const std::string& from, const std::string& to,
                    const CopyOptions& options);
// A file's bytes to context.out.
Status print_file(Context& context, const std::string& path);

}  // namespace efs::tools
