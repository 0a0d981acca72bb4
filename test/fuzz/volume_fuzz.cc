// What a volume's owner is asked and answers, what its log holds, and the rows that it reads from its disk.
#include "peer/volume/request.h"
#include "peer/volume/state/operation.h"
#include "test/fuzz/fuzz.h"

namespace {
using namespace efs;

// What was read is written as it was.
template <typename Row>
void row_round_trip(std::string_view bytes) {
  auto row = Row::decode(bytes);
  if (row && !Row::decode(row->encode())) std::abort();
}

struct Packed {  // an EntryList of these bytes
  Bytes bytes;
  static constexpr auto fields() { return std::tuple{field("p", &Packed::bytes)}; }
};
void walk(ByteView bytes) {
  const auto list = decode<EntryList>(encode(Packed{to_bytes(bytes)}));
  if (!list) return;
  EntryList again;
  for (const DirectoryEntry entry : *list) again.add(entry);
  if (again.size() != list->size()) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes(data, size);
  round_trip<Request>(bytes);
  round_trip<Reply>(bytes);
  walk(bytes);
  round_trip<VolumeCharter>(bytes);
  round_trip<SessionRow>(bytes);
  round_trip<OvertakenRow>(bytes);
  round_trip<RunsRow>(bytes);
  if (auto operation = decode_operation(bytes)) {
    auto again = decode_operation(encode_operation(*operation));
    if (!again || !(*again == *operation)) std::abort();
  }
  row_round_trip<InodeRow>(text(bytes));
  row_round_trip<EntryRow>(text(bytes));
  row_round_trip<ChunkRow>(text(bytes));
  row_round_trip<StateRow>(text(bytes));
  const size_t key = std::min<size_t>(size, 16);
  (void)ExtentRow::decode(text(bytes.first(key)), text(bytes.subspan(key))).has_value();
  return 0;
}
