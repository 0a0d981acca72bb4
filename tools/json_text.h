// JSON answers as people read them. Pure. What is missing or of another type reads as empty or 0: a peer of
// another version may leave things out.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace efs::tools {

using nlohmann::json;

std::string text_at(const json& object, const char* key);  // numbers and booleans as text
uint64_t number_at(const json& object, const char* key);
const json& list_at(const json& object, const char* key);  // an array, maybe empty
std::string size_at(const json& object, const char* key);  // "1.5 GiB"
// "12.3 ms", "-" when there is none.
std::string milliseconds_at(const json& object, const char* key);
std::string short_id(const std::string& id);  // the first 12 digits
// "key  value" a line; lists of objects below their key, indented; *_bytes as sizes.
std::string fields_text(const json& object, size_t indent = 0);

}  // namespace efs::tools
