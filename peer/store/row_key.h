// Rows of all tables in one ordered map: their keys, and the order. For the store's own sources.
#pragma once

#include <string>
#include <string_view>

#include "peer/store/kv.h"

namespace efs {

struct RowKey {
  Table table;
  std::string key;
};
struct RowKeyView {  // looks rows up without a copy of the key
  Table table;
  std::string_view key;
};
struct RowBefore {
  using is_transparent = void;
  template <typename A, typename B>
  bool operator()(const A& a, const B& b) const {
    if (a.table != b.table) return a.table < b.table;
    return std::string_view(a.key) < std::string_view(b.key);
  }
};

}  // namespace efs
