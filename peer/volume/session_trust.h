// What the owner believes of a session.
//
// A mount asks once whether a file may be opened, and may then use it whatever the mode says later; who holds
// what open is the mount's word. A server that may act for root could do all of it anyway; one whose
// admission limits its uids is not believed: each of its requests is checked against the mode, but for those
// of the file's own user, who could change that (as NFS has it: files are made with mode 0444 and then
// written). Such sessions are told apart by a bit of the id that the owner draws from peer and name
// (VolumeService). Values: any thread.
#pragma once

#include "peer/volume/types.h"

namespace efs {

inline void set_limited(SessionId& session, bool limited) {
  session[0] = uint8_t((session[0] & ~2) | (limited ? 2 : 0));
}
inline bool is_limited(const SessionId& session) {
  return (session[0] & 2) != 0;  // the owner's own sessions begin with zeros
}

}  // namespace efs
