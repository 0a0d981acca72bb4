// put and get: between this machine's files and the tree.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <istream>
#include <ostream>

#include "peer/base/descriptor.h"
#include "tools/copy_parts.h"
#include "tools/path.h"

namespace efs::tools {

namespace {

// A descriptor that closes itself.
int64_t to_ns(const timespec& time) {
  return int64_t(time.tv_sec) * kSecond + time.tv_nsec;
}
timespec from_ns(int64_t ns) {
  timespec time{};
  time.tv_sec = time_t(ns / kSecond - (ns % kSecond < 0));
  time.tv_nsec = long((ns % kSecond + kSecond) % kSecond);
  return time;
}

Attributes to_attributes(const struct stat& from) {
  Attributes result;
  result.mode = from.st_mode;
  result.uid = from.st_uid;
  result.gid = from.st_gid;
  result.size = uint64_t(from.st_size);
  result.atime_ns = to_ns(from.st_atim);
  result.mtime_ns = to_ns(from.st_mtim);
  return result;
}

// What a progress bar goes up to; unreadable parts count nothing.
uint64_t bytes_below(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) return std::filesystem::file_size(path, error);
  uint64_t sum = 0;
  auto options = std::filesystem::directory_options::skip_permission_denied;
  for (std::filesystem::recursive_directory_iterator at(path, options, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code ignored;
    if (at->symlink_status(ignored).type() == std::filesystem::file_type::regular) {
      uint64_t size = at->file_size(ignored);
      if (!ignored) sum += size;
    }
  }
  return sum;
}

class Put {
 public:
  Put(Context& context, const CopyOptions& options, const std::string& top)
      : context_(context),
        options_(options),
        tree_(context.peer),
        progress_(context, "putting", bytes_below(top)) {}

  Status put(const std::string& from, const std::string& to, size_t depth) {
    struct stat found {};
    if ((depth ? lstat(from.c_str(), &found) : stat(from.c_str(), &found)) != 0)
      return fail(from_errno(errno, "open " + from));
    Attributes like = to_attributes(found);
    if (S_ISDIR(found.st_mode)) return put_directory(from, to, like, depth);
    if (S_ISLNK(found.st_mode)) return put_link(from, to, like);
    if (S_ISREG(found.st_mode)) return put_file(from, to, like);
    return fail(Code::unsupported, "it is neither file, directory nor symbolic link");
  }

  Status put_input(const std::string& to) {
    EFS_ASSIGN(Target target, open_target(tree_, to, 0666 & ~context_.umask));
    touched_.insert(target.node.volume);
    Bytes piece(kPiece);
    for (uint64_t offset = 0; context_.in;) {
      context_.in.read(reinterpret_cast<char*>(piece.data()), std::streamsize(kPiece));
      piece.resize(size_t(context_.in.gcount()));
      if (piece.empty()) break;
      EFS_TRY(write(target.node, offset, piece));
      offset += piece.size();
      piece.resize(kPiece);
    }
    if (context_.in.bad()) return fail(Code::io, "standard input cannot be read");
    return {};
  }

  Status sync() {
    for (const auto& volume : touched_) EFS_TRY(tree_.sync(volume));
    return {};
  }

 private:
  Status write(const Node& node, uint64_t offset, const Bytes& bytes) {
    EFS_TRY(tree_.write(node, offset, bytes));
    progress_.add(bytes.size());
    return {};
  }

  Status put_data(int fd, const std::string& from, const Node& node, uint64_t& offset, uint64_t size) {
    while (offset < size) {
      off_t data = lseek(fd, off_t(offset), SEEK_DATA);
      if (data < 0 && errno == ENXIO) return {};  // only a hole follows
      off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
      uint64_t end = hole < 0 ? size : uint64_t(hole);
      if (data > 0) offset = std::max(offset, uint64_t(data));
      Bytes piece;
      while (offset < end) {
        piece.resize(piece_length(offset, end));
        ssize_t got = pread(fd, piece.data(), piece.size(), off_t(offset));
        if (got < 0) return fail(from_errno(errno, "read " + from));
        if (got == 0) return {};
        piece.resize(size_t(got));
        EFS_TRY(write(node, offset, piece));
        offset += piece.size();
      }
    }
    return {};
  }

  Status put_file(const std::string& from, const std::string& to, const Attributes& like) {
    progress_.rename(base_name(from));
    Descriptor file(open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.valid()) return fail(from_errno(errno, "open " + from));
    EFS_ASSIGN(Target target, open_target(tree_, to, like.mode & 0777 & ~context_.umask));
    touched_.insert(target.node.volume);
    uint64_t end = 0;
    EFS_TRY(put_data(file.get(), from, target.node, end, like.size));
    return finish_target(tree_, target, like, end, options_, context_.umask);
  }

  Status put_link(const std::string& from, const std::string& to, const Attributes& like) {
    std::error_code error;
    auto target = std::filesystem::read_symlink(from, error);
    if (error) return fail(from_errno(error.value(), "read the link " + from));
    EFS_ASSIGN(auto made, tree_.create(to, S_IFLNK | 0777, true, target.string()));
    touched_.insert(made.volume);
    return options_.preserve ? preserve(tree_, made, like) : Status();
  }

  Status put_directory(const std::string& from, const std::string& to, const Attributes& like, size_t depth) {
    if (depth >= kMaxCopyDepth) return fail(Code::name_too_long, "directories are nested too deeply");
    std::error_code error;
    std::vector<std::string> names;
    for (std::filesystem::directory_iterator at(from, error), end; !error && at != end; at.increment(error))
      names.push_back(at->path().filename().string());
    if (error) return fail(from_errno(error.value(), "list " + from));
    std::sort(names.begin(), names.end());
    EFS_ASSIGN(auto made, make_directory(tree_, to, like.mode & 0777 & ~context_.umask));
    touched_.insert(made.volume);
    for (const auto& name : names) {
      std::string source = join_path(from, name), target = join_path(to, name);
      if (Status done = put(source, target, depth + 1); !done)
        context_.report(about(joined("put", source, target), done.error()));
    }
    return options_.preserve ? preserve(tree_, made, like) : Status();
  }

  Context& context_;
  const CopyOptions& options_;
  Tree tree_;
  Progress progress_;
  std::set<VolumeId> touched_;
};

class Get {
 public:
  Get(Context& context, const CopyOptions& options, uint64_t total_bytes)
      : context_(context),
        options_(options),
        tree_(context.peer),
        progress_(context, "getting", total_bytes) {}

  Status get(const Node& from, const std::string& to, size_t depth) {
    if (from.is_directory()) return get_directory(from, to, depth);
    if (from.is_symlink()) return get_link(from, to);
    if (from.is_file()) return get_file(from, to);
    return fail(Code::unsupported, "it is neither file, directory nor symbolic link");
  }

 private:
  Status get_file(const Node& from, const std::string& to) {
    progress_.rename(base_name(to));
    mode_t mode = from.attributes.mode & 0777;
    Descriptor file(open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode | S_IWUSR));
    if (!file.valid()) return fail(from_errno(errno, "create " + to));
    uint64_t end = 0;
    auto take = [&](uint64_t offset, const Bytes& bytes) -> Status {
      EFS_TRY(write_all(file.get(), to, offset, bytes));
      end = offset + bytes.size();
      progress_.add(bytes.size());
      return {};
    };
    EFS_TRY(each_piece(tree_, from, take));
    if (from.attributes.size > end && ftruncate(file.get(), off_t(from.attributes.size)) != 0)
      return fail(from_errno(errno, "set the size of " + to));
    // Only what was made here: what somebody had there keeps its mode.
    if (!options_.preserve) return file.close();
    EFS_TRY(file.close());
    return keep(from, to);
  }

  static Status write_all(int fd, const std::string& to, uint64_t offset, const Bytes& bytes) {
    for (size_t done = 0; done < bytes.size();) {
      ssize_t put = pwrite(fd, bytes.data() + done, bytes.size() - done, off_t(offset + done));
      if (put < 0) return fail(from_errno(errno, "write " + to));
      done += size_t(put);
    }
    return {};
  }

  Status get_link(const Node& from, const std::string& to) {
    EFS_ASSIGN(auto target, tree_.read_link(from));
    if (symlink(target.c_str(), to.c_str()) != 0) return fail(from_errno(errno, "link " + to));
    return options_.preserve ? keep(from, to) : Status();
  }

  Status get_directory(const Node& from, const std::string& to, size_t depth) {
    if (depth >= kMaxCopyDepth) return fail(Code::name_too_long, "directories are nested too deeply");
    if (mkdir(to.c_str(), (from.attributes.mode & 0777) | S_IRWXU) != 0 && errno != EEXIST)
      return fail(from_errno(errno, "make the directory " + to));
    EFS_ASSIGN(auto entries, tree_.list(from));
    for (const auto& entry : entries) {
      std::string target = join_path(to, entry.name);
      Status done = entry.error ? fail(*entry.error) : get(entry.node, target, depth + 1);
      if (!done) context_.report(about(joined("get", entry.node.path, target), done.error()));
    }
    return options_.preserve ? keep(from, to) : Status();
  }

  // As preserve() in the tree: without the owner, no setuid or setgid.
  static Status keep(const Node& from, const std::string& to) {
    const Attributes& a = from.attributes;
    bool owned = lchown(to.c_str(), a.uid, a.gid) == 0;
    if (!owned && errno != EPERM) return fail(from_errno(errno, "change the owner of " + to));
    if (!from.is_symlink() && chmod(to.c_str(), a.mode & (owned ? 07777u : 01777u)) != 0)
      return fail(from_errno(errno, "change the mode of " + to));
    timespec times[2] = {from_ns(a.atime_ns), from_ns(a.mtime_ns)};
    if (utimensat(AT_FDCWD, to.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
      return fail(from_errno(errno, "set the times of " + to));
    return {};
  }

  Context& context_;
  const CopyOptions& options_;
  Tree tree_;
  Progress progress_;
};

}  // namespace

Status put_into_tree(Context& context, const std::string& from, const std::string& to,
                     const CopyOptions& options) {
  Put put(context, options, from);
  if (from == "-") {
    EFS_TRY(put.put_input(to));
  } else {
    EFS_TRY(put.put(from, to, 0));
  }
  return put.sync();
}

Status get_from_tree(Context& context, const std::string& from, const std::string& to,
                     const CopyOptions& options) {
  if (to == "-") return print_file(context, from);
  EFS_ASSIGN(auto node, Tree(context.peer).find(from));
  Get get(context, options, node.is_file() ? node.attributes.size : 0);
  return get.get(node, to, 0);
}

}  // namespace efs::tools
