#include "tools/json_text.h"

#include <fmt/format.h>

#include "peer/base/bytes.h"
#include "tools/peer_client.h"
#include "tools/table.h"

namespace efs::tools {

namespace {

std::string scalar_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "-";
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  return to_json_text(value);
}

const json* find(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

}  // namespace

std::string text_at(const json& object, const char* key) {
  const json* value = find(object, key);
  return value && !value->is_null() ? scalar_text(*value) : "";
}

uint64_t number_at(const json& object, const char* key) {
  const json* value = find(object, key);
  if (!value || !value->is_number()) return 0;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  double number = value->get<double>();
  return number > 0 && number < 1.8e19 ? uint64_t(number) : 0;
}

const json& list_at(const json& object, const char* key) {
  static const json empty = json::array();
  const json* value = find(object, key);
  return value && value->is_array() ? *value : empty;
}

std::string size_at(const json& object, const char* key) {
  return human_size(number_at(object, key));
}

std::string milliseconds_at(const json& object, const char* key) {
  const json* value = find(object, key);
  if (!value || !value->is_number()) return "-";
  return fmt::format("{:.1f} ms", value->get<double>());
}

std::string short_id(const std::string& id) {
  return id.substr(0, 12);
}

std::string fields_text(const json& object, size_t indent) {
  std::string out;
  std::string margin(indent, ' ');
  if (!object.is_object()) return margin + scalar_text(object) + "\n";
  size_t widest = 0;
  for (const auto& [key, value] : object.items()) widest = std::max(widest, key.size());
  for (const auto& [key, value] : object.items()) {
    std::string head = margin + key + std::string(widest + 2 - key.size(), ' ');
    if (value.is_number_unsigned() && key.ends_with("_bytes")) {
      out += head + human_size(value.get<uint64_t>()) + "\n";
    } else if (value.is_object()) {
      out += margin + key + "\n" + fields_text(value, indent + 2);
    } else if (value.is_array() && !value.empty() && value.front().is_object()) {
      out += margin + key + "\n";
      for (const auto& one : value) out += fields_text(one, indent + 2);
    } else if (value.is_array()) {
      std::string all;
      for (const auto& one : value) all += (all.empty() ? "" : ", ") + scalar_text(one);
      out += head + (all.empty() ? "-" : printable(all)) + "\n";
    } else {
      out += head + printable(scalar_text(value)) + "\n";
    }
  }
  return out;
}

}  // namespace efs::tools
