// A settings file, as a person wrote it; what `run` needs later is written and read as it was.
#include "peer/options.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  efs::PeerOptions options;
  const std::string yaml(reinterpret_cast<const char*>(data), size);
  if (!efs::read_options(yaml, "fuzz.yaml", options) || !efs::complete_options(options)) return 0;
  efs::PeerOptions again;
  if (!efs::read_options(efs::write_options(options), "fuzz.yaml", again)) std::abort();
  if (again.name != options.name || again.mount != options.mount) std::abort();
  return 0;
}
