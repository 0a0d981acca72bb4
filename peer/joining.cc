#include "peer/joining.h"

namespace efs {

namespace {
constexpr int64_t kJoinTimeout = 40 * kSecond;
constexpr int64_t kReadTimeout = 15 * kSecond;
}  // namespace

JoinTask::JoinTask(Runtime& runtime, RegisterStore& store, const JoinPlan& plan,
                   std::function<void(Result<Outcome>)> done)
    : runtime_(runtime), store_(store), plan_(plan), done_(std::move(done)), timer_(runtime.loop) {}

void JoinTask::start() {
  RpcOptions options;
  options.version = EFS_VERSION;
  rpc_ = std::make_unique<Rpc>(
      runtime_, *plan_.key, plan_.invite->mesh, plan_.invite->mesh_secret.reveal(),
      [](const PeerId&, const PublicKey&) { return Admission::unknown; }, options);
  for (const Address& address : plan_.listen) {
    if (Status listening = rpc_->listen(address); !listening) return finish(fail(listening.error()));
  }
  timer_.start(kJoinTimeout + kReadTimeout,
               [this] { finish(fail(Code::timed_out, "the mesh did not answer in time; try again")); });
  rpc_->dial(plan_.seed, [this](Result<PeerId> peer) { dialled(std::move(peer)); });
}

void JoinTask::dialled(Result<PeerId> peer) {
  if (!peer) {
    Error error = peer.error();
    if (error.code == Code::unauthorized) {
      error.message +=
          ": the invite is of another mesh, or the mesh's secret was replaced since; make a new one there "
          "with 'efs-keys invite'";
    } else if (error.code == Code::unreachable || error.code == Code::timed_out) {
      error.message += fmt::format("; is efs-peer running there, and can this machine reach it at {} (TCP)?",
                                   plan_.seed.to_text());
    }
    return finish(fail(error));
  }
  seed_ = *peer;
  std::vector<std::string> addresses;
  for (const Address& address : plan_.advertise) addresses.push_back(address.to_text());
  const auto listening = rpc_->listening();
  JoinMessage message{
      make_join(*plan_.invite, plan_.name, std::move(addresses), runtime_.loop.clock().wall_ns(), *plan_.key),
      listening.empty() ? uint16_t(0) : listening.front().port, false};
  rpc_->call(seed_, kJoin, encode(message), {}, {kJoinTimeout, Priority::normal},
             [this](Result<Answer> answer) { joined(std::move(answer)); });
}

void JoinTask::joined(Result<Answer> answer) {
  if (!answer) return finish(fail(answer.error()));
  auto joined = decode<Joined>(answer->body);
  if (!joined) return finish(fail(joined.error()));
  admitted_at_ = joined->index;
  outcome_ = {joined->name, joined->reached_at};
  read_register();
}

void JoinTask::read_register() {
  if (store_.state().version() > admitted_at_) return conclude();  // at once, when an earlier try read it
  rpc_->call(seed_, kReadRegister, encode(RegisterQuery{store_.state().version()}), {},
             {kReadTimeout, Priority::normal}, [this](Result<Answer> answer) {
               if (!answer) return finish(fail(answer.error()));
               auto read = decode<RegisterPart>(answer->body);
               if (!read) return finish(fail(read.error()));
               if (Status taken = part(*read); !taken) return finish(fail(taken.error()));
               read_register();
             });
}

void JoinTask::conclude() {
  const PeerFacts* self = store_.state().peer_by_key(plan_.key->public_key());
  if (self == nullptr) return finish(fail(Code::unauthorized, "the register does not admit this peer"));
  (void)store_.remember_addresses(seed_, {plan_.seed.to_text()});
  // First among the addresses of this machine, when it is one of them.
  if (!outcome_.reached_at.empty()) (void)store_.remember_addresses(self->id, {outcome_.reached_at});
  finish(outcome_);
}

Status JoinTask::part(const RegisterPart& part) {
  if (part.from != store_.state().version() || part.entries.empty()) {
    return fail(Code::protocol, "the seed's register ends before this peer's admission");
  }
  if (part.from == 0) {  // what everything rests on: this must be the mesh that the invite names
    RegisterState first;
    EFS_TRY(first.apply(part.entries.front()));
    if (first.mesh() != plan_.invite->mesh)
      return fail(Code::unauthorized, "the seed's register is another mesh's");
  }
  return store_.append(part.entries);
}

void JoinTask::finish(Result<Outcome> outcome) {
  if (!done_) return;
  timer_.stop();
  runtime_.loop.post([this, done = std::exchange(done_, nullptr), outcome = std::move(outcome)]() mutable {
    rpc_.reset();
    done(std::move(outcome));
  });
}

}  // namespace efs
