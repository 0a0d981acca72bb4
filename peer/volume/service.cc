#include "peer/volume/service.h"

#include "peer/volume/session_trust.h"

namespace efs {

namespace {
// What runs on the pool; the responder stays on the loop.
struct Work {
  std::shared_ptr<SoleReplica> replica;
  Request request;
  Payload payload;
  VolumeAnswer answer;
};

SessionId session_of(const PeerId& caller, const SessionId& named) {
  SessionId out;
  Bytes both = to_bytes(caller);
  append(both, named);
  const Id hash = blake2b(both);
  std::copy_n(hash.begin(), out.size(), out.begin());
  out[0] |= 1;  // never one of this process's own
  return out;
}
// A mount's accounts and the volume's figures: no user asks for them.
bool of_the_session(const RequestBody& body) {
  return std::holds_alternative<Hello>(body) || std::holds_alternative<Goodbye>(body) ||
         std::holds_alternative<Close>(body) || std::holds_alternative<Usage>(body) ||
         std::holds_alternative<Sync>(body);
}
void answer(const Responder& responder, VolumeAnswer&& result) {
  result.reply.payload_crc = crc32c(result.payload);
  responder.answer(encode(result.reply), std::move(result.payload));
}
}  // namespace

VolumeService::VolumeService(Loop& loop, Rpc& rpc, VolumeSet& volumes, VolumeAccess access)
    : rpc_(rpc), volumes_(volumes), jobs_(loop), access_(std::move(access)) {
  rpc_.handle(kVolumeCall, Access::admitted,
              [this](const Caller& caller, Bytes body, Bytes payload, Responder responder) {
                serve(caller, body, std::move(payload), std::move(responder));
              });
}
VolumeService::~VolumeService() {
  close({});
}
void VolumeService::close(Task closed) {
  rpc_.handle(kVolumeCall, Access::admitted, [](const Caller&, Bytes, Bytes, Responder responder) {
    responder.fail({Code::not_owner, "this peer serves no volumes now"});
  });
  if (closed) jobs_.when_idle(std::move(closed));
}

Reply VolumeService::refuse(const Caller& caller, const Request& request) const {
  if (request.who.groups.size() > kMaxGroups) return error_reply(Code::invalid_argument);
  const bool administers = std::holds_alternative<MakeJunction>(request.body) ||
                           std::holds_alternative<RemoveJunction>(request.body) ||
                           std::holds_alternative<AppendRegister>(request.body);
  if (administers) {  // the peer's own right, whatever uids it may speak for
    if (!access_.may_administer || !access_.may_administer(caller.id, request))
      return error_reply(Code::unauthorized,
                         "peer " + short_hex(caller.id) + " has no right to operate here");
  } else if (!of_the_session(request.body) &&
             (!access_.may_act || !access_.may_act(caller.id, request.who.uid))) {
    return error_reply(Code::unauthorized, "peer " + short_hex(caller.id) + " may not act for uid " +
                                               std::to_string(request.who.uid));
  }
  if (changes(request.body) && request.sequence == 0) return error_reply(Code::protocol);
  return {};
}

void VolumeService::serve(const Caller& caller, const Bytes& body, Bytes payload, Responder responder) {
  auto request = decode<Request>(body);
  if (!request) return responder.fail(std::move(request.error()));
  if (Reply refused = refuse(caller, *request); refused.code != Code::ok)
    return answer(responder, {std::move(refused), {}});
  auto replica = volumes_.find(request->volume);
  if (!replica) return answer(responder, {error_reply(Code::not_owner), {}});
  request->session = session_of(caller.id, request->session);
  const bool limited = !access_.may_act || !access_.may_act(caller.id, 0);
  set_limited(request->session, limited);
  if (auto* set = std::get_if<SetAttributes>(&request->body); set != nullptr && limited)
    set->has_write_handle = false;
  if (replica->executes_inline(request->body)) {
    replica->execute(*request, std::move(payload),
                     [&](VolumeAnswer result) { answer(responder, std::move(result)); });
    return;
  }
  auto work = std::make_shared<Work>(Work{std::move(replica), std::move(*request), std::move(payload), {}});
  jobs_.run(
      [work] {
        work->replica->execute(work->request, std::move(work->payload),
                               [&](VolumeAnswer result) { work->answer = std::move(result); });
      },
      [work, responder] { answer(responder, std::move(work->answer)); });
}

}  // namespace efs
