// A log file that the disk changed: opening the log replays what is whole, or refuses; an opened log works.
#include "peer/base/hash.h"
#include "peer/runtime/simulated.h"
#include "peer/store/log.h"
#include "peer/store/log_format.h"
#include "test/fuzz/fuzz.h"

namespace {
using namespace efs;

constexpr LogOptions kOptions{.file_bytes = 16 << 10, .spare_files = 1};
struct Image {
  std::string path;
  Bytes file;
};

Result<std::unique_ptr<Log>> open_log(SimulatedDisk& disk) {
  return Log::open(disk.files(), "/log", kOptions, [](const Log::Record& record) -> Status {
    if (record.payload.size() > log_format::kMaxPayload) std::abort();
    return {};
  });
}

Image healthy_image() {
  auto disk = make_simulated_disk(1);
  auto log = open_log(*disk);
  for (uint64_t i = 1; log && i < 12; ++i) {
    (void)(*log)->append(Log::Record{uint32_t(i % 2), 1, i, Bytes(i * 9, uint8_t(i))}).has_value();
    (void)(*log)->sync().has_value();
  }
  log->reset();
  const auto names = disk->files().list("/log");
  for (const std::string& name : *names) {
    auto bytes = disk->files().read_file("/log/" + name);
    if (bytes && bytes->size() >= kOptions.file_bytes) return {"/log/" + name, *bytes};
  }
  std::abort();
}

// Checksums that fit, so that what lies behind them is reached.
void reseal(Bytes& file) {
  using namespace log_format;
  for (size_t at = kFirstRecord; at + kHeaderBytes <= file.size(); at += 8) {
    const uint64_t length = get_le<uint32_t>(&file[at + 4]);
    if (file[at] != kRecordFormat || length > file.size() - at - kHeaderBytes) continue;
    put_le(&file[at + 8], uint32_t(0));
    const ByteView record = ByteView(file).subspan(at, kHeaderBytes + length);
    put_le(&file[at + 8], crc32c(record.subspan(kHeaderBytes), crc32c(record.first(kHeaderBytes))));
    at += record_bytes(length) - 8;
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Image healthy = healthy_image();
  if (size == 0) return 0;
  Bytes file = healthy.file;
  patch(file, ByteView(data, size).subspan(1));
  if (data[0] % 2 == 0) reseal(file);
  auto disk = make_simulated_disk(1);
  if (!disk->files().make_directories("/log", 0700) || !disk->files().replace_file(healthy.path, file))
    std::abort();
  if (auto log = open_log(*disk)) {
    if ((*log)->append(Log::Record{1, 2, 100, file})) (void)(*log)->sync().has_value();
  }
  return 0;
}
