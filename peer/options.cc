#include "peer/options.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <map>

#include "peer/control/socket_path.h"

namespace efs {

namespace {

constexpr std::string_view kLogLevels[] = {"trace", "debug", "info", "warning", "error"};

using Setter = std::function<Status(const YAML::Node&, PeerOptions&)>;

Status read_text(const YAML::Node& node, std::string& out) {
  if (!node.IsScalar()) return fail(Code::invalid_argument, "a single value is wanted");
  out = node.Scalar();
  return {};
}

Status read_number(const YAML::Node& node, uint32_t low, uint32_t high, uint32_t& out) {
  try {
    const auto value = node.as<int64_t>();
    if (value < low || value > high) {
      return fail(Code::invalid_argument, fmt::format("a number from {} to {} is wanted", low, high));
    }
    out = uint32_t(value);
    return {};
  } catch (const YAML::Exception&) {
    return fail(Code::invalid_argument, "a whole number is wanted");
  }
}

// One value or a list of them.
Status for_each_text(const YAML::Node& node, const std::function<Status(const std::string&)>& use) {
  if (node.IsNull()) return {};
  if (node.IsScalar()) return use(node.Scalar());
  if (!node.IsSequence()) return fail(Code::invalid_argument, "a value or a list of values is wanted");
  for (const auto& item : node) {
    if (!item.IsScalar()) return fail(Code::invalid_argument, "a list of plain values is wanted");
    EFS_TRY(use(item.Scalar()));
  }
  return {};
}

Status read_addresses(const YAML::Node& node, std::vector<Address>& out) {
  out.clear();
  return for_each_text(node, [&](const std::string& text) -> Status {
    EFS_ASSIGN(auto address, Address::parse(text, kDefaultPort));
    out.push_back(std::move(address));
    return {};
  });
}

const std::map<std::string, Setter>& setters() {
  static const std::map<std::string, Setter> table = {
      {"name", [](const YAML::Node& node, PeerOptions& o) { return read_text(node, o.name); }},
      {"store",
       [](const YAML::Node& node, PeerOptions& o) {
         o.stores.clear();
         return for_each_text(node, [&](const std::string& text) -> Status {
           EFS_ASSIGN(auto location, parse_store(text));
           o.stores.push_back(std::move(location));
           return {};
         });
       }},
      {"listen", [](const YAML::Node& node, PeerOptions& o) { return read_addresses(node, o.listen); }},
      {"advertise", [](const YAML::Node& node, PeerOptions& o) { return read_addresses(node, o.advertise); }},
      {"mount", [](const YAML::Node& node, PeerOptions& o) { return read_text(node, o.mount); }},
      {"mount_read_only",
       [](const YAML::Node& node, PeerOptions& o) -> Status {
         try {
           o.mount_read_only = node.as<bool>();
           return {};
         } catch (const YAML::Exception&) {
           return fail(Code::invalid_argument, "true or false is wanted");
         }
       }},
      {"socket", [](const YAML::Node& node, PeerOptions& o) { return read_text(node, o.socket); }},
      {"log_level",
       [](const YAML::Node& node, PeerOptions& o) -> Status {
         auto level = parse_log_level(node.IsScalar() ? node.Scalar() : "");
         if (!level)
           return fail(Code::invalid_argument, "one of trace, debug, info, warning, error is wanted");
         o.log_level = *level;
         return {};
       }},
      {"own",
       [](const YAML::Node& node, PeerOptions& o) {
         o.own.clear();
         return for_each_text(node, [&](const std::string& text) -> Status {
           o.own.push_back(text);
           return {};
         });
       }},
      {"awake",
       [](const YAML::Node& node, PeerOptions& o) { return read_number(node, 0, 1000, o.awake_us); }},
      {"vfs.unreachable_timeout",
       [](const YAML::Node& node, PeerOptions& o) {
         return read_number(node, 0, 86400, o.unreachable_timeout_s);
       }},
      {"vfs.threads",
       [](const YAML::Node& node, PeerOptions& o) { return read_number(node, 1, 16, o.vfs_threads); }},
  };
  return table;
}

// Maps elsewhere are refused like any wrong value: one that contains itself (an alias) would never end.
bool is_group(const std::string& key) {
  auto first = setters().lower_bound(key + ".");
  return first != setters().end() && first->first.starts_with(key + ".");
}

Status lay_over(const YAML::Node& map, const std::string& prefix, const std::string& file,
                PeerOptions& options) {
  for (const auto& pair : map) {
    const std::string key = prefix + pair.first.as<std::string>();
    const std::string where = fmt::format("{}:{}: {}", file, pair.first.Mark().line + 1, key);
    if (pair.second.IsMap() && is_group(key)) {
      EFS_TRY(lay_over(pair.second, key + ".", file, options));
      continue;
    }
    auto setter = setters().find(key);
    if (is_group(key) && pair.second.IsNull()) continue;  // all of its settings are commented out
    if (setter == setters().end()) {
      return fail(Code::invalid_argument, where + ": unknown setting; config/efs.yaml shows all of them");
    }
    if (pair.second.IsNull()) continue;
    if (auto status = setter->second(pair.second, options); !status) {
      return fail(status.error().code, where + ": " + to_text(status.error()));
    }
  }
  return {};
}

// All that is written as it was given.
std::vector<std::string> texts_of(const PeerOptions& options) {
  std::vector<std::string> texts = options.own;
  for (const StoreLocation& store : options.stores) texts.push_back(store.directory);
  texts.insert(texts.end(), {options.name, options.mount, options.socket});
  return texts;
}

// YAML has no way to write every byte.
Status check_writable(const PeerOptions& options) {
  PeerOptions kept;
  EFS_TRY(read_options(write_options(options), "efs.yaml", kept));
  const auto told = texts_of(options), read = texts_of(kept);
  const auto [bad, other] = std::mismatch(told.begin(), told.end(), read.begin(), read.end());
  if (bad == told.end() && other == read.end()) return {};
  return fail(Code::invalid_argument,
              fmt::format("'{}' cannot be kept in efs.yaml: names and paths there are text, in UTF-8",
                          bad == told.end() ? *other : *bad));
}

}  // namespace

Result<StoreLocation> parse_store(const std::string& text) {
  StoreLocation location{text, 0};
  const auto colon = text.rfind(':');
  if (colon != std::string::npos) {
    auto size = parse_size(std::string_view(text).substr(colon + 1));
    if (!size || *size == 0) {
      return fail(Code::invalid_argument,
                  fmt::format("store '{}': '{}' is not a size; write DIR or DIR:SIZE, such as /disk1:500G",
                              text, text.substr(colon + 1)));
    }
    location = {text.substr(0, colon), *size};
  }
  if (!location.directory.starts_with('/')) {
    return fail(Code::invalid_argument, fmt::format("store '{}': give an absolute path", text));
  }
  return location;
}

std::string host_name() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "peer";
  return name;
}

Status read_options(const std::string& yaml, const std::string& file_name, PeerOptions& options) {
  try {
    const YAML::Node root = YAML::Load(yaml);
    if (root.IsNull()) return {};
    if (!root.IsMap()) return fail(Code::invalid_argument, file_name + ": a map of settings is wanted");
    return lay_over(root, "", file_name, options);
  } catch (const YAML::Exception& error) {
    return fail(Code::invalid_argument, file_name + ": " + error.what());
  }
}

std::string write_options(const PeerOptions& options) {
  YAML::Emitter out;
  auto addresses = [&](const char* key, const std::vector<Address>& list) {
    if (list.empty()) return;
    out << YAML::Key << key << YAML::Value << YAML::BeginSeq;
    for (const auto& address : list) out << address.to_text();
    out << YAML::EndSeq;
  };
  out << YAML::BeginMap;
  out << YAML::Key << "name" << YAML::Value << options.name;
  out << YAML::Key << "store" << YAML::Value << YAML::BeginSeq;
  for (const auto& store : options.stores) {
    out << (store.limit_bytes == 0 ? store.directory
                                   : fmt::format("{}:{}", store.directory, store.limit_bytes));
  }
  out << YAML::EndSeq;
  addresses("listen", options.listen);
  addresses("advertise", options.advertise);
  if (!options.mount.empty()) out << YAML::Key << "mount" << YAML::Value << options.mount;
  if (options.mount_read_only) out << YAML::Key << "mount_read_only" << YAML::Value << true;
  if (!options.socket.empty()) out << YAML::Key << "socket" << YAML::Value << options.socket;
  if (!options.own.empty()) {
    out << YAML::Key << "own" << YAML::Value << YAML::BeginSeq;
    for (const auto& prefix : options.own) out << prefix;
    out << YAML::EndSeq;
  }
  if (options.log_level != LogLevel::info) {
    out << YAML::Key << "log_level" << YAML::Value << std::string(kLogLevels[size_t(options.log_level)]);
  }
  out << YAML::Key << "awake" << YAML::Value << options.awake_us;
  out << YAML::Key << "vfs" << YAML::Value << YAML::BeginMap;
  out << YAML::Key << "unreachable_timeout" << YAML::Value << options.unreachable_timeout_s;
  out << YAML::Key << "threads" << YAML::Value << options.vfs_threads;
  out << YAML::EndMap << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

Status complete_options(PeerOptions& options) {
  if (options.data.empty()) options.data = default_data_directory(Surroundings::of_this_process());
  if (!options.data.starts_with('/')) {
    return fail(Code::invalid_argument, fmt::format("--data '{}': give an absolute path", options.data));
  }
  while (options.data.size() > 1 && options.data.ends_with('/')) options.data.pop_back();
  if (options.name.empty()) options.name = host_name();
  if (options.listen.empty()) options.listen.push_back(Address{"::", kDefaultPort});
  if (options.stores.empty()) options.stores.push_back({options.data + "/chunks", 0});
  if (!options.mount.empty() && !options.mount.starts_with('/')) {
    return fail(Code::invalid_argument, fmt::format("--mount '{}': give an absolute path", options.mount));
  }
  return check_writable(options);
}

}  // namespace efs
