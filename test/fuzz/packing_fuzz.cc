// Any bytes as a packed piece: nothing is written beyond it. Any content: what is packed comes out again.
#include "peer/store/packing.h"
#include "test/fuzz/fuzz.h"

namespace {
using namespace efs;

void unpack_anything(Compression form, size_t length, ByteView stored) {
  constexpr uint8_t kGuard = 0xa5;
  Bytes out(length + 64, kGuard);
  (void)unpack_piece(form, stored, std::span(out).first(length)).has_value();
  for (size_t at = length; at < out.size(); ++at)
    if (out[at] != kGuard) std::abort();
}

void round_trip_of(Compression form, ByteView content) {
  const PackedBytes packed = pack(form, content);
  if (packed.form == Compression::none) return;
  ByteView left = packed.bytes;
  for (uint32_t piece = 0; piece < packed.lengths.size(); ++piece) {
    Bytes out(piece_length(uint32_t(content.size()), piece));
    if (!unpack_piece(form, left.first(packed.lengths[piece]), out)) std::abort();
    const ByteView wanted = content.subspan(size_t(piece) * kPieceBytes, out.size());
    if (!std::equal(out.begin(), out.end(), wanted.begin())) std::abort();
    left = left.subspan(packed.lengths[piece]);
  }
  if (!left.empty()) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const auto form = Compression(1 + data[0] % 2);
  const ByteView rest(data + 3, size - 3);
  unpack_anything(form, 1 + get_le<uint16_t>(data + 1) % kPieceBytes, rest);
  Bytes content;  // the same bytes again and again: inputs are short
  while (content.size() < 3 * kPieceBytes / 2) append(content, rest);
  round_trip_of(form, content);
  return 0;
}
