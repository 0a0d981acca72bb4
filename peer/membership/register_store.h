// The register on this peer's disk: every entry as it was received, and the state that they make.
//
// Entries are appended durably before they are applied; nothing is ever rolled back. At start they are
// replayed: chain and rules are checked again, signatures are not (they were when the entry was taken).
// The loop's thread only; append() blocks for one small commit (entries are rare).
#pragma once

#include <memory>

#include "peer/identity/register.h"
#include "peer/store/meta_store.h"

namespace efs {

class RegisterStore {
 public:
  // Code::corrupt when what is stored does not make a register: it names the first bad entry.
  static Result<std::unique_ptr<RegisterStore>> open(std::shared_ptr<MetaEnvironment> environment);
  // What `environment` must be opened with.
  static MetaOptions options();

  const RegisterState& state() const { return state_; }
  // The next entries, in order. Those before the first that does not fit are kept. What state() gave
  // pointers to may have moved.
  Status append(const std::vector<Bytes>& entries);
  // Entries from index `from` on: at most `limit` of them, and about `limit_bytes`.
  Result<std::vector<Bytes>> read(uint64_t from, size_t limit, size_t limit_bytes = 512 << 10) const;

  // Where peers were last reached, for the next start: hints, of no authority.
  Status remember_addresses(const PeerId& peer, const std::vector<std::string>& addresses);
  const std::map<PeerId, std::vector<std::string>>& addresses() const { return addresses_; }

 private:
  explicit RegisterStore(std::shared_ptr<MetaEnvironment> environment)
      : environment_(std::move(environment)) {}
  Status load();
  std::shared_ptr<MetaEnvironment> environment_;
  RegisterState state_;
  std::map<PeerId, std::vector<std::string>> addresses_;
};

}  // namespace efs
