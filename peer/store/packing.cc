#include "peer/store/packing.h"

#include <algorithm>

namespace efs {
namespace {

constexpr uint32_t kSampleBytes = 1024;
constexpr uint32_t kSamples = 4;
constexpr size_t kWorthASample = kPieceBytes;

// The most that bytes may take as stored, to be worth expanding at each read.
constexpr size_t worthwhile(size_t length) {
  return length - length / 8;
}

// Small samples compress worse than pieces do, so little is asked of them: one part in 32.
bool sample_shrinks(Compression wanted, ByteView content) {
  ByteArray<kSampleBytes> out;
  size_t stored = 0;
  for (uint32_t i = 0; i < kSamples; ++i) {
    const size_t at = (content.size() - kSampleBytes) / (kSamples - 1) * i;
    const size_t length = compress(wanted, content.subspan(at, kSampleBytes), out);
    stored += length == 0 ? kSampleBytes : length;
  }
  return stored <= kSamples * kSampleBytes / 32 * 31;
}

}  // namespace

PackedBytes pack(Compression wanted, ByteView content) {
  if (wanted == Compression::none || content.size() <= kLargestUnpacked) return {};
  if (content.size() >= kWorthASample && !sample_shrinks(wanted, content)) return {};
  const size_t most = worthwhile(content.size());
  PackedBytes packed;
  packed.form = wanted;
  packed.bytes.reserve(content.size() / 2);
  ByteArray<kPieceBytes> out;
  for (uint32_t piece = 0; piece < pieces_of(uint32_t(content.size())); ++piece) {
    const ByteView from =
        content.subspan(size_t(piece) * kPieceBytes, piece_length(uint32_t(content.size()), piece));
    const size_t length = compress(wanted, from, std::span(out).first(worthwhile(from.size())));
    const ByteView stored = length == 0 ? from : ByteView(out).first(length);
    if (packed.bytes.size() + stored.size() > most) return {};
    append(packed.bytes, stored);
    packed.lengths.push_back(uint32_t(stored.size()));
  }
  return packed;
}

Status unpack_piece(Compression form, ByteView stored, std::span<uint8_t> content) {
  if (stored.size() == content.size()) {
    std::copy(stored.begin(), stored.end(), content.begin());
    return {};
  }
  if (stored.size() > content.size() || !expand(form, stored, content)) return fail(Code::corrupt);
  return {};
}

}  // namespace efs
