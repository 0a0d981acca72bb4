#include "peer/base/compression.h"

#include <lz4.h>
#include <zstd.h>

#include <memory>

namespace efs {
namespace {

constexpr int kZstdLevel = 3;  // docs/decisions/0007-compression.md

struct FreeZstd {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

size_t compress_zstd(ByteView bytes, std::span<uint8_t> out) {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeZstd> context(ZSTD_createCCtx());
  if (!context) return 0;
  const size_t length =
      ZSTD_compressCCtx(context.get(), out.data(), out.size(), bytes.data(), bytes.size(), kZstdLevel);
  return ZSTD_isError(length) ? 0 : length;
}

bool expand_zstd(ByteView bytes, std::span<uint8_t> out) {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeZstd> context(ZSTD_createDCtx());
  if (!context) return false;
  return ZSTD_decompressDCtx(context.get(), out.data(), out.size(), bytes.data(), bytes.size()) == out.size();
}

}  // namespace

std::string_view name_of(Compression compression) {
  switch (compression) {
    case Compression::none:
      return "none";
    case Compression::lz4:
      return "lz4";
    case Compression::zstd:
      return "zstd";
  }
  return {};
}

std::optional<Compression> compression_named(std::string_view name) {
  for (const Compression one : {Compression::none, Compression::lz4, Compression::zstd})
    if (name == name_of(one)) return one;
  return std::nullopt;
}

size_t compress(Compression compression, ByteView bytes, std::span<uint8_t> out) {
  if (bytes.empty() || out.empty()) return 0;
  if (compression == Compression::zstd) return compress_zstd(bytes, out);
  if (compression != Compression::lz4) return 0;
  const int length =
      LZ4_compress_default(reinterpret_cast<const char*>(bytes.data()), reinterpret_cast<char*>(out.data()),
                           int(bytes.size()), int(out.size()));
  return length > 0 ? size_t(length) : 0;
}

bool expand(Compression compression, ByteView bytes, std::span<uint8_t> out) {
  if (bytes.empty() || out.empty()) return false;
  if (compression == Compression::zstd) return expand_zstd(bytes, out);
  if (compression != Compression::lz4) return false;
  return LZ4_decompress_safe(reinterpret_cast<const char*>(bytes.data()), reinterpret_cast<char*>(out.data()),
                             int(bytes.size()), int(out.size())) == int(out.size());
}

}  // namespace efs
