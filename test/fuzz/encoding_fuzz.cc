// msgpack as it comes, and the kinds of fields that a structure may have.
#include "test/fuzz/fuzz.h"

namespace {
using namespace efs;

struct Leaf {
  static constexpr uint16_t kKind = 1;
  uint8_t small = 0;
  int32_t number = 0;
  bool flag = false;
  static constexpr auto fields() {
    return std::tuple{field("s", &Leaf::small), field("n", &Leaf::number), field("f", &Leaf::flag)};
  }
};
struct Text {
  static constexpr uint16_t kKind = 2;
  std::string text;
  Bytes bytes;
  ByteArray<4> four{};
  static constexpr auto fields() {
    return std::tuple{field("t", &Text::text), field("b", &Text::bytes), field("4", &Text::four)};
  }
};
struct Tree {
  std::vector<Leaf> leaves;
  std::vector<std::optional<uint64_t>> numbers;
  std::variant<Leaf, Text> either;
  static constexpr auto fields() {
    return std::tuple{field("l", &Tree::leaves), field("n", &Tree::numbers), field("e", &Tree::either)};
  }
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes(data, size);
  if (Document::parse(bytes)) (void)msgpack_to_text(bytes);
  round_trip<Tree>(bytes);
  return 0;
}
