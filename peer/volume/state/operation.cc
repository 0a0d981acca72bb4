#include "peer/volume/state/operation.h"

#include "peer/volume/xattr_names.h"

namespace efs {

namespace {
constexpr uint8_t kOperationFormat = 1;
}

uint32_t level_of(const OperationBody& body) {
  return std::visit(
      [](const auto& one) -> uint32_t {
        if constexpr (requires { one.kLevel; }) return one.kLevel;
        return 1;
      },
      body);
}

InodeNumber subject_of(const OperationBody& body) {
  return std::visit(
      [](const auto& one) -> InodeNumber {
        if constexpr (requires { one.inode; }) return one.inode;
        return 0;
      },
      body);
}

bool sets_attributes(const OperationBody& body) {
  if (const auto* write = std::get_if<WriteExtents>(&body)) return bool(write->attributes);
  if (const auto* set = std::get_if<SetXattr>(&body)) return is_acl(set->name);
  if (const auto* remove = std::get_if<RemoveXattr>(&body)) return is_acl(remove->name);
  return std::holds_alternative<SetAttributes>(body);
}

Bytes encode_operation(const Operation& operation) {
  Bytes out{kOperationFormat};
  if (const auto* write = std::get_if<WriteExtents>(&operation.body)) out.reserve(256 + write->bytes.size());
  if (const auto* write = std::get_if<ScatteredExtents>(&operation.body))
    out.reserve(256 + 16 * write->pieces.size() + write->bytes.size());
  encode_to(out, operation);
  return out;
}

Result<Operation> decode_operation(ByteView record) {
  if (record.empty() || record[0] != kOperationFormat)
    return fail(Code::version, "an operation in the log has a format that this program does not know");
  auto operation = decode<Operation>(record.subspan(1));
  if (!operation && operation.error().code == Code::version)
    return fail(Code::version, "an operation in the log is of a kind that this program does not know");
  if (!operation)
    return fail(Code::corrupt, "an operation in the log is damaged (" + operation.error().message + ")");
  return operation;
}

}  // namespace efs
