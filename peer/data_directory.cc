#include "peer/data_directory.h"

#include <fmt/core.h>

#include <algorithm>

#include "peer/identity/limits.h"
#include "peer/store/directory.h"

namespace efs {

namespace {
constexpr std::string_view kFormat = "efs data 1\n";
constexpr int kDeepest = 4;  // of what efs-peer makes below a data directory

// What belongs to one mesh; the genesis goes first, so that what is half erased is never taken for whole.
constexpr std::string_view kOfMesh[] = {"genesis",      "mesh.secret", "register",      "dht",
                                        "log",          "volumes",     "chunks",        "chunk-index",
                                        "volumes-made", "stores-made", "keys-directory"};
constexpr std::string_view kOfPeer[] = {"efs.yaml", "efs-peer.log", "peer.key", "left", "format", "lock"};

Status remove_tree(FileSystem& files, const std::string& path, int depth = 0) {
  if (!files.exists(path)) return {};
  auto names = files.list(path);
  if (!names || depth > kDeepest) return files.remove(path);
  for (const auto& name : *names) EFS_TRY(remove_tree(files, path + "/" + name, depth + 1));
  return files.remove(path);
}

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
    EFS_TRY(make_durable_directory(files, path));
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

// ---- leaving ----

Status DataDirectory::mark_left(const std::string& why) {
  EFS_TRY(files_.replace_file(at("left"), view(why + "\n")));
  complete_ = false;
  if (files_.exists(at("genesis"))) EFS_TRY(files_.remove(at("genesis")));
  return files_.sync_directory(path_);
}

std::optional<std::string> DataDirectory::left() const {
  if (!files_.exists(at("left"))) return std::nullopt;
  auto content = files_.read_file(at("left"), 4096);
  std::string why = content ? std::string(text(*content)) : "this peer left its mesh";
  while (why.ends_with('\n')) why.pop_back();
  return why;
}

Status DataDirectory::begin_again() {
  if (!left()) return fail(Code::invalid_argument, path_ + " was not left");
  if (auto volumes = files_.list(at("volumes")); volumes && !volumes->empty()) {
    return fail(
        Code::not_empty,
        fmt::format("{} still holds volumes of the mesh that it belonged to: name another directory with "
                    "--data, or delete it",
                    path_));
  }
  for (std::string_view name : kOfMesh) EFS_TRY(remove_tree(files_, at(name)));
  EFS_TRY(files_.sync_directory(path_));
  EFS_TRY(files_.remove(at("left")));
  complete_ = false;
  return files_.sync_directory(path_);
}

Result<std::string> DataDirectory::erase(const std::vector<std::string>& stores) {
  std::string kept;
  auto remove_if_empty = [&](const std::string& directory) {
    auto names = files_.list(directory);
    if (names && names->empty() && files_.remove(directory)) return;
    if (names) kept += (kept.empty() ? "" : ", ") + directory;
  };
  complete_ = false;
  for (const std::string& store : stores) {
    if (!files_.exists(store + "/marker")) continue;  // not mounted, or never used
    EFS_TRY(remove_tree(files_, store + "/segments"));
    EFS_TRY(files_.remove(store + "/marker"));
    remove_if_empty(store);
  }
  for (std::string_view name : kOfMesh) EFS_TRY(remove_tree(files_, at(name)));
  for (std::string_view name : kOfPeer) EFS_TRY(remove_tree(files_, at(name)));
  remove_if_empty(path_);
  return kept;
}

Error lost_register(const std::string& data_directory) {
  return {
      Code::corrupt,
      fmt::format("the register in {}/register is empty: the disk has lost it; put that directory back from "
                  "a copy. Do not delete {}: what this peer holds is in it",
                  data_directory, data_directory)};
}

}  // namespace efs
