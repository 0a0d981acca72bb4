// Every way by which bytes from outside enter identity: what the fuzz target and the unit test call.
#pragma once

#include "peer/identity/key_file.h"
#include "peer/identity/prefix.h"
#include "peer/identity/record.h"
#include "test/fuzz/fuzz.h"

namespace efs {

inline void enter_identity_decoders(ByteView bytes, const RegisterState& state) {
  round_trip<Envelope>(bytes);
  round_trip<Proposal>(bytes);
  round_trip<EntryBody>(bytes);
  round_trip<LocatorRecord>(bytes);
  round_trip<JoinRequest>(bytes);
  if (auto entry = read_entry(bytes)) (void)describe(entry->proposal.change);
  (void)state.check(bytes).has_value();
  (void)read_record(bytes).has_value();
  if (auto record = read_record(bytes))
    (void)check_record(key_of(record->body), bytes, state, record->made_ns).has_value();
  (void)read_certificate(bytes).has_value();
  if (auto join = decode<SignedJoin>(bytes)) (void)state.may_admit(*join, state.last_stamp_ns()).has_value();
  if (auto genesis = decode<SignedGenesis>(bytes)) {
    (void)check_first_genesis(*genesis).has_value();
    (void)check_next_genesis(state.genesis(), *genesis).has_value();
  }
  (void)parse_seed(text(bytes)).has_value();
  (void)parse_invite(text(bytes)).has_value();
  (void)parse_key(bytes, {}).has_value();
  (void)to_prefix(text(bytes)).has_value();
  (void)parse_uid_range(text(bytes)).has_value();
}

}  // namespace efs
