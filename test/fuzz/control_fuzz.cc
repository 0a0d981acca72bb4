// What programs say to the peer of their machine, and peers to each other about belonging.
#include "peer/control/protocol.h"
#include "peer/membership/messages.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace efs;
  const ByteView bytes(data, size);
  round_trip<control::Hello>(bytes);
  round_trip<control::Welcome>(bytes);
  round_trip<control::Command>(bytes);
  round_trip<control::CommandResult>(bytes);
  round_trip<control::ResolvePath>(bytes);
  round_trip<control::Resolved>(bytes);
  round_trip<control::ReadRegister>(bytes);
  round_trip<control::RegisterEntries>(bytes);
  round_trip<control::Propose>(bytes);
  round_trip<control::Proposed>(bytes);
  round_trip<Joined>(bytes);
  round_trip<JoinMessage>(bytes);
  round_trip<RegisterQuery>(bytes);
  round_trip<RegisterPart>(bytes);
  round_trip<ProposalMessage>(bytes);
  round_trip<Ordered>(bytes);
  round_trip<PeerStatus>(bytes);
  round_trip<DropVolume>(bytes);
  (void)decode_error(bytes);
  return 0;
}
