// Ordered tables of rows: how state machines see what is stored. Pure interfaces, no I/O in sight.
//
// Keys and values are bytes; keys order as memcmp does. A value carries no checksum or format byte here:
// the store below adds and checks them (a bad row reads as Code::corrupt). Views that get() and scan()
// hand out live until the next put, erase or end of the transaction.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "peer/base/error.h"

namespace efs {

using Table = uint8_t;  // each state machine numbers its own; names are given when the store is opened

class ReadRows {
 public:
  virtual ~ReadRows() = default;
  virtual Result<std::optional<std::string_view>> get(Table table, std::string_view key) const = 0;
  // Rows from `from` on, in order, until `visit` returns false or the table ends. No row may be changed
  // from inside `visit`.
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;
  virtual Status scan(Table table, std::string_view from, const Visit& visit) const = 0;
};

// What is written is seen by reads of the same transaction at once.
class WriteRows : public ReadRows {
 public:
  virtual void put(Table table, std::string_view key, std::string_view value) = 0;
  virtual void erase(Table table, std::string_view key) = 0;
};

}  // namespace efs
