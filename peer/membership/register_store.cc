#include "peer/membership/register_store.h"

#include <fmt/core.h>

namespace efs {

namespace {
constexpr Table kEntries = 0;    // index, big-endian -> the entry's bytes
constexpr Table kAddresses = 1;  // peer id -> AddressRow

struct AddressRow {
  std::vector<std::string> addresses;
  static constexpr auto fields() { return std::tuple{field("a", &AddressRow::addresses)}; }
};

std::string index_key(uint64_t index) {
  std::string key;
  put_be(key, index);
  return key;
}
}  // namespace

MetaOptions RegisterStore::options() {
  return {{"entries", "addresses"}, uint64_t(16) << 30};
}

Result<std::unique_ptr<RegisterStore>> RegisterStore::open(std::shared_ptr<MetaEnvironment> environment) {
  std::unique_ptr<RegisterStore> store(new RegisterStore(std::move(environment)));
  EFS_TRY(store->load());
  return store;
}

Status RegisterStore::load() {
  auto snapshot = environment_->snapshot();
  Status status;
  EFS_TRY(snapshot->scan(kEntries, {}, [&](std::string_view key, std::string_view value) {
    if (key != index_key(state_.version())) {
      status = fail(Code::corrupt, fmt::format("entry {} of the register is missing", state_.version()));
    } else {
      status = state_.apply(view(value), RegisterState::Source::stored);
      if (!status) {
        status = fail(status.error().code,
                      fmt::format("entry {} of the register: {}", state_.version(), to_text(status.error())));
      }
    }
    return status.has_value();
  }));
  EFS_TRY(status);
  return snapshot->scan(kAddresses, {}, [&](std::string_view key, std::string_view value) {
    PeerId peer;
    auto row = decode<AddressRow>(view(value));
    if (key.size() != peer.size() || !row) return true;  // a hint that cannot be read is no hint
    std::copy(key.begin(), key.end(), peer.begin());
    addresses_[peer] = row->addresses;
    return true;
  });
}

Status RegisterStore::append(const std::vector<Bytes>& entries) {
  if (entries.size() == 1) {
    EFS_TRY(state_.check(entries.front()));
    const std::string key = index_key(state_.version());
    EFS_TRY(environment_->write({{kEntries, key, text(entries.front())}}));
    return state_.apply(entries.front());
  }
  // Who was away takes many at once: one sync for them all.
  RegisterState next = state_;
  std::vector<std::string> keys;
  Status fits;
  for (const Bytes& entry : entries) {
    std::string key = index_key(next.version());
    if (fits = next.apply(entry); !fits) break;
    keys.push_back(std::move(key));
  }
  if (keys.empty()) return fits;
  std::vector<MetaEnvironment::Change> rows;
  for (size_t i = 0; i < keys.size(); ++i) rows.push_back({kEntries, keys[i], text(entries[i])});
  EFS_TRY(environment_->write(rows));
  state_ = std::move(next);
  return fits;
}

Result<std::vector<Bytes>> RegisterStore::read(uint64_t from, size_t limit, size_t limit_bytes) const {
  std::vector<Bytes> entries;
  size_t bytes = 0;
  EFS_TRY(environment_->snapshot()->scan(kEntries, index_key(from),
                                         [&](std::string_view, std::string_view value) {
                                           if (entries.size() >= limit || bytes >= limit_bytes) return false;
                                           entries.push_back(to_bytes(view(value)));
                                           bytes += value.size();
                                           return true;
                                         }));
  return entries;
}

Status RegisterStore::remember_addresses(const PeerId& peer, const std::vector<std::string>& addresses) {
  auto& known = addresses_[peer];
  if (known == addresses) return {};
  known = addresses;
  const Bytes row = encode(AddressRow{addresses});
  return environment_->write({{kAddresses, text(peer), text(row)}});
}

}  // namespace efs
