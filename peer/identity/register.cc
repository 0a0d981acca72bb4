// How an entry is taken: decoded, checked against the chain, its orderer, its signatures and the rules, and
// only then made to take effect. Whatever fails leaves the state as it was; the caller learns why.
#include "peer/identity/register.h"

#include <fmt/format.h>

#include "peer/identity/register_internal.h"

namespace efs {

namespace {
constexpr DecodeLimits kEntryLimits{.bytes = kMaxEntryBytes, .elements = 8192, .depth = kMaxDepth};

// Whether a proposal that did not decode is of a format that is newer than this program.
bool is_from_the_future(ByteView proposal) {
  auto document = Document::parse(proposal, kEntryLimits);
  if (!document) return false;
  uint64_t number = 0;
  auto format = document->root().at("f");
  return format && format->get(number) && number > 1;
}

Result<Proposal> read_proposal(ByteView body) {
  auto proposal = decode<Proposal>(body, kEntryLimits);
  if (proposal ? proposal->format != 1 : proposal.error().code == Code::version || is_from_the_future(body))
    return fail(Code::version,
                "the register has a change that this program does not know; install a newer efs");
  if (!proposal)
    return fail(proposal.error().code, "a proposal for the register cannot be read: it is damaged");
  return proposal;
}

struct Decoded {
  Envelope envelope;
  Envelope proposal;
  Entry entry;
};

Result<Decoded> decode_entry(ByteView bytes) {
  Decoded out;
  auto envelope = decode<Envelope>(bytes, kEntryLimits);
  if (!envelope) return fail(envelope.error().code, "an entry of the register cannot be read: it is damaged");
  auto body = decode<EntryBody>(envelope->body, kEntryLimits);
  if (!body) return fail(body.error().code, "an entry of the register cannot be read: it is damaged");
  if (body->format != 1)
    return fail(Code::version,
                fmt::format("entry {} of the register has format {}, which this program does not "
                            "know; install a newer efs",
                            body->index, body->format));
  EFS_ASSIGN(out.entry.proposal, read_proposal(body->proposal.body));
  out.entry.index = body->index;
  out.entry.hash = blake2b(bytes);
  out.entry.previous = body->previous;
  out.entry.stamp_ns = body->stamp_ns;
  out.entry.orderer = envelope->signer;
  out.entry.proposer = body->proposal.signer;
  out.envelope = std::move(*envelope);
  out.proposal = std::move(body->proposal);
  return out;
}

Status check_signatures(const Decoded& decoded, const Id& mesh) {
  if (!is_authentic(kEntryDomain, mesh, decoded.envelope))
    return fail(Code::unauthorized, fmt::format("entry {} of the register is forged: its signature is wrong",
                                                decoded.entry.index));
  if (!is_authentic(kProposalDomain, mesh, decoded.proposal))
    return fail(Code::unauthorized, fmt::format("the change in entry {} of the register is forged: its "
                                                "signature is wrong",
                                                decoded.entry.index));
  return {};
}
}  // namespace

Result<Entry> read_entry(ByteView bytes) {
  EFS_ASSIGN(auto decoded, decode_entry(bytes));
  return std::move(decoded.entry);
}

Status RegisterState::check_chain(const Entry& entry) const {
  if (entry.index != version())
    return fail(Code::conflict,
                fmt::format("entry {} of the register is not the next one, {}", entry.index, version()));
  if (entry.previous != head())
    return fail(Code::conflict,
                fmt::format("entry {} of the register continues another history", entry.index));
  if (entry.stamp_ns < 0 || entry.stamp_ns > kMaxStampNs)
    return fail(Code::protocol, fmt::format("entry {} of the register has an impossible stamp", entry.index));
  if (entry.stamp_ns < last_stamp_ns_)
    return fail(Code::conflict,
                fmt::format("entry {} of the register is stamped before the entry before it", entry.index));
  return {};
}

Status RegisterState::check_order(const Entry& entry) const {
  if (may_order(entry.orderer)) return {};
  // The root volume's owners are gone for good: a root key names new ones, who carry on.
  const auto* owners = std::get_if<SetVolumeOwners>(&entry.proposal.change);
  const PeerFacts* orderer = peer_by_key(entry.orderer);
  if (owners != nullptr && orderer != nullptr && root_volume() != nullptr &&
      owners->id == root_volume()->id && is_root_key(entry.proposer) && contains(owners->owners, orderer->id))
    return {};
  return fail(Code::unauthorized,
              fmt::format("entry {} of the register is signed by {}, which does not own the "
                          "root volume",
                          entry.index, who_is(entry.orderer)));
}

Status RegisterState::check_not_replayed(const Proposal& proposal) const {
  if (proposal.seen > version())
    return fail(Code::conflict, "the change was proposed on a register that is ahead of this one; try again");
  if (version() - proposal.seen > kProposalWindow)
    return fail(Code::conflict, "the change was proposed too many entries ago; make it again");
  if (recent_nonces_.contains(proposal.nonce))
    return fail(Code::exists, "this very change is in the register already");
  return {};
}

Result<Entry> RegisterState::examine(ByteView bytes, Source source) const {
  EFS_ASSIGN(auto decoded, decode_entry(bytes));
  const Entry& entry = decoded.entry;
  EFS_TRY(check_chain(entry));
  Id mesh = mesh_;
  if (const auto* founding = std::get_if<Founding>(&entry.proposal.change); founding && entry.index == 0)
    mesh = blake2b(founding->genesis.body);
  else if (entry.index == 0)
    return fail(Code::protocol, "a register begins with the founding of a mesh");
  else
    EFS_TRY(check_order(entry));
  if (entry.proposal.mesh != mesh)
    return fail(Code::unauthorized, fmt::format("the change is for another mesh ({}), not for this one ({})",
                                                short_hex(entry.proposal.mesh), short_hex(mesh)));
  EFS_TRY(check_not_replayed(entry.proposal));
  if (source == Source::received) EFS_TRY(check_signatures(decoded, mesh));
  EFS_TRY(std::visit(Rules{*this, entry, source}, entry.proposal.change));
  return std::move(decoded.entry);
}

Status RegisterState::check(ByteView entry) const {
  EFS_TRY(examine(entry, Source::received));
  return {};
}

Status RegisterState::apply(ByteView bytes, Source source) {
  EFS_ASSIGN(const Entry entry, examine(bytes, source));
  std::visit(Effects{*this, entry}, entry.proposal.change);
  remember(entry);
  return {};
}

void RegisterState::remember(const Entry& entry) {
  hashes_.push_back(entry.hash);
  last_stamp_ns_ = entry.stamp_ns;
  recent_.emplace_back(entry.index, entry.proposal.nonce);
  recent_nonces_.insert(entry.proposal.nonce);
  // A proposal seen at s is taken up to index s + window; so is no nonce from before that.
  while (recent_.front().first + kProposalWindow < entry.index) {
    recent_nonces_.erase(recent_.front().second);
    recent_.pop_front();
  }
}

// ---- building ----

Bytes make_proposal(const Id& mesh, uint64_t seen, Change change, const KeyPair& proposer, Random& random) {
  Proposal proposal;
  proposal.mesh = mesh;
  proposal.seen = seen;
  random.fill(proposal.nonce);
  proposal.change = std::move(change);
  return encode(seal(kProposalDomain, mesh, encode(proposal), proposer));
}

namespace {
Bytes order(const Id& mesh, uint64_t index, const Id& previous, int64_t stamp_ns, Envelope proposal,
            const KeyPair& owner) {
  EntryBody body;
  body.index = index;
  body.previous = previous;
  body.stamp_ns = stamp_ns;
  body.proposal = std::move(proposal);
  return encode(seal(kEntryDomain, mesh, encode(body), owner));
}
}  // namespace

Result<Bytes> make_entry(const RegisterState& state, ByteView proposal, const KeyPair& owner,
                         int64_t owner_wall_ns) {
  if (proposal.size() > kMaxProposalBytes)
    return fail(Code::too_large, "a change for the register is too large");
  auto envelope = decode<Envelope>(proposal, kEntryLimits);
  if (!envelope)
    return fail(envelope.error().code, "a change for the register cannot be read: it is damaged");
  Bytes entry = order(state.mesh(), state.version(), state.head(),
                      std::max(owner_wall_ns, state.last_stamp_ns()), std::move(*envelope), owner);
  EFS_TRY(state.check(entry));
  return entry;
}

Result<Bytes> make_own_entry(const RegisterState& state, Change change, const KeyPair& owner,
                             int64_t owner_wall_ns, Random& random) {
  return make_entry(state, make_proposal(state.mesh(), state.version(), std::move(change), owner, random),
                    owner, owner_wall_ns);
}

Result<Bytes> make_admission(const RegisterState& state, const SignedJoin& join, const KeyPair& owner,
                             int64_t owner_wall_ns, Random& random) {
  EFS_TRY(state.may_admit(join, std::max(owner_wall_ns, state.last_stamp_ns())));
  EFS_ASSIGN(auto checked, read_join(join, state.mesh()));
  return make_own_entry(state, AdmitPeer{join, state.free_peer_name(checked.request.name)}, owner,
                        owner_wall_ns, random);
}

Result<Bytes> make_founding(const SignedGenesis& genesis, const KeyPair& root, const KeyPair& founder,
                            std::string founder_name, const Id& root_volume, int64_t wall_ns,
                            Random& random) {
  const Id mesh = blake2b(genesis.body);
  Founding founding{genesis, founder.public_key(), std::move(founder_name), root_volume};
  auto proposal = decode<Envelope>(make_proposal(mesh, 0, std::move(founding), root, random), kEntryLimits);
  if (!proposal) return fail(std::move(proposal.error()));
  Bytes entry = order(mesh, 0, Id{}, wall_ns, std::move(*proposal), founder);
  EFS_TRY(RegisterState{}.check(entry));
  return entry;
}

}  // namespace efs
