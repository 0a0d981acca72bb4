#include "peer/data_directory.h"

#include <fmt/core.h>

#include <algorithm>

#include "peer/identity/limits.h"

namespace efs {

namespace {
constexpr std::string_view kFormat = "efs data 1\n";
}

namespace {
// Nothing is written into a directory that is somebody else's. The log and the lock of a start that got no
// further are no reason to refuse, nor is what a fresh disk has.
Status check_kind(FileSystem& files, const std::string& path, bool make) {
  EFS_ASSIGN(const auto names, files.list(path));
  if (std::find(names.begin(), names.end(), "format") != names.end()) return {};
  if (!make) {
    return fail(Code::not_found,
                fmt::format("{} is no data directory of efs-peer: it has no file 'format'", path));
  }
  for (const std::string& name : names) {
    if (name == "lock" || name == "lost+found" || name == "format.new" || name.ends_with(".log")) continue;
    return fail(Code::not_empty, fmt::format("{} is no data directory of efs-peer, and there are files in it "
                                             "({}): name a new or empty directory with --data",
                                             path, name));
  }
  return {};
}
}  // namespace

Result<std::unique_ptr<DataDirectory>> DataDirectory::open(FileSystem& files, const std::string& path,
                                                           bool make) {
  if (!files.exists(path)) {
    if (!make) {
      return fail(
          Code::not_found,
          fmt::format("no data directory at {}: found a mesh with 'efs-peer init', join one with 'efs-peer "
                      "join SEED', or name another with --data",
                      path));
    }
    EFS_TRY(files.make_directories(path, 0700));
    EFS_TRY(files.sync_directory(path.substr(0, std::max<size_t>(path.rfind('/'), 1))));
  }
  EFS_TRY(check_kind(files, path, make));
  std::unique_ptr<DataDirectory> directory(new DataDirectory(files, path));
  auto lock = files.lock(directory->at("lock"));
  if (!lock && lock.error().code == Code::busy) {
    return fail(Code::busy,
                fmt::format("another process uses the data directory {}: stop it first, or name another "
                            "directory with --data",
                            path));
  }
  if (!lock) return fail(lock.error());
  directory->lock_ = std::move(*lock);
  const std::string format_file = directory->at("format");
  if (files.exists(format_file)) {
    EFS_ASSIGN(const Bytes format, files.read_file(format_file, 256));
    if (text(format) != kFormat) {
      return fail(Code::version,
                  fmt::format("{} says '{}', this program knows '{}': it was written by another version "
                              "of efs; upgrade efs on this machine",
                              format_file, text(format).substr(0, text(format).find('\n')),
                              kFormat.substr(0, kFormat.size() - 1)));
    }
  } else {
    EFS_TRY(files.replace_file(format_file, view(kFormat)));
  }
  directory->complete_ = files.exists(directory->at("genesis"));
  return directory;
}

Result<KeyPair> DataDirectory::peer_key(Random& random) {
  if (!files_.exists(at("peer.key"))) {
    KeyPair fresh = KeyPair::generate(random);
    Bytes encoded = encode_key(fresh, KeyKind::peer, Secret(), random);
    const Status written = files_.replace_file(at("peer.key"), encoded);
    wipe(encoded);
    EFS_TRY(written);
    return fresh;
  }
  EFS_ASSIGN(Bytes content, files_.read_file(at("peer.key"), kMaxKeyFileBytes));
  auto parsed = parse_key(content, Secret());
  wipe(content);
  if (!parsed) return fail(parsed.error().code, at("peer.key") + ": " + to_text(parsed.error()));
  return std::move(parsed->key);
}

Result<Secret> DataDirectory::mesh_secret() const {
  EFS_ASSIGN(Bytes content, files_.read_file(at("mesh.secret"), 256));
  Secret secret = Secret::copy_of(content);
  wipe(content);
  if (secret.size() != 32)
    return fail(Code::corrupt, at("mesh.secret") + " is damaged: it must have 32 bytes");
  return secret;
}

Result<SignedGenesis> DataDirectory::genesis() const {
  EFS_ASSIGN(const Bytes content, files_.read_file(at("genesis"), kMaxGenesisBytes));
  auto genesis = decode<SignedGenesis>(content);
  if (!genesis) return fail(Code::corrupt, at("genesis") + " is damaged: " + to_text(genesis.error()));
  return genesis;
}

Result<std::string> DataDirectory::options() const {
  if (!files_.exists(at("efs.yaml"))) return std::string();
  EFS_ASSIGN(const Bytes content, files_.read_file(at("efs.yaml"), 1 << 20));
  return std::string(text(content));
}

Status DataDirectory::write_options(const std::string& yaml) {
  return files_.replace_file(at("efs.yaml"), view(yaml));
}

Status DataDirectory::establish(const SignedGenesis& genesis, const Secret& mesh_secret) {
  EFS_TRY(files_.replace_file(at("mesh.secret"), mesh_secret.reveal()));
  EFS_TRY(files_.replace_file(at("genesis"), encode(genesis)));
  complete_ = true;
  return {};
}

}  // namespace efs
