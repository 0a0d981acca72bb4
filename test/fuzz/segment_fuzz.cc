// A segment file that the disk changed, with the index lost: opening the store finds what is whole.
#include "peer/runtime/simulated.h"
#include "peer/store/chunk_store.h"
#include "test/fuzz/fuzz.h"

namespace {
using namespace efs;

constexpr size_t kRecord = 128, kFirst = 4096;  // docs/on-disk-format.md
const std::vector<StoreLocation> kStores{{"/chunks", 1 << 30}};

class Quiet final : public Logger {
 public:
  void write(LogLevel, std::string_view) override {}
  bool enabled(LogLevel) const override { return false; }
};

Result<std::unique_ptr<ChunkStore>> open_store(SimulatedDisk& disk, bool create) {
  static Quiet log;
  return ChunkStore::open(disk.files(), make_memory_environment(chunk_index_options()), kStores, create, log,
                          {{}, 1 << 20});
}

struct Image {
  std::vector<std::pair<std::string, Bytes>> files;
  size_t segment = 0;  // the largest
};
Image healthy_image() {
  auto disk = make_simulated_disk(1);
  {
    auto store = open_store(*disk, true);
    for (uint8_t i = 1; i < 7; ++i) {  // of every form, some in several pieces
      Bytes bytes;
      while (bytes.size() < size_t(i) * 9000)
        append(bytes, view("number " + std::to_string(bytes.size() * i)));
      const Id sum = sha256(bytes);
      const PackedBytes packed = pack(Compression(i % 3), bytes);
      if (!(*store)->put({7, blake2b(sum)}, sum, {bytes, packed}, Durability::by_sync)) std::abort();
    }
    if (!(*store)->sync()) std::abort();
  }
  Image image;
  for (const std::string directory : {"/chunks/", "/chunks/segments/"}) {
    const auto names = disk->files().list(directory);
    for (const std::string& name : *names) {
      auto bytes = disk->files().read_file(directory + name);
      if (bytes) image.files.emplace_back(directory + name, *bytes);
    }
  }
  for (size_t i = 0; i < image.files.size(); ++i)
    if (image.files[i].second.size() > image.files[image.segment].second.size()) image.segment = i;
  return image;
}

// Checksums of headers that fit, so that what lies behind them is reached.
void reseal(Bytes& file) {
  for (size_t at = kFirst; at + kRecord <= file.size(); at += kRecord) {
    if (text(ByteView(file).subspan(at, 4)) != "EFSC") continue;
    put_le(&file[at + 8], uint32_t(0));
    put_le(&file[at + 8], crc32c(ByteView(file).subspan(at, kRecord)));
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Image healthy = healthy_image();
  if (size == 0) return 0;
  Image image = healthy;
  Bytes& segment = image.files[image.segment].second;
  patch(segment, ByteView(data, size).subspan(1));
  if (data[0] % 2 == 0) reseal(segment);
  auto disk = make_simulated_disk(1);
  if (!disk->files().make_directories("/chunks/segments", 0700)) std::abort();
  for (const auto& [path, bytes] : image.files)
    if (!disk->files().replace_file(path, bytes)) std::abort();
  auto store = open_store(*disk, false);
  if (!store) return 0;
  for (const ChunkKey& key : (*store)->list(7, {}, 100)) {
    Bytes bytes((*store)->length(key).value_or(0));
    (void)(*store)->read(key, 0, bytes).has_value();
  }
  (void)(*store)->check(true);
  (void)(*store)->collect().has_value();
  return 0;
}
